"""What is asked of the shop as a whole: the gate, what was deleted, what is still there, bulk operations."""

GATE = """
query Gate {
  currentAppInstallation { accessScopes { handle } }
  shop { myshopifyDomain ianaTimezone currencyCode }
}
"""
WITHHELD = {
    "orders": """
query OrdersWithheld {
  orders(first: 5, sortKey: ID, reverse: true) {
    nodes { email phone billingAddress { firstName address1 phone } shippingAddress { firstName address1 phone } }
  }
}
""",
    "customers": """
query CustomersWithheld {
  customers(first: 5, sortKey: ID, reverse: true) {
    nodes {
      firstName
      defaultEmailAddress { emailAddress }
      defaultPhoneNumber { phoneNumber }
      defaultAddress { firstName address1 phone }
    }
  }
}
""",
}
"""The newest of a family, by what customers are known by: only asking shows whether an app is approved for it."""
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
