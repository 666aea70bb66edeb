"""Companies with their locations, and themes, by id."""

_COMPANY = """
fragment Firm on Company {
  id name note externalId createdAt updatedAt customerSince
  mainContact { id }
}
"""
_ADDRESS = """
fragment Place on CompanyAddress {
  id address1 address2 city province country zip recipient firstName lastName phone zoneCode countryCode createdAt updatedAt
}
"""
COMPANY_BODIES = (
    """
query CompanyBodies($ids: [ID!]!) {
  nodes(ids: $ids) { ... on Company { ...Firm } }
}
"""
    + _COMPANY
)
COMPANY_LOCATION_BODIES = (
    """
query CompanyLocationBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on CompanyLocation {
      id name externalId phone locale note createdAt updatedAt
      company { ...Firm }
      taxSettings { taxRegistrationId taxExempt taxExemptions }
      billingAddress { ...Place }
      shippingAddress { ...Place }
    }
  }
}
"""
    + _COMPANY + _ADDRESS
)  # fmt: skip
THEME_BODIES = """
query ThemeBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on OnlineStoreTheme { id name createdAt updatedAt role themeStoreId processing }
  }
}
"""
