"""Every query that the reconciler sends to the Admin API. A test holds each against the real schema."""

GATE = """
query Gate {
  currentAppInstallation { accessScopes { handle } }
  shop { myshopifyDomain }
}
"""

# ── which resources changed ─────────────────────────────────────────────────────────────────────────────────────────
# Sorted by ID: an edit while paging can't shift pages, and sorting by UPDATED_AT is known to omit rows.
ORDERS = """
query Orders($query: String!, $after: String) {
  orders(first: 250, after: $after, query: $query, sortKey: ID) {
    nodes { id createdAt updatedAt }
    pageInfo { hasNextPage endCursor }
  }
}
"""
PRODUCTS = """
query Products($query: String!, $after: String) {
  products(first: 250, after: $after, query: $query, sortKey: ID) {
    nodes { id createdAt updatedAt }
    pageInfo { hasNextPage endCursor }
  }
}
"""
CUSTOMERS = """
query Customers($query: String!, $after: String) {
  customers(first: 250, after: $after, query: $query, sortKey: ID) {
    nodes { id createdAt updatedAt }
    pageInfo { hasNextPage endCursor }
  }
}
"""

# ── how many ────────────────────────────────────────────────────────────────────────────────────────────────────────
# `limit: null`: by default a count stops at 10,000.
ORDERS_COUNT = """
query OrdersCount($query: String!) { ordersCount(query: $query, limit: null) { count precision } }
"""
PRODUCTS_COUNT = """
query ProductsCount($query: String!) { productsCount(query: $query, limit: null) { count precision } }
"""
CUSTOMERS_COUNT = """
query CustomersCount($query: String!) { customersCount(query: $query, limit: null) { count precision } }
"""

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

# ── their present version ───────────────────────────────────────────────────────────────────────────────────────────
VERSIONS = """
query Versions($ids: [ID!]!) {
  nodes(ids: $ids) {
    id
    ... on Order { updatedAt }
    ... on Product { updatedAt }
    ... on Customer { updatedAt }
  }
}
"""
