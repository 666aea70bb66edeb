"""How the Admin API shows companies, their locations and themes. Pure."""

from hooktape.local.shop.model import Shop
from hooktape.local.shop.store import Resource
from hooktape.local.shop.views import NODE, PART, Part, View, body, time, upper


def _contact(source: Resource, shop: Shop) -> Part | None:
    named = source.body["main_contact_admin_graphql_api_id"]
    return Part({}, named) if named else None


def _address(key: str) -> View:
    def view(source: Resource, shop: Shop) -> Part | None:
        found = source.body[key]
        return Part(found, found["admin_graphql_api_id"]) if found else None

    return view


FIELDS: dict[str, dict[str, View]] = {
    "Company": NODE | {
        "customerSince": time("customer_since"), "externalId": body("external_id"), "mainContact": _contact, "name": body("name"),
        "note": body("note"),
    },
    "CompanyContact": PART,
    "CompanyLocation": NODE | {
        "billingAddress": _address("billing_address"), "company": lambda place, shop: shop.get(place.parent),
        "externalId": body("external_id"), "locale": body("locale"), "name": body("name"), "note": body("note"), "phone": body("phone"),
        "shippingAddress": _address("shipping_address"), "taxSettings": lambda place, shop: Part(place.body["tax_settings"]),
    },
    "CompanyLocationTaxSettings": {
        "taxExempt": body("tax_exempt"), "taxExemptions": body("tax_exemptions"), "taxRegistrationId": body("tax_registration_id"),
    },
    "CompanyAddress": PART | {
        "address1": body("address1"), "address2": body("address2"), "city": body("city"), "country": body("country"),
        "countryCode": body("country_code"), "createdAt": time("created_at"), "firstName": body("first_name"),
        "lastName": body("last_name"), "phone": body("phone"), "province": body("province"), "recipient": body("recipient"),
        "updatedAt": time("updated_at"), "zip": body("zip"), "zoneCode": body("zone_code"),
    },
    "OnlineStoreTheme": NODE | {
        "name": body("name"), "processing": body("processing"), "role": upper("role"), "themeStoreId": body("theme_store_id"),
    },
}  # fmt: skip
