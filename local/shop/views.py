"""How the Admin API shows what the shop holds: one table of GraphQL fields for each type, read off the REST bodies. Pure.

GraphQL differs from a webhook body in shape, not in fact: global ids, camelCase, money as `*Set`, tags as a list, enums in
upper case, instants in UTC.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hooktape.local.shop.model import GID, Destroyed, Resource, Shop
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


def _body(key: str) -> View:
    return lambda source, shop: source.body[key]


def _time(key: str) -> View:
    return lambda source, shop: utc(source.body[key])


def _money(key: str) -> View:
    return lambda source, shop: source.body[key]


def _upper(key: str) -> View:
    return lambda source, shop: source.body[key].upper() if source.body[key] else None


def _tags(source: Resource, shop: Shop) -> list[str]:
    return [tag for tag in source.body.get("tags", "").split(", ") if tag]


def _address(key: str) -> View:
    def view(source: Resource, shop: Shop) -> Part:
        body = source.body[key]
        number = body.get("id", source.id)
        return Part(body, f"gid://shopify/MailingAddress/{number}?model_name={'Customer' if 'id' in body else ''}Address")

    return view


def _parts(key: str) -> View:
    return lambda source, shop: [Part(one, one.get("admin_graphql_api_id", "")) for one in source.body[key]]


def _find(kind: str, key: str) -> View:
    return lambda source, shop: shop.get(f"{kind}/{source.body[key]}")


def _buyer(source: Resource, shop: Shop) -> Resource | None:
    return shop.get(f"customer/{source.body['customer']['id']}")


def _variant(source: Part, shop: Shop) -> Part | None:
    goods = shop.get(f"product/{source.body['product_id']}")
    return next((Part(one, one["admin_graphql_api_id"]) for one in goods.body["variants"]
                 if one["id"] == source.body["variant_id"]), None) if goods else None  # fmt: skip


def _orders_of(source: Resource, shop: Shop) -> list[Body]:
    return [order.body for order in shop.live("order") if order.body["customer"]["id"] == source.id]


_NODE: dict[str, View] = {"id": lambda source, shop: source.gid, "legacyResourceId": lambda source, shop: str(source.id)}
_PART: dict[str, View] = {"id": lambda source, shop: source.id}
_CONNECTION: dict[str, View] = {
    "edges": lambda page, shop: page.rows,
    "nodes": lambda page, shop: [node for _, node in page.rows],
    "pageInfo": lambda page, shop: page,
}
_EDGE: dict[str, View] = {"cursor": lambda row, shop: row[0], "node": lambda row, shop: row[1]}

FIELDS: dict[str, dict[str, View]] = {
    "Order": _NODE | {
        "billingAddress": _address("billing_address"), "cancelReason": _upper("cancel_reason"),
        "cancelledAt": _time("cancelled_at"), "closed": lambda o, shop: o.body["closed_at"] is not None,
        "closedAt": _time("closed_at"), "confirmationNumber": _body("confirmation_number"), "confirmed": _body("confirmed"),
        "createdAt": _time("created_at"), "currencyCode": _body("currency"),
        "currentSubtotalPriceSet": _money("current_subtotal_price_set"),
        "currentTotalDiscountsSet": _money("current_total_discounts_set"),
        "currentTotalPriceSet": _money("current_total_price_set"), "currentTotalTaxSet": _money("current_total_tax_set"),
        "customer": _buyer, "customerLocale": _body("customer_locale"), "displayFinancialStatus": _upper("financial_status"),
        "displayFulfillmentStatus": lambda o, shop: (o.body["fulfillment_status"] or "unfulfilled").upper(),
        "email": _body("email"), "lineItems": _parts("line_items"), "name": _body("name"), "note": _body("note"),
        "number": _body("order_number"), "paymentGatewayNames": _body("payment_gateway_names"), "phone": _body("phone"),
        "poNumber": _body("po_number"), "presentmentCurrencyCode": _body("presentment_currency"),
        "processedAt": _time("processed_at"), "shippingAddress": _address("shipping_address"),
        "sourceIdentifier": _body("source_identifier"), "sourceName": _body("source_name"),
        "subtotalPriceSet": _money("subtotal_price_set"), "tags": _tags, "taxExempt": _body("tax_exempt"),
        "taxesIncluded": _body("taxes_included"), "test": _body("test"), "totalDiscountsSet": _money("total_discounts_set"),
        "totalOutstandingSet": lambda o, shop: samples.money(samples.cents(o.body["total_outstanding"])),
        "totalPriceSet": _money("total_price_set"), "totalShippingPriceSet": _money("total_shipping_price_set"),
        "totalTaxSet": _money("total_tax_set"), "totalWeight": lambda o, shop: str(o.body["total_weight"]),
        "updatedAt": _time("updated_at"),
    },
    "LineItem": _PART | {
        "currentQuantity": _body("current_quantity"), "isGiftCard": _body("gift_card"), "name": _body("name"),
        "originalUnitPriceSet": _money("price_set"), "product": _find("product", "product_id"), "quantity": _body("quantity"),
        "requiresShipping": _body("requires_shipping"), "sku": _body("sku"), "taxable": _body("taxable"),
        "title": _body("title"), "totalDiscountSet": _money("total_discount_set"), "variant": _variant,
        "variantTitle": _body("variant_title"), "vendor": _body("vendor"),
    },
    "Product": _NODE | {
        "createdAt": _time("created_at"), "descriptionHtml": _body("body_html"), "handle": _body("handle"),
        "hasVariantsThatRequiresComponents": _body("has_variants_that_requires_components"),
        "isGiftCard": lambda p, shop: False,
        "options": lambda p, shop: [Part(one, f"gid://shopify/ProductOption/{one['id']}") for one in p.body["options"]],
        "productType": _body("product_type"), "publishedAt": _time("published_at"), "status": _upper("status"), "tags": _tags,
        "templateSuffix": _body("template_suffix"), "title": _body("title"),
        "totalInventory": lambda p, shop: sum(v["inventory_quantity"] for v in p.body["variants"]),
        "updatedAt": _time("updated_at"), "variants": _parts("variants"), "vendor": _body("vendor"),
    },
    "ProductOption": _PART | {"name": _body("name"), "position": _body("position"), "values": _body("values")},
    "ProductVariant": _PART | {
        "barcode": _body("barcode"), "compareAtPrice": _body("compare_at_price"), "createdAt": _time("created_at"),
        "inventoryItem": lambda v, shop: v.body["inventory_item_id"], "inventoryPolicy": _upper("inventory_policy"),
        "inventoryQuantity": _body("inventory_quantity"), "legacyResourceId": lambda v, shop: str(v.body["id"]),
        "position": _body("position"), "price": _body("price"), "product": _find("product", "product_id"),
        "selectedOptions": lambda v, shop: [v.body["option1"]], "sku": _body("sku"), "taxable": _body("taxable"),
        "title": _body("title"), "updatedAt": _time("updated_at"),
    },
    "InventoryItem": {"id": lambda i, shop: samples.gid("InventoryItem", i), "legacyResourceId": lambda i, shop: str(i)},
    "SelectedOption": {"name": lambda value, shop: "Size", "value": lambda value, shop: value},
    "Customer": _NODE | {
        "amountSpent": lambda c, shop: samples.money(sum(
            samples.cents(o["total_price"]) for o in _orders_of(c, shop) if o["financial_status"] == "paid"))["shop_money"],
        "createdAt": _time("created_at"), "defaultAddress": _address("default_address"),
        "defaultEmailAddress": lambda c, shop: c, "defaultPhoneNumber": lambda c, shop: c if c.body["phone"] else None,
        "displayName": lambda c, shop: f"{c.body['first_name']} {c.body['last_name']}", "firstName": _body("first_name"),
        "lastName": _body("last_name"), "locale": lambda c, shop: "en", "multipassIdentifier": _body("multipass_identifier"),
        "note": _body("note"), "numberOfOrders": lambda c, shop: str(len(_orders_of(c, shop))), "state": _upper("state"),
        "tags": _tags, "taxExempt": _body("tax_exempt"), "updatedAt": _time("updated_at"),
        "verifiedEmail": _body("verified_email"),
    },
    "CustomerEmailAddress": {"emailAddress": _body("email")},
    "CustomerPhoneNumber": {"phoneNumber": _body("phone")},
    "MailingAddress": _PART | {
        "address1": _body("address1"), "address2": _body("address2"), "city": _body("city"), "company": _body("company"),
        "country": _body("country"), "countryCodeV2": _body("country_code"), "firstName": _body("first_name"),
        "lastName": _body("last_name"), "latitude": _body("latitude"), "longitude": _body("longitude"), "name": _body("name"),
        "phone": _body("phone"), "province": _body("province"), "provinceCode": _body("province_code"), "zip": _body("zip"),
    },
    "MoneyBag": {"presentmentMoney": lambda m, shop: m["presentment_money"], "shopMoney": lambda m, shop: m["shop_money"]},
    "MoneyV2": {"amount": lambda m, shop: m["amount"], "currencyCode": lambda m, shop: m["currency_code"]},
    "BasicEvent": {
        "action": lambda e, shop: "destroy", "createdAt": lambda e, shop: samples.utc(e.at),
        "id": lambda e, shop: samples.gid("BasicEvent", e.id), "message": lambda e, shop: f"Someone deleted the {e.kind}.",
        "subjectId": lambda e, shop: samples.gid(GID[e.kind], e.resource_id), "subjectType": lambda e, shop: e.kind.upper(),
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
    **{f"{kind}Connection": _CONNECTION for kind in ("Order", "Product", "Customer", "Event", "LineItem", "ProductVariant")},
    **{f"{kind}Edge": _EDGE for kind in ("Order", "Product", "Customer", "Event", "LineItem", "ProductVariant")},
}  # fmt: skip


def type_name(source: Destroyed | Resource) -> str:
    """The GraphQL type of a source that stands behind an interface."""
    return "BasicEvent" if isinstance(source, Destroyed) else GID[source.kind]
