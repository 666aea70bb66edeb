"""One consumer on its own thread: the only thread that ever touches it. Everything else goes through its mailbox.

confluent-kafka serialises a consumer's methods without fairness: a second thread can wait for ever behind `consume()`
(measured: not back after 15 s). So commands are left in a mailbox that this thread empties between two polls, at most 50 ms
apart, and what it fetches goes to the event loop, one wake-up per batch.

    running ──more held than `most`──▶ full ──held ≤ half──▶ running
                                        └──5 s──▶ paused ──held ≤ half──▶ running

Full is a matter of not polling; only when it lasts are the partitions paused, since a pause throws the prefetch away
(measured: a pause per batch fetched 60 times the bytes), and polling has to go on for rebalances to be heard.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from hooktape import log
from hooktape.consumers import births
from hooktape.consumers.deliveries import Assigned, Broken, Commits, Delivery, Fetched, Lost, Plan, Revoked
from hooktape.consumers.task import Home
from hooktape.consumers.tracker import Position
from hooktape.consumers.waits import Waits
from hooktape.errors import HooktapeError, NotOurs, TapeError, TapeUnavailable
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import clients, groups, headers
from hooktape.tape.wire import Wire

_log = log.get("hooktape.consumers")
# Commands are served within this time; also how long a lone message may lie in librdkafka's queue at worst.
_POLL = 0.05
# Most records per hand-over to the loop: larger batches win nothing and make the loop stutter.
_BATCH = 500
# Being full for less than this isn't worth throwing the prefetch away.
_FULL_BEFORE_PAUSE = 5.0
# A synchronous commit in a rebalance must end: librdkafka's own bound is the socket's time-out, 60 s by default.
_SOCKET_MS = 10_000
_REFUSED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
            KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._AUTHENTICATION}  # fmt: skip
_NO_KIP848 = {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}
_NO_KIP848_WORDS = tuple(KafkaError(code).str() for code in _NO_KIP848)
# Between tries of a commit that the coordinator refused, in seconds: about what a rebalance takes.
_COMMIT_AGAIN = 0.5

@dataclass(frozen=True, slots=True)
class _Commit:
    commits: Commits


@dataclass(frozen=True, slots=True)
class _Hold:
    home: Home
    paused: bool


@dataclass(frozen=True, slots=True)
class _Stop:
    commits: Commits


@dataclass(frozen=True, slots=True)
class _Wake:
    pass


class Source:
    """Starts at once. `deliver` is called on the loop with each `Delivery`, in order."""

    def __init__(self, settings: Settings, plan: Plan, wire: Wire, loop: asyncio.AbstractEventLoop,
                 deliver: Callable[["Source", Delivery], None], make: Callable[..., Consumer] = clients.consumer) -> None:  # fmt: skip
        self.plan = plan
        self.held = 0
        """Records that the loop holds; the loop keeps it up to date. The thread stops fetching at `plan.most`."""
        self.received = 0
        """Records that the loop has taken over; the loop counts. What's under way is posted less received."""
        self._settings, self._wire, self._loop, self._deliver, self._make = settings, wire, loop, deliver, make
        self._posted = 0
        self._mailbox: queue.SimpleQueue[_Commit | _Hold | _Stop | _Wake] = queue.SimpleQueue()
        self._homes: dict[tuple[str, int], Home] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self._waits: Waits[Fetched] = Waits()
        self._delayed = any(delay is not None for delay in plan.topics.values())
        self._held_back: set[Home] = set()
        self._epoch = 0
        self._full_since: float | None = None
        self._paused_all = False
        self._stopping: _Stop | None = None
        self._unsaved: Commits = {}
        self._sent: Commits = {}
        self._again = 0.0
        self._classic = settings.kafka_properties.get("group.protocol") == "classic"
        self._thread = threading.Thread(target=self._run, name=f"hooktape-{plan.rank.name.lower()}", daemon=True)
        self._thread.start()

    # ── from the loop ───────────────────────────────────────────────────────────────────────────────────────────────
    def commit(self, commits: Commits) -> None:
        """Commits in the background; positions of partitions that have gone are left out."""
        if commits:
            self._mailbox.put(_Commit(commits))

    def hold(self, home: Home, paused: bool) -> None:
        """Stops or resumes fetching one partition: its window of unfinished offsets is full."""
        self._mailbox.put(_Hold(home, paused))

    def wake(self) -> None:
        """`held` has fallen: a full source needn't wait for its next look."""
        if self._full_since is not None and self._load() <= self.plan.most // 2:
            self._mailbox.put(_Wake())

    async def stop(self, commits: Commits, within: float) -> None:
        """Commits for the last time, leaves the group and ends the thread, waiting at most `within` seconds."""
        if not self._thread.is_alive():
            return
        self._mailbox.put(_Stop(commits))
        # Not an answer to the message: a thread that has just failed doesn't read it any more.
        await asyncio.to_thread(self._thread.join, within)

    # ── the thread ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _run(self) -> None:
        consumer: Consumer | None = None
        try:
            consumer = self._open()
            while self._stopping is None:
                try:
                    self._turn(consumer)
                except _NoKip848:
                    _log.info("the broker has no KIP-848 groups: falling back to cooperative-sticky", group=self.plan.group)
                    consumer.close()
                    self._classic = True
                    consumer = self._open()
        except HooktapeError as error:
            self._post(Broken(error))
        except KafkaException as error:
            self._post(Broken(TapeError(f"the consumer of group {self.plan.group} failed: {error.args[0].str()}")))
        except Exception as error:  # noqa: BLE001 - a bug here must end the process loudly, not the thread quietly
            _log.error("the consumer's thread failed", exc=error)
            self._post(Broken(TapeError(f"the consumer's thread failed: {type(error).__name__}: {error}")))
        finally:
            self._end(consumer)

    def _open(self) -> Consumer:
        own = self._settings.kafka_properties
        config: dict[str, Any] = {"queued.min.messages": self.plan.prefetch, "socket.timeout.ms": _SOCKET_MS}
        # KIP-848 moves single partitions, decided by the broker. No group.instance.id: a static member that comes back
        # after a crash is fenced for good.
        config |= {"group.protocol": "classic", "partition.assignment.strategy": "cooperative-sticky"} if self._classic else {
            "group.protocol": "consumer"}  # fmt: skip
        config = {key: value for key, value in config.items() if key not in own} | self.plan.overrides
        config["on_commit"] = self._on_commit
        consumer = self._make(self._settings, self.plan.group, **config)
        consumer.subscribe(list(self.plan.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        return consumer

    def _end(self, consumer: Consumer | None) -> None:
        stop, self._stopping = self._stopping, self._stopping or _Stop({})
        try:
            if consumer is not None:
                if stop is not None:
                    self._commit(consumer, stop.commits, wait=True)
                consumer.close()
        except (KafkaException, RuntimeError) as error:
            _log.warning("the consumer didn't close cleanly", group=self.plan.group, error=str(error))

    def _turn(self, consumer: Consumer) -> None:
        self._serve(consumer, wait=self._full_since is not None and not self._paused_all)
        if self._stopping is not None:
            return
        if self._unsaved and time.monotonic() > self._again:
            self._commit(consumer, {}, wait=False)
        room = self._room(consumer)
        if room <= 0 and not self._paused_all:
            return
        timeout = _POLL
        if self._delayed and (due := self._waits.wake_at()) is not None:
            timeout = min(max(due - time.time(), 0.0), _POLL)
        first = consumer.poll(timeout)
        records = []
        if first is not None:
            # consume(n, t) would sit out its whole time-out: the rest is what lies there already.
            messages = [first, *consumer.consume(min(room, _BATCH), 0)] if room > 0 else [first]
            records = self._read(consumer, messages)
        if self._delayed:
            records = self._sift(consumer, records)
        if records:
            self._posted += len(records)
            self._post(records)

    def _serve(self, consumer: Consumer, wait: bool) -> None:
        """Empties the mailbox; with `wait`, sleeps there for a moment first."""
        with contextlib.suppress(queue.Empty):
            while True:
                match self._mailbox.get(wait, 0.02 if wait else None):
                    case _Commit(commits):
                        self._commit(consumer, commits, wait=False)
                    case _Hold(home, paused):
                        self._hold(consumer, [home], paused)
                    case _Stop() as stop:
                        self._stopping = stop
                    case _Wake():
                        pass
                wait = False

    def _load(self) -> int:
        return self.held + self._posted - self.received

    def _room(self, consumer: Consumer) -> int:
        load, most, now = self._load(), self.plan.most, time.monotonic()
        if self._full_since is None:
            if load < most:
                return most - load
            self._full_since = now
        elif load <= most // 2:
            self._full_since = None
            if self._paused_all:
                self._paused_all = False
                self._resume(consumer, [home for home in self._homes.values() if home not in self._held_back])
            return most - load
        elif now - self._full_since > _FULL_BEFORE_PAUSE and not self._paused_all:
            self._paused_all = True
            self._pause(consumer, list(self._homes.values()))
        return 0

    def _read(self, consumer: Consumer, messages: list[Message]) -> list[Fetched]:
        records = []
        homes, positions, decode, other = self._homes, self._positions, self._wire.decode, self.plan.other
        for message in messages:
            error = message.error()
            key = (message.topic(), message.partition())
            if error is not None:
                self._heed(consumer, error, key)  # type: ignore[arg-type]
                continue
            home = homes.get(key)  # type: ignore[arg-type]
            if home is None:
                continue
            offset: int = message.offset()  # type: ignore[assignment]
            positions[key] = offset + 1  # type: ignore[index]
            event, fault = None, None
            if key[0] != other or self._wanted(message):
                try:
                    event = decode(message.value())
                except NotOurs as refusal:
                    fault = refusal
                except TapeError as refusal:
                    event, fault = self._decode_later(message, refusal)
            records.append(Fetched(home, offset, message, event, fault))
        return records

    def _wanted(self, message: Message) -> bool:
        topic = headers.read(message.headers()).get(headers.TOPIC)  # type: ignore[arg-type]
        return topic is None or topic in self.plan.wants

    def _decode_later(self, message: Message, why: TapeError) -> tuple[Event | None, NotOurs | None]:
        """The schema registry is away: without it nothing can be read, so waiting here is all there is to do."""
        while self._stopping is None:
            _log.warning("records can't be decoded yet", error=str(why))
            time.sleep(0.5)
            with contextlib.suppress(queue.Empty):
                command = self._mailbox.get_nowait()
                self._stopping = command if isinstance(command, _Stop) else None
            try:
                return self._wire.decode(message.value()), None
            except NotOurs as refusal:
                return None, refusal
            except TapeUnavailable as still:
                why = still
        raise why

    def _sift(self, consumer: Consumer, records: list[Fetched]) -> list[Fetched]:
        """Retry records come out when they're due."""
        for record in records:
            self._waits.add(record.home, headers.due_us(headers.read(record.message.headers())) / 1e6, record)  # type: ignore[arg-type]
        now = time.time()
        due = list(self._waits.take(now))
        self._pause(consumer, self._waits.to_pause(now))
        self._resume(consumer, [] if self._paused_all else self._waits.to_resume())
        return due

    def _heed(self, consumer: Consumer, error: KafkaError, key: tuple[str, int]) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET and key in self._homes:
            self._skip_lost(consumer, self._homes[key])
        elif self._lacks_kip848(error) and not self._classic:
            raise _NoKip848
        # A message's error says fatal by its code only: `fatal()` is for those of callbacks.
        elif error.code() == KafkaError._FATAL or error.code() in _REFUSED:
            raise TapeError(f"Kafka refused the consumer of group {self.plan.group}: {error.str()}")
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            _log.error("a topic is missing: run `hooktape topics apply`", topic=key[0])
        else:
            _log.warning("the consumer met an error", group=self.plan.group, error=error.str(), code=error.name())

    def _lacks_kip848(self, error: KafkaError) -> bool:
        # What made it fatal is told in words only.
        return error.code() in _NO_KIP848 or (error.code() == KafkaError._FATAL and any(words in error.str() for words in _NO_KIP848_WORDS))

    def _skip_lost(self, consumer: Consumer, home: Home) -> None:
        low, high = consumer.get_watermark_offsets(TopicPartition(*home.key), 10)
        first = self._positions.get(home.key, home.base)
        if low <= first <= high:
            # A broker that was behind for a moment: nothing is lost.
            low = first
        else:
            self._post(Lost(home, first, low))
        self._positions[home.key] = low
        # Not seek: after the reset's error the partition isn't being fetched, and seek refuses.
        consumer.incremental_unassign([TopicPartition(*home.key)])
        consumer.incremental_assign([TopicPartition(*home.key, low)])

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Keeps what a background commit didn't save: nothing new may come on a quiet partition, and its lag would be told for ever."""
        refused = [(p, error or p.error) for p in partitions if error or p.error]
        for p, _ in refused:
            home = self._homes.get((p.topic, p.partition))
            if home is not None and home in self._sent:
                # Not what was refused: a later commit may have gone out since, and an offset never moves back.
                self._unsaved[home] = self._sent[home]
        if refused:
            self._again = time.monotonic() + _COMMIT_AGAIN
            _log.warning("a commit was refused and is made again", group=self.plan.group, error=str(refused[0][1]))

    def _commit(self, consumer: Consumer, commits: Commits, wait: bool) -> None:
        commits, self._unsaved = self._unsaved | commits, {}
        owned = [TopicPartition(home.topic, home.partition, position.offset, position.metadata)
                 for home, position in commits.items() if self._homes.get(home.key) is home]  # fmt: skip
        if not owned:
            return
        self._sent |= commits
        try:
            if wait:
                consumer.commit(offsets=owned, asynchronous=False)
            else:
                consumer.commit(offsets=owned, asynchronous=True)
        except KafkaException as error:
            # The next commit carries the same and more; what it would have saved, the ledger knows.
            _log.warning("a commit failed", group=self.plan.group, error=error.args[0].str())

    def _hold(self, consumer: Consumer, homes: list[Home], paused: bool) -> None:
        (self._held_back.update if paused else self._held_back.difference_update)(homes)
        if not self._paused_all:
            (self._pause if paused else self._resume)(consumer, homes)

    def _pause(self, consumer: Consumer, homes: list[Home]) -> None:
        if owned := [TopicPartition(*home.key) for home in homes if self._homes.get(home.key) is home]:
            consumer.pause(owned)

    def _resume(self, consumer: Consumer, homes: list[Home]) -> None:
        if owned := [TopicPartition(*home.key) for home in homes if self._homes.get(home.key) is home]:
            consumer.resume(owned)

    def _post(self, delivery: Delivery) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
            self._loop.call_soon_threadsafe(self._deliver, self, delivery)

    # ── rebalances: called by librdkafka inside poll() and close(), on this thread ──────────────────────────────────
    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        committed = groups.committed_by(consumer, partitions)
        born = [p for p in committed if p.offset < 0]
        starts = births.resolve(clients.admin(self._settings), born, self.plan.start) if born else {}
        homes = []
        for p in committed:
            self._epoch += 1
            base = starts.get((p.topic, p.partition), p.offset)
            metadata = getattr(p, "metadata", None) or ""
            homes.append(Home(p.topic, p.partition, self._epoch, base, metadata, self.plan.rank, self.plan.topics.get(p.topic)))
        consumer.incremental_assign([TopicPartition(h.topic, h.partition, h.base) for h in homes])
        self._homes |= {home.key: home for home in homes}
        self._positions |= {home.key: home.base for home in homes}
        self._post(Assigned(homes))
        # At birth: killed before its first commit, a group that starts "now" would start later still the next time.
        self._commit(consumer, {h: Position(h.base, "") for h in homes if h.key in starts}, wait=False)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        homes = [self._homes[p.topic, p.partition] for p in partitions if (p.topic, p.partition) in self._homes]
        if self._stopping is None and homes:
            answer: Future[Commits] = Future()
            self._post(Revoked(homes, answer))
            try:
                self._commit(consumer, answer.result(self.plan.revoke_within + 1), wait=True)
            except TimeoutError:
                _log.warning("partitions went before their events had ended", group=self.plan.group, partitions=len(homes))
        self._forget(homes)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        homes = [self._homes[p.topic, p.partition] for p in partitions if (p.topic, p.partition) in self._homes]
        self._post(Revoked(homes, None))
        self._forget(homes)
        consumer.incremental_unassign(partitions)

    def _forget(self, homes: list[Home]) -> None:
        self._waits.drop(homes)
        self._held_back.difference_update(homes)
        for home in homes:
            self._homes.pop(home.key, None)
            self._sent.pop(home, None)
            self._positions.pop(home.key, None)


class _NoKip848(Exception):
    """The broker is older than 4.0 or has the protocol switched off."""
