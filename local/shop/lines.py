"""A bulk query made into lines: each object of its list, then what its connections hold, with `__parentId`. Pure.

The query is compiled once into plain functions: a million objects don't go through a GraphQL executor.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    value_from_ast_untyped,
)

if TYPE_CHECKING:
    from hooktape.local.shop.admin import Admin

MOST_CONNECTIONS, MOST_LEVELS = 5, 2
"""What a bulk query may have (shopify.dev/docs/api/usage/bulk-operations/queries)."""
Leaf = Callable[[Any], Any]


class WrongBulk(ValueError):
    """The query can't run in bulk; the text says why."""


@dataclass(slots=True)
class Shape:
    """What to show of one object: its own members, and its connections by their names."""

    leaves: dict[str, Leaf] = field(default_factory=dict)
    connections: dict[str, "Listed"] = field(default_factory=dict)


@dataclass(slots=True)
class Listed:
    """A connection: how to come from the object to its rows, and what to show of each."""

    rows: Leaf
    named: str
    shapes: "Shapes"


@dataclass(frozen=True, slots=True)
class Root:
    """The list that the query is about."""

    field: str
    named: str
    arguments: Mapping[str, Any]
    shapes: "Shapes"


class Shapes:
    """Shapes of one selection for each type that an object of it may have."""

    def __init__(self, compiler: "Compiler", selections: SelectionSetNode) -> None:
        self._compiler, self._selections = compiler, selections
        self._known: dict[str, Shape] = {}

    def of(self, type_name: str) -> Shape:
        if type_name not in self._known:
            self._known[type_name] = self._compiler.shape(self._selections, type_name)
        return self._known[type_name]


class Compiler:
    """Compiles one operation. `resolve(source, type, field, arguments)` is the API's own way of answering a field."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode], admin: "Admin",
        resolve: Callable[["Admin", Any, str, str, dict[str, Any]], Any], type_of: Callable[[Any, str], str],
    ) -> None:  # fmt: skip
        self._schema, self._fragments, self._admin, self._resolve, self._type_of = schema, fragments, admin, resolve, type_of

    def root(self, operation: OperationDefinitionNode) -> Root:
        """Raises WrongBulk for a query that isn't about one list, or has more connections or levels than allowed."""
        nodes = [one for one in operation.selection_set.selections if isinstance(one, FieldNode)]
        if len(nodes) != 1 or not self._is_connection("QueryRoot", nodes[0]):
            raise WrongBulk("Bulk queries must contain at least one connection, and one only at the top.")
        count, levels = self._measure(nodes[0].selection_set, 0)
        if count + 1 > MOST_CONNECTIONS or levels > MOST_LEVELS:
            raise WrongBulk(f"Bulk queries have at most {MOST_CONNECTIONS} connections, nested {MOST_LEVELS} deep.")
        return Root(nodes[0].name.value, self._rows_of("QueryRoot", nodes[0]), _arguments(nodes[0]), Shapes(self, _inside(nodes[0])))

    def shape(self, selections: SelectionSetNode, type_name: str) -> Shape:
        made = Shape()
        for node in self._fields(selections, type_name):
            key, name, arguments = node.alias.value if node.alias else node.name.value, node.name.value, _arguments(node)
            if name == "__typename":
                made.leaves[key] = lambda source: type_name
            elif self._is_connection(type_name, node):
                rows, named = self._step(type_name, name, arguments), self._rows_of(type_name, node)
                made.connections[key] = Listed(rows, named, Shapes(self, _inside(node)))
            else:
                made.leaves[key] = self._leaf(type_name, node, arguments)
        return made

    def lines(self, source: Any, shapes: Shapes, named: str, parent: str | None = None) -> Iterator[tuple[bool, dict[str, Any]]]:
        """(is it a root, line) for the object and all below it."""
        shape = shapes.of(self._type_of(source, named))
        line = {key: leaf(source) for key, leaf in shape.leaves.items()}
        yield parent is None, line if parent is None else {**line, "__parentId": parent}
        own = line.get("id") or (source.gid if hasattr(source, "gid") else source.id)
        for listed in shape.connections.values():
            for _, row in listed.rows(source).rows:
                yield from self.lines(row, listed.shapes, listed.named, own)

    def _leaf(self, type_name: str, node: FieldNode, arguments: dict[str, Any]) -> Leaf:
        step = self._step(type_name, node.name.value, arguments)
        if node.selection_set is None:
            return step
        shapes, named = Shapes(self, node.selection_set), get_named_type(self._field(type_name, node.name.value).type).name

        def inner(value: Any) -> Any:
            if value is None:
                return None
            if isinstance(value, list):
                return [inner(one) for one in value]
            return {key: leaf(value) for key, leaf in shapes.of(self._type_of(value, named)).leaves.items()}

        return lambda source: inner(step(source))

    def _step(self, type_name: str, name: str, arguments: dict[str, Any]) -> Leaf:
        resolve, admin = self._resolve, self._admin
        return lambda source: resolve(admin, source, type_name, name, arguments)

    def _field(self, type_name: str, name: str) -> Any:
        owner = self._schema.type_map[type_name]
        assert isinstance(owner, GraphQLObjectType)
        return owner.fields[name]

    def _rows_of(self, type_name: str, node: FieldNode) -> str:
        """What a connection is one of: `OrderConnection` → Order."""
        return str(get_named_type(self._field(type_name, node.name.value).type).name.removesuffix("Connection"))

    def _is_connection(self, type_name: str, node: FieldNode) -> bool:
        owner = self._schema.type_map[type_name]
        known = isinstance(owner, GraphQLObjectType) and node.name.value in owner.fields
        return known and bool(get_named_type(self._field(type_name, node.name.value).type).name.endswith("Connection"))

    def _fields(self, selections: SelectionSetNode, type_name: str) -> Iterator[FieldNode]:
        for one in selections.selections:
            if isinstance(one, FieldNode):
                yield one
                continue
            inner = self._fragments[one.name.value] if isinstance(one, FragmentSpreadNode) else one
            assert isinstance(inner, InlineFragmentNode | FragmentDefinitionNode)
            condition = inner.type_condition.name.value if inner.type_condition else type_name
            interfaces = {one.name for one in getattr(self._schema.type_map[type_name], "interfaces", ())}
            if condition == type_name or condition in interfaces:
                yield from self._fields(inner.selection_set, type_name)

    def _measure(self, selections: SelectionSetNode | None, depth: int) -> tuple[int, int]:
        """(connections below, deepest level of them)."""
        count, deepest = 0, depth
        for one in selections.selections if selections else ():
            inner = self._fragments[one.name.value] if isinstance(one, FragmentSpreadNode) else one
            assert isinstance(inner, FieldNode | InlineFragmentNode | FragmentDefinitionNode)
            own = isinstance(inner, FieldNode) and any(
                isinstance(below, FieldNode) and below.name.value in ("edges", "nodes")
                for below in (inner.selection_set.selections if inner.selection_set else ()))  # fmt: skip
            below, level = self._measure(inner.selection_set, depth + own)
            count, deepest = count + own + below, max(deepest, level)
        return count, deepest


def _inside(connection: FieldNode) -> SelectionSetNode:
    """What is asked of a connection's nodes, under `nodes` or `edges { node }`."""
    for one in connection.selection_set.selections if connection.selection_set else ():
        if isinstance(one, FieldNode) and one.name.value == "nodes" and one.selection_set:
            return one.selection_set
        if isinstance(one, FieldNode) and one.name.value == "edges" and one.selection_set:
            for below in one.selection_set.selections:
                if isinstance(below, FieldNode) and below.name.value == "node" and below.selection_set:
                    return below.selection_set
    raise WrongBulk("A connection in a bulk query needs nodes, or edges with a node.")


def _arguments(node: FieldNode) -> dict[str, Any]:
    return {one.name.value: value_from_ast_untyped(one.value) for one in node.arguments or ()}
