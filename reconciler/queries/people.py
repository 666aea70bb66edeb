"""Customers, their segments, and draft orders, by id."""

from hooktape.reconciler.queries.pieces import ADDRESS, CUSTOMER, MONEY

CUSTOMER_BODIES = (
    """
query CustomerBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on Customer { ...Person numberOfOrders amountSpent { amount currencyCode } }
  }
}
"""
    + CUSTOMER + ADDRESS
)  # fmt: skip
SEGMENT_BODIES = """
query SegmentBodies($ids: [ID!]!) {
  nodes(ids: $ids) { ... on Segment { id name query creationDate lastEditDate } }
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
    + _DRAFT_LINE + CUSTOMER + ADDRESS + MONEY
)  # fmt: skip
DRAFT_ORDER_LINES = (
    """
query DraftOrderLines($id: ID!, $after: String!, $products: Boolean!) {
  node(id: $id) {
    ... on DraftOrder { id updatedAt lineItems(first: 100, after: $after) { nodes { ...DraftLine } pageInfo { hasNextPage endCursor } } }
  }
}
"""
    + _DRAFT_LINE + MONEY
)  # fmt: skip
