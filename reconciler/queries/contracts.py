"""Subscription contracts, by id."""

CONTRACT_BODIES = """
query ContractBodies($ids: [ID!]!, $customers: Boolean!, $orders: Boolean!) {
  nodes(ids: $ids) {
    ... on SubscriptionContract {
      id createdAt updatedAt status revisionId currencyCode
      billingPolicy { interval intervalCount minCycles maxCycles }
      deliveryPolicy { interval intervalCount }
      customer @include(if: $customers) { id }
      originOrder @include(if: $orders) { id }
    }
  }
}
"""
