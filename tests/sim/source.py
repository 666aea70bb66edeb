"""What a worker has of the simulated Kafka: a reader with `Source`'s surface, and a publisher."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from hooktape.consumers.deliveries import Assigned, Commits, Delivery, Fetched, Lost, Plan, Revoked
from hooktape.consumers.task import Home, Tenure
from hooktape.consumers.tracker import Position
from hooktape.consumers.waits import Waits
from hooktape.errors import NotOurs, TapeUnavailable
from hooktape.tape import headers
from hooktape.tape.headers import Packed
from hooktape.tape.wire import Wire

from .kafka import Broker, Key, Member, Message
from .loop import Process

# Between tries of a commit that was refused, as the real one.
_AGAIN = 0.5


class SimSource:
    """`consumers/source.Source`, its thread being a task. Deliveries come in order, each a moment after the last."""

    def __init__(self, broker: Broker, process: Process, plan: Plan, wire: Wire, deliver: Callable[[Any, Delivery], None]) -> None:
        self.plan, self.held, self.received = plan, 0, 0
        broker.sources += 1
        self.number = broker.sources
        self._broker, self._process, self._wire, self._deliver = broker, process, wire, deliver
        self._sim = broker.sim
        self._posted = 0
        self._member: Member | None = None
        self._homes: dict[Key, Home] = {}
        self._positions: dict[Key, int] = {}
        self._held_back: set[Home] = set()
        self._paused: set[Home] = set()
        self._waits: Waits[Fetched] = Waits()
        self._delayed = any(delay is not None for delay in plan.topics.values())
        self._mailbox: deque[tuple[str, Any]] = deque()
        self._inbound: deque[tuple[str, Any]] = deque()
        self._outbox: deque[Delivery] = deque()
        self._awake = asyncio.Event()
        self._full = False
        self._stopping: Commits | None = None
        self._unsaved: Commits = {}
        self._last_sent = self._last_told = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task = process.create_task(self._run())

    # ── from the loop ───────────────────────────────────────────────────────────────────────────────────────────────
    def commit(self, commits: Commits) -> None:
        if commits:
            self._put("commit", commits)

    def hold(self, home: Home, paused: bool) -> None:
        self._put("hold", (home, paused))

    def follow(self, tenure: Tenure) -> None:
        self._put("follow", tenure)

    def leave(self, partition: int) -> None:
        self._put("leave", partition)

    def rejoin(self, missing: str) -> None:
        self._put("rejoin", missing)

    def wake(self) -> None:
        if self._full and self._room() > 0:
            self._awake.set()

    async def stop(self, commits: Commits, within: float) -> None:
        self._put("stop", commits)
        await asyncio.wait([self._task], timeout=within)

    def nudge(self) -> None:
        """Something is there to be fetched."""
        if not self._awake.is_set():
            self._process.call_later(self._broker.net(), self._awake.set)

    def told(self, member: Member, what: str, keys: set[Key]) -> None:
        """The coordinator's word, on its way. One connection: what is said first arrives first."""
        self._broker.note(self._process.name, "is told to", what, sorted(keys))
        self._last_told = max(self._last_told + 1e-6, self._sim.now + self._broker.net())
        self._inbound.append((what, (member, keys)))
        self._process.call_at(self._last_told, self._hear)

    def _hear(self) -> None:
        self._put(*self._inbound.popleft())

    @property
    def member(self) -> Member | None:
        """What it is in the group."""
        return self._member

    def expelled(self) -> None:
        """It was a member and hears that it isn't."""
        self._put("expelled", None)

    def _put(self, what: str, value: object) -> None:
        self._mailbox.append((what, value))
        self._awake.set()

    # ── its thread ──────────────────────────────────────────────────────────────────────────────────────────────────
    async def _run(self) -> None:
        if self.plan.member:
            await asyncio.sleep(self._broker.net())
            self._join()
        while self._stopping is None:
            self._awake.clear()
            while self._mailbox:
                await self._obey(*self._mailbox.popleft())
            if self._stopping is None:
                self._fetch()
                await self._awake.wait()
                await asyncio.sleep(self._sim.delay(0.0, 0.005))
        if self.plan.member:
            await self._commit_now(self._stopping)
            if self._member is not None:
                self._broker.expel(self._member)
        for key in self._homes:
            self._broker.watchers[key].discard(self)

    def _join(self) -> None:
        self._member = self._broker.join(self)

    async def _obey(self, what: str, value: Any) -> None:
        match what:
            case "commit":
                self._send(value)
            case "hold":
                home, paused = value
                (self._held_back.add if paused else self._held_back.discard)(home)
            case "follow":
                await self._follow(value)
            case "leave":
                self._end({key for key in self._homes if key[1] == value})
            case "assign" if value[0] is self._member:
                await self._assign(value[1])
            case "revoke" if value[0] is self._member:
                await self._revoke(value[1])
            case "expelled":
                self._member = None
                lost = self._end(set(self._homes))
                if lost:
                    self._post(Revoked(lost, None))
                await asyncio.sleep(self._broker.net())
                self._join()
            case "rejoin":
                if self._member is not None:
                    self._broker.expel(self._member)
                await self._obey("expelled", None)
            case "stop":
                self._stopping = value

    # ── assignments ─────────────────────────────────────────────────────────────────────────────────────────────────
    def _begin(self, keys: set[Key], tenure: Tenure | None = None) -> list[Home]:
        made = []
        for key in sorted(keys):
            born = key not in self._broker.committed
            offset, metadata = self._broker.committed.get(key, (self._broker.logs[key].first, ""))
            if born and offset:
                self._broker.lost.append((key, 0, offset))  # before the group's birth: it never was the group's
            made.append(home := Home(*key, self._sim.steps, offset, metadata, self.plan.rank, self.plan.topics[key[0]], tenure))
            self._homes[key], self._positions[key] = home, offset
            self._broker.watchers.setdefault(key, set()).add(self)
            if tenure is None:
                self._held_back.add(home)
        return made

    def _end(self, keys: set[Key]) -> list[Home]:
        gone = [home for key in sorted(keys) if (home := self._homes.pop(key, None)) is not None]
        for home in gone:
            del self._positions[home.key]
            self._broker.watchers[home.key].discard(self)
        self._held_back.difference_update(gone)
        self._paused.difference_update(gone)
        self._waits.drop(gone)
        return gone

    async def _assign(self, keys: set[Key]) -> None:
        await asyncio.sleep(self._broker.net())  # the committed offsets
        unborn = keys - self._broker.committed.keys()
        homes = self._begin(keys)
        self._post(Assigned(homes))
        self._send({home: Position(home.base, "") for home in homes if home.key in unborn})

    async def _follow(self, tenure: Tenure) -> None:
        await asyncio.sleep(self._broker.net())
        self._post(Assigned(self._begin({(topic, tenure.partition) for topic in self.plan.topics}, tenure)))

    async def _revoke(self, keys: set[Key]) -> None:
        member = self._member
        homes = [self._homes[key] for key in sorted(keys) if key in self._homes]
        if homes:
            answer: Future[Commits] = Future()
            done = asyncio.Event()
            answer.add_done_callback(lambda _: done.set())
            self._post(Revoked(homes, answer))
            try:
                await asyncio.wait_for(done.wait(), self.plan.revoke_within + 1)
                await self._commit_now(answer.result(0))
            except TimeoutError:
                pass
        self._end(keys)
        if member is not None:
            self._process.sim.outside.call_later(self._broker.net(), self._broker.let_go, member, keys)

    # ── offsets ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _holds(self, home: Home) -> bool:
        return not home.revoked and (home.rank is not self.plan.rank or self._homes.get(home.key) is home)

    def _send(self, commits: Commits) -> None:
        commits, self._unsaved = self._unsaved | commits, {}
        kept = {home: position for home, position in commits.items() if self._holds(home)}
        if not kept:
            return
        offsets = {home.key: (position.offset, position.metadata) for home, position in kept.items()}
        self._last_sent = max(self._last_sent + 1e-6, self._sim.now + self._broker.net())
        self._sim.outside.call_at(self._last_sent, self._arrived, self._member, offsets, kept)

    def _arrived(self, member: Member | None, offsets: dict[Key, tuple[int, str]], kept: Commits) -> None:
        if not self._broker.commit(member, offsets):
            self._process.call_later(self._broker.net(), self._refused, kept)

    def _refused(self, kept: Commits) -> None:
        self._unsaved = kept | self._unsaved
        self._process.call_later(_AGAIN, self._put, "commit", {})

    async def _commit_now(self, commits: Commits) -> None:
        mine = {number for _, number in self._homes}
        offsets = {home.key: (p.offset, p.metadata) for home, p in (self._unsaved | commits).items()
                   if (self._homes.get(home.key) is home if home.rank is self.plan.rank else home.partition in mine)}  # fmt: skip
        self._unsaved = {}
        if offsets:
            self._last_sent = max(self._last_sent + 1e-6, self._sim.now + self._broker.net())
            self._sim.outside.call_at(self._last_sent, self._broker.commit, self._member, offsets)
            await asyncio.sleep(self._last_sent - self._sim.now + self._broker.net())

    # ── records ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _room(self) -> int:
        load, most = self.held + self._posted - self.received, self.plan.most
        if self._full and load > most // 2:
            return 0
        self._full = load >= most
        return max(most - load, 0)

    def _fetch(self) -> None:
        records: list[Fetched] = []
        room = self._room()
        for key in sorted(self._homes):
            home, log = self._homes[key], self._broker.logs[key]
            if home in self._held_back or home in self._paused or room <= 0:
                continue
            position = self._positions[key]
            if position < log.first:
                self._broker.lost.append((key, position, log.first))
                self._post(Lost(home, position, log.first))
                position = self._positions[key] = log.first
            batch = log.records[position : min(log.end, position + room, position + 8 - self._sim.choose(8))]
            self._positions[key] = position + len(batch)
            room -= len(batch)
            records += [self._read(home, message) for message in batch]
            if self._positions[key] < log.end and room > 0:
                self._awake.set()
        self._full = self._full or room <= 0
        if self._delayed:
            records = self._sift(records)
        if records:
            self._posted += len(records)
            self._post(records)

    def _read(self, home: Home, message: Message) -> Fetched:
        if home.topic == self.plan.other and headers.read(message.packed)[headers.TOPIC] not in self.plan.wants:
            return Fetched(home, message.at[2], message, None, None)
        try:
            return Fetched(home, message.at[2], message, self._wire.decode(message.v))  # type: ignore[arg-type]
        except NotOurs as refusal:
            return Fetched(home, message.at[2], message, None, refusal)  # type: ignore[arg-type]

    def _sift(self, records: list[Fetched]) -> list[Fetched]:
        for record in records:
            self._waits.add(record.home, headers.due_us(headers.read(record.message.headers())) / 1e6, record)  # type: ignore[arg-type]
        now = self._process.wall()
        due = list(self._waits.take(now))
        self._paused.update(self._waits.to_pause(now))
        if resumed := self._waits.to_resume():
            self._paused.difference_update(resumed)
            self._awake.set()
        if (wake := self._waits.wake_at()) is not None:
            if self._timer is not None:
                self._timer.cancel()
            # A moment late: a wall clock's fractions and the loop's aren't the same number.
            self._timer = self._process.call_later(max(wake - now, 0.0) + 1e-4, self._awake.set)
        return due

    def _post(self, delivery: Delivery) -> None:
        self._outbox.append(delivery)
        self._process.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._deliver(self, self._outbox.popleft())


class SimPublisher:
    """`publish` as `tape/publisher.Publisher` has it. `down` says whether Kafka takes nothing at the moment."""

    def __init__(self, broker: Broker, process: Process, down: Callable[[], bool], trouble: float) -> None:
        self._broker, self._process, self._down, self._trouble = broker, process, down, trouble
        self._last: dict[Key, float] = {}

    async def publish(self, topic: str, value: bytes | None, *, key: bytes | None = None, extra: Packed | None = None) -> None:
        sim, broker = self._process.sim, self._broker
        if self._down() or sim.chance(self._trouble):
            await asyncio.sleep(sim.delay(0.0, 0.5))
            raise TapeUnavailable("the simulated broker took nothing")
        where = (topic, broker.home_of(key))
        arrives = self._last[where] = max(self._last.get(where, 0.0) + 1e-6, sim.now + broker.net())
        silent = sim.chance(self._trouble)
        answer: asyncio.Future[None] = self._process.create_future()

        def append() -> None:
            broker.append(topic, key, value, list(extra or []))
            if not silent:
                self._process.call_later(broker.net(), lambda: answer.done() or answer.set_result(None))

        sim.outside.call_at(arrives, append)
        try:
            await asyncio.wait_for(answer, 2.0)
        except TimeoutError:
            raise TapeUnavailable("the acknowledgement didn't come; the record may be there") from None
