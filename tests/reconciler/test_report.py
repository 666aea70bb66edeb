"""The report of kept passes: from a local shop and a real tape, as the command prints it, and as figures for Prometheus."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import REGISTRY

from hooktape.cli import reconcile_report
from hooktape.cli.reconcile import command
from hooktape.errors import Incomplete, NothingMatched, UsageError
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.reckoning import Kept, Tally, together
from hooktape.ledger.reconcile import Pending
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.measuring import Figures
from hooktape.reconciler.report import Report
from hooktape.settings import Secret, Settings

from .conftest import Clock, deliver, pointed_at
from .test_reconciler import begun, changes_of, opened, passed

SHOP = "acme.myshopify.com"


def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[str, BaseException | None]:
    monkeypatch.setattr("hooktape.cli.common.load", lambda: Settings(database_url=Secret(f"sqlite:///{tmp_path / 'ledger.db'}")))
    done = CliRunner().invoke(command, ["report", *words])
    return done.stdout, done.exception


@pytest.mark.kafka
@pytest.mark.anyio
async def test_each_change_counts_once_however_many_passes_look_at_it(tape: Settings, ledger: Ledger) -> None:
    clock: Clock = begun()
    async with opened(clock, seed=31) as shop:
        settings = pointed_at(tape, shop, reconcile_overlap=3600.0)
        await passed(settings, ledger, clock, shop.domain)
        distinct = 0
        for _ in range(2):
            changes = changes_of(shop, clock, 24)
            distinct += len({change.resource for change in changes if change.resource.split("/")[0] in ("order", "product", "customer")})
            lost = changes[-1].resource
            await deliver(settings, [change for change in changes if change.resource != lost])
            await passed(settings, ledger, clock, shop.domain)
        rows = [together(ledger.reports.of(*pair)) for pair in ledger.reports.pairs()]
        # The first pass begins where recording does, and looks at what the shop had before within its window.
        first = sum(ledger.reports.of(*pair)[0].tally.shown for pair in ledger.reports.pairs())
        assert sum(row.tally.shown for row in rows if row) == first + distinct
        assert sum(row.tally.recorded for row in rows if row) == 2
        assert sum(one.tally.shown for one in ledger.reports.latest()) > first + distinct
        assert all(row and row.state == "complete" and row.exact for row in rows)


def test_the_command_prints_a_row_for_each_family_the_reasons_and_a_sentence(ledger: Ledger, tmp_path: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    said, error = ran(tmp_path, monkeypatch)
    assert isinstance(error, NothingMatched)
    orders = Kept(1_000.0, SHOP, "orders", "fast", (1_000_000, 2_000_000), 9, True, Tally(covered=8, covered_anew=8, recorded=1), True, 40,
                  1, "order/7", "order/7", {"orders/edited": "a step"})  # fmt: skip
    ledger.reports.add(orders)
    ledger.reports.add(replace(orders, family="products", tally=Tally(covered=2, covered_anew=2), missing=0, unverifiable={}))
    said, error = ran(tmp_path, monkeypatch, "--shop", SHOP, "--family", "orders", "--family", "products")
    assert error is None
    assert said.splitlines()[-1] == ("Of 11 changes Shopify shows, 10 were on the tape, 0 came late, 0 may still come, 1 were recorded; "
                                     "1 topic cannot be checked.")  # fmt: skip
    assert "can't be checked: orders/edited: a step" in said
    data = json.loads(ran(tmp_path, monkeypatch, "--json", "--family", "orders")[0])
    (row,) = data["rows"]
    assert (row["compared"], row["counted"], row["exact"], row["first_missing"], row["coverage"]) == (9, 9, True, "order/7", 8 / 9)

    ledger.reports.add(Kept(2_000.0, SHOP, "products", "fast", reason="scope", error="no scope"))
    said, error = ran(tmp_path, monkeypatch)
    assert isinstance(error, Incomplete)
    assert "window open: acme.myshopify.com products: no scope" in said
    said, error = ran(tmp_path, monkeypatch, "--since", "1h")
    assert isinstance(error, NothingMatched)


def test_options_of_a_pass_before_the_report_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(command, ["--dry-run", "report"])
    assert isinstance(done.exception, UsageError)
    assert "--dry-run before `report`" in str(done.exception)
    assert reconcile_report.command.name == "report"


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"hooktape_reconcile_{name}", labels)


def test_figures_follow_the_passes_and_what_is_over_leaves_no_figure(ledger: Ledger) -> None:
    clock = Clock(10_000.0)
    figures = Figures(Settings(), ledger, clock, FAMILIES.values())
    before = value("covered_total", topic="orders/updated") or 0.0
    lost = Report(SHOP, "orders", tally=Tally(covered=9, covered_anew=3, recorded=1), complete=True,
                  unverifiable={"orders/edited": "a step"})  # fmt: skip
    for _ in range(3):
        figures.ended(lost)
        ledger.reports.add(lost.kept(clock.now))
    ledger.timetable.park(SHOP, "locked", 9_000.0, 1.0)
    ledger.reconcile.advance(SHOP, "orders", 9_400_000_000, clock.now)
    figures.measure()
    assert value("covered_total", topic="orders/updated") == before + 9
    assert value("missing_passes", topic="orders/updated") == 3
    assert value("coverage_ratio", topic="orders/updated") == 0.75
    assert value("unverifiable", reason="no_list") == 1
    assert value("parked_timestamp_seconds", shop=SHOP, reason="locked") == 9_000
    assert value("oldest_open_window_seconds", shop=SHOP) == 600
    clock.now += 7_200
    assert value("oldest_open_window_seconds", shop=SHOP) == 7_800
    ledger.timetable.unpark(SHOP)
    figures.ended(Report(SHOP, "orders", tally=Tally(covered=1, covered_anew=1), complete=True))
    figures.measure()
    assert value("missing_passes", topic="orders/updated") == 0
    assert value("parked_timestamp_seconds", shop=SHOP, reason="locked") is None
    assert value("coverage_ratio", topic="orders/updated") is None
    assert value("unverifiable", reason="no_list") is None
    figures.ended(Report(SHOP, "orders", reason="protected", unverifiable={"orders/updated": "not approved"}))
    figures.measure()
    assert value("unverifiable", reason="protected") == 1


def test_a_shop_that_has_gone_alarms_nobody(ledger: Ledger) -> None:
    clock, stays, goes = Clock(10_000.0), "stays.myshopify.com", "goes.myshopify.com"
    figures = Figures(Settings(), ledger, clock, FAMILIES.values())
    for shop in (stays, goes):
        figures.ended(Report(shop, "orders", tally=Tally(covered=9, covered_anew=3, recorded=1), unverifiable={"orders/edited": "a step"}))
        ledger.timetable.park(shop, "unauthorized", 9_000.0, 1.0)
        ledger.reconcile.advance(shop, "orders", 9_400_000_000, clock.now)
        # Of the families that are looked at, and of one that was.
        ledger.reconcile.put_pending([Pending(shop, family, "order/1", 1, "delete", "orders/delete", 9_000.0, {}, held=True)
                                      for family in ("orders", "unwanted")])  # fmt: skip

    def shown() -> list[float | None]:
        return [value(name, shop=shop, **more) for shop in (stays, goes) for name, more in (
            ("parked_timestamp_seconds", {"reason": "unauthorized"}), ("oldest_open_window_seconds", {}),
            ("last_success_timestamp_seconds", {}))]  # fmt: skip

    figures.measure({stays, goes})
    assert (shown(), value("unverifiable", reason="no_list"), value("held_deletions")) == ([9_000, 600, 10_000] * 2, 2, 2)
    figures.measure({stays})
    assert shown() == [9_000, 600, 10_000, None, None, None]
    assert [value(name) for name in ("pending", "suspected", "held_deletions")] == [1, 1, 1]
    assert value("unverifiable", reason="no_list") == 1
    # The last one goes, which is another thing than that nobody has said which there are.
    figures.measure(set())
    assert shown() == [None] * 6
    figures.measure()
    assert shown()[1:3] == [600, 10_000]


def test_one_lost_webhook_is_out_of_the_coverage_before_an_hour_is_over_though_the_next_pass_is_late(ledger: Ledger) -> None:
    clock = Clock(10_000.0)
    figures = Figures(Settings(), ledger, clock, FAMILIES.values())
    ledger.reports.add(Report(SHOP, "orders", tally=Tally(covered=9, covered_anew=9, recorded=1), complete=True).kept(clock.now))
    figures.measure()
    assert value("coverage_ratio", topic="orders/updated") == 0.9
    # The alert waits for an hour; passes come every five minutes, and this one some seconds early.
    clock.now += 3600 - 300 - 5
    figures.measure()
    assert value("coverage_ratio", topic="orders/updated") is None
