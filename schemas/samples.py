"""Realistic webhook bodies in our own words, for `hooktape send`, the local shop and tests. Pure: a seed in, bytes out.

Shapes follow Shopify's REST resources as webhooks carry them at API 2026-04: no `checkout_id` on orders (removed in
2026-04), no tags or marketing consent on customers (removed in 2025-01). All people and goods are invented.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import msgspec

from hooktape.schemas.resources import singular

Body = dict[str, Any]

SHOP_ZONE = timezone(timedelta(hours=-5))
"""Webhook bodies carry the shop's own offset and the Admin API UTC: whoever compares texts instead of instants fails."""
SHOP_DOMAIN = "hooktape-demo.myshopify.com"
CURRENCY = "USD"

_FIRST = ("Ada", "Bryn", "Chidi", "Dorothée", "Emil", "Farah", "Hana", "Iñigo", "Jun", "Kaya", "Lars", "Mira", "Nils")
_LAST = ("Albrecht", "Boateng", "Castaño", "Duarte", "Eriksen", "Fournier", "Grünwald", "Hoang", "Ito", "Jansen", "O'Keefe")
_TOWNS = (("Milford", "Vermont", "VT", "05060"), ("Cedar Falls", "Iowa", "IA", "50613"), ("Port Anders", "Maine", "ME", "04101"),
          ("San Rey", "California", "CA", "93401"), ("Elk Ridge", "Oregon", "OR", "97015"))  # fmt: skip
_STREETS = ("Foundry Lane", "Old Mill Road", "Juniper St. #4/B", "Harbour & Quay", "North Terrace")
_GOODS = (("Kettle", "Stones"), ("Field Notebook", "Paper & Ink"), ("Wool Blanket", "Härlig"), ("Desk Lamp <warm>", "Luma/Co"),
          ("Trail Bottle", "Norrland"), ("Chef's Knife", "Kiyomi"), ("Rain Coat", "Norrland"))  # fmt: skip
_SIZES = ("Small", "Medium", "Large")
_TAGS = ("gift", "wholesale", "rush", "first-order", "café", "b2b/net30")
_NOTES = (None, None, None, "Ring the bell & wait", "Leave at reception/desk 2", "Birthday — no invoice, please")


def encode(value: object) -> bytes:
    r"""JSON as Shopify writes it: `/` as `\/`, and `&`, `<`, `>`, U+2028 and U+2029 as `\uXXXX`; other text as UTF-8.

    Whoever decodes and encodes a body again therefore breaks its signature (Shopify/shopify-express#114). In JSON these
    characters stand only inside strings, so that replacing bytes is exact.
    """
    raw = msgspec.json.encode(value).replace(b"/", b"\\/")
    for plain, escaped in _ESCAPES:
        if plain in raw:
            raw = raw.replace(plain, escaped)
    return raw


_ESCAPES = tuple((c.encode(), f"\\u{ord(c):04x}".encode()) for c in "&<>\u2028\u2029")


def stamp(seconds: int) -> str:
    """Whole seconds since the epoch as bodies show them: `2026-11-20T03:00:00-05:00`."""
    return datetime.fromtimestamp(seconds, SHOP_ZONE).isoformat()


def utc(seconds: int) -> str:
    """The same instant as the Admin API shows it: `2026-11-20T08:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def millis(seconds: int) -> str:
    """The same instant as the few webhooks tell it that have UTC: `2026-11-20T08:00:00.000Z`."""
    return f"{utc(seconds)[:-1]}.000Z"


def gid(kind: str, number: int) -> str:
    """`Order`, 1 → `gid://shopify/Order/1`."""
    return f"gid://shopify/{kind}/{number}"


def price(cents: int) -> str:
    """Cents as Shopify's decimal text: 1999 → `19.99`."""
    return f"{cents // 100}.{cents % 100:02d}"


def cents(text: str) -> int:
    """The inverse of `price`."""
    return round(float(text) * 100)


def money(amount: int) -> Body:
    """A `*_set` of so many cents."""
    one = {"amount": price(amount), "currency_code": CURRENCY}
    return {"shop_money": one, "presentment_money": one}


def _address(rng: Random, first: str, last: str) -> Body:
    city, province, code, postcode = rng.choice(_TOWNS)
    return {
        "first_name": first, "address1": f"{rng.randint(1, 900)} {rng.choice(_STREETS)}", "phone": f"555-01{rng.randint(10, 99)}",
        "city": city, "zip": postcode, "province": province, "country": "United States", "last_name": last, "address2": None,
        "company": None, "latitude": None, "longitude": None, "name": f"{first} {last}", "country_code": "US",
        "province_code": code,
    }  # fmt: skip


def customer(rng: Random, number: int, at: int) -> Body:
    """A new customer; `at` in seconds since the epoch."""
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    # Reserved for examples by RFC 2606: no mail can ever reach anybody.
    email = f"{first}.{last}.{number % 10_000}@example.com".lower().replace("'", "")
    home = _address(rng, first, last)
    home |= {"id": number + 17, "customer_id": number, "country_name": "United States", "default": True}
    return {
        "id": number, "email": email, "created_at": stamp(at), "updated_at": stamp(at), "first_name": first, "last_name": last,
        "orders_count": 0, "state": "disabled", "total_spent": "0.00", "last_order_id": None, "note": rng.choice(_NOTES),
        "verified_email": True, "multipass_identifier": None, "tax_exempt": False, "last_order_name": None,
        "currency": CURRENCY, "phone": None, "addresses": [home], "tax_exemptions": [],
        "admin_graphql_api_id": gid("Customer", number), "default_address": home,
    }  # fmt: skip


def product(rng: Random, number: int, at: int) -> Body:
    """A new product with one to three variants."""
    good, vendor = rng.choice(_GOODS)
    title = f"{good} No. {number % 1000}"
    handle = "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in title.lower()).split())
    base = rng.randint(900, 24_900)
    variants = [
        {
            "admin_graphql_api_id": gid("ProductVariant", number + 100 + n), "barcode": None, "compare_at_price": None,
            "created_at": stamp(at), "id": number + 100 + n, "inventory_policy": "deny", "position": n + 1,
            "price": price(base + 500 * n), "product_id": number, "sku": f"{handle[:12]}-{size[0]}".upper(), "taxable": True,
            "title": size, "updated_at": stamp(at), "option1": size, "option2": None, "option3": None, "image_id": None,
            "inventory_item_id": number + 200 + n, "inventory_quantity": (stock := rng.randint(0, 200)),
            "old_inventory_quantity": stock,
        }
        for n, size in enumerate(_SIZES[: rng.randint(1, 3)])
    ]  # fmt: skip
    return {
        "admin_graphql_api_id": gid("Product", number), "body_html": f"<p>{good} by {vendor} &amp; friends</p>",
        "created_at": stamp(at), "handle": handle, "id": number, "product_type": good.split()[-1], "published_at": stamp(at),
        "template_suffix": None, "title": title, "updated_at": stamp(at), "vendor": vendor, "status": "active",
        "published_scope": "global", "tags": ", ".join(sorted(rng.sample(_TAGS, 2))), "variants": variants,
        "options": [{"name": "Size", "id": number + 300, "product_id": number, "position": 1,
                     "values": [v["option1"] for v in variants]}],
        "images": [], "image": None, "media": [],
        "variant_gids": [{"admin_graphql_api_id": v["admin_graphql_api_id"], "updated_at": millis(at)} for v in variants],
        "has_variants_that_requires_components": False,
    }  # fmt: skip


def _line_item(rng: Random, number: int, goods: Body) -> Body:
    variant, quantity = rng.choice(goods["variants"]), rng.randint(1, 3)
    amount = cents(variant["price"])
    return {
        "id": number, "admin_graphql_api_id": gid("LineItem", number), "attributed_staffs": [], "current_quantity": quantity,
        "fulfillable_quantity": quantity, "fulfillment_service": "manual", "fulfillment_status": None, "gift_card": False,
        "grams": 340, "name": f"{goods['title']} - {variant['title']}", "price": price(amount), "price_set": money(amount),
        "product_exists": True, "product_id": goods["id"], "properties": [], "quantity": quantity, "requires_shipping": True,
        "sku": variant["sku"], "taxable": True, "title": goods["title"], "total_discount": "0.00",
        "total_discount_set": money(0), "variant_id": variant["id"], "variant_inventory_management": "shopify",
        "variant_title": variant["title"], "vendor": goods["vendor"], "tax_lines": [], "duties": [], "discount_allocations": [],
    }  # fmt: skip


def order(rng: Random, number: int, count: int, at: int, buyer: Body, goods: Sequence[Body]) -> Body:
    """A new, unpaid order of `buyer` for one or two of `goods`; `count` is its ordinal, so that the first is `#1001`."""
    chosen = [rng.choice(goods) for _ in range(rng.randint(1, 2))]
    items = [_line_item(rng, number * 10 + n + 1, one) for n, one in enumerate(chosen)]
    subtotal = sum(cents(item["price"]) * item["quantity"] for item in items)
    shipping, tax = 500, subtotal * 6 // 100
    total = subtotal + shipping + tax
    token = f"{rng.getrandbits(128):032x}"
    address = _address(rng, buyer["first_name"], buyer["last_name"])
    body: Body = {
        "id": number, "admin_graphql_api_id": gid("Order", number), "app_id": 580111, "browser_ip": None,
        "buyer_accepts_marketing": False, "cancel_reason": None, "cancelled_at": None, "cart_token": None,
        "checkout_token": token[::-1], "client_details": None, "closed_at": None, "confirmation_number": token[:9].upper(),
        "confirmed": True, "contact_email": buyer["email"], "created_at": stamp(at), "currency": CURRENCY,
        "current_total_additional_fees_set": None, "current_total_duties_set": None, "customer_locale": "en", "device_id": None,
        "discount_codes": [], "email": buyer["email"], "estimated_taxes": False, "financial_status": "pending",
        "fulfillment_status": None, "landing_site": f"/collections/all?ref={token[:6]}&page=1", "landing_site_ref": token[:6],
        "location_id": None, "merchant_of_record_app_id": None, "name": f"#{1000 + count}", "note": rng.choice(_NOTES),
        "note_attributes": [], "number": count, "order_number": 1000 + count,
        "order_status_url": f"https://{SHOP_DOMAIN}/90210/orders/{token}/authenticate?key={token[:12]}&none=1",
        "original_total_additional_fees_set": None, "original_total_duties_set": None, "payment_gateway_names": ["bogus"],
        "phone": None, "po_number": None, "presentment_currency": CURRENCY, "processed_at": stamp(at), "reference": None,
        "referring_site": None, "source_identifier": None, "source_name": "web", "source_url": None,
        "tags": ", ".join(sorted(rng.sample(_TAGS, rng.randint(0, 2)))), "tax_exempt": False, "tax_lines": [],
        "taxes_included": False, "test": False, "token": token, "total_line_items_price": price(subtotal),
        "total_line_items_price_set": money(subtotal), "total_outstanding": price(total),
        "total_shipping_price_set": money(shipping), "total_tip_received": "0.00", "total_weight": 340 * len(items),
        "updated_at": stamp(at), "user_id": None, "billing_address": address, "customer": _buyer(buyer),
        "discount_applications": [], "fulfillments": [], "line_items": items, "payment_terms": None, "refunds": [],
        "shipping_address": address, "shipping_lines": [],
    }  # fmt: skip
    for prefix in ("current_", ""):
        for name, amount in (("subtotal_price", subtotal), ("total_discounts", 0), ("total_price", total), ("total_tax", tax)):
            body |= {f"{prefix}{name}": price(amount), f"{prefix}{name}_set": money(amount)}
    return body


_EMBEDDED = ("id", "email", "created_at", "updated_at", "first_name", "last_name", "state", "note", "verified_email",
             "multipass_identifier", "tax_exempt", "phone", "currency", "tax_exemptions", "admin_graphql_api_id")  # fmt: skip


def _buyer(body: Body) -> Body:
    """A customer as an order embeds it."""
    return {key: body[key] for key in _EMBEDDED} | {"default_address": body["addresses"][0]}


def refund(rng: Random, parent: Body, number: int, at: int) -> Body:
    """A new refund of one piece of the order's first line; `at` in seconds since the epoch."""
    item = parent["line_items"][0]
    subtotal = cents(item["price"])
    return {
        "id": number, "order_id": parent["id"], "created_at": stamp(at), "note": "Arrived damaged", "user_id": _id(rng),
        "processed_at": stamp(at), "restock": False, "duties": [], "total_duties_set": money(0), "return": None,
        "refund_shipping_lines": [], "admin_graphql_api_id": gid("Refund", number), "order_adjustments": [],
        "refund_line_items": [{
            "id": _id(rng), "quantity": 1, "line_item_id": item["id"], "location_id": None, "restock_type": "no_restock",
            "subtotal": subtotal / 100, "total_tax": 0.0, "subtotal_set": money(subtotal), "total_tax_set": money(0),
            "line_item": item,
        }],
        "transactions": [],
    }  # fmt: skip


def fulfillment(rng: Random, parent: Body, number: int, at: int) -> Body:
    """A new fulfilment of the whole order; `at` in seconds since the epoch."""
    tracking = f"HT{rng.randrange(10**9):09d}"
    link = f"https://parcels.example/track?no={tracking}&lang=en"
    return {
        "id": number, "order_id": parent["id"], "status": "success", "created_at": stamp(at), "service": "manual",
        "updated_at": stamp(at), "tracking_company": "Parcel & Post", "shipment_status": None, "location_id": _id(rng),
        "origin_address": None, "email": parent["email"], "destination": parent["shipping_address"],
        "line_items": parent["line_items"], "tracking_number": tracking, "tracking_numbers": [tracking], "tracking_url": link,
        "tracking_urls": [link], "receipt": {}, "name": f"{parent['name']}.1", "admin_graphql_api_id": gid("Fulfillment", number),
    }  # fmt: skip


def inventory_level(item: int, place: int, available: int, at: int) -> Body:
    """How many of an item are at a location; `at` in seconds since the epoch."""
    return {"inventory_item_id": item, "location_id": place, "available": available, "updated_at": stamp(at),
            "admin_graphql_api_id": f"gid://shopify/InventoryLevel/{place}?inventory_item_id={item}"}  # fmt: skip


def _shop(rng: Random, at: int) -> Body:
    """The shop itself: the body of `shop/update` and of `app/uninstalled` alike."""
    city, province, code, postcode = rng.choice(_TOWNS)
    return {
        "id": _id(rng), "name": "Hooktape Outfitters", "email": "owner@example.com", "domain": None, "province": province,
        "country": "US", "address1": f"12 {rng.choice(_STREETS)}", "zip": postcode, "city": city, "source": None,
        "phone": "5550142", "latitude": None, "longitude": None, "primary_locale": "en", "address2": None,
        "created_at": stamp(at), "updated_at": stamp(at), "country_code": "US", "country_name": "United States",
        "currency": CURRENCY, "customer_email": "owner@example.com", "timezone": "(GMT-05:00) Eastern Time (US & Canada)",
        "iana_timezone": "America/New_York", "shop_owner": "Mira Fournier", "money_format": "${{amount}}",
        "money_with_currency_format": "${{amount}} USD", "weight_unit": "kg", "province_code": code, "taxes_included": False,
        "plan_display_name": "Basic", "plan_name": "basic", "myshopify_domain": SHOP_DOMAIN, "has_storefront": True,
        "enabled_presentment_currencies": [CURRENCY],
    }  # fmt: skip


def _compliance(rng: Random, at: int) -> Body:
    return {"shop_id": _id(rng), "shop_domain": SHOP_DOMAIN}


def _redact(rng: Random, at: int) -> Body:
    person = customer(rng, _id(rng), at)
    return _compliance(rng, at) | {
        "customer": {"id": person["id"], "email": person["email"], "phone": "555-0177"}, "orders_to_redact": [_id(rng), _id(rng)],
    }  # fmt: skip


def _data_request(rng: Random, at: int) -> Body:
    body = _redact(rng, at)
    orders = body.pop("orders_to_redact")
    return body | {"orders_requested": orders, "data_request": {"id": _id(rng)}}


def _sample_order(rng: Random, at: int) -> Body:
    goods = [product(rng, _id(rng), at) for _ in range(2)]
    return order(rng, _id(rng), rng.randint(1, 9000), at, customer(rng, _id(rng), at), goods)


def _id(rng: Random) -> int:
    # Real ids have 13 digits and Shopify's own samples 18: beyond 2^53, where a reader through floats goes wrong.
    return rng.randrange(10**12, 10**18)


# What a topic says about the resource beyond its plain state.
_SAID: dict[str, Callable[[int], Body]] = {
    "orders/paid": lambda at: {"financial_status": "paid", "total_outstanding": "0.00"},
    "orders/cancelled": lambda at: {"cancelled_at": stamp(at), "cancel_reason": "customer", "financial_status": "voided"},
    "orders/fulfilled": lambda at: {"fulfillment_status": "fulfilled"},
    "orders/partially_fulfilled": lambda at: {"fulfillment_status": "partial"},
    "customers/enable": lambda at: {"state": "enabled"},
}
# Families of one shape. `orders/edited`, `customers/merge` … have shapes of their own and fall to the plain one.
_FULL: dict[str, Callable[[Random, int], Body]] = {
    **dict.fromkeys(("orders/create", "orders/updated", "orders/paid", "orders/cancelled", "orders/fulfilled",
                     "orders/partially_fulfilled"), _sample_order),
    **dict.fromkeys(("products/create", "products/update"), lambda rng, at: product(rng, _id(rng), at)),
    **dict.fromkeys(("customers/create", "customers/update", "customers/enable", "customers/disable"),
                    lambda rng, at: customer(rng, _id(rng), at)),
    **dict.fromkeys(("fulfillments/create", "fulfillments/update"),
                    lambda rng, at: fulfillment(rng, _sample_order(rng, at), _id(rng), at)),
    **dict.fromkeys(("inventory_levels/connect", "inventory_levels/update"),
                    lambda rng, at: inventory_level(_id(rng), _id(rng), rng.randint(0, 200), at)),
    **dict.fromkeys(("app/uninstalled", "shop/update"), _shop),
    "refunds/create": lambda rng, at: refund(rng, _sample_order(rng, at), _id(rng), at),
    "customers/redact": _redact, "customers/data_request": _data_request, "shop/redact": _compliance,
}  # fmt: skip
# Families whose bodies have no `id`; those of their deletions show the last state.
_BY_GID = ("companies", "company_contacts", "company_locations")
_EPOCH = 1_767_225_600  # 2026-01-01T00:00:00Z: a sample is a function of topic and seed alone


def sample(topic: str, seed: int = 0) -> bytes:
    """A body as Shopify might send it for `topic`; the same topic and seed give the same bytes.

    Detailed for orders, products, customers, refunds, fulfilments, inventory levels, the shop and the compliance topics;
    of any other topic, known or not, it has the id, the global id and `updated_at`; of a deletion the id alone. Companies have the
    global id only.
    """
    rng = Random(f"{topic}:{seed}")
    at = _EPOCH + rng.randrange(86_400 * 300)
    if topic in _FULL:
        body = _FULL[topic](rng, at)
        return encode(body | _SAID[topic](at) if topic in _SAID else body)
    number, family = _id(rng), topic.partition("/")[0].partition(".")[0]
    named = gid("".join(word.title() for word in singular(family).split("_")), number)
    if family in _BY_GID:
        return encode({"admin_graphql_api_id": named, "updated_at": stamp(at)})
    if topic.endswith("/delete"):
        return encode({"id": number})
    return encode({"id": number, "admin_graphql_api_id": named, "updated_at": stamp(at)})
