"""Subscription contracts: the app's own agreements on recurring orders."""

from hooktape.reconciler.bodies.values import Body, Home, Node, lower, number


def contract(node: Node, home: Home) -> Body:
    """A contract as in `subscription_contracts/*`. Its revision is text, as real webhooks have it."""
    billing, delivery = node["billingPolicy"], node["deliveryPolicy"]
    body: Body = {
        "admin_graphql_api_id": node["id"], "id": number(node["id"]),
        "billing_policy": _interval(billing) | {"min_cycles": billing["minCycles"], "max_cycles": billing["maxCycles"]},
        "currency_code": node["currencyCode"], "delivery_policy": _interval(delivery), "status": lower(node["status"]),
        "revision_id": node["revisionId"],
    }  # fmt: skip
    # A contract has a customer: null is one that was deleted since, and no word of whom it was made with.
    if buyer := node.get("customer"):
        body |= {"customer_id": number(buyer["id"]), "admin_graphql_api_customer_id": buyer["id"]}
    if "originOrder" in node:
        order = node["originOrder"]
        body |= {"origin_order_id": order and number(order["id"]), "admin_graphql_api_origin_order_id": order and order["id"]}
    return body


def contract_brief(node: Node, home: Home) -> Body:
    """What a list says of a contract."""
    return {"status": lower(node["status"]), "revision_id": node["revisionId"]}


def _interval(policy: Node) -> Body:
    return {"interval": lower(policy["interval"]), "interval_count": policy["intervalCount"]}
