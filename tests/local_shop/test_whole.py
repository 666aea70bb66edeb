"""A whole shop: every family, every topic of it, and what the Admin API shows of each."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hooktape.local.shop.fields import schema
from hooktape.local.shop.lists import LISTS
from hooktape.local.shop.model import SUBJECTS, WHOLE, Change
from hooktape.local.shop.store import GID
from hooktape.schemas import resources, samples
from hooktape.schemas.topics import table

from .kit import Client, everything

TOPICS = {
    "orders/create", "orders/updated", "orders/paid", "orders/cancelled", "orders/fulfilled", "orders/delete",
    "refunds/create", "order_transactions/create", "fulfillments/create", "fulfillments/update", "returns/request",
    "returns/close", "fulfillment_orders/order_routing_complete", "fulfillment_orders/placed_on_hold",
    "fulfillment_orders/hold_released", "fulfillment_orders/cancelled", "products/create", "products/update",
    "products/delete", "customers/create", "customers/update", "customers/delete", "collections/create",
    "collections/update", "collections/delete", "draft_orders/create", "draft_orders/update", "draft_orders/delete",
    "inventory_items/create", "inventory_items/update", "inventory_items/delete", "inventory_levels/connect",
    "inventory_levels/update", "inventory_levels/disconnect", "locations/create", "locations/update", "locations/deactivate",
    "locations/activate", "locations/delete", "discounts/create", "discounts/update", "discounts/delete",
    "companies/create", "companies/update", "companies/delete", "company_locations/create", "company_locations/update",
    "company_locations/delete", "themes/create", "themes/update", "themes/publish", "themes/delete",
    "segments/create", "segments/update", "segments/delete", "subscription_contracts/create", "subscription_contracts/update",
    "subscription_contracts/pause", "subscription_contracts/activate", "subscription_contracts/cancel",
    "subscription_contracts/expire", "subscription_contracts/fail",
}  # fmt: skip


@cache
def whole() -> tuple[Client, list[Change]]:
    client = Client(WHOLE, seed=3)
    return client, client.change(8_000)


def test_every_topic_of_every_family_comes() -> None:
    assert {change.topic for change in whole()[1]} == TOPICS <= set(table())


def test_the_body_says_the_resource_and_version_that_the_change_says() -> None:
    for change in whole()[1]:
        found = resources.find(change.topic, change.body)
        assert (found.name, found.version) == (change.resource, change.version), change.topic


def test_no_two_states_of_a_resource_share_a_version_without_ties() -> None:
    states: dict[tuple[str, int], bytes] = {}
    for change in whole()[1]:
        if not change.deleted:
            assert states.setdefault((change.resource, change.state), change.body) == change.body, change.topic


def test_one_seed_gives_one_whole_shop() -> None:
    assert Client(WHOLE, seed=3).change(1_000) == whole()[1][:1_000]


SAMPLED = ("collections/update", "draft_orders/update", "fulfillments/create", "inventory_levels/update", "refunds/create",
           "orders/updated", "products/update", "fulfillment_orders/placed_on_hold")  # fmt: skip


@pytest.mark.parametrize("topic", SAMPLED)
def test_a_body_has_no_member_that_a_real_one_hasnt(topic: str, shared: Path) -> None:
    real = json.loads((shared / "samples" / f"{topic.replace('/', '.')}.json").read_text())["body"]
    ours = [json.loads(change.body) for change in whole()[1] if change.topic == topic]
    assert ours
    for body in ours:
        assert body.keys() <= real.keys()
        both = [name for name in body if body[name] is not None and real[name] is not None]
        assert {name: type(body[name]) for name in both} == {name: type(real[name]) for name in both}


@pytest.mark.parametrize("kind", GID)
def test_all_that_a_type_shows_has_an_answer_for_every_resource(kind: str) -> None:
    client = whole()[0]
    # Parts of deleted orders go too, so that there are always some left of each kind.
    gids = [resource.gid for resource in client.shop.live(kind)][:25]
    assert gids
    query = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ __typename id ... on {GID[kind]} {{ {everything(GID[kind], 1)} }} }} }}"
    for gid in gids:
        (shown,) = client.data(query, ids=[gid])["nodes"]
        assert (shown["id"], shown["__typename"]) == (gid, GID[kind])


@pytest.mark.parametrize("field", LISTS)
def test_a_list_shows_all_that_lives_and_its_windows_show_what_changed_in_them(field: str) -> None:
    client, kind = whole()[0], LISTS[field]
    hidden = {"fulfillment_order": {"includeClosed": True}, "location": {"includeInactive": True}}.get(kind, {})
    gids = [gid.replace("DiscountNode", "DiscountCodeNode") for gid in client.ids(field, **hidden)]
    live = client.shop.live(kind)
    assert sorted(gids) == sorted(resource.gid for resource in live)
    if "query" not in schema().type_map["QueryRoot"].fields[field].args:  # type: ignore[attr-defined]
        return
    low = sorted(resource.updated for resource in live)[len(live) // 2]
    found = client.ids(field, query=f"updated_at:>='{samples.utc(low)}' updated_at:<'{samples.utc(low + 60)}'", **hidden)
    assert len(found) == sum(low <= resource.updated < low + 60 for resource in live) > 0


def test_what_belongs_to_an_order_is_under_it() -> None:
    client = whole()[0]
    refund = client.shop.live("refund")[0]
    order = client.shop.get(refund.parent)
    assert order
    shown = client.data("""query($id: ID!) { order(id: $id) { refunds(first: 5) { id createdAt order { id } }
        transactions(first: 5) { id kind } fulfillmentOrders(first: 5) { nodes { id orderId status } }
        fulfillments(first: 5, query: "updated_at:>='2030-01-01T00:00:00Z'") { id } } }""", id=order.gid)["order"]  # fmt: skip
    assert refund.gid in [one["id"] for one in shown["refunds"]]
    assert {one["order"]["id"] for one in shown["refunds"]} == {order.gid}
    assert {"SALE", "REFUND"} <= {one["kind"] for one in shown["transactions"]}
    assert {one["orderId"] for one in shown["fulfillmentOrders"]["nodes"]} == {order.gid}
    assert shown["fulfillments"] == []


def test_a_hold_does_not_touch_the_order() -> None:
    client, told, holds = Client(WHOLE, seed=5), dict[str, int](), 0
    for _ in range(1_500):
        (change,) = client.change()
        if change.topic.startswith("orders/"):
            told[change.resource] = change.state
        elif change.topic == "fulfillment_orders/placed_on_hold":
            work = client.shop.get(change.resource)
            order = work and client.shop.get(work.parent)
            assert order
            assert order.updated * 1_000_000 == told[order.name]
            holds += 1
    assert holds


def test_every_deletion_of_a_kind_that_has_events_is_among_them_and_no_other() -> None:
    client, made = whole()
    query = """query($after: String) { events(first: 250, after: $after) {
        nodes { ... on BasicEvent { subjectId subjectType } } pageInfo { hasNextPage endCursor } } }"""
    shown: list[Any] = []
    after = None
    while True:
        page = client.data(query, after=after)["events"]
        shown += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    told = {change.gid for change in made if change.deleted and change.resource.partition("/")[0] in SUBJECTS}
    assert told <= {event["subjectId"] for event in shown}
    assert {event["subjectType"] for event in shown} == set(SUBJECTS.values())
    gone = client.data("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[event["subjectId"] for event in shown][:250])
    assert set(map(str, gone["nodes"])) == {"None"}


def test_an_inventory_level_is_found_by_its_pair_and_a_discount_by_both_of_its_names() -> None:
    client = whole()[0]
    level, discount = client.shop.live("inventory_level")[0], client.shop.live("discount")[0]
    other = discount.gid.replace("DiscountCodeNode", "DiscountNode")
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id __typename } }"
    wrong = [level.gid + "0", "gid://shopify/InventoryLevel/1", "gid://shopify/Nothing/1"]
    found = client.data(query, ids=[level.gid, discount.gid, other, *wrong])
    assert found["nodes"] == [{"id": level.gid, "__typename": "InventoryLevel"}, {"id": discount.gid, "__typename": "DiscountCodeNode"},
                              {"id": other, "__typename": "DiscountNode"}, None, None, None]  # fmt: skip
    assert client.shop.get(level.name) is level
