"""Bodies against the local shop's own webhooks of the same state, and against real webhooks of Shopify's."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from hooktape.local.shop.model import WHOLE, Change
from hooktape.reconciler.bodies import values
from hooktape.reconciler.bodies.absent import ABSENT
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.schemas import resources

from .showing import Showing

SAMPLES = Path(__file__).parents[2] / "../shared/shopify/samples"
FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
LATER = {"orders": ("customer",), "draft_orders": ("customer",), "customers": ("orders_count", "total_spent"),
         "company_locations": ("company",)}  # fmt: skip
"""What a webhook of the local shop keeps as it was when its order was made, or doesn't keep, and the API shows as it is now."""


@cache
def shop() -> Showing:
    # Without what others refer to going: the API shows an order's line without its goods' ids, a fulfilment without its location, a
    # contract without its order, and their last webhooks were before that.
    return Showing(2_400, mix=replace(WHOLE, product_delete=0, product_remove_variant=0, location_delete=0, order_delete=0))


def told(family: Family) -> Iterator[tuple[Change, dict[str, Any], dict[str, Any]]]:
    """(webhook, its body, ours) of every live resource whose last change a webhook told of."""
    showing = shop()
    live = [one for one in showing.live(family) if (said := showing.said.get(one.name)) and said.state == one.updated * 1_000_000]
    gids = [showing.gid(family, one) for one in live]
    for one, node in zip(live, showing.nodes(family, gids), strict=True):
        body = json.loads(msgspec.json.encode(family.body(node, showing.home)))
        yield showing.said[one.name], json.loads(showing.said[one.name].body), body


@FAMILY
def test_every_member_of_a_body_is_the_webhooks_own(family: Family) -> None:
    count = 0
    for change, theirs, ours in told(family):
        for name in LATER.get(family.name, ()):
            ours.pop(name, None)
        same(ours, theirs, f"{change.topic} {change.resource}")
        count += 1
    assert count > 1


def same(ours: Any, theirs: Any, path: str) -> None:
    """Whatever ours says theirs says too; theirs may say more."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        assert ours.keys() <= theirs.keys(), f"{path}: {sorted(ours.keys() - theirs.keys())}"
        for key in ours:
            same(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        assert len(ours) == len(theirs), path
        for one, other in zip(ours, theirs, strict=True):
            same(one, other, f"{path}[]")
    else:
        assert (type(ours), ours) == (type(theirs), theirs) or (ours == theirs and {type(ours), type(theirs)} == {int, float}), path


@FAMILY
def test_a_body_names_the_resource_and_the_version_that_the_webhook_names(family: Family) -> None:
    for change, _, ours in told(family):
        assert resources.find(change.topic, msgspec.json.encode(ours)) == resources.find(change.topic, change.body)


@FAMILY
def test_a_body_has_the_digest_of_the_webhook_of_that_state(family: Family) -> None:
    for change, theirs, ours in told(family):
        assert family.digest_of(ours) == family.digest_of(theirs) == family.digest_of_payload(change.body)


def real(name: str) -> dict[str, Any]:
    path = SAMPLES / f"{name}.json"
    if not path.exists():
        pytest.skip("Shopify's samples aren't here")
    found: dict[str, Any] = json.loads(path.read_text())["body"]
    return found


REAL = {"orders": "orders.updated", "products": "products.update", "customers": "customers.update", "refunds": "refunds.create",
        "fulfillments": "fulfillments.create", "fulfillment_orders": "fulfillment_orders.placed_on_hold",
        "collections": "collections.update", "draft_orders": "draft_orders.update",
        "inventory_levels": "inventory_levels.update"}  # fmt: skip
"""Families of which there is a real webhook; the others are held against the local shop's."""


def merged(bodies: list[Any]) -> Any:
    """One value with the members that any of these has, lists as one row of all of theirs."""
    shown = [one for one in bodies if one is not None]
    if shown and all(isinstance(one, dict) for one in shown):
        keys = {key: None for one in shown for key in one}
        return {key: merged([one[key] for one in shown if key in one]) for key in keys}
    if shown and all(isinstance(one, list) for one in shown):
        rows = [row for one in shown for row in one]
        return [merged(rows)] if rows else []
    return shown[0] if shown else None


def lacking(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    """Paths of members that theirs has and ours hasn't; what ours has must be among theirs, and of the same type."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        assert ours.keys() <= theirs.keys(), f"{path}: {sorted(ours.keys() - theirs.keys())}"
        yield from (f"{path}.{key}" for key in theirs.keys() - ours.keys())
        for key in ours.keys() & theirs.keys():
            yield from lacking(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        if ours and theirs:
            yield from lacking(ours[0], theirs[0], f"{path}[]")
    elif ours is not None and theirs is not None:
        assert type(ours) is type(theirs) or {type(ours), type(theirs)} == {int, float}, f"{path}: {type(ours)} and {type(theirs)}"


def difference(family: Family) -> set[str]:
    theirs = merged([real(REAL[family.name])] if family.name in REAL else [body for _, body, _ in told(family)])
    if family.name == "customers":
        # The captured customer has no address; one embedded in an order does.
        theirs["default_address"] = real("orders.updated")["customer"]["default_address"]
    if family.name == "products":
        # The captured product has no options.
        theirs["options"] = [{"id": 1, "product_id": 1, "name": "", "position": 1, "values": [""]}]
    if family.name == "refunds":
        # The captured refund has no payments.
        theirs.pop("transactions")
    showing = shop()
    ours = merged([json.loads(msgspec.json.encode(family.body(node, showing.home))) for node in showing.nodes(family)])
    if family.name == "refunds":
        ours.pop("transactions")
    return set(lacking(ours, theirs, family.name))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_body_has_the_members_and_types_of_a_real_webhook_but_those_that_are_listed(name: str) -> None:
    found = difference(FAMILIES[name])
    assert found == {path for path in ABSENT if path.partition(".")[0] == name}


@pytest.mark.parametrize(
    ("text", "currency", "shown"),
    [("398.0", "USD", "398.00"), ("398", "EUR", "398.00"), ("0.125", "USD", "0.125"), ("-1.5", "USD", "-1.50"), (None, "USD", None),
     ("1200.0", "JPY", "1200"), ("1200", "KRW", "1200"), ("0.5", "JPY", "0.50")],
)  # fmt: skip
def test_amounts_have_the_decimals_of_their_currency(text: str | None, currency: str, shown: str | None) -> None:
    assert values.amount(text, currency) == shown


def test_times_are_told_in_the_shops_zone_but_for_the_list_that_webhooks_tell_in_utc() -> None:
    home = values.Home(ZoneInfo("America/New_York"), "USD")
    body = {"updated_at": "2026-07-01T12:00:00Z", "note": "2026-07-01T12:00:00Z", "lines": [{"created_at": "2026-01-01T00:00:00Z"}],
            "variant_gids": [{"updated_at": "2026-07-01T12:00:00Z"}], "cancelled_at": None}  # fmt: skip
    assert values.local(body, home) == {
        "updated_at": "2026-07-01T08:00:00-04:00", "note": "2026-07-01T12:00:00Z",
        "lines": [{"created_at": "2025-12-31T19:00:00-05:00"}], "variant_gids": [{"updated_at": "2026-07-01T12:00:00Z"}],
        "cancelled_at": None}  # fmt: skip


CONTRACT: dict[str, Any] = {
    "id": "gid://shopify/SubscriptionContract/4488765614", "createdAt": "2026-11-20T10:00:00Z", "updatedAt": "2026-11-22T10:00:00Z",
    "status": "CANCELLED", "revisionId": "3080372819", "currencyCode": "CAD", "customer": {"id": "gid://shopify/Customer/1"},
    "billingPolicy": {"interval": "WEEK", "intervalCount": 4, "minCycles": 1, "maxCycles": None},
    "deliveryPolicy": {"interval": "WEEK", "intervalCount": 2}, "originOrder": {"id": "gid://shopify/Order/2"},
}  # fmt: skip


def test_a_contract_has_the_members_that_are_documented_and_no_time() -> None:
    # shopify.dev/docs/api/webhooks, subscription_contracts/cancel
    assert FAMILIES["subscription_contracts"].body(CONTRACT, shop().home) == {
        "admin_graphql_api_id": "gid://shopify/SubscriptionContract/4488765614", "id": 4488765614,
        "billing_policy": {"interval": "week", "interval_count": 4, "min_cycles": 1, "max_cycles": None}, "currency_code": "CAD",
        "customer_id": 1, "admin_graphql_api_customer_id": "gid://shopify/Customer/1",
        "delivery_policy": {"interval": "week", "interval_count": 2}, "status": "cancelled",
        "admin_graphql_api_origin_order_id": "gid://shopify/Order/2", "origin_order_id": 2, "revision_id": "3080372819",
    }  # fmt: skip


def test_a_contract_says_that_no_order_led_to_it_and_nothing_of_a_customer_that_is_gone() -> None:
    body = FAMILIES["subscription_contracts"].body({**CONTRACT, "originOrder": None, "customer": None}, shop().home)
    assert (body["origin_order_id"], body["admin_graphql_api_origin_order_id"]) == (None, None)
    assert not body.keys() & {"customer_id", "admin_graphql_api_customer_id"}
    unread = {key: value for key, value in CONTRACT.items() if key not in ("originOrder", "customer")}
    assert not FAMILIES["subscription_contracts"].body(unread, shop().home).keys() & {"origin_order_id", "customer_id"}


def test_a_segment_has_the_members_that_are_documented_its_times_in_utc() -> None:
    node = {"id": "gid://shopify/Segment/7", "name": "Has one order", "query": "number_of_orders = 1",
            "creationDate": "2026-01-01T00:00:00Z", "lastEditDate": "2026-11-22T10:00:00Z"}  # fmt: skip
    body = FAMILIES["segments"].body(node, shop().home)
    assert body == {"id": 7, "name": "Has one order", "query": "number_of_orders = 1", "creationDate": "2026-01-01T00:00:00.000Z",
                    "lastEditDate": "2026-11-22T10:00:00.000Z"}  # fmt: skip


@pytest.mark.parametrize(("shown", "rest"), [
    ("FULFILLED", "fulfilled"), ("PARTIALLY_FULFILLED", "partial"), ("RESTOCKED", "restocked"), ("UNFULFILLED", None), ("OPEN", None)])
def test_an_order_says_how_much_of_it_is_fulfilled(shown: str, rest: str | None) -> None:
    family = FAMILIES["orders"]
    node = {**shop_order(), "displayFulfillmentStatus": shown}
    assert family.body(node, shop().home)["fulfillment_status"] == rest
    assert family.digest_of(family.brief(node, shop().home)) == family.digest_of(family.body(node, shop().home))


@pytest.mark.parametrize("shown", ["ON_HOLD", "SCHEDULED", "IN_PROGRESS", "PENDING_FULFILLMENT", "REQUEST_DECLINED"])
@pytest.mark.parametrize("rest", ["partial", None])
def test_an_order_whose_rest_waits_does_not_say_that_nothing_is_fulfilled_and_is_known_by_its_webhook(shown: str, rest: str | None) -> None:
    # "All of the unfulfilled items in this order are on hold": another part may be sent already.
    family, node = FAMILIES["orders"], shop_order()
    webhook = {**family.body(node, shop().home), "fulfillment_status": rest}
    waits = {**node, "displayFulfillmentStatus": shown}
    assert "fulfillment_status" not in family.body(waits, shop().home)
    assert family.digest_of(family.brief(waits, shop().home)) == family.digest_of(webhook)


def test_an_order_that_was_fulfilled_within_the_second_of_another_change_is_told_apart() -> None:
    family, node = FAMILIES["orders"], shop_order()
    states = [{**node, "displayFulfillmentStatus": word} for word in ("UNFULFILLED", "FULFILLED")]
    assert len({family.digest_of(family.brief(state, shop().home)) for state in states}) == 2


def shop_order() -> Any:
    return shop().nodes(FAMILIES["orders"])[0]


def test_a_discount_that_begins_by_the_clock_is_in_the_state_that_its_webhook_told() -> None:
    family, node = FAMILIES["discounts"], shop().nodes(FAMILIES["discounts"])[0]
    before, after = ({**node, "discount": {**node["discount"], "status": status}} for status in ("SCHEDULED", "ACTIVE"))
    assert family.digest_of(family.body(before, shop().home)) == family.digest_of(family.brief(after, shop().home))
    renamed = {**after, "discount": {**after["discount"], "title": "Another"}}
    assert family.digest_of(family.body(before, shop().home)) != family.digest_of(family.brief(renamed, shop().home))


def test_the_times_of_a_products_variants_by_global_id_have_the_form_of_a_real_webhooks() -> None:
    theirs = real("products.update")["variant_gids"][0]["updated_at"]
    ours = FAMILIES["products"].body(shop().nodes(FAMILIES["products"])[0], shop().home)["variant_gids"][0]["updated_at"]
    assert [re.sub(r"\d", "0", text) for text in (ours, theirs)] == ["0000-00-00T00:00:00.000Z"] * 2
