"""Which partition numbers are this worker's, and when. Kafka's group proposes; the ledger decides.

    assigned ──take──▶ owned ──its waits are loaded──▶ running ──revoked──▶ ending ──nothing of it runs──▶ given up
        ▲     │held by a live owner                        │
        └─────┘ asked again                                └── the ledger gave it to another: lost (we were frozen)

Assigned partitions are paused until they run. A rebalance waits for what runs, but not for ever: a handler that takes longer goes on, and
the partition stays this worker's in the ledger until it has ended, so the next owner waits for that and nothing overlaps.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future

from hooktape import crash, log
from hooktape.consumers.clock import Clock
from hooktape.consumers.custody import Custody
from hooktape.consumers.deliveries import Commits
from hooktape.consumers.holds import Holds
from hooktape.consumers.intake import Intake
from hooktape.consumers.source import Source
from hooktape.consumers.task import Home, Rank, Tenure
from hooktape.errors import HooktapeError, TapeError
from hooktape.ledger.checks import Waiting
from hooktape.ledger.ownership import Taken
from hooktape.ledger.windows import Window

_log = log.get("hooktape.consumers")
# Asking costs a transaction; the previous owner ends within milliseconds, or its lease runs for seconds.
_ASK_AGAIN = (0.05, 0.1, 0.2, 0.5)
# Saying so again more often would fill the log of every rolling deployment.
_SAY_AFTER = 5.0


class Tenures:
    """For one worker. `member` is the source that joins the group, `followers` read what it's assigned."""

    def __init__(self, group: str, custody: Custody, intake: Intake, holds: Holds, clock: Clock, revoke_within: float,
                 fail: Callable[[BaseException], None]) -> None:  # fmt: skip
        self.member: Source | None = None
        self.followers: list[Source] = []
        self._group, self._custody, self._intake, self._holds, self._clock = group, custody, intake, holds, clock
        self._revoke_within, self._fail = revoke_within, fail
        self._assigned: dict[int, set[Home]] = {}
        self._owned: dict[int, Tenure] = {}
        self._ending: list[Tenure] = []
        self._answers: list[tuple[list[Home], Future[Commits], float]] = []
        self._freeing: set[int] = set()
        self._taking: dict[int, int] = {}  # taken, and not yet running: partition → epoch
        self._asking: asyncio.Task[None] | None = None
        self._giving: set[asyncio.Task[None]] = set()
        self._closed = False

    def assigned(self, source: Source, homes: list[Home]) -> None:
        """Kafka gave partitions to this worker, or a follower has begun with those of a number that it was told to."""
        if source is not self.member:
            self._begun(source, homes)
            return
        self._intake.open(source, homes)
        _log.info("partitions assigned", group=self._group, partitions=len(homes))
        for home in homes:
            self._assigned.setdefault(home.partition, set()).add(home)
            tenure = self._owned.get(home.partition)
            if tenure is not None and not tenure.ending:
                self._run(tenure, [home])
        self._ask_soon()

    def revoked(self, homes: list[Home], answer: "Future[Commits] | None") -> None:
        """Kafka takes partitions away. `answer` None: it has already, and no commit will be taken any more."""
        _log.info("partitions revoked" if answer else "partitions lost", group=self._group, partitions=len(homes))
        going = list(homes)
        for home in homes:
            mine = self._assigned.get(home.partition, set())
            mine.discard(home)
            if not mine:
                self._assigned.pop(home.partition, None)
                going += self._end(home.partition)
        for home in going:
            home.revoked = True
        if answer is None:
            self._intake.close(going)
        else:
            self._answers.append((going, answer, self._clock.monotonic() + self._revoke_within))
        self.settle()

    def settle(self) -> None:
        """Answers rebalances whose events have ended, or whose time is up, and gives up what has ended."""
        now = self._clock.monotonic()
        for entry in list(self._answers):
            homes, answer, until = entry
            if now < until and any(home.taken for home in homes):
                continue
            self._answers.remove(entry)
            crash.point("in-revoke")
            answer.set_result(self._intake.snapshot(homes))
            self._intake.close(homes)
        for tenure in [t for t in self._ending if not t.busy]:
            self._ending.remove(tenure)
            self._holds.drop(tenure.partition)
            if not tenure.lost:
                self._give_up(tenure.partition)

    def owned(self, epochs: dict[int, int]) -> None:
        """What the ledger says is this worker's. A tenure that isn't there is another's now: its lease here had run out."""
        self._taking = {p: epoch for p, epoch in self._taking.items() if epochs.get(p) == epoch}
        for tenure in [*self._owned.values(), *self._ending]:
            if tenure.lost or epochs.get(tenure.partition) == tenure.epoch:
                continue
            tenure.lost = True
            _log.error("a partition was taken over while this worker stood still: what ran here isn't recorded and runs again there",
                       group=self._group, partition=tenure.partition)  # fmt: skip
            self._end(tenure.partition)
            for home in tenure.homes:
                home.revoked = True
            self._intake.close(tenure.homes)
            # Kafka hasn't noticed, or will say so at its next answer. If it goes on believing that the partition is ours, nobody reads it.
            asyncio.get_running_loop().call_later(2 * self._revoke_within, self._still_assigned, tenure)
        self.settle()

    def _still_assigned(self, tenure: Tenure) -> None:
        if not self._closed and any(home.tenure is tenure for home in self._assigned.get(tenure.partition, ())):
            self._fail(TapeError(f"partition {tenure.partition} of group {self._group} is assigned to this worker by Kafka, and another "
                                 "worker owns it in the ledger: this worker ends, so that the group divides anew."))  # fmt: skip

    def tenures(self) -> list[Tenure]:
        """What this worker owns and runs."""
        return list(self._owned.values())

    def lacking(self, topics: Collection[str]) -> list[tuple[int, frozenset[str]]]:
        """The partition numbers that Kafka gave this worker of some `topics` only, and those of which it didn't."""
        had = {number: {home.topic for home in homes} for number, homes in self._assigned.items()}
        return [(number, frozenset(topics) - there) for number, there in had.items() if not there.issuperset(topics)]

    def close(self) -> None:
        """Nothing is asked for any more."""
        self._closed = True
        for task in (self._asking, *self._giving):
            if task is not None:
                task.cancel()

    # ── taking ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _unowned(self) -> list[int]:
        # Not what it has lost: those assignments have ended here, and a new tenure would read their records and drop them.
        return [p for p, homes in self._assigned.items() if p not in self._owned and not any(home.revoked for home in homes)]

    def _wanted(self) -> list[int]:
        ending = {tenure.partition for tenure in self._ending} | self._freeing
        return [p for p in self._unowned() if p not in ending]

    def _ask_soon(self) -> None:
        if self._asking is None and not self._closed and self._unowned():
            self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        tries, began, said = 0, self._clock.monotonic(), False
        try:
            while self._unowned():
                wanted, now = self._wanted(), self._clock.time()
                taken = await self._take(wanted, now)
                self._taking = dict(taken.epochs)
                if taken.epochs:
                    # After the committed offsets were read: a reset writes its windows before it moves an offset.
                    self._intake.mark_again(await self._windows())
                for partition, epoch in taken.epochs.items():
                    waiting = await self._waiting(partition)
                    crash.point("owned-not-started")
                    if self._taking.pop(partition, None) is None:
                        continue  # a slow ledger, and the lease ran out meanwhile: it's another worker's
                    if partition not in self._assigned:
                        self._give_up(partition)  # Kafka has taken it away meanwhile
                        continue
                    self._holds.load(partition, waiting)
                    self._start(partition, epoch)
                if taken.held and not said and self._clock.monotonic() - began > _SAY_AFTER:
                    said = True
                    partition, owner = next(iter(taken.held.items()))
                    _log.warning("a partition waits for its former worker, which still runs something of it or died a moment ago",
                                 group=self._group, partition=partition, worker=owner)  # fmt: skip
                if self._unowned():
                    await asyncio.sleep(_ASK_AGAIN[min(tries, len(_ASK_AGAIN) - 1)])
                    tries += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, a partition that nobody asks for is read by nobody
            self._fail(error)
        finally:
            self._asking = None

    async def _take(self, wanted: list[int], now: float) -> Taken:
        return await self._custody.insist(lambda ledger: ledger.ownership.take(self._group, self._custody.owner, wanted, now))

    async def _windows(self) -> list[Window]:
        return await self._custody.insist(lambda ledger: ledger.outcomes.reprocess(self._group))

    async def _waiting(self, partition: int) -> list[Waiting]:
        return await self._custody.insist(lambda ledger: ledger.outcomes.waiting(self._group, partition))

    def _start(self, partition: int, epoch: int) -> None:
        tenure = self._owned[partition] = Tenure(partition, epoch)
        self._run(tenure, self._assigned[partition])
        for follower in self.followers:
            follower.follow(tenure)

    def _run(self, tenure: Tenure, homes: Iterable[Home]) -> None:
        assert self.member is not None
        for home in homes:
            home.tenure = tenure
            tenure.homes.append(home)
            self.member.hold(home, False)

    def _begun(self, follower: Source, homes: list[Home]) -> None:
        for home in homes:
            if home.tenure is None or home.tenure.ending:
                home.revoked = True  # it was given up while the follower was about to begin
                continue
            home.tenure.homes.append(home)
            self._intake.open(follower, [home])

    # ── giving up ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _end(self, partition: int) -> list[Home]:
        """Nothing of it starts any more; the followers' assignments that end with it."""
        tenure = self._owned.pop(partition, None)
        if tenure is None:
            return []
        tenure.ending = True
        self._ending.append(tenure)
        for follower in self.followers:
            follower.leave(partition)
        return [home for home in tenure.homes if home.rank is not Rank.LIVE]

    def _give_up(self, partition: int) -> None:
        self._freeing.add(partition)
        task = asyncio.get_running_loop().create_task(self._given_up(partition))
        self._giving.add(task)
        task.add_done_callback(self._giving.discard)

    async def _given_up(self, partition: int) -> None:
        try:
            await self._custody.insist(lambda ledger: ledger.ownership.give_up(self._group, self._custody.owner, [partition]))
        except HooktapeError as error:
            self._fail(error)
        self._freeing.discard(partition)
        self._ask_soon()
