"""Bulk operations: what they find, how they are refused, and each way in which they go wrong."""

import pytest

from hooktape.local.shop.bulk import AT_ONCE
from hooktape.local.shop.model import WHOLE
from hooktape.schemas import samples

from .kit import Client

ORDERS = """{ orders { edges { node { __typename id updatedAt totalPriceSet { shopMoney { amount } }
  lineItems { edges { node { id quantity } } } } } } }"""


def whole(changes: int = 1_500) -> Client:
    client = Client(WHOLE, seed=2)
    client.change(changes)
    return client


def test_lines_are_objects_and_their_children_with_their_parents_id() -> None:
    client = whole()
    operation = client.bulk(ORDERS)
    assert (operation["status"], operation["errorCode"]) == ("COMPLETED", None)
    lines = client.lines(operation)
    roots = [line for line in lines if "__parentId" not in line]
    live = {order.gid: order for order in client.shop.live("order")}
    assert {line["id"] for line in roots} == set(live)
    assert (int(operation["objectCount"]), int(operation["rootObjectCount"])) == (len(lines), len(roots))
    for line in roots:
        order = live[line["id"]]
        assert (line["__typename"], line["updatedAt"]) == ("Order", samples.utc(order.updated))
        assert line["totalPriceSet"] == {"shopMoney": {"amount": order.body["total_price"]}}
        children = [child for child in lines if child.get("__parentId") == line["id"]]
        assert [child["id"] for child in children] == [item["admin_graphql_api_id"] for item in order.body["line_items"]]


def test_two_levels_lists_that_are_no_connections_fragments_and_aliases_come_out_as_in_a_query() -> None:
    client = whole()
    lines = client.lines(client.bulk("""{ products { edges { node { id name: title variants { edges { node { ...V } } } } } } }
        fragment V on ProductVariant { id price inventoryItem { id unitCost { amount } } }"""))  # fmt: skip
    product = client.shop.live("product")[0]
    shown = client.data("""query($id: ID!) { product(id: $id) { id name: title variants(first: 50) { nodes {
        id price inventoryItem { id unitCost { amount } } } } } }""", id=product.gid)["product"]  # fmt: skip
    variants = shown.pop("variants")["nodes"]
    assert shown in lines
    assert [line for line in lines if line.get("__parentId") == product.gid] == [one | {"__parentId": product.gid} for one in variants]
    refunded = client.lines(client.bulk("{ orders { edges { node { id refunds { id note } } } } }"))
    refund = client.shop.live("refund")[0]
    assert {"id": refund.gid, "note": "Arrived damaged"} in [one for line in refunded for one in line["refunds"]]
    levels = client.lines(client.bulk("""{ inventoryItems { edges { node { id inventoryLevels { edges { node {
        id quantities(names: ["available"]) { name quantity } } } } } } } }"""))  # fmt: skip
    level = client.shop.live("inventory_level")[0]
    assert {"id": level.gid, "quantities": [{"name": "available", "quantity": level.body["available"]}],
            "__parentId": samples.gid("InventoryItem", level.body["inventory_item_id"])} in levels  # fmt: skip
    asked = "{ discountNodes { edges { node { id discount { ... on DiscountCodeBasic { title updatedAt } } } } } }"
    discounts = client.lines(client.bulk(asked))
    assert {one["discount"]["title"] for one in discounts} == {one.body["title"] for one in client.shop.live("discount")}


def test_a_window_narrows_and_nothing_found_has_no_address() -> None:
    client = whole()
    low = sorted(order.updated for order in client.shop.live("order"))[-10]
    found = client.bulk(f"{{ orders(query: \"updated_at:>='{samples.utc(low)}'\") {{ edges {{ node {{ id }} }} }} }}")
    assert int(found["rootObjectCount"]) == sum(order.updated >= low for order in client.shop.live("order"))
    none = client.bulk("{ orders(query: \"updated_at:>'2030-01-01T00:00:00Z'\") { edges { node { id } } } }")
    assert (none["status"], none["url"], none["objectCount"]) == ("COMPLETED", None, "0")


@pytest.mark.parametrize(
    "query",
    ["{ shop { name } }", "{ orders { edges { node { nothing } } } }", "{ orders {", "{ events { edges { node { id } } } }",
     "{ orders { pageInfo { hasNextPage } } }", "{ orders { edges { node { id } } } products { edges { node { id } } } }",
     "{ collections { nodes { id } } orders { nodes { id } } }"],
)  # fmt: skip
def test_what_cannot_run_in_bulk_is_refused_with_the_reason(query: str) -> None:
    run = "mutation($q: String!) { bulkOperationRunQuery(query: $q) { bulkOperation { id } userErrors { code field message } } }"
    answer = Client().data(run, q=query)["bulkOperationRunQuery"]
    assert answer["bulkOperation"] is None
    assert answer["userErrors"][0]["code"] == "INVALID"
    assert answer["userErrors"][0]["message"]


def test_five_run_at_a_time_and_a_cancelled_one_makes_room() -> None:
    client = whole(100)
    run = 'mutation { bulkOperationRunQuery(query: "{ orders { edges { node { id } } } }") { bulkOperation { id } userErrors { code } } }'
    begun = [client.data(run)["bulkOperationRunQuery"]["bulkOperation"]["id"] for _ in range(AT_ONCE)]
    assert client.data(run)["bulkOperationRunQuery"]["userErrors"] == [{"code": "OPERATION_IN_PROGRESS"}]
    cancel = "mutation($id: ID!) { bulkOperationCancel(id: $id) { bulkOperation { status } userErrors { message } } }"
    assert client.data(cancel, id=begun[0])["bulkOperationCancel"] == {"bulkOperation": {"status": "CANCELED"}, "userErrors": []}
    assert client.data(run)["bulkOperationRunQuery"]["bulkOperation"]
    assert client.data(cancel, id="gid://shopify/BulkOperation/1")["bulkOperationCancel"]["userErrors"]
    running = client.data('{ bulkOperations(first: 10, query: "status:created") { nodes { status } } currentBulkOperation { id } }')
    assert len(running["bulkOperations"]["nodes"]) == AT_ONCE


def test_late_it_runs_until_the_clock_says_so() -> None:
    client = whole(100)
    client.admin.incidents.start("bulk_late", seconds=60.0)
    operation = client.bulk(ORDERS)
    assert (operation["status"], operation["url"]) == ("RUNNING", None)
    client.now += 61
    assert client.operation(operation["id"])["status"] == "COMPLETED"


@pytest.mark.parametrize("url", ["empty", "none"])
def test_empty_it_completes_counts_objects_and_has_no_rows(url: str) -> None:
    client = whole(100)
    client.admin.incidents.start("bulk_empty", url=url)
    operation = client.bulk(ORDERS)
    assert operation["status"] == "COMPLETED"
    assert int(operation["objectCount"]) > 0
    assert (operation["url"] is None) == (url == "none")
    assert url == "none" or client.lines(operation) == []


def test_shuffled_children_are_away_from_their_parents_and_none_is_lost() -> None:
    client = whole()
    straight = client.lines(client.bulk(ORDERS))
    client.admin.incidents.start("bulk_shuffled")
    shuffled = client.lines(client.bulk(ORDERS))
    assert shuffled != straight
    assert sorted(map(str, shuffled)) == sorted(map(str, straight))
    seen: set[str] = set()
    orphans = [line for line in shuffled if seen.add(line["id"]) or line.get("__parentId", line["id"]) not in seen]  # type: ignore[func-returns-value]
    assert orphans


def test_partial_it_fails_and_the_rows_that_there_are_come_later() -> None:
    client = whole()
    whole_lines = client.lines(client.bulk(ORDERS))
    client.admin.incidents.start("bulk_partial", share=0.5, seconds=100.0)
    operation = client.bulk(ORDERS)
    assert (operation["status"], operation["errorCode"], operation["url"], operation["partialDataUrl"]) == (
        "FAILED", "INTERNAL_SERVER_ERROR", None, None)  # fmt: skip
    client.now += 101
    later = client.operation(operation["id"])
    assert client.lines(later) == whole_lines[: len(whole_lines) // 2]


def test_failing_it_has_no_code_and_no_address() -> None:
    client = whole(100)
    client.admin.incidents.start("bulk_fails", share=1.0)
    operation = client.bulk(ORDERS)
    assert {operation[name] for name in ("errorCode", "url", "partialDataUrl")} == {None}
    assert operation["status"] == "FAILED"


def test_truncated_children_are_counted_as_if_they_were_all() -> None:
    client = whole()
    client.admin.incidents.start("bulk_truncated", limit=1)
    operation = client.bulk("{ products { edges { node { id variants { edges { node { id } } } } } } }")
    assert int(operation["objectCount"]) == len(client.lines(operation)) == 2 * int(operation["rootObjectCount"])
