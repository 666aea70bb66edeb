"""How the Admin API shows what the shop holds: one table of GraphQL fields for each type, read off the REST bodies. Pure.

GraphQL differs from a webhook body in shape, not in fact: global ids, camelCase, money as `*Set`, tags as a list, enums in
upper case, instants in UTC.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from hooktape.local.shop import bodies
from hooktape.local.shop.model import SUBJECTS, Shop
from hooktape.local.shop.store import GID, Resource
from hooktape.schemas import samples

Body = dict[str, Any]
View = Callable[[Any, Shop], Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a connection. `rows` are (cursor, node)."""

    rows: list[tuple[str, Any]]
    has_next: bool
    has_previous: bool


@dataclass(frozen=True, slots=True)
class Part:
    """An object inside a resource, with what its own body doesn't say."""

    body: Body
    id: str = ""


def utc(text: str | None) -> str | None:
    """A body's instant as GraphQL shows it."""
    return samples.utc(int(datetime.fromisoformat(text).timestamp())) if text else None


def body(key: str) -> View:
    return lambda source, shop: source.body[key]


def time(key: str) -> View:
    return lambda source, shop: utc(source.body[key])


def money(key: str) -> View:
    return lambda source, shop: source.body[key]


def upper(key: str) -> View:
    return lambda source, shop: source.body[key].upper() if source.body[key] else None


def tags(source: Resource, shop: Shop) -> list[str]:
    return [tag for tag in source.body.get("tags", "").split(", ") if tag]


def address(key: str) -> View:
    def view(source: Resource, shop: Shop) -> Part:
        body = source.body[key]
        number = body.get("id", source.id)
        return Part(body, f"gid://shopify/MailingAddress/{number}?model_name={'Customer' if 'id' in body else ''}Address")

    return view


def parts(key: str) -> View:
    return lambda source, shop: [Part(one, one.get("admin_graphql_api_id", "")) for one in source.body[key]]


def find(kind: str, key: str) -> View:
    return lambda source, shop: shop.get(f"{kind}/{source.body[key]}")


def _buyer(source: Resource, shop: Shop) -> Resource | None:
    return shop.get(f"customer/{source.body['customer']['id']}")


def _variant(source: Part, shop: Shop) -> Part | None:
    goods = shop.get(f"product/{source.body['product_id']}")
    return next((Part(one, one["admin_graphql_api_id"]) for one in goods.body["variants"]
                 if one["id"] == source.body["variant_id"]), None) if goods else None  # fmt: skip


def _stocked(source: Part | Resource, shop: Shop) -> Resource:
    """The variant's item; a shop that isn't a whole one keeps none, so that it's made up from the variant."""
    number, at = source.body["inventory_item_id"], int(datetime.fromisoformat(source.body["created_at"]).timestamp())
    made = Resource("inventory_item", number, None, at, at, make=lambda: bodies.inventory_item(Random(number), source.body, at))
    return shop.get_id("inventory_item", number) or made


def _orders_of(source: Resource, shop: Shop) -> list[Body]:
    return [order.body for order in shop.bought[source.id] if order.deleted is None]


NODE: dict[str, View] = {
    "id": lambda source, shop: source.gid, "legacyResourceId": lambda source, shop: str(source.id),
    # Not off the body: a stocked order needn't be made to say when it changed.
    "createdAt": lambda source, shop: samples.utc(source.created), "updatedAt": lambda source, shop: samples.utc(source.updated),
}  # fmt: skip
PART: dict[str, View] = {"id": lambda source, shop: source.id}

FIELDS: dict[str, dict[str, View]] = {
    "Order": NODE | {
        "billingAddress": address("billing_address"), "cancelReason": upper("cancel_reason"),
        "cancelledAt": time("cancelled_at"), "closed": lambda o, shop: o.body["closed_at"] is not None,
        "closedAt": time("closed_at"), "confirmationNumber": body("confirmation_number"), "confirmed": body("confirmed"),
        "currencyCode": body("currency"),
        "currentSubtotalPriceSet": money("current_subtotal_price_set"),
        "currentTotalDiscountsSet": money("current_total_discounts_set"),
        "currentTotalPriceSet": money("current_total_price_set"), "currentTotalTaxSet": money("current_total_tax_set"),
        "customer": _buyer, "customerLocale": body("customer_locale"), "displayFinancialStatus": upper("financial_status"),
        "displayFulfillmentStatus": lambda o, shop: (o.body["fulfillment_status"] or "unfulfilled").upper(),
        "email": body("email"), "lineItems": parts("line_items"), "name": body("name"), "note": body("note"),
        "number": body("order_number"), "paymentGatewayNames": body("payment_gateway_names"), "phone": body("phone"),
        "poNumber": body("po_number"), "presentmentCurrencyCode": body("presentment_currency"),
        "processedAt": time("processed_at"), "shippingAddress": address("shipping_address"),
        "sourceIdentifier": body("source_identifier"), "sourceName": body("source_name"),
        "subtotalLineItemsQuantity": lambda o, shop: sum(line["quantity"] for line in o.body["line_items"]),
        "subtotalPriceSet": money("subtotal_price_set"), "tags": tags, "taxExempt": body("tax_exempt"),
        "taxesIncluded": body("taxes_included"), "test": body("test"), "totalDiscountsSet": money("total_discounts_set"),
        "totalOutstandingSet": lambda o, shop: samples.money(samples.cents(o.body["total_outstanding"])),
        "totalPriceSet": money("total_price_set"), "totalShippingPriceSet": money("total_shipping_price_set"),
        "totalTaxSet": money("total_tax_set"), "totalWeight": lambda o, shop: str(o.body["total_weight"]),
    },
    "LineItem": PART | {
        "currentQuantity": body("current_quantity"), "isGiftCard": body("gift_card"), "name": body("name"),
        "originalUnitPriceSet": money("price_set"), "product": find("product", "product_id"), "quantity": body("quantity"),
        "requiresShipping": body("requires_shipping"), "sku": body("sku"), "taxable": body("taxable"),
        "title": body("title"), "totalDiscountSet": money("total_discount_set"), "variant": _variant,
        "variantTitle": body("variant_title"), "vendor": body("vendor"),
    },
    "Product": NODE | {
        "descriptionHtml": body("body_html"), "handle": body("handle"),
        "hasVariantsThatRequiresComponents": body("has_variants_that_requires_components"),
        "isGiftCard": lambda p, shop: False,
        "options": lambda p, shop: [Part(one, f"gid://shopify/ProductOption/{one['id']}") for one in p.body["options"]],
        "productType": body("product_type"), "publishedAt": time("published_at"), "status": upper("status"), "tags": tags,
        "templateSuffix": body("template_suffix"), "title": body("title"),
        "totalInventory": lambda p, shop: sum(v["inventory_quantity"] for v in p.body["variants"]),
        "variants": parts("variants"), "variantsCount": lambda p, shop: (len(p.body["variants"]), "EXACT"), "vendor": body("vendor"),
    },
    "ProductOption": PART | {"name": body("name"), "position": body("position"), "values": body("values")},
    "ProductVariant": {
        "id": body("admin_graphql_api_id"), "barcode": body("barcode"),
        "compareAtPrice": body("compare_at_price"), "createdAt": time("created_at"),
        "inventoryItem": _stocked, "inventoryPolicy": upper("inventory_policy"),
        "inventoryQuantity": body("inventory_quantity"), "legacyResourceId": lambda v, shop: str(v.body["id"]),
        "position": body("position"), "price": body("price"), "product": find("product", "product_id"),
        "selectedOptions": lambda v, shop: [v.body["option1"]], "sku": body("sku"), "taxable": body("taxable"),
        "title": body("title"), "updatedAt": time("updated_at"),
    },
    "SelectedOption": {"name": lambda value, shop: "Size", "value": lambda value, shop: value},
    "Customer": NODE | {
        "amountSpent": lambda c, shop: samples.money(sum(
            samples.cents(o["total_price"]) for o in _orders_of(c, shop) if o["financial_status"] == "paid"))["shop_money"],
        "defaultAddress": address("default_address"),
        "defaultEmailAddress": lambda c, shop: c, "defaultPhoneNumber": lambda c, shop: c if c.body["phone"] else None,
        "displayName": lambda c, shop: f"{c.body['first_name']} {c.body['last_name']}", "firstName": body("first_name"),
        "lastName": body("last_name"), "locale": lambda c, shop: "en", "multipassIdentifier": body("multipass_identifier"),
        "note": body("note"), "numberOfOrders": lambda c, shop: str(len(_orders_of(c, shop))), "state": upper("state"),
        "tags": tags, "taxExempt": body("tax_exempt"),
        "verifiedEmail": body("verified_email"),
    },
    "CustomerEmailAddress": {"emailAddress": body("email")},
    "CustomerPhoneNumber": {"phoneNumber": body("phone")},
    "MailingAddress": PART | {
        "address1": body("address1"), "address2": body("address2"), "city": body("city"), "company": body("company"),
        "country": body("country"), "countryCodeV2": body("country_code"), "firstName": body("first_name"),
        "lastName": body("last_name"), "latitude": body("latitude"), "longitude": body("longitude"), "name": body("name"),
        "phone": body("phone"), "province": body("province"), "provinceCode": body("province_code"), "zip": body("zip"),
    },
    "MoneyBag": {"presentmentMoney": lambda m, shop: m["presentment_money"], "shopMoney": lambda m, shop: m["shop_money"]},
    "MoneyV2": {"amount": lambda m, shop: m["amount"], "currencyCode": lambda m, shop: m["currency_code"]},
    "BasicEvent": {
        "action": lambda e, shop: "destroy", "createdAt": lambda e, shop: samples.utc(e.at),
        "id": lambda e, shop: samples.gid("BasicEvent", e.id), "message": lambda e, shop: f"Someone deleted the {e.kind}.",
        "subjectId": lambda e, shop: samples.gid(GID[e.kind], e.resource_id), "subjectType": lambda e, shop: SUBJECTS[e.kind],
    },
    "Count": {"count": lambda c, shop: c[0], "precision": lambda c, shop: c[1]},
    "PageInfo": {
        "endCursor": lambda p, shop: p.rows[-1][0] if p.rows else None, "hasNextPage": lambda p, shop: p.has_next,
        "hasPreviousPage": lambda p, shop: p.has_previous, "startCursor": lambda p, shop: p.rows[0][0] if p.rows else None,
    },
    "Shop": {
        "currencyCode": lambda _, shop: samples.CURRENCY, "email": lambda _, shop: "owner@example.com",
        "ianaTimezone": lambda _, shop: "America/Panama", "id": lambda _, shop: samples.gid("Shop", 90_210_000_001),
        "myshopifyDomain": lambda _, shop: shop.domain, "name": lambda _, shop: "Hooktape Outfitters", "plan": lambda p, _: p,
    },
    "ShopPlan": {
        "partnerDevelopment": lambda p, shop: False, "publicDisplayName": lambda p, shop: p.name,
        "shopifyPlus": lambda p, shop: p.name == "Shopify Plus",
    },
    "AppInstallation": {"accessScopes": lambda scopes, shop: scopes, "id": lambda _, shop: samples.gid("AppInstallation", 1001)},
    "AccessScope": {"description": lambda scope, shop: scope.replace("_", " "), "handle": lambda scope, shop: scope},
    "ApiVersion": {
        "displayName": lambda version, shop: version, "handle": lambda version, shop: version,
        "supported": lambda version, shop: True,
    },
}  # fmt: skip
