"""The root fields of the Admin API, one by one. No sockets."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from graphql import FragmentDefinitionNode, GraphQLError, OperationDefinitionNode, parse, validate

from hooktape.local.shop import lists, paging, search
from hooktape.local.shop.bulk import Operation
from hooktape.local.shop.fields import in_bulk, schema, type_name
from hooktape.local.shop.lines import Compiler, WrongBulk
from hooktape.local.shop.store import Resource
from hooktape.local.shop.subscriptions import topics_of
from hooktape.local.shop.views import Page

if TYPE_CHECKING:
    from hooktape.local.shop.admin import Admin

Arguments = Mapping[str, Any]
_OPERATION: dict[str, search.Field] = {
    "default": lambda one: one.status, "status": lambda one: str(one.status), "id": lambda one: int(one.number),
    "created_at": lambda one: int(one.created), "operation_type": lambda one: "query",
}  # fmt: skip
_SUBSCRIPTION: dict[str, search.Field] = {
    "default": lambda one: one.topic, "id": lambda one: int(one.number), "created_at": lambda one: int(one.created),
    "updated_at": lambda one: int(one.updated),
}  # fmt: skip


def query(admin: "Admin", name: str, arguments: Arguments, warn: Callable[[search.Search], None]) -> Any:
    """A field of QueryRoot; `warn` hears of each search. Raises GraphQLError."""
    if name in lists.LISTS or name == "events":
        kind = lists.LISTS.get(name, "event")
        admin.permit(kind, name)
        asked = lists.understood(admin, kind, arguments.get("query"))
        warn(asked)
        page = lists.listed(admin, kind, arguments, asked)
        _edit(admin, page)
        return page
    if name in lists.COUNTS or name == "eventsCount":
        kind = lists.COUNTS.get(name, "event")
        admin.permit(kind, name)
        asked = lists.understood(admin, kind, arguments.get("query"))
        warn(asked)
        return lists.counted(admin, kind, arguments, asked)
    if name in lists.SINGLE:
        found = lists.node(admin, arguments["id"]) if arguments.get("id") else None
        return found if found and type_name(found, "Node") == name[0].upper() + name[1:] else None
    return _OTHERS[name](admin, arguments)


def mutation(admin: "Admin", name: str, arguments: Arguments) -> Any:
    """A field of Mutation."""
    return MUTATIONS[name](admin, arguments)


_EDITABLE = ("order", "product", "customer", "draft_order", "collection")


def _edit(admin: "Admin", page: Page) -> None:
    """What happens to the rows of a page while somebody reads it."""
    if edits := admin.incidents.on("edits_while_paging"):
        # Deletions are listed, too, and have a kind.
        rows = [node for _, node in page.rows if isinstance(node, Resource) and node.kind in _EDITABLE]
        for node in admin.incidents.rng("edits_while_paging").sample(rows, min(int(edits["edits"]), len(rows))):
            admin.edited.append(admin.shop.change(admin.shop.clock(), again=node))


def _paged(rows: list[Any], arguments: Arguments) -> Page:
    return paging.cut([(paging.cursor(0, place), place, one) for place, one in enumerate(rows)], arguments)


def _operations(admin: "Admin", arguments: Arguments) -> Page:
    asked = search.parse(arguments.get("query"), _OPERATION, admin.shop.clock())
    return _paged([one for one in admin.bulk.operations if asked.matches(one)], arguments)


def _subscriptions(admin: "Admin", arguments: Arguments) -> list[Any]:
    asked = search.parse(arguments.get("query"), _SUBSCRIPTION, admin.shop.clock())
    topics = topics_of(arguments["topics"]) if arguments.get("topics") else None
    return [one for one in admin.subscriptions.shown()
            if asked.matches(one) and (topics is None or one.topic in topics)
            and arguments.get("uri") in (None, one.uri) and arguments.get("format") in (None, one.format)]  # fmt: skip


_OTHERS: dict[str, Callable[["Admin", Arguments], Any]] = {
    "node": lambda admin, arguments: lists.node(admin, arguments["id"]),
    "nodes": lambda admin, arguments: lists.nodes(admin, arguments["ids"]),
    "shop": lambda admin, arguments: admin.plan,
    "currentAppInstallation": lambda admin, arguments: admin.scopes,
    "publicApiVersions": lambda admin, arguments: admin.versions,
    "bulkOperation": lambda admin, arguments: admin.bulk.get(arguments["id"]),
    "bulkOperations": _operations,
    "currentBulkOperation": lambda admin, arguments: admin.bulk.operations[-1] if admin.bulk.operations else None,
    "webhookSubscription": lambda admin, arguments: admin.subscriptions.get(arguments["id"]),
    "webhookSubscriptions": lambda admin, arguments: _paged(_subscriptions(admin, arguments), arguments),
    "webhookSubscriptionsCount": lambda admin, arguments: (len(_subscriptions(admin, arguments)), "EXACT"),
}
QUERIES = {*lists.LISTS, *lists.COUNTS, *lists.SINGLE, *_OTHERS, "events", "eventsCount"}
"""Every field of QueryRoot that has an answer."""


def _run(admin: "Admin", arguments: Arguments) -> Any:
    try:
        operation = start_bulk(admin, arguments["query"])
    except WrongBulk as error:
        return {"bulkOperation": None, "userErrors": [{"code": "INVALID", "field": ["query"], "message": str(error)}]}
    if operation is None:
        busy = {"code": "OPERATION_IN_PROGRESS", "field": None, "message": "As many bulk query operations as may run are in progress."}
        return {"bulkOperation": None, "userErrors": [busy]}
    return {"bulkOperation": operation, "userErrors": []}


def start_bulk(admin: "Admin", text: str) -> Operation | None:
    """Begins a bulk operation; None: too many run. Raises WrongBulk for a query that can't run in bulk."""
    try:
        document = parse(text)
    except GraphQLError as error:
        raise WrongBulk(f"Invalid bulk query: {error.message}") from None
    if errors := validate(schema(), document):
        raise WrongBulk(f"Invalid bulk query: {errors[0].message}")
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    compiler = Compiler(schema(), fragments, admin, in_bulk, type_name)
    root = compiler.root(operations[0])
    if root.field not in lists.LISTS:
        raise WrongBulk(f"{root.field} can't be run in bulk here.")
    admin.permit(lists.LISTS[root.field], root.field)
    lists.understood(admin, lists.LISTS[root.field], root.arguments.get("query"))
    return admin.bulk.start(text, compiler, root)


def _cancel(admin: "Admin", arguments: Arguments) -> Any:
    found = admin.bulk.cancel(arguments["id"])
    return {"bulkOperation": found, "userErrors": [] if found else [{"field": ["id"], "message": "Bulk operation does not exist"}]}


def _given(arguments: Arguments) -> dict[str, Any]:
    given = arguments["webhookSubscription"]
    named = {"filter": "filter", "format": "format", "name": "name", "uri": "uri"}
    found = {ours: given[theirs] for ours, theirs in named.items() if theirs in given}
    tuples = {"include_fields": "includeFields", "namespaces": "metafieldNamespaces"}
    return found | {ours: tuple(given[theirs] or ()) for ours, theirs in tuples.items() if theirs in given}


def _create(admin: "Admin", arguments: Arguments) -> Any:
    given = _given(arguments)
    if not given.get("uri"):
        return {"webhookSubscription": None, "userErrors": [{"field": ["webhookSubscription", "uri"], "message": "Address can't be blank"}]}
    (topic,) = topics_of([arguments["topic"]])
    made = admin.subscriptions.create(topic, given.pop("uri"), admin.shop.clock(), **given)
    return {"webhookSubscription": made, "userErrors": []}


def _update(admin: "Admin", arguments: Arguments) -> Any:
    found = admin.subscriptions.update(arguments["id"], admin.shop.clock(), **_given(arguments))
    missing = [{"field": ["id"], "message": "Webhook subscription does not exist"}]
    return {"webhookSubscription": found, "userErrors": [] if found else missing}


def _delete(admin: "Admin", arguments: Arguments) -> Any:
    gone = admin.subscriptions.delete(arguments["id"])
    missing = [{"field": ["id"], "message": "Webhook subscription does not exist"}]
    return {"deletedWebhookSubscriptionId": arguments["id"] if gone else None, "userErrors": [] if gone else missing}


MUTATIONS: dict[str, Callable[["Admin", Arguments], Any]] = {
    "bulkOperationRunQuery": _run, "bulkOperationCancel": _cancel, "webhookSubscriptionCreate": _create,
    "webhookSubscriptionUpdate": _update, "webhookSubscriptionDelete": _delete,
}  # fmt: skip
"""Every field of Mutation."""
