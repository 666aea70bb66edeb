"""What belongs to orders, by id: refunds, payments, fulfillments, returns, fulfillment orders."""

from hooktape.reconciler.queries.pieces import LINE_ITEM, MONEY

_PAID = """
fragment Paid on OrderTransaction {
  id kind gateway status createdAt processedAt test errorCode paymentId manualPaymentGateway
  order { id }
  parentTransaction { id }
  amountSet { ...Money }
  totalUnsettledSet { ...Money }
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
    + _PAID + _REFUNDED + LINE_ITEM + MONEY
)  # fmt: skip
REFUND_LINES = (
    """
query RefundLines($id: ID!, $after: String!, $products: Boolean!, $locations: Boolean!) {
  node(id: $id) {
    ... on Refund { id updatedAt refundLineItems(first: 40, after: $after) { nodes { ...Refunded } pageInfo { hasNextPage endCursor } } }
  }
}
"""
    + _REFUNDED + LINE_ITEM + MONEY
)  # fmt: skip
TRANSACTION_BODIES = (
    """
query TransactionBodies($ids: [ID!]!) { nodes(ids: $ids) { ... on OrderTransaction { ...Paid } } }
"""
    + _PAID + MONEY
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
    + LINE_ITEM + MONEY
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
    + LINE_ITEM + MONEY
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
