"""Every query that the reconciler sends to the Admin API. A test holds each against the real schema."""

from dataclasses import dataclass

GATE = """
query Gate {
  currentAppInstallation { accessScopes { handle } }
  shop { myshopifyDomain ianaTimezone currencyCode }
}
"""


# ── what was deleted, and what is still there ──────────────────────────────────────────────────────────────────────
DELETIONS = """
query Deletions($query: String!, $after: String) {
  events(first: 250, after: $after, query: $query, sortKey: ID) {
    nodes { ... on BasicEvent { subjectId createdAt } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
DELETIONS_COUNT = """
query DeletionsCount($query: String!) { eventsCount(query: $query) { count precision } }
"""
EXISTING = """
query Existing($ids: [ID!]!) { nodes(ids: $ids) { id } }
"""

# ── bulk operations ─────────────────────────────────────────────────────────────────────────────────────────────────
BULK_RUN = """
mutation BulkRun($query: String!) {
  bulkOperationRunQuery(query: $query, groupObjects: false) { bulkOperation { id } userErrors { code message } }
}
"""
BULK_SEE = """
query BulkSee($id: ID!) {
  node(id: $id) { ... on BulkOperation { id status errorCode objectCount rootObjectCount url partialDataUrl } }
}
"""
BULK_LATEST = """
query BulkLatest { bulkOperations(first: 20, sortKey: CREATED_AT, reverse: true) { nodes { id status createdAt query } } }
"""
BULK_CANCEL = """
mutation BulkCancel($id: ID!) { bulkOperationCancel(id: $id) { bulkOperation { status } userErrors { message } } }
"""

# ── which resources changed ─────────────────────────────────────────────────────────────────────────────────────────
FURTHER = 200
"""Rows of a further page of what is inside one node: at up to 4 objects a row, a query's 1,000 points are nearly all."""


@dataclass(frozen=True, slots=True)
class Listing:
    """How the API lists what changed: pages of a connection at the top, or a connection or list inside of it."""

    root: str
    """The connection at the top: `orders`."""
    row: str
    """What a row is made of: the selection on a node of it."""
    inside: str = ""
    """Where the rows are when they aren't the root's nodes: `refunds` of an order."""
    connection: bool = False
    """`inside` is a connection, with pages of its own; else a plain list, which is whole."""
    owner: str = ""
    """Type of the root's nodes, to page `inside` by id."""
    arguments: str = ""
    """Further arguments of the root, such as `includeClosed: true`."""
    inside_arguments: str = ""
    sorted: bool = True
    """Takes `sortKey: ID`: an edit while paging can't shift pages, and sorting by UPDATED_AT is known to omit rows."""
    size: int = 250
    """Root nodes a page."""
    inside_size: int = 0
    counted: bool = True
    """The API counts the root (`ordersCount`)."""
    filtered: bool = True
    """The root (or, where `inner_filter`, what is inside) can be filtered by `updated_at`; else all of it is listed."""
    inner_filter: bool = False
    searched: bool = True
    """The root takes a `query` at all."""
    pad: int = 0
    """Microseconds by which the filter is widened on both sides, where it's read in the shop's zone."""
    points: int = 260
    """Most that a page costs, by the published rules."""


def page(listing: Listing) -> str:
    """One page of root nodes, each with the first page of what is inside. Variables: `query` (null: all) and `after`."""
    given = [f"first: {listing.size}", "after: $after", *_root(listing, "$query")]
    return f"""
query List($query: String, $after: String) {{
  {listing.root}({", ".join(given)}) {{
    nodes {{ {_node(listing, "$query", bulk=False)} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""


def rest(listing: Listing) -> str:
    """A further page of what is inside a root node. Variables: `id`, `after`, and `query` where it's filtered inside."""
    shown = f"""{listing.inside}({", ".join([f"first: {FURTHER}", "after: $after", *_inside(listing, "$query")])}) {{
      nodes {{ {listing.row} }} pageInfo {{ hasNextPage endCursor }} }}"""
    asked = "$id: ID!, $after: String!" + (", $query: String" if listing.inner_filter else "")
    return f"""
query Rest({asked}) {{
  node(id: $id) {{ ... on {listing.owner} {{ {shown} }} }}
}}
"""


def bulk(listing: Listing, search: str) -> str:
    """All of it as a bulk operation: unsorted, since a bulk sorted by UPDATED_AT omits rows; the search is part of the text."""
    # A search text has no quotation marks and no backslashes of its own (family.search): it needs no escaping.
    quoted = f'"{search}"' if search else ""
    given = ", ".join(_root(listing, quoted, ordered=False))
    return f"""{{ {listing.root}{f"({given})" if given else ""} {{ edges {{ node {{ {_node(listing, quoted, bulk=True)} }} }} }} }}"""


def count(root: str) -> str:
    """How many there are; `limit: null`, since a count stops at 10,000 by default."""
    return f"query Count($query: String) {{ {root}Count(query: $query, limit: null) {{ count precision }} }}"


def _root(listing: Listing, search: str, ordered: bool = True) -> list[str]:
    given = [f"query: {search}"] if search and not listing.inner_filter and listing.searched else []
    given += ["sortKey: ID"] if ordered and listing.sorted else []
    return given + ([listing.arguments] if listing.arguments else [])


def _inside(listing: Listing, search: str) -> list[str]:
    given = [f"query: {search}"] if search and listing.inner_filter else []
    return given + ([listing.inside_arguments] if listing.inside_arguments else [])


def _node(listing: Listing, search: str, bulk: bool) -> str:
    if not listing.inside:
        return listing.row
    if not listing.connection:
        return f"id {listing.inside} {{ {listing.row} }}"
    if bulk:
        given = ", ".join(_inside(listing, search))
        return f"id {listing.inside}{f'({given})' if given else ''} {{ edges {{ node {{ {listing.row} }} }} }}"
    given = ", ".join([f"first: {listing.inside_size}", *_inside(listing, search)])
    return f"id {listing.inside}({given}) {{ nodes {{ {listing.row} }} pageInfo {{ hasNextPage endCursor }} }}"


# ── their present state ─────────────────────────────────────────────────────────────────────────────────────────────
_MONEY = """
fragment Money on MoneyBag {
  shopMoney { amount currencyCode }
  presentmentMoney { amount currencyCode }
}
"""
_ADDRESS = """
fragment Address on MailingAddress {
  id firstName lastName company address1 address2 city province provinceCode country countryCodeV2 zip phone name latitude
  longitude
}
"""
_CUSTOMER = """
fragment Person on Customer {
  id legacyResourceId createdAt updatedAt firstName lastName state note verifiedEmail multipassIdentifier taxExempt
  defaultEmailAddress { emailAddress }
  defaultPhoneNumber { phoneNumber }
  defaultAddress { ...Address }
}
"""
_LINE_ITEM = """
fragment Line on LineItem {
  id currentQuantity isGiftCard name quantity requiresShipping sku taxable title variantTitle vendor
  originalUnitPriceSet { ...Money }
  totalDiscountSet { ...Money }
  product @include(if: $products) { id }
  variant @include(if: $products) { id }
}
"""
_VARIANT = """
fragment Variant on ProductVariant {
  id legacyResourceId barcode compareAtPrice createdAt inventoryPolicy inventoryQuantity position price sku taxable title
  updatedAt
  inventoryItem @include(if: $inventory) { legacyResourceId }
  selectedOptions { name value }
}
"""

ORDER_BODIES = (
    """
query OrderBodies($ids: [ID!]!, $customers: Boolean!, $products: Boolean!) {
  nodes(ids: $ids) {
    ... on Order {
      id legacyResourceId createdAt updatedAt processedAt cancelledAt closedAt cancelReason confirmationNumber confirmed
      currencyCode presentmentCurrencyCode customerLocale displayFinancialStatus displayFulfillmentStatus email name note
      number paymentGatewayNames phone poNumber sourceIdentifier sourceName tags taxExempt taxesIncluded test totalWeight
      subtotalLineItemsQuantity
      subtotalPriceSet { ...Money }
      totalDiscountsSet { ...Money }
      totalOutstandingSet { ...Money }
      totalPriceSet { ...Money }
      totalShippingPriceSet { ...Money }
      totalTaxSet { ...Money }
      currentSubtotalPriceSet { ...Money }
      currentTotalDiscountsSet { ...Money }
      currentTotalPriceSet { ...Money }
      currentTotalTaxSet { ...Money }
      billingAddress { ...Address }
      shippingAddress { ...Address }
      customer @include(if: $customers) { ...Person }
      lineItems(first: 10) { nodes { ...Line } pageInfo { hasNextPage endCursor } }
    }
  }
}
"""
    + _MONEY + _ADDRESS + _CUSTOMER + _LINE_ITEM
)  # fmt: skip
ORDER_LINES = (
    """
query OrderLines($id: ID!, $after: String!, $products: Boolean!) {
  node(id: $id) {
    ... on Order { id updatedAt lineItems(first: 50, after: $after) { nodes { ...Line } pageInfo { hasNextPage endCursor } } }
  }
}
"""
    + _MONEY + _LINE_ITEM
)  # fmt: skip
PRODUCT_BODIES = (
    """
query ProductBodies($ids: [ID!]!, $inventory: Boolean!) {
  nodes(ids: $ids) {
    ... on Product {
      id legacyResourceId createdAt updatedAt publishedAt descriptionHtml handle productType templateSuffix title vendor status
      tags hasVariantsThatRequiresComponents
      options { id name position values }
      variantsCount { count precision }
      variants(first: 20) { nodes { ...Variant } pageInfo { hasNextPage endCursor } }
    }
  }
}
"""
    + _VARIANT
)
PRODUCT_VARIANTS = (
    """
query ProductVariants($id: ID!, $after: String!, $inventory: Boolean!) {
  node(id: $id) {
    ... on Product {
      id updatedAt
      variants(first: 100, after: $after) { nodes { ...Variant } pageInfo { hasNextPage endCursor } }
    }
  }
}
"""
    + _VARIANT
)
CUSTOMER_BODIES = (
    """
query CustomerBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on Customer { ...Person numberOfOrders amountSpent { amount currencyCode } }
  }
}
"""
    + _CUSTOMER + _ADDRESS
)  # fmt: skip
_PAID = """
fragment Paid on OrderTransaction {
  id kind gateway status createdAt processedAt test errorCode paymentId manualPaymentGateway
  order { id }
  parentTransaction { id }
  amountSet { ...Money }
  totalUnsettledSet { ...Money }
}
"""
_DRAFT_LINE = """
fragment DraftLine on DraftOrderLineItem {
  id title variantTitle sku vendor quantity requiresShipping taxable isGiftCard name custom
  originalUnitPriceSet { ...Money }
  product @include(if: $products) { id }
  variant @include(if: $products) { id }
}
"""
_REFUNDED = """
fragment Refunded on RefundLineItem {
  id quantity restockType
  subtotalSet { ...Money }
  totalTaxSet { ...Money }
  location @include(if: $locations) { id }
  lineItem { ...Line }
}
"""
_SENT_BACK = """
fragment SentBack on ReturnLineItemType {
  id quantity
  ... on ReturnLineItem { customerNote returnReason returnReasonNote fulfillmentLineItem { id lineItem { id } } }
}
"""

REFUND_BODIES = (
    """
query RefundBodies($ids: [ID!]!, $products: Boolean!, $locations: Boolean!) {
  nodes(ids: $ids) {
    ... on Refund {
      id legacyResourceId createdAt updatedAt processedAt note
      order { id }
      transactions(first: 5) { nodes { ...Paid } pageInfo { hasNextPage } }
      refundLineItems(first: 10) { nodes { ...Refunded } pageInfo { hasNextPage endCursor } }
    }
  }
}
"""
    + _PAID + _REFUNDED + _LINE_ITEM + _MONEY
)  # fmt: skip
REFUND_LINES = (
    """
query RefundLines($id: ID!, $after: String!, $products: Boolean!, $locations: Boolean!) {
  node(id: $id) {
    ... on Refund { id updatedAt refundLineItems(first: 40, after: $after) { nodes { ...Refunded } pageInfo { hasNextPage endCursor } } }
  }
}
"""
    + _REFUNDED + _LINE_ITEM + _MONEY
)  # fmt: skip
TRANSACTION_BODIES = (
    """
query TransactionBodies($ids: [ID!]!) { nodes(ids: $ids) { ... on OrderTransaction { ...Paid } } }
"""
    + _PAID + _MONEY
)  # fmt: skip
FULFILLMENT_BODIES = (
    """
query FulfillmentBodies($ids: [ID!]!, $products: Boolean!, $locations: Boolean!) {
  nodes(ids: $ids) {
    ... on Fulfillment {
      id legacyResourceId createdAt updatedAt status name totalQuantity
      order { id email }
      service { handle }
      location @include(if: $locations) { id }
      trackingInfo { company number url }
      fulfillmentLineItems(first: 10) { nodes { id quantity lineItem { ...Line } } pageInfo { hasNextPage endCursor } }
    }
  }
}
"""
    + _LINE_ITEM + _MONEY
)  # fmt: skip
FULFILLMENT_LINES = (
    """
query FulfillmentLines($id: ID!, $after: String!, $products: Boolean!) {
  node(id: $id) {
    ... on Fulfillment {
      id updatedAt
      fulfillmentLineItems(first: 50, after: $after) { nodes { id quantity lineItem { ...Line } } pageInfo { hasNextPage endCursor } }
    }
  }
}
"""
    + _LINE_ITEM + _MONEY
)  # fmt: skip
RETURN_BODIES = (
    """
query ReturnBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on Return {
      id status name createdAt closedAt totalQuantity
      order { id }
      returnLineItems(first: 20) { nodes { ...SentBack } pageInfo { hasNextPage endCursor } }
    }
  }
}
"""
    + _SENT_BACK
)
RETURN_LINES = (
    """
query ReturnLines($id: ID!, $after: String!) {
  node(id: $id) {
    ... on Return { id status returnLineItems(first: 100, after: $after) { nodes { ...SentBack } pageInfo { hasNextPage endCursor } } }
  }
}
"""
    + _SENT_BACK
)
FULFILLMENT_ORDER_BODIES = """
query FulfillmentOrderBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on FulfillmentOrder {
      id status createdAt updatedAt
      fulfillmentHolds { id heldByRequestingApp reason reasonNotes }
    }
  }
}
"""
COLLECTION_BODIES = """
query CollectionBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on Collection { id legacyResourceId updatedAt handle title descriptionHtml sortOrder templateSuffix }
  }
}
"""
DRAFT_ORDER_BODIES = (
    """
query DraftOrderBodies($ids: [ID!]!, $customers: Boolean!, $products: Boolean!, $orders: Boolean!) {
  nodes(ids: $ids) {
    ... on DraftOrder {
      id legacyResourceId createdAt updatedAt completedAt invoiceSentAt invoiceUrl name note2 email currencyCode status tags
      taxExempt taxesIncluded
      totalPriceSet { ...Money }
      subtotalPriceSet { ...Money }
      totalTaxSet { ...Money }
      billingAddress { ...Address }
      shippingAddress { ...Address }
      order @include(if: $orders) { id }
      customer @include(if: $customers) { ...Person }
      lineItems(first: 10) { nodes { ...DraftLine } pageInfo { hasNextPage endCursor } }
    }
  }
}
"""
    + _DRAFT_LINE + _CUSTOMER + _ADDRESS + _MONEY
)  # fmt: skip
DRAFT_ORDER_LINES = (
    """
query DraftOrderLines($id: ID!, $after: String!, $products: Boolean!) {
  node(id: $id) {
    ... on DraftOrder { id updatedAt lineItems(first: 100, after: $after) { nodes { ...DraftLine } pageInfo { hasNextPage endCursor } } }
  }
}
"""
    + _DRAFT_LINE + _MONEY
)  # fmt: skip
INVENTORY_ITEM_BODIES = """
query InventoryItemBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on InventoryItem {
      id legacyResourceId createdAt updatedAt sku requiresShipping tracked countryCodeOfOrigin provinceCodeOfOrigin
      harmonizedSystemCode
      unitCost { amount currencyCode }
    }
  }
}
"""
LEVEL = 'id createdAt updatedAt item { id } location { id } quantities(names: ["available"]) { name quantity }'
"""A level: its id alone says too little, since a webhook names it by its item and its location."""
INVENTORY_LEVEL_BODIES = """
query InventoryLevelBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on InventoryLevel {
      id createdAt updatedAt
      item { id }
      location { id }
      quantities(names: ["available"]) { name quantity }
    }
  }
}
"""
LOCATION_BODIES = """
query LocationBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on Location {
      id legacyResourceId createdAt updatedAt name isActive
      address { address1 address2 city country countryCode phone province provinceCode zip }
    }
  }
}
"""
DISCOUNT = "id discount { __typename " + " ".join(
    f"... on {kind} {{ title status createdAt updatedAt }}"
    for kind in ("DiscountAutomaticApp", "DiscountAutomaticBasic", "DiscountAutomaticBxgy", "DiscountAutomaticFreeShipping",
                 "DiscountCodeApp", "DiscountCodeBasic", "DiscountCodeBxgy", "DiscountCodeFreeShipping")) + " }"  # fmt: skip
"""What every kind of discount says of itself."""
DISCOUNT_BODIES = f"query DiscountBodies($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on DiscountNode {{ {DISCOUNT} }} }} }}"
