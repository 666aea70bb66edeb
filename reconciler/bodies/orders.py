"""Orders, and the lines that they share with what belongs to them."""

from hooktape.reconciler.bodies.people import person
from hooktape.reconciler.bodies.values import Body, Home, Node, address, in_shop, lower, maybe, money, number, tags

# The words that say how much is fulfilled, which is all that REST tells. The Admin API's further ones, as ON_HOLD and SCHEDULED, speak of
# what isn't yet: of an order of which a part is sent already they don't say so, and REST's word for that is "partial".
_FULFILLED = {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial", "RESTOCKED": "restocked", "UNFULFILLED": None, "OPEN": None}


def order(node: Node, home: Home) -> Body:
    """An order as in `orders/*`."""
    body: Body = {
        "id": int(node["legacyResourceId"]), "admin_graphql_api_id": node["id"], "cancel_reason": lower(node["cancelReason"]),
        "cancelled_at": node["cancelledAt"], "closed_at": node["closedAt"], "confirmation_number": node["confirmationNumber"],
        "confirmed": node["confirmed"], "created_at": node["createdAt"], "currency": node["currencyCode"],
        "customer_locale": node["customerLocale"], "email": node["email"],
        "financial_status": lower(node["displayFinancialStatus"]),
        "name": node["name"], "note": node["note"],
        # GraphQL's `number` is the one in the name (#1234), which REST calls order_number; REST's own `number` is another.
        "order_number": node["number"], "payment_gateway_names": node["paymentGatewayNames"], "phone": node["phone"],
        "po_number": node["poNumber"], "presentment_currency": node["presentmentCurrencyCode"],
        "processed_at": node["processedAt"], "source_identifier": node["sourceIdentifier"], "source_name": node["sourceName"],
        "tags": tags(node["tags"]), "tax_exempt": node["taxExempt"], "taxes_included": node["taxesIncluded"],
        "test": node["test"], "updated_at": node["updatedAt"],
    }  # fmt: skip
    if node["displayFulfillmentStatus"] in _FULFILLED:
        body["fulfillment_status"] = _FULFILLED[node["displayFulfillmentStatus"]]
    for name, field in _AMOUNTS.items():
        if node[field] is not None:
            body[name] = in_shop(node[field])
            body[f"{name}_set"] = money(node[field])
    body["total_outstanding"] = in_shop(node["totalOutstandingSet"])
    body["total_shipping_price_set"] = money(node["totalShippingPriceSet"])
    if node["totalWeight"] is not None:
        body["total_weight"] = int(node["totalWeight"])
    for name, field in (("billing_address", "billingAddress"), ("shipping_address", "shippingAddress")):
        if node[field]:
            body[name] = address(node[field])
    # Absent where the app may not read customers: "no customer" and "not to be seen" are different things.
    if node.get("customer"):
        body["customer"] = person(node["customer"])
    return body | {"line_items": [line(item) for item in node["lineItems"]["nodes"]]}


_AMOUNTS = {
    "subtotal_price": "subtotalPriceSet", "total_discounts": "totalDiscountsSet", "total_price": "totalPriceSet",
    "total_tax": "totalTaxSet", "current_subtotal_price": "currentSubtotalPriceSet",
    "current_total_discounts": "currentTotalDiscountsSet", "current_total_price": "currentTotalPriceSet",
    "current_total_tax": "currentTotalTaxSet",
}  # fmt: skip


def line(node: Node) -> Body:
    body: Body = {
        "id": number(node["id"]), "admin_graphql_api_id": node["id"], "current_quantity": node["currentQuantity"],
        "gift_card": node["isGiftCard"], "name": node["name"],
        "price": in_shop(node["originalUnitPriceSet"]), "price_set": money(node["originalUnitPriceSet"]),
        "quantity": node["quantity"], "requires_shipping": node["requiresShipping"], "sku": node["sku"],
        "taxable": node["taxable"], "title": node["title"],
        "total_discount": in_shop(node["totalDiscountSet"]),
        "total_discount_set": money(node["totalDiscountSet"]), "variant_title": node["variantTitle"], "vendor": node["vendor"],
    }  # fmt: skip
    if "product" in node:
        exists = node["product"] is not None
        body |= {"product_exists": exists, "product_id": maybe(node["product"]), "variant_id": maybe(node["variant"])}
    return body


def order_brief(node: Node, home: Home) -> Body:
    """What a list says of an order."""
    return {
        "name": node["name"], "financial_status": lower(node["displayFinancialStatus"]),
        "fulfillment_status": _FULFILLED.get(node["displayFulfillmentStatus"]), "cancelled_at": node["cancelledAt"],
        "closed_at": node["closedAt"], "note": node["note"], "tags": tags(node["tags"]),
    }  # fmt: skip
