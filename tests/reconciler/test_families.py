"""The families' queries and bodies against the real schema, the local shop's, and real webhooks."""

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from graphql import GraphQLSchema, build_schema, parse, validate

from hooktape.errors import UsageError
from hooktape.ledger.reconcile import Pending
from hooktape.local.shop.admin import Admin, Request, schema
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.model import Shop
from hooktape.reconciler import bodies, queries, synthetic
from hooktape.reconciler.families import FAMILIES, QUERY_POINTS, Family, of_topic
from hooktape.reconciler.moves import Missing, Row
from hooktape.schemas import resources
from hooktape.schemas import topics as shopify

SHARED = Path(__file__).parents[2] / "../shared/shopify"
QUERIES = {name: text for name, text in vars(queries).items() if name.isupper() and not name.startswith("_")}
FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


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


def nodes(family: Family) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Bodies of a shop's resources as the Admin API shows them, and the answer's cost."""
    shop = Shop("one.myshopify.com", 4, lambda: 1_770_000_500.0)
    for step in range(60):
        shop.change(1_770_000_000.0 + step)
    ids = [resource.gid for resource in shop.live(family.kind)][: family.batch]
    admin = Admin(shop, "token", Plan("wide", 1e6, 1e6))
    wanted = family.variables(frozenset({"read_customers", "read_products", "read_inventory"}), family.body_query)
    answer = admin.execute(Request(family.body_query, {"ids": ids, **wanted}))
    assert "errors" not in answer
    return answer["data"]["nodes"], answer["extensions"]["cost"]


@FAMILY
def test_a_full_batch_of_bodies_keeps_to_the_points_reckoned_for_it(family: Family) -> None:
    found, cost = nodes(family)
    assert len(found) * family.points <= QUERY_POINTS
    assert cost["requestedQueryCost"] <= len(found) * family.points


_SAMPLES = {"orders": "orders.updated", "products": "products.update", "customers": "customers.update"}


def sample(name: str) -> dict[str, Any]:
    path = SHARED / "samples" / f"{_SAMPLES[name]}.json"
    if not path.exists():
        pytest.skip("Shopify's samples aren't here")
    return dict(json.loads(path.read_text())["body"])


def agree(ours: Any, theirs: Any, path: str) -> None:
    """The same keys (or fewer) and the same JSON types; a null on either side says nothing of the type."""
    if ours is None or theirs is None:
        return
    assert type(ours) is type(theirs), path
    if isinstance(ours, dict):
        assert ours.keys() <= theirs.keys(), f"{path}: {sorted(ours.keys() - theirs.keys())}"
        for key in ours:
            agree(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list) and theirs:
        for one in ours:
            agree(one, theirs[0], f"{path}[]")


@FAMILY
def test_bodies_have_the_keys_and_types_of_real_webhooks(family: Family) -> None:
    theirs = sample(family.name)
    if family.name == "customers":
        # The captured customer has no address; one embedded in an order does.
        theirs["default_address"] = sample("orders")["customer"]["default_address"]
    for node in nodes(family)[0]:
        agree(json.loads(msgspec.json.encode(family.body(node))), theirs, family.name)


@FAMILY
def test_what_real_webhooks_have_and_bodies_lack_is_exactly_what_is_listed(family: Family) -> None:
    theirs, body = sample(family.name), family.body(nodes(family)[0][0])
    assert theirs.keys() - body.keys() == bodies.ABSENT[family.name] & theirs.keys()
    assert not bodies.ABSENT[family.name] & body.keys()
    for nested in ("line_items", "variants", "customer"):
        if nested in theirs and nested in body:
            here, there = body[nested], theirs[nested]
            first, real_one = (here[0], there[0]) if isinstance(here, list) else (here, there)
            assert real_one.keys() - first.keys() == bodies.ABSENT[f"{family.name}.{nested}"], nested


@FAMILY
def test_a_body_names_the_same_resource_and_version_as_the_webhook_would(family: Family) -> None:
    shop = Shop("one.myshopify.com", Random(9).randrange(99), lambda: 1_770_000_500.0)
    changes = [shop.change(1_770_000_000.0 + step) for step in range(60)]
    admin = Admin(shop, "token", Plan("wide", 1e6, 1e6))
    latest = {change.gid: change for change in changes if change.topic.startswith(f"{family.name}/")}
    wanted = family.variables(frozenset({"read_customers", "read_products"}), family.body_query)
    for gid, change in latest.items():
        answer = admin.execute(Request(family.body_query, {"ids": [gid], **wanted}))
        payload = msgspec.json.encode(family.body(answer["data"]["nodes"][0]))
        assert resources.find(family.update, payload) == resources.find(change.topic, change.body)


@FAMILY
def test_amounts_ids_and_texts_are_those_of_the_webhook(family: Family) -> None:
    shop = Shop("one.myshopify.com", 4, lambda: 1_770_000_500.0)
    for step in range(60):
        shop.change(1_770_000_000.0 + step)
    by_gid = {resource.gid: resource.body for resource in shop.live(family.kind)}
    # Counted by the API from orders; the local shop's bodies don't keep them. And instants, which differ in their zone only.
    differing = {"orders_count", "total_spent", "customer", "default_address"}
    for node in nodes(family)[0]:
        body, theirs = family.body(node), by_gid[node["id"]]
        plain = {k: v for k, v in body.items() if not isinstance(v, list | dict) and not k.endswith("_at") and k not in differing}
        assert plain == {k: theirs[k] for k in plain}


@pytest.mark.parametrize(("text", "shown"), [("398.0", "398.00"), ("398", "398.00"), ("0.125", "0.125"), ("-1.5", "-1.50"), (None, None)])
def test_amounts_have_two_decimals_as_in_webhooks(text: str | None, shown: str | None) -> None:
    assert bodies._amount(text) == shown


@FAMILY
def test_the_familys_topics_are_shopifys(family: Family) -> None:
    assert {family.create, family.update, family.delete, *family.unchecked} <= set(family.topics) <= set(shopify.table())


def test_one_state_has_one_id_and_another_state_of_the_same_second_has_another() -> None:
    family = FAMILIES["products"]
    node = nodes(family)[0][0]
    row = Row("product/1", "gid://shopify/Product/1", 1_770_000_000_000_000, 1)
    pending = Pending("s", "products", "product/1", 1, "state", family.update, 0, {})

    def built(node: dict[str, Any], topic: str, shop: str = "s") -> str:
        return synthetic.build(shop, family, Missing(row, node, topic, pending), "2026-04", 0).webhook_id

    assert built(node, family.create) == built(node, family.update)
    assert len({built(node, family.update), built({**node, "title": "x"}, family.update), built(node, family.update, "t")}) == 3


def test_a_topic_that_cannot_be_reconciled_is_refused_with_the_reason() -> None:
    assert of_topic("orders/*") is of_topic("orders/paid") is FAMILIES["orders"]
    with pytest.raises(UsageError, match="a step between two states"):
        of_topic("orders/edited")
    with pytest.raises(UsageError, match="what can be: orders"):
        of_topic("carts/update")
