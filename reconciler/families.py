"""What can be reconciled, as data: one row per family of topics. A further family is a further row."""

from collections.abc import Callable

from hooktape.errors import UsageError
from hooktape.reconciler import queries
from hooktape.reconciler.bodies import companies, contracts, goods, orders, parts, people
from hooktape.reconciler.family import HOUR, Bodies, Deletion, Family, Node, may_read
from hooktape.reconciler.queries import Listing
from hooktape.reconciler.unverifiable import REASONS

__all__ = ["FAMILIES", "Family", "may_read", "of_topic"]

_PRODUCTS, _PLACES = {"products": "products"}, {"products": "products", "locations": "locations"}
_ORDER_SCOPES = ("orders", "assigned_fulfillment_orders", "merchant_managed_fulfillment_orders", "third_party_fulfillment_orders")
_B2B_SCOPES, _BY_GID = ("companies", "customers"), ("admin_graphql_api_id",)
# Closed ones have stock still; those of fulfillment services' apps, which REST calls legacy, have webhooks like any.
_ALL_PLACES = "includeLegacy: true, includeInactive: true"
# Under an order at 250 a page, the order itself counted: 2 + 250 × (1 + 1) points.
_UNDER_ORDERS = 510


def _lines_whole(node: Node) -> str:
    # At least: lines that aren't part of the subtotal, as tips, are among the lines too.
    found = sum(one["quantity"] for one in node["lineItems"]["nodes"])
    return "" if found >= node["subtotalLineItemsQuantity"] else f"lines of {found} of {node['subtotalLineItemsQuantity']} pieces"


def _variants_whole(node: Node) -> str:
    found, count = len(node["variants"]["nodes"]), node["variantsCount"]
    exact = count is not None and count["precision"] == "EXACT"
    return f"{found} of {count['count']} variants" if exact and found != count["count"] else ""


def _pieces_whole(rows: str) -> Callable[[Node], str]:
    def check(node: Node) -> str:
        found = sum(one["quantity"] or 0 for one in node[rows]["nodes"])
        return "" if found == node["totalQuantity"] else f"lines of {found} of {node['totalQuantity']} pieces"

    return check


_RETURN = {"REQUESTED": "request", "OPEN": "approve", "DECLINED": "decline", "CANCELED": "cancel", "CLOSED": "close"}
_WORK = {"ON_HOLD": "placed_on_hold", "CANCELLED": "cancelled", "SCHEDULED": "rescheduled",
         "INCOMPLETE": "fulfillment_service_failed_to_complete"}  # fmt: skip


def _return_topic(node: Node, first: bool) -> str | None:
    word = _RETURN.get(node["status"])
    return word and f"returns/{word}"


def _work_topic(node: Node, first: bool) -> str | None:
    # A fulfilment closes its fulfilment order, and several steps lead to IN_PROGRESS: no one topic says so.
    if node["status"] == "OPEN":
        return "fulfillment_orders/order_routing_complete" if first else "fulfillment_orders/hold_released"
    word = _WORK.get(node["status"])
    return word and f"fulfillment_orders/{word}"


def _location_topic(node: Node, first: bool) -> str | None:
    if first:
        return "locations/create"
    return "locations/update" if node["isActive"] else "locations/deactivate"


def _theme_topic(node: Node, first: bool) -> str | None:
    # Only by being published does a theme become the main one. That it's replaced no topic is documented to tell.
    if first:
        return "themes/create"
    return "themes/publish" if node["role"] == "MAIN" else None


_CONTRACT = {"PAUSED": "pause", "CANCELLED": "cancel", "EXPIRED": "expire", "FAILED": "fail"}


def _contract_topic(node: Node, first: bool) -> str:
    if node["status"] == "ACTIVE":
        # Far more changes of an active contract are edits than returns from a pause.
        return "subscription_contracts/create" if first else "subscription_contracts/update"
    return f"subscription_contracts/{_CONTRACT.get(node['status'], 'update')}"


def _parts(inside: str, row: str, connection: bool = False) -> Listing:
    """The list of what belongs to orders: under those that changed. Lists that are no connections are whole without `first`."""
    if connection:
        # 40 × (1 + 2 + 10 × 1) points.
        return Listing("orders", row, inside, connection=True, owner="Order", size=40, inside_size=10, points=560)
    return Listing("orders", row, inside, points=_UNDER_ORDERS)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "orders", "order", "Order", "orders/create", "orders/updated", "orders/delete",
            Listing("orders", "id createdAt updatedAt cancelledAt closedAt name displayFinancialStatus displayFulfillmentStatus note tags"),
            Bodies(queries.ORDER_BODIES, 140, orders.order, "lineItems", queries.ORDER_LINES, 460, _lines_whole,
                   {"customers": "customers", "products": "products"}),
            # Of the other words for how much is fulfilled the API doesn't always have REST's.
            ("name", "financial_status", "fulfillment_status=fulfilled", "cancelled_at", "closed_at", "note", "tags"), orders.order_brief,
            deletion=Deletion("ORDER"), stamps={"orders/create": "createdAt", "orders/cancelled": "cancelledAt"},
            horizon=("read_all_orders", 60),
        ),
        Family(
            "refunds", "refund", "Refund", "refunds/create", "refunds/create", "", _parts("refunds", "id createdAt updatedAt note"),
            # 10 lines of (1 + 1 + 9) and 5 payments of 9 points.
            Bodies(queries.REFUND_BODIES, 240, parts.refund, "refundLineItems", queries.REFUND_LINES, 800, optional=_PLACES),
            ("note",), parts.refund_brief, ("orders",), version="createdAt", parent="orders",
        ),
        Family(
            "order_transactions", "order_transaction", "OrderTransaction", "order_transactions/create", "order_transactions/create", "",
            _parts("transactions", "id createdAt kind"), Bodies(queries.TRANSACTION_BODIES, 12, parts.transaction), ("kind",),
            parts.transaction_brief, ("orders",), version="createdAt", parent="orders",
        ),
        Family(
            "fulfillments", "fulfillment", "Fulfillment", "fulfillments/create", "fulfillments/update", "",
            _parts("fulfillments", "id createdAt updatedAt status name"),
            Bodies(queries.FULFILLMENT_BODIES, 120, parts.fulfillment, "fulfillmentLineItems", queries.FULFILLMENT_LINES, 560,
                   _pieces_whole("fulfillmentLineItems"), _PLACES),
            ("status", "name"), parts.fulfillment_brief, ("orders", *_ORDER_SCOPES[1:]),
            stamps={"fulfillments/create": "createdAt"}, parent="orders",
        ),
        Family(
            "returns", "return", "Return", "returns/request", "returns/update", "",
            _parts("returns", "id createdAt status", connection=True),
            Bodies(queries.RETURN_BODIES, 110, parts.returned, "returnLineItems", queries.RETURN_LINES, 420,
                   _pieces_whole("returnLineItems")),
            ("status",), parts.returned_brief, ("returns",), version="createdAt", versioned=False, parent="orders",
            state_topic=_return_topic,
        ),
        Family(
            "fulfillment_orders", "fulfillment_order", "FulfillmentOrder", "fulfillment_orders/order_routing_complete",
            "fulfillment_orders/order_routing_complete", "",
            Listing("fulfillmentOrders", "id createdAt updatedAt status", arguments="includeClosed: true", counted=False),
            Bodies(queries.FULFILLMENT_ORDER_BODIES, 3, parts.fulfillment_order), ("fulfillment_order.status",),
            parts.fulfillment_order_brief, _ORDER_SCOPES, versioned=False, ids=("fulfillment_order",), state_topic=_work_topic,
        ),
        Family(
            "products", "product", "Product", "products/create", "products/update", "products/delete",
            Listing("products", "id createdAt updatedAt title handle status vendor productType tags"),
            Bodies(queries.PRODUCT_BODIES, 80, goods.product, "variants", queries.PRODUCT_VARIANTS, 310, _variants_whole,
                   {"inventory": "inventory"}),
            ("title", "handle", "status", "vendor", "product_type", "tags"), goods.product_brief,
            deletion=Deletion("PRODUCT", proven=True), stamps={"products/create": "createdAt"},
        ),
        Family(
            "collections", "collection", "Collection", "collections/create", "collections/update", "collections/delete",
            Listing("collections", "id updatedAt title handle"), Bodies(queries.COLLECTION_BODIES, 2, goods.collection),
            ("title", "handle"), goods.collection_brief, ("products",), created="", deletion=Deletion("COLLECTION", proven=True),
        ),
        Family(
            "customers", "customer", "Customer", "customers/create", "customers/update", "customers/delete",
            Listing("customers", "id createdAt updatedAt state note verifiedEmail taxExempt"),
            Bodies(queries.CUSTOMER_BODIES, 6, people.customer), ("state", "note", "verified_email", "tax_exempt"), people.customer_brief,
            deletion=Deletion("CUSTOMER"), stamps={"customers/create": "createdAt"}, whole_days=True,
        ),
        Family(
            "segments", "segment", "Segment", "segments/create", "segments/update", "segments/delete",
            Listing("segments", "id name query creationDate lastEditDate", filtered=False, count_filtered=False),
            Bodies(queries.SEGMENT_BODIES, 2, people.segment), ("name", "query"), people.segment_brief, ("customers",),
            version="lastEditDate", created="creationDate", deletion=Deletion(), stamps={"segments/create": "creationDate"},
        ),
        Family(
            "subscription_contracts", "subscription_contract", "SubscriptionContract", "subscription_contracts/create",
            "subscription_contracts/update", "",
            Listing("subscriptionContracts", "id createdAt updatedAt status revisionId", counted=False),
            Bodies(queries.CONTRACT_BODIES, 6, contracts.contract, optional={"customers": "customers", "orders": "orders"}),
            # Every edit makes a new revision. Of `updated_at` the documented body has none, and real ones have had milliseconds. Nor is
            # it documented that a payment, which the body doesn't tell of, leaves the API's as it was.
            ("status", "revision_id"), contracts.contract_brief, ("own_subscription_contracts",), versioned=False, by_difference=True,
            stamps={"subscription_contracts/create": "createdAt"}, state_topic=_contract_topic, update_tells_all=True,
        ),
        Family(
            "draft_orders", "draft_order", "DraftOrder", "draft_orders/create", "draft_orders/update", "draft_orders/delete",
            Listing("draftOrders", "id createdAt updatedAt name status note2 completedAt"),
            Bodies(queries.DRAFT_ORDER_BODIES, 90, people.draft_order, "lineItems", queries.DRAFT_ORDER_LINES, 610,
                   optional={"customers": "customers", "products": "products", "orders": "orders"}),
            ("name", "status", "note", "completed_at"), people.draft_order_brief, deletion=Deletion("DRAFT_ORDER"),
            stamps={"draft_orders/create": "createdAt"},
        ),
        Family(
            "inventory_items", "inventory_item", "InventoryItem", "inventory_items/create", "inventory_items/update",
            "inventory_items/delete",
            Listing("inventoryItems", "id createdAt updatedAt sku tracked requiresShipping", sorted=False, counted=False),
            Bodies(queries.INVENTORY_ITEM_BODIES, 3, goods.inventory_item), ("sku", "tracked", "requires_shipping"),
            goods.inventory_item_brief, ("inventory", "products"), deletion=Deletion(), stamps={"inventory_items/create": "createdAt"},
        ),
        Family(
            "inventory_levels", "inventory_level", "InventoryLevel", "inventory_levels/connect", "inventory_levels/update",
            "inventory_levels/disconnect",
            # Inside a location, each with its item, its location and one quantity: 1 × (1 + 2 + 200 × 4) points.
            Listing("locations", queries.LEVEL, "inventoryLevels", connection=True, owner="Location", size=1, inside_size=200,
                    arguments=_ALL_PLACES, inside_arguments="includeInactive: true", inner_filter=True, counted=False, points=810),
            Bodies(queries.INVENTORY_LEVEL_BODIES, 5, goods.inventory_level), ("available",), goods.inventory_level, ("inventory",),
            ids=("inventory_item_id", "location_id"), deletion=Deletion(again=True),
        ),
        Family(
            "locations", "location", "Location", "locations/create", "locations/update", "locations/delete",
            Listing("locations", "id createdAt updatedAt name isActive", arguments=_ALL_PLACES, filtered=False),
            Bodies(queries.LOCATION_BODIES, 3, goods.location), ("name", "active"), goods.location_brief, ("locations", "inventory"),
            deletion=Deletion(), state_topic=_location_topic,
        ),
        Family(
            "discounts", "discount", "DiscountNode", "discounts/create", "discounts/update", "discounts/delete",
            # The filter is read in the shop's zone, up to 14 hours from UTC.
            Listing("discountNodes", queries.DISCOUNT, pad=14 * HOUR, points=760),
            # Not by its status, which moves by the clock alone when a discount begins or ends.
            Bodies(queries.DISCOUNT_BODIES, 3, goods.discount), ("title",), goods.discount_brief, version="discount.updatedAt",
            created="discount.createdAt", ids=_BY_GID, deletion=Deletion("DISCOUNT_CODE_NODE"),
        ),
        Family(
            "companies", "company", "Company", "companies/create", "companies/update", "companies/delete",
            Listing("companies", "id createdAt updatedAt name note externalId", count_filtered=False),
            Bodies(queries.COMPANY_BODIES, 3, companies.company), ("name", "note", "external_id"), companies.company_brief, _B2B_SCOPES,
            ids=_BY_GID, deletion=Deletion("COMPANY"), stamps={"companies/create": "createdAt"},
        ),
        Family(
            "company_locations", "company_location", "CompanyLocation", "company_locations/create", "company_locations/update",
            "company_locations/delete",
            Listing("companyLocations", "id createdAt updatedAt name note externalId locale", counted=False),
            # Itself, its company and that one's main contact, two addresses, its taxes.
            Bodies(queries.COMPANY_LOCATION_BODIES, 7, companies.company_location), ("name", "note", "external_id", "locale"),
            companies.company_location_brief, _B2B_SCOPES, ids=_BY_GID, deletion=Deletion("COMPANY_LOCATION"),
            stamps={"company_locations/create": "createdAt"},
        ),
        Family(
            "themes", "theme", "OnlineStoreTheme", "themes/create", "themes/publish", "themes/delete",
            # A shop has 20 themes at most, far less than a page (shopify.dev/docs/api/admin-rest/latest/resources/theme).
            Listing("themes", "id createdAt updatedAt role", sorted=False, counted=False, filtered=False, searched=False, short=True),
            Bodies(queries.THEME_BODIES, 2, companies.theme), ("role",), companies.theme_brief, versioned=False, by_difference=True,
            deletion=Deletion(), stamps={"themes/create": "createdAt"}, state_topic=_theme_topic,
        ),
    )
}  # fmt: skip
"""Every family by its name."""

CHECKED = frozenset(topic for family in FAMILIES.values() for topic in family.topics) - REASONS.keys()
"""Every topic that a family compares."""


def of_topic(topic: str) -> Family:
    """The family that a Shopify topic belongs to. Raises UsageError when it can't be reconciled."""
    if topic in REASONS:
        raise UsageError(f"{topic} can't be reconciled: {REASONS[topic]}.")
    family = FAMILIES.get(topic.partition("/")[0])
    if family is None:
        raise UsageError(f"{topic} can't be reconciled; what can be: {', '.join(f'{name}/*' for name in FAMILIES)}.")
    return family
