"""Deletions, against a real Kafka and a local shop: told by `events`, or found by the sweep; never invented."""

import pytest

from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.model import DELETING, Change
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler.schedule import Pass
from hooktape.schemas.event import Event
from hooktape.settings import Settings

from .conftest import Clock, deliver, on_tape, pointed_at
from .test_reconciler import begun, changes_of, opened, passed

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]
LATER = 5.0  # seconds between two looks, for the ten minutes of the default


def lost(changes: list[Change]) -> tuple[list[Change], set[str]]:
    """What arrives when no webhook of a deletion does, and what was deleted."""
    return [change for change in changes if not change.deleted], {change.resource for change in changes if change.deleted}


async def looked(settings: Settings, ledger: Ledger, clock: Clock, shop: LocalShop, times: int = 2, **options: object) -> list[Event]:
    """The deletions on the tape after some fast passes."""
    for _ in range(times):
        await passed(settings, ledger, clock, shop.domain, **options)
        clock.now += LATER
    return [event for event in on_tape(settings) if event.topic.endswith("/delete")]


async def test_a_products_deletion_is_found_by_the_events_and_the_others_by_the_sweep(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=31, mix=DELETING) as shop:
        settings = pointed_at(tape, shop, reconcile_apart=LATER, reconcile_overlap=1.0)
        await passed(settings, ledger, clock, shop.domain)
        arrived, gone = lost(changes_of(shop, clock, 250))
        await deliver(settings, arrived)
        products = {name for name in gone if name.startswith("product/")}
        assert products
        assert gone - products

        made = await looked(settings, ledger, clock, shop)
        assert {event.resource for event in made} == products
        assert all(event.json() == {"id": int((event.resource or "").partition("/")[2])} for event in made)

        reports = await passed(settings, ledger, clock, shop.domain, kind=Pass.SWEEP)
        assert sum(report.tally.doubted for report in reports) == len(gone - products)
        made = await looked(settings, ledger, clock, shop)
        assert sorted(event.resource or "" for event in made) == sorted(gone)
        assert len({event.webhook_id for event in made}) == len(gone)

        await passed(settings, ledger, clock, shop.domain, kind=Pass.SWEEP)
        assert len(await looked(settings, ledger, clock, shop, 1)) == len(gone)
        assert ledger.reconcile.pending() == []


async def test_a_sweep_of_a_shop_that_hides_some_deletes_nothing(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=32) as shop:
        settings = pointed_at(tape, shop, reconcile_apart=LATER, reconcile_overlap=1.0)
        await passed(settings, ledger, clock, shop.domain)
        await deliver(settings, changes_of(shop, clock, 120))
        for incident, parameters in (("ids_missing", {"share": 0.05}), ("scopes_lost", {"scopes": ("read_all_orders",)}),
                                     ("node_null", {"share": 0.05})):  # fmt: skip
            shop.incidents.start(incident, **parameters)  # type: ignore[arg-type]
            await passed(settings, ledger, clock, shop.domain, kind=Pass.SWEEP)
            assert await looked(settings, ledger, clock, shop) == []
            shop.incidents.stop()
        assert [event for event in on_tape(settings) if event.topic.endswith("/delete")] == []


async def test_a_deletion_whose_webhook_is_late_is_not_recorded(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=31, mix=DELETING) as shop:
        settings = pointed_at(tape, shop, reconcile_apart=LATER, reconcile_overlap=1.0)
        await passed(settings, ledger, clock, shop.domain)
        changes = changes_of(shop, clock, 120)
        arrived, _ = lost(changes)
        await deliver(settings, arrived)
        assert await looked(settings, ledger, clock, shop, 1) == []
        assert {entry.kind for entry in ledger.reconcile.pending()} == {"delete"}
        await deliver(settings, [change for change in changes if change.deleted])
        assert await looked(settings, ledger, clock, shop) == []
        assert ledger.reconcile.pending() == []


async def test_a_closed_shop_is_parked_and_looked_at_again_when_its_api_opens(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=33) as shop:
        settings = pointed_at(tape, shop)
        shop.incidents.start("unpaid")
        for _ in range(2):
            assert {report.reason for report in await passed(settings, ledger, clock, shop.domain)} == {"payment_required"}
            clock.now += 10
        (parked,) = ledger.timetable.parked().values()
        assert (parked.reason, parked.since, parked.probe_at) == ("payment_required", clock.now - 20, clock.now - 10 + 3600)
        shop.incidents.stop()
        assert all(report.complete for report in await passed(settings, ledger, clock, shop.domain))
        assert ledger.timetable.parked() == {}


async def test_a_webhook_that_comes_after_its_synthetic_event_is_counted_once(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=6) as shop:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        changes = changes_of(shop, clock, 20)
        await deliver(settings, changes[:-1])
        await passed(settings, ledger, clock, shop.domain)
        assert [event.resource for event in on_tape(settings)] == [changes[-1].resource]
        await deliver(settings, changes[-1:])
        found = [sum(report.tally.late_after for report in await passed(settings, ledger, clock, shop.domain)) for _ in range(2)]
        assert found == [1, 0]
