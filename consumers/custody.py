"""The ledger's side of a worker: claims and finishes in batches, on one thread, one transaction of each at a time.

Batches make themselves: while one is on its way, the next gathers. A lone event waits for nobody, and under load hundreds
share an fsync.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from hooktape import log
from hooktape.consumers.app import Handler
from hooktape.consumers.task import Task
from hooktape.errors import LedgerUnavailable
from hooktape.ledger.checks import Claim, Claimed, Finish
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger

_log = log.get("hooktape.consumers")
T = TypeVar("T")
# Measured on PostgreSQL, an empty handler: 5,700 events/s with 500; 9,200 and 9,900 with 1,000. More hold up what comes after.
_BATCH = 1000
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
    skips: list[tuple[str, EventKey, str, str]]
    claims: list[Task]


@dataclass(frozen=True, slots=True)
class _Done:
    finished: list[bool]
    claimed: list[Claimed]
    versions: Versions


class Custody:
    """Claims and finishes for one worker. `on_claimed` and `on_finished` are called on the loop, in the order of the batch.

    `lease` in seconds: as long after its death nobody takes over what a worker was running.
    """

    def __init__(self, ledger: Ledger, group: str, lease: float, on_claimed: Callable[[Task, Claimed, Versions], None],
                 on_finished: Callable[[Task, Finish, bool], None], after: Callable[[], None],
                 on_broken: Callable[[BaseException], None]) -> None:  # fmt: skip
        self.owner = owner_name()
        self.claiming = 0
        """Claims that have been asked for and not answered."""
        self.finishing = 0
        """Finishes that aren't on disk yet."""
        self._ledger, self._group, self._lease = ledger, group, lease
        self._on_claimed, self._on_finished, self._after, self._on_broken = on_claimed, on_finished, after, on_broken
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "hooktape-ledger")
        self._claims: deque[Task] = deque()
        self._finishes: deque[tuple[Task, Finish]] = deque()
        self._skips: list[tuple[str, EventKey, str, str]] = []
        self._busy: asyncio.Task[None] | None = None
        self._beat = 0.0

    async def ask(self, question: Callable[[Ledger], T]) -> T:
        """Anything else of the ledger, on its thread. Raises what it raises."""
        return await self._loop.run_in_executor(self._thread, question, self._ledger)

    async def begin(self) -> None:
        """Takes the lease. Raises LedgerError."""
        await self.ask(self._heartbeat)

    def claim(self, task: Task) -> None:
        """Asks for an event; `on_claimed` gets the answer. Call `kick` when all of a batch are in."""
        self._claims.append(task)
        self.claiming += 1

    def finish(self, task: Task, end: Finish) -> None:
        """Records an end; `on_finished` says when it's on disk. Call `kick` when all of a batch are in."""
        self._finishes.append((task, end))
        self.finishing += 1

    def skip(self, generation: str, key: EventKey, outcome: str, reason: str) -> None:
        """Notes that a replayed event wasn't run, with the next batch."""
        self._skips.append((generation, key, outcome, reason))

    def kick(self) -> None:
        """Starts on what has gathered, unless a batch is on its way: then it goes after that."""
        if self._busy is None and (self._claims or self._finishes or self._skips):
            self._busy = self._loop.create_task(self._work())

    def give_up_claims(self) -> list[Task]:
        """Events whose claim hasn't been asked for yet; they're forgotten here."""
        given, self._claims = list(self._claims), deque()
        self.claiming -= len(given)
        return given

    async def settle(self) -> None:
        """Waits until every finish is on disk."""
        while self._busy is not None:
            await asyncio.wait([self._busy])

    async def close(self) -> None:
        """Gives the lease back, so that others may take over at once, and ends the thread."""
        if self._busy is not None:
            self._busy.cancel()
        try:
            await self.ask(lambda ledger: ledger.outcomes.release(self._group, self.owner))
        except LedgerUnavailable as error:
            _log.warning("the lease couldn't be given back: others wait until it has run out", error=str(error))
        finally:
            self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        try:
            current = self._launch()
            while current is not None:
                job, answer = current
                done = await self._insist(job, answer)
                # The next batch goes to the database before this one's answers are dealt with here.
                current = self._launch()
                self._settle(job, done)
                current = current or self._launch()
        except asyncio.CancelledError:
            raise
        # A refusal by the database, or a bug: either ends the worker, nothing is finished, nothing is lost.
        except Exception as error:  # noqa: BLE001
            self._on_broken(error)
        finally:
            self._busy = None
        self._after()

    def _launch(self) -> "tuple[_Job, asyncio.Future[_Done]] | None":
        if not (self._claims or self._finishes or self._skips):
            return None
        skips, self._skips = self._skips, []
        job = _Job(_take(self._finishes), skips, _take(self._claims))
        return job, self._loop.run_in_executor(self._thread, self._perform, job)

    async def _insist(self, job: _Job, answer: "asyncio.Future[_Done]") -> _Done:
        """Repeats until the database has answered: each part may be done twice without harm."""
        tries = 0
        while True:
            try:
                return await answer
            except LedgerUnavailable as error:
                pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
                _log.warning("the ledger can't be reached: events wait", error=str(error), again_in=pause)
                tries += 1
                await asyncio.sleep(pause)
                answer = self._loop.run_in_executor(self._thread, self._perform, job)

    def _settle(self, job: _Job, done: _Done) -> None:
        self.finishing -= len(job.finishes)
        self.claiming -= len(job.claims)
        for (task, end), kept in zip(job.finishes, done.finished, strict=True):
            self._on_finished(task, end, kept)
        for task, answer in zip(job.claims, done.claimed, strict=True):
            self._on_claimed(task, answer, done.versions)
        self._after()

    # ── on the ledger's thread ──────────────────────────────────────────────────────────────────────────────────────
    def _perform(self, job: _Job) -> _Done:
        now, outcomes = time.time(), self._ledger.outcomes
        if now - self._beat > self._lease / 3:
            self._heartbeat(self._ledger)
        finished = outcomes.finish(self._group, self.owner, [end for _, end in job.finishes], now) if job.finishes else []
        if job.skips:
            outcomes.note_skips(self._group, job.skips)
        if not job.claims:
            return _Done(finished, [], {})
        claims = [Claim(t.key, t.event.topic, t.attempts, t.generation, t.forced) for t in job.claims]
        claimed = outcomes.claim(self._group, self.owner, claims, now)
        return _Done(finished, claimed, self._versions(job.claims))

    def heartbeat_due(self) -> bool:
        """Whether a third of the lease has gone since the last heartbeat."""
        return time.time() - self._beat > self._lease / 3

    async def heartbeat(self) -> None:
        """Renews the lease; a database that can't be reached is said and borne."""
        try:
            await self.ask(self._heartbeat)
        except LedgerUnavailable as error:
            _log.warning("the lease couldn't be renewed", error=str(error))

    def _heartbeat(self, ledger: Ledger) -> None:
        now = time.time()
        ledger.outcomes.heartbeat(self._group, self.owner, now, self._lease)
        self._beat = now

    def _versions(self, tasks: list[Task]) -> Versions:
        wanted: dict[str, list[tuple[str, str]]] = {}
        for task in tasks:
            if of := stale_key(task):
                wanted.setdefault(of[0], []).append(of[1:])
        return {(handler, *resource): version for handler, resources in wanted.items()
                for resource, version in self._ledger.outcomes.applied(self._group, handler, resources).items()}  # fmt: skip


def stale_key(task: Task) -> tuple[str, str, str] | None:
    """(handler, shop, resource) whose version counts for this event; None where its handler doesn't care or it has none."""
    event, handler = task.event, task.handler
    if isinstance(handler, Handler) and handler.skip_stale and event.resource and event.version_us is not None:
        return handler.name, event.shop, event.resource
    return None


def _take(queue: deque[Any]) -> list[Any]:
    return [queue.popleft() for _ in range(min(len(queue), _BATCH))]
