"""Products with their variants, collections, stock, locations and discounts."""

from hooktape.reconciler.bodies.values import Body, Home, Node, amount, lower, millis, number, tags


def product(node: Node, home: Home) -> Body:
    """A product as in `products/*`, with all of its variants."""
    own, variants = int(node["legacyResourceId"]), node["variants"]["nodes"]
    return {
        "admin_graphql_api_id": node["id"], "body_html": node["descriptionHtml"], "created_at": node["createdAt"],
        "handle": node["handle"], "id": own, "product_type": node["productType"], "published_at": node["publishedAt"],
        "template_suffix": node["templateSuffix"], "title": node["title"], "updated_at": node["updatedAt"],
        "vendor": node["vendor"], "status": lower(node["status"]), "tags": tags(node["tags"]),
        "variants": [_variant(variant, own, home) for variant in variants],
        "options": [{"name": option["name"], "id": number(option["id"]), "product_id": own, "position": option["position"],
                     "values": option["values"]} for option in node["options"]],
        # Of all lists the one whose times are in UTC, with milliseconds.
        "variant_gids": [{"admin_graphql_api_id": variant["id"], "updated_at": millis(variant["updatedAt"])} for variant in variants],
        "has_variants_that_requires_components": node["hasVariantsThatRequiresComponents"],
    }  # fmt: skip


def _variant(node: Node, product_id: int, home: Home) -> Body:
    chosen = [option["value"] for option in node["selectedOptions"]] + [None] * 3
    body = {
        "admin_graphql_api_id": node["id"], "barcode": node["barcode"], "compare_at_price": amount(node["compareAtPrice"], home.currency),
        "created_at": node["createdAt"], "id": int(node["legacyResourceId"]), "inventory_policy": lower(node["inventoryPolicy"]),
        "position": node["position"], "price": amount(node["price"], home.currency), "product_id": product_id, "sku": node["sku"],
        "taxable": node["taxable"], "title": node["title"], "updated_at": node["updatedAt"], "option1": chosen[0],
        "option2": chosen[1], "option3": chosen[2], "inventory_quantity": node["inventoryQuantity"],
    }  # fmt: skip
    if node.get("inventoryItem") is not None:
        body["inventory_item_id"] = int(node["inventoryItem"]["legacyResourceId"])
    return body


def product_brief(node: Node, home: Home) -> Body:
    """What a list says of a product."""
    return {"title": node["title"], "handle": node["handle"], "status": lower(node["status"]), "vendor": node["vendor"],
            "product_type": node["productType"], "tags": tags(node["tags"])}  # fmt: skip


def collection(node: Node, home: Home) -> Body:
    """A collection as in `collections/*`; its products aren't part of it."""
    return {
        "id": int(node["legacyResourceId"]), "handle": node["handle"], "title": node["title"], "updated_at": node["updatedAt"],
        "body_html": node["descriptionHtml"], "sort_order": node["sortOrder"].lower().replace("_", "-"),
        "template_suffix": node["templateSuffix"], "admin_graphql_api_id": node["id"],
    }  # fmt: skip


def collection_brief(node: Node, home: Home) -> Body:
    """What a list says of a collection."""
    return {"title": node["title"], "handle": node["handle"]}


def inventory_item(node: Node, home: Home) -> Body:
    """An item as in `inventory_items/*`."""
    cost = node["unitCost"]
    return {
        "id": int(node["legacyResourceId"]), "sku": node["sku"], "created_at": node["createdAt"], "updated_at": node["updatedAt"],
        "requires_shipping": node["requiresShipping"], "cost": cost and amount(cost["amount"], cost["currencyCode"]),
        "country_code_of_origin": node["countryCodeOfOrigin"], "province_code_of_origin": node["provinceCodeOfOrigin"],
        "harmonized_system_code": node["harmonizedSystemCode"], "tracked": node["tracked"], "admin_graphql_api_id": node["id"],
    }  # fmt: skip


def inventory_item_brief(node: Node, home: Home) -> Body:
    """What a list says of an item."""
    return {"sku": node["sku"], "tracked": node["tracked"], "requires_shipping": node["requiresShipping"]}


def inventory_level(node: Node, home: Home) -> Body:
    """How many of an item are at a location, as in `inventory_levels/*`: the pair has no id of its own."""
    return {
        "inventory_item_id": number(node["item"]["id"]), "location_id": number(node["location"]["id"]),
        "available": next((one["quantity"] for one in node["quantities"] if one["name"] == "available"), None),
        "updated_at": node["updatedAt"], "admin_graphql_api_id": node["id"],
    }  # fmt: skip


def location(node: Node, home: Home) -> Body:
    """A location as in `locations/*`."""
    place = node["address"]
    return {
        "id": int(node["legacyResourceId"]), "name": node["name"], "address1": place["address1"], "address2": place["address2"],
        "city": place["city"], "zip": place["zip"], "province": place["province"], "country": place["countryCode"],
        "phone": place["phone"], "created_at": node["createdAt"], "updated_at": node["updatedAt"],
        "country_code": place["countryCode"], "country_name": place["country"], "province_code": place["provinceCode"],
        "active": node["isActive"], "admin_graphql_api_id": node["id"],
    }  # fmt: skip


def location_brief(node: Node, home: Home) -> Body:
    """What a list says of a location."""
    return {"name": node["name"], "active": node["isActive"]}


def discount(node: Node, home: Home) -> Body:
    """A discount as in `discounts/*`: named after how it's applied, not as the list names it."""
    found = node["discount"]
    kind = "DiscountAutomaticNode" if found["__typename"].startswith("DiscountAutomatic") else "DiscountCodeNode"
    return {
        "admin_graphql_api_id": f"gid://shopify/{kind}/{number(node['id'])}", "title": found["title"], "status": found["status"],
        "created_at": found["createdAt"], "updated_at": found["updatedAt"],
    }  # fmt: skip


def discount_brief(node: Node, home: Home) -> Body:
    """What a list says of a discount."""
    return {"title": node["discount"]["title"]}
