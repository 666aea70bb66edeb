"""What can be reconciled, as data: one row per family of topics. A further family is a further row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hooktape.errors import UsageError
from hooktape.reconciler import bodies, queries
from hooktape.schemas import topics as shopify
from hooktape.schemas.resources import gid_number

# Of a query that asks for several bodies: half of what Shopify allows a single query (1,000 points), so that with the smallest
# bucket seen in the wild (1,000) half of it suffices.
QUERY_POINTS = 500
NODES_AT_ONCE = 250
"""Most ids that `nodes(ids:)` takes (shopify.dev/docs/api/usage/limits)."""


@dataclass(frozen=True, slots=True)
class Family:
    """The topics of one kind of resource, and how the Admin API tells of it."""

    name: str
    """First word of its topics, and the connection's name in the API."""
    kind: str
    """Type in the tape's names: `order/1`."""
    gid_type: str
    create: str
    update: str
    delete: str
    list_query: str
    count_query: str
    body_query: str
    points: int
    """Most that one body of `body_query` costs, by the published rules."""
    body: bodies.Mapper
    digest: tuple[str, ...]
    """Members of the body that, with the version, tell one state from another: `updated_at` has whole seconds only."""
    nested: str = ""
    """Connection inside a body that may be longer than one page, and the query for the rest of it."""
    nested_query: str = ""
    nested_points: int = 0
    optional: Mapping[str, str] = field(default_factory=dict)
    """Variable of the body's query → scope: the part is asked for only where the app may read it."""
    whole_days: bool = False
    """The API documents the filter as one of days: ask for whole days on both sides, and filter here."""
    horizon: tuple[str, int] | None = None
    """(scope, days): without that scope nothing older is shown, so that nothing older can be judged."""
    subject: str = ""
    """Its name among the subjects of `events`, where those are known to tell of its deletions; else only the sweep finds them."""
    swept: bool = True
    """Its list shows every live resource by ascending id, so that what it lacks may be deleted."""
    unchecked: Mapping[str, str] = field(default_factory=dict)
    """Topic → why a comparison of states can't tell whether it was missed."""

    @property
    def topics(self) -> tuple[str, ...]:
        """All of Shopify's topics of the family."""
        return tuple(topic for topic in shopify.table() if topic.startswith(f"{self.name}/"))

    @property
    def count_name(self) -> str:
        """The count's field in the API; `count_query` is empty where it has none."""
        return f"{self.name}Count"

    @property
    def batch(self) -> int:
        """Bodies per query."""
        return min(NODES_AT_ONCE, QUERY_POINTS // self.points)

    def resource(self, gid: str) -> str:
        """`gid://shopify/Order/1` → `order/1`."""
        return f"{self.kind}/{gid_number(gid)}"

    def gid(self, resource: str) -> str:
        """`order/1` → `gid://shopify/Order/1`."""
        return f"gid://shopify/{self.gid_type}/{resource.partition('/')[2]}"

    def readable(self, scopes: frozenset[str]) -> bool:
        """Whether an app with these scopes may list the family."""
        return may_read(scopes, self.name)

    def variables(self, scopes: frozenset[str], query: str) -> dict[str, Any]:
        """The variables of `query` that say which optional parts to ask for."""
        return {name: may_read(scopes, scope) for name, scope in self.optional.items() if f"${name}:" in query}


def may_read(scopes: frozenset[str], what: str) -> bool:
    """Whether `read_…` or `write_…` is granted."""
    return f"read_{what}" in scopes or f"write_{what}" in scopes


_SAME_STATE = "it tells of a step between two states; only the newest state is compared"

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "orders", "order", "Order", "orders/create", "orders/updated", "orders/delete",
            queries.ORDERS, queries.ORDERS_COUNT, queries.ORDER_BODIES, 140, bodies.order,
            ("name", "financial_status", "fulfillment_status", "cancelled_at", "closed_at", "note", "tags"),
            "lineItems", queries.ORDER_LINES, 460, {"customers": "customers", "products": "products"},
            horizon=("read_all_orders", 60),
            unchecked={
                "orders/edited": _SAME_STATE,
                "orders/risk_assessment_changed": "it doesn't touch the order's updated_at",
                "orders/shopify_protect_eligibility_changed": "it doesn't touch the order's updated_at",
                "orders/link_requested": "it isn't part of an order's state",
            },
        ),
        Family(
            "products", "product", "Product", "products/create", "products/update", "products/delete",
            queries.PRODUCTS, queries.PRODUCTS_COUNT, queries.PRODUCT_BODIES, 80, bodies.product,
            ("title", "handle", "status", "vendor", "product_type", "body_html", "tags"),
            "variants", queries.PRODUCT_VARIANTS, 310, {"inventory": "inventory"},
            subject="PRODUCT",
        ),
        Family(
            "customers", "customer", "Customer", "customers/create", "customers/update", "customers/delete",
            queries.CUSTOMERS, queries.CUSTOMERS_COUNT, queries.CUSTOMER_BODIES, 6, bodies.customer,
            ("email", "first_name", "last_name", "state", "note", "phone"),
            whole_days=True,
            unchecked={
                "customers/merge": _SAME_STATE,
                "customers/purchasing_summary": "it doesn't touch the customer's updated_at",
                "customers/data_request": "the Admin API shows no compliance request",
                "customers/redact": "the Admin API shows no compliance request",
            },
        ),
    )
}  # fmt: skip
"""Every family by its name."""


def of_topic(topic: str) -> Family:
    """The family that a Shopify topic belongs to. Raises UsageError when it can't be reconciled."""
    family = FAMILIES.get(topic.partition("/")[0])
    if family is None:
        raise UsageError(f"{topic} can't be reconciled; what can be: {', '.join(f'{name}/*' for name in FAMILIES)}.")
    if topic in family.unchecked:
        raise UsageError(f"{topic} can't be reconciled: {family.unchecked[topic]}.")
    return family
