"""The Admin API: GraphQL over the shop's state, with Shopify's search, cursors, cost, throttling and errors. No sockets.

`Admin.answer` is the whole of it: a request's headers and JSON in, status, headers and JSON out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLResolveInfo,
    OperationDefinitionNode,
    OperationType,
    execute_sync,
    parse,
    validate,
)

from hooktape.local.shop import roots
from hooktape.local.shop.bulk import Bulk
from hooktape.local.shop.cost import MAX_QUERY, MUTATION, STANDARD, Bucket, Costs, Plan
from hooktape.local.shop.fields import answered, schema, type_name
from hooktape.local.shop.incidents import STATUS, Incidents
from hooktape.local.shop.model import Change, Shop
from hooktape.local.shop.oauth import REFUSED, Tokens
from hooktape.local.shop.paging import PROTECTED_PAGE, refused
from hooktape.local.shop.store import GID
from hooktape.local.shop.subscriptions import Subscriptions
from hooktape.local.shop.webhooks import Secrets

VERSIONS = ("2025-10", "2026-01", "2026-04", "2026-07", "2026-10")
"""Supported versions, oldest first: four of them at any time, and the newest."""
SCOPES = ("read_all_orders", "read_companies", "read_customers", "read_discounts", "read_draft_orders", "read_inventory",
          "read_locations", "read_merchant_managed_fulfillment_orders", "read_orders", "read_own_subscription_contracts",
          "read_products", "read_returns", "read_themes")  # fmt: skip
# Any of these scopes will do.
_NEEDS = {
    "order": "orders", "refund": "orders", "fulfillment": "orders", "order_transaction": "orders", "return": "returns",
    "fulfillment_order": "merchant_managed_fulfillment_orders", "product": "products", "variant": "products",
    "collection": "products", "customer": "customers", "draft_order": "draft_orders", "inventory_item": "inventory",
    "inventory_level": "inventory", "location": "locations", "discount": "discounts", "company": "companies customers",
    "company_location": "companies customers", "theme": "themes", "segment": "customers",
    "subscription_contract": "own_subscription_contracts",
}  # fmt: skip
_PERSONAL = frozenset({"customer", "draft_order", "order"})
_KIND_OF = {name: kind for kind, type_ in GID.items() for name in (type_, f"{type_}Connection")}
_LIMITS_PAGE = "https://shopify.dev/api/usage/rate-limits"
_WORDS = {401: REFUSED, 402: "Unavailable Shop", 403: "Forbidden", 423: "Locked"}


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
        self, shop: Shop, token: str, plan: Plan = STANDARD, search_lag: float = 0.0, scopes: tuple[str, ...] = SCOPES,
        incidents: Incidents | None = None, subscriptions: Subscriptions | None = None, tokens: Tokens | None = None,
    ) -> None:  # fmt: skip
        self.shop, self.search_lag, self.granted = shop, search_lag, scopes
        self.plan: Plan = plan
        self.incidents = incidents or Incidents(shop.seed)
        self.subscriptions: Subscriptions = subscriptions or Subscriptions(self.incidents)
        self.bulk: Bulk = Bulk(self)
        self.bucket = Bucket(plan, shop.clock())
        self.versions: tuple[str, ...] = VERSIONS
        self.edited: list[Change] = []
        """Webhooks of changes that happened while somebody paged: whoever sends them takes them off."""
        self.tokens = tokens or Tokens(token, "app", Secrets([token]), self.incidents, shop.clock)
        self._drained = shop.clock()

    @property
    def lag(self) -> float:
        """Seconds that the search index is behind."""
        return float((self.incidents.on("search_lag") or {"seconds": self.search_lag})["seconds"])

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that are granted now."""
        lost = (self.incidents.on("scopes_lost") or {"scopes": ()})["scopes"]
        return tuple(scope for scope in self.granted if scope not in lost)

    def permit(self, kind: str, field: str) -> None:
        """Raises GraphQLError when the app may not read this kind."""
        needed = [f"read_{scope}" for scope in _NEEDS.get(kind, "").split()]
        if needed and not {*needed} & {*self.scopes}:
            scope = " or ".join(f"`{one}` access scope" for one in needed) + "."
            raise refused(f"Access denied for {field} field. Required access: {scope}", "ACCESS_DENIED",
                          documentation="https://shopify.dev/api/usage/access-scopes", requiredAccess=scope)  # fmt: skip
        if kind in _PERSONAL and "all" in (self.incidents.on("personal_data_hidden") or {"fields": ()})["fields"]:
            raise refused(f"This app is not approved to access the {GID[kind]} object. {PROTECTED_PAGE}", "ACCESS_DENIED")

    def permit_type(self, named: str, field: str) -> None:
        """As `permit`, for a field of this type."""
        if named in _KIND_OF:
            self.permit(_KIND_OF[named], field)

    def answer(self, version: str, token: str, body: bytes) -> Answer:
        """The answer to a POST of `body` at `version` with this `X-Shopify-Access-Token`.

        An unsupported version is served by the oldest one supported, and only the header tells, as with Shopify.
        """
        served = (self.incidents.on("version_falls_forward") or {"version": version if version in VERSIONS else VERSIONS[0]})["version"]
        headers = {"content-type": "application/json; charset=utf-8", "x-shopify-api-version": served,
                   "date": formatdate(self.shop.clock(), usegmt=True)}  # fmt: skip
        closed = next((status for name, status in STATUS.items() if self.incidents.is_on(name)), None)
        barred = (closed, _WORDS[closed]) if closed else self.tokens.refused(token)
        if barred:
            return Answer(barred[0], headers, msgspec.json.encode({"errors": barred[1]}))
        if self.incidents.strikes("server_errors"):
            status = int((self.incidents.on("server_errors") or {})["status"])
            return Answer(status, headers, msgspec.json.encode({"errors": "Internal Server Error"}))
        try:
            request = msgspec.json.decode(body, type=Request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Answer(400, headers, msgspec.json.encode({"errors": {"query": "Required parameter missing or invalid"}}))
        return Answer(200, headers, msgspec.json.encode(self.execute(request)))

    def execute(self, request: Request) -> dict[str, Any]:
        """The GraphQL answer, cost and throttling included."""
        if self.incidents.is_on("shop_inactive"):
            return {"errors": [_error("Shop is inactive", "SHOP_INACTIVE")]}
        document, errors = _document(request.query)
        if document is None or errors:
            return {"errors": [error.formatted for error in errors]}
        operation = next((node for node in document.definitions if isinstance(node, OperationDefinitionNode)
                          and (not request.operation_name or (node.name and node.name.value == request.operation_name))),
                         None)  # fmt: skip
        if operation is None:
            return {"errors": [{"message": f"No operation named {request.operation_name!r}"}]}
        fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        mutates = operation.operation is OperationType.MUTATION
        root, variables = schema().mutation_type if mutates else schema().query_type, request.variables or {}
        assert root is not None
        costs = Costs(schema(), fragments, _with_defaults(operation, variables))
        requested = MUTATION if mutates else costs.requested(operation.selection_set, root)
        if requested > MAX_QUERY:
            return {"errors": [_error(
                f"Query cost is {requested}, which exceeds the single query max cost limit ({MAX_QUERY}).", "MAX_COST_EXCEEDED",
                cost=requested, maxCost=MAX_QUERY, documentation=_LIMITS_PAGE)]}  # fmt: skip
        self._drain()
        if self.incidents.strikes("throttled") or not self.bucket.take(requested, self.shop.clock()):
            return {"errors": [_error("Throttled", "THROTTLED", documentation=_LIMITS_PAGE)],
                    "extensions": {"cost": self._cost(requested, None)}}  # fmt: skip
        warnings: list[dict[str, Any]] = []
        result = execute_sync(
            schema(), document, root_value=self, variable_values=variables, operation_name=request.operation_name,
            field_resolver=_resolve, type_resolver=lambda source, info, abstract: type_name(source, abstract.name),
            context_value=_Context(self, warnings),
        )  # fmt: skip
        # A plain list counts as one object before the query runs; like Shopify, never charge more than was asked for.
        actual = requested if mutates else min(requested, costs.actual(operation.selection_set, root, result.data or {}))
        self.bucket.refund(requested - actual)
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [error.formatted for error in result.errors]
        extensions = {"cost": self._cost(requested, actual)}
        return answer | {"extensions": extensions | ({"search": warnings} if warnings else {})}

    def _drain(self) -> None:
        """What others of the app took since the last request."""
        now = self.shop.clock()
        if drained := self.incidents.on("points_drained"):
            self.bucket.take(min(self.bucket.available(now), max(0.0, now - self._drained) * drained["points"]), now)
        self._drained = now

    def _cost(self, requested: int, actual: int | None) -> dict[str, Any]:
        if self.incidents.is_on("cost_zero"):
            requested, actual = 0, actual and 0
        return {"requestedQueryCost": requested, "actualQueryCost": actual,
                "throttleStatus": self.bucket.status(self.shop.clock())}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Context:
    admin: Admin
    warnings: list[dict[str, Any]]


Info: TypeAlias = "GraphQLResolveInfo[_Context]"


def _resolve(source: Any, info: Info, **arguments: Any) -> Any:
    owner, name, context = info.parent_type.name, info.field_name, info.context
    if owner == "QueryRoot":
        return roots.query(context.admin, name, arguments, lambda asked: _warn(info, arguments, asked.unknown))
    if owner == "Mutation":
        return roots.mutation(context.admin, name, arguments)
    return answered(context.admin, source, owner, name, arguments)


def _warn(info: Info, arguments: Mapping[str, Any], unknown: tuple[str, ...]) -> None:
    info.context.warnings.extend(
        {"path": info.path.as_list(), "query": arguments["query"],
         "warnings": [{"field": name, "message": "Invalid search field for this query.", "code": "invalid_field"}]}
        for name in unknown)  # fmt: skip


def _with_defaults(operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables with defaults that are whole numbers filled in: they may size a connection."""
    defaults = {definition.variable.name.value: getattr(definition.default_value, "value", None)
                for definition in operation.variable_definitions or () if definition.default_value}  # fmt: skip
    numbers = {name: int(value) for name, value in defaults.items() if isinstance(value, str) and value.isdecimal()}
    return numbers | dict(variables)


def _error(message: str, code: str, **extensions: Any) -> dict[str, Any]:
    return {"message": message, "extensions": {"code": code, **extensions}}
