"""The Admin API: GraphQL over the shop's state, with Shopify's search, cursors, cost, throttling and errors. No sockets.

`Admin.answer` is the whole of it: a request's headers and JSON in, status, headers and JSON out.
"""

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, TypeAlias

import msgspec
from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    execute_sync,
    get_named_type,
    parse,
    validate,
)

from hooktape.local.shop import search, views
from hooktape.local.shop.cost import MAX_QUERY, STANDARD, Bucket, Costs, Plan
from hooktape.local.shop.model import GID, KINDS, Destroyed, Resource, Shop
from hooktape.schemas.resources import gid_number

VERSIONS = ("2025-10", "2026-01", "2026-04", "2026-07", "2026-10")
"""Supported versions, oldest first: four of them at any time, and the newest."""
SCOPES = ("read_all_orders", "read_customers", "read_orders", "read_products")
_PAGE = 250
_LIMITS_PAGE = "https://shopify.dev/api/usage/rate-limits"


@cache
def schema() -> GraphQLSchema:
    """The subset of Shopify's schema that the shop answers."""
    return build_schema((files("hooktape.local.shop") / "admin.graphql").read_text())


@lru_cache(maxsize=256)
def _document(query: str) -> tuple[DocumentNode | None, tuple[GraphQLError, ...]]:
    try:
        document = parse(query)
    except GraphQLError as error:
        return None, (error,)
    return document, tuple(validate(schema(), document))


class Request(msgspec.Struct, rename="camel"):
    """A GraphQL request's JSON."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Admin:
    """Answers for one shop and one app. `search_lag` in seconds: lists show changes that much later, `nodes` at once."""

    def __init__(
        self, shop: Shop, token: str, plan: Plan = STANDARD, search_lag: float = 0.0, scopes: tuple[str, ...] = SCOPES
    ) -> None:
        self.shop, self.plan, self.search_lag, self.scopes = shop, plan, search_lag, scopes
        self.bucket = Bucket(plan, shop.clock())
        self._token = token.encode()

    def answer(self, version: str, token: str, body: bytes) -> Answer:
        """The answer to a POST of `body` at `version` with this `X-Shopify-Access-Token`.

        An unsupported version is served by the oldest one supported, and only the header tells, as with Shopify.
        """
        served = version if version in VERSIONS else VERSIONS[0]
        headers = {"content-type": "application/json; charset=utf-8", "x-shopify-api-version": served,
                   "date": formatdate(self.shop.clock(), usegmt=True)}  # fmt: skip
        if not hmac.compare_digest(token.encode(), self._token):
            wrong = {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"}
            return Answer(401, headers, msgspec.json.encode(wrong))
        try:
            request = msgspec.json.decode(body, type=Request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Answer(400, headers, msgspec.json.encode({"errors": {"query": "Required parameter missing or invalid"}}))
        return Answer(200, headers, msgspec.json.encode(self.execute(request)))

    def execute(self, request: Request) -> dict[str, Any]:
        """The GraphQL answer, cost and throttling included."""
        document, errors = _document(request.query)
        if document is None or errors:
            return {"errors": [error.formatted for error in errors]}
        operation = next((node for node in document.definitions if isinstance(node, OperationDefinitionNode)
                          and (not request.operation_name or (node.name and node.name.value == request.operation_name))),
                         None)  # fmt: skip
        if operation is None:
            return {"errors": [{"message": f"No operation named {request.operation_name!r}"}]}
        fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        root, variables = schema().query_type, request.variables or {}
        assert root is not None
        costs = Costs(schema(), fragments, _with_defaults(operation, variables))
        requested = costs.requested(operation.selection_set, root)
        if requested > MAX_QUERY:
            return {"errors": [_error(
                f"Query cost is {requested}, which exceeds the single query max cost limit ({MAX_QUERY}).", "MAX_COST_EXCEEDED",
                cost=requested, maxCost=MAX_QUERY, documentation=_LIMITS_PAGE)]}  # fmt: skip
        if not self.bucket.take(requested, self.shop.clock()):
            return {"errors": [_error("Throttled", "THROTTLED", documentation=_LIMITS_PAGE)],
                    "extensions": {"cost": self._cost(requested, None)}}  # fmt: skip
        warnings: list[dict[str, Any]] = []
        result = execute_sync(
            schema(), document, root_value=self, variable_values=variables, operation_name=request.operation_name,
            field_resolver=_resolve, type_resolver=lambda source, *_: views.type_name(source),
            context_value=_Context(self, warnings),
        )  # fmt: skip
        # A plain list counts as one object before the query runs; like Shopify, never charge more than was asked for.
        actual = min(requested, costs.actual(operation.selection_set, root, result.data or {}))
        self.bucket.refund(requested - actual)
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [error.formatted for error in result.errors]
        extensions = {"cost": self._cost(requested, actual)}
        return answer | {"extensions": extensions | ({"search": warnings} if warnings else {})}

    def _cost(self, requested: int, actual: int | None) -> dict[str, Any]:
        return {"requestedQueryCost": requested, "actualQueryCost": actual,
                "throttleStatus": self.bucket.status(self.shop.clock())}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Context:
    admin: Admin
    warnings: list[dict[str, Any]]


Info: TypeAlias = "GraphQLResolveInfo[_Context]"
Resolver = Callable[["Info", dict[str, Any]], Any]


def _resolve(source: Any, info: Info, **arguments: Any) -> Any:
    name = info.field_name
    if info.parent_type is schema().query_type:
        return _ROOT[name](info, arguments)
    value = views.FIELDS[info.parent_type.name][name](source, info.context.admin.shop)
    if isinstance(value, list) and get_named_type(info.return_type).name.endswith("Connection"):
        return _page([(_cursor(0, place), place, one) for place, one in enumerate(value)], arguments)
    return value


def _list(kind: str) -> Resolver:
    def resolve(info: Info, arguments: dict[str, Any]) -> views.Page:
        key = _SORTS.get(arguments["sortKey"], _SORTS["ID"])
        rows = [(key(row), row) for row in _found(kind, info, arguments)]
        rows.sort(key=lambda row: (row[0], row[1].id))
        return _page([(_cursor(value, row.id), (value, row.id), _source(row)) for value, row in rows], arguments)

    return resolve


def _count(kind: str) -> Resolver:
    def resolve(info: Info, arguments: dict[str, Any]) -> tuple[int, str]:
        found, limit = len(_found(kind, info, arguments)), arguments.get("limit")
        return (found, "EXACT") if limit is None or found <= limit else (limit, "AT_LEAST")

    return resolve


@dataclass(frozen=True, slots=True)
class _Indexed:
    """A resource as the search index shows it: its `updated` may be an older one."""

    resource: Resource
    id: int
    updated: int

    @property
    def body(self) -> dict[str, Any]:
        return self.resource.body


def _found(kind: str, info: Info, arguments: dict[str, Any]) -> list[Any]:
    """What a search in the index finds, in no order."""
    admin: Admin = info.context.admin
    at = admin.shop.clock() - admin.search_lag
    try:
        asked = search.parse(arguments.get("query"), _SEARCHABLE[kind], admin.shop.clock())
    except search.SearchError as error:
        raise GraphQLError(f"Invalid search: {error}.") from error
    path = info.path.as_list()
    info.context.warnings.extend(
        {"path": path, "query": arguments["query"],
         "warnings": [{"field": name, "message": "Invalid search field for this query.", "code": "invalid_field"}]}
        for name in asked.unknown)  # fmt: skip
    rows: list[Any]
    if kind == "event":
        rows = [event for event in admin.shop.destroyed if event.when <= at]
    else:
        rows = [_Indexed(resource, resource.id, updated) for resource in admin.shop.live(kind)
                if (updated := resource.indexed(at)) is not None]  # fmt: skip
    return [row for row in rows if asked.matches(row)]


def _source(row: _Indexed | Destroyed) -> Resource | Destroyed:
    return row.resource if isinstance(row, _Indexed) else row


def _page(rows: list[tuple[str, Any, Any]], arguments: Mapping[str, Any]) -> views.Page:
    """Cuts (cursor, position, node), sorted by position. Cursors are positions, not counts: they hold while rows come and go."""
    first, last = arguments.get("first"), arguments.get("last")
    if (first is None) == (last is None):
        raise GraphQLError("you must provide one of first or last", extensions={"code": "BAD_REQUEST"})
    size: int = first if first is not None else last or 0
    if not 0 <= size <= _PAGE:
        raise GraphQLError(f"{'first' if last is None else 'last'} must be from 0 to {_PAGE}; it is {size}",
                           extensions={"code": "BAD_REQUEST"})  # fmt: skip
    if arguments.get("reverse"):
        rows = rows[::-1]
    before = after = 0
    descending = bool(arguments.get("reverse"))
    if cursor := arguments.get("after"):
        mark = _position(cursor, rows)
        kept = [row for row in rows if (row[1] < mark if descending else row[1] > mark)]
        before, rows = len(rows) - len(kept), kept
    if cursor := arguments.get("before"):
        mark = _position(cursor, rows)
        kept = [row for row in rows if (row[1] > mark if descending else row[1] < mark)]
        after, rows = len(rows) - len(kept), kept
    cut = rows[:size] if last is None else rows[len(rows) - min(size, len(rows)):]
    left = len(rows) - len(cut)
    return views.Page([(cursor, node) for cursor, _, node in cut], (left if last is None else after) > 0,
                      (before if last is None else left) > 0)  # fmt: skip


def _cursor(value: int | str, row_id: int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode({"last_id": row_id, "last_value": value})).decode()


def _position(cursor: str, rows: list[tuple[str, Any, Any]]) -> Any:
    try:
        mark = msgspec.json.decode(base64.urlsafe_b64decode(cursor))
        value, row_id = mark["last_value"], mark["last_id"]
    except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise GraphQLError("Invalid cursor for current pagination sort.", extensions={"code": "BAD_REQUEST"}) from error
    if rows and isinstance(rows[0][1], int):
        return row_id
    if rows and type(rows[0][1][0]) is not type(value):
        raise GraphQLError("Invalid cursor for current pagination sort.", extensions={"code": "BAD_REQUEST"})
    return value, row_id


def _node(info: Info, gid: str) -> Resource | None:
    """The live resource of a global id, from primary data: current whatever the search index shows."""
    kind = next((kind for kind in KINDS if gid.startswith(f"gid://shopify/{GID[kind]}/")), None)
    if kind is None and not gid.startswith("gid://shopify/"):
        raise GraphQLError(f"Invalid global id '{gid}'", extensions={"code": "argumentLiteralsIncompatible"})
    found: Resource | None = info.context.admin.shop.get(f"{kind}/{gid_number(gid)}")
    return found


def _nodes(info: Info, arguments: dict[str, Any]) -> list[Resource | None]:
    if len(arguments["ids"]) > _PAGE:
        raise GraphQLError(f"The input array size of {len(arguments['ids'])} is greater than the maximum allowed of {_PAGE}.",
                           extensions={"code": "MAX_INPUT_SIZE_EXCEEDED"})  # fmt: skip
    return [_node(info, gid) for gid in arguments["ids"]]


def _single(kind: str) -> Resolver:
    def resolve(info: Info, arguments: dict[str, Any]) -> Resource | None:
        found = _node(info, arguments["id"])
        return found if found and found.kind == kind else None

    return resolve


_ROOT: dict[str, Resolver] = {
    **{f"{kind}s": _list(kind) for kind in (*KINDS, "event")},
    **{f"{kind}sCount": _count(kind) for kind in KINDS},
    **{kind: _single(kind) for kind in KINDS},
    "node": lambda info, arguments: _node(info, arguments["id"]),
    "nodes": _nodes,
    "shop": lambda info, arguments: info.context.admin.plan,
    "currentAppInstallation": lambda info, arguments: info.context.admin.scopes,
    "publicApiVersions": lambda info, arguments: VERSIONS,
}


def _created(row: Any) -> int:
    return row.at if isinstance(row, Destroyed) else int(row.resource.created)


# Sort keys that no test or reconciler asks for fall to ID.
_SORTS: dict[str, Callable[[Any], int | str]] = {
    "ID": lambda row: 0, "CREATED_AT": _created, "PROCESSED_AT": _created, "UPDATED_AT": lambda row: int(row.updated),
    "ORDER_NUMBER": lambda row: int(row.body["order_number"]), "TITLE": lambda row: str(row.body["title"]),
    "VENDOR": lambda row: str(row.body["vendor"]), "NAME": lambda row: f"{row.body['last_name']}, {row.body['first_name']}",
}  # fmt: skip


def _text(*keys: str) -> search.Field:
    return lambda row: " ".join(str(row.body[key] or "") for key in keys)


_COMMON: dict[str, search.Field] = {
    "id": lambda row: int(row.id), "created_at": _created, "updated_at": lambda row: int(row.updated),
}  # fmt: skip
_SEARCHABLE: dict[str, dict[str, search.Field]] = {
    "order": _COMMON | {
        "default": _text("name", "email", "tags"), "processed_at": _created, "name": _text("name"), "email": _text("email"),
        "financial_status": _text("financial_status"), "tag": _text("tags"),
        "customer_id": lambda row: str(row.body["customer"]["id"]),
    },
    "product": _COMMON | {
        "default": _text("title", "vendor", "tags"), "title": _text("title"), "handle": _text("handle"), "tag": _text("tags"),
        "vendor": _text("vendor"), "product_type": _text("product_type"), "status": _text("status"),
    },
    "customer": _COMMON | {
        "default": _text("first_name", "last_name", "email"), "first_name": _text("first_name"), "last_name": _text("last_name"),
        "email": _text("email"), "state": _text("state"),
    },
    "event": {
        "default": lambda row: row.kind, "id": lambda row: int(row.id), "created_at": lambda row: int(row.at),
        "action": lambda row: "destroy", "subject_type": lambda row: str(row.kind),
    },
}  # fmt: skip


def _with_defaults(operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables with defaults that are whole numbers filled in: they may size a connection."""
    defaults = {definition.variable.name.value: getattr(definition.default_value, "value", None)
                for definition in operation.variable_definitions or () if definition.default_value}  # fmt: skip
    numbers = {name: int(value) for name, value in defaults.items() if isinstance(value, str) and value.isdecimal()}
    return numbers | dict(variables)


def _error(message: str, code: str, **extensions: Any) -> dict[str, Any]:
    return {"message": message, "extensions": {"code": code, **extensions}}
