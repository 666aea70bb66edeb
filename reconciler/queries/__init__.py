"""Every query that the reconciler sends to the Admin API, by what it asks for. A test holds each against the real schema."""

from hooktape.reconciler.queries.goods import (
    COLLECTION_BODIES,
    DISCOUNT,
    DISCOUNT_BODIES,
    INVENTORY_ITEM_BODIES,
    INVENTORY_LEVEL_BODIES,
    LEVEL,
    LOCATION_BODIES,
    PRODUCT_BODIES,
    PRODUCT_VARIANTS,
)
from hooktape.reconciler.queries.lists import (
    FURTHER,
    Listing,
    bulk,
    count,
    page,
    rest,
)
from hooktape.reconciler.queries.orders import (
    ORDER_BODIES,
    ORDER_LINES,
)
from hooktape.reconciler.queries.parts import (
    FULFILLMENT_BODIES,
    FULFILLMENT_LINES,
    FULFILLMENT_ORDER_BODIES,
    REFUND_BODIES,
    REFUND_LINES,
    RETURN_BODIES,
    RETURN_LINES,
    TRANSACTION_BODIES,
)
from hooktape.reconciler.queries.people import (
    CUSTOMER_BODIES,
    DRAFT_ORDER_BODIES,
    DRAFT_ORDER_LINES,
)
from hooktape.reconciler.queries.shop import (
    BULK_CANCEL,
    BULK_LATEST,
    BULK_RUN,
    BULK_SEE,
    DELETIONS,
    DELETIONS_COUNT,
    EXISTING,
    GATE,
)

__all__ = [
    "BULK_CANCEL",
    "BULK_LATEST",
    "BULK_RUN",
    "BULK_SEE",
    "COLLECTION_BODIES",
    "CUSTOMER_BODIES",
    "DELETIONS",
    "DELETIONS_COUNT",
    "DISCOUNT",
    "DISCOUNT_BODIES",
    "DRAFT_ORDER_BODIES",
    "DRAFT_ORDER_LINES",
    "EXISTING",
    "FULFILLMENT_BODIES",
    "FULFILLMENT_LINES",
    "FULFILLMENT_ORDER_BODIES",
    "FURTHER",
    "GATE",
    "INVENTORY_ITEM_BODIES",
    "INVENTORY_LEVEL_BODIES",
    "LEVEL",
    "LOCATION_BODIES",
    "ORDER_BODIES",
    "ORDER_LINES",
    "PRODUCT_BODIES",
    "PRODUCT_VARIANTS",
    "REFUND_BODIES",
    "REFUND_LINES",
    "RETURN_BODIES",
    "RETURN_LINES",
    "TRANSACTION_BODIES",
    "Listing",
    "bulk",
    "count",
    "page",
    "rest",
]
