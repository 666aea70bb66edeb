"""How the Admin API shows collections, stock, locations and discounts. Pure."""

from dataclasses import dataclass
from random import Random

from hooktape.local.shop.model import Shop
from hooktape.local.shop.store import Resource
from hooktape.local.shop.views import NODE, PART, Part, View, body, upper
from hooktape.schemas import samples

_COUNTED = ("available", "on_hand", "committed", "incoming")


@dataclass(frozen=True, slots=True)
class Discount:
    """A discount under its other name: `discountNodes` calls DiscountNode what webhooks call DiscountCodeNode."""

    resource: Resource

    @property
    def id(self) -> int:
        return self.resource.id


def _variant(source: Resource, shop: Shop) -> Resource | Part | None:
    number = source.id - 100  # as `samples.product` numbers a variant's item
    if found := shop.get_id("variant", number):
        return found
    product = shop.get(source.parent) or shop.any("product", Random(0))
    one = product.body["variants"][0]
    return Part(one, one["admin_graphql_api_id"])


def _levels_of(source: Resource, shop: Shop) -> list[Resource]:
    return [level for level in shop.live("inventory_level") if level.body["location_id"] == source.id]


def _quantities(source: Resource, shop: Shop) -> list[Part]:
    amounts = {"available": source.body["available"], "on_hand": source.body["available"]}
    return [Part({"name": name, "quantity": amounts.get(name, 0), "level": source},
                 f"gid://shopify/InventoryQuantity/{source.id}?inventory_item_id={source.body['inventory_item_id']}&{name}")
            for name in _COUNTED]  # fmt: skip


def _discount(source: Resource | Discount, shop: Shop) -> Resource:
    return source.resource if isinstance(source, Discount) else source


FIELDS: dict[str, dict[str, View]] = {
    "Collection": NODE | {
        "descriptionHtml": body("body_html"), "handle": body("handle"),
        "sortOrder": lambda c, shop: c.body["sort_order"].replace("-", "_").upper(), "templateSuffix": body("template_suffix"),
        "title": body("title"),
    },
    "InventoryItem": NODE | {
        "countryCodeOfOrigin": body("country_code_of_origin"), "harmonizedSystemCode": body("harmonized_system_code"),
        "inventoryLevels": lambda i, shop: shop.children(i, "inventory_level"),
        "provinceCodeOfOrigin": body("province_code_of_origin"), "requiresShipping": body("requires_shipping"), "sku": body("sku"),
        "tracked": body("tracked"), "unitCost": lambda i, shop: {"amount": i.body["cost"], "currency_code": samples.CURRENCY},
        "variant": _variant,
    },
    "InventoryLevel": NODE | {
        "isActive": lambda level, shop: True, "item": lambda level, shop: shop.get(level.parent),
        "location": lambda level, shop: shop.get(f"location/{level.body['location_id']}"), "quantities": _quantities,
    },
    "InventoryQuantity": PART | {
        "name": body("name"), "quantity": body("quantity"), "updatedAt": lambda q, shop: samples.utc(q.body["level"].updated),
    },
    "Location": NODE | {
        "address": lambda place, shop: place, "isActive": body("active"), "name": body("name"), "inventoryLevels": _levels_of,
        "deactivatedAt": lambda place, shop: None if place.body["active"] else samples.utc(place.updated),
    },
    "LocationAddress": {
        "address1": body("address1"), "address2": body("address2"), "city": body("city"), "country": body("country_name"),
        "countryCode": body("country_code"), "phone": body("phone"), "province": body("province"),
        "provinceCode": body("province_code"), "zip": body("zip"),
    },
    "DiscountNode": {"id": lambda d, shop: samples.gid("DiscountNode", d.id), "discount": _discount},
    "DiscountCodeNode": {"id": lambda d, shop: d.gid, "codeDiscount": _discount},
    **{name: {"createdAt": NODE["createdAt"], "updatedAt": NODE["updatedAt"], "status": upper("status"), "title": body("title")}
       for name in ("DiscountAutomaticApp", "DiscountAutomaticBasic", "DiscountAutomaticBxgy", "DiscountAutomaticFreeShipping",
                    "DiscountCodeApp", "DiscountCodeBxgy", "DiscountCodeFreeShipping")},
    "DiscountCodeBasic": {
        "createdAt": NODE["createdAt"], "updatedAt": NODE["updatedAt"], "startsAt": NODE["createdAt"],
        "endsAt": lambda d, shop: None, "status": upper("status"), "summary": lambda d, shop: "10% off", "title": body("title"),
    },
}  # fmt: skip
