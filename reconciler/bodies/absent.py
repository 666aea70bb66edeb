"""What real webhooks have and the bodies built here don't: the Admin API doesn't show it, or only at many times the cost."""

_LINE = (
    "discount_allocations duties fulfillable_quantity fulfillment_service fulfillment_status grams properties tax_lines "
    "variant_inventory_management"
)
_ABSENT = {
    "orders": (
        "app_id browser_ip buyer_accepts_marketing cart_token checkout_id checkout_token client_details contact_email "
        "current_total_additional_fees_set current_total_duties_set device_id discount_applications discount_codes "
        "estimated_taxes fulfillments landing_site landing_site_ref location_id merchant_of_record_app_id "
        "note_attributes number order_status_url original_total_additional_fees_set original_total_duties_set "
        "payment_terms reference referring_site refunds shipping_lines source_url tax_lines token "
        "total_line_items_price total_line_items_price_set total_tip_received user_id"
    ),
    "orders.customer": "currency email_marketing_consent sms_marketing_consent tags tax_exemptions",
    "orders.line_items[]": "attributed_staffs " + _LINE,
    "refunds": "duties order_adjustments refund_shipping_lines restock return total_duties_set user_id",
    "refunds.refund_line_items[].line_item": _LINE,
    "order_transactions": "authorization device_id location_id message receipt source_name user_id",
    "fulfillments": "destination origin_address receipt shipment_status",
    "fulfillments.line_items[]": _LINE,
    "fulfillment_orders": "held_fulfillment_order_line_items remaining_fulfillment_order",
    "products": "image images media published_scope",
    "products.variants[]": "image_id old_inventory_quantity",
    "collections": "published_at published_scope",
    "customers": "addresses email_marketing_consent last_order_id last_order_name sms_marketing_consent tags tax_exemptions",
    "draft_orders": "applied_discount note_attributes payment_terms shipping_line tax_lines",
    "draft_orders.customer": (
        "currency email_marketing_consent last_order_id last_order_name orders_count sms_marketing_consent tags "
        "tax_exemptions total_spent"
    ),
    "draft_orders.line_items[]": "applied_discount fulfillment_service grams properties tax_lines",
    "inventory_items": "country_harmonized_system_codes",
    "locations": "legacy",
    # What the API calls the same has other members, and no webhook that holds one is documented.
    "company_locations": "buyer_experience_configuration",
    "themes": "previewable",
}
ABSENT = frozenset(f"{path}.{name}" for path, names in _ABSENT.items() for name in names.split())
"""Paths in bodies, the family first: `orders.line_items[].grams`. The same for all topics of a family."""
