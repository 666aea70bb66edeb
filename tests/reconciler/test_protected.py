"""What Shopify withholds from an app that isn't approved for it is no news: it's left out of bodies, and the rest is told."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import msgspec
import pytest

from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.protected import HIDDEN, hide
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings

from .conftest import deliver, on_tape, pointed_at
from .showing import SCOPES, Showing
from .test_reconciler import begun, changes_of, dropped

SAYS = "This app is not approved to use the email field. See https://shopify.dev/docs/apps/launch/protected-customer-data for more details."
PERSONAL = {"first_name", "last_name", "address1", "address2", "zip", "latitude", "longitude", "email", "phone"}


def said(*path: str | int, message: str = SAYS) -> dict[str, Any]:
    return {"message": message, "path": list(path)}


# ── an answer ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_each_place_that_the_errors_name_is_marked_and_its_kind_told() -> None:
    data: dict[str, Any] = {"nodes": [{"id": "1", "email": None, "shippingAddress": {"zip": None, "city": "Ottawa"}}, None]}
    found = hide(data, [said("nodes", 0, "email"), said("nodes", 0, "shippingAddress", "zip")])
    assert found == {"email", "address"}
    assert data["nodes"][0] == {"id": "1", "email": HIDDEN, "shippingAddress": {"zip": HIDDEN, "city": "Ottawa"}}


def test_what_the_null_took_along_is_marked_where_it_ends() -> None:
    data: dict[str, Any] = {"node": {"defaultEmailAddress": None}}
    path = ("node", "defaultEmailAddress", "emailAddress")
    assert hide(data, [said(*path), said(*path)]) == {"email"}
    assert data["node"]["defaultEmailAddress"] is HIDDEN


@pytest.mark.parametrize(("data", "error"), [
    ({"orders": None}, said("orders")),
    (None, said("orders")),
    ({"nodes": [None]}, said("nodes", 0)),
    ({"nodes": [{"updatedAt": None}]}, said("nodes", 0, "updatedAt")),
    ({"nodes": [{"email": "a@example.com"}]}, said("nodes", 0, "email")),
    ({"nodes": [{"email": None}]}, said("nodes", 0, "customer", "email")),
    ({"nodes": [{"email": None}]}, {"message": SAYS}),
    ({"nodes": [{"customer": None}]}, said("nodes", 0, "customer", message="Access denied for customer field. Required access: …")),
])  # fmt: skip
def test_what_no_body_can_do_without_and_every_other_error_marks_nothing(data: Any, error: dict[str, Any]) -> None:
    before = deepcopy(data)
    assert hide(data, [said("nodes", 0, "email"), error] if error.get("path", ["nodes"])[0] != "nodes" else [error]) is None
    assert data == before


# ── a body ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def bodies(showing: Showing, family: Family) -> Iterator[dict[str, Any]]:
    """Of every live resource, as the reconciler would record it."""
    gids = [showing.gid(family, one) for one in showing.live(family)]
    for start in range(0, len(gids), family.batch):
        variables = family.variables(SCOPES, family.bodies.query)
        answer = showing.ask(family.bodies.query, ids=gids[start : start + family.batch], **variables)
        assert hide(answer["data"], answer.get("errors", ())) is not None, answer["errors"]
        for node in answer["data"]["nodes"]:
            yield json.loads(msgspec.json.encode(family.body(node, showing.home)))


def without(value: Any, names: set[str], inside: str = "") -> Any:
    """A body without these members; `name` is personal in addresses only."""
    if isinstance(value, dict):
        address = inside.endswith("_address")
        return {key: without(one, names, key) for key, one in value.items() if key not in names and not (key == "name" and address)}
    return [without(one, names) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["orders", "customers", "draft_orders", "fulfillments"])
def test_a_body_is_the_same_but_for_what_is_withheld_and_says_nothing_of_that(name: str) -> None:
    showing, family = Showing(400), FAMILIES[name]
    whole = list(bodies(showing, family))
    showing.admin.incidents.start("personal_data_hidden")
    shown = list(bodies(showing, family))
    assert len(shown) > 2
    assert shown != whole
    # Whoever has no address of mail or phone has none to withhold, and a null of theirs may be told.
    assert [without(body, PERSONAL) for body in shown] == [without(body, PERSONAL) for body in whole]
    assert not [body for body in shown if any(f'"{key}":"' in json.dumps(body, separators=(",", ":")) for key in PERSONAL - {"zip"})]


def test_an_order_whose_customer_is_withheld_has_none() -> None:
    showing, family = Showing(400), FAMILIES["orders"]
    node = next(node for node in showing.nodes(family) if node["customer"])
    assert "customer" in family.body(node, showing.home)
    node["customer"] = None
    assert hide({"nodes": [node]}, [said("nodes", 0, "customer")]) == {"customer"}
    assert "customer" not in family.body(node, showing.home)


def test_a_contract_whose_customer_and_order_are_withheld_says_nothing_of_either() -> None:
    showing, family = Showing(600), FAMILIES["subscription_contracts"]
    whole = list(bodies(showing, family))
    assert any(body["origin_order_id"] for body in whole)
    showing.admin.incidents.start("personal_data_hidden", fields=("all",))
    hidden = {name for kind in ("customer", "origin_order") for name in (f"{kind}_id", f"admin_graphql_api_{kind}_id")}
    for before, after in zip(whole, bodies(showing, family), strict=True):
        assert {key: value for key, value in before.items() if key not in hidden} == {
            key: value for key, value in after.items() if key not in hidden}  # fmt: skip
        assert after.get("origin_order_id") is None
        assert "customer_id" not in after
        assert "origin_order_id" not in after or before["origin_order_id"] is None


# ── a pass ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.kafka
@pytest.mark.anyio
async def test_a_pass_records_what_it_may_see_and_what_may_not_be_seen_at_all_can_not_be_checked(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with LocalShop(clock=clock, seed=7, plan=Plan("wide", 1e6, 1e6)) as shop:
        settings = pointed_at(tape, shop)
        shop.incidents.start("personal_data_hidden")
        async with Reconciler(settings, ledger, clock=clock) as reconciler:
            await reconciler.pass_(shop.domain)
            arrived, missing = dropped(changes_of(shop, clock, 200), 0.1, seed=7)
            await deliver(settings, arrived)

            reports = await reconciler.pass_(shop.domain)

            assert [report.error for report in reports] == [""] * 3
            assert {resource for report in reports for resource in report.missing} == missing
            orders = [json.loads(event.payload) for event in on_tape(settings) if event.topic.startswith("orders/")]
            assert orders
            assert all(not body.keys() & {"email", "phone"} and body["shipping_address"].keys() >= {"city", "country"} for body in orders)

            shop.incidents.start("personal_data_hidden", fields=("all",))
            await deliver(settings, changes_of(shop, clock, 20))
            by_family = {report.family: report for report in await reconciler.pass_(shop.domain)}

            assert {name: report.reason for name, report in by_family.items()} == {
                "orders": "protected", "customers": "protected", "products": ""}  # fmt: skip
            assert "not approved" in by_family["orders"].unverifiable["orders/updated"]
            assert by_family["products"].complete
