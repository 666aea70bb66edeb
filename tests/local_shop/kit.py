"""What the local shop's tests share: an Admin API without sockets, of a shop whose clock the test turns."""

import json
from typing import Any

from graphql import GraphQLEnumType, GraphQLObjectType, GraphQLScalarType, GraphQLUnionType, get_named_type

from hooktape.local.shop.admin import Admin, Request
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.fields import schema
from hooktape.local.shop.model import Change, Mix, Shop

START = 1_790_000_000.0
WIDE = Plan("wide", 1e9, 1e9)


class Client:
    """Asks an admin; every change takes a tenth of a second."""

    def __init__(self, mix: Mix | None = None, seed: int = 1, ties: float = 0.0, plan: Plan = WIDE, stock: int = 0) -> None:
        self.now = START
        self.shop = Shop("a.myshopify.com", seed, lambda: self.now, mix, ties)
        if stock:
            self.shop.stock(stock, int(START) - 90 * 86_400, int(START) - 3600)
        self.admin = Admin(self.shop, "t", plan)

    def change(self, count: int = 1, step: float = 0.1) -> list[Change]:
        made = []
        for _ in range(count):
            self.now += step
            made.append(self.shop.change(self.now))
        return made

    def ask(self, query: str, /, **variables: Any) -> dict[str, Any]:
        return json.loads(json.dumps(self.admin.execute(Request(query, variables))))  # type: ignore[no-any-return]

    def data(self, query: str, /, **variables: Any) -> Any:
        answer = self.ask(query, **variables)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def ids(self, field: str = "orders", **arguments: Any) -> list[str]:
        """All ids of a list, page by page."""
        found: list[str] = []
        after = None
        while True:
            given = ", ".join(f"{name}: {value if name == 'sortKey' else json.dumps(value)}" for name, value in arguments.items())
            page = self.data(f"query($after: String) {{ {field}(first: 250, after: $after, {given}) "
                             "{ nodes { id } pageInfo { hasNextPage endCursor } } }", after=after)[field]  # fmt: skip
            found += [node["id"] for node in page["nodes"]]
            if not page["pageInfo"]["hasNextPage"]:
                return found
            after = page["pageInfo"]["endCursor"]

    def bulk(self, query: str) -> dict[str, Any]:
        """Runs a bulk operation to its end, as far as the clock lets it, and shows it."""
        run = "mutation($q: String!) { bulkOperationRunQuery(query: $q) { bulkOperation { id } userErrors { message } } }"
        begun = self.data(run, q=query)["bulkOperationRunQuery"]
        assert not begun["userErrors"], begun
        self.admin.bulk.finish()
        return self.operation(begun["bulkOperation"]["id"])

    def operation(self, gid: str) -> dict[str, Any]:
        self.admin.bulk.finish()
        shown: dict[str, Any] = self.data(
            """query($id: ID!) { node(id: $id) { ... on BulkOperation {
               id status errorCode url partialDataUrl objectCount rootObjectCount } } }""", id=gid)["node"]  # fmt: skip
        return shown

    def lines(self, operation: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows behind an operation's address."""
        path = self.admin.bulk.file((operation["url"] or operation["partialDataUrl"]).rpartition("/")[2])
        assert path
        return [json.loads(line) for line in path.read_text().splitlines()]


def everything(type_name: str, depth: int = 2) -> str:
    """A selection of all that a type shows, `depth` objects deep."""
    kind = schema().type_map[type_name]
    if isinstance(kind, GraphQLUnionType):
        return " ".join(f"... on {one.name} {{ {everything(one.name, depth)} }}" for one in kind.types)
    chosen = []
    for name, field in kind.fields.items():  # type: ignore[attr-defined]
        inner = get_named_type(field.type)
        arguments = "(first: 2)" if "first" in field.args else '(names: ["available", "on_hand"])' if "names" in field.args else ""
        if isinstance(inner, GraphQLScalarType | GraphQLEnumType):
            chosen.append(name + arguments)
        elif depth and inner.name.endswith("Connection"):
            node = inner.name.removesuffix("Connection")
            shown = everything(node, depth - 1) if isinstance(schema().type_map[node], GraphQLObjectType) else "id"
            chosen.append(f"{name}{arguments} {{ nodes {{ {shown} }} pageInfo {{ hasNextPage }} }}")
        elif depth and isinstance(inner, GraphQLObjectType | GraphQLUnionType):
            chosen.append(f"{name}{arguments} {{ {everything(inner.name, depth - 1)} }}")
    return " ".join(chosen) or "__typename"
