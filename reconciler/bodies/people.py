"""Customers, also as orders embed them, their segments, and draft orders."""

from hooktape.reconciler.bodies.values import Body, Home, Node, address, amount, in_shop, lower, maybe, millis, number, tags


def customer(node: Node, home: Home) -> Body:
    """A customer as in `customers/*` from API 2025-01 on: tags and marketing consent aren't part of it any more."""
    spent = node["amountSpent"]
    return person(node) | {
        "orders_count": int(node["numberOfOrders"]), "total_spent": amount(spent["amount"], spent["currencyCode"]),
        "currency": spent["currencyCode"],
    }  # fmt: skip


def person(node: Node) -> Body:
    own, email, phone = int(node["legacyResourceId"]), node["defaultEmailAddress"], node["defaultPhoneNumber"]
    body: Body = {
        "id": own, "email": email and email["emailAddress"], "created_at": node["createdAt"], "updated_at": node["updatedAt"],
        "first_name": node["firstName"], "last_name": node["lastName"], "state": lower(node["state"]), "note": node["note"],
        "verified_email": node["verifiedEmail"], "multipass_identifier": node["multipassIdentifier"],
        "tax_exempt": node["taxExempt"], "phone": phone and phone["phoneNumber"], "admin_graphql_api_id": node["id"],
    }  # fmt: skip
    if home := node["defaultAddress"]:
        plain = {key: value for key, value in address(home).items() if key not in ("latitude", "longitude")}
        body["default_address"] = plain | {"id": number(home["id"]), "customer_id": own, "country_name": home["country"],
                                           "default": True}  # fmt: skip
    return body


def customer_brief(node: Node, home: Home) -> Body:
    """What a list says of a customer: nothing that an app may not be approved for, which a bulk operation would end at."""
    return {"state": lower(node["state"]), "note": node["note"], "verified_email": node["verifiedEmail"], "tax_exempt": node["taxExempt"]}


def segment(node: Node, home: Home) -> Body:
    """A segment as in `segments/*`: the only webhooks whose members have GraphQL's names, and whose times are in UTC."""
    return {
        "id": number(node["id"]), "name": node["name"], "query": node["query"], "creationDate": millis(node["creationDate"]),
        "lastEditDate": millis(node["lastEditDate"]),
    }  # fmt: skip


def segment_brief(node: Node, home: Home) -> Body:
    """What a list says of a segment."""
    return {"name": node["name"], "query": node["query"]}


def draft_order(node: Node, home: Home) -> Body:
    """A draft order as in `draft_orders/*`."""
    body: Body = {
        "id": int(node["legacyResourceId"]), "note": node["note2"], "email": node["email"], "taxes_included": node["taxesIncluded"],
        "currency": node["currencyCode"], "invoice_sent_at": node["invoiceSentAt"], "created_at": node["createdAt"],
        "updated_at": node["updatedAt"], "tax_exempt": node["taxExempt"], "completed_at": node["completedAt"], "name": node["name"],
        "status": lower(node["status"]), "invoice_url": node["invoiceUrl"], "tags": tags(node["tags"]),
        "total_price": in_shop(node["totalPriceSet"]), "subtotal_price": in_shop(node["subtotalPriceSet"]),
        "total_tax": in_shop(node["totalTaxSet"]), "admin_graphql_api_id": node["id"],
        "line_items": [_draft_line(item) for item in node["lineItems"]["nodes"]],
    }  # fmt: skip
    if "order" in node:
        body["order_id"] = maybe(node["order"])
    for name, field in (("billing_address", "billingAddress"), ("shipping_address", "shippingAddress")):
        if node[field]:
            body[name] = address(node[field])
    if node.get("customer"):
        body["customer"] = person(node["customer"])
    return body


def draft_order_brief(node: Node, home: Home) -> Body:
    """What a list says of a draft order."""
    return {"name": node["name"], "status": lower(node["status"]), "note": node["note2"], "completed_at": node["completedAt"]}


def _draft_line(node: Node) -> Body:
    body: Body = {
        "id": number(node["id"]), "title": node["title"], "variant_title": node["variantTitle"], "sku": node["sku"],
        "vendor": node["vendor"], "quantity": node["quantity"], "requires_shipping": node["requiresShipping"],
        "taxable": node["taxable"], "gift_card": node["isGiftCard"], "name": node["name"], "custom": node["custom"],
        "price": in_shop(node["originalUnitPriceSet"]), "admin_graphql_api_id": node["id"],
    }  # fmt: skip
    if "product" in node:
        body |= {"product_id": maybe(node["product"]), "variant_id": maybe(node["variant"])}
    return body
