"""Both sides counted: a local shop whose webhooks are dropped, and a ledger that knows what arrived."""

import asyncio
import json
import os
from collections import Counter as Counter_
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from hooktape.cli.counts import command
from hooktape.errors import HooktapeError, Incomplete, UsageError
from hooktape.ledger.catalogue import Entry
from hooktape.ledger.checks import Finish, State
from hooktape.ledger.handlers import Known
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.positions import Place
from hooktape.local.shop.model import WHOLE, Change
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler import counting
from hooktape.reconciler.counting import Row, Verdict
from hooktape.reconciler.counts import Counter, Counts, Wish
from hooktape.settings import Settings
from hooktape.times import from_micros

from .conftest import Clock, deliver, event_of, pointed_at
from .test_command import environment
from .test_reconciler import begun, changes_of, opened

pytestmark = pytest.mark.anyio
BEGAN = datetime(2026, 11, 16, 1, tzinfo=UTC).timestamp()
FOUR = ("orders/*", "products/*", "collections/*", "customers/*", "locations/create", "refunds/create", "carts/update")


@dataclass
class World:
    """A shop whose time goes by in minutes, and what of its webhooks the catalogue has."""

    shop: LocalShop
    clock: Clock
    ledger: Ledger
    settings: Settings
    http: httpx.AsyncClient
    offset: int = 0
    changes: list[Change] = field(default_factory=list)

    def go_on(self, changes: int, seconds: float = 240.0) -> list[Change]:
        made = []
        for _ in range(changes):
            self.clock.now += seconds
            made.append(self.shop.shop.change(self.clock.now))
        while self.shop.shop.untold:
            made.append(self.shop.shop.change(self.clock.now))
        self.changes += made
        return made

    def arrive(self, changes: Sequence[Change], late: int = 0) -> None:
        """The catalogue has these; each was triggered, and its body's version is, `late` microseconds after its change."""
        rows = []
        for change in changes:
            event = event_of(change)
            at, version = (event.triggered_us or 0) + late, None if event.version_us is None else event.version_us + late
            self.offset += 1
            rows.append(Entry(event.key, event.shop, event.topic, event.webhook_id, event.resource, event.resource_root, version,
                              at, at + 1, "webhook", "log", 0, self.offset, 9))  # fmt: skip
        place: Place = ("log", 0)
        assert self.ledger.catalogue.record(rows, {place: self.offset + 1}, {place: self.ledger.catalogue.positions().get(place)})

    async def count(self, **wish: Any) -> Counts:
        values: dict[str, Any] = {"since": round(BEGAN) * 1_000_000}
        return await Counter(self.settings, self.ledger, self.http).count(Wish([self.shop.domain], **{**values, **wish}))


@pytest.fixture
async def world(ledger: Ledger) -> AsyncIterator[World]:
    clock = Clock(BEGAN)
    # Whether Shopify's count of locations has those that aren't active isn't documented: all stay.
    mix = replace(WHOLE, product_delete=2, location_deactivate=0)
    async with opened(clock, seed=4, mix=mix) as shop, httpx.AsyncClient() as http:
        settings = pointed_at(Settings(topics=FOUR), shop, reconcile_grace=1800.0)
        for name in ("orders", "products", "collections", "customers", "locations"):
            ledger.reconcile.cover_from(shop.domain, name, round(BEGAN) * 1_000_000)
        yield World(shop, clock, ledger, settings, http)


def of(counts: Counts, topic: str) -> list[Row]:
    return [row for row in counts.rows if row.cell.topic == topic]


def figures(rows: Sequence[Row]) -> list[tuple[int, int]]:
    return [(row.shopify.count, row.tape.count) for row in rows if row.shopify and row.tape]


def day(row: Row) -> str:
    return from_micros(row.cell.span[0]).date().isoformat()


async def test_with_everything_on_the_tape_both_sides_count_alike(world: World) -> None:
    world.arrive(world.go_on(700))
    counts = await world.count()
    assert {row.verdict for row in counts.rows if not row.cell.why} == {Verdict.EQUAL}
    assert {day(row) for row in counts.rows} == {"2026-11-16", "2026-11-17"}
    for topic in ("orders/create", "orders/updated", "products/create", "products/update", "products/delete", "collections/update"):
        assert sum(shopify for shopify, _ in figures(of(counts, topic))) > 0, topic
    assert counts.uncountable["refunds/create"] == counting.PARTS
    assert "doesn't show" in counts.uncountable["carts/update"]
    assert counts.points > 0


def newest(changes: Sequence[Change]) -> Counter_[str]:
    """Day → how many living orders changed last on it, as far as these webhooks tell."""
    gone = {change.resource for change in changes if change.topic == "orders/delete"}
    last: dict[str, int] = {}
    for change in changes:
        if change.topic.startswith("orders/") and change.resource not in gone:
            last[change.resource] = max(last.get(change.resource, 0), change.version or 0)
    return Counter_(from_micros(version).date().isoformat() for version in last.values())


async def test_what_was_dropped_is_missing_on_its_day_and_nowhere_else(world: World) -> None:
    changes = world.go_on(700)
    gone = {change.resource for change in changes if change.topic.endswith("/delete")}
    creation = next(c for c in changes if c.topic == "orders/create" and c.resource not in gone)
    deletion = next(c for c in changes if c.topic == "products/delete")
    # All changes of the second day: of some orders the newest on the tape is of the first day then.
    updates = [c for c in changes if c.topic == "orders/updated" and c.resource not in gone and c.triggered_at.startswith("2026-11-17")]
    lost = [creation, deletion, *updates]
    arrived = [change for change in changes if change not in lost]
    world.arrive(arrived)
    world.clock.now += 3600

    counts = await world.count()

    def missing(topic: str) -> dict[str, int | None]:
        return {day(row): row.missing for row in of(counts, topic)}

    assert missing("orders/create") == {when: int(when == creation.triggered_at[:10]) for when in missing("orders/create")}
    assert missing("products/delete") == {when: int(when == deletion.triggered_at[:10]) for when in missing("products/delete")}
    # Where an earlier change of a resource is the newest on the tape, that earlier day has one too many.
    true, told = newest(changes), newest(arrived)
    assert missing("orders/updated") == {when: true[when] - told[when] for when in missing("orders/updated")}
    assert any(missing("orders/updated").values())
    others = {row.verdict for row in counts.rows if row.cell.family.name in ("customers", "collections") and not row.cell.why}
    assert others == {Verdict.EQUAL}


async def test_a_creation_whose_webhook_was_triggered_after_midnight_is_no_gap_and_a_dropped_one_is(world: World) -> None:
    world.clock.now = datetime(2026, 11, 16, 23, 59, 40, tzinfo=UTC).timestamp()
    changes = world.go_on(120, 0.33)
    world.go_on(10, 400.0)
    world.arrive(world.changes, late=30_000_000)
    first = of(counts := await world.count(topics=["orders/create"]), "orders/create")
    assert {row.verdict for row in counts.rows} == {Verdict.EQUAL}
    assert figures(first)[0][0] > 0

    world.ledger.catalogue.reset()
    world.offset = 0
    gone = {change.resource for change in world.changes if change.topic == "orders/delete"}
    dropped = next(change for change in changes if change.topic == "orders/create" and change.resource not in gone)
    world.arrive([change for change in world.changes if change is not dropped], late=30_000_000)
    gaps = [row for row in (await world.count(topics=["orders/create"])).rows if row.verdict is Verdict.GAP]
    assert [(day(row), row.missing) for row in gaps] == [("2026-11-16", 1)]


async def test_what_an_index_that_lags_still_counts_on_its_old_day_is_no_gap(world: World) -> None:
    world.go_on(300)
    world.clock.now = datetime(2026, 11, 17, 12, tzinfo=UTC).timestamp()
    world.go_on(150, 5.0)
    world.arrive(world.changes)
    world.shop.incidents.start("search_lag", seconds=1200.0)
    assert Verdict.GAP not in {row.verdict for row in (await world.count()).rows}


async def test_a_groups_handlers_finish_what_the_tape_has(world: World) -> None:
    changes = world.go_on(400)
    world.arrive(changes)
    world.ledger.handlers.record("g", [Known("orders", ("orders/create",), True, True)], 1.0)
    world.ledger.ownership.heartbeat("g", "w", 1.0, 60.0)
    epoch = world.ledger.ownership.take("g", "w", [0], 1.0).epochs[0]
    gone = {change.resource for change in changes if change.topic == "orders/delete"}
    created = [event_of(change) for change in changes if change.topic == "orders/create" and change.resource not in gone]
    ends = [Finish(event.key, State.SUCCEEDED, 1, 0, epoch, event.topic) for event in created[2:]]
    assert all(world.ledger.outcomes.finish("g", "w", ends, 2.0))
    counts = await world.count(group="g")
    rows = of(counts, "orders/create")
    assert sum(row.tape.open or 0 for row in rows if row.tape) == 2
    assert rows[0].verdict is Verdict.OPEN
    assert {row.finished for row in of(counts, "products/update")} == {None}


async def test_customers_are_counted_by_the_shops_whole_days_only(world: World) -> None:
    world.shop.incidents.start("whole_days", types=["customer"])
    world.arrive(world.go_on(900))
    topics = ["customers/create", "customers/update"]
    assert {row.cell.why for row in (await world.count(topics=topics)).rows} == {counting.WHOLE_DAYS}
    counts = await world.count(topics=topics, home=True)
    whole = [row for row in counts.rows if not row.cell.why]
    assert {row.verdict for row in whole} == {Verdict.EQUAL}
    assert sum(shopify for shopify, _ in figures(whole)) > 0


async def test_what_lies_before_the_tape_and_what_may_not_be_read_is_not_countable(world: World) -> None:
    world.arrive(world.go_on(300))
    world.ledger.catalogue.reset()
    world.shop.incidents.start("scopes_lost", scopes=["read_customers"])
    assert {row.cell.why for row in (await world.count(until=round(BEGAN + 59) * 1_000_000)).rows if row.cell.family.name == "orders"} <= {
        counting.BEFORE}  # fmt: skip
    counts = await world.count(since=round(BEGAN - 86_400) * 1_000_000)
    early = [row for row in counts.rows if day(row) == "2026-11-15" and row.cell.family.name != "customers"]
    assert {row.cell.why for row in early} == {counting.BEFORE}
    assert {row.cell.why for row in of(counts, "customers/create")} == {counting.SCOPE + "read_customers"}


async def test_one_shop_that_refuses_stops_no_other(world: World) -> None:
    world.arrive(world.go_on(50))
    other = "other.myshopify.com"
    found = await Counter(world.settings, world.ledger, world.http).count(Wish([world.shop.domain, other], round(BEGAN) * 1_000_000))
    assert list(found.errors) == [other]
    assert {row.shop for row in found.rows} == {world.shop.domain}


@pytest.mark.parametrize(("arguments", "says"), [
    (["--topic", "products"], "products is no topic in HOOKTAPE_TOPICS"), (["--since", "1h", "--until", "2h"], "--since must be before"),
    (["--shop", "other"], "has no token for other.myshopify.com"),
])  # fmt: skip
def test_wrong_arguments_say_what_to_write(arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKTAPE_SHOP_TOKENS", "one.myshopify.com=t")
    monkeypatch.setenv("HOOKTAPE_KAFKA", "127.0.0.1:1")
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert isinstance(result.exception, HooktapeError)
    assert says in str(result.exception)
    assert result.exception.exit_code == 2


@pytest.mark.kafka
async def test_the_command_reads_the_tape_and_says_what_to_do(
    tape: Settings, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = begun()
    async with opened(clock, seed=21) as shop:
        env = environment(tape, shop, tmp_path, HOOKTAPE_RECONCILE_GRACE="0ms")
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        ledger.reconcile.cover_from(shop.domain, "orders", round(clock.now - 3600) * 1_000_000)
        changes = changes_of(shop, clock, 60)
        clock.now += 60
        last = {change.resource: change for change in changes}
        lost = next(change for change in changes if change.topic == "orders/create" and last[change.resource] is not change)

        def run(*arguments: str) -> Any:
            return CliRunner().invoke(command, ["--since", "1d", *arguments], standalone_mode=False)

        assert isinstance((await asyncio.to_thread(run, "--topic", "orders/*")).exception, Incomplete), "the tape is empty"
        await deliver(tape, [change for change in changes if change is not lost])
        result = await asyncio.to_thread(run, "--topic", "orders/*", "--json")
        assert isinstance(result.exception, Incomplete), result.output
        assert result.exception.exit_code == 5
        said = json.loads(result.stdout)
        gaps = [row for row in said["rows"] if row["verdict"] == "gap"]
        assert [(row["topic"], row["counts"], row["missing"]) for row in gaps] == [("orders/create", "created", 1)]
        assert "hooktape reconcile --once --since" in said["next"][0]
        assert "orders/cancelled" in said["uncountable"]

        await deliver(tape, [lost])
        result = await asyncio.to_thread(run, "--topic", "orders/*")
        assert result.exception is None, result.output
        assert "Not countable:" in result.stdout
        assert result.stdout.split()[:4] == ["SHOP", "DAY", "TOPIC", "COUNTS"]
        nobody = await asyncio.to_thread(run, "--group", "nobody")
        assert isinstance(nobody.exception, UsageError)
        assert os.environ["HOOKTAPE_SHOP_TOKENS"].split("=")[1] not in result.output


