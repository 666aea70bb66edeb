"""Bulk operations as lists: against the local shop over HTTP, with each incident that it knows; the decisions by themselves."""

import asyncio
import gzip
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hooktape.errors import AdminApiError
from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.model import WHOLE
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.bulk import Lister, Pace, Read, Seen, refused, running, verdict
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import DAY, SECOND, Family
from hooktape.reconciler.moves import Row
from hooktape.reconciler.tree import Tree
from hooktape.settings import Secret, Settings

pytestmark = pytest.mark.anyio
BEGAN = 1_790_000_000.0
WINDOW = (round(BEGAN - 100 * 86_400) * SECOND, round(BEGAN + 86_400) * SECOND)
ORDERS, LEVELS, RETURNS, REFUNDS = (FAMILIES[name] for name in ("orders", "inventory_levels", "returns", "refunds"))


@dataclass
class World:
    """A shop whose clock moves when somebody waits, an app there, and a ledger."""

    shop: LocalShop
    ledger: Ledger
    http: httpx.AsyncClient
    clock: list[float]
    waited: list[float] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.waiting.set()
        self.clock[0] += seconds
        # The shop looks at its clock twenty times a second.
        await asyncio.sleep(0.01)

    def lister(self, **changes: Any) -> Lister:
        values: dict[str, Any] = {"estimate": 1, "paged_limit": 0, "portion": 100, "clock": lambda: self.clock[0], "sleep": self.sleep}
        return Lister(self.ledger, self.http, **values | changes)

    @property
    def client(self) -> AdminClient:
        settings = Settings(shop_tokens={self.shop.domain: Secret(self.shop.token)}, admin_url=self.shop.admin_url)
        return AdminClient(settings, self.shop.domain, self.http, Access(settings, self.http))

    async def all(self, family: Family, lister: Lister | None = None, window: tuple[int, int] = WINDOW) -> tuple[list[Row], int, str]:
        """Rows, roots, and why they prove nothing."""
        lister, rows, roots, why = lister or self.lister(), list[Row](), 0, ""
        after = None
        while True:
            page = await lister.page(self.client, family, family.search(*window), after, window)
            rows, roots = ([], 0) if page.anew else (rows, roots)
            rows += page.rows
            roots += page.roots if page.roots is not None else len(page.rows)
            why, after = why or page.incomplete, page.after
            if after is None:
                return rows, roots, why

    def operations(self) -> list[str]:
        return [one.status for one in self.shop.admin.bulk.operations]

    def names(self, family: Family) -> set[str]:
        return {one.name for one in self.shop.shop.live(family.kind)}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        yield opened


@pytest.fixture
async def world(ledger: Ledger) -> AsyncIterator[World]:
    clock = [BEGAN]
    async with LocalShop("b.myshopify.com", seed=3, mix=WHOLE, plan=Plan("wide", 1e9, 1e9), clock=lambda: clock[0]) as shop:
        for _ in range(1_200):
            clock[0] += 1
            shop.shop.change(clock[0])
        async with httpx.AsyncClient() as http:
            yield World(shop, ledger, http, clock)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
async def test_a_bulk_operation_shows_the_rows_that_pages_show(world: World, family: Family) -> None:
    rows, roots, why = await world.all(family)
    paged, paged_roots, _ = await world.all(family, world.lister(estimate=10**9, paged_limit=10**9))
    assert why == ""
    assert sorted(rows, key=lambda row: row.resource) == sorted(paged, key=lambda row: row.resource)
    assert (roots, {row.resource for row in rows}) == (paged_roots, world.names(family))
    assert world.operations() == ["COMPLETED"]
    assert world.ledger.bulk.open(world.shop.domain) == []


async def test_few_resources_are_listed_in_pages_and_a_list_that_grows_too_long_is_begun_anew_in_bulk(world: World) -> None:
    assert not (await world.all(ORDERS, world.lister(estimate=5_000, paged_limit=20_000)))[2]
    assert world.operations() == []
    items = FAMILIES["inventory_items"]
    narrow = replace(items, listing=replace(items.listing, size=5))
    rows, _, why = await world.all(narrow, world.lister(estimate=5_000, paged_limit=10))
    assert (world.operations(), why) == (["COMPLETED"], "")
    assert sorted(row.resource for row in rows) == sorted(world.names(items))


async def test_nothing_found_is_complete(world: World) -> None:
    assert await world.all(ORDERS, window=(0, DAY)) == ([], 0, "")


@pytest.mark.parametrize(
    ("incident", "parameters", "family", "says"),
    [("bulk_empty", {"url": "empty"}, ORDERS, "its file has 0 of 0"), ("bulk_empty", {"url": "none"}, ORDERS, "has no address"),
     ("bulk_partial", {"share": 0.5, "seconds": 100.0}, ORDERS, r"FAILED \(INTERNAL_SERVER_ERROR\)"),
     ("bulk_fails", {"share": 1.0}, ORDERS, r"FAILED \(no reason given\)"),
     ("bulk_truncated", {"limit": 100}, LEVELS, "exactly 100"), ("bulk_late", {"seconds": 3600.0}, ORDERS, "longer than 600 s")],
)  # fmt: skip
async def test_what_proves_nothing_says_so_and_leaves_nothing_behind(
    world: World, incident: str, parameters: dict[str, Any], family: Family, says: str
) -> None:
    if incident == "bulk_truncated":
        while max(Counter(level.body["location_id"] for level in world.shop.shop.live("inventory_level")).values()) <= parameters["limit"]:
            world.clock[0] += 1
            world.shop.shop.change(world.clock[0])
    world.shop.incidents.start(incident, **parameters)
    _, _, why = await world.all(family, world.lister(pace=Pace(deadline=600.0)))
    assert re.search(says, why), why
    assert world.ledger.bulk.open(world.shop.domain) == []
    assert world.operations()[-1] in ("COMPLETED", "FAILED", "CANCELED")


@pytest.mark.parametrize("incident", ["bulk_shuffled", "bulk_finish_lost"])
async def test_lines_in_no_order_and_a_lost_finish_change_nothing(world: World, incident: str) -> None:
    world.shop.incidents.start(incident)
    rows, _, why = await world.all(LEVELS)
    assert ({row.resource for row in rows}, why) == (world.names(LEVELS), "")


async def test_it_is_polled_ever_less_often(world: World) -> None:
    world.shop.incidents.start("bulk_late", seconds=600.0)
    assert (await world.all(ORDERS))[2] == ""
    assert world.waited[:4] == [10.0, 20.0, 40.0, 60.0]
    assert max(world.waited) == 60.0


async def test_an_operation_that_a_dead_process_began_is_taken_up(world: World) -> None:
    world.shop.incidents.start("bulk_late", seconds=300.0)
    dying = asyncio.create_task(world.all(ORDERS))
    await world.waiting.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    taking = world.lister()
    assert await taking.resumable(world.shop.domain, ORDERS) == WINDOW
    rows, _, why = await world.all(ORDERS, taking)
    assert (len(world.operations()), why, len(rows)) == (1, "", len(world.names(ORDERS)))
    assert await taking.resumable(world.shop.domain, ORDERS) is None


async def test_one_that_began_before_its_id_could_be_noted_is_found_by_its_query(world: World) -> None:
    world.shop.incidents.start("bulk_late", seconds=300.0)
    dying = asyncio.create_task(world.all(ORDERS))
    await world.waiting.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    search = ORDERS.search(*WINDOW)
    world.ledger.bulk.end(world.shop.domain, "orders", search)
    world.ledger.bulk.begin(world.shop.domain, "orders", search, WINDOW, world.clock[0])
    assert (await world.all(ORDERS))[2] == ""
    assert len(world.operations()) == 1


async def test_one_whose_window_nobody_asks_for_any_more_is_cancelled_and_nobody_elses(world: World) -> None:
    world.shop.incidents.start("bulk_late", seconds=100.0)
    foreign = "mutation { bulkOperationRunQuery(query: \"{ products { edges { node { id } } } }\") { bulkOperation { id } } }"
    await world.client.ask(foreign, {}, 10)
    dying = asyncio.create_task(world.all(ORDERS))
    await world.waiting.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert (await world.all(ORDERS, window=(WINDOW[0], WINDOW[1] + SECOND)))[2] == ""
    assert world.operations() == ["COMPLETED", "CANCELED", "COMPLETED"]


async def test_two_of_ours_run_at_a_time_and_a_third_waits_for_its_place(world: World) -> None:
    for name in ("products", "customers"):
        world.ledger.bulk.begin(world.shop.domain, name, "", None, world.clock[0])

    async def free(seconds: float) -> None:
        world.ledger.bulk.end(world.shop.domain, "products", "")
        await world.sleep(seconds)

    lister = world.lister(sleep=free)
    assert world.operations() == []
    assert (await world.all(ORDERS, lister))[2] == ""
    assert world.waited[0] == 10.0

    async def taken(seconds: float) -> None:
        await world.sleep(seconds)
        for name in ("products", "customers"):
            world.ledger.bulk.end(world.shop.domain, name, "")
            world.ledger.bulk.begin(world.shop.domain, name, "", None, world.clock[0])

    stuck = world.lister(pace=Pace(deadline=30.0), sleep=taken)
    await taken(0.0)
    with pytest.raises(AdminApiError, match="all places are taken"):
        await world.all(REFUNDS, stuck)


class _Cut(httpx.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data
        raise httpx.ReadError("the connection broke off")


class _Tampering(httpx.AsyncBaseTransport):
    """What is done to an answer on its way: (request, response) → response."""

    def __init__(self, change: Callable[[httpx.Request, httpx.Response], httpx.Response]) -> None:
        self._inner, self._change = httpx.AsyncHTTPTransport(), change

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        await response.aread()
        return self._change(request, response)


async def test_a_download_that_breaks_off_goes_on_where_it_ended(world: World) -> None:
    whole = (await world.all(ORDERS))[0]
    asked: list[str | None] = []

    def change(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if "/bulk/" not in request.url.path:
            return response
        asked.append(request.headers.get("Range"))
        if len(asked) < 3:
            return httpx.Response(response.status_code, stream=_Cut(response.content[: len(response.content) // 2]))
        return response

    async with httpx.AsyncClient(transport=_Tampering(change)) as http:
        world.http = http
        rows, _, why = await world.all(ORDERS)
    assert (why, rows) == ("", whole)
    assert asked[0] is None
    assert None not in asked[1:]


@pytest.mark.parametrize("willing", [True, False])
async def test_a_download_from_whoever_compresses_it_breaks_off_and_comes_whole_all_the_same(world: World, willing: bool) -> None:
    """`willing`: compressed only for those who accept that; a range counts the bytes that are sent (RFC 9110 section 14.1.2)."""
    whole = (await world.all(ORDERS))[0]
    asked: list[str | None] = []

    class Compressing(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            self._inner = httpx.AsyncHTTPTransport()

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            span = request.headers.get("Range", "bytes=0-") if "/bulk/" in request.url.path else ""
            if not span:
                return await self._inner.handle_async_request(request)
            asked.append(request.headers.get("Range"))
            plain = httpx.Request("GET", request.url, headers={"Host": request.headers["Host"]})
            data = await (await self._inner.handle_async_request(plain)).aread()
            headers = {}
            if not willing or "gzip" in request.headers["Accept-Encoding"]:
                data, headers = gzip.compress(data, mtime=0), {"Content-Encoding": "gzip"}
            rest = data[int(span[6:-1]) :]
            cut = rest[: len(rest) // 2] if len(asked) < 3 else rest
            stream = _Cut(cut) if len(asked) < 3 else httpx.ByteStream(cut)
            return httpx.Response(206 if "Range" in request.headers else 200, headers=headers, stream=stream)

    async with httpx.AsyncClient(transport=Compressing()) as http:
        world.http = http
        rows, _, why = await world.all(ORDERS)
    assert (why, rows) == ("", whole)
    assert asked[0] is None
    assert (None in asked[1:]) is not willing


@pytest.mark.parametrize("status", ["CREATED", "RUNNING", "CANCELING"])
def test_what_runs_is_asked_again(status: str) -> None:
    assert running(Seen(status))


@pytest.mark.parametrize("status", ["FAILED", "CANCELED", "EXPIRED", "UNKNOWN"])
def test_what_ended_otherwise_is_not_read(status: str) -> None:
    assert not running(Seen(status))
    assert refused(Seen(status, url="here", objects=5, roots=5))


def test_only_a_file_that_adds_up_is_whole() -> None:
    seen = Seen("COMPLETED", None, "here", 5, 3)
    assert verdict(seen, Read(5, 3)) == ""
    wrong = (Read(4, 3), Read(5, 2), Read(5, 3, 1), Read(5, 3, 0, 1), Read(5, 3, 0, 0, 1))
    assert all(verdict(seen, read) for read in wrong)


@pytest.mark.parametrize("in_memory", [10**6, 3])
def test_a_tree_finds_orphans_and_cut_lists_in_memory_and_on_disk(in_memory: int) -> None:
    with Tree(in_memory) as tree:
        for of in ("a", "b", "b", "z", "c", "c"):
            tree.child(of)
        for parent in ("c", "a", "b", "d"):
            tree.parent(parent)
        assert (tree.orphans(), tree.cut(2), tree.cut(1)) == (1, 2, 2)
        assert tree.on_disk == (in_memory == 3)


async def test_operations_that_nobody_takes_up_any_more_hold_no_place_for_ever(world: World) -> None:
    # Two backfills that were stopped and not begun again: their rows are in the ledger, and Shopify's places long free.
    for name in ("products/backfill", "customers/backfill"):
        world.ledger.bulk.begin(world.shop.domain, name, "", None, world.clock[0])
        world.ledger.bulk.began(world.shop.domain, name, "", f"gid://shopify/BulkOperation/{name}")
    world.clock[0] += 600.0
    assert (await world.all(ORDERS, world.lister(pace=Pace(deadline=600.0))))[2] == ""


async def test_a_download_that_always_breaks_off_before_its_furthest_point_ends(world: World) -> None:
    asked: list[str] = []

    def change(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if "/bulk/" not in request.url.path:
            return response
        asked.append(request.url.path)
        # It has no ranges, and ends now here, now there.
        return httpx.Response(200, stream=_Cut(b"x" * (1000 + len(asked) % 2)))

    async with httpx.AsyncClient(transport=_Tampering(change)) as http:
        world.http = http
        with pytest.raises(AdminApiError, match="couldn't be had"):
            async with asyncio.timeout(20):
                await world.all(ORDERS)
    assert len(asked) < 20


async def test_an_operation_whose_beginning_was_not_heard_of_is_begun_once(world: World) -> None:
    lost: list[bool] = []

    def change(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if b"bulkOperationRunQuery" in request.content and not lost:
            lost.append(True)
            raise httpx.ReadTimeout("the answer was lost")
        return response

    async with httpx.AsyncClient(transport=_Tampering(change)) as http:
        world.http = http
        with pytest.raises(AdminApiError):
            await world.all(ORDERS)
        assert (await world.all(ORDERS))[2] == ""
    assert world.operations() == ["COMPLETED"]


async def test_an_operation_of_long_ago_tells_nothing_of_now(world: World) -> None:
    world.shop.incidents.start("bulk_late", seconds=300.0)
    dying = asyncio.create_task(world.all(ORDERS))
    await world.waiting.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    world.clock[0] += 20_000
    for _ in range(100):
        world.shop.shop.change(world.clock[0])
    world.clock[0] += 2_000
    rows, _, why = await world.all(ORDERS)
    assert ({row.resource for row in rows}, why) == (world.names(ORDERS), "")
    assert len(world.operations()) == 2


async def test_a_window_is_resumed_whether_or_not_a_sweep_is_under_way(world: World) -> None:
    world.ledger.bulk.begin(world.shop.domain, "orders", "", None, world.clock[0])
    world.ledger.bulk.begin(world.shop.domain, "orders", "x", WINDOW, world.clock[0] + 1)
    assert await world.lister().resumable(world.shop.domain, ORDERS) == WINDOW
