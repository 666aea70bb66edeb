"""The ledger's side of a worker: checks and finishes in batches, on one thread, one transaction of each at a time.

Batches make themselves: while one is on its way, the next gathers. A lone event waits for nobody, and under load hundreds
share an fsync.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from hooktape import crash, log
from hooktape.consumers.clock import Clock
from hooktape.consumers.task import Rank, Task
from hooktape.errors import HooktapeError, LedgerUnavailable
from hooktape.ledger.checks import Check, Checked, Finish
from hooktape.ledger.items import Ending
from hooktape.ledger.ledger import Ledger

_log = log.get("hooktape.consumers")
T = TypeVar("T")
# Measured on PostgreSQL, an empty handler: 5,700 events/s with 500; 9,200 and 9,900 with 1,000. More hold up what comes after.
_BATCH = 1000
# While handlers have work, a batch may gather for this long, in seconds, unless so much has come that it's worth a transaction.
# Measured with 16 handlers of 2.5 ms: a transaction for each ten events cost more than all else that a worker did for them.
_GATHER, _WORTH = 0.005, 256
# Between tries while the database can't be reached, in seconds.
_PAUSES = (0.1, 0.3, 1.0, 3.0)

Versions = dict[tuple[str, str, str], int]
"""(handler, shop, resource) → the highest version applied, in microseconds."""


def owner_name() -> str:
    """A name that no worker had or will have: the machine's, the process's, and chance."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(6).hex()}"


@dataclass(frozen=True, slots=True)
class _Job:
    finishes: list[tuple[Task, Finish]]
    skips: list[tuple[Task, str]]
    checks: list[Task]


@dataclass(frozen=True, slots=True)
class _Done:
    finished: list[bool]
    checked: list[Checked]
    versions: Versions


class Custody:
    """Checks and finishes for one worker. `on_checked`, `on_finished` and `on_skipped` are called on the loop, in the order of the batch.

    `lease` in seconds: as long after its death nobody takes over what a worker owned. `on_owned` gets, after each heartbeat, what
    the ledger says is still this worker's (partition → epoch). `starved` says whether handlers wait for what the ledger answers.
    """

    def __init__(self, ledger: Ledger, group: str, lease: float, clock: Clock, *, on_checked: Callable[[Task, Checked, Versions], None],
                 on_finished: Callable[[Task, Finish, bool], None], on_skipped: Callable[[Task], None],
                 on_owned: Callable[[dict[int, int]], None], after: Callable[[], None], starved: Callable[[], bool],
                 on_broken: Callable[[BaseException], None]) -> None:  # fmt: skip
        self.owner = owner_name()
        self.checking = 0
        """Checks that have been asked for and not answered."""
        self.finishing = 0
        """Finishes that aren't on disk yet."""
        self._ledger, self._group, self._lease, self._clock = ledger, group, lease, clock
        self._on_checked, self._on_finished, self._on_skipped, self._on_owned = on_checked, on_finished, on_skipped, on_owned
        self._after, self._starved, self._on_broken = after, starved, on_broken
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "hooktape-ledger")
        self._checks: deque[Task] = deque()
        self._finishes: deque[tuple[Task, Finish]] = deque()
        self._skips: list[tuple[Task, str]] = []
        self._busy: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._sound_until = 0.0
        self._launched = 0.0

    async def ask(self, question: Callable[[Ledger], T]) -> T:
        """Anything else of the ledger, on its thread. Raises what it raises."""
        return await self._loop.run_in_executor(self._thread, question, self._ledger)

    async def insist(self, question: Callable[[Ledger], T]) -> T:
        """As `ask`, and again while the database can't be reached. Raises LedgerError."""
        tries = 0
        while True:
            try:
                return await self.ask(question)
            except LedgerUnavailable as error:
                tries = await self._pause(error, tries)

    # ── the lease ───────────────────────────────────────────────────────────────────────────────────────────────────
    async def begin(self) -> None:
        """Takes the lease. Raises LedgerError."""
        await self._heartbeat()

    def is_sound(self) -> bool:
        """Whether the lease is running: past it another worker may own what this one did, so nothing may start."""
        return self._clock.monotonic() < self._sound_until

    def beat(self) -> None:
        """Renews the lease where a third of it has gone. To be called several times in that."""
        if self._beating is None and self._sound_until - self._clock.monotonic() < self._lease * 2 / 3:
            self._beating = self._loop.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            await self._heartbeat()
        except LedgerUnavailable as error:
            _log.warning("the lease couldn't be renewed", error=str(error))
            await asyncio.sleep(_PAUSES[0])
        except HooktapeError as error:
            self._on_broken(error)
        finally:
            self._beating = None

    async def _heartbeat(self) -> None:
        # The lease counts from before the question: how long the answer takes is no reason to believe in it longer.
        asked = self._clock.monotonic()
        now = self._clock.time()
        owned = await self.ask(lambda ledger: ledger.ownership.heartbeat(self._group, self.owner, now, self._lease))
        if self._clock.monotonic() - asked > self._lease:
            return  # over before it began: it's asked for again
        self._on_owned(owned)
        self._sound_until = asked + self._lease
        self._after()

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def check(self, task: Task) -> None:
        """Asks whether an event may run; `on_checked` gets the answer. Call `kick` when all of a batch are in."""
        self._checks.append(task)
        self.checking += 1

    def finish(self, task: Task, end: Finish) -> None:
        """Records an end; `on_finished` says when it's on disk. Call `kick` when all of a batch are in."""
        self._finishes.append((task, end))
        self.finishing += 1

    def skip(self, task: Task, outcome: str) -> None:
        """Notes that a replayed event wasn't run, with the next batch; `on_skipped` says when it's on disk."""
        self._skips.append((task, outcome))

    def kick(self) -> None:
        """Starts on what has gathered, unless a batch is on its way: then it goes after that."""
        if self._busy is None and self._pending:
            self._busy = self._loop.create_task(self._work())

    def give_up_checks(self) -> list[Task]:
        """Events whose check hasn't been asked for yet; they're forgotten here."""
        given, self._checks = list(self._checks), deque()
        self.checking -= len(given)
        return given

    async def settle(self) -> None:
        """Waits until every finish is on disk."""
        while self._busy is not None:
            await asyncio.wait([self._busy])

    async def close(self, release: bool = True) -> None:
        """Gives the lease and all partitions back, so that others may take over at once, and ends the thread. `release` False: something of
        them runs on here, so they're left to the lease's end."""
        for task in (self._busy, self._beating):
            if task is not None:
                task.cancel()
        try:
            if release:
                await self.ask(lambda ledger: ledger.ownership.release(self._group, self.owner))
        except LedgerUnavailable as error:
            _log.warning("the lease couldn't be given back: others wait until it has run out", error=str(error))
        finally:
            self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        try:
            await self._gather()
            current = self._launch()
            while current is not None:
                job, answer = current
                done = await self._insist(job, answer)
                # A batch that's worth it goes to the database before this one's answers are dealt with here.
                current = self._launch() if self._pending >= _WORTH else None
                self._settle(job, done)
                if current is None and self._pending:
                    await self._gather()
                    current = self._launch()
        except asyncio.CancelledError:
            raise
        # A refusal by the database, or a bug: either ends the worker, nothing is finished, nothing is lost.
        except Exception as error:  # noqa: BLE001
            self._on_broken(error)
        finally:
            self._busy = None
        self._after()

    @property
    def _pending(self) -> int:
        return len(self._checks) + len(self._finishes) + len(self._skips)

    async def _gather(self) -> None:
        left = self._launched + _GATHER - self._clock.monotonic()
        if left > 0 and self._pending < _WORTH and not self._starved():
            await asyncio.sleep(left)

    def _launch(self) -> "tuple[_Job, asyncio.Future[_Done]] | None":
        if not self._pending:
            return None
        self._launched = self._clock.monotonic()
        skips, self._skips = self._skips, []
        job = _Job(_take(self._finishes), skips, _take(self._checks))
        return job, self._loop.run_in_executor(self._thread, self._perform, job)

    async def _insist(self, job: _Job, answer: "asyncio.Future[_Done]") -> _Done:
        """Repeats until the database has answered: each part may be done twice without harm."""
        tries = 0
        while True:
            try:
                return await answer
            except LedgerUnavailable as error:
                tries = await self._pause(error, tries)
                answer = self._loop.run_in_executor(self._thread, self._perform, job)

    async def _pause(self, error: LedgerUnavailable, tries: int) -> int:
        pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
        _log.warning("the ledger can't be reached: events wait", error=str(error), again_in=pause)
        await asyncio.sleep(pause)
        return tries + 1

    def _settle(self, job: _Job, done: _Done) -> None:
        self.finishing -= len(job.finishes)
        self.checking -= len(job.checks)
        for (task, end), kept in zip(job.finishes, done.finished, strict=True):
            self._on_finished(task, end, kept)
        if job.finishes:
            crash.point("recorded-not-committed")
        for task, _ in job.skips:
            self._on_skipped(task)
        for task, answer in zip(job.checks, done.checked, strict=True):
            self._on_checked(task, answer, done.versions)
        self._after()

    # ── on the ledger's thread ──────────────────────────────────────────────────────────────────────────────────────
    def _perform(self, job: _Job) -> _Done:
        outcomes = self._ledger.outcomes
        ends = [end for _, end in job.finishes]
        finished = outcomes.finish(self._group, self.owner, ends, self._clock.time()) if ends else []
        if job.skips:
            outcomes.note_skips(self._group, [Ending(t.generation, t.key, outcome, seq=t.seq) for t, outcome in job.skips])
        if not job.checks:
            return _Done(finished, [], {})
        checks = [Check(t.key, t.attempts, t.generation, t.forced, t.rank is Rank.RETRY, t.seq) for t in job.checks]
        return _Done(finished, outcomes.check(self._group, checks), self._versions(job.checks))

    def _versions(self, tasks: list[Task]) -> Versions:
        wanted: dict[str, list[tuple[str, str]]] = {}
        for task in tasks:
            if (of := task.versioned) is not None:
                wanted.setdefault(of[0], []).append(of[1:])
        return {(handler, *resource): version for handler, resources in wanted.items()
                for resource, version in self._ledger.outcomes.applied(self._group, handler, resources).items()}  # fmt: skip


def _take(queue: deque[Any]) -> list[Any]:
    return [queue.popleft() for _ in range(min(len(queue), _BATCH))]
