"""The doctor against a real Kafka and a local shop at which subscriptions go wrong, by the shop's own clock."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx
import pytest

from hooktape import metrics
from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler.doctor.facts import Reached
from hooktape.reconciler.doctor.visiting import Doctor, Look
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings
from hooktape.tape import headers, topics
from hooktape.tape.names import Names
from hooktape.tape.publisher import Publisher
from tests.tape.kit import PATIENT

from .conftest import Clock, deliver, on_tape, pointed_at

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]
URL = "https://hooks.example/webhooks"
TOPICS = ("orders/create", "orders/updated", "products/create", "products/update")
GONE = "orders/updated"
MINUTE = 60.0


@pytest.fixture
def tape(settings: Settings) -> Settings:
    """The run's settings with the logs of these topics made."""
    narrowed = replace(settings, topics=TOPICS)
    topics.apply(narrowed)
    return narrowed


@dataclass(slots=True)
class World:
    """A shop whose webhooks arrive as its subscriptions have them, and whoever watches it."""

    settings: Settings
    ledger: Ledger
    clock: Clock
    shop: LocalShop
    reconciler: Reconciler
    doctor: Doctor

    async def minutes(self, count: int, look_for: str = "") -> float | None:
        """Lets time pass, with a pass every five minutes and a look every fifteen, as by default. After how many that problem was found;
        None: it never was."""
        began = self.clock.now
        for five in range(1, count // 5 + 1):
            await self.changes(20)
            reports = await self.reconciler.pass_(self.shop.domain)
            assert [report.error for report in reports] == [""] * len(reports)
            if five % 3 == 0 and look_for in await self.problems():
                return (self.clock.now - began) / MINUTE
        return None

    async def changes(self, count: int) -> None:
        """So many changes, four a minute, and the webhooks that are sent of them."""
        made = []
        for _ in range(count):
            self.clock.now += MINUTE / 4
            made.append(self.shop.shop.change(self.clock.now))
        sent = [self.shop.subscriptions.outgoing(change) for change in made]
        await deliver(self.settings, [change for change in sent if change is not None])

    async def look(self) -> Look:
        look = await self.doctor.look(self.shop.domain, wait=True)
        assert look is not None
        return look

    async def problems(self) -> dict[str, str]:
        """Problem → severity, of all that stands after a look."""
        return {one.problem: one.severity for one in (await self.look()).findings}


async def answered(address: str, http: httpx.AsyncClient) -> Reached:
    """As if an ingestor answered there."""
    return Reached()


@asynccontextmanager
async def world(tape: Settings, ledger: Ledger, by: str = "api", **changes: object) -> AsyncIterator[World]:
    # Time enough before the real now, which the broker's stamps are of, for a test's hours.
    clock = Clock(float(int(time.time()) - 7200))
    subscribed = TOPICS if by == "api" else None
    async with LocalShop(clock=clock, plan=Plan("wide", 1e6, 1e6), seed=31, target=URL, subscribed=subscribed) as shop:
        settings = pointed_at(tape, shop, webhook_url=URL, subscribed_by=by, reconcile_lag=60.0, reconcile_overlap=600.0,
                              reconcile_grace=1800.0, **changes)  # fmt: skip
        async with (Reconciler(settings, ledger, clock=clock) as reconciler,
                    Doctor(settings, ledger, clock=clock, look_back=reconciler.look_back, reach=answered) as doctor):  # fmt: skip
            await reconciler.pass_(shop.domain)
            yield World(settings, ledger, clock, shop, reconciler, doctor)


async def test_what_goes_wrong_with_a_subscription_that_the_api_shows_is_found_by_the_next_look(tape: Settings, ledger: Ledger) -> None:
    ways: list[tuple[str, dict[str, object], str]] = [
        ("subscription_changed", {"filter": "id:1"}, "filter"), ("subscription_changed", {"include_fields": ("id", "name")}, "fields"),
        ("subscription_changed", {"api_version": "2025-10"}, "version"),
        ("subscription_changed", {"uri": "https://other.example/"}, "address"), ("subscription_removed", {}, "missing")]  # fmt: skip
    async with world(tape, ledger) as here:
        assert await here.problems() == {}
        for incident, parameters, problem in ways:
            here.shop.incidents.start(incident, **parameters)  # type: ignore[arg-type]
            await here.look()
            assert {(one.problem, one.subject) for one in ledger.doctor.findings()} == {(problem, GONE)}
            here.shop.incidents.stop()
            assert await here.problems() == {}, problem


@pytest.mark.parametrize(("incident", "problem"), [
    (("subscription_removed", {}), "silent"),
    (("subscription_changed", {"filter": "id:1"}), "silent"),
    (("subscription_changed", {"include_fields": ("id", "name")}), "delivered_fields"),
    (("subscription_changed", {"api_version": "2025-10"}), "delivered_version"),
])  # fmt: skip
async def test_what_goes_wrong_in_the_apps_configuration_is_noticed_within_half_an_hour_though_the_api_shows_nothing(
    incident: tuple[str, dict[str, object]], problem: str, tape: Settings, ledger: Ledger
) -> None:
    async with world(tape, ledger, "app") as here:
        await here.minutes(5)
        assert await here.problems() == {}
        name, parameters = incident
        here.shop.incidents.start(name, **parameters)  # type: ignore[arg-type]
        after = await here.minutes(30, problem)
        assert after is not None
        assert after <= 30
        assert {(one.problem, one.subject) for one in ledger.doctor.findings()} == {(problem, GONE)}


async def test_silence_is_an_error_after_half_an_hour_and_over_when_webhooks_come_again(tape: Settings, ledger: Ledger) -> None:
    async with world(tape, ledger, "app") as here:
        await here.minutes(5)
        here.shop.incidents.start("subscription_removed", topics=(GONE,))
        # Grace is over meanwhile: what was missing is recorded, and still nothing came.
        assert await here.minutes(45, "never") is None
        assert await here.problems() == {"silent": "error"}
        assert {event.topic for event in on_tape(here.settings)} == {GONE}
        here.shop.incidents.stop()
        await here.minutes(5)
        assert await here.problems() == {}


async def test_a_missing_subscription_is_made_where_that_is_wanted_and_its_family_compared_again(tape: Settings, ledger: Ledger) -> None:
    asked: list[tuple[str, list[str], int | None]] = []

    async def look_back(shop: str, families: "tuple[Family, ...]", since: int | None) -> None:
        asked.append((shop, [family.name for family in families], since))

    async with world(tape, ledger) as here:
        await here.minutes(5)
        assert await here.problems() == {}
        lost = next(one for one in here.shop.subscriptions.shown() if one.topic == GONE)
        newest = next(one for one in ledger.doctor.heard() if one.topic == GONE).triggered_at
        here.shop.subscriptions.delete(lost.gid)
        others = {one.gid for one in here.shop.subscriptions.shown()}
        assert await here.problems() == {"missing": "error"}
        assert {one.gid for one in here.shop.subscriptions.shown()} == others

        async with Doctor(here.settings, ledger, clock=here.clock, look_back=look_back, repair=True) as repairing:  # type: ignore[arg-type]
            look = await repairing.look(here.shop.domain)
        assert look is not None
        assert (look.made, look.findings) == ((GONE,), ())
        assert asked == [(here.shop.domain, ["orders"], newest)]
        (made,) = [one for one in here.shop.subscriptions.shown() if one.gid not in others]
        assert (made.topic, made.uri, made.format) == (GONE, URL, "JSON")
        (entry,) = ledger.audit.of(here.shop.domain)
        assert (entry.who, entry.action, entry.detail["topic"]) == ("doctor", "doctor.subscribe", GONE)


async def test_after_a_repair_what_changed_meanwhile_is_looked_for(tape: Settings, ledger: Ledger) -> None:
    async with world(tape, ledger, "app") as here:
        await here.minutes(5)
        await here.look()
        here.shop.incidents.start("subscription_removed", topics=(GONE,))
        await here.changes(20)
        here.clock.now += 2 * MINUTE
        assert ledger.reconcile.pending() == []
        since = next(one for one in ledger.doctor.heard() if one.topic == GONE).triggered_at
        await here.reconciler.look_back(here.shop.domain, (FAMILIES["orders"], FAMILIES["discounts"]), since)
        assert {row.topic for row in ledger.reconcile.pending()} == {GONE}


async def test_each_way_in_which_a_shop_is_closed_is_told_and_what_was_found_before_stands(tape: Settings, ledger: Ledger) -> None:
    ways = {"token_revoked": "unauthorized", "unpaid": "payment_required", "forbidden": "forbidden", "locked": "locked",
            "shop_inactive": "shop_inactive", "version_falls_forward": "api_version"}  # fmt: skip
    async with world(tape, ledger) as here:
        for incident, reason in ways.items():
            here.shop.incidents.start("subscription_changed", topics=(GONE,), filter="id:1")
            assert await here.problems() == {"filter": "error"}
            (before,) = ledger.doctor.findings()
            here.shop.incidents.start(incident)
            here.clock.now += MINUTE
            found = {one.problem: one for one in (await here.look()).findings}
            assert set(found) == {"closed", "filter"}, incident
            assert found["closed"].subject == reason
            assert found["filter"] == before
            here.shop.incidents.stop()
            assert await here.problems() == {}, incident


async def test_a_closed_shop_is_not_asked_until_it_is_tried_again_but_by_hand(tape: Settings, ledger: Ledger) -> None:
    async with world(tape, ledger) as here:
        ledger.timetable.park(here.shop.domain, "locked", here.clock.now, here.clock.now + 3600)
        scheduled = await here.doctor.look(here.shop.domain)
        assert scheduled is not None
        assert [(one.problem, one.subject) for one in scheduled.findings] == [("closed", "locked")]
        assert await here.problems() == {}
        assert ledger.timetable.parked().keys() == {here.shop.domain}


async def test_lost_scopes_are_an_error_where_webhooks_had_come(tape: Settings, ledger: Ledger) -> None:
    async with world(tape, ledger) as here:
        await here.minutes(5)
        assert await here.problems() == {}
        here.shop.incidents.start("scopes_lost", scopes=("read_orders", "read_all_orders"))
        assert await here.problems() == {"scope": "error", "history": "notice"}


async def test_customer_data_that_the_app_is_not_approved_for_is_told_by_kind_and_orders_that_are_withheld_are_an_error(
    tape: Settings, ledger: Ledger
) -> None:
    async with world(tape, ledger) as here:
        await here.minutes(5)
        here.shop.incidents.start("personal_data_hidden", fields=("email", "address"))
        assert await here.problems() == {"protected": "notice"}
        assert {one.subject for one in ledger.doctor.findings()} == {"email", "address"}
        here.shop.incidents.start("personal_data_hidden", fields=("all",))
        assert await here.problems() == {"protected": "error"}
        assert {one.subject for one in ledger.doctor.findings()} == {"orders"}
        here.shop.incidents.stop()
        assert await here.problems() == {}


async def test_an_outage_that_ingest_left_on_the_tape_is_told(tape: Settings, ledger: Ledger) -> None:
    async with world(tape, ledger) as here:
        began = round((time.time() - 2 * 3600) * 1_000_000)
        publisher = Publisher(here.settings, **PATIENT)
        marks = {headers.SHOP: "another.myshopify.com", headers.TOPIC: GONE, headers.SOURCE: "webhook", headers.REFUSED_SINCE: str(began)}
        await publisher.publish(Names(here.settings.topic_prefix).log("orders.updated"), b"not ours", key="k", extra=marks)
        await publisher.close()
        assert [(one.problem, one.what) for one in (await here.look()).findings if one.problem != "refused"] == []
        assert await here.problems() == {"refused": "warning"}


async def test_one_doctor_at_a_time_looks_at_a_shop_and_only_when_it_is_due(tape: Settings, ledger: Ledger) -> None:
    async with world(tape, ledger) as here:
        assert await here.doctor.look(here.shop.domain, due=lambda: False) is None
        assert ledger.doctor.looked() == {}
        assert ledger.leases.acquire(f"doctor/{here.shop.domain}", "another", here.clock.now, 60) is not None
        assert await here.doctor.look(here.shop.domain) is None


async def test_the_address_is_asked_once_for_all_shops_of_a_round_and_again_in_the_next(tape: Settings, ledger: Ledger) -> None:
    asked: list[str] = []

    async def nobody(address: str, http: httpx.AsyncClient) -> Reached:
        asked.append(address)
        return Reached("nobody answers")

    async with world(tape, ledger) as here, Doctor(here.settings, ledger, clock=here.clock, reach=nobody) as doctor:
        for _ in range(3):
            look = await doctor.look(here.shop.domain)
            assert look is not None
            assert [(one.problem, one.severity) for one in look.findings] == [("unreachable", "warning")]
        assert asked == [URL]
        here.clock.now += MINUTE
        await doctor.look(here.shop.domain)
        assert asked == [URL, URL]


async def test_findings_are_metrics_while_they_stand(tape: Settings, ledger: Ledger) -> None:
    def exported() -> set[tuple[str, ...]]:
        return {tuple(sample.labels[name] for name in ("shop", "problem", "subject", "severity"))
                for metric in metrics.DOCTOR_FINDING.collect() for sample in metric.samples}  # fmt: skip

    async with world(tape, ledger) as here:
        here.shop.incidents.start("subscription_removed", topics=(GONE,))
        await here.look()
        assert exported() == {(here.shop.domain, "missing", GONE, "error")}
        assert metrics.DOCTOR_LOOKED.labels(here.shop.domain)._value.get() == here.clock.now
        here.shop.incidents.stop()
        await here.look()
        assert exported() == set()


async def test_a_kafka_that_is_away_leaves_what_the_api_shows(tape: Settings, ledger: Ledger) -> None:
    async with world(tape, ledger) as here:
        nowhere = replace(here.settings, kafka="127.0.0.1:1", read_timeout=0.5)
        here.shop.incidents.start("subscription_removed", topics=(GONE,))
        async with Doctor(nowhere, ledger, clock=here.clock, reach=answered) as doctor:
            look = await doctor.look(here.shop.domain)
        assert look is not None
        assert {one.problem for one in look.findings} == {"missing", "unheard"}
