"""Products, collections, inventory, locations and discounts, by id."""

from hooktape.reconciler.queries.pieces import VARIANT

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
    + VARIANT
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
    + VARIANT
)
COLLECTION_BODIES = """
query CollectionBodies($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on Collection { id legacyResourceId updatedAt handle title descriptionHtml sortOrder templateSuffix }
  }
}
"""
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
