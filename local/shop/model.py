"""The shop itself: its orders, products and customers, and one change after another. Pure: methods take `now`.

State is kept as REST bodies, the form that webhooks carry; the Admin API's views derive from it. Every choice comes from
one `random.Random(seed)`; only the times come from `now`.
"""

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from hooktape.schemas import samples

Body = dict[str, Any]
KINDS = ("order", "product", "customer")
GID = {"order": "Order", "product": "Product", "customer": "Customer"}
API_VERSION = "2026-04"
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each kind of change happens, as weights. A change of what isn't there yet becomes a creation."""

    order_create: float = 30
    order_update: float = 20
    order_paid: float = 8
    order_cancel: float = 2
    order_delete: float = 0
    product_create: float = 8
    product_update: float = 12
    product_delete: float = 0
    customer_create: float = 10
    customer_update: float = 10
    customer_delete: float = 0


DELETING = Mix(order_delete=1, product_delete=2, customer_delete=1)
"""The usual mix with about one deletion in 25 changes."""


@dataclass(slots=True)
class Resource:
    """One order, product or customer. Times in whole seconds since the epoch, as Shopify keeps `updated_at`."""

    kind: str
    id: int
    body: Body
    created: int
    updated: int
    deleted: int | None = None
    seen: list[tuple[float, int]] = field(default_factory=list)
    """(when it changed, its `updated`) for each change: what a search index that lags still shows."""

    @property
    def name(self) -> str:
        """`order/123`: as the tape names it."""
        return f"{self.kind}/{self.id}"

    @property
    def gid(self) -> str:
        return samples.gid(GID[self.kind], self.id)

    def indexed(self, at: float) -> int | None:
        """`updated` as an index that stands at `at` knows it; None: not indexed yet."""
        place = bisect.bisect_right(self.seen, at, key=lambda entry: entry[0])
        return self.seen[place - 1][1] if place else None


@dataclass(frozen=True, slots=True)
class Change:
    """One change and the webhook that tells of it. `version` is the resource's `updated_at` in microseconds since the epoch
    (None for a deletion, whose body has none); `triggered_at` has Shopify's nine fractional digits. Every copy and every
    retry carries the same ids and the same bytes."""

    number: int
    shop: str
    topic: str
    resource: str
    gid: str
    version: int | None
    body: bytes = field(repr=False)
    triggered_at: str
    webhook_id: str
    event_id: str
    api_version: str = API_VERSION


@dataclass(frozen=True, slots=True)
class Destroyed:
    """An entry of the Admin API's `events` for a deletion."""

    id: int
    at: int
    kind: str
    resource_id: int
    when: float


class Shop:
    """A shop that changes when told to. `clock` (seconds since the epoch) serves the Admin API's "now".

    `ties`: the share of updates that may strike a resource already changed in the same second. Shopify's `updated_at` has
    whole seconds, so that these two changes have one version; 0 keeps every change of a resource distinguishable.
    """

    def __init__(self, domain: str, seed: int, clock: Callable[[], float], mix: Mix | None = None, ties: float = 0.0) -> None:
        self.domain = domain
        self.clock = clock
        self.resources: dict[str, dict[int, Resource]] = {kind: {} for kind in KINDS}
        """All that ever was, deleted ones included, in order of id."""
        self.destroyed: list[Destroyed] = []
        self._rng = Random(seed)
        self._ties = ties
        mix = mix or Mix()
        self._kinds = mix.__slots__
        self._weights = [getattr(mix, kind) for kind in self._kinds]
        self._number = 0
        self._last_id = {"order": 5_820_000_000_000, "product": 8_140_000_000_000, "customer": 7_260_000_000_000}
        self._live: dict[str, list[int]] = {kind: [] for kind in KINDS}

    def change(self, now: float, again: Resource | None = None, keep: frozenset[str] = frozenset()) -> Change:
        """Creates, updates or deletes one resource at `now` (seconds since the epoch) and returns its webhook.

        `again` has that resource updated; those named in `keep` are left alone.
        """
        kind, _, action = self._rng.choices(self._kinds, self._weights)[0].partition("_")
        draw, tie = self._rng.random(), self._rng.random() < self._ties
        target: Resource | None
        if again is not None:
            kind, action, target = again.kind, "update", again
        else:
            target = None if action == "create" else self._target(kind, action, draw, int(now), tie, keep)
        if target is None:
            target, action = self._create(self._first_needed(kind), int(now)), "create"
        else:
            _ACTIONS.get(f"{kind}_{action}", _touch)(target.body, self._rng, max(int(now), target.updated))
            # A clock that steps back must not take `updated_at` with it: Shopify's never goes back.
            target.updated = max(int(now), target.updated)
            target.body["updated_at"] = samples.stamp(target.updated)
        if action == "delete":
            self._delete(target, now)
        else:
            target.seen.append((now, target.updated))
        return self._webhook(target, action, now)

    def get(self, resource: str) -> Resource | None:
        """The live resource of that name (`order/123`); None where there is none or it was deleted."""
        kind, _, number = resource.partition("/")
        found = self.resources.get(kind, {}).get(int(number)) if number.isdecimal() else None
        return found if found and found.deleted is None else None

    def live(self, kind: str) -> list[Resource]:
        """The live resources of a kind, in order of id."""
        return [resource for resource in self.resources[kind].values() if resource.deleted is None]

    def _target(self, kind: str, action: str, draw: float, second: int, tie: bool, keep: frozenset[str]) -> Resource | None:
        ids = self._live[kind]
        first = int(draw * len(ids))
        # One draw whatever the clock says: only which neighbour is taken depends on the time, never the fates that follow.
        for step in range(len(ids)):
            resource = self.resources[kind][ids[(first + step) % len(ids)]]
            distinct = tie or resource.updated < second
            if distinct and _allowed(action, resource.body) and resource.name not in keep:
                return resource
        return None

    def _first_needed(self, kind: str) -> str:
        """An order needs somebody to buy it and something to buy."""
        return next((needed for needed in ("customer", "product") if kind == "order" and not self._live[needed]), kind)

    def _create(self, kind: str, at: int) -> Resource:
        number = self._last_id[kind] = self._last_id[kind] + self._rng.randrange(32_768, 1_000_000)
        if kind == "order":
            buyer = self.resources["customer"][self._rng.choice(self._live["customer"])].body
            goods = [self.resources["product"][self._rng.choice(self._live["product"])].body]
            body = samples.order(self._rng, number, len(self.resources["order"]) + 1, at, buyer, goods)
        else:
            body = (samples.product if kind == "product" else samples.customer)(self._rng, number, at)
        resource = Resource(kind, number, body, at, at)
        self.resources[kind][number] = resource
        self._live[kind].append(number)
        return resource

    def _delete(self, resource: Resource, now: float) -> None:
        resource.deleted = int(now)
        self._live[resource.kind].remove(resource.id)
        self.destroyed.append(Destroyed(len(self.destroyed) + 164_000_000_001, int(now), resource.kind, resource.id, now))

    def _webhook(self, resource: Resource, action: str, now: float) -> Change:
        self._number += 1
        deleted = action == "delete"
        return Change(
            number=self._number, shop=self.domain, topic=_topic(resource.kind, action), resource=resource.name, gid=resource.gid,
            version=None if deleted else resource.updated * _MICRO,
            body=samples.encode({"id": resource.id} if deleted else resource.body),
            triggered_at=_nanos(now, self._rng.randrange(1000)),
            webhook_id=str(UUID(int=self._rng.getrandbits(128), version=4)),
            event_id=str(UUID(int=self._rng.getrandbits(128), version=4)),
        )  # fmt: skip


def _topic(kind: str, action: str) -> str:
    # Shopify's own unevenness: orders/updated, but products/update and customers/update.
    verb = {"update": "updated" if kind == "order" else "update", "cancel": "cancelled"}.get(action, action)
    return f"{kind}s/{verb}"


def _nanos(now: float, below: int) -> str:
    whole, micro = divmod(round(now * _MICRO), _MICRO)
    return f"{samples.utc(whole)[:-1]}.{micro:06d}{below:03d}Z"


def _allowed(action: str, body: Body) -> bool:
    if action in ("paid", "cancel"):
        return body["cancelled_at"] is None and body["financial_status"] == "pending"
    return True


def _touch(body: Body, rng: Random, at: int) -> None:
    """An edit by the merchant: a new note on an order or a customer, a new price and stock on a product."""
    if "variants" in body:
        variant = rng.choice(body["variants"])
        variant |= {
            "price": samples.price(rng.randint(900, 24_900)), "old_inventory_quantity": variant["inventory_quantity"],
            "inventory_quantity": rng.randint(0, 200), "updated_at": samples.stamp(at),
        }  # fmt: skip
    else:
        body["note"] = f"Checked & filed {rng.randrange(10**6):06d}/{at % 1000}"


def _paid(body: Body, rng: Random, at: int) -> None:
    body |= {"financial_status": "paid", "total_outstanding": "0.00"}


def _cancel(body: Body, rng: Random, at: int) -> None:
    body |= {"cancelled_at": samples.stamp(at), "closed_at": samples.stamp(at), "cancel_reason": "customer",
             "financial_status": "voided"}  # fmt: skip


_ACTIONS: dict[str, Callable[[Body, Random, int], None]] = {"order_paid": _paid, "order_cancel": _cancel}
