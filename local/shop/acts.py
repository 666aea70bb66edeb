"""What can happen in a shop, by name: which resources it makes or changes, and the webhooks that Shopify sends of it.

An act takes the shop, its generator, the resource that it strikes (None for one that makes something) and the second; it
yields (topic, resource) for each webhook, the one that the act is about first.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from hooktape.local.shop import bodies, bodies_b2b
from hooktape.local.shop.store import FIRST_PLACE, PLACES, Resource, level_id
from hooktape.schemas import samples

if TYPE_CHECKING:
    from hooktape.local.shop.model import Shop

Body = dict[str, Any]
News = Iterator[tuple[str, Resource]]
Act = Callable[["Shop", Random, Resource, int], News]
Making = Callable[["Shop", Random, int], News]


# ── orders ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _order(shop: "Shop", rng: Random, at: int) -> News:
    number = shop.next_id("order", rng)
    buyer, goods = shop.any("customer", rng).body, shop.any("product", rng)
    order = shop.add("order", number, samples.order(rng, number, shop.made("order") + 1, at, buyer, [goods.body]), at)
    yield "orders/create", order
    if shop.whole:
        location = shop.any("location", rng).id
        work = shop.next_id("fulfillment_order", rng)
        placed = shop.add("fulfillment_order", work, bodies.fulfillment_order(work, order.body, location, at), at, order.name)
        yield "fulfillment_orders/order_routing_complete", placed
        for line in order.body["line_items"]:
            item = next((v["inventory_item_id"] for v in goods.body["variants"] if v["id"] == line["variant_id"]), 0)
            yield from _stock(shop, shop.get_id("inventory_level", level_id(item, location)), -line["quantity"], at)
        yield from _touch("products/update")(shop, rng, goods, at)


def _stock(shop: "Shop", level: Resource | None, by: int, at: int) -> News:
    # Two changes of a level in one second would be one version; a shop without ties has none of these.
    if level and (level.updated < at or shop.ties):
        level.body["available"] += by
        shop.touch(level, at)
        yield "inventory_levels/update", level


def _note(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
    target.body["note"] = f"Checked & filed {rng.randrange(10**6):06d}/{at % 1000}"
    shop.touch(target, at)
    yield {"order": "orders/updated", "customer": "customers/update"}[target.kind], target


def _paid(shop: "Shop", rng: Random, order: Resource, at: int) -> News:
    order.body.update({"financial_status": "paid", "total_outstanding": "0.00"})
    shop.touch(order, at)
    yield "orders/paid", order
    if shop.whole:
        yield from _pay(shop, rng, order, "sale", samples.cents(order.body["total_price"]), at)
        yield "orders/updated", order


def _pay(shop: "Shop", rng: Random, order: Resource, kind: str, amount: int, at: int) -> News:
    number = shop.next_id("order_transaction", rng)
    yield "order_transactions/create", shop.add(
        "order_transaction", number, bodies.transaction(number, order.body, kind, amount, at), at, order.name)  # fmt: skip


def _cancel(shop: "Shop", rng: Random, order: Resource, at: int) -> News:
    order.body.update({"cancelled_at": samples.stamp(at), "closed_at": samples.stamp(at), "cancel_reason": "customer",
                       "financial_status": "voided"})  # fmt: skip
    shop.touch(order, at)
    yield "orders/cancelled", order
    for work in shop.children(order, "fulfillment_order"):
        _work(shop, work, "cancelled", at)
        yield "fulfillment_orders/cancelled", work
    if shop.whole:
        yield "orders/updated", order


def _fulfil(shop: "Shop", rng: Random, order: Resource, at: int) -> News:
    number = shop.next_id("fulfillment", rng)
    body = samples.fulfillment(rng, order.body, number, at)
    for work in shop.children(order, "fulfillment_order"):
        body["location_id"] = work.body["_location_id"]
        for line in work.body["_lines"]:
            line["remaining_quantity"] = 0
        _work(shop, work, "closed", at)
    order.body.update({"fulfillment_status": "fulfilled", "fulfillments": [*order.body["fulfillments"], body]})
    for line in order.body["line_items"]:
        line.update({"fulfillment_status": "fulfilled", "fulfillable_quantity": 0})
    shop.touch(order, at)
    yield "fulfillments/create", shop.add("fulfillment", number, body, at, order.name)
    yield "orders/fulfilled", order
    yield "orders/updated", order


def _refund(shop: "Shop", rng: Random, order: Resource, at: int) -> News:
    number = shop.next_id("refund", rng)
    body = samples.refund(rng, order.body, number, at)
    order.body.update({"financial_status": "partially_refunded", "refunds": [*order.body["refunds"], body]})
    shop.touch(order, at)
    paid = list(_pay(shop, rng, order, "refund", samples.cents(order.body["line_items"][0]["price"]), at))
    body["transactions"] = [resource.body for _, resource in paid]
    yield "refunds/create", shop.add("refund", number, body, at, order.name)
    yield from paid
    yield "orders/updated", order


def _return(shop: "Shop", rng: Random, order: Resource, at: int) -> News:
    number = shop.next_id("return", rng)
    sent = order.body["fulfillments"][0]
    shop.touch(order, at)
    yield "returns/request", shop.add("return", number, bodies.returned(number, order.body, sent, at), at, order.name)
    yield "orders/updated", order


def _close_return(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
    target.body.update({"status": "closed", "_closed_at": samples.stamp(at)})
    shop.touch(target, at)
    yield "returns/close", target


def _track(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
    tracking = f"HT{rng.randrange(10**9):09d}"
    target.body.update({"tracking_number": tracking, "tracking_numbers": [tracking], "shipment_status": "in_transit"})
    shop.touch(target, at)
    yield "fulfillments/update", target


def _hold(shop: "Shop", rng: Random, work: Resource, at: int) -> News:
    # A hold doesn't touch the order (community.shopify.com/t/322697).
    work.body["_holds"] = [bodies.hold(rng, shop.next_id("hold", rng))]
    _work(shop, work, "on_hold", at)
    yield "fulfillment_orders/placed_on_hold", work


def _release(shop: "Shop", rng: Random, work: Resource, at: int) -> News:
    work.body["_holds"] = []
    _work(shop, work, "open", at)
    yield "fulfillment_orders/hold_released", work


def _work(shop: "Shop", work: Resource, status: str, at: int) -> None:
    held = {"fulfillment_holds": work.body["_holds"]} if status == "on_hold" else {}
    work.body["fulfillment_order"] = {"id": work.body["fulfillment_order"]["id"], "status": status, **held}
    shop.touch(work, at)


def _draft(shop: "Shop", rng: Random, at: int) -> News:
    number = shop.next_id("draft_order", rng)
    buyer, goods = shop.any("customer", rng).body, shop.any("product", rng).body
    body = bodies.draft_order(rng, number, shop.made("draft_order") + 1, at, buyer, goods)
    yield "draft_orders/create", shop.add("draft_order", number, body, at)


def _complete(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
    target.body.update({"status": "completed", "completed_at": samples.stamp(at)})
    shop.touch(target, at)
    yield "draft_orders/update", target


def _contract(shop: "Shop", rng: Random, at: int) -> News:
    number = shop.next_id("subscription_contract", rng)
    # An app may make one without any order.
    order = shop.any("order", rng) if len(shop.shelves["order"]) and rng.random() < 0.7 else None
    buyer = order.body["customer"]["id"] if order else shop.any("customer", rng).id
    body = bodies.contract(rng, number, at, buyer, order.id if order else None)
    yield "subscription_contracts/create", shop.add("subscription_contract", number, body, at)


def _revise(topic: str, change: Callable[[Random], Body]) -> Act:
    """Every edit of a contract makes a revision, and besides the topic of its new status an update is told of it."""

    def act(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
        target.body.update(change(rng), revision_id=str(int(target.body["revision_id"]) + rng.randint(1, 1000)))
        shop.touch(target, at)
        if topic:
            yield f"subscription_contracts/{topic}", target
        yield "subscription_contracts/update", target

    return act


def _end(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
    topic, status = rng.choice((("cancel", "cancelled"), ("expire", "expired"), ("fail", "failed")))
    yield from _revise(topic, lambda rng: {"status": status})(shop, rng, target, at)


# ── goods ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _product(shop: "Shop", rng: Random, at: int) -> News:
    number = shop.next_id("product", rng)
    product = shop.add("product", number, samples.product(rng, number, at), at)
    yield "products/create", product
    if shop.whole:
        for variant in product.body["variants"]:
            shop.add("variant", variant["id"], variant, at, product.name)
            item = shop.add("inventory_item", variant["inventory_item_id"], bodies.inventory_item(rng, variant, at), at, product.name)
            yield "inventory_items/create", item
            for location in shop.live("location"):
                body = samples.inventory_level(item.id, location.id, variant["inventory_quantity"], at)
                yield "inventory_levels/connect", shop.add("inventory_level", level_id(item.id, location.id), body, at, item.name)


def _reprice(shop: "Shop", rng: Random, product: Resource, at: int) -> News:
    variant = rng.choice(product.body["variants"])
    variant |= {
        "price": samples.price(rng.randint(900, 24_900)), "old_inventory_quantity": variant["inventory_quantity"],
        "inventory_quantity": rng.randint(0, 200), "updated_at": samples.stamp(at),
    }  # fmt: skip
    told = next(one for one in product.body["variant_gids"] if one["admin_graphql_api_id"] == variant["admin_graphql_api_id"])
    told["updated_at"] = samples.millis(at)
    if found := shop.get_id("variant", variant["id"]):
        shop.touch(found, at)
    shop.touch(product, at)
    yield "products/update", product


def _remove_variant(shop: "Shop", rng: Random, product: Resource, at: int) -> News:
    variant = product.body["variants"].pop()
    product.body["variant_gids"].pop()
    for gone in filter(None, [shop.get_id("variant", variant["id"])]):
        shop.remove(gone, at)
    shop.touch(product, at)
    yield "products/update", product
    if item := shop.get_id("inventory_item", variant["inventory_item_id"]):
        yield from _delete("inventory_items/delete")(shop, rng, item, at)


def _touch(topic: str) -> Act:
    """`updated_at` moves and nothing else: an order moves its products' (the schema's own note on Product.updatedAt)."""

    def act(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
        if target.updated < at or shop.ties:
            shop.touch(target, at)
            yield topic, target

    return act


def _set(topic: str, change: Callable[[Random], Body]) -> Act:
    """An edit of the resource's own members."""

    def act(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
        target.body.update(change(rng))
        shop.touch(target, at)
        yield topic, target

    return act


def _make(topic: str, kind: str, body: Callable[[Random, int, int], Body]) -> Making:
    def act(shop: "Shop", rng: Random, at: int) -> News:
        number = shop.next_id(kind, rng)
        yield topic, shop.add(kind, number, body(rng, number, at), at)

    return act


def _location(shop: "Shop", rng: Random, at: int) -> News:
    count = shop.made("location")
    if count == PLACES:
        return
    number = FIRST_PLACE + count
    yield "locations/create", shop.add("location", number, bodies.location(number, count, at), at)


def _move(shop: "Shop", rng: Random, level: Resource, at: int) -> News:
    yield from _stock(shop, level, rng.randint(1, 50), at)


# ── companies and themes ────────────────────────────────────────────────────────────────────────────────────────────
def _company(shop: "Shop", rng: Random, at: int) -> News:
    number = shop.next_id("company", rng)
    company = shop.add("company", number, bodies_b2b.company(rng, number, at), at)
    yield "companies/create", company
    yield from _branch_of(shop, rng, company, at)


def _branch(shop: "Shop", rng: Random, at: int) -> News:
    yield from _branch_of(shop, rng, shop.any("company", rng), at)


def _branch_of(shop: "Shop", rng: Random, company: Resource, at: int) -> News:
    number = shop.next_id("company_location", rng)
    body = bodies_b2b.company_location(rng, number, company.body, at)
    yield "company_locations/create", shop.add("company_location", number, body, at, company.name)


def _theme(shop: "Shop", rng: Random, at: int) -> News:
    if len(shop.shelves["theme"]) < bodies_b2b.THEMES:
        number = shop.next_id("theme", rng)
        yield "themes/create", shop.add("theme", number, bodies_b2b.theme(rng, number, at), at)


def _publish(shop: "Shop", rng: Random, theme: Resource, at: int) -> News:
    replaced = [one for one in shop.live("theme") if one.body["role"] == "main"]
    # Two changes of one theme in one second would be one version.
    if all(one.updated < at for one in replaced) or shop.ties:
        for one, role in ((theme, "main"), *((one, "unpublished") for one in replaced)):
            one.body["role"] = role
            shop.touch(one, at)
        yield "themes/publish", theme
        yield from (("themes/update", one) for one in replaced)


def _quietly(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
    """`updated_at` moves, and no webhook of the resource's own tells why: a theme's files (the schema's note on THEMES_UPDATE), a
    contract's payment, of which its body has nothing."""
    shop.touch(target, at)
    yield from ()


def _delete(topic: str) -> Act:
    """A deletion takes along what belongs to the resource; Shopify tells of some kinds, not of an order's parts."""

    def act(shop: "Shop", rng: Random, target: Resource, at: int) -> News:
        below = shop.below(target)
        for gone in (target, *below):
            shop.remove(gone, at)
        yield topic, target
        told = {"inventory_item": "inventory_items/delete", "inventory_level": "inventory_levels/disconnect",
                "company_location": "company_locations/delete"}  # fmt: skip
        yield from ((told[gone.kind], gone) for gone in below if gone.kind in told)

    return act


MAKE: dict[str, Making] = {
    "order_create": _order, "product_create": _product, "draft_order_create": _draft, "location_create": _location,
    "customer_create": _make("customers/create", "customer", samples.customer),
    "collection_create": _make("collections/create", "collection", bodies.collection),
    "discount_create": _make("discounts/create", "discount", bodies.discount),
    "company_create": _company, "company_location_create": _branch, "theme_create": _theme,
    "segment_create": _make("segments/create", "segment", bodies.segment), "subscription_contract_create": _contract,
}  # fmt: skip
ACTS: dict[str, Act] = {
    "order_update": _note, "order_paid": _paid, "order_cancel": _cancel, "order_delete": _delete("orders/delete"),
    "order_fulfil": _fulfil, "order_refund": _refund, "order_return": _return, "return_close": _close_return,
    "fulfillment_update": _track, "fulfillment_order_hold": _hold, "fulfillment_order_release": _release,
    "product_update": _reprice, "product_touch": _touch("products/update"), "product_remove_variant": _remove_variant,
    "product_delete": _delete("products/delete"), "customer_update": _note, "customer_delete": _delete("customers/delete"),
    "collection_update": _set("collections/update", lambda rng: {"title": f"Picked {rng.randrange(10**6)}"}),
    "collection_delete": _delete("collections/delete"),
    "draft_order_update": _set("draft_orders/update", lambda rng: {"note": f"Asked again {rng.randrange(10**6)}"}),
    "draft_order_complete": _complete, "draft_order_delete": _delete("draft_orders/delete"),
    "inventory_item_update": _set("inventory_items/update", lambda rng: {"cost": samples.price(rng.randint(300, 9_000))}),
    "inventory_level_update": _move, "inventory_level_disconnect": _delete("inventory_levels/disconnect"),
    "location_update": _set("locations/update", lambda rng: {"phone": f"555-01{rng.randint(10, 99)}"}),
    "location_deactivate": _set("locations/deactivate", lambda rng: {"active": False}),
    "location_activate": _set("locations/activate", lambda rng: {"active": True}),
    "location_delete": _delete("locations/delete"),
    "discount_update": _set("discounts/update", lambda rng: {"title": f"SAVE{rng.randrange(10**6):06d}"}),
    "discount_delete": _delete("discounts/delete"),
    "company_update": _set("companies/update", lambda rng: {"note": f"Net {rng.randrange(10**4)} days"}),
    "company_delete": _delete("companies/delete"),
    "company_location_update": _set("company_locations/update", lambda rng: {"external_id": f"B{rng.randrange(10**6):06d}"}),
    "company_location_delete": _delete("company_locations/delete"),
    "theme_update": _set("themes/update", lambda rng: {"name": f"Season {rng.randrange(10**6)}"}),
    "theme_publish": _publish, "theme_edit_files": _quietly, "theme_delete": _delete("themes/delete"),
    "segment_update": _set("segments/update", lambda rng: {"query": f"amount_spent > {rng.randrange(10**6)}"}),
    "segment_delete": _delete("segments/delete"),
    "subscription_contract_update": _revise("", lambda rng: {"delivery_policy": {"interval": "week", "interval_count": rng.randint(1, 8)}}),
    "subscription_contract_pause": _revise("pause", lambda rng: {"status": "paused"}),
    "subscription_contract_activate": _revise("activate", lambda rng: {"status": "active"}), "subscription_contract_end": _end,
    "subscription_contract_bill": _quietly,
}  # fmt: skip


def _unpaid(order: Resource) -> bool:
    return order.body["cancelled_at"] is None and order.body["financial_status"] == "pending"


ALLOWED: dict[str, Callable[[Resource], bool]] = {
    "order_paid": _unpaid, "order_cancel": _unpaid,
    "order_fulfil": lambda order: order.body["cancelled_at"] is None and order.body["fulfillment_status"] is None,
    "order_refund": lambda order: order.body["financial_status"] == "paid",
    "order_return": lambda order: order.body["fulfillment_status"] == "fulfilled",
    "return_close": lambda target: target.body["status"] == "requested",
    "fulfillment_order_hold": lambda work: work.body["fulfillment_order"]["status"] == "open",
    "fulfillment_order_release": lambda work: work.body["fulfillment_order"]["status"] == "on_hold",
    "product_remove_variant": lambda product: len(product.body["variants"]) > 1,
    "draft_order_complete": lambda draft: draft.body["status"] == "open",
    "location_deactivate": lambda place: place.body["active"] and place.id != FIRST_PLACE,
    "location_activate": lambda place: not place.body["active"],
    # Orders go to the first location: a shop always has it.
    "location_delete": lambda place: not place.body["active"],
    "theme_publish": lambda theme: theme.body["role"] == "unpublished",
    "theme_delete": lambda theme: theme.body["role"] != "main",
    "subscription_contract_pause": lambda contract: contract.body["status"] == "active",
    "subscription_contract_activate": lambda contract: contract.body["status"] == "paused",
    "subscription_contract_bill": lambda contract: contract.body["status"] == "active",
    "subscription_contract_end": lambda contract: contract.body["status"] in ("active", "paused"),
}  # fmt: skip
"""Which resources an act may strike; no entry: all."""
