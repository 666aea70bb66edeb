"""How the Admin API shows what belongs to an order, and draft orders. Pure."""

from typing import Any

from hooktape.local.shop.model import Shop
from hooktape.local.shop.store import Resource
from hooktape.local.shop.views import NODE, PART, Part, View, address, body, parts, tags, time, upper
from hooktape.schemas import samples


def _amount(key: str) -> View:
    return lambda source, shop: samples.money(samples.cents(source.body[key]))


def _order(source: Resource, shop: Shop) -> Resource | None:
    return shop.get(source.parent)


def children(kind: str) -> View:
    """The resources of a kind that belong to this one."""
    return lambda source, shop: shop.children(source, kind)


def line(source: Any, shop: Shop) -> Part:
    """The order's line that a part of a refund, a fulfilment or a return is about."""
    found = source.body.get("line_item", source.body)
    return Part(found, found["admin_graphql_api_id"])


def _lines(kind: str, key: str) -> View:
    return lambda source, shop: [Part(one, samples.gid(kind, one["id"])) for one in source.body[key]]


def _location(source: Resource, shop: Shop) -> Resource | None:
    return shop.get(f"location/{source.body.get('location_id', source.body.get('_location_id'))}")


def _assigned(source: Resource, shop: Shop) -> Part:
    found = _location(source, shop)
    # A deleted location leaves its name behind.
    return Part(found.body if found else {"name": "Deleted location", "country_code": "US"}, found.name if found else "")


def _maybe(key: str) -> View:
    return lambda source, shop: source.body.get(key)


def _total_refunded(source: Resource, shop: Shop) -> Any:
    return samples.money(sum(samples.cents(one["amount"]) for one in source.body["transactions"]))


def _buyer(source: Resource, shop: Shop) -> Resource | None:
    return shop.get(f"customer/{source.body['customer']['id']}")


def _item(source: Part, shop: Shop) -> Resource | None:
    return shop.get(f"variant/{source.body['variant_id']}")


ORDER: dict[str, View] = {
    "fulfillments": children("fulfillment"), "refunds": children("refund"), "transactions": children("order_transaction"),
    "returns": children("return"), "fulfillmentOrders": children("fulfillment_order"),
}  # fmt: skip
"""What an order shows beside its own members."""
FIELDS: dict[str, dict[str, View]] = {
    "Refund": NODE | {
        "note": body("note"), "order": _order, "processedAt": time("processed_at"),
        "refundLineItems": _lines("RefundLineItem", "refund_line_items"), "totalRefundedSet": _total_refunded,
        "transactions": lambda r, shop: [found for one in r.body["transactions"] if (found := shop.get(f"order_transaction/{one['id']}"))],
    },
    "RefundLineItem": PART | {
        "lineItem": line, "location": _location, "priceSet": lambda r, shop: r.body["line_item"]["price_set"],
        "quantity": body("quantity"), "restockType": upper("restock_type"),
        "restocked": lambda r, shop: r.body["restock_type"] != "no_restock", "subtotalSet": body("subtotal_set"),
        "totalTaxSet": body("total_tax_set"),
    },
    "Fulfillment": NODE | {
        "displayStatus": lambda f, shop: "IN_TRANSIT" if f.body["shipment_status"] else "FULFILLED",
        "fulfillmentLineItems": _lines("FulfillmentLineItem", "line_items"), "location": _location, "name": body("name"),
        "order": _order, "service": lambda f, shop: f.body["service"], "status": upper("status"),
        "totalQuantity": lambda f, shop: sum(one["quantity"] for one in f.body["line_items"]),
        "trackingInfo": lambda f, shop: [f.body],
    },
    "FulfillmentService": {
        "handle": lambda name, shop: name, "id": lambda name, shop: f"gid://shopify/FulfillmentService/{name}",
        "serviceName": lambda name, shop: name.title(),
    },
    "FulfillmentLineItem": PART | {
        "lineItem": line, "quantity": body("quantity"), "originalTotalSet": lambda one, shop: one.body["price_set"],
    },
    "FulfillmentTrackingInfo": {
        "company": lambda b, shop: b["tracking_company"], "number": lambda b, shop: b["tracking_number"],
        "url": lambda b, shop: b["tracking_url"],
    },
    "OrderTransaction": NODE | {
        "amountSet": _amount("amount"), "errorCode": body("error_code"),
        "formattedGateway": lambda t, shop: t.body["gateway"].title(), "gateway": body("gateway"), "kind": upper("kind"),
        "manualPaymentGateway": body("manual_payment_gateway"), "order": _order,
        "parentTransaction": lambda t, shop: shop.get(f"order_transaction/{t.body['parent_id']}"), "paymentId": body("payment_id"),
        "processedAt": time("processed_at"), "status": upper("status"), "test": body("test"),
        "totalUnsettledSet": body("total_unsettled_set"),
    },
    "Return": NODE | {
        "closedAt": time("_closed_at"), "name": body("name"), "order": _order,
        "returnLineItems": _lines("ReturnLineItem", "return_line_items"), "status": upper("status"),
        "totalQuantity": body("total_return_line_items"),
    },
    "ReturnLineItem": PART | {
        "customerNote": body("customer_note"), "quantity": body("quantity"), "returnReason": upper("return_reason"),
        "returnReasonNote": body("return_reason_note"),
        "fulfillmentLineItem": lambda one, shop: Part(one.body["fulfillment_line_item"],
                                                      one.body["fulfillment_line_item"]["admin_graphql_api_id"]),
    },
    "FulfillmentOrder": NODE | {
        "assignedLocation": _assigned, "fulfillmentHolds": lambda f, shop: [Part(one, one["id"]) for one in f.body["_holds"]],
        "lineItems": lambda f, shop: [Part(one, one["id"]) for one in f.body["_lines"]], "order": _order,
        "orderId": lambda f, shop: samples.gid("Order", f.body["_order_id"]), "orderName": body("_order_name"),
        "requestStatus": upper("_request_status"), "status": lambda f, shop: f.body["fulfillment_order"]["status"].upper(),
    },
    "FulfillmentOrderLineItem": PART | {
        "lineItem": line, "remainingQuantity": body("remaining_quantity"), "totalQuantity": body("total_quantity"),
        "productTitle": lambda one, shop: one.body["line_item"]["title"],
        "requiresShipping": lambda one, shop: one.body["line_item"]["requires_shipping"],
        "sku": lambda one, shop: one.body["line_item"]["sku"],
        "variantTitle": lambda one, shop: one.body["line_item"]["variant_title"],
        "vendor": lambda one, shop: one.body["line_item"]["vendor"],
    },
    "FulfillmentOrderAssignedLocation": {
        "address1": _maybe("address1"), "city": _maybe("city"), "countryCode": body("country_code"), "name": body("name"),
        "location": lambda part, shop: shop.get(part.id), "province": _maybe("province"), "zip": _maybe("zip"),
    },
    "FulfillmentHold": PART | {
        "displayReason": lambda one, shop: one.body["reason"].title(), "heldByRequestingApp": body("held_by_requesting_app"),
        "reason": upper("reason"), "reasonNotes": body("reason_notes"),
    },
    "DraftOrder": NODE | {
        "billingAddress": address("billing_address"), "completedAt": time("completed_at"), "currencyCode": body("currency"),
        "customer": _buyer, "email": body("email"), "invoiceSentAt": time("invoice_sent_at"), "invoiceUrl": body("invoice_url"),
        "lineItems": parts("line_items"), "name": body("name"), "note2": body("note"), "order": lambda d, shop: None,
        "shippingAddress": address("shipping_address"), "status": upper("status"), "subtotalPriceSet": _amount("subtotal_price"),
        "tags": tags, "taxExempt": body("tax_exempt"), "taxesIncluded": body("taxes_included"),
        "totalPriceSet": _amount("total_price"), "totalTaxSet": _amount("total_tax"),
    },
    "DraftOrderLineItem": PART | {
        "custom": body("custom"), "isGiftCard": body("gift_card"), "name": body("name"), "originalUnitPriceSet": _amount("price"),
        "product": lambda one, shop: shop.get(f"product/{one.body['product_id']}"), "quantity": body("quantity"),
        "requiresShipping": body("requires_shipping"), "sku": body("sku"), "taxable": body("taxable"), "title": body("title"),
        "variant": _item, "variantTitle": body("variant_title"), "vendor": body("vendor"),
    },
}  # fmt: skip
