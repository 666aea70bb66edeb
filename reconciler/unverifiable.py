"""The topics that no comparison with the Admin API can check, each with its reason: for reports, for the docs, for people."""

from fnmatch import filter as matching

from hooktape.schemas import topics as shopify

_STEP = "it tells of a step between two states, and only the newest state is compared"
_UNTOUCHED = "what it tells of moves no updated_at that the Admin API can be asked by"
_NOWHERE = "the Admin API doesn't show what it tells of"
_DETAIL = "the Admin API shows it only inside of each resource, without a list by time of change"
_NO_TIME = "the Admin API shows it without a time of change"
_BEGUN = "the Admin API lists it by when it was made, and not by what became of it"
_PROCESSED = "the Admin API lists it by when it was processed, which may be unknown"
_UNDATED = "the Admin API can be asked for those that changed, and doesn't show when they did"
_ENDED = "Shopify has announced that it sends it no more from 2026 on"
_ONE = "it's one object of the Admin API, and what is compared are lists"
_BY_TYPE = "the Admin API lists metaobjects one type at a time, and its list of types can't be narrowed to what changed"
_APP = "it's about the app and the shop, not about data of the shop's"
_FILES = "a theme's updated_at may move with its files, too, and no webhook tells of these"
_WORK = "several steps lead to the same status of a fulfillment order, and the newest status is all that the Admin API shows"
_LEGAL = "the Admin API shows no compliance request"
_MERGED = "it tells of two fulfillment orders at once; each one's newest state is compared by itself"

_REASONS = (
    ("app/*", _APP), ("app_purchases_one_time/*", _APP), ("app_subscriptions/*", _APP),
    ("attributed_sessions/*", _NOWHERE), ("audit_events/*", _NOWHERE), ("bulk_operations/finish", _APP),
    ("carts/*", _NOWHERE), ("channels/delete", _NOWHERE), ("checkout_and_accounts_configurations/*", _ENDED),
    ("checkouts/*", "the Admin API shows abandoned checkouts only"),
    ("collection_listings/*", _NOWHERE), ("collection_publications/*", _NO_TIME),
    ("company_contact*", _DETAIL), ("customer.*", _UNTOUCHED), ("customer_account_settings/*", _NO_TIME),
    ("customer_groups/*", _NO_TIME), ("customer_payment_methods/*", _DETAIL),
    ("customers/data_request", _LEGAL), ("customers/redact", _LEGAL),
    ("shop/redact", _LEGAL), ("customers/merge", _STEP), ("customers/purchasing_summary", _UNTOUCHED),
    ("customers_*", _UNTOUCHED), ("delivery_promise_settings/*", _NO_TIME), ("discounts/redeemcode_*", _DETAIL), ("disputes/*", _BEGUN),
    ("domains/*", _NO_TIME), ("finance_*", _NOWHERE), ("fulfillment_events/*", _DETAIL),
    ("fulfillment_holds/*", "holds have no list; the fulfillment order's own topics tell of them"),
    ("fulfillment_orders/cancellation_request_*", _WORK), ("fulfillment_orders/fulfillment_request_*", _WORK),
    ("fulfillment_orders/line_items_prepared_*", _WORK), ("fulfillment_orders/manually_reported_*", _WORK),
    ("fulfillment_orders/progress_reported", _WORK), ("fulfillment_orders/scheduled_*", _WORK),
    ("fulfillment_orders/merged", _MERGED), ("fulfillment_orders/moved", _MERGED), ("fulfillment_orders/split", _MERGED),
    ("inventory_shipments/*", _NO_TIME), ("inventory_transfers/*", _BEGUN), ("locales/*", _NO_TIME),
    ("locations/activate", _STEP),
    ("machine_translation_batch/*", _NOWHERE), ("markets/*", _NO_TIME), ("markets_backup_region/*", _NO_TIME),
    ("metafield_definitions/*", _UNDATED), ("metaobjects/*", _BY_TYPE), ("orders/edited", _STEP),
    ("orders/link_requested", _NOWHERE), ("orders/risk_assessment_changed", _UNTOUCHED),
    ("orders/shopify_protect_eligibility_changed", _UNTOUCHED), ("payment_schedules/*", _DETAIL), ("payment_terms/*", _DETAIL),
    ("product_feeds/*", _NO_TIME), ("product_listings/*", _NOWHERE), ("product_publications/*", _NO_TIME), ("profiles/*", _NO_TIME),
    ("publications/*", _NO_TIME), ("returns/process", _STEP), ("returns/reopen", _STEP), ("returns/update", _STEP),
    ("reverse_deliveries/*", _DETAIL), ("reverse_fulfillment_orders/*", _DETAIL), ("scheduled_product_listings/*", _NOWHERE),
    ("selling_plan_groups/*", _BEGUN), ("shipping_addresses/*", _DETAIL),
    ("shop/update", _ONE), ("subscription_billing_attempts/*", _BEGUN), ("subscription_billing_cycle*", _DETAIL),
    ("subscription_contracts/activate", _STEP), ("tax_*", _NOWHERE),
    ("tender_transactions/*", _PROCESSED), ("themes/update", _FILES),
    ("variants/*", "it tells of a step between two states; variants are compared with their product, and their stock as levels"),
)  # fmt: skip

REASONS: dict[str, str] = {topic: reason for pattern, reason in _REASONS for topic in matching(shopify.table(), pattern)}
"""Topic → why it can't be checked."""
