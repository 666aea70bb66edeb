"""The schema that the shop answers, and how each field of each of its types is answered: all tables of views in one."""

from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from graphql import GraphQLObjectType, GraphQLSchema, build_schema, get_named_type

from hooktape.local.shop import lists, paging, search, views, views_b2b, views_goods, views_orders, views_subscribers
from hooktape.local.shop.bulk import Operation
from hooktape.local.shop.model import Destroyed
from hooktape.local.shop.store import GID, Resource
from hooktape.local.shop.subscriptions import Subscription, enum
from hooktape.local.shop.views import Page, View
from hooktape.schemas import samples

if TYPE_CHECKING:
    from hooktape.local.shop.admin import Admin


def _when(key: str) -> View:
    return lambda source, shop: None if getattr(source, key) is None else samples.utc(int(getattr(source, key)))


def _is(key: str) -> View:
    return lambda source, shop: getattr(source, key)


def _given(key: str) -> View:
    return lambda payload, shop: payload[key]


_APP: dict[str, dict[str, View]] = {
    "BulkOperation": {
        "completedAt": _when("completed"), "createdAt": _when("created"), "errorCode": _is("error"), "id": _is("gid"),
        "fileSize": lambda b, shop: str(b.path.stat().st_size) if b.status == "COMPLETED" else None,
        "objectCount": lambda b, shop: str(b.objects), "rootObjectCount": lambda b, shop: str(b.roots), "query": _is("query"),
        "partialDataUrl": lambda b, shop: b.partial_url if shop.clock() >= b.partial_at else None, "status": _is("status"),
        "type": lambda b, shop: "QUERY", "url": _is("url"),
    },
    "WebhookSubscription": {
        "apiVersion": _is("api_version"), "createdAt": _when("created"), "filter": _is("filter"), "format": _is("format"), "id": _is("gid"),
        "includeFields": lambda w, shop: list(w.include_fields), "legacyResourceId": lambda w, shop: str(w.number),
        "metafieldNamespaces": lambda w, shop: list(w.namespaces), "name": _is("name"), "topic": lambda w, shop: enum(w.topic),
        "updatedAt": _when("updated"), "uri": _is("uri"),
    },
    **{name: {key: _given(key) for key in keys} for name, keys in {
        "BulkOperationRunQueryPayload": ("bulkOperation", "userErrors"), "BulkOperationCancelPayload": ("bulkOperation", "userErrors"),
        "BulkOperationUserError": ("code", "field", "message"), "UserError": ("field", "message"),
        "WebhookSubscriptionCreatePayload": ("webhookSubscription", "userErrors"),
        "WebhookSubscriptionUpdatePayload": ("webhookSubscription", "userErrors"),
        "WebhookSubscriptionDeletePayload": ("deletedWebhookSubscriptionId", "userErrors")}.items()},
}  # fmt: skip
_CONNECTION: dict[str, View] = {
    "edges": lambda page, shop: page.rows, "nodes": lambda page, shop: [node for _, node in page.rows], "pageInfo": lambda page, shop: page,
}  # fmt: skip
_EDGE: dict[str, View] = {"cursor": lambda row, shop: row[0], "node": lambda row, shop: row[1]}
_PERSONAL = {
    "Customer": {"firstName": "name", "lastName": "name", "displayName": "name"}, "CustomerEmailAddress": {"emailAddress": "email"},
    "CustomerPhoneNumber": {"phoneNumber": "phone"}, "Order": {"email": "email", "phone": "phone"}, "DraftOrder": {"email": "email"},
    "MailingAddress": {"firstName": "name", "lastName": "name", "name": "name", "address1": "address", "address2": "address",
                       "latitude": "address", "longitude": "address", "zip": "address", "phone": "phone"},
    "CompanyLocation": {"phone": "phone"},
    "CompanyAddress": {"recipient": "name", "firstName": "name", "lastName": "name", "address1": "address", "address2": "address",
                       "zip": "address", "phone": "phone"},
}  # fmt: skip
"""Type → field → which of the four protected customer fields it is (shopify.dev/docs/apps/launch/protected-customer-data)."""
_BEHIND = {Destroyed: "BasicEvent", Operation: "BulkOperation", Subscription: "WebhookSubscription", views_goods.Discount: "DiscountNode",
           views.Part: "ReturnLineItem"}  # fmt: skip


@cache
def schema() -> GraphQLSchema:
    """The subset of Shopify's schema that the shop answers."""
    here = files("hooktape.local.shop")
    names = ("admin_root", "admin", "admin_orders", "admin_goods", "admin_b2b", "admin_subscribers", "admin_app")
    return build_schema("\n".join((here / f"{name}.graphql").read_text() for name in names))


@cache
def table() -> Mapping[str, Mapping[str, View]]:
    """Type → field → its view."""
    found = {**views.FIELDS, **views_orders.FIELDS, **views_goods.FIELDS, **views_b2b.FIELDS, **views_subscribers.FIELDS, **_APP}
    found["Order"] = found["Order"] | views_orders.ORDER
    for name in schema().type_map:
        if name.endswith("Connection"):
            found[name] = _CONNECTION
        elif name.endswith("Edge"):
            found[name] = _EDGE
    return found


def type_name(source: Any, expected: str) -> str:
    """The GraphQL type of what stands where `expected`, perhaps an interface or a union, was asked for."""
    if isinstance(schema().type_map.get(expected), GraphQLObjectType):
        return expected
    if isinstance(source, Resource):
        return "DiscountCodeBasic" if expected in ("Discount", "DiscountCode") else GID[source.kind]
    return _BEHIND[type(source)]


@lru_cache(maxsize=2048)
def _named(owner: str, name: str) -> str:
    found = schema().type_map[owner]
    assert isinstance(found, GraphQLObjectType)
    return str(get_named_type(found.fields[name].type).name)


def answered(admin: "Admin", source: Any, owner: str, name: str, arguments: Mapping[str, Any], bulk: bool = False) -> Any:
    """A field of an object. In bulk a connection is whole. Raises GraphQLError for what isn't granted."""
    value, named = table()[owner][name](source, admin.shop), _named(owner, name)
    if withheld := admin.incidents.on("personal_data_hidden"):
        _withhold(withheld["fields"], owner, name)
    admin.permit_type(named, name)
    if not isinstance(value, list) or owner.endswith(("Connection", "Edge")):
        return value
    if text := arguments.get("query"):
        asked = search.parse(text, lists.COMMON, admin.shop.clock())
        value = [one for one in value if asked.matches(one)]
    if names := arguments.get("names"):
        value = [one for one in value if one.body["name"] in names]
    if named.endswith("Connection"):
        if cut := admin.incidents.on("bulk_truncated" if bulk else "nested_truncated"):
            value = value[: int(cut["limit"])]
        if bulk:
            return Page([("", one) for one in value], False, False)
        return paging.cut([(paging.cursor(0, place), place, one) for place, one in enumerate(value)], arguments)
    first = arguments.get("first")
    return value if first is None or bulk else value[:first]


def _withhold(fields: Collection[str], owner: str, name: str) -> None:
    """Raises GraphQLError for what the app isn't approved for: it's null in the answer, which says so of each place."""
    if _PERSONAL.get(owner, {}).get(name) in fields:
        raise paging.refused(f"This app is not approved to use the {name} field. {paging.PROTECTED_PAGE}", "ACCESS_DENIED")


def in_bulk(admin: "Admin", source: Any, owner: str, name: str, arguments: dict[str, Any]) -> Any:
    """A field of an object as a bulk operation has it."""
    return answered(admin, source, owner, name, arguments, bulk=True)
