"""One consumer on its own thread: the only thread that ever touches it. Everything else goes through its mailbox.

confluent-kafka serialises a consumer's methods without fairness: a second thread can wait for ever behind `consume()`
(measured: not back after 15 s). So commands are left in a mailbox that this thread empties between two polls, at most 50 ms
apart, and what it fetches goes to the event loop, one wake-up per batch.

    running ──more held than `most`──▶ full ──held ≤ half──▶ running
                                        └──5 s──▶ paused ──held ≤ half──▶ running

One source is the group's member: it's assigned partitions of the log, commits for all, and fetches nothing of a partition before
`hold(home, False)`. The others never join: they `follow` the partition numbers that the member was given, so that what belongs
to one resource is in one worker, by whichever topic it comes.

Full is a matter of not polling; only when it lasts are the partitions paused, since a pause throws the prefetch away
(measured: a pause per batch fetched 60 times the bytes), and polling has to go on for rebalances to be heard.
"""

import asyncio
import contextlib
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from hooktape import log
from hooktape.consumers.assignments import Assignments
from hooktape.consumers.commits import Committer
from hooktape.consumers.deliveries import (
    Assigned,
    Broken,
    Command,
    Commit,
    Commits,
    Delivery,
    Fetched,
    Follow,
    Hold,
    Leave,
    Lost,
    Plan,
    Rejoin,
    Revoked,
    Stop,
    Wake,
)
from hooktape.consumers.membership import Anew, Membership, only_on
from hooktape.consumers.schedule import LONGEST
from hooktape.consumers.task import Home, Tenure
from hooktape.consumers.tracker import Position
from hooktape.consumers.waits import Waits
from hooktape.errors import HooktapeError, NotOurs, TapeError, TapeUnavailable
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import clients, headers
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
        self._mailbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._kept: deque[Command] = deque()
        self._assignments = Assignments(settings, plan)
        self._committer = Committer(plan.group, self._assignments)
        self._waits: Waits[Fetched | Lost] = Waits()
        self._delayed = any(delay is not None for delay in plan.topics.values())
        self._full_since: float | None = None
        self._paused_all = False
        self._stopping: Stop | None = None
        self._membership = Membership(settings, plan)
        self._rebalances = 0
        self._thread = threading.Thread(target=self._run, name=f"hooktape-{plan.rank.name.lower()}", daemon=True)
        self._thread.start()

    # ── from the loop ───────────────────────────────────────────────────────────────────────────────────────────────
    def commit(self, commits: Commits) -> None:
        """Commits in the background, as the member, for any source; positions of partitions that have gone are left out."""
        if commits:
            self._mailbox.put(Commit(commits))

    def hold(self, home: Home, paused: bool) -> None:
        """Stops or resumes fetching one partition: its window of unfinished offsets is full, or it isn't this worker's yet."""
        self._mailbox.put(Hold(home, paused))

    def follow(self, tenure: Tenure) -> None:
        """Reads the tenure's partition of all its topics from what is committed on; `Assigned` says when it has begun."""
        self._mailbox.put(Follow(tenure))

    def leave(self, partition: int) -> None:
        """Reads it no more."""
        self._mailbox.put(Leave(partition))

    def rejoin(self, missing: str) -> None:
        """Leaves the group and joins it anew, with another client, unless a rebalance ends first. `missing`: what nobody reads."""
        self._mailbox.put(Rejoin(missing, self._rebalances))

    def wake(self) -> None:
        """`held` has fallen: a full source needn't wait for its next look."""
        if self._full_since is not None and self._load() <= self.plan.most // 2:
            self._mailbox.put(Wake())

    async def stop(self, commits: Commits, within: float) -> None:
        """Commits for the last time, leaves the group and ends the thread, waiting at most `within` seconds."""
        if not self._thread.is_alive():
            return
        self._mailbox.put(Stop(commits))
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
                except Anew as reason:
                    self._membership.leave(consumer, reason)
                    consumer = self._reopen()
        except HooktapeError as error:
            self._post(Broken(error))
        except KafkaException as error:
            self._post(Broken(TapeError(f"the consumer of group {self.plan.group} failed: {error.args[0].str()}")))
        except Exception as error:  # noqa: BLE001 - a bug here must end the process loudly, not the thread quietly
            _log.error("the consumer's thread failed", exc=error)
            self._post(Broken(TapeError(f"the consumer's thread failed: {type(error).__name__}: {error}")))
        except:  # noqa: E722 - confluent-kafka may raise a KafkaError, which is no exception: nothing else catches it
            self._post(Broken(TapeError(f"the consumer of group {self.plan.group} failed: {sys.exc_info()[1]}")))
        finally:
            self._end(consumer)

    def _open(self) -> Consumer:
        plan, ours = self.plan, partial(only_on, self._thread)
        config: dict[str, Any] = {"queued.min.messages": plan.prefetch, "socket.timeout.ms": _SOCKET_MS}
        config = {key: value for key, value in config.items() if key not in self._settings.kafka_properties}
        config |= self._membership.properties() | plan.overrides
        config["on_commit"] = ours(self._committer.on_commit)
        self._assignments.eager = plan.member and self._membership.classic
        consumer = self._make(self._settings, plan.group, **config)
        if plan.member:
            consumer.subscribe(list(plan.topics), on_assign=ours(self._on_assign), on_revoke=ours(self._on_revoke),
                               on_lost=ours(self._on_lost))  # fmt: skip
        return consumer

    def _reopen(self) -> Consumer:
        """Another client. A follower goes on where it was; what the member was assigned, it may get again."""
        if self.plan.member and (left := self._assignments.clear()):
            self._post(Revoked(left, None))
        consumer = self._open()
        if followed := list(self._assignments.homes.values()):
            self._assignments.begin(consumer, followed)
        return consumer

    def _end(self, consumer: Consumer | None) -> None:
        stop, self._stopping = self._stopping, self._stopping or Stop({})
        try:
            if consumer is not None:
                if stop is not None:
                    self._committer.commit(consumer, stop.commits, wait=True, going=True)
                consumer.close()
        except (KafkaException, RuntimeError) as error:
            _log.warning("the consumer didn't close cleanly", group=self.plan.group, error=str(error))

    def _turn(self, consumer: Consumer) -> None:
        self._serve(consumer, wait=self._full_since is not None and not self._paused_all)
        if self._stopping is not None:
            return
        self._committer.again(consumer)
        room = self._room(consumer)
        if room <= 0 and not self._paused_all:
            return
        timeout = _POLL
        if self._delayed and (due := self._waits.wake_at()) is not None:
            timeout = min(max(due - time.monotonic(), 0.0), _POLL)
        first = consumer.poll(timeout)
        self._membership.check(self._committer)
        if first is not None:
            # consume(n, t) would sit out its whole time-out: the rest is what lies there already.
            messages = [first, *consumer.consume(min(room, _BATCH), 0)] if room > 0 else [first]
            self._keep(self._read(consumer, messages))
        if self._delayed:
            self._sift(consumer)

    def _serve(self, consumer: Consumer, wait: bool) -> None:
        """Empties the mailbox; with `wait`, sleeps there for a moment first."""
        with contextlib.suppress(queue.Empty):
            while True:
                match self._kept.popleft() if self._kept else self._mailbox.get(wait, 0.02 if wait else None):
                    case Commit(commits):
                        self._committer.commit(consumer, commits, wait=False)
                    case Hold(home, paused):
                        self._assignments.hold(consumer, [home], paused)
                    case Follow(tenure):
                        self._follow(consumer, tenure)
                    case Leave(partition):
                        self._unfollow(consumer, partition)
                    case Stop() as stop:
                        self._stopping = stop
                    case Rejoin(missing, rebalances):
                        if rebalances == self._rebalances:
                            raise Anew("unread", missing)
                    case Wake():
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
                self._assignments.pause_all(consumer, False)
            return most - load
        elif now - self._full_since > _FULL_BEFORE_PAUSE and not self._paused_all:
            self._paused_all = True
            self._assignments.pause_all(consumer, True)
        return 0

    def _read(self, consumer: Consumer, messages: list[Message]) -> list[Fetched]:
        records: list[Fetched] = []
        homes, positions = self._assignments.homes, self._assignments.positions
        decode, other = self._wire.decode, self.plan.other
        for message in messages:
            error = message.error()
            key = (message.topic(), message.partition())
            if error is not None:
                # Before what the error may say of the offsets: the loop mustn't hear of it first.
                self._keep(records)
                records = []
                self._heed(consumer, error, key)  # type: ignore[arg-type]
                continue
            home = homes.get(key)  # type: ignore[arg-type]
            if home is None:
                continue
            offset: int = message.offset()  # type: ignore[assignment]
            positions[key] = offset + 1  # type: ignore[index]
            leader = message.leader_epoch()
            if leader is not None and (not home.leaders or home.leaders[-1][1] != leader):
                home.leaders.append((offset, leader))
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
                while True:
                    self._kept.append(self._mailbox.get_nowait())
            self._stopping = next((command for command in self._kept if isinstance(command, Stop)), None)
            try:
                return self._wire.decode(message.value()), None
            except NotOurs as refusal:
                return None, refusal
            except TapeUnavailable as still:
                why = still
        raise why

    def _keep(self, records: list[Fetched]) -> None:
        """What was fetched goes to the loop, or waits here until it's due."""
        if not self._delayed:
            self._hand_over(records)
            return
        # By the clock that never jumps, and no longer than its topic's wait from now: the clock of whoever wrote a record may have been
        # a day ahead, or this one's may be set back, and all that lies behind it would wait that day, too.
        wall, now = time.time(), time.monotonic()
        for record in records:
            left = headers.due_us(headers.read(record.message.headers())) / 1e6 - wall  # type: ignore[arg-type]
            self._waits.add(record.home, now + min(left, LONGEST * (record.home.delay or 0.0)), record)

    def _hand_over(self, records: list[Fetched]) -> None:
        if records:
            self._posted += len(records)
            self._post(records)

    def _sift(self, consumer: Consumer) -> None:
        """Retry records come out when they're due."""
        now = time.monotonic()
        due: list[Fetched] = []
        for item in self._waits.take(now):
            if isinstance(item, Lost):
                self._hand_over(due)
                due = []
                self._post(item)
            else:
                due.append(item)
        self._hand_over(due)
        self._assignments.pause(consumer, self._waits.to_pause(now))
        if not self._paused_all:
            self._assignments.resume(consumer, self._waits.to_resume())

    def _heed(self, consumer: Consumer, error: KafkaError, key: tuple[str, int]) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET and key in self._assignments.homes:
            self._skip_lost(consumer, self._assignments.homes[key])
        elif self._membership.is_refused(error):
            raise Anew("protocol")
        # A message's error says fatal by its code only: `fatal()` is for those of callbacks.
        elif error.code() == KafkaError._FATAL or error.code() in _REFUSED:
            raise TapeError(f"Kafka refused the consumer of group {self.plan.group}: {error.str()}")
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            _log.error("a topic is missing: run `hooktape topics apply`", topic=key[0])
        else:
            _log.warning("the consumer met an error", group=self.plan.group, error=error.str(), code=error.name())

    def _skip_lost(self, consumer: Consumer, home: Home) -> None:
        low, high = consumer.get_watermark_offsets(TopicPartition(*home.key), 10)
        first = self._assignments.positions.get(home.key, home.base)
        if low <= first <= high:
            low = first  # a broker that was behind for a moment: nothing is lost
        elif self._delayed:
            # Behind what waits here of the partition: that isn't lost.
            self._waits.add(home, 0.0, Lost(home, first, low))
        else:
            self._post(Lost(home, first, low))
        self._assignments.skip(consumer, home, low)

    def _post(self, delivery: Delivery) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
            self._loop.call_soon_threadsafe(self._deliver, self, delivery)

    # ── rebalances: called by librdkafka inside poll() and close(), on this thread ──────────────────────────────────
    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        homes, born = self._assignments.add(consumer, partitions)
        # Nothing is fetched before the partition is this worker's in the ledger too.
        self._assignments.hold_back(homes)
        self._assignments.begin(consumer, homes)
        self._post(Assigned(homes))
        # At birth: killed before its first commit, a group that starts "now" would start later still the next time.
        self._committer.commit(consumer, {h: Position(h.base, "") for h in born}, wait=False)
        self._rebalances += 1

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        homes = [home for p in partitions if (home := self._assignments.homes.get((p.topic, p.partition))) is not None]
        if self._stopping is None and homes:
            answer: Future[Commits] = Future()
            self._post(Revoked(homes, answer))
            try:
                self._committer.commit(consumer, answer.result(self.plan.revoke_within + 1), wait=True, going=True)
            except TimeoutError:
                _log.warning("partitions went before their events had ended", group=self.plan.group, partitions=len(homes))
        self._assignments.end(consumer, partitions)
        self._rebalances += 1

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._post(Revoked(self._assignments.end(consumer, partitions), None))
        self._rebalances += 1

    # ── following the member ────────────────────────────────────────────────────────────────────────────────────────
    def _follow(self, consumer: Consumer, tenure: Tenure) -> None:
        homes, _ = self._assignments.add(consumer, [TopicPartition(topic, tenure.partition) for topic in self.plan.topics])
        for home in homes:
            home.tenure = tenure
        self._assignments.begin(consumer, homes)
        self._post(Assigned(homes))

    def _unfollow(self, consumer: Consumer, partition: int) -> None:
        followed = [TopicPartition(*key) for key in self._assignments.homes if key[1] == partition]
        self._waits.drop(self._assignments.end(consumer, followed))
