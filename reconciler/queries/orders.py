"""Orders, by id."""

from hooktape.reconciler.queries.pieces import ADDRESS, CUSTOMER, LINE_ITEM, MONEY

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
    + MONEY + ADDRESS + CUSTOMER + LINE_ITEM
)  # fmt: skip
ORDER_LINES = (
    """
query OrderLines($id: ID!, $after: String!, $products: Boolean!) {
  node(id: $id) {
    ... on Order { id updatedAt lineItems(first: 50, after: $after) { nodes { ...Line } pageInfo { hasNextPage endCursor } } }
  }
}
"""
    + MONEY + LINE_ITEM
)  # fmt: skip
