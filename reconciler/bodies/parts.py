"""What belongs to an order: refunds, fulfilments, payments, returns, and its work for a location."""

from hooktape.reconciler.bodies.orders import line
from hooktape.reconciler.bodies.values import Body, Home, Node, amount, lower, maybe, money, number, number_of


def transaction(node: Node, home: Home) -> Body:
    """A payment as in `order_transactions/create`. Its amount is in the currency that the buyer paid in, as REST has it."""
    paid = node["amountSet"]["presentmentMoney"]
    return {
        "id": number(node["id"]), "order_id": maybe(node["order"]), "kind": lower(node["kind"]), "gateway": node["gateway"],
        "status": lower(node["status"]), "created_at": node["createdAt"], "test": node["test"],
        "parent_id": maybe(node["parentTransaction"]), "processed_at": node["processedAt"], "error_code": lower(node["errorCode"]),
        "amount": amount(paid["amount"], paid["currencyCode"]), "currency": paid["currencyCode"], "payment_id": node["paymentId"],
        "total_unsettled_set": money(node["totalUnsettledSet"]), "manual_payment_gateway": node["manualPaymentGateway"],
        "admin_graphql_api_id": node["id"],
    }  # fmt: skip


def transaction_brief(node: Node, home: Home) -> Body:
    """What a list says of a payment."""
    return {"kind": lower(node["kind"])}


def refund(node: Node, home: Home) -> Body:
    """A refund as in `refunds/create`."""
    return {
        "id": int(node["legacyResourceId"]), "order_id": number(node["order"]["id"]), "created_at": node["createdAt"],
        "note": node["note"], "processed_at": node["processedAt"], "admin_graphql_api_id": node["id"],
        "refund_line_items": [_refunded(item) for item in node["refundLineItems"]["nodes"]],
        "transactions": [transaction(one, home) for one in node["transactions"]["nodes"]],
    }  # fmt: skip


def refund_brief(node: Node, home: Home) -> Body:
    """What a list says of a refund."""
    return {"note": node["note"]}


def _refunded(node: Node) -> Body:
    subtotal, tax = money(node["subtotalSet"]), money(node["totalTaxSet"])
    assert subtotal is not None
    assert tax is not None
    body: Body = {
        "quantity": node["quantity"], "line_item_id": number(node["lineItem"]["id"]), "restock_type": lower(node["restockType"]),
        "subtotal": number_of(subtotal["shop_money"]["amount"]), "total_tax": number_of(tax["shop_money"]["amount"]),
        "subtotal_set": subtotal, "total_tax_set": tax, "line_item": _plain_line(node["lineItem"]),
    }  # fmt: skip
    if node["id"] is not None:
        body["id"] = number(node["id"])
    if "location" in node:
        body["location_id"] = maybe(node["location"])
    return body


def _plain_line(node: Node) -> Body:
    """A line as refunds and fulfilments have it: how many are left is the order's to say."""
    return {key: value for key, value in line(node).items() if key != "current_quantity"}


def fulfillment(node: Node, home: Home) -> Body:
    """A fulfilment as in `fulfillments/*`."""
    tracking = node["trackingInfo"]
    first = tracking[0] if tracking else {"company": None, "number": None, "url": None}
    body: Body = {
        "id": int(node["legacyResourceId"]), "order_id": number(node["order"]["id"]), "status": lower(node["status"]),
        "created_at": node["createdAt"], "service": node["service"] and node["service"]["handle"], "updated_at": node["updatedAt"],
        "tracking_company": first["company"], "email": node["order"]["email"],
        "line_items": [_plain_line(item["lineItem"]) | {"quantity": item["quantity"]} for item in node["fulfillmentLineItems"]["nodes"]],
        "tracking_number": first["number"], "tracking_numbers": [one["number"] for one in tracking if one["number"]],
        "tracking_url": first["url"], "tracking_urls": [one["url"] for one in tracking if one["url"]], "name": node["name"],
        "admin_graphql_api_id": node["id"],
    }  # fmt: skip
    if "location" in node:
        body["location_id"] = maybe(node["location"])
    return body


def fulfillment_brief(node: Node, home: Home) -> Body:
    """What a list says of a fulfilment."""
    return {"status": lower(node["status"]), "name": node["name"]}


def returned(node: Node, home: Home) -> Body:
    """A return as in `returns/*`."""
    return {
        "id": number(node["id"]), "admin_graphql_api_id": node["id"], "status": lower(node["status"]), "name": node["name"],
        "order": {"id": number(node["order"]["id"]), "admin_graphql_api_id": node["order"]["id"]},
        "total_return_line_items": node["totalQuantity"],
        "return_line_items": [_sent_back(item) for item in node["returnLineItems"]["nodes"]],
    }  # fmt: skip


def returned_brief(node: Node, home: Home) -> Body:
    """What a list says of a return."""
    return {"status": lower(node["status"])}


def _sent_back(node: Node) -> Body:
    body: Body = {"id": number(node["id"]), "admin_graphql_api_id": node["id"], "quantity": node["quantity"]}
    # A return may also hold lines that no fulfilment sent; these have no reason.
    if "returnReason" in node:
        sent = node["fulfillmentLineItem"]
        body |= {
            "customer_note": node["customerNote"], "return_reason": lower(node["returnReason"]),
            "return_reason_note": node["returnReasonNote"],
            "fulfillment_line_item": {
                "id": number(sent["id"]), "admin_graphql_api_id": sent["id"],
                "line_item": {"id": number(sent["lineItem"]["id"]), "admin_graphql_api_id": sent["lineItem"]["id"]},
            },
        }  # fmt: skip
    return body


def fulfillment_order(node: Node, home: Home) -> Body:
    """An order's work for one location, as in `fulfillment_orders/*`: by its global id, with little beside its status."""
    work: Body = {"id": node["id"], "status": lower(node["status"])}
    if node["status"] == "ON_HOLD":
        work["fulfillment_holds"] = [
            {"id": one["id"], "held_by_requesting_app": one["heldByRequestingApp"], "reason": lower(one["reason"]),
             "reason_notes": one["reasonNotes"]} for one in node["fulfillmentHolds"]]  # fmt: skip
    return {"fulfillment_order": work}


def fulfillment_order_brief(node: Node, home: Home) -> Body:
    """What a list says of it."""
    return {"fulfillment_order": {"status": lower(node["status"])}}
