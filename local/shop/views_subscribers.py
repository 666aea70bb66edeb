"""How the Admin API shows segments of customers and subscription contracts. Pure."""

from hooktape.local.shop.views import NODE, Part, View, body, find, upper


def _policy(key: str) -> View:
    return lambda contract, shop: Part(contract.body[key])


FIELDS: dict[str, dict[str, View]] = {
    "Segment": {
        "creationDate": NODE["createdAt"], "id": NODE["id"], "lastEditDate": NODE["updatedAt"], "name": body("name"),
        "query": body("query"),
    },
    "SubscriptionContract": NODE | {
        "billingPolicy": _policy("billing_policy"), "currencyCode": body("currency_code"), "customer": find("customer", "customer_id"),
        "deliveryPolicy": _policy("delivery_policy"), "originOrder": find("order", "origin_order_id"), "revisionId": body("revision_id"),
        "status": upper("status"),
    },
    "SubscriptionBillingPolicy": {
        "interval": upper("interval"), "intervalCount": body("interval_count"), "maxCycles": body("max_cycles"),
        "minCycles": body("min_cycles"),
    },
    "SubscriptionDeliveryPolicy": {"interval": upper("interval"), "intervalCount": body("interval_count")},
}  # fmt: skip
