import json
from typing import Any

import pytest

from hooktape.local.shop.admin import Admin, Answer
from hooktape.local.shop.cost import PLUS, STANDARD, Plan
from hooktape.local.shop.model import DELETING, Change, Mix, Shop
from hooktape.schemas import samples

START = 1_790_000_000.0
ORDERS = Mix(order_update=0, order_paid=0, order_cancel=0, product_create=0, product_update=0, customer_create=0,
             customer_update=0)  # fmt: skip
PAGE = """query($after: String, $query: String, $sort: OrderSortKeys!) {
  orders(first: 100, after: $after, query: $query, sortKey: $sort) { nodes { id updatedAt } pageInfo { hasNextPage endCursor } }
}"""


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


class Client:
    """An admin of a shop whose clock the test turns."""

    def __init__(self, plan: Plan = PLUS, search_lag: float = 0.0, mix: Mix | None = None) -> None:
        self.clock = Clock()
        self.shop = Shop("a.myshopify.com", 1, self.clock, mix)
        self.admin = Admin(self.shop, "the-token", plan, search_lag)

    def change(self, count: int = 1, step: float = 0.01) -> list[Change]:
        made = []
        for _ in range(count):
            self.clock.now += step
            made.append(self.shop.change(self.clock.now))
        return made

    def post(self, body: bytes, version: str = "2026-04", token: str = "the-token") -> Answer:
        return self.admin.answer(version, token, body)

    def ask(self, query: str, /, **variables: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.post(json.dumps({"query": query, "variables": variables}).encode()).body)
        return answer

    def data(self, query: str, /, **variables: Any) -> Any:
        answer = self.ask(query, **variables)
        assert "errors" not in answer, answer
        return answer["data"]


def test_paging_by_id_loses_no_order_and_repeats_none_while_orders_change_in_between() -> None:
    client = Client(mix=ORDERS)
    client.change(620)
    there = {order.gid for order in client.shop.live("order")}
    assert len(there) > 600
    seen: list[str] = []
    after = None
    while True:
        page = client.data(PAGE, after=after, sort="ID")["orders"]
        seen += [node["id"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
        for order in client.shop.live("order")[::37]:
            client.clock.now += 1
            client.shop.change(client.clock.now, again=order)
    assert len(seen) == len(set(seen))
    assert there <= set(seen)


def test_paging_by_updated_at_moves_edited_orders_to_the_end_as_shopify_does() -> None:
    client = Client(mix=ORDERS)
    client.change(150)
    first = client.data(PAGE, sort="UPDATED_AT")["orders"]
    client.clock.now += 5
    moved = client.shop.live("order")[0]
    client.shop.change(client.clock.now, again=moved)
    rest = client.data(PAGE, sort="UPDATED_AT", after=first["pageInfo"]["endCursor"])["orders"]
    assert first["nodes"][0]["id"] == rest["nodes"][-1]["id"] == moved.gid


def test_a_window_of_updated_at_finds_just_the_changes_inside() -> None:
    client = Client()
    client.change(400, step=0.1)
    low, high = int(START) + 10, int(START) + 20
    query = f"updated_at:>='{samples.utc(low)}' updated_at:<'{samples.utc(high)}'"
    found = client.data(PAGE, query=query, sort="ID")["orders"]["nodes"]
    inside = {order.gid: samples.utc(order.updated) for order in client.shop.live("order") if low <= order.updated < high}
    assert inside
    assert {node["id"]: node["updatedAt"] for node in found} == inside


def test_before_after_last_and_reverse_walk_the_same_list() -> None:
    client = Client()
    client.change(60)
    query = "query($first: Int, $last: Int, $after: String, $before: String, $back: Boolean) {"
    query += " products(first: $first, last: $last, after: $after, before: $before, reverse: $back)"
    query += " { edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage } } }"
    edges = client.data(query, first=250)["products"]["edges"]
    nodes, cursors = [edge["node"] for edge in edges], [edge["cursor"] for edge in edges]
    backward = client.data(query, first=250, back=True)["products"]["edges"]
    assert [edge["node"] for edge in backward] == nodes[::-1]
    middle = client.data(query, last=2, before=cursors[4])["products"]
    assert [edge["node"] for edge in middle["edges"]] == nodes[2:4]
    assert middle["pageInfo"] == {"hasNextPage": True, "hasPreviousPage": True}
    rest = client.data(query, first=2, after=cursors[-2], back=True)["products"]
    assert [edge["node"] for edge in rest["edges"]] == nodes[-3:-5:-1]


def test_an_order_in_graphql_says_what_its_webhook_body_says() -> None:
    client = Client()
    client.change(200)
    order = client.shop.live("order")[-1]
    shown = client.data("""query($ids: [ID!]!) { nodes(ids: $ids) { id ... on Order {
        legacyResourceId name createdAt updatedAt tags displayFinancialStatus totalPriceSet { shopMoney { amount currencyCode } }
        customer { legacyResourceId defaultEmailAddress { emailAddress } }
        lineItems(first: 5) { nodes { id title quantity variant { legacyResourceId } } } shippingAddress { city countryCodeV2 }
    } } }""", ids=[order.gid])["nodes"][0]  # fmt: skip
    body = order.body
    assert shown["legacyResourceId"] == str(body["id"])
    assert (shown["name"], shown["updatedAt"]) == (body["name"], samples.utc(order.updated))
    assert shown["displayFinancialStatus"] == body["financial_status"].upper()
    assert shown["totalPriceSet"]["shopMoney"] == {"amount": body["total_price"], "currencyCode": "USD"}
    assert shown["customer"]["defaultEmailAddress"]["emailAddress"] == body["email"]
    assert [item["id"] for item in shown["lineItems"]["nodes"]] == [item["admin_graphql_api_id"] for item in body["line_items"]]
    assert shown["shippingAddress"] == {"city": body["shipping_address"]["city"], "countryCodeV2": "US"}


def test_lists_lag_behind_by_search_lag_and_nodes_are_current() -> None:
    client = Client(search_lag=60)
    client.change(100)
    order = client.shop.live("order")[0]
    assert client.data(PAGE, sort="ID")["orders"]["nodes"] == []
    client.clock.now += 61
    assert order.gid in [node["id"] for node in client.data(PAGE, sort="ID")["orders"]["nodes"]]
    client.shop.change(client.clock.now, again=order)
    recent = f"updated_at:>='{samples.utc(order.updated)}'"
    assert client.data(PAGE, sort="ID", query=recent)["orders"]["nodes"] == []
    node = client.data("query($id: ID!) { node(id: $id) { ... on Order { updatedAt } } }", id=order.gid)["node"]
    assert node == {"updatedAt": samples.utc(order.updated)}


def test_a_deleted_product_is_null_by_id_gone_from_lists_and_among_the_events() -> None:
    client = Client(mix=DELETING)
    gone = [change for change in client.change(800) if change.topic == "products/delete"]
    assert client.data("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[gone[0].gid]) == {"nodes": [None]}
    listed = client.data("{ products(first: 250) { nodes { id } } }")["products"]["nodes"]
    assert gone[0].gid not in [node["id"] for node in listed]
    query = """{ events(first: 100, query: "subject_type:PRODUCT AND action:destroy AND created_at:>'2026-01-01T00:00:00Z'") {
        nodes { action ... on BasicEvent { subjectId subjectType } } } }"""
    events = client.data(query)["events"]["nodes"]
    assert [event["subjectId"] for event in events] == [change.gid for change in gone]
    assert {(event["action"], event["subjectType"]) for event in events} == {("destroy", "PRODUCT")}


def test_counts_are_exact_or_say_that_they_stopped_at_the_limit() -> None:
    client = Client()
    client.change(120)
    exact = len(client.shop.live("customer"))
    answer = client.data("{ a: customersCount { count precision } b: customersCount(limit: 3) { count precision } }")
    assert answer == {"a": {"count": exact, "precision": "EXACT"}, "b": {"count": 3, "precision": "AT_LEAST"}}


def test_an_unknown_search_field_returns_everything_with_a_warning() -> None:
    client = Client()
    client.change(50)
    answer = client.ask(PAGE, query="updatedat:>'2030-01-01T00:00:00Z'", sort="ID")
    assert len(answer["data"]["orders"]["nodes"]) == len(client.shop.live("order"))
    assert answer["extensions"]["search"][0]["warnings"][0]["field"] == "updatedat"


def test_cost_is_taken_before_and_the_unused_part_given_back() -> None:
    client = Client(plan=STANDARD)
    client.change(30)
    cost = client.ask("{ customers(first: 250) { nodes { id } } }")["extensions"]["cost"]
    used = 2 + len(client.shop.live("customer"))
    assert (cost["requestedQueryCost"], cost["actualQueryCost"]) == (252, used)
    assert cost["throttleStatus"] == {"maximumAvailable": 2000.0, "currentlyAvailable": 2000 - used, "restoreRate": 100.0}


def test_an_empty_bucket_throttles_with_200_until_it_has_refilled() -> None:
    client = Client(plan=Plan("tiny", 300, 100))
    client.change(400)
    query = '{ orders(first: 250) { nodes { id } } }'  # fmt: skip
    assert "data" in client.ask(query)
    refused = client.post(json.dumps({"query": query}).encode())
    answer = json.loads(refused.body)
    assert refused.status == 200
    assert answer["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert answer["extensions"]["cost"]["actualQueryCost"] is None
    status = answer["extensions"]["cost"]["throttleStatus"]
    client.clock.now += (252 - status["currentlyAvailable"]) / status["restoreRate"]
    assert "data" in client.ask(query)


def test_a_query_of_more_than_1000_points_is_refused_and_costs_nothing() -> None:
    client = Client(plan=STANDARD)
    answer = client.ask("{ products(first: 100) { nodes { variants(first: 100) { nodes { id } } } } }")
    assert answer["errors"][0]["extensions"]["code"] == "MAX_COST_EXCEEDED"
    assert client.ask("{ shop { name } }")["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] == 1999


@pytest.mark.parametrize("token", ["", "wrong", "the-token\xe9"])
def test_a_wrong_token_is_401_with_shopifys_text(token: str) -> None:
    answer = Client().post(b'{"query":"{ shop { name } }"}', token=token)
    assert answer.status == 401
    assert "Invalid API key or access token" in json.loads(answer.body)["errors"]


@pytest.mark.parametrize("body", [b"", b"no json", b'{"variables":{}}', b"[]", b'{"query":1}', b"\xff"])
def test_what_is_no_graphql_request_is_400(body: bytes) -> None:
    assert Client().post(body).status == 400


@pytest.mark.parametrize(
    "query",
    ["{ orders { nodes { id } } }", "{ orders(first: 251) { nodes { id } } }", "{ orders(first: 1, last: 1) { nodes { id } } }",
     "{ orders(first: 1, after: \"?\") { nodes { id } } }", "{ orders(first: 1, query: \"id:x\") { nodes { id } } }",
     "{ nothing }", "{ shop {", "{ node(id: \"1\") { id } }"],
)  # fmt: skip
def test_a_wrong_query_is_answered_with_errors(query: str) -> None:
    client = Client()
    client.change(20)
    assert client.ask(query)["errors"][0]["message"]


def test_a_cursor_of_another_sort_key_is_refused() -> None:
    client = Client()
    client.change(60)
    cursor = client.data("{ products(first: 1, sortKey: TITLE) { pageInfo { endCursor } } }")["products"]["pageInfo"]["endCursor"]
    answer = client.ask("query($c: String) { products(first: 1, sortKey: UPDATED_AT, after: $c) { nodes { id } } }", c=cursor)
    assert "cursor" in answer["errors"][0]["message"]


def test_only_the_header_tells_that_an_old_version_was_served_by_another() -> None:
    client = Client()
    answer = client.post(b'{"query":"{ shop { name } }"}', version="2019-04")
    assert (answer.status, answer.headers["x-shopify-api-version"]) == (200, "2025-10")
    assert client.post(b'{"query":"{ shop { name } }"}').headers["x-shopify-api-version"] == "2026-04"
    assert answer.headers["date"] == "Mon, 21 Sep 2026 14:13:20 GMT"
