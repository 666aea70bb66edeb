"""Passes as the service makes them, over a local shop's Admin API without sockets and a tape in memory."""

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import partial
from typing import Any

import httpx
import pytest

from hooktape.errors import LedgerError
from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.admin import Request
from hooktape.local.shop.model import API_VERSION
from hooktape.reconciler import performing
from hooktape.reconciler.bulk import Lister, Pace
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.measuring import Figures
from hooktape.reconciler.moves import Look, ReadTape
from hooktape.reconciler.performing import Run, Turn
from hooktape.reconciler.report import Report
from hooktape.reconciler.schedule import Pass
from hooktape.reconciler.service import Reconciler
from hooktape.reconciler.standing import DAY
from hooktape.schemas.event import Event
from hooktape.settings import Secret, Settings
from hooktape.tape.transactions import Outgoing
from hooktape.tape.wire import Wire
from hooktape.times import iso

from .conftest import Clock, event_of
from .showing import Showing

pytestmark = pytest.mark.anyio
Edit = Callable[[str, Mapping[str, Any], dict[str, Any]], dict[str, Any]]
SHOP = "one.myshopify.com"


class Tape:
    """Stands for the view of the tape, and for the writer."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.events, self.recorded, self._wire = list(events), list[Event](), Wire(Settings())

    def write(self, records: Sequence[Outgoing]) -> None:
        self.recorded += [self._wire.decode(record.value) for record in records]

    def close(self) -> None:
        """Nothing to end."""

    def coverage(self, shop: str, family: Family, since_us: int, wanted: frozenset[str] | None, *_: object) -> Coverage:
        coverage = Coverage(family, wanted=wanted)
        for event in [*self.events, *self.recorded]:
            if event.topic in family.topics:
                coverage.fold(event)
        return coverage

    def beginning(self, shop: str, family: Family) -> int:
        return 1_770_000_000_000_000


class Passes:
    """A shop of which every webhook came, and a reconciler. `edit` changes what the API answers: (query, variables, answer) → answer."""

    def __init__(self, ledger: Ledger, edit: Edit = lambda query, variables, answer: answer, changes: int = 600, **options: Any) -> None:
        self.showing, self.ledger, self.edit, self.asked = Showing(changes), ledger, edit, list[str]()
        self.clock = Clock(self.showing.now + 5)
        self.file = b""
        """Of a bulk operation."""
        self.tape = Tape([event_of(change, SHOP) for change in self.showing.changes])
        self.settings = Settings(shop_tokens={SHOP: Secret("token")}, topics=("*/*",),
                                 **{"reconcile_lag": 0.0, "reconcile_grace": 0.0} | options)  # fmt: skip

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, content=self.file)
        asked = json.loads(request.content)
        self.asked.append(asked["query"])
        answer = json.loads(json.dumps(self.showing.admin.execute(Request(asked["query"], asked["variables"]))))
        headers = {"X-Shopify-API-Version": API_VERSION, "Date": formatdate(self.clock.now, usegmt=True)}
        return httpx.Response(200, json=self.edit(asked["query"], asked["variables"], answer), headers=headers)

    async def passed(self, *families: str, **options: Any) -> dict[str, Report]:
        """Family → the report of a pass over these."""
        async with self.reconciler(*families) as reconciler:
            return {report.family: report for report in await reconciler.pass_(SHOP, **options)}

    @asynccontextmanager
    async def reconciler(self, *families: str) -> AsyncIterator[Reconciler]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self._answer)) as http:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(performing, "TapeView", lambda settings: self.tape)
                patch.setattr(performing.Writer, "open", lambda settings, name: self.tape)
                chosen = [FAMILIES[name] for name in families]
                async with Reconciler(self.settings, self.ledger, clock=self.clock, http=http, families=chosen) as reconciler:
                    yield reconciler


def undated(query: str, variables: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The schema lets a refund have no time of its own."""
    for one in answer["data"].get("orders", {}).get("nodes", ()) if "refunds {" in query else ():
        for refund in one["refunds"][:1]:
            refund["createdAt"] = None
    return answer


async def test_a_row_without_a_time_can_be_compared_with_nothing_and_holds_up_none(ledger: Ledger) -> None:
    found = await Passes(ledger, undated).passed("refunds", "orders")
    assert [(report.error, report.complete) for report in found.values()] == [("", True), ("", True)]
    assert found["refunds"].tally.pending == 0


def broken(query: str, variables: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Something in an answer that nobody has reckoned with."""
    for one in answer["data"].get("orders", {}).get("nodes", ()) if "fulfillments {" in query else ():
        for each in one["fulfillments"]:
            each["updatedAt"] = "soon"
    return answer


async def test_an_answer_to_one_family_that_nobody_has_reckoned_with_holds_up_no_other(ledger: Ledger) -> None:
    found = await Passes(ledger, broken).passed("fulfillments", "orders", "products")
    assert [found[name].reason for name in ("fulfillments", "orders", "products")] == ["bug", "", ""]
    assert [found[name].complete for name in ("fulfillments", "orders", "products")] == [False, True, True]
    assert {(kept.family, kept.state) for kept in ledger.reports.latest()} == {
        ("fulfillments", "bug"), ("orders", "complete"), ("products", "complete")}  # fmt: skip
    assert ledger.reconcile.cursor(SHOP, "fulfillments").position is None


def counting_one_more(since: str = "") -> Edit:
    """Shopify counts an order that it never lists: in every window, or in those that end after `since`."""

    def edit(query: str, variables: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if "ordersCount" in answer["data"] and str(variables["query"]).rpartition("<'")[2] > since:
            answer["data"]["ordersCount"]["count"] += 1
        return answer

    return edit


async def test_a_window_of_which_no_part_agrees_is_not_gone_on_with_at_once(ledger: Ledger) -> None:
    passes = Passes(ledger, counting_one_more())
    for kind in (Pass.FAST, Pass.LOOKBACK):
        found = (await passes.passed("orders", kind=kind))["orders"]
        assert (found.complete, found.behind, found.error) == (False, False, "")


async def test_a_look_back_over_a_part_of_its_window_is_not_whole_and_only_a_cursor_lets_the_next_pass_go_on(ledger: Ledger) -> None:
    passes = Passes(ledger)
    began = passes.showing.changes[0].version
    assert began is not None
    # A list reaches a day beyond its window.
    passes.edit = counting_one_more(iso(began + DAY + 400 * 1_000_000))
    found = (await passes.passed("orders"))["orders"]
    assert (found.complete, found.behind) == (True, True)
    # The rest is the next fast pass's. Of a look-back it's nobody's: the next one looks at all of it again.
    for options in ({"kind": Pass.LOOKBACK}, {"since": began}):
        found = (await passes.passed("orders", **options))["orders"]
        assert found.window is not None
        assert found.window[1] < passes.clock.now * 1_000_000 - 100 * 1_000_000
        assert (found.complete, found.behind) == (False, False)


async def test_a_look_back_that_comes_days_late_begins_where_the_last_one_ended(ledger: Ledger) -> None:
    # The shop's API was closed, or nothing ran: what an index showed late before that no fast pass goes back to.
    passes = Passes(ledger)
    await passes.passed("orders", "products")
    for days in (1, 3):
        began = passes.clock.now
        passes.clock.now += days * 86_400
        await passes.passed("orders", "products")
        found = await passes.passed("orders", "products", kind=Pass.LOOKBACK)
        for report in found.values():
            assert report.window is not None
            assert report.window[0] <= (began - 2 * 3600) * 1_000_000 or report.window[0] == 1_770_000_000_000_000
            assert report.complete
    assert set(ledger.reconcile.last_success(["orders", "products"])) == {SHOP}
    assert ledger.reconcile.last_success(["orders"])[SHOP] == passes.clock.now


async def test_a_deletion_that_the_api_takes_back_leaves_the_state_that_is_missing_pending(ledger: Ledger) -> None:
    passes = Passes(ledger, reconcile_grace=3600.0)
    product = passes.showing.live(FAMILIES["products"])[0]
    passes.tape.events = [event for event in passes.tape.events if event.resource != product.name]
    await passes.passed("products")
    missing = ledger.reconcile.pending()
    assert [(entry.resource, entry.kind) for entry in missing] == [(product.name, "state")]

    def told(query: str, variables: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if "events" in answer["data"]:
            answer["data"]["events"]["nodes"].append({"subjectId": product.gid, "createdAt": iso(round(passes.clock.now - 1) * 1_000_000)})
        return answer

    passes.edit, passes.clock.now = told, passes.clock.now + 60
    found = (await passes.passed("products"))["products"]
    assert found.tally.alive == 1
    assert ledger.reconcile.pending() == missing


async def test_figures_that_take_long_are_not_reckoned_after_each_pass(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    reckoned: list[int] = []

    def slow(self: Figures, shops: frozenset[str] | None) -> None:
        reckoned.append(1)
        time.sleep(0.1)

    monkeypatch.setattr(Figures, "measure", slow)
    monkeypatch.setattr(performing, "TapeView", lambda settings: Tape())
    async with Reconciler(Passes(ledger, changes=1).settings, ledger) as reconciler:
        await asyncio.gather(*(reconciler.measure() for _ in range(50)))
        await reconciler.measure()
    assert len(reckoned) == 1


async def test_a_zone_that_is_not_known_here_holds_up_no_shop(ledger: Ledger) -> None:
    def elsewhere(query: str, variables: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if "shop" in answer["data"]:
            answer["data"]["shop"]["ianaTimezone"] = "America/Newly_Founded"
        return answer

    found = (await Passes(ledger, elsewhere).passed("orders"))["orders"]
    assert (found.error, found.complete) == ("", True)


async def test_a_pass_that_breaks_before_its_families_is_in_their_reports(ledger: Ledger) -> None:
    found = await Passes(ledger, lambda query, variables, answer: {"data": None}).passed("orders", "products")
    assert {report.reason for report in found.values()} == {"bug"}
    assert {(kept.family, kept.state) for kept in ledger.reports.latest()} == {("orders", "bug"), ("products", "bug")}


async def test_two_passes_of_one_process_over_a_shop_take_turns(ledger: Ledger) -> None:
    # The doctor's look back after a repair, and a pass on schedule.
    passes = Passes(ledger)
    async with passes.reconciler("orders") as reconciler:
        found = await asyncio.gather(reconciler.pass_(SHOP), reconciler.pass_(SHOP))
        assert sorted(report.reason for reports in found for report in reports) == ["", "busy"]
        assert [report.reason for report in await reconciler.pass_(SHOP)] == [""]


async def test_a_pass_whose_lease_cannot_be_given_back_has_been_made_all_the_same(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(name: str, owner: str) -> None:
        raise LedgerError("the database went away")

    monkeypatch.setattr(ledger.leases, "release", away)
    assert (await Passes(ledger).passed("orders"))["orders"].complete


async def test_passes_that_wait_for_the_tape_leave_threads_to_those_that_renew_leases(ledger: Ledger) -> None:
    passes, read_on, reading = Passes(ledger, changes=1), threading.Event(), list[str]()

    class Slow(Tape):
        def coverage(self, shop: str, *_: object) -> Coverage:  # type: ignore[override]
            reading.append(shop)
            read_on.wait(60)
            return Coverage(FAMILIES["orders"])

    passes.tape = Slow()
    async with passes.reconciler("orders") as reconciler:
        world, client = reconciler._world, None
        runs = [Run(Turn(f"{number}.myshopify.com", None, None), FAMILIES["orders"], Look.STATES, client, None, None, None)  # type: ignore[arg-type]
                for number in range(40)]  # fmt: skip
        reads = [asyncio.create_task(world.perform(ReadTape(0), run)) for run in runs]
        try:
            async with asyncio.timeout(10):
                # All of them have asked.
                await asyncio.sleep(0)
                assert await asyncio.to_thread(lambda: "renewed") == "renewed"
        finally:
            read_on.set()
            await asyncio.gather(*reads)
    assert len(reading) == 40


async def test_a_dry_run_leaves_the_bulk_operations_of_the_passes_alone(ledger: Ledger) -> None:
    passes = Passes(ledger)
    ledger.bulk.begin(SHOP, "orders", "updated_at:>='2026-01-01T00:00:00Z'", (1, 2), passes.clock.now)
    ledger.bulk.began(SHOP, "orders", "updated_at:>='2026-01-01T00:00:00Z'", "gid://shopify/BulkOperation/1")
    before = ledger.bulk.open(SHOP)
    assert (await passes.passed("orders", dry_run=True))["orders"].complete
    assert ledger.bulk.open(SHOP) == before
    assert not any("bulkOperationCancel" in query for query in passes.asked)


async def test_a_pass_that_ends_within_the_file_of_a_bulk_operation_leaves_no_file_open(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_bulk(query: str, variables: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        gid = "gid://shopify/BulkOperation/1"
        if "bulkOperationRunQuery" in query:
            return {"data": {"bulkOperationRunQuery": {"bulkOperation": {"id": gid}, "userErrors": []}}}
        if "BulkOperation {" in query:
            ended = {"status": "COMPLETED", "errorCode": None, "url": "https://files.example/1", "objectCount": "2", "rootObjectCount": "2"}
            return {"data": {"node": ended}}
        return answer

    files, made = [], tempfile.TemporaryFile

    def noted(**options: Any) -> Any:
        files.append(made(**options))
        return files[-1]

    monkeypatch.setattr("hooktape.reconciler.bulk.tempfile.TemporaryFile", noted)
    monkeypatch.setattr(performing, "Lister", partial(Lister, estimate=0, portion=1))
    passes = Passes(ledger, in_bulk)
    # It ends at the first line, as it would between any two with the ledger or Kafka away.
    passes.file = b'{"id": "gid://shopify/Order/1", "updatedAt": "soon"}\n' * 2
    async with passes.reconciler("orders") as reconciler:
        (report,) = await reconciler.pass_(SHOP)
        assert report.reason == "bug"
        assert [file.closed for file in files] == [True]


async def test_a_pass_that_is_given_up_while_it_waits_gives_its_lease_back_and_leaves_the_operation_to_the_next(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled = asyncio.Event()

    def waiting(query: str, variables: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if "bulkOperationRunQuery" in query:
            started = {"bulkOperation": {"id": "gid://shopify/BulkOperation/1"}, "userErrors": []}
            return {"data": {"bulkOperationRunQuery": started}}
        if "BulkOperation {" in query:
            polled.set()
            seen = {"status": "RUNNING", "errorCode": None, "url": None, "objectCount": "0", "rootObjectCount": "0"}
            return {"data": {"node": seen}}
        return answer

    monkeypatch.setattr(performing, "Lister", partial(Lister, estimate=0))
    passes = Passes(ledger, waiting)
    async with passes.reconciler("orders") as reconciler:
        for _ in range(2):
            polled.clear()
            given_up = asyncio.create_task(reconciler.pass_(SHOP))
            async with asyncio.timeout(20):
                await polled.wait()
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            assert given_up.cancelled()
    assert [one.gid for one in ledger.bulk.open(SHOP)] == ["gid://shopify/BulkOperation/1"]
    assert sum("bulkOperationRunQuery" in query for query in passes.asked) == 1


async def test_a_pass_waits_once_for_a_place_among_shopifys_bulk_operations_however_small_a_window_would_do(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(query: str, variables: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if "bulkOperationRunQuery" in query:
            refused = {"bulkOperation": None, "userErrors": [{"code": "LIMIT_REACHED", "message": "too many"}]}
            return {"data": {"bulkOperationRunQuery": refused}}
        return answer

    passes, waited = Passes(ledger, full), list[float]()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        passes.clock.now += seconds

    monkeypatch.setattr(performing, "Lister", partial(Lister, estimate=0, pace=Pace(deadline=600.0), sleep=sleep))
    found = await passes.passed("orders")
    assert sum(waited) <= 660.0
    assert (found["orders"].reason, found["orders"].complete) == ("bulk_places", False)
    assert ledger.reconcile.cursor(SHOP, "orders").position is None


async def test_why_a_list_proves_nothing_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def failing(query: str, variables: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if "bulkOperationRunQuery" in query:
            started = {"bulkOperation": {"id": "gid://shopify/BulkOperation/1"}, "userErrors": []}
            return {"data": {"bulkOperationRunQuery": started}}
        if "BulkOperation {" in query:
            seen = {"status": "FAILED", "errorCode": "ACCESS_DENIED", "url": None, "objectCount": "0", "rootObjectCount": "0"}
            return {"data": {"node": seen}}
        return answer

    monkeypatch.setattr(performing, "Lister", partial(Lister, estimate=0))
    assert not (await Passes(ledger, failing).passed("orders"))["orders"].complete
    told = [record.__dict__ for record in caplog.records if record.name == "hooktape.reconciler"]
    assert any("FAILED (ACCESS_DENIED)" in str(one) for one in told)
