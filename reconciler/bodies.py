"""From the Admin API's GraphQL to the REST-shaped body that a webhook would have carried.

A key is here when its value is known from the API, and absent otherwise: a null that Shopify didn't say could be taken for
news. `ABSENT` lists what a real webhook has and these bodies don't. Times are in UTC where webhooks carry the shop's
offset, and amounts have two decimals.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from hooktape.schemas.resources import gid_number

Node = Mapping[str, Any]
Body = dict[str, Any]

_LINE_ABSENT = frozenset({
    "attributed_staffs", "discount_allocations", "duties", "fulfillable_quantity", "fulfillment_service", "fulfillment_status",
    "grams", "properties", "tax_lines", "variant_inventory_management",
})  # fmt: skip
ABSENT: Mapping[str, frozenset[str]] = {
    "orders": frozenset({
        "app_id", "browser_ip", "buyer_accepts_marketing", "cart_token", "checkout_id", "checkout_token", "client_details",
        "contact_email", "current_total_additional_fees_set", "current_total_duties_set", "device_id", "discount_applications",
        "discount_codes", "estimated_taxes", "fulfillments", "landing_site", "landing_site_ref", "location_id",
        "merchant_of_record_app_id", "note_attributes", "number", "order_status_url", "original_total_additional_fees_set",
        "original_total_duties_set", "payment_terms", "reference", "referring_site", "refunds", "shipping_lines", "source_url",
        "tax_lines", "token", "total_line_items_price", "total_line_items_price_set", "total_tip_received", "user_id",
    }),
    "orders.line_items": _LINE_ABSENT,
    "orders.customer": frozenset({"currency", "email_marketing_consent", "sms_marketing_consent", "tags", "tax_exemptions"}),
    "products": frozenset({"image", "images", "media", "published_scope"}),
    "products.variants": frozenset({"image_id", "old_inventory_quantity"}),
    "customers": frozenset({
        "addresses", "email_marketing_consent", "last_order_id", "last_order_name", "sms_marketing_consent", "tags",
        "tax_exemptions",
    }),
}  # fmt: skip
"""Keys of real webhook bodies that the bodies built here lack, per family and nested object."""

# REST knows four words; the Admin API's further ones are all "not fulfilled yet" to it.
_FULFILLED = {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial", "RESTOCKED": "restocked"}


def order(node: Node) -> Body:
    """An order as in `orders/*`."""
    body: Body = {
        "id": int(node["legacyResourceId"]), "admin_graphql_api_id": node["id"], "cancel_reason": _lower(node["cancelReason"]),
        "cancelled_at": node["cancelledAt"], "closed_at": node["closedAt"], "confirmation_number": node["confirmationNumber"],
        "confirmed": node["confirmed"], "created_at": node["createdAt"], "currency": node["currencyCode"],
        "customer_locale": node["customerLocale"], "email": node["email"],
        "financial_status": _lower(node["displayFinancialStatus"]),
        "fulfillment_status": _FULFILLED.get(node["displayFulfillmentStatus"]), "name": node["name"], "note": node["note"],
        # GraphQL's `number` is the one in the name (#1234), which REST calls order_number; REST's own `number` is another.
        "order_number": node["number"], "payment_gateway_names": node["paymentGatewayNames"], "phone": node["phone"],
        "po_number": node["poNumber"], "presentment_currency": node["presentmentCurrencyCode"],
        "processed_at": node["processedAt"], "source_identifier": node["sourceIdentifier"], "source_name": node["sourceName"],
        "tags": _tags(node["tags"]), "tax_exempt": node["taxExempt"], "taxes_included": node["taxesIncluded"],
        "test": node["test"], "updated_at": node["updatedAt"],
    }  # fmt: skip
    for name, field in _AMOUNTS.items():
        if node[field] is not None:
            body[name] = _amount(node[field]["shopMoney"]["amount"])
            body[f"{name}_set"] = _money(node[field])
    body["total_outstanding"] = _amount(node["totalOutstandingSet"]["shopMoney"]["amount"])
    body["total_shipping_price_set"] = _money(node["totalShippingPriceSet"])
    if node["totalWeight"] is not None:
        body["total_weight"] = int(node["totalWeight"])
    for name, field in (("billing_address", "billingAddress"), ("shipping_address", "shippingAddress")):
        if node[field] is not None:
            body[name] = _address(node[field])
    # Absent where the app may not read customers: "no customer" and "not to be seen" are different things.
    if node.get("customer") is not None:
        body["customer"] = _person(node["customer"])
    return body | {"line_items": [_line(item) for item in node["lineItems"]["nodes"]]}


_AMOUNTS = {
    "subtotal_price": "subtotalPriceSet", "total_discounts": "totalDiscountsSet", "total_price": "totalPriceSet",
    "total_tax": "totalTaxSet", "current_subtotal_price": "currentSubtotalPriceSet",
    "current_total_discounts": "currentTotalDiscountsSet", "current_total_price": "currentTotalPriceSet",
    "current_total_tax": "currentTotalTaxSet",
}  # fmt: skip


def _line(node: Node) -> Body:
    body: Body = {
        "id": _number(node["id"]), "admin_graphql_api_id": node["id"], "current_quantity": node["currentQuantity"],
        "gift_card": node["isGiftCard"], "name": node["name"],
        "price": _amount(node["originalUnitPriceSet"]["shopMoney"]["amount"]), "price_set": _money(node["originalUnitPriceSet"]),
        "quantity": node["quantity"], "requires_shipping": node["requiresShipping"], "sku": node["sku"],
        "taxable": node["taxable"], "title": node["title"],
        "total_discount": _amount(node["totalDiscountSet"]["shopMoney"]["amount"]),
        "total_discount_set": _money(node["totalDiscountSet"]), "variant_title": node["variantTitle"], "vendor": node["vendor"],
    }  # fmt: skip
    if "product" in node:
        exists = node["product"] is not None
        body |= {"product_exists": exists, "product_id": _id(node["product"]), "variant_id": _id(node["variant"])}
    return body


def product(node: Node) -> Body:
    """A product as in `products/*`, with all of its variants."""
    number, variants = int(node["legacyResourceId"]), node["variants"]["nodes"]
    return {
        "admin_graphql_api_id": node["id"], "body_html": node["descriptionHtml"], "created_at": node["createdAt"],
        "handle": node["handle"], "id": number, "product_type": node["productType"], "published_at": node["publishedAt"],
        "template_suffix": node["templateSuffix"], "title": node["title"], "updated_at": node["updatedAt"],
        "vendor": node["vendor"], "status": _lower(node["status"]), "tags": _tags(node["tags"]),
        "variants": [_variant(variant, number) for variant in variants],
        "options": [{"name": option["name"], "id": _number(option["id"]), "product_id": number, "position": option["position"],
                     "values": option["values"]} for option in node["options"]],
        "variant_gids": [{"admin_graphql_api_id": variant["id"], "updated_at": variant["updatedAt"]} for variant in variants],
        "has_variants_that_requires_components": node["hasVariantsThatRequiresComponents"],
    }  # fmt: skip


def _variant(node: Node, product_id: int) -> Body:
    chosen = [option["value"] for option in node["selectedOptions"]] + [None] * 3
    body = {
        "admin_graphql_api_id": node["id"], "barcode": node["barcode"], "compare_at_price": _amount(node["compareAtPrice"]),
        "created_at": node["createdAt"], "id": int(node["legacyResourceId"]), "inventory_policy": _lower(node["inventoryPolicy"]),
        "position": node["position"], "price": _amount(node["price"]), "product_id": product_id, "sku": node["sku"],
        "taxable": node["taxable"], "title": node["title"], "updated_at": node["updatedAt"], "option1": chosen[0],
        "option2": chosen[1], "option3": chosen[2], "inventory_quantity": node["inventoryQuantity"],
    }  # fmt: skip
    if node.get("inventoryItem") is not None:
        body["inventory_item_id"] = int(node["inventoryItem"]["legacyResourceId"])
    return body


def customer(node: Node) -> Body:
    """A customer as in `customers/*` from API 2025-01 on: tags and marketing consent aren't part of it any more."""
    return _person(node) | {
        "orders_count": int(node["numberOfOrders"]), "total_spent": _amount(node["amountSpent"]["amount"]),
        "currency": node["amountSpent"]["currencyCode"],
    }  # fmt: skip


def _person(node: Node) -> Body:
    number, email, phone = int(node["legacyResourceId"]), node["defaultEmailAddress"], node["defaultPhoneNumber"]
    body: Body = {
        "id": number, "email": email and email["emailAddress"], "created_at": node["createdAt"], "updated_at": node["updatedAt"],
        "first_name": node["firstName"], "last_name": node["lastName"], "state": _lower(node["state"]), "note": node["note"],
        "verified_email": node["verifiedEmail"], "multipass_identifier": node["multipassIdentifier"],
        "tax_exempt": node["taxExempt"], "phone": phone and phone["phoneNumber"], "admin_graphql_api_id": node["id"],
    }  # fmt: skip
    if (home := node["defaultAddress"]) is not None:
        plain = {key: value for key, value in _address(home).items() if key not in ("latitude", "longitude")}
        body["default_address"] = plain | {"id": _number(home["id"]), "customer_id": number, "country_name": home["country"],
                                           "default": True}  # fmt: skip
    return body


def _address(node: Node) -> Body:
    return {
        "first_name": node["firstName"], "address1": node["address1"], "phone": node["phone"], "city": node["city"],
        "zip": node["zip"], "province": node["province"], "country": node["country"], "last_name": node["lastName"],
        "address2": node["address2"], "company": node["company"], "latitude": node["latitude"], "longitude": node["longitude"],
        "name": node["name"], "country_code": node["countryCodeV2"], "province_code": node["provinceCode"],
    }  # fmt: skip


def _money(bag: Node) -> Body:
    return {name: {"amount": _amount(bag[field]["amount"]), "currency_code": bag[field]["currencyCode"]}
            for name, field in (("shop_money", "shopMoney"), ("presentment_money", "presentmentMoney"))}  # fmt: skip


def _amount(text: str | None) -> str | None:
    """`398.0`, as the Admin API writes it, → `398.00`, as webhooks do; more decimals stay."""
    if text is None:
        return None
    value = Decimal(text)
    exponent = value.as_tuple().exponent
    return f"{value:.2f}" if isinstance(exponent, int) and exponent > -2 else str(value)


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _tags(tags: list[str]) -> str:
    return ", ".join(tags)


def _number(gid: str) -> int:
    return int(gid_number(gid))


def _id(node: Node | None) -> int | None:
    return None if node is None else _number(node["id"])


Mapper = Callable[[Node], Body]
