"""What a GraphQL query costs, and the bucket that pays for it. Pure.

Rules as published (shopify.dev/docs/apps/build/apis/graphql-admin/rate-limits): scalars and enums 0, an object 1, an
interface or union the dearest of its selections, a connection 2 and its nodes `first` times. Shopify's own figures for
large pages are lower today (25 points where these rules say 503: community.shopify.dev/t/23101) by a rule that isn't
published, so that whoever keeps within these limits keeps within Shopify's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
)

MAX_QUERY = 1000
"""Points that a single query may ask for."""
MUTATION = 10
_CONNECTION = 2
_Composite = (GraphQLObjectType, GraphQLInterfaceType, GraphQLUnionType)
_ROUNDING = 0.001  # points; 10 µs of the slowest refill


@dataclass(frozen=True, slots=True)
class Plan:
    """What a shop's plan gives an app: the bucket's size and its refill, points and points per second.

    Refills are published; sizes are 20 s of refill, as responses show.
    """

    name: str
    bucket: float
    restore: float


STANDARD = Plan("Basic", 2_000, 100)
ADVANCED = Plan("Advanced", 4_000, 200)
PLUS = Plan("Shopify Plus", 20_000, 1_000)


class Bucket:
    """A leaky bucket of points. `now` in seconds of any clock that doesn't step back."""

    def __init__(self, plan: Plan, now: float) -> None:
        self.plan = plan
        self._level, self._at = plan.bucket, now

    def available(self, now: float) -> float:
        """Points in the bucket at `now`."""
        self._level = min(self.plan.bucket, self._level + max(0.0, now - self._at) * self.plan.restore)
        self._at = max(self._at, now)
        return self._level

    def take(self, points: float, now: float) -> bool:
        """Takes `points` when the bucket holds them all; else takes nothing and says so."""
        # Who waits exactly as long as `throttleStatus` implies mustn't fail by what floats of a clock lose.
        if self.available(now) + _ROUNDING < points:
            return False
        self._level = max(0.0, self._level - points)
        return True

    def refund(self, points: float) -> None:
        """Gives back what a query asked for and didn't use."""
        self._level = min(self.plan.bucket, self._level + points)

    def status(self, now: float) -> dict[str, float]:
        """`throttleStatus` as Shopify answers it."""
        return {"maximumAvailable": float(self.plan.bucket), "currentlyAvailable": int(self.available(now)),
                "restoreRate": float(self.plan.restore)}  # fmt: skip


class Costs:
    """Costs of one operation's selections: asked for before it runs, used after."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, Any]
    ) -> None:
        self._schema, self._fragments, self._variables = schema, fragments, variables

    def requested(self, selections: SelectionSetNode, kind: GraphQLCompositeType) -> int:
        """Points for the most that the selections could return."""
        shared, narrowed = 0, dict[str, int]()
        for on, node, field in self._fields(selections, kind):
            points = self._requested_field(node, field)
            if on is kind or not isinstance(kind, GraphQLInterfaceType | GraphQLUnionType):
                shared += points
            else:
                narrowed[on.name] = narrowed.get(on.name, 0) + points
        return shared + max(narrowed.values(), default=0)

    def actual(self, selections: SelectionSetNode, kind: GraphQLCompositeType, data: Mapping[str, Any]) -> int:
        """Points for what came back: every object that isn't null."""
        points, seen = 0, set[str]()
        for _, node, field in self._fields(selections, kind):
            key = node.alias.value if node.alias else node.name.value
            if key in data and key not in seen:
                # Fragments on several types may name a field each; it came back once.
                seen.add(key)
                points += self._actual_value(node, field, data[key])
        return points

    def _requested_field(self, node: FieldNode, field: GraphQLField) -> int:
        kind = get_named_type(field.type)
        if node.selection_set is None or not isinstance(kind, _Composite):
            return 0
        inside = self.requested(node.selection_set, kind)
        if kind.name.endswith("Connection"):
            return _CONNECTION + inside * self._size(node)
        if kind.name == "PageInfo":
            return 0
        if kind.name.endswith("Edge"):
            # The node inside is the object that counts.
            return inside
        count = len(self._argument(node, "ids") or ()) if "ids" in field.args else 1
        return count * (1 + inside)

    def _actual_value(self, node: FieldNode, field: GraphQLField, value: Any) -> int:
        kind = get_named_type(field.type)
        if value is None or node.selection_set is None or not isinstance(kind, _Composite):
            return 0
        if isinstance(value, list):
            return sum(self._actual_value(node, field, one) for one in value)
        if kind.name == "PageInfo":
            return 0
        inside = self.actual(node.selection_set, kind, value)
        if kind.name.endswith("Connection"):
            return _CONNECTION + inside
        return inside if kind.name.endswith("Edge") else 1 + inside

    def _size(self, node: FieldNode) -> int:
        return max(self._argument(node, "first") or 0, self._argument(node, "last") or 0)

    def _argument(self, node: FieldNode, name: str) -> Any:
        for argument in node.arguments or ():
            if argument.name.value == name:
                if isinstance(argument.value, VariableNode):
                    return self._variables.get(argument.value.name.value)
                if isinstance(argument.value, IntValueNode):
                    return int(argument.value.value)
                if isinstance(argument.value, ListValueNode):
                    return argument.value.values
        return None

    def _fields(
        self, selections: SelectionSetNode, kind: GraphQLCompositeType
    ) -> Iterator[tuple[GraphQLCompositeType, FieldNode, GraphQLField]]:
        """(type it's asked of, field as asked, field as defined), fragments spread out."""
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                field = kind.fields.get(selection.name.value) if hasattr(kind, "fields") else None
                if field is not None:
                    yield kind, selection, field
                continue
            inner: InlineFragmentNode | FragmentDefinitionNode | None = None
            if isinstance(selection, FragmentSpreadNode):
                inner = self._fragments[selection.name.value]
            elif isinstance(selection, InlineFragmentNode):
                inner = selection
            if inner is not None:
                condition = inner.type_condition
                narrowed = self._schema.type_map[condition.name.value] if condition else kind
                assert isinstance(narrowed, _Composite)
                yield from self._fields(inner.selection_set, narrowed)
