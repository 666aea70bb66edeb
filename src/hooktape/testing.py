"""Try handlers in your own tests: events in, outcomes out; no Kafka, no database, and a clock that you move.

    from hooktape.testing import TestApp, event

    def test_an_outage_is_survived(warehouse):
        test = TestApp(app)
        warehouse.down = True
        [outcome] = test.play(event("orders/create", {"id": 1, "total_price": "9.00"}))
        assert outcome.state == "waiting"
        warehouse.down = False
        [outcome] = test.advance("30s")
        assert outcome.state == "succeeded" and outcome.attempts == 2

The order of events, duplicates, stale versions, the classes of errors and the delays of retries are decided by the same code as in
a worker.
"""

import asyncio
import heapq
import inspect
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import msgspec

from hooktape import log
from hooktape.consumers.app import App, Handler
from hooktape.consumers.classify import Cause, Disposition, HandlerTimeout, classify
from hooktape.consumers.holds import Holds, lane16
from hooktape.consumers.lanes import Lanes
from hooktape.consumers.schedule import Again, Dead, Later, Schedule
from hooktape.consumers.task import Home, Rank, Task
from hooktape.consumers.transactions import OVER, Try
from hooktape.consumers.transactions import Verdict as Said
from hooktape.errors import UsageError
from hooktape.ledger.checks import IN_RETRY, Check, Row, State, Verdict, decide
from hooktape.schemas import resources, samples, signature
from hooktape.schemas.event import Coordinates, Event, EventKey, Replay
from hooktape.settings import Settings
from hooktape.times import micros, parse_duration, parse_time

__all__ = ["Outcome", "TestApp", "event", "play"]

_log = log.get("hooktape.testing")
T = TypeVar("T")
# How often a running handler's heartbeat is looked for, in seconds: as often as a worker does.
_LOOK_EVERY = 0.1


def event(topic: str, body: Any = None, *, shop: str = "test-shop.myshopify.com", webhook_id: str | None = None, at: str = "now",
          secret: str | None = None, source: str = "webhook", replay: Replay | None = None, seed: int = 0) -> Event:  # fmt: skip
    """An event as the tape would hold it. `body`: bytes as they are, anything else as JSON, None for a sample of the topic.

    Without `webhook_id` each call makes a new webhook; give the same one twice for a duplicate. `at` is when Shopify sent it
    (`now`, `2h`, ISO 8601). With `secret` it's signed.
    """
    if body is None:
        body = samples.sample(topic, seed)
    payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
    found, moment = resources.find(topic, payload), micros(parse_time(at))
    return Event(
        webhook_id=webhook_id or str(uuid.uuid4()), shop=shop, topic=topic, payload=payload, received_us=moment, triggered_us=moment,
        event_id=str(uuid.uuid4()), api_version="2026-04", resource=found.name, resource_root=found.root, version_us=found.version,
        hmac=signature.sign(payload, secret) if secret else None, source=source, replay=replay,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event for now.

    `state`: `succeeded`; `waiting` for a retry at `due` (epoch seconds of the test's clock); `behind` an earlier event of its
    resource that waits for one; `dead`; `stale` (a newer version was applied); `duplicate` (finished or waiting already).
    `error` and `disposition` are the last try's.
    """

    event: Event
    state: Literal["succeeded", "waiting", "behind", "dead", "stale", "duplicate"]
    attempts: int = 0
    error: BaseException | None = None
    disposition: Disposition | None = None
    due: float | None = None


class TestApp:
    """Plays events to an app's handlers. It remembers what the group has handled, as the ledger would.

    `retry_delays` in seconds, as in HOOKTAPE_RETRY_DELAYS; `quick_tries` in the lane are off, so that each failure shows.
    `chance` replaces the random part of delays: a function that gives numbers in [0, 1).

    `transaction` lends handlers that take `event.transaction()` a connection: a function whose result is a context manager that gives
    one, as `lambda: psycopg.connect(URL)` does, and for asynchronous handlers `lambda: psycopg.AsyncConnection.connect(URL)`. One that a
    fixture rolls back afterwards: `lambda: contextlib.nullcontext(connection)`.
    """

    __test__ = False  # pytest would take the name for a class of tests

    def __init__(self, app: App, *, retry_delays: Sequence[float] | None = None, max_attempts: int | None = None, quick_tries: int = 0,
                 chance: Callable[[], float] = lambda: 0.0, transaction: Callable[[], Any] | None = None) -> None:  # fmt: skip
        defaults = Settings()
        self.app = app
        self.now = time.time()
        """The test's clock, epoch seconds; `advance` moves it."""
        self.outcomes: list[Outcome] = []
        """Everything that has happened, in order."""
        self._max_attempts = max_attempts or defaults.max_attempts
        self._schedule = Schedule(tuple(retry_delays or defaults.retry_delays), quick_tries)
        self._chance = chance
        self._lent = _Lent(transaction)
        self._lanes = Lanes(1000)
        self._holds = Holds()
        self._rows: dict[EventKey, Row] = {}
        self._running: set[EventKey] = set()
        self._applied: dict[tuple[str, str, str], int] = {}
        self._retries: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()

    def play(self, *events: Event) -> list[Outcome]:
        """Plays events in this order and returns one outcome for each that ended or was put off, in the order they did.

        Raises UsageError for a topic without a handler, and inside a running event loop: use `await play_async(…)` there.
        """
        return _wait(self.play_async(*events))

    def advance(self, by: float | str) -> list[Outcome]:
        """Moves the clock by seconds or a duration (`2m`) and runs the retries that come due, in turn."""
        return _wait(self.advance_async(by))

    async def play_async(self, *events: Event) -> list[Outcome]:
        """`play` for tests that run in an event loop."""
        before = len(self.outcomes)
        for each in events:
            handler = self.app.handlers.get(each.topic)
            if handler is None:
                raise UsageError(f"the app {self.app.group} has no handler for {each.topic}.")
            number = next(self._numbers)
            # As from the tape: a copy, so that what a handler does to the event stays with it.
            copy = replace_at(each, Coordinates(f"test.log.{each.topic.replace('/', '.')}", 0, number))
            task = Task(Home("test", 0, 1, 0), number, copy, copy.key, handler, copy.lane if handler.ordered else None,
                        Rank.REPLAY if copy.replay else Rank.LIVE, replay=copy.replay)  # fmt: skip
            if copy.replay is not None:
                task.generation, task.forced = copy.replay.id, copy.replay.forced
            self._lanes.add(task)
        await self._run()
        return self.outcomes[before:]

    async def advance_async(self, by: float | str) -> list[Outcome]:
        """`advance` for tests that run in an event loop."""
        before, end = len(self.outcomes), self.now + (parse_duration(by) if isinstance(by, str) else by)
        while (wake := self._next_wake()) is not None and wake <= end:
            self.now = max(self.now, wake)
            while self._retries and self._retries[0][0] <= self.now:
                self._lanes.add(heapq.heappop(self._retries)[2])
            await self._run()
        self.now = end
        return self.outcomes[before:]

    @property
    def waiting(self) -> list[Event]:
        """Events that wait for a retry, the next due first."""
        return [task.event for _, _, task in sorted(self._retries, key=lambda entry: entry[:2])]

    @property
    def dead(self) -> list[Outcome]:
        """What a worker would have dead-lettered."""
        return [outcome for outcome in self.outcomes if outcome.state == "dead"]

    def _next_wake(self) -> float | None:
        times = [self._retries[0][0]] if self._retries else []
        wake = self._lanes.wake_at()
        return min([*times, *([] if wake is None else [wake])], default=None)

    async def _run(self) -> None:
        running: dict[asyncio.Task[BaseException | None], Task] = {}
        while True:
            while (task := self._lanes.start(self.now)) is not None:
                if self._check(task) and not self._skip_stale(task):
                    self._running.add(task.key)
                    running[asyncio.create_task(self._try(task))] = task
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                self._end(running.pop(ended), ended.result())

    def _check(self, task: Task) -> bool:
        if task.key in self._running:
            # A copy of an event that runs this very moment.
            self._lanes.postpone(task, self.now)
            return False
        check = Check(task.key, task.attempts, task.generation, task.forced, task.rank is Rank.RETRY)
        checked = decide(self._rows.get(task.key), check)
        if checked.verdict is not Verdict.RUN:
            self._lanes.end(task)
            self.outcomes.append(Outcome(task.event, "duplicate"))
            return False
        task.attempts, task.generation = checked.attempts, checked.generation
        head = self._holds.ahead(lane16(task.event.lane), task.key) if task.lane is not None else None
        if head is None:
            return True
        self._lanes.end(task)
        step = Later(head.delay, max(head.due, self.now), Disposition.BEHIND)
        self._put_off(task, step, State.BEHIND)
        self.outcomes.append(Outcome(task.event, "behind", task.attempts, None, step.disposition, step.due))
        return False

    def _skip_stale(self, task: Task) -> bool:
        of, version = self._version(task)
        if of is None or version - task.event.synthetic >= self._applied.get(of, version - 1):
            return False
        self._settle(task, State.STALE)
        self._lanes.end(task)
        self.outcomes.append(Outcome(task.event, "stale", task.attempts))
        return True

    async def _try(self, task: Task) -> BaseException | None:
        task.event._bound = attempt = Try(self._lent, task)
        error = await self._call(task)
        task.event._bound = OVER
        if attempt.close() is not Said.SUCCEEDED or error is None:
            return error
        _log.error("a handler failed after its transaction was committed: the event has succeeded", event=str(task.event), exc=error)
        return None

    @staticmethod
    async def _call(task: Task) -> BaseException | None:
        handler = task.handler
        assert isinstance(handler, Handler)
        of, loop = task.event, asyncio.get_running_loop()
        of.attempt, of.beating = task.attempts + 1, False
        work: Awaitable[Any] = handler.function(of) if handler.is_async else asyncio.to_thread(handler.function, of)
        call = asyncio.ensure_future(work)
        end = loop.time() + handler.timeout
        while not call.done():
            await asyncio.wait([call], timeout=max(min(_LOOK_EVERY, end - loop.time()), 0.0))
            if of.beating:
                of.beating, end = False, loop.time() + handler.timeout
            elif loop.time() >= end and not call.done():
                of.lapsed = True
                call.cancel()
                await asyncio.wait([call])
                task.event = replace_at(of, of.at)
                task.event.lapsed = False
                return HandlerTimeout(f"{handler.name} took longer than {handler.timeout:g} s")
        return asyncio.CancelledError() if call.cancelled() else call.exception()

    def _end(self, task: Task, error: BaseException | None) -> None:
        task.attempts += 1
        self._running.discard(task.key)
        if error is None:
            of, version = self._version(task)
            if of is not None:
                self._applied[of] = max(version + task.event.synthetic, self._applied.get(of, version))
            self._settle(task, State.SUCCEEDED)
            self._lanes.end(task)
            self.outcomes.append(Outcome(task.event, "succeeded", task.attempts))
            return
        handler = task.handler
        assert isinstance(handler, Handler)
        cause = classify(error, self.now, self.app.mapper)
        self._cool(handler, task, cause)
        if cause.untried:
            task.attempts, task.quick = task.attempts - 1, task.quick - 1
        previous = task.home.delay if task.attempts - task.quick > 1 else None
        step = self._schedule.next(cause, attempts=task.attempts, most=handler.max_attempts or self._max_attempts, quick=task.quick,
                                   previous=previous, now=self.now, chance=self._chance)  # fmt: skip
        if isinstance(step, Again):
            task.quick += 1
            self._lanes.postpone(task, self.now + step.seconds)
            return
        self._lanes.end(task)
        if isinstance(step, Dead):
            self._settle(task, State.DEAD)
            self.outcomes.append(Outcome(task.event, "dead", task.attempts, error, step.disposition))
            return
        self._put_off(task, step, State.WAITING)
        self.outcomes.append(Outcome(task.event, "waiting", task.attempts, error, step.disposition, step.due))

    def _put_off(self, task: Task, step: Later, state: State) -> None:
        if task.lane is not None:
            self._holds.enter(lane16(task.event.lane), 0, task.key, step.delay, step.due, self.now)
        self._settle(task, state)
        task.home, task.rank = replace(task.home, rank=Rank.RETRY, delay=step.delay), Rank.RETRY
        heapq.heappush(self._retries, (step.due, next(self._numbers), task))

    def _cool(self, handler: Handler, task: Task, cause: Cause) -> None:
        if cause.disposition is Disposition.THROTTLED and cause.after is not None:
            self._lanes.cool(handler, "" if cause.whole_destination else task.event.shop, self.now, cause.after)

    def _settle(self, task: Task, state: State) -> None:
        if state not in IN_RETRY and task.lane is not None:
            self._holds.leave(lane16(task.event.lane), task.key)
        self._rows[task.key] = Row(task.key, state, task.attempts, task.generation, 0, None)

    @staticmethod
    def _version(task: Task) -> tuple[tuple[str, str, str] | None, int]:
        handler, of = task.handler, task.event
        if isinstance(handler, Handler) and handler.skip_stale and of.resource and of.version_us is not None:
            return (handler.name, of.shop, of.resource), of.version_us
        return None, 0


class _Lent:
    """Transactions on connections that a test lends; nothing but the handler's own is written."""

    def __init__(self, lend: Callable[[], Any] | None) -> None:
        self._lend = lend
        self._out: dict[Any, Any] = {}

    def check(self) -> None:
        if self._lend is None:
            raise UsageError("event.transaction() needs a database, and this TestApp has none: TestApp(app, transaction=lambda: "
                             "psycopg.connect(URL)), or psycopg.AsyncConnection.connect for an async handler.")  # fmt: skip

    def _borrow(self) -> Any:
        self.check()
        assert self._lend is not None
        return self._lend()

    def begin(self, task: Task) -> Any:
        import psycopg

        manager = self._borrow()
        connection = manager.__enter__()
        self._out[connection] = manager
        transaction = psycopg.Transaction(connection)
        transaction.__enter__()
        return transaction

    def record(self, connection: Any, task: Task) -> None:
        pass

    def give_back(self, connection: Any) -> None:
        self._out.pop(connection).__exit__(None, None, None)

    async def begin_async(self, task: Task) -> Any:
        import psycopg

        manager = self._borrow()
        manager = await manager if inspect.isawaitable(manager) else manager
        connection = await manager.__aenter__()
        self._out[connection] = manager
        transaction = psycopg.AsyncTransaction(connection)
        await transaction.__aenter__()
        return transaction

    async def record_async(self, connection: Any, task: Task) -> None:
        pass

    async def give_back_async(self, connection: Any) -> None:
        await self._out.pop(connection).__aexit__(None, None, None)


def play(app: App, *events: Event) -> list[Outcome]:
    """`TestApp(app).play(…)`, for tests that need no clock."""
    return TestApp(app).play(*events)


def replace_at(original: Event, at: Coordinates | None) -> Event:
    """A copy of an event that lies at `at`."""
    copy = msgspec.structs.replace(original)
    copy.at = at
    return copy


def _wait(work: Coroutine[Any, Any, T]) -> T:
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        work.close()
        raise UsageError("play and advance run an event loop of their own; inside one, use await play_async(…) and advance_async(…).")
    return asyncio.run(work)
