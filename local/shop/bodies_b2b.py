"""REST bodies of companies, their locations and themes, as a shop's webhooks carry them. Pure."""

from random import Random
from typing import Any

from hooktape.schemas.samples import gid, stamp

Body = dict[str, Any]
THEMES = 20
"""Most themes of a shop (shopify.dev/docs/api/admin-rest/latest/resources/theme)."""
_FIRMS = ("Fjord & Sons", "Café Supply/Nord", "Larch Joinery", "Tidewater Hotels", "Mills <Printing>")
_BRANCHES = (("Head Office", "Milford", "Vermont", "VT", "05060"), ("Harbour Depot", "Port Anders", "Maine", "ME", "04101"))
_THEMES = (("Plain Sails", 887), ("Old Harbour", None), ("Lantern & Co", 1190))


def company(rng: Random, number: int, at: int) -> Body:
    """A new company: its webhooks name it by its global id alone."""
    return {
        "name": f"{rng.choice(_FIRMS)} {number % 1000}", "note": rng.choice([None, "Net 30 & pallet"]),
        "external_id": rng.choice([None, f"C{number % 10**6}"]),
        "main_contact_admin_graphql_api_id": rng.choice([None, gid("CompanyContact", number + 7)]), "created_at": stamp(at),
        "updated_at": stamp(at), "customer_since": stamp(at - 86_400 * rng.randrange(300)), "admin_graphql_api_id": gid("Company", number),
    }  # fmt: skip


def company_location(rng: Random, number: int, firm: Body, at: int) -> Body:
    """A new location of the company `firm`; one in three has no billing address yet."""
    name, city, province, code, postcode = rng.choice(_BRANCHES)
    registration = rng.choice([None, f"{rng.randrange(10**9):09d}"])
    exemptions = [f"US_{code}_RESELLER_EXEMPTION"] if registration else []

    def address(place: int) -> Body:
        return {
            "address1": f"{rng.randint(1, 900)} Quay & Sons", "city": city, "province": province, "country": "United States",
            "zip": postcode, "recipient": rng.choice([None, "Receiving/Gate 2"]), "first_name": rng.choice([None, "Mira"]),
            "last_name": rng.choice([None, "O'Keefe"]), "address2": None, "phone": rng.choice([None, f"+1555010{rng.randint(1000, 9999)}"]),
            "zone_code": code, "country_code": "US", "created_at": stamp(at), "updated_at": stamp(at),
            "admin_graphql_api_id": gid("CompanyAddress", place), "company_admin_graphql_api_id": firm["admin_graphql_api_id"],
        }  # fmt: skip

    return {
        "name": name, "external_id": None, "phone": rng.choice([None, "555-0142"]), "locale": "en", "created_at": stamp(at),
        "updated_at": stamp(at), "note": None, "buyer_experience_configuration": None,
        "admin_graphql_api_id": gid("CompanyLocation", number),
        "tax_exemptions": exemptions,
        "tax_settings": {"tax_registration_id": registration, "tax_exempt": bool(exemptions), "tax_exemptions": exemptions},
        "company": firm, "billing_address": address(number + 1) if rng.random() < 2 / 3 else None, "shipping_address": address(number + 2),
        "tax_registration": {"tax_id": registration} if registration else None,
    }  # fmt: skip


def theme(rng: Random, number: int, at: int) -> Body:
    """A new theme, not published. Webhooks call Theme what the Admin API calls OnlineStoreTheme."""
    name, store = rng.choice(_THEMES)
    return {
        "id": number, "name": name, "created_at": stamp(at), "updated_at": stamp(at), "role": "unpublished", "theme_store_id": store,
        "previewable": True, "processing": False, "admin_graphql_api_id": gid("Theme", number),
    }  # fmt: skip
