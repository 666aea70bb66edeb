"""The families against the real schema, the local shop's, and its lists; and the topics that no family checks."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLSchema, build_schema, parse, validate

from hooktape.errors import UsageError
from hooktape.ledger.reconcile import Pending
from hooktape.local.shop.fields import schema
from hooktape.local.shop.paging import cursor
from hooktape.reconciler import api, queries, synthetic
from hooktape.reconciler.families import CHECKED, FAMILIES, of_topic
from hooktape.reconciler.family import DAY, HOUR, QUERY_POINTS, SECOND, Family
from hooktape.reconciler.moves import Missing, Row
from hooktape.reconciler.unverifiable import REASONS
from hooktape.schemas import topics as shopify

from .showing import SCOPES, Showing

SHARED = Path(__file__).parents[2] / "../shared/shopify"
QUERIES = {name: text for name, text in vars(queries).items() if name.isupper() and str(text).lstrip().startswith(("query", "mutation"))}
QUERIES |= {f"{family.name} page": family.list_query for family in FAMILIES.values()}
QUERIES |= {f"{family.name} count": family.count_query for family in FAMILIES.values() if family.count_query}
QUERIES |= {f"{family.name} rest": queries.rest(family.listing) for family in FAMILIES.values() if family.listing.connection}
QUERIES |= {f"{family.name} bulk": queries.bulk(family.listing, family.search(0, DAY)) for family in FAMILIES.values()}
FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


@pytest.fixture(scope="module")
def shop() -> Showing:
    return Showing()


@cache
def real() -> GraphQLSchema:
    path = SHARED / "admin-2026-04.graphql"
    if not path.exists():
        pytest.skip("Shopify's schema isn't here")
    return build_schema(path.read_text(), assume_valid=True, no_location=True)


@pytest.mark.parametrize("name", QUERIES)
def test_shopifys_real_schema_accepts_every_query(name: str) -> None:
    assert validate(real(), parse(QUERIES[name])) == []


@pytest.mark.parametrize("name", QUERIES)
def test_the_local_shops_schema_accepts_every_query(name: str) -> None:
    assert validate(schema(), parse(QUERIES[name])) == []


@FAMILY
def test_a_page_and_a_full_batch_of_bodies_keep_to_the_points_reckoned_for_them(family: Family, shop: Showing) -> None:
    ids = [resource.gid for resource in shop.live(family)][: family.batch]
    wanted = family.variables(SCOPES, family.bodies.query)
    cost = shop.ask(family.bodies.query, ids=ids, **wanted)["extensions"]["cost"]
    assert len(ids) * family.bodies.points <= QUERY_POINTS
    assert cost["requestedQueryCost"] <= len(ids) * family.bodies.points
    listed = shop.ask(family.list_query, query=family.search(0, DAY) or None, after=None)
    assert listed["extensions"]["cost"]["requestedQueryCost"] <= family.listing.points < 1000
    if family.bodies.nested_query:
        variables = {"id": ids[0], "after": cursor(0, 0), **family.variables(SCOPES, family.bodies.nested_query)}
        more = shop.ask(family.bodies.nested_query, **variables)
        assert more["extensions"]["cost"]["requestedQueryCost"] <= family.bodies.nested_points
    if family.listing.connection:
        rest = shop.ask(queries.rest(family.listing), id=ids[0], after=cursor(0, 0))
        assert rest["extensions"]["cost"]["requestedQueryCost"] <= 810


@FAMILY
def test_its_list_shows_all_there_is_as_the_tape_will_name_it(family: Family, shop: Showing) -> None:
    rows = shop.listed(family)
    assert {row.resource for row in rows} == {resource.name for resource in shop.live(family)}
    for row in rows:
        found = shop.shop.get(row.resource)
        assert found is not None
        assert row.created in (0, found.created * SECOND)
        assert row.version == SECOND * (found.created if family.version == "createdAt" else found.updated)


@pytest.mark.parametrize("name", ["locations", "inventory_levels"])
def test_what_a_fulfillment_services_app_manages_is_listed_too(name: str) -> None:
    # REST and webhooks call such a location legacy, and the API leaves it out unless it's asked for.
    family, showing = FAMILIES[name], Showing()
    for place in showing.live(FAMILIES["locations"]):
        place.body["legacy"] = True
    assert {row.resource for row in showing.listed(family)} == {resource.name for resource in showing.live(family)} != set()


@FAMILY
def test_what_a_list_says_and_what_a_body_says_have_one_digest(family: Family, shop: Showing) -> None:
    listed = {row.gid: row.digest for row in shop.listed(family)}
    for node in shop.nodes(family):
        assert family.digest_of(family.body(node, shop.home)) == listed[node["id"]] == api.row(family, node).digest


@FAMILY
def test_the_familys_topics_are_shopifys(family: Family) -> None:
    named = {family.create, family.update, *([family.delete] if family.delete else []), *family.unchecked, *family.stamps}
    assert named <= set(family.topics) <= set(shopify.table())


def test_every_topic_of_shopifys_is_checked_by_a_family_or_has_the_reason_why_not() -> None:
    assert CHECKED | REASONS.keys() == set(shopify.table())
    assert not CHECKED & REASONS.keys()


def test_a_window_reaches_as_far_as_the_filter_may_be_misread() -> None:
    start, end = 10 * DAY + 5 * HOUR, 10 * DAY + 6 * HOUR
    assert FAMILIES["orders"].search(start, end) == "updated_at:>='1970-01-11T05:00:00Z' updated_at:<'1970-01-11T06:00:00Z'"
    assert FAMILIES["customers"].search(start, end) == "updated_at:>='1970-01-10T00:00:00Z' updated_at:<'1970-01-13T00:00:00Z'"
    assert FAMILIES["discounts"].search(start, end) == "updated_at:>='1970-01-10T15:00:00Z' updated_at:<'1970-01-11T20:00:00Z'"
    assert FAMILIES["locations"].search(start, end) == ""


def test_one_state_has_one_id_and_another_state_of_the_same_second_has_another(shop: Showing) -> None:
    family = FAMILIES["products"]
    node = shop.nodes(family)[0]
    row = Row("product/1", "gid://shopify/Product/1", 1_770_000_000_000_000, 1)
    pending = Pending("s", "products", "product/1", 1, "state", family.update, 0, {})

    def built(node: dict[str, Any], topic: str, shop: str = "s") -> str:
        return synthetic.build(shop, family, Missing(row, node, topic, pending, row.version), "2026-04", 0).webhook_id

    assert built(node, family.create) == built(node, family.update)
    assert len({built(node, family.update), built({**node, "title": "x"}, family.update), built(node, family.update, "t")}) == 3


@pytest.mark.parametrize(("name", "resource", "ids"), [("products", "product/1", 1), ("inventory_levels", "inventory_level/1-2", 2)])
def test_a_deletion_is_once_in_an_ids_life_and_a_level_may_be_disconnected_again(name: str, resource: str, ids: int) -> None:
    family = FAMILIES[name]

    def built(version: int) -> str:
        pending = Pending("s", name, resource, version, "delete", family.delete, 0, {})
        missing = Missing(Row(resource, family.gid(resource), version, 0), None, family.delete, pending, version)
        return synthetic.build("s", family, missing, "2026-04", 0).webhook_id

    assert len({built(1_770_000_000_000_000), built(1_780_000_000_000_000)}) == ids


@pytest.mark.parametrize(
    ("family", "node", "first", "topic"),
    [("returns", {"status": "OPEN"}, False, "returns/approve"), ("returns", {"status": "CLOSED"}, True, "returns/close"),
     ("fulfillment_orders", {"status": "OPEN"}, True, "fulfillment_orders/order_routing_complete"),
     ("fulfillment_orders", {"status": "OPEN"}, False, "fulfillment_orders/hold_released"),
     ("fulfillment_orders", {"status": "CLOSED"}, False, None), ("locations", {"isActive": False}, False, "locations/deactivate"),
     ("themes", {"role": "MAIN"}, False, "themes/publish"), ("themes", {"role": "UNPUBLISHED"}, False, None),
     ("themes", {"role": "MAIN"}, True, "themes/create"),
     ("subscription_contracts", {"status": "ACTIVE"}, True, "subscription_contracts/create"),
     ("subscription_contracts", {"status": "ACTIVE"}, False, "subscription_contracts/update"),
     ("subscription_contracts", {"status": "PAUSED"}, True, "subscription_contracts/pause"),
     ("subscription_contracts", {"status": "FAILED"}, False, "subscription_contracts/fail"),
     ("subscription_contracts", {"status": "NEW_AND_UNKNOWN"}, False, "subscription_contracts/update"),
     ("refunds", {}, False, "refunds/create"), ("orders", {}, True, "orders/create"), ("orders", {}, False, "orders/updated")],
)  # fmt: skip
def test_a_state_is_told_as_the_topic_that_leads_to_it(family: str, node: dict[str, Any], first: bool, topic: str | None) -> None:
    assert FAMILIES[family].topic(node, first) == topic


@pytest.mark.parametrize(("status", "first", "wanted", "topic"), [
    ("CANCELLED", False, "cancel update", "cancel"), ("CANCELLED", False, "update", "update"),
    ("CANCELLED", True, "create update", "update"), ("ACTIVE", True, "create update", "create"),
    ("ACTIVE", True, "update", ""), ("ACTIVE", False, "create cancel", ""), ("EXPIRED", False, "cancel create", ""),
])  # fmt: skip
def test_a_state_that_the_update_tells_too_is_told_as_it_where_its_own_topic_is_not_wanted(status: str, first: bool, wanted: str,
                                                                                           topic: str) -> None:  # fmt: skip
    family = FAMILIES["subscription_contracts"]
    full = [f"subscription_contracts/{word}" for word in wanted.split()]
    assert family.told_as({"status": status}, first, full) == (topic and f"subscription_contracts/{topic}")
    assert family.topics_of({"status": status}) == {"subscription_contracts/update"}


def test_a_topic_that_cannot_be_reconciled_is_refused_with_the_reason() -> None:
    assert of_topic("orders/*") is of_topic("orders/paid") is FAMILIES["orders"]
    with pytest.raises(UsageError, match="shows no compliance request"):
        of_topic("customers/redact")
    with pytest.raises(UsageError, match="what can be: orders"):
        of_topic("nonsense/update")


def test_tags_in_another_order_and_no_text_said_otherwise_make_no_other_state() -> None:
    orders = FAMILIES["orders"]
    one = {"name": "#1", "note": "", "tags": "late, vip"}
    assert orders.digest_of(one) == orders.digest_of({"name": "#1", "note": None, "tags": "vip,late"})
    assert orders.digest_of(one) != orders.digest_of({"name": "#1", "note": "gift", "tags": "late, vip"})
    assert orders.digest_of(one) != orders.digest_of({"name": "#1", "note": "", "tags": "late"})
