"""What several bodies are made of: fragments."""

MONEY = """
fragment Money on MoneyBag {
  shopMoney { amount currencyCode }
  presentmentMoney { amount currencyCode }
}
"""
ADDRESS = """
fragment Address on MailingAddress {
  id firstName lastName company address1 address2 city province provinceCode country countryCodeV2 zip phone name latitude
  longitude
}
"""
CUSTOMER = """
fragment Person on Customer {
  id legacyResourceId createdAt updatedAt firstName lastName state note verifiedEmail multipassIdentifier taxExempt
  defaultEmailAddress { emailAddress }
  defaultPhoneNumber { phoneNumber }
  defaultAddress { ...Address }
}
"""
LINE_ITEM = """
fragment Line on LineItem {
  id currentQuantity isGiftCard name quantity requiresShipping sku taxable title variantTitle vendor
  originalUnitPriceSet { ...Money }
  totalDiscountSet { ...Money }
  product @include(if: $products) { id }
  variant @include(if: $products) { id }
}
"""
VARIANT = """
fragment Variant on ProductVariant {
  id legacyResourceId barcode compareAtPrice createdAt inventoryPolicy inventoryQuantity position price sku taxable title
  updatedAt
  inventoryItem @include(if: $inventory) { legacyResourceId }
  selectedOptions { name value }
}
"""
