"""REST bodies of what a shop holds beside orders, products and customers, as its webhooks carry them. Pure.

Members that begin with `_` are the shop's own: the Admin API shows them, no webhook does (`plain` leaves them out).
"""

from random import Random
from typing import Any

from hooktape.schemas import samples
from hooktape.schemas.samples import cents, gid, millis, money, price, stamp

Body = dict[str, Any]
_TITLES = ("Spring & Summer", "Under the Tree", "New In", "For the Kitchen", "Last Pieces", "Café/Bar")
_PLACES = (("Main Street", "Milford", "Vermont", "VT", "05060"), ("Harbour Store", "Port Anders", "Maine", "ME", "04101"),
           ("Warehouse 3/B", "Elk Ridge", "Oregon", "OR", "97015"))  # fmt: skip
_SORTED = ("best-selling", "manual", "alpha-asc")


def plain(body: Body) -> Body:
    """The body without the shop's own members."""
    return {key: value for key, value in body.items() if not key.startswith("_")}


def transaction(number: int, order: Body, kind: str, amount: int, at: int) -> Body:
    """A payment (`sale`) or a `refund` of `amount` cents."""
    return {
        "id": number, "order_id": order["id"], "kind": kind, "gateway": "bogus", "status": "success", "message": None,
        "created_at": stamp(at), "test": False, "authorization": None, "location_id": None, "user_id": None, "parent_id": None,
        "processed_at": stamp(at), "device_id": None, "error_code": None, "source_name": "web", "receipt": {},
        "amount": price(amount), "currency": samples.CURRENCY, "payment_id": f"{order['name']}.1",
        "total_unsettled_set": money(0), "manual_payment_gateway": False, "admin_graphql_api_id": gid("OrderTransaction", number),
    }  # fmt: skip


def returned(number: int, order: Body, fulfilment: Body, at: int) -> Body:
    """A return of one piece; the body has no `updated_at`, as Shopify's hasn't."""
    item = fulfilment["line_items"][0]
    return {
        "id": number, "admin_graphql_api_id": gid("Return", number), "status": "requested", "name": f"{order['name']}-R1",
        "order": {"id": order["id"], "admin_graphql_api_id": order["admin_graphql_api_id"]}, "total_return_line_items": 1,
        "return_line_items": [{
            "id": number + 1, "admin_graphql_api_id": gid("ReturnLineItem", number + 1), "quantity": 1, "customer_note": "Too small",
            "return_reason": "size_too_small", "return_reason_note": "",
            "fulfillment_line_item": {"id": item["id"], "admin_graphql_api_id": gid("FulfillmentLineItem", item["id"]),
                                      "line_item": {"id": item["id"], "admin_graphql_api_id": item["admin_graphql_api_id"]}},
        }],
        "_created_at": stamp(at), "_closed_at": None,
    }  # fmt: skip


def fulfillment_order(number: int, order: Body, location: int, at: int) -> Body:
    """An order's work for one location. Its webhooks carry id and status only, under `fulfillment_order`."""
    own = gid("FulfillmentOrder", number)
    return {
        "fulfillment_order": {"id": own, "status": "open"},
        "_updated_at": stamp(at), "_created_at": stamp(at), "_order_id": order["id"], "_order_name": order["name"],
        "_request_status": "unsubmitted", "_location_id": location, "_holds": [],
        "_lines": [{"id": gid("FulfillmentOrderLineItem", item["id"]), "line_item": item, "total_quantity": item["quantity"],
                    "remaining_quantity": item["quantity"]} for item in order["line_items"]],
    }  # fmt: skip


def hold(rng: Random, number: int) -> Body:
    """A hold as the webhook of it names it."""
    return {"id": gid("FulfillmentHold", number), "held_by_requesting_app": False, "reason": "other",
            "reason_notes": f"Address asked for {rng.randrange(1000)}"}  # fmt: skip


def collection(rng: Random, number: int, at: int) -> Body:
    title = f"{rng.choice(_TITLES)} {number % 1000}"
    handle = "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in title.lower()).split())
    return {
        "id": number, "handle": handle, "title": title, "updated_at": stamp(at), "body_html": f"<p>{title} &amp; more</p>",
        "published_at": stamp(at), "sort_order": rng.choice(_SORTED), "template_suffix": None, "published_scope": "web",
        "admin_graphql_api_id": gid("Collection", number),
    }  # fmt: skip


def draft_order(rng: Random, number: int, count: int, at: int, buyer: Body, goods: Body) -> Body:
    """An open draft of one line for `buyer`; `count` is its ordinal."""
    order = samples.order(rng, number, count, at, buyer, [goods])
    item = order["line_items"][0]
    amount = cents(item["price"]) * item["quantity"]
    kept = ("variant_id", "product_id", "title", "variant_title", "sku", "vendor", "quantity", "requires_shipping", "taxable",
            "gift_card", "fulfillment_service", "grams", "tax_lines", "name", "properties", "price")  # fmt: skip
    line = {key: item[key] for key in kept} | {"id": item["id"], "applied_discount": None, "custom": False,
                                               "admin_graphql_api_id": gid("DraftOrderLineItem", item["id"])}  # fmt: skip
    return {
        "id": number, "note": None, "email": buyer["email"], "taxes_included": False, "currency": samples.CURRENCY,
        "invoice_sent_at": None, "created_at": stamp(at), "updated_at": stamp(at), "tax_exempt": False, "completed_at": None,
        "name": f"#D{count}", "status": "open", "line_items": [line], "shipping_address": order["shipping_address"],
        "billing_address": order["billing_address"], "invoice_url": f"https://{samples.SHOP_DOMAIN}/90210/invoices/{number:x}",
        "applied_discount": None, "order_id": None, "shipping_line": None, "tax_lines": [], "tags": "", "note_attributes": [],
        "total_price": price(amount), "subtotal_price": price(amount), "total_tax": "0.00", "payment_terms": None,
        "admin_graphql_api_id": gid("DraftOrder", number), "customer": order["customer"],
    }  # fmt: skip


def segment(rng: Random, number: int, at: int) -> Body:
    """Customers by what they have done; its members have GraphQL's names, and no global id is among them."""
    return {"id": number, "name": f"Came back {number % 1000}", "query": f"number_of_orders >= {rng.randint(2, 9)}",
            "creationDate": millis(at), "lastEditDate": millis(at)}  # fmt: skip


def contract(rng: Random, number: int, at: int, buyer: int, order: int | None) -> Body:
    """An active subscription contract; the body has no time of its own, as the documented one hasn't."""
    every = {"interval": rng.choice(("week", "month")), "interval_count": rng.randint(1, 4)}
    return {
        "admin_graphql_api_id": gid("SubscriptionContract", number), "id": number,
        "billing_policy": every | {"min_cycles": rng.choice((None, 2)), "max_cycles": None}, "currency_code": samples.CURRENCY,
        "customer_id": buyer, "admin_graphql_api_customer_id": gid("Customer", buyer), "delivery_policy": every, "status": "active",
        "admin_graphql_api_origin_order_id": order and gid("Order", order), "origin_order_id": order,
        "revision_id": str(rng.randrange(10**11, 10**12)), "_created_at": stamp(at), "_updated_at": stamp(at),
    }  # fmt: skip


def inventory_item(rng: Random, variant: Body, at: int) -> Body:
    number = variant["inventory_item_id"]
    return {
        "id": number, "sku": variant["sku"], "created_at": stamp(at), "updated_at": stamp(at), "requires_shipping": True,
        "cost": price(rng.randint(300, 9_000)), "country_code_of_origin": None, "province_code_of_origin": None,
        "harmonized_system_code": None, "tracked": True, "country_harmonized_system_codes": [],
        "admin_graphql_api_id": gid("InventoryItem", number),
    }  # fmt: skip


def location(number: int, count: int, at: int) -> Body:
    name, city, province, code, postcode = _PLACES[count % len(_PLACES)]
    return {
        "id": number, "name": f"{name} {count + 1}", "address1": f"{count + 1} Quay & Sons", "address2": None, "city": city,
        "zip": postcode, "province": province, "country": "US", "phone": None, "created_at": stamp(at), "updated_at": stamp(at),
        "country_code": "US", "country_name": "United States", "province_code": code, "legacy": False, "active": True,
        "admin_graphql_api_id": gid("Location", number),
    }  # fmt: skip


def discount(rng: Random, number: int, at: int) -> Body:
    return {
        "admin_graphql_api_id": gid("DiscountCodeNode", number), "title": f"SAVE{rng.randrange(10**6):06d}", "status": "ACTIVE",
        "created_at": stamp(at), "updated_at": stamp(at),
    }  # fmt: skip
