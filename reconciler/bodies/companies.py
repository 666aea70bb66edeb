"""Companies with their locations, and themes. The members are those of the payloads at shopify.dev/docs/api/webhooks."""

from typing import Any

from hooktape.reconciler.bodies.values import Body, Home, Node, lower, number


def company(node: Node, home: Home) -> Body:
    """A company as in `companies/*`: named by its global id alone."""
    contact = node["mainContact"]
    return {
        "name": node["name"], "note": node["note"], "external_id": node["externalId"],
        "main_contact_admin_graphql_api_id": contact and contact["id"], "created_at": node["createdAt"], "updated_at": node["updatedAt"],
        "customer_since": node["customerSince"], "admin_graphql_api_id": node["id"],
    }  # fmt: skip


def company_brief(node: Node, home: Home) -> Body:
    """What a list says of a company."""
    return {"name": node["name"], "note": node["note"], "external_id": node["externalId"]}


def company_location(node: Node, home: Home) -> Body:
    """A company's location as in `company_locations/*`, with the company as it is now."""
    taxes, firm = node["taxSettings"], node["company"]
    registration = taxes["taxRegistrationId"]
    return {
        "name": node["name"], "external_id": node["externalId"], "phone": node["phone"], "locale": node["locale"],
        "created_at": node["createdAt"], "updated_at": node["updatedAt"], "note": node["note"], "admin_graphql_api_id": node["id"],
        "tax_exemptions": taxes["taxExemptions"],
        "tax_settings": {"tax_registration_id": registration, "tax_exempt": taxes["taxExempt"], "tax_exemptions": taxes["taxExemptions"]},
        "company": company(firm, home), "billing_address": _address(node["billingAddress"], firm["id"]),
        "shipping_address": _address(node["shippingAddress"], firm["id"]), "tax_registration": registration and {"tax_id": registration},
    }  # fmt: skip


def company_location_brief(node: Node, home: Home) -> Body:
    """What a list says of a company's location: nothing that an app may not be approved for."""
    return company_brief(node, home) | {"locale": node["locale"]}


def _address(node: Any, firm: str) -> Any:
    # None and what is withheld stay what they are.
    return node and {
        "address1": node["address1"], "city": node["city"], "province": node["province"], "country": node["country"], "zip": node["zip"],
        "recipient": node["recipient"], "first_name": node["firstName"], "last_name": node["lastName"], "address2": node["address2"],
        "phone": node["phone"], "zone_code": node["zoneCode"], "country_code": node["countryCode"], "created_at": node["createdAt"],
        "updated_at": node["updatedAt"], "admin_graphql_api_id": node["id"], "company_admin_graphql_api_id": firm,
    }  # fmt: skip


def theme(node: Node, home: Home) -> Body:
    """A theme as in `themes/*`: webhooks call Theme what the API calls OnlineStoreTheme."""
    own = number(node["id"])
    return {
        "id": own, "name": node["name"], "created_at": node["createdAt"], "updated_at": node["updatedAt"], "role": lower(node["role"]),
        "theme_store_id": node["themeStoreId"], "processing": node["processing"], "admin_graphql_api_id": f"gid://shopify/Theme/{own}",
    }  # fmt: skip


def theme_brief(node: Node, home: Home) -> Body:
    """What a list says of a theme."""
    return {"role": lower(node["role"])}
