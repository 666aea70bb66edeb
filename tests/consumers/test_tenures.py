"""Partitions taken and given up, with a source and a ledger that do as the test says."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest

from hooktape.consumers.app import App
from hooktape.consumers.deliveries import Commits, Plan
from hooktape.consumers.holds import Holds, lane16
from hooktape.consumers.intake import Intake
from hooktape.consumers.options import Options
from hooktape.consumers.task import Home, Rank, Tenure
from hooktape.consumers.tenures import Tenures
from hooktape.errors import LedgerError
from hooktape.ledger.checks import Waiting
from hooktape.ledger.ownership import Taken
from hooktape.ledger.windows import Window
from hooktape.schemas.event import Coordinates, EventKey
from hooktape.settings import Settings

from .conftest import until

ME, OTHER = "me", "another"
LANE, KEY = lane16("a/order/1"), EventKey(20_000, b"k" * 16)


@dataclass
class FakeSource:
    """What a worker's tenures ask of a source."""

    plan: Plan
    done: list[tuple[str, Any]] = field(default_factory=list)

    def hold(self, home: Home, paused: bool) -> None:
        self.done.append(("hold" if paused else "resume", home.key))

    def follow(self, tenure: Tenure) -> None:
        self.done.append(("follow", tenure.partition))

    def leave(self, partition: int) -> None:
        self.done.append(("leave", partition))


class FakeLedger:
    """One group's ownership, and what waits. `gate` shut: questions aren't answered."""

    def __init__(self) -> None:
        self.ownership = self.outcomes = self
        self.owners: dict[int, str] = {}
        self.epochs: dict[int, int] = {}
        self.rows: dict[int, list[Waiting]] = {}
        self.windows: list[Window] = []
        self.asked = 0
        self.error: Exception | None = None

    def take(self, group: str, owner: str, partitions: list[int], now: float) -> Taken:
        self.asked += 1
        taken = Taken()
        for p in partitions:
            if self.owners.get(p, owner) != owner:
                taken.held[p] = self.owners[p]
                continue
            if p not in self.owners:
                self.owners[p], self.epochs[p] = owner, self.epochs.get(p, 0) + 1
            taken.epochs[p] = self.epochs[p]
        return taken

    def give_up(self, group: str, owner: str, partitions: list[int]) -> None:
        for p in partitions:
            assert self.owners.pop(p) == owner

    def waiting(self, group: str, partition: int) -> list[Waiting]:
        return self.rows.get(partition, [])

    def reprocess(self, group: str) -> list[Window]:
        return self.windows


class FakeCustody:
    def __init__(self, ledger: FakeLedger) -> None:
        self.owner, self.ledger, self.gate = ME, ledger, asyncio.Event()
        self.gate.set()

    async def insist(self, question: Callable[[Any], Any]) -> Any:
        # The answer takes a moment, as a real one does.
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.ledger.error is not None:
            raise self.ledger.error
        return question(self.ledger)


class Clock:
    now = 100.0

    def time(self) -> float:
        return 1e9 + self.now

    def monotonic(self) -> float:
        return self.now


class Stage:
    """Tenures among fakes."""

    def __init__(self) -> None:
        app = App("g")
        self.clock, self.holds, self.failed = Clock(), Holds(), list[BaseException]()
        self.ledger = FakeLedger()
        self.custody = FakeCustody(self.ledger)
        self.intake = Intake(app, Settings(), Options())
        self.tenures = Tenures("g", self.custody, self.intake, self.holds, self.clock, 5.0, self.failed.append)  # type: ignore[arg-type]
        self.member, self.follower = (FakeSource(Plan("g", {}, rank, None, 1, 1)) for rank in (Rank.LIVE, Rank.RETRY))  # type: ignore[arg-type]
        self.tenures.member = self.member  # type: ignore[assignment]
        self.tenures.followers = [self.follower]  # type: ignore[list-item]
        self.epoch = 0

    def home(self, partition: int, topic: str = "log", rank: Rank = Rank.LIVE) -> Home:
        self.epoch += 1
        return Home(topic, partition, self.epoch, 0, "", rank)

    def assign(self, *homes: Home) -> None:
        self.tenures.assigned(self.member, list(homes))  # type: ignore[arg-type]

    def begin(self, *homes: Home) -> None:
        """A follower has begun."""
        self.tenures.assigned(self.follower, list(homes))  # type: ignore[arg-type]

    def revoke(self, *homes: Home) -> "Future[Commits]":
        answer: Future[Commits] = Future()
        self.tenures.revoked(list(homes), answer)
        return answer

    def partitions(self) -> list[int]:
        return [tenure.partition for tenure in self.tenures.tenures()]

    def homes(self) -> list[Home]:
        return [home for tenure in self.tenures.tenures() for home in tenure.homes]

    async def owned(self, *partitions: int) -> None:
        await until(lambda: sorted(self.partitions()) == sorted(partitions), 5)

    async def freed(self, partition: int) -> None:
        await until(lambda: partition not in self.ledger.owners, 5)


def play(scene: Callable[[Stage], Awaitable[None]]) -> Stage:
    async def main() -> Stage:
        stage = Stage()
        await scene(stage)
        stage.tenures.close()
        return stage

    return asyncio.run(main())


def test_an_assigned_partition_runs_when_the_ledger_has_said_yes_and_what_waits_in_it_is_loaded() -> None:
    async def scene(stage: Stage) -> None:
        stage.ledger.rows[0] = [Waiting(KEY, LANE, 5, 30.0, 1.0, Coordinates("log", 0, 1))]
        stage.custody.gate.clear()
        create, updated = stage.home(0, "create"), stage.home(0, "updated")
        stage.assign(create, updated)
        await asyncio.sleep(0.02)
        assert (stage.member.done, stage.follower.done, create.tenure, stage.homes()) == ([], [], None, [])
        stage.custody.gate.set()
        await stage.owned(0)
        assert sorted(stage.member.done) == [("resume", ("create", 0)), ("resume", ("updated", 0))]
        assert stage.follower.done == [("follow", 0)]
        assert create.tenure is updated.tenure is not None
        assert create.tenure.epoch == stage.ledger.epochs[0]
        assert stage.holds.ahead(LANE, EventKey(20_000, b"x" * 16)) is not None

    play(scene)


def test_windows_of_a_reset_are_read_after_the_committed_offsets_with_each_partition_that_is_taken() -> None:
    async def scene(stage: Stage) -> None:
        stage.ledger.windows = [Window("reset-1", "log", 0, 0, 10)]
        stage.assign(stage.home(0))
        await stage.owned(0)
        assert stage.intake._windows == {("log", 0): stage.ledger.windows}
        stage.ledger.windows = []
        stage.assign(stage.home(1))
        await stage.owned(0, 1)
        assert stage.intake._windows == {}

    play(scene)


def test_a_partition_that_a_live_worker_holds_is_asked_for_until_it_is_granted() -> None:
    async def scene(stage: Stage) -> None:
        stage.ledger.owners = {0: OTHER}
        stage.assign(stage.home(0), stage.home(1))
        await stage.owned(1)
        await until(lambda: stage.ledger.asked > 2, 5)
        assert stage.partitions() == [1]
        assert ("resume", ("log", 0)) not in stage.member.done
        del stage.ledger.owners[0]
        await stage.owned(0, 1)
        assert ("resume", ("log", 0)) in stage.member.done

    play(scene)


def test_a_partition_that_is_revoked_while_the_ledger_is_asked_is_given_up_and_never_runs() -> None:
    async def scene(stage: Stage) -> None:
        stage.custody.gate.clear()
        home = stage.home(0)
        stage.assign(home)
        await asyncio.sleep(0.01)
        assert {at.offset for at in stage.revoke(home).result(0).values()} == {0}
        stage.custody.gate.set()
        await until(lambda: stage.ledger.asked == 1, 5)
        await stage.freed(0)
        assert (stage.partitions(), stage.follower.done, len(stage.holds)) == ([], [], 0)
        assert ("resume", home.key) not in stage.member.done

    play(scene)


def test_a_topic_that_joins_a_partition_that_runs_runs_at_once() -> None:
    async def scene(stage: Stage) -> None:
        stage.assign(stage.home(0, "create"))
        await stage.owned(0)
        later = stage.home(0, "updated")
        stage.assign(later)
        assert stage.member.done[-1] == ("resume", ("updated", 0))
        assert later in stage.homes()

    play(scene)


def test_one_topic_of_a_partition_may_go_and_the_rest_stays_owned() -> None:
    async def scene(stage: Stage) -> None:
        create, updated = stage.home(0, "create"), stage.home(0, "updated")
        stage.assign(create, updated)
        await stage.owned(0)
        assert stage.revoke(create).done()
        assert (create.revoked, updated.revoked, stage.partitions()) == (True, False, [0])
        assert ("leave", 0) not in stage.follower.done

    play(scene)


def test_a_revoked_partition_is_answered_when_what_ran_has_ended_and_then_given_up() -> None:
    async def scene(stage: Stage) -> None:
        stage.ledger.rows[0] = [Waiting(KEY, LANE, 5, 30.0, 1.0, Coordinates("log", 0, 1))]
        home, retry = stage.home(0), stage.home(0, "retry", Rank.RETRY)
        stage.assign(home)
        await stage.owned(0)
        retry.tenure = home.tenure
        stage.begin(retry)
        retry.taken = 1
        answer = stage.revoke(home)
        assert retry.revoked
        assert stage.follower.done[-1] == ("leave", 0)
        stage.tenures.settle()
        assert not answer.done()
        assert stage.ledger.owners == {0: ME}
        assert len(stage.holds) == 1
        retry.taken = 0
        stage.tenures.settle()
        # The member commits for the followers too.
        assert set(answer.result(0)) == {home, retry}
        await stage.freed(0)
        assert len(stage.holds) == 0

    play(scene)


def test_a_rebalance_doesnt_wait_for_ever_and_the_partition_stays_owned_until_the_handler_has_ended() -> None:
    async def scene(stage: Stage) -> None:
        home = stage.home(0)
        stage.assign(home)
        await stage.owned(0)
        home.taken = 1
        answer = stage.revoke(home)
        stage.clock.now += 4.9
        stage.tenures.settle()
        assert not answer.done()
        stage.clock.now += 0.2
        stage.tenures.settle()
        assert answer.done()
        await asyncio.sleep(0.01)
        assert stage.ledger.owners == {0: ME}
        home.taken = 0
        stage.tenures.settle()
        await stage.freed(0)

    play(scene)


def test_a_partition_that_comes_back_while_its_last_event_still_runs_waits_for_that_and_gets_a_new_epoch() -> None:
    async def scene(stage: Stage) -> None:
        first = stage.home(0)
        stage.assign(first)
        await stage.owned(0)
        before = first.tenure
        assert before is not None
        first.taken = 1
        stage.revoke(first)
        again = stage.home(0)
        stage.assign(again)
        await asyncio.sleep(0.1)
        assert again.tenure is None
        assert stage.partitions() == []
        first.taken = 0
        stage.tenures.settle()
        await stage.owned(0)
        assert again.tenure is not None
        assert again.tenure is not before
        assert again.tenure.epoch == before.epoch + 1

    play(scene)


def test_a_follower_that_begins_with_a_partition_that_has_gone_is_told_so() -> None:
    async def scene(stage: Stage) -> None:
        home = stage.home(0)
        stage.assign(home)
        await stage.owned(0)
        late = stage.home(0, "retry", Rank.RETRY)
        late.tenure = home.tenure
        stage.revoke(home)
        stage.begin(late)
        assert late.revoked
        assert late not in stage.intake.homes

    play(scene)


def test_partitions_that_kafka_has_taken_already_are_given_up_without_an_answer() -> None:
    async def scene(stage: Stage) -> None:
        home = stage.home(0)
        stage.assign(home)
        await stage.owned(0)
        stage.tenures.revoked([home], None)
        await stage.freed(0)
        assert home not in stage.intake.homes

    play(scene)


def test_what_the_ledger_has_given_to_another_is_lost_at_once_and_not_given_up() -> None:
    async def scene(stage: Stage) -> None:
        zero, one = stage.home(0), stage.home(1)
        stage.assign(zero, one)
        await stage.owned(0, 1)
        zero.taken = 1
        stage.ledger.owners[0], stage.ledger.epochs[0] = OTHER, 9
        stage.tenures.owned({1: stage.ledger.epochs[1]})
        assert stage.partitions() == [1]
        assert (zero.revoked, one.revoked) == (True, False)
        assert stage.follower.done[-1] == ("leave", 0)
        assert zero not in stage.intake.homes
        stage.tenures.owned({1: stage.ledger.epochs[1]})
        zero.taken = 0
        stage.tenures.settle()
        await asyncio.sleep(0.02)
        assert stage.ledger.owners[0] == OTHER
        assert stage.failed == []

    play(scene)


@pytest.mark.parametrize("believes", [True, False], ids=["Kafka goes on believing", "Kafka takes it away"])
def test_a_worker_that_lost_a_partition_which_kafka_leaves_with_it_ends(monkeypatch: pytest.MonkeyPatch, believes: bool) -> None:
    """Nobody would read it: here it doesn't run, and nobody else is assigned it."""

    async def scene(stage: Stage) -> None:
        monkeypatch.setattr(stage.tenures, "_revoke_within", 0.02)
        home = stage.home(0)
        stage.assign(home)
        await stage.owned(0)
        stage.ledger.owners[0] = OTHER
        stage.tenures.owned({})
        if believes:
            await until(lambda: stage.failed, 5)
        else:
            stage.tenures.revoked([home], None)
            await asyncio.sleep(0.1)

    assert [type(error).__name__ for error in play(scene).failed] == (["TapeError"] if believes else [])


def test_an_error_of_the_ledger_ends_the_worker() -> None:
    async def scene(stage: Stage) -> None:
        stage.ledger.error = LedgerError("refused")
        stage.assign(stage.home(0))
        await until(lambda: stage.failed, 5)
        assert stage.failed == [stage.ledger.error]

    play(scene)
