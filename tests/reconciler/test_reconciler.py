"""The reconciler against a real Kafka and a local shop's real HTTP."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from random import Random

import httpx
import pytest

from hooktape import metrics
from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.model import WHOLE, Change
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler import performing
from hooktape.reconciler.bulk import Lister, Pace
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.report import Report, sentence
from hooktape.reconciler.service import Reconciler
from hooktape.schemas import resources
from hooktape.settings import Secret, Settings
from hooktape.tape import topics

from .conftest import Clock, deliver, on_tape, pointed_at

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]
WIDE = {"bucket": 1_000_000.0, "restore": 1_000_000.0}  # a plan whose points never hold a test up


def opened(clock: Clock, **options: object) -> LocalShop:
    return LocalShop(clock=clock, plan=Plan("wide", **WIDE), **options)  # type: ignore[arg-type]


async def passed(settings: Settings, ledger: Ledger, clock: Clock, shop: str, **options: object) -> list[Report]:
    async with Reconciler(settings, ledger, clock=clock, lease_ttl=2.0) as reconciler:
        return await reconciler.pass_(shop, **options)  # type: ignore[arg-type]


def changes_of(shop: LocalShop, clock: Clock, count: int) -> list[Change]:
    """`count` changes, four a second, and the other webhooks of the last act."""
    made: list[Change] = []
    while len(made) < count or shop.shop.untold:
        clock.now += 0.25
        made.append(shop.shop.change(clock.now))
    clock.now += 2
    return made


def dropped(changes: Sequence[Change], share: float, seed: int) -> tuple[list[Change], set[str]]:
    """What arrives when `share` is dropped, and the resources whose newest state isn't among it, or a step that has a time."""
    rng = Random(seed)
    arrived = [change for change in changes if rng.random() >= share]
    stepped = {topic for family in FAMILIES.values() for topic in family.stamps}
    steps = {change.resource for change in changes if change.topic in stepped and change not in arrived}
    newest = {change.resource: change.version for change in changes}
    held: dict[str, int] = {}
    for change in arrived:
        held[change.resource] = max(held.get(change.resource, 0), change.version or 0)
    return arrived, steps | {resource for resource, version in newest.items() if held.get(resource, 0) < (version or 0)}


def begun() -> Clock:
    # The tape's records carry the broker's clock: the shop's time starts where all of its changes end before the real now.
    return Clock(float(int(time.time()) - 200))


def received() -> float:
    """Synthetic events that the metric has counted."""
    samples = (sample for metric in metrics.EVENTS_RECEIVED.collect() for sample in metric.samples)
    return sum(s.value for s in samples if s.name.endswith("_total") and s.labels["source"] == "reconciler")


async def test_exactly_the_dropped_ones_are_found_and_a_second_pass_adds_nothing(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=7) as shop:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        arrived, missing = dropped(changes_of(shop, clock, 300), 0.05, seed=7)
        assert missing
        await deliver(settings, arrived)
        before = received()

        reports = await passed(settings, ledger, clock, shop.domain)

        assert [report.error for report in reports] == ["", "", ""]
        assert {resource for report in reports for resource in report.missing} == missing
        assert all(report.complete for report in reports)
        assert sum(report.tally.recorded for report in reports) == len(missing)
        recorded = on_tape(settings)
        assert {event.resource for event in recorded} == missing
        assert len({(event.resource, event.topic) for event in recorded}) == len(recorded) == received() - before
        for event in recorded:
            live = shop.shop.get(event.resource or "")
            assert live is not None
            assert event.version_us == live.updated * 1_000_000
            assert (event.hmac, event.source, event.api_version) == (None, "reconciler", "2026-04")
            assert resources.find(event.topic, event.payload).root == event.resource_root

        clock.now += 5
        again = await passed(settings, ledger, clock, shop.domain)
        assert sum(report.tally.recorded for report in again) == 0
        assert len(on_tape(settings)) == len(recorded)
        assert ledger.reconcile.pending() == []
        assert len(ledger.audit.list()) == len([report for report in reports if report.tally.recorded])
        shown = sum(report.tally.shown for report in reports)
        assert sentence(reports).startswith(f"Of {shown:,} changes Shopify shows, {shown - len(missing):,} were on the tape")


async def test_a_created_one_that_never_came_is_recorded_as_created_and_a_changed_one_as_updated(
    tape: Settings, ledger: Ledger
) -> None:
    clock = begun()
    async with opened(clock, seed=3) as shop:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        first = changes_of(shop, clock, 40)
        created = next(change for change in first if change.topic == "orders/create")
        other = next(change for change in first if change.topic == "orders/create" and change is not created)
        await deliver(settings, [change for change in first if change.resource != created.resource])
        resource = shop.shop.get(other.resource)
        assert resource is not None
        clock.now += 5
        shop.shop.change(clock.now, resource)
        clock.now += 2

        await passed(settings, ledger, clock, shop.domain)

        assert {(event.resource, event.topic) for event in on_tape(settings)} == {
            (created.resource, "orders/create"), (other.resource, "orders/updated")}  # fmt: skip


async def test_a_late_webhook_inside_the_grace_makes_no_event(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=5) as shop:
        settings = pointed_at(tape, shop, reconcile_grace=30.0)
        await passed(settings, ledger, clock, shop.domain)
        changes = changes_of(shop, clock, 40)
        late = {changes[-1].resource, changes[-5].resource}
        await deliver(settings, [change for change in changes if change.resource not in late])
        reports = await passed(settings, ledger, clock, shop.domain)
        assert sum(report.tally.pending for report in reports) == len(late)
        first_seen = {row.resource: row.first_seen for row in ledger.reconcile.pending()}

        await deliver(settings, [change for change in changes if change.resource in late])
        clock.now += 31
        reports = await passed(settings, ledger, clock, shop.domain)

        assert first_seen.keys() == late
        assert sum(report.tally.late for report in reports) == len(late)
        assert on_tape(settings) == []
        assert ledger.reconcile.pending() == []


async def test_what_never_comes_is_recorded_only_after_the_grace(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=6) as shop:
        settings = pointed_at(tape, shop, reconcile_grace=30.0, reconcile_overlap=1.0)
        await passed(settings, ledger, clock, shop.domain)
        await deliver(settings, changes_of(shop, clock, 20)[:-1])
        await passed(settings, ledger, clock, shop.domain)
        clock.now += 29
        await passed(settings, ledger, clock, shop.domain)
        assert on_tape(settings) == []

        clock.now += 2
        await passed(settings, ledger, clock, shop.domain)

        assert len(on_tape(settings)) == 1


async def test_a_first_run_on_an_old_shop_records_nothing_older_than_the_tape(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=8) as shop:
        settings = pointed_at(tape, shop)
        changes_of(shop, clock, 100)  # its life before Hooktape
        clock.now = float(int(time.time()) + 1)
        first = changes_of(shop, clock, 6)
        await deliver(settings, first)
        clock.now += 2

        reports = await passed(settings, ledger, clock, shop.domain)

        assert on_tape(settings) == []
        assert {report.tally.recorded for report in reports} == {0}
        assert all(report.complete for report in reports)


async def test_coverage_begins_with_the_oldest_record_in_shopifys_time_but_not_with_that_of_a_late_retry(
    tape: Settings, ledger: Ledger
) -> None:
    now = float(int(time.time()))
    clock = Clock(now - 500)
    async with opened(clock, seed=14) as shop:
        settings = pointed_at(tape, shop)
        late = next(change for change in changes_of(shop, clock, 40) if change.topic == "orders/create")
        clock.now = now - 5
        prompt = next(change for change in changes_of(shop, clock, 12) if change.topic == "products/create")
        clock.now = now + 5
        await deliver(settings, [late, prompt])

        await passed(settings, ledger, clock, shop.domain)

        assert (ledger.reconcile.cursor(shop.domain, "orders").coverage_from or 0) >= now * 1_000_000
        assert ledger.reconcile.cursor(shop.domain, "products").coverage_from == prompt.version


async def test_a_dry_run_reports_the_same_and_changes_nothing(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=9) as shop:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        arrived, missing = dropped(changes_of(shop, clock, 60), 0.2, seed=9)
        await deliver(settings, arrived)
        before = [ledger.reconcile.cursor(shop.domain, name) for name in FAMILIES]

        dry = await passed(settings, ledger, clock, shop.domain, dry_run=True)

        assert on_tape(settings) == []
        assert [ledger.reconcile.cursor(shop.domain, name) for name in FAMILIES] == before
        assert ledger.reconcile.pending() == []
        assert "would be recorded" in sentence(dry)
        wet = await passed(settings, ledger, clock, shop.domain)
        assert {r for report in dry for r in report.missing} == {r for report in wet for r in report.missing} == missing
        assert [report.tally for report in dry] == [report.tally for report in wet]


async def test_a_shop_whose_token_is_refused_stops_no_other(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=10) as shop:
        settings = pointed_at(tape, shop)
        settings = replace(settings, shop_tokens={"a.myshopify.com": Secret("wrong"), **settings.shop_tokens})
        await passed(settings, ledger, clock, shop.domain)
        await deliver(settings, changes_of(shop, clock, 20)[:-1])

        async with Reconciler(settings, ledger, clock=clock) as reconciler:
            reports = await reconciler.round()

        refused = [report for report in reports if report.shop == "a.myshopify.com"]
        assert {report.reason for report in refused} == {"unauthorized"}
        assert "wrong" not in str([report.as_json() for report in refused])
        assert len(on_tape(settings)) == 1
        assert ledger.reconcile.last_success().keys() == {shop.domain}


async def test_two_reconcilers_at_once_record_once(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=11) as shop:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        arrived, missing = dropped(changes_of(shop, clock, 80), 0.2, seed=11)
        await deliver(settings, arrived)

        async with Reconciler(settings, ledger, clock=clock) as one, Reconciler(settings, ledger, clock=clock) as two:
            both = await asyncio.gather(one.pass_(shop.domain), two.pass_(shop.domain))

        assert sorted(reports[0].reason for reports in both) == ["", "busy"]
        recorded = [(event.resource, event.topic) for event in on_tape(settings)]
        assert {resource for resource, _ in recorded} == missing
        assert len(set(recorded)) == len(recorded)


async def test_of_a_topic_that_is_not_wanted_nothing_is_recorded(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    narrow = replace(tape, topics=("orders/create", "orders/updated", "orders/cancelled", "orders/delete", "products/create"))
    async with opened(clock, seed=12) as shop:
        settings = pointed_at(narrow, shop)
        await passed(settings, ledger, clock, shop.domain)
        changes = changes_of(shop, clock, 80)
        arrived, missing = dropped(changes, 0.2, seed=12)
        await deliver(settings, arrived)

        reports = await passed(settings, ledger, clock, shop.domain)

        created = {change.resource for change in changes if change.topic == "products/create" and change not in arrived}
        assert created
        assert [report.family for report in reports] == ["orders", "products"]
        assert {event.resource for event in on_tape(settings)} == created | {name for name in missing if name.startswith("order/")}
        assert {event.topic for event in on_tape(settings) if event.resource in created} == {"products/create"}
        (customers,) = await passed(settings, ledger, clock, shop.domain, families=[FAMILIES["customers"]])
        assert (customers.reason, customers.tally.shown) == ("unwanted", 0)


async def test_all_families_of_a_whole_shop_are_compared_by_default(settings: Settings, ledger: Ledger) -> None:
    clock = begun()
    wide = replace(settings, topics=tuple(f"{name}/*" for name in FAMILIES))
    topics.apply(wide)
    async with opened(clock, seed=15, mix=WHOLE) as shop:
        wide = pointed_at(wide, shop)
        await passed(wide, ledger, clock, shop.domain)
        changes = changes_of(shop, clock, 300)
        await deliver(wide, [change for change in changes if change.topic != "refunds/create"])

        reports = await passed(wide, ledger, clock, shop.domain)

        assert [(report.family, report.error) for report in reports] == [(name, "") for name in FAMILIES]
        refunds = {change.resource for change in changes if change.topic == "refunds/create"}
        assert refunds
        assert {event.resource for event in on_tape(wide)} == refunds


async def test_a_window_whose_list_comes_from_a_bulk_operation_is_compared_alike(
    tape: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = begun()
    async with opened(clock, seed=16) as shop, httpx.AsyncClient() as http:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        arrived, missing = dropped(changes_of(shop, clock, 80), 0.2, seed=16)
        await deliver(settings, arrived)
        async with Reconciler(settings, ledger, clock=clock, http=http) as reconciler:
            monkeypatch.setattr(performing, "Lister", partial(Lister, pace=Pace(0.01, 0.01), estimate=1, portion=7))

            reports = await reconciler.pass_(shop.domain)

        assert [(report.error, report.complete) for report in reports] == [("", True)] * 3
        assert shop.admin.bulk.operations
        assert {event.resource for event in on_tape(settings)} == missing
        assert ledger.bulk.open(shop.domain) == []
