"""What ingest knows of Kafka besides its own writes: which logs exist, how durable they are, and whether it answers now.

The client's calls block, for seconds when Kafka is gone. They run in daemon threads, one at a time of each kind, so that neither
the event loop nor the end of the process ever waits for them.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from hooktape import log
from hooktape.errors import TapeError, TopicMissing
from hooktape.ingest.routes import Routes
from hooktape.settings import Settings
from hooktape.tape import clients, topics
from hooktape.tape.names import Kind, Names
from hooktape.tape.publisher import Publisher

# A new topic is used this soon after `topics apply`; one look costs the broker about what a consumer's start does.
REFRESH_SECONDS = 10.0
# How old an answer of /readyz may be, and how long it waits for a new one: load balancers give up after about a second.
FRESH_SECONDS = 1.0
_ASK_SECONDS = 5.0
T = TypeVar("T")
_log = log.get("hooktape.ingest")


class Readiness(msgspec.Struct, frozen=True):
    """The answer of /readyz: `problems` make it not ready; `warnings` are for people."""

    ready: bool
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def weaknesses(found: dict[str, topics.Found]) -> tuple[str, ...]:
    """What the guarantee "a 2xx survives a broker's loss" lacks, from the logs as the broker has them; pure."""
    weak: dict[str, list[str]] = {}
    for name, topic in sorted(found.items()):
        least = int(topic.config.get("min.insync.replicas", "1"))
        if topic.replicas < 2:
            weak.setdefault("one replica: the loss of its broker loses events", []).append(name)
        elif least < 2:
            weak.setdefault("min.insync.replicas 1: one replica's word is enough for a 200", []).append(name)
        elif least >= topic.replicas:
            why = f"min.insync.replicas {least} of {topic.replicas} replicas: one broker's loss stops it"
            weak.setdefault(why, []).append(name)
    return tuple(f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {why}" for why, names in weak.items())


class Watch:
    """Looks at Kafka for one process: `load` once before serving, `run` beside it, `readiness` whenever asked."""

    def __init__(self, settings: Settings, routes: Routes, publisher: Publisher) -> None:
        self._settings = settings
        self._names = Names(settings.topic_prefix)
        self._routes = routes
        self._publisher = publisher
        self._client: AdminClient | None = clients.admin(settings)
        self._weak: tuple[str, ...] = ()
        self._asked: asyncio.Future[str] | None = None
        self._answer = ""
        self._answered = float("-inf")

    async def load(self) -> None:
        """Learns the logs and warms the publisher up. Raises TopicMissing when one that's asked for isn't there, TapeUnavailable."""
        await self._refresh(topics.wanted(self._settings))

    async def run(self) -> None:
        """Keeps the routes fresh, until cancelled. While Kafka is away it keeps what it knew."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self._refresh(())
            except TapeError as error:
                _log.warning("the logs can't be looked at; the known ones stay in use", error=str(error))

    async def _refresh(self, needed: "dict[str, dict[str, str]] | tuple[()]") -> None:
        found = await in_thread(lambda: topics.look(self._settings))
        if missing := sorted(set(needed) - set(found)):
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise TopicMissing(f"Kafka has no topic {shown}. Run `hooktape topics apply`.")
        logs = {name: topic for name, topic in found.items() if (parsed := self._names.parse(name)) and parsed.kind is Kind.LOG}
        weak = weaknesses(logs)
        if weak != self._weak:
            self._weak = weak
            for text in weak:
                _log.warning("the tape isn't as durable as it can be", topic=text)
        new = self._routes.update(logs)
        await self._publisher.warm_up([*new, self._names.other] if needed else new, _ASK_SECONDS)

    def close(self) -> None:
        """Gives the client up now, and not whenever the garbage collector finds it: it would go on looking for the brokers."""
        self._client = None

    async def readiness(self, failing: bool, stopping: bool) -> Readiness:
        """Whether webhooks can be recorded now, at most a second old; asks the broker, and waits a second at most."""
        problems = []
        if stopping:
            problems.append("this process is stopping")
        if failing:
            problems.append("Kafka didn't acknowledge the last events: the breaker is open")
        if time.monotonic() - self._answered > FRESH_SECONDS:
            if self._asked is None or self._asked.done():
                self._asked = in_thread(self._ask)
            done, _ = await asyncio.wait([self._asked], timeout=FRESH_SECONDS)
            if done:
                self._answer, self._answered = self._asked.result(), time.monotonic()
            else:
                self._answer = f"Kafka at {self._settings.kafka} hasn't answered for {FRESH_SECONDS:g} s"
        if self._answer:
            problems.append(self._answer)
        return Readiness(not problems, tuple(problems), self._weak)

    def _ask(self) -> str:
        client = self._client
        if client is None:
            return "this process is stopping"
        try:
            found = client.list_topics(self._names.other, timeout=_ASK_SECONDS).topics[self._names.other]
        except KafkaException as error:
            # It may have lost every broker for good (`clients.Solitude`): the next question has another, unless there's none any more.
            if self._client is client:
                self._client = clients.admin(self._settings)
            return f"Kafka at {self._settings.kafka} doesn't answer: {error.args[0].str()}"
        return f"{self._names.other}: {found.error.str()}" if found.error else ""


def in_thread(question: Callable[[], T]) -> asyncio.Future[T]:
    """Runs a blocking call in a daemon thread. Unlike the loop's executor, it's never waited for when the process ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = question()
        except Exception as caught:  # noqa: BLE001  (handed to whoever waits)
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="hooktape-ask", daemon=True).start()
    return future
