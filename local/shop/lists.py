"""What the Admin API's root fields find: lists, counts, and single objects by id. No sockets.

Lists and counts come from a search index, which may lag and err (see the table of incidents); `node` and `nodes` from
primary data.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError

from hooktape.local.shop import paging, search
from hooktape.local.shop.model import SUBJECTS, Destroyed
from hooktape.local.shop.paging import refused
from hooktape.local.shop.store import EVER, FIRST_PLACE, GID, PLACES, Resource, level_id
from hooktape.local.shop.views import Page
from hooktape.local.shop.views_goods import Discount
from hooktape.schemas.resources import gid_number

if TYPE_CHECKING:
    from hooktape.local.shop.admin import Admin

_KINDS = {name: kind for kind, name in GID.items()}
LISTS = {"orders": "order", "products": "product", "customers": "customer", "collections": "collection", "draftOrders": "draft_order",
         "productVariants": "variant", "fulfillmentOrders": "fulfillment_order", "inventoryItems": "inventory_item",
         "locations": "location", "discountNodes": "discount", "companies": "company", "companyLocations": "company_location",
         "themes": "theme", "segments": "segment", "subscriptionContracts": "subscription_contract"}  # fmt: skip
"""Root connections and the kinds that they list."""
_UNCOUNTED = ("fulfillment_order", "inventory_item", "company_location", "theme", "subscription_contract")
COUNTS = {f"{name}Count": kind for name, kind in LISTS.items() if kind not in _UNCOUNTED}
SINGLE = {"order": "order", "product": "product", "customer": "customer", "collection": "collection", "draftOrder": "draft_order",
          "productVariant": "variant", "fulfillmentOrder": "fulfillment_order", "inventoryItem": "inventory_item",
          "inventoryLevel": "inventory_level", "location": "location", "refund": "refund", "return": "return",
          "fulfillment": "fulfillment", "discountNode": "discount", "company": "company", "companyLocation": "company_location",
          "segment": "segment", "subscriptionContract": "subscription_contract"}  # fmt: skip
_TWO_MONTHS = 60 * 86_400
"""Seconds that an app without read_all_orders sees back."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """A resource as the search index shows it: its `updated` may be an older one."""

    resource: Resource
    id: int
    updated: int

    @property
    def body(self) -> dict[str, Any]:
        return self.resource.body


def listed(admin: "Admin", kind: str, arguments: Mapping[str, Any], asked: search.Search) -> Page:
    """A page of a root connection. Raises GraphQLError for wrong arguments."""
    key, page_first = SORTS.get(arguments.get("sortKey", "ID"), SORTS["ID"]), arguments.get("last") is None
    plain = page_first and not arguments.get("reverse") and not arguments.get("before")
    if key is SORTS["ID"] and plain:
        after = paging.mark(arguments["after"])[1] if arguments.get("after") else -1
        rows = found(admin, kind, arguments, asked, after)
        return paging.forward(((0, row.id, source(row)) for row in rows), arguments)
    everything = [(key(row), row) for row in found(admin, kind, arguments, asked)]
    everything.sort(key=lambda row: (row[0], row[1].id))
    return paging.cut([(paging.cursor(value, row.id), (value, row.id), source(row)) for value, row in everything], arguments)


def counted(admin: "Admin", kind: str, arguments: Mapping[str, Any], asked: search.Search) -> tuple[int, str]:
    """(count, precision) of a root count."""
    shelf, limit = admin.shop.shelves.get(kind), arguments.get("limit")
    exact = shelf is not None and asked.only_window and not admin.lag and not _horizon(admin, kind) and not admin.incidents.active()
    count = shelf.count(asked.window) if exact and shelf else sum(1 for _ in found(admin, kind, arguments, asked))
    if off := admin.incidents.on("counts_off"):
        count = round(count * (1 + off["share"] * admin.incidents.rng("counts_off").uniform(-1, 1)))
    return (count, "EXACT") if limit is None or count <= limit else (limit, "AT_LEAST")


def found(admin: "Admin", kind: str, arguments: Mapping[str, Any], asked: search.Search, after: int = -1) -> Iterator[Any]:
    """What a search in the index finds, in order of id from the first above `after`."""
    now = admin.shop.clock()
    if kind == "event":
        lag = (admin.incidents.on("events_lag") or {"seconds": admin.lag})["seconds"]
        yield from (one for one in admin.shop.destroyed_until(now - lag) if one.id > after and asked.matches(one)
                    and not admin.incidents.chosen("events_lost", str(one.id)))  # fmt: skip
        return
    at, horizon = now - admin.lag, _horizon(admin, kind)
    omits = arguments.get("sortKey") == "UPDATED_AT" and asked.window != EVER and admin.incidents.on("sort_omission")
    missing = admin.incidents.on("ids_missing")
    missing = missing if missing and (not missing["types"] or kind in missing["types"]) else None
    for resource in admin.shop.shelves[kind].find(asked.window, at if admin.lag else None, after):
        updated = resource.indexed(at) if admin.lag else resource.updated
        if updated is None or resource.created < horizon or _closed(resource, arguments):
            continue
        row = Indexed(resource, resource.id, updated)
        if not (asked.only_window and not admin.lag) and not asked.matches(row):
            continue
        if omits and admin.incidents.chosen("sort_omission", f"{resource.name}@{updated}"):
            continue
        if missing and admin.incidents.chosen("ids_missing", resource.name):
            continue
        yield row


def understood(admin: "Admin", kind: str, query: str | None) -> search.Search:
    """A search text read as this kind's. Raises GraphQLError for what is no search."""
    days = admin.incidents.on("whole_days")
    quirks = search.Quirks(admin.incidents.is_on("greater_is_at_least"), days is not None and kind in days["types"])
    try:
        return search.parse(query, SEARCHABLE.get(kind, COMMON), admin.shop.clock(), quirks)
    except search.SearchError as error:
        raise GraphQLError(f"Invalid search: {error}.") from error


def _closed(resource: Resource, arguments: Mapping[str, Any]) -> bool:
    """What a list shows only when asked to: closed fulfilment orders, locations that are inactive or of a fulfilment service."""
    if resource.kind == "fulfillment_order":
        return not arguments.get("includeClosed") and resource.body["fulfillment_order"]["status"] in ("closed", "cancelled")
    if resource.kind != "location":
        return False
    service, active = resource.body["legacy"], resource.body["active"]
    return (service and not arguments.get("includeLegacy")) or not (active or arguments.get("includeInactive"))


def _horizon(admin: "Admin", kind: str) -> int:
    """The second before which an order must not have been made to be seen."""
    return 0 if kind != "order" or "read_all_orders" in admin.scopes else int(admin.shop.clock()) - _TWO_MONTHS


def source(row: Indexed | Destroyed) -> Resource | Destroyed:
    return row.resource if isinstance(row, Indexed) else row


def node(admin: "Admin", gid: str) -> Any:
    """The live object of a global id, from primary data: current whatever the search index shows."""
    if not gid.startswith("gid://shopify/"):
        raise refused(f"Invalid global id '{gid}'", "argumentLiteralsIncompatible")
    name, number = gid.removeprefix("gid://shopify/").partition("/")[0], gid_number(gid)
    if name == "BulkOperation":
        return admin.bulk.get(gid)
    if name == "WebhookSubscription":
        return admin.subscriptions.get(gid)
    kind = _KINDS.get(name, "discount" if name == "DiscountNode" else None)
    if kind is None or not number.isdecimal():
        return None
    if kind == "inventory_level":
        item = gid.partition("inventory_item_id=")[2]
        known = item.isdecimal() and 0 <= int(number) - FIRST_PLACE < PLACES
        resource = admin.shop.get_id(kind, level_id(int(item), int(number))) if known else None
    else:
        resource = admin.shop.get_id(kind, int(number))
    if resource is None or resource.created < _horizon(admin, kind) or admin.incidents.strikes("node_null"):
        return None
    admin.permit(kind, name)
    return Discount(resource) if name == "DiscountNode" else resource


def nodes(admin: "Admin", gids: list[str]) -> list[Any]:
    if len(gids) > paging.PAGE:
        raise refused(f"The input array size of {len(gids)} is greater than the maximum allowed of {paging.PAGE}.",
                      "MAX_INPUT_SIZE_EXCEEDED")  # fmt: skip
    return [node(admin, gid) for gid in gids]


def _created(row: Any) -> int:
    return row.at if isinstance(row, Destroyed) else int(row.resource.created)


# Sort keys that no test or reconciler asks for fall to ID.
SORTS: dict[str, Callable[[Any], int | str]] = {
    "ID": lambda row: 0, "CREATED_AT": _created, "PROCESSED_AT": _created, "UPDATED_AT": lambda row: int(row.updated),
    "CREATION_DATE": _created, "LAST_EDIT_DATE": lambda row: int(row.updated),
    "ORDER_NUMBER": lambda row: int(row.body["order_number"]), "TITLE": lambda row: str(row.body["title"]),
    "VENDOR": lambda row: str(row.body["vendor"]), "SKU": lambda row: str(row.body["sku"]),
    "NAME": lambda row: str(row.body["name"]) if "name" in row.body else f"{row.body['last_name']}, {row.body['first_name']}",
}  # fmt: skip


def _text(*keys: str) -> search.Field:
    return lambda row: " ".join(str(row.body[key] or "") for key in keys)


COMMON: dict[str, search.Field] = {
    "default": lambda row: row.resource.name if isinstance(row, Indexed) else row.name, "id": lambda row: int(row.id),
    "created_at": lambda row: _created(row) if isinstance(row, Indexed) else int(row.created),
    "updated_at": lambda row: int(row.updated),
}  # fmt: skip
"""What every search knows; of rows of a list, and of resources themselves in a list inside another."""
SEARCHABLE: dict[str, dict[str, search.Field]] = {
    "order": COMMON | {
        "default": _text("name", "email", "tags"), "processed_at": _created, "name": _text("name"), "email": _text("email"),
        "financial_status": _text("financial_status"), "tag": _text("tags"),
        "customer_id": lambda row: str(row.body["customer"]["id"]),
    },
    "product": COMMON | {
        "default": _text("title", "vendor", "tags"), "title": _text("title"), "handle": _text("handle"), "tag": _text("tags"),
        "vendor": _text("vendor"), "product_type": _text("product_type"), "status": _text("status"),
    },
    "customer": COMMON | {
        "default": _text("first_name", "last_name", "email"), "first_name": _text("first_name"), "last_name": _text("last_name"),
        "email": _text("email"), "state": _text("state"),
    },
    "collection": COMMON | {"default": _text("title"), "title": _text("title"), "handle": _text("handle")},
    "draft_order": COMMON | {"default": _text("name", "email"), "status": _text("status")},
    "variant": COMMON | {"sku": _text("sku"), "title": _text("title"), "product_id": _text("product_id")},
    "inventory_item": COMMON | {"sku": _text("sku")},
    "fulfillment_order": COMMON | {"status": lambda row: str(row.body["fulfillment_order"]["status"])},
    "location": COMMON | {"name": _text("name"), "active": _text("active")},
    "discount": COMMON | {"title": _text("title"), "status": _text("status")},
    "company": COMMON | {"default": _text("name"), "name": _text("name"), "external_id": _text("external_id")},
    "company_location": COMMON | {"default": _text("name"), "name": _text("name"), "external_id": _text("external_id")},
    "segment": COMMON | {"default": _text("name"), "name": _text("name")}, "subscription_contract": COMMON | {"status": _text("status")},
    "event": {
        "default": lambda row: row.kind, "id": lambda row: int(row.id), "created_at": lambda row: int(row.at),
        "action": lambda row: "destroy", "subject_type": lambda row: SUBJECTS[row.kind],
    },
}  # fmt: skip
