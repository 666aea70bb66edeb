"""The processes under test and the servers below them: started, killed, frozen, started again; every deed is a recorded fault."""

import asyncio
import contextlib
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from hooktape.errors import LocalStackError
from hooktape.local import kafka, postgres
from hooktape.local.processes import Service
from hooktape.local.soak.disk import Disk
from hooktape.local.soak.faults import PLANNING_POINTS, SESSION, Cell
from hooktape.local.soak.history import Fault

LOOK_SECONDS = 0.02
"""How often the processes are looked at: a crash is dated at most this late."""
START_SECONDS = 3.0
"""An ingestor younger than this may not have connected to anything yet."""
ARMED_SECONDS = 8.0
"""How long an armed process may take to its crash point before it counts as any other, if nothing else is said of it."""
LONG_SECONDS = 4.0
"""A replay's command that runs for longer makes room for the next, which carries a crash point."""
RUN_SECONDS = 1.0
"""A command older than this has done its imports and is at its work."""
TAKEN_OVER_SECONDS = 1.0
"""So long a runner stands still before somebody at another terminal wants to resume its job; the lease of the first has its own time."""
RESTART_SECONDS = 1.0
"""No process is followed by another sooner than this after its own start."""
SETTLE_SECONDS = 5.0
"""A command that began so soon after a server's return may still find it unready."""
# What is killed may hold its locks and memory for a moment; PostgreSQL's children notice their parent's death within a second.
_START_TRIES = 20

BROKER = {
    "group.consumer.session.timeout.ms": str(int(SESSION * 1000)),
    # Five in a session: one that's late isn't a death.
    "group.consumer.heartbeat.interval.ms": str(int(SESSION * 200)),
    # The local stack's second is too short here: on a starved machine a broker shut itself out ten times in two minutes, unhurt.
    "broker.session.timeout.ms": "3000",
}
"""How soon Kafka forgets a worker that was killed, and a broker."""


ANSWERS = frozenset({0, 3, 4, 5})
"""How a replay's command ends when it's asked for nothing impossible: done, nothing matched, not allowed (any more), incomplete."""


class Slot:
    """One place for a service: there's always a process in it, or one on its way. `armed`: the crash point that it carries; `due`: those
    that its next processes are to carry. `insistent`: a point that its process didn't come to is due again."""

    restarts = True

    def __init__(self, target: str, name: str, words: Sequence[str], env: Mapping[str, str], log: Path, url: str = "",
                 patience: float = ARMED_SECONDS, starts_within: float = START_SECONDS, insistent: bool = False) -> None:  # fmt: skip
        self.target, self.name, self.url = target, name, url
        self.patience, self.starts_within, self.insistent = patience, starts_within, insistent
        self._words, self._env, self._log = words, env, log
        self.armed: Cell | None = None
        self.doom = ""
        """What we have sent it: kill or term; "" for nothing."""
        self.doomed_at = 0.0
        self.frozen = False
        self.frozen_at = 0.0
        self.service: Service
        self.noted: Service | None = None
        """The process whose end is on record."""
        self.due: list[tuple[Cell, int]] = []
        self.start()

    def start(self) -> None:
        """Starts a process, armed where a crash point is due."""
        env = dict(self._env)
        if self.insistent and self.armed is not None and (self.service.code != -signal.SIGKILL or self.doom == "kill"):
            self.due.append((self.armed, 1))
        due = next((due for due in self.due if self.passes(due[0])), None)
        if due is not None:
            self.due.remove(due)
        self.armed, passage = due or (None, 0)
        if self.armed is not None:
            env["HOOKTAPE_CRASH"] = f"{self.armed.point}:{passage}{':stop' if self.armed.act == 'hold' else ''}"
        self.doom, self.frozen, self.started = "", False, time.monotonic()
        self.service = Service(self.name, self._words, env, self._log)

    @property
    def pid(self) -> int:
        return self.service.pid

    @property
    def steady(self) -> bool:
        """Whether nothing is being done to it."""
        return self.service.code is None and not self.doom and not self.frozen

    def passes(self, cell: Cell) -> bool:
        """Whether the process that's about to start comes to that point at all."""
        return True

    @property
    def carries(self) -> bool:
        """Whether its process carries a crash point that may yet come."""
        return self.armed is not None and self.service.code is None and time.monotonic() - self.started < self.patience

    @property
    def expectant(self) -> bool:
        """The same, or it's about to."""
        return bool(self.due) or self.carries

    def relieve(self) -> None:
        """From its next process on, none carries anything."""
        self.due.clear()
        self.insistent = False

    @property
    def held(self) -> bool:
        """Whether it stands still at the point that it carries."""
        # One that was asked to end may come to its point on the way out.
        if self.armed is None or self.armed.act != "hold" or self.service.code is not None or self.frozen:
            return False
        with contextlib.suppress(ChildProcessError):
            # Not taken from whoever waits for its end.
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        return False

    def send(self, number: signal.Signals) -> None:
        """A signal to the process, if it's still there."""
        with contextlib.suppress(ProcessLookupError):
            if self.service.code is None:
                os.kill(self.pid, number)


class Errands(Slot):
    """The place of the operator's runner: one command after the other."""

    restarts = False

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self.verb = ""
        # Most commands are short: however long one takes, its point may come.
        super().__init__("replay", "replay", ["--version"], env, log, patience=math.inf, insistent=True)

    def begin(self, verb: str, words: Sequence[str], log: Path) -> Service:
        """Starts a command; the one before has ended."""
        self.verb, self._words, self._log = verb, words, log
        self.start()
        return self.service

    def passes(self, cell: Cell) -> bool:
        return (cell.point in PLANNING_POINTS) == (self.verb == "plan")

    @property
    def at_work(self) -> bool:
        """Whether a replay is being run, as far as its process's age can tell."""
        return self.verb in ("run", "resume") and self.steady and time.monotonic() - self.started > RUN_SECONDS

    @property
    def frozen_long(self) -> bool:
        """Whether its process has stood still for long enough that somebody would take its job over."""
        return self.frozen and time.monotonic() - self.frozen_at > TAKEN_OVER_SECONDS


class Services:
    """The slots of one block, watched; `faults` and `hits` are what happened to them. `worked`: whether a process has called a handler."""

    def __init__(self, worked: Callable[[int], bool]) -> None:
        self._worked = worked
        self.slots: list[Slot] = []
        self.faults: list[Fault] = []
        self.hits: Counter[str] = Counter()
        self.away = False
        """Whether a server is down just now."""
        self._away_at = self._back_at = 0.0
        self._closing = False
        self._thaws: set[asyncio.Task[None]] = set()

    def of(self, target: str) -> list[Slot]:
        return [slot for slot in self.slots if slot.target == target]

    async def without(self, hurt: Coroutine[Any, Any, Fault]) -> None:
        """Does something to a server, on record; what can't start meanwhile isn't to blame."""
        self.away, self._away_at = True, time.monotonic()
        try:
            self.faults.append(await hurt)
        finally:
            self.away, self._back_at = False, time.monotonic()

    async def watch(self) -> None:
        """Dates what ends and starts it again, until cancelled."""
        while True:
            for slot in self.slots:
                if slot.service.code is not None:
                    self._ended(slot)
                elif slot.held and slot.armed is not None:
                    cell, slot.armed = slot.armed, None
                    self.hits[cell.name] += 1
                    self.freeze(slot, cell.seconds, cell.point)
                elif slot.restarts and slot.due and slot.steady and not slot.carries:
                    # Room for the next, which carries it.
                    self.term(slot)
            await asyncio.sleep(LOOK_SECONDS)

    def _ended(self, slot: Slot) -> None:
        self.note_end(slot)
        # Like a service manager: at once, but not again and again while it can't reach what it needs.
        if slot.restarts and not self._closing and time.monotonic() - slot.started > RESTART_SECONDS:
            slot.start()

    def note_end(self, slot: Slot) -> None:
        """Records why a process has ended, once; not for our kill, which is on record."""
        if slot.noted is slot.service:
            return
        slot.noted = slot.service
        code, now = slot.service.code, time.monotonic()
        if slot.doom == "kill":
            return
        if slot.armed is not None and code == -signal.SIGKILL:
            self.faults.append(Fault("crash", slot.target, slot.pid, now, detail=slot.armed.point))
            self.hits[slot.armed.name] += 1
        elif slot.target == "replay" and (code in ANSWERS or code == -signal.SIGTERM):
            if slot.doom:
                self.faults.append(Fault("term", slot.target, slot.pid, slot.doomed_at, now))
        elif slot.doom == "term" and (code == 0 or (code == -signal.SIGTERM and (
                self._starting(slot, slot.doomed_at) or self._may_give_up(slot)))):  # fmt: skip
            # As short as it lived, Python may not have come to where it learns of signals; one that was giving up has unlearned it.
            self.faults.append(Fault("term", slot.target, slot.pid, slot.doomed_at, now))
        elif code in (1, 2) and self._may_give_up(slot):
            # The broker or the database was down: it said so and ended. That's how a service manager, or an operator, finds out.
            self.faults.append(Fault("gave-up", slot.target, slot.pid, now, detail=f"status {code}"))
        else:
            asked = " after SIGTERM" if slot.doom else ""
            self.faults.append(Fault("ended", slot.target, slot.pid, now, detail=f"status {code}{asked}: {slot.service.tail(3)}"))

    def _starting(self, slot: Slot, at: float) -> bool:
        """Whether it hadn't come to its work at that time: a worker by its deeds, others by their age."""
        return not self._worked(slot.pid) if slot.target == "worker" else at - slot.started < slot.starts_within

    def _may_give_up(self, slot: Slot) -> bool:
        """Whether a server was down when it started; for a command, at any time."""
        if slot.target == "replay":
            return self.away or slot.started < self._back_at + SETTLE_SECONDS
        return self._starting(slot, self._away_at) and (self.away or slot.started < self._back_at)

    def kill(self, slot: Slot) -> None:
        """SIGKILL, now."""
        slot.doom = "kill"
        self.faults.append(Fault("kill", slot.target, slot.pid, time.monotonic()))
        slot.send(signal.SIGKILL)

    def term(self, slot: Slot) -> None:
        """SIGTERM: it finishes what runs and ends."""
        slot.doom, slot.doomed_at = "term", time.monotonic()
        slot.send(signal.SIGTERM)

    def freeze(self, slot: Slot, seconds: float, point: str = "") -> None:
        """SIGSTOP now (`point`: it has stopped itself there), SIGCONT `seconds` later."""
        slot.frozen, slot.frozen_at = True, time.monotonic()
        task = asyncio.create_task(self._thaw(slot, slot.pid, seconds, time.monotonic(), point))
        self._thaws.add(task)
        task.add_done_callback(self._thaws.discard)
        slot.send(signal.SIGSTOP)

    async def _thaw(self, slot: Slot, pid: int, seconds: float, since: float, point: str) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            slot.send(signal.SIGCONT)
            slot.frozen = False
            self.faults.append(Fault("stop", slot.target, pid, since, time.monotonic(), point))

    async def thawed(self) -> None:
        """Waits until nothing is frozen any more."""
        while self._thaws:
            await asyncio.gather(*self._thaws)

    async def close(self, patience: float) -> None:
        """Asks all to end, and notes how they did; what hasn't ended after `patience` seconds is a fault of its own."""
        self._closing = True
        for task in self._thaws:
            task.cancel()
        await asyncio.gather(*self._thaws, return_exceptions=True)
        for slot in self.slots:
            if slot.service.code is None:
                self.term(slot)
        deadline = time.monotonic() + patience
        for slot in self.slots:
            # In a thread: while it waits, the others' ends are dated and the posts' answers are read.
            await asyncio.to_thread(slot.service.wait, max(deadline - time.monotonic(), 0.0))
            self.note_end(slot)
        self.slots.clear()


class Servers:
    """The broker, and a PostgreSQL where the run needs one: servers of this run alone, so that they may be killed."""

    def __init__(self, home: Path, with_postgres: bool, with_cuts: bool, progress: Callable[[str], None]) -> None:
        self._home = home
        self._disk = Disk(home / "kafka", home) if with_cuts else None
        self._stops = contextlib.ExitStack()
        try:
            if self._disk is not None:
                self._stops.callback(self._disk.close)
            self.kafka = kafka.start(home / "kafka", lifetime="parent", progress=progress, overrides=BROKER)
            self._stops.callback(lambda: self.kafka.stop())
            self.bootstrap = self.kafka.bootstrap
            if self._disk is not None:
                # Kafka's format tool syncs nothing: a cut right after it leaves a folder that no broker takes, and nothing to learn.
                self._disk.settle()
            self.postgres = postgres.start(home / "postgres", lifetime="parent", progress=progress) if with_postgres else None
        except BaseException:
            self._stops.close()
            raise

    async def kill(self, target: str) -> Fault:
        """SIGKILL, and a new start on the same data. Returns when it answers again; raises LocalStackError when it never does."""
        since, pid = time.monotonic(), self._pid(target)
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(self._again, target)
        return Fault("kill", target, pid, since, time.monotonic())

    async def cut(self, target: str) -> Fault:
        """A power cut of the broker's disk, and a new start on what had been written. As `kill`."""
        assert self._disk is not None
        since, pid = time.monotonic(), self._pid(target)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.to_thread(self._disk.snapshot)
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(self._disk.lose_power)
        await asyncio.to_thread(self._again, target)
        return Fault("cut", target, pid, since, time.monotonic())

    async def freeze(self, target: str, seconds: float) -> Fault:
        """SIGSTOP, and SIGCONT after `seconds`. A frozen PostgreSQL takes no new session; those that are open go on."""
        since, pid = time.monotonic(), self._pid(target)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        return Fault("stop", target, pid, since, time.monotonic())

    def close(self) -> None:
        """Stops both."""
        if self.postgres is not None:
            self.postgres.stop()
        self._stops.close()

    def _pid(self, target: str) -> int:
        if target == "broker":
            return self.kafka.pid
        assert self.postgres is not None
        return self.postgres.pid

    def _again(self, target: str) -> None:
        for left in reversed(range(_START_TRIES)):
            try:
                if target == "broker":
                    before = self.kafka
                    self.kafka = kafka.start(self._home / "kafka", lifetime="parent", overrides=BROKER)
                    before.stop()
                    if self.kafka.bootstrap != self.bootstrap:
                        raise LocalStackError("the broker's port was taken by another process while it was down: run the soak again.")
                else:
                    old = self.postgres
                    self.postgres = postgres.start(self._home / "postgres", lifetime="parent")
                    assert old is not None
                    old.stop()
                return
            except LocalStackError:
                if not left:
                    raise
                time.sleep(0.2)
