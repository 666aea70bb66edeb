"""The gate, and bodies whose nested lists are longer than one page."""

import json
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from hooktape.errors import AdminApiError
from hooktape.reconciler import api
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.bodies.values import Home
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.families import FAMILIES
from hooktape.settings import Secret, Settings

pytestmark = pytest.mark.anyio
SHOP = "one.myshopify.com"
GID = "gid://shopify/Order/1"
AT = "2026-11-22T10:00:00Z"
HEADERS = {"X-Shopify-API-Version": "2026-04", "Date": "Sun, 22 Nov 2026 10:00:00 GMT"}


def client(*data: Any) -> tuple[AdminClient, list[dict[str, Any]]]:
    """A client that is given these answers in turn, and the variables it sends."""
    left, sent = list(data), list[dict[str, Any]]()

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content)["variables"])
        return httpx.Response(200, json={"data": left.pop(0)}, headers=HEADERS)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    settings = Settings(shop_tokens={SHOP: Secret("t")})
    return AdminClient(settings, SHOP, http, Access(settings, http)), sent


def lines(*names: str, after: str | None) -> dict[str, Any]:
    return {"nodes": [{"id": name, "quantity": 1} for name in names], "pageInfo": {"hasNextPage": after is not None, "endCursor": after}}


def order(listed: dict[str, Any], updated: str = AT, pieces: int = 4) -> dict[str, Any]:
    said = dict.fromkeys(("cancelledAt", "closedAt", "name", "displayFinancialStatus", "displayFulfillmentStatus", "note"))
    return {"id": GID, "createdAt": AT, "updatedAt": updated, "lineItems": listed, "subtotalLineItemsQuantity": pieces, "tags": [], **said}


async def test_a_nested_list_is_read_to_its_end() -> None:
    asking, sent = client(
        {"nodes": [order(lines("a", "b", after="p1"))]}, {"node": order(lines("c", after="p2"))}, {"node": order(lines("d", after=None))}
    )
    found = await api.fetch(asking, FAMILIES["orders"], (GID,), frozenset({"read_orders", "read_products"}))
    entry = found.found[GID]
    assert entry is not None
    assert [node["id"] for node in entry[1]["lineItems"]["nodes"]] == ["a", "b", "c", "d"]
    assert [call.get("after") for call in sent] == [None, "p1", "p2"]
    assert sent[0] == {"ids": [GID], "customers": False, "products": True}
    assert sent[1] == {"id": GID, "after": "p1", "products": True}


async def test_a_resource_that_changes_while_its_list_is_read_is_left_for_the_next_pass() -> None:
    asking, _ = client({"nodes": [order(lines("a", after="p1"))]}, {"node": order(lines("b", after=None), "2026-11-22T10:00:01Z")})
    assert (await api.fetch(asking, FAMILIES["orders"], (GID,), frozenset())).found == {}


async def test_an_order_with_fewer_lines_than_it_says_is_no_body() -> None:
    asking, _ = client({"nodes": [order(lines("a", "b", after=None), pieces=3)]})
    assert (await api.fetch(asking, FAMILIES["orders"], (GID,), frozenset())).found == {}


async def test_what_the_api_does_not_know_is_told_apart_from_what_could_not_be_read() -> None:
    asking, _ = client({"nodes": [None]})
    assert (await api.fetch(asking, FAMILIES["orders"], (GID,), frozenset())).found == {GID: None}


async def test_a_list_without_an_order_proves_nothing_once_it_has_a_second_page() -> None:
    theme = {"id": "gid://shopify/OnlineStoreTheme/1", "createdAt": AT, "updatedAt": AT, "role": "MAIN"}
    for more in (False, True):
        asking, _ = client({"themes": {"nodes": [theme], "pageInfo": {"hasNextPage": more, "endCursor": "p1"}}})
        found = await api.page(asking, FAMILIES["themes"], "", None)
        assert (len(found.rows), bool(found.incomplete), found.after is None) == (1, more, not more)


async def test_an_event_about_something_else_is_no_deletion_of_the_family() -> None:
    # A filter that's ignored shows events of any kind, and an order's number says nothing of a product.
    told = [{"subjectId": f"gid://shopify/{kind}/5", "createdAt": AT} for kind in ("Order", "Product", "ProductVariant")]
    asking, _ = client({"events": {"nodes": [*told, {}], "pageInfo": {"hasNextPage": False, "endCursor": None}}})
    found = await api.deletions(asking, FAMILIES["products"], "", None)
    assert ([row.gid for row in found.rows], found.roots) == (["gid://shopify/Product/5"], 4)


def gate(domain: str) -> dict[str, Any]:
    shop = {"myshopifyDomain": domain, "ianaTimezone": "America/New_York", "currencyCode": "JPY"}
    return {"shop": shop, "currentAppInstallation": {"accessScopes": [{"handle": "write_orders"}]}}


async def test_the_gate_gives_the_scopes_and_shopifys_own_time() -> None:
    found = await api.gate(client(gate(SHOP))[0])
    assert found.shop_now == 1_795_341_600_000_000
    assert found.home == Home(ZoneInfo("America/New_York"), "JPY")
    assert FAMILIES["orders"].readable(found.scopes)
    assert not FAMILIES["products"].readable(found.scopes)


async def test_the_token_of_another_shop_is_refused_at_the_gate() -> None:
    with pytest.raises(AdminApiError, match=r"is that of two\.myshopify\.com") as refused:
        await api.gate(client(gate("two.myshopify.com"))[0])
    assert refused.value.reason == "wrong_shop"


async def test_a_list_that_goes_on_where_it_began_is_no_endless_one() -> None:
    stuck = {"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": "p1"}}
    nowhere = {"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": None}}
    orders, products = FAMILIES["orders"], FAMILIES["products"]
    first = await api.page(client({"orders": stuck})[0], orders, "", None)
    assert first.after is not None
    with pytest.raises(AdminApiError, match="goes on where") as refused:
        await api.page(client({"orders": stuck})[0], orders, "", first.after)
    assert refused.value.reason == "no_progress"
    for asking in (api.page(client({"orders": nowhere})[0], orders, "", None),
                   api.deletions(client({"events": stuck})[0], products, "", "p1"),
                   api.fetch(client({"nodes": [order(lines("a", after="p1"))]}, {"node": order(lines("b", after="p1"))})[0], orders, (GID,),
                             frozenset())):  # fmt: skip
        with pytest.raises(AdminApiError, match="goes on where"):
            await asking
