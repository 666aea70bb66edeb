"""A backfill: what was there before recording began, recorded as it is now, once, and taken by nobody for a missed webhook."""

import asyncio
import json
import os
import pickle
import signal
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hooktape import metrics
from hooktape.cli.main import root
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.reconcile import Cursor
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler import core, performing
from hooktape.reconciler.bulk import Lister
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.moves import (
    Action,
    Count,
    Counted,
    Fence,
    Fetch,
    Fetched,
    Input,
    List,
    Listed,
    Look,
    Options,
    ReadTape,
    Record,
    Recorded,
    Taped,
    Window,
)
from hooktape.reconciler.report import Tally
from hooktape.reconciler.schedule import SCHEDULED, Pass, first
from hooktape.reconciler.service import Reconciler
from hooktape.reconciler.standing import DAY, SECOND, Standing, State
from hooktape.schemas.event import Event
from hooktape.settings import Settings

from .conftest import Clock, deliver, on_tape, pointed_at
from .test_command import environment, until
from .test_core import SHOP, T0, event, row
from .test_reconciler import begun, changes_of, opened, passed

ORDERS, REFUNDS = FAMILIES["orders"], FAMILIES["refunds"]
NOW = T0 + 100 * DAY


@dataclass
class World:
    """A shop, a tape that records are appended to while the backfill is under way, and what it does."""

    rows: list[int]
    tape: list[Event] = field(default_factory=list)
    fetched: dict[int, Any] = field(default_factory=dict)
    """What an order has become by the time it's asked for: another version, or None."""
    comes: dict[int, Event] = field(default_factory=dict)
    """Order → a record that comes while it's fetched."""
    count: int | None = None
    coverage: int = NOW - 10 * DAY
    options: Options = field(default_factory=lambda: Options(overlap=600, lag=60, grace=1800, retention=30 * 86400))
    topics: frozenset[str] | None = None
    recorded: list[tuple[str, str]] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)

    def run(self) -> State:
        standing = Standing(SHOP, ORDERS, Cursor(self.coverage), self.coverage, self.options, 0.0, NOW, (), self.topics)
        state, actions = core.begin(standing, Look.BACKFILL)
        while actions:
            found: Input | None = None
            for action in actions:
                self.actions.append(action)
                found = self.answer(action)
            assert found is not None
            state, actions = core.step(state, found)
        return state

    def answer(self, action: Action) -> Input | None:
        match action:
            case Count():
                return Counted(len(self.rows) if self.count is None else self.count, True)
            case List(_, after, _, _):
                start = int(after or 0)
                more = str(start + 2) if start + 2 < len(self.rows) else None
                return Listed(tuple(row(number, T0 + number * SECOND) for number in self.rows[start : start + 2]), more)
            case ReadTape(_, wanted, beyond):
                coverage = Coverage(ORDERS, wanted=wanted)
                for told in self.tape[(beyond or {}).get("tape", 0) :]:
                    coverage.fold(told)
                coverage.marks = {"tape": len(self.tape)}
                return Taped(coverage)
            case Fetch(gids, True):
                return Fetched({gid: self.one(int(gid.rpartition("/")[2])) for gid in gids})
            case Record(items):
                self.recorded += [(item.row.resource, item.topic) for item in items]
                self.tape += [event(int(item.row.resource.partition("/")[2]), item.row.version, "reconciler") for item in items]
                return Recorded(frozenset(item.row.resource for item in items))
            case Fence():
                return None
        raise AssertionError(f"{action} disturbs the other passes")

    def one(self, number: int) -> Any:
        if number in self.comes:
            self.tape.append(self.comes[number])
        if number in self.fetched:
            return self.fetched[number]
        return row(number, T0 + number * SECOND), {"status": "OPEN"}


@pytest.mark.parametrize("portion", [2, 100_000])
def test_all_that_the_tape_has_nothing_of_is_recorded_and_nothing_else(portion: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "SIFTED", portion)
    # Of order 3 the tape has an older state, of 5 its deletion: either is the other passes' business.
    world = World(list(range(1, 10)), [event(3, T0), event(5, T0 + DAY, topic="orders/delete")])
    state = world.run()
    assert world.recorded == [(f"order/{number}", "orders/updated") for number in (1, 2, 4, 6, 7, 8, 9)]
    assert (state.complete, core.tally(state)) == (True, Tally(covered=2, recorded=7))
    again = World(world.rows, world.tape)
    assert core.tally(again.run()) == Tally(covered=9)


def test_what_comes_changes_or_goes_while_it_is_looked_at_is_left_to_the_other_passes() -> None:
    moved = row(3, NOW), {}
    world = World([1, 2, 3, 4], comes={2: event(2, NOW)}, fetched={3: moved, 4: None})
    state = world.run()
    assert world.recorded == [("order/1", "orders/updated")]
    assert core.tally(state) == Tally(covered=1, recorded=1, gone=1, pending=1)


def test_what_comes_for_a_later_one_while_an_earlier_is_asked_for_is_seen() -> None:
    world = World([1, 2, 3], comes={1: event(3, NOW)}, options=replace(World([]).options, rate=1.0))
    world.run()
    assert world.recorded == [("order/1", "orders/updated"), ("order/2", "orders/updated")]
    assert [len(action.items) for action in world.actions if isinstance(action, Record)] == [1, 1]


def test_a_list_that_is_not_whole_is_recorded_as_far_as_it_goes_and_says_so() -> None:
    world = World([1, 2], count=5)
    assert not world.run().complete
    assert len(world.recorded) == 2


def test_where_only_creations_are_wanted_it_is_told_as_one() -> None:
    world = World([1], topics=frozenset({"orders/create"}))
    world.run()
    assert world.recorded == [("order/1", "orders/create")]
    none = World([1], topics=frozenset({"orders/paid"}))
    assert core.tally(none.run()) == Tally(untold=1)


@pytest.mark.parametrize(("coverage", "since", "horizon", "window"), [
    (NOW - 10 * DAY, None, None, Window(0, NOW - 10 * DAY)),
    (T0, None, None, Window(0, NOW - 29 * DAY)),
    (T0, NOW - 50 * DAY, None, Window(NOW - 50 * DAY, NOW - 29 * DAY)),
    (NOW, None, 60, Window(0, NOW)),
])  # fmt: skip
def test_it_ends_where_the_other_passes_begin(coverage: int, since: int | None, horizon: int | None, window: Window) -> None:
    options = replace(World([]).options, since=since)
    standing = Standing(SHOP, ORDERS, Cursor(coverage), coverage, options, 0.0, NOW)
    assert core.window(standing, horizon, Look.BACKFILL) == window
    ordinary = replace(standing, options=replace(options, since=0))
    assert core.window(ordinary, horizon).start == window.end


def test_parts_are_looked_for_under_all_orders_however_lately_these_changed() -> None:
    standing = Standing(SHOP, REFUNDS, Cursor(), NOW - DAY, World([]).options, 0.0, NOW)
    state, _ = core.begin(standing, Look.BACKFILL)
    assert core.search(state) == REFUNDS.search(0, NOW)
    assert state.window.end == NOW - DAY


def test_no_schedule_makes_one() -> None:
    assert Pass.BACKFILL not in SCHEDULED
    assert {kind for _, kind in first(["s"], dict.fromkeys(SCHEDULED, 1.0), 0.0)} == set(SCHEDULED)
    assert len({kind.lane for kind in Pass}) == 3


# ── on a real Kafka ─────────────────────────────────────────────────────────────────────────────────────────────────
def missed() -> float:
    return sum(s.value for metric in metrics.RECONCILE_MISSING.collect() for s in metric.samples if s.name.endswith("_total"))


def alive(shop: LocalShop, *kinds: str) -> set[str]:
    return {resource.name for kind in kinds for resource in shop.shop.live(kind)}


async def told(settings: Settings, number: int) -> list[Event]:
    """What was recorded, once there is so much."""
    await until(lambda: len(on_tape(settings)) >= number)
    return on_tape(settings)


async def filled(settings: Settings, ledger: Ledger, clock: Clock, shop: str, **options: Any) -> tuple[list[Any], Reconciler]:
    async with Reconciler(settings, ledger, clock=clock, lease_ttl=2.0) as reconciler:
        return await reconciler.pass_(shop, kind=Pass.BACKFILL, **options), reconciler


@pytest.mark.kafka
@pytest.mark.anyio
async def test_what_was_there_before_is_recorded_once_and_the_passes_go_on_as_if_nothing_had_been(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=31) as shop:
        settings = pointed_at(tape, shop)
        changes_of(shop, clock, 60)
        before = alive(shop, "order", "product", "customer")
        await passed(settings, ledger, clock, shop.domain)
        later = changes_of(shop, clock, 20)
        await deliver(settings, later[:-1])
        cursors = {name: ledger.reconcile.cursor(shop.domain, name) for name in ("orders", "products", "customers")}
        counted = missed()

        dry, _ = await filled(settings, ledger, clock, shop.domain, dry_run=True)
        assert on_tape(settings) == []
        reports, _ = await filled(settings, ledger, clock, shop.domain)

        unchanged = before - {change.resource for change in later}
        events = await told(settings, len(unchanged))
        assert {event.resource for event in events} == unchanged
        assert len(events) == len(unchanged) == sum(report.tally.recorded for report in reports) == sum(r.tally.recorded for r in dry)
        assert all(event.synthetic and event.backfilled for event in events)
        assert {event.topic for event in events} <= {"orders/updated", "products/update", "customers/update"}
        assert all(report.complete for report in reports)
        assert {name: ledger.reconcile.cursor(shop.domain, name) for name in cursors} == cursors
        assert (missed(), ledger.reconcile.pending()) == (counted, [])
        assert {report.kind for report in reports} == {Pass.BACKFILL}
        assert len([entry for entry in ledger.audit.list() if entry.action == "reconcile.backfill"]) == 6

        again, _ = await filled(settings, ledger, clock, shop.domain)
        assert sum(report.tally.recorded for report in again) == 0
        ordinary = await passed(settings, ledger, clock, shop.domain)
        assert sum(report.tally.recorded for report in ordinary) == 1
        real = [event for event in await told(settings, len(events) + 1) if not event.backfilled]
        assert [event.resource for event in real] == [later[-1].resource]
        assert missed() == counted + 1


@pytest.mark.kafka
@pytest.mark.anyio
async def test_a_long_list_is_a_bulk_operation_that_no_other_pass_takes_up(
    tape: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = begun()
    async with opened(clock, seed=32) as shop:
        settings = pointed_at(replace(tape, topics=("products/*",)), shop)
        changes_of(shop, clock, 80)

        async def sleep(seconds: float) -> None:
            noted = ledger.bulk.open(shop.domain)
            assert [one.family for one in noted] == ["products/backfill"]
            clock.now += seconds
            await asyncio.sleep(0.01)

        async with Reconciler(settings, ledger, clock=clock) as reconciler:
            await reconciler.pass_(shop.domain)
            monkeypatch.setattr(performing, "Lister", partial(Lister, estimate=1, paged_limit=0, portion=7, sleep=sleep))
            (report,) = await reconciler.pass_(shop.domain, kind=Pass.BACKFILL)
        assert (report.error, report.complete) == ("", True)
        assert {event.resource for event in await told(settings, report.tally.recorded)} == alive(shop, "product")
        assert [one.status for one in shop.admin.bulk.operations] == ["COMPLETED"]


# One process, one backfill, as the command makes it; which point kills it is in its environment.
_FILL = """
import asyncio, pickle, sys
from pathlib import Path
settings, domain, now, ledger_url = pickle.loads(Path(sys.argv[1]).read_bytes())
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.reconcile import Cursor
from hooktape.reconciler.schedule import Pass
from hooktape.reconciler.service import Reconciler

async def main():
    with Ledger.open(ledger_url) as ledger:
        async with Reconciler(settings, ledger, clock=lambda: now, lease_ttl=2.0) as reconciler:
            for report in await reconciler.pass_(domain, kind=Pass.BACKFILL, rate=4.0):
                assert not report.failed, report.error

asyncio.run(main())
"""


@pytest.mark.kafka
@pytest.mark.anyio
async def test_killed_between_any_two_steps_each_is_recorded_once(tape: Settings, ledger: Ledger, tmp_path: Path) -> None:
    clock, what = begun(), tmp_path / "what"
    async with opened(clock, seed=33) as shop:
        settings = pointed_at(replace(tape, topics=("products/*",)), shop)
        changes_of(shop, clock, 80)
        await passed(settings, ledger, clock, shop.domain)
        for point in ("fenced", "intended", "committed", "recorded"):
            clock.now += 3  # the lease of the one before ends
            what.write_bytes(pickle.dumps((settings, shop.domain, clock.now, f"sqlite:///{tmp_path / 'ledger.db'}")))
            env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "HOOKTAPE_TEST_MODE": "1",
                   "HOOKTAPE_CRASH": f"reconcile-{point}"}  # fmt: skip
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", _FILL, str(what), env=env, stderr=asyncio.subprocess.PIPE)
            _, said = await process.communicate()
            assert process.returncode == -signal.SIGKILL, f"{point}: {said.decode()}"
        clock.now += 3
        partly = [event.resource for event in await told(settings, 8)]
        assert len(set(partly)) == len(partly) == 8

        (report,), _ = await filled(settings, ledger, clock, shop.domain)

        assert report.complete
        recorded = [event.resource for event in await told(settings, len(alive(shop, "product")))]
        assert sorted(map(str, recorded)) == sorted(alive(shop, "product"))


@pytest.mark.kafka
@pytest.mark.anyio
async def test_the_command_says_what_it_recorded(tape: Settings, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = begun()
    async with opened(clock, seed=34) as shop:
        changes_of(shop, clock, 40)
        for name, value in environment(tape, shop, tmp_path).items():
            monkeypatch.setenv(name, value)

        def run(*arguments: str) -> Any:
            return CliRunner().invoke(root, ["reconcile", "backfill", *arguments], standalone_mode=False)

        result = await asyncio.to_thread(run, "--topic", "products", "--rate", "1000", "--json")
        assert result.exception is None, result.output
        said = json.loads(result.stdout)
        assert said["reports"][0]["tally"]["recorded"] == len(alive(shop, "product"))
        assert len(await told(tape, len(alive(shop, "product")))) == len(alive(shop, "product"))
        result = await asyncio.to_thread(run, "--topic", "products/*")
        assert "0 were recorded" in result.stdout
        assert "complete" in result.stdout
