"""The shop itself: what it holds, and one change after another. Pure: methods take `now`.

State is kept as REST bodies, the form that webhooks carry; the Admin API's views derive from it. Every choice comes from
one `random.Random(seed)`; only the times come from `now`.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from hooktape.local.shop import bodies
from hooktape.local.shop.acts import ACTS, ALLOWED, MAKE, News
from hooktape.local.shop.store import FIRST_PLACE, GID, PLACES, Resource, Shelf, Stock, level_id
from hooktape.schemas import samples

Body = dict[str, Any]
API_VERSION = "2026-04"
_MICRO = 1_000_000
ENDS = ("delete", "disconnect")
"""Last words of the topics that tell of a deletion."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each act happens, as weights. An act on what isn't there yet becomes a creation.

    With a weight on anything below `customer_delete` the shop is a whole one: it has locations, its goods have stock, its
    orders have payments and work to do, and an act's webhooks are all those that Shopify sends of it.
    """

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
    order_fulfil: float = 0
    order_refund: float = 0
    order_return: float = 0
    return_close: float = 0
    fulfillment_update: float = 0
    fulfillment_order_hold: float = 0
    fulfillment_order_release: float = 0
    product_touch: float = 0
    product_remove_variant: float = 0
    collection_create: float = 0
    collection_update: float = 0
    collection_delete: float = 0
    draft_order_create: float = 0
    draft_order_update: float = 0
    draft_order_complete: float = 0
    draft_order_delete: float = 0
    inventory_item_update: float = 0
    inventory_level_update: float = 0
    inventory_level_disconnect: float = 0
    location_create: float = 0
    location_update: float = 0
    location_deactivate: float = 0
    location_activate: float = 0
    location_delete: float = 0
    discount_create: float = 0
    discount_update: float = 0
    discount_delete: float = 0
    company_create: float = 0
    company_update: float = 0
    company_delete: float = 0
    company_location_create: float = 0
    company_location_update: float = 0
    company_location_delete: float = 0
    theme_create: float = 0
    theme_update: float = 0
    theme_publish: float = 0
    theme_edit_files: float = 0
    theme_delete: float = 0
    segment_create: float = 0
    segment_update: float = 0
    segment_delete: float = 0
    subscription_contract_create: float = 0
    subscription_contract_update: float = 0
    subscription_contract_pause: float = 0
    subscription_contract_activate: float = 0
    subscription_contract_end: float = 0
    subscription_contract_bill: float = 0


_PLAIN = Mix.__slots__.index("customer_delete") + 1
DELETING = Mix(order_delete=1, product_delete=2, customer_delete=1)
"""The usual mix with about one deletion in 25 changes."""
_RARE = ("_delete", "_disconnect", "_deactivate", "_activate", "location_create")
WHOLE = Mix(**{name: getattr(Mix(), name) or (0.5 if name.endswith(_RARE) else 4) for name in Mix.__slots__})
"""Everything that the shop can do, deletions of each kind among it."""
# The act that changes a resource once more. The other kinds are written once, or know only steps of their own.
_AGAIN = {kind: f"{kind}_update" for kind in GID if f"{kind}_update" in ACTS}
# An order needs somebody to buy it and something to buy; goods of a whole shop lie somewhere.
_NEEDS = {"order": ("location", "customer", "product"), "draft_order": ("customer", "product"), "product": ("location",),
          "company_location": ("company",), "subscription_contract": ("customer",)}  # fmt: skip
# Webhook bodies without a version: Shopify's have no `updated_at`; or one that is the creation.
_UNVERSIONED, _WRITTEN_ONCE = ("fulfillment_order", "return", "subscription_contract"), ("refund", "order_transaction")
SUBJECTS = {"order": "ORDER", "product": "PRODUCT", "customer": "CUSTOMER", "collection": "COLLECTION", "draft_order": "DRAFT_ORDER",
            "variant": "PRODUCT_VARIANT", "discount": "DISCOUNT_CODE_NODE", "company": "COMPANY",
            "company_location": "COMPANY_LOCATION"}  # fmt: skip
"""Kinds whose deletion is among the Admin API's `events`, and their names there."""


@dataclass(frozen=True, slots=True)
class Change:
    """One webhook of a change. `version` is the body's `updated_at` in microseconds since the epoch (None where it has none);
    `state` the Admin API's `updatedAt` at that time, likewise; `triggered_at` has Shopify's nine fractional digits. Every
    copy and every retry carries the same ids and the same bytes."""

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
    state: int = 0

    @property
    def deleted(self) -> bool:
        return self.topic.rpartition("/")[2] in ENDS

    @property
    def repeatable(self) -> bool:
        """Whether the same resource can be changed once more."""
        return not self.deleted and self.resource.partition("/")[0] in _AGAIN


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
        self.shelves = {kind: Shelf(kind) for kind in GID}
        self.destroyed: list[Destroyed] = []
        self.ties = ties
        self.seed, self._rng = seed, Random(seed)
        mix = mix or Mix()
        self._acts = mix.__slots__
        self._weights = [getattr(mix, act) for act in self._acts]
        self.whole = any(self._weights[_PLAIN:])
        self._number, self._now = 0, 0.0
        self._last_id = {"order": 5_820_000_000_000, "product": 8_140_000_000_000, "customer": 7_260_000_000_000}
        self._made: dict[str, int] = defaultdict(int)
        self.bought: dict[int, list[Resource]] = defaultdict(list)
        """Customer's id → their orders, but for the stock's."""
        self._children: dict[str, list[Resource]] = defaultdict(list)
        self._untold: deque[Change] = deque()

    @property
    def untold(self) -> int:
        """Webhooks of past acts that `change` has yet to return."""
        return len(self._untold)

    def change(self, now: float, again: Resource | None = None, keep: frozenset[str] = frozenset()) -> Change:
        """The next webhook: of the last act, or of one that happens at `now` (seconds since the epoch).

        `again` has that resource updated; those named in `keep` are left alone.
        """
        if again is None and self._untold:
            return self._untold.popleft()
        told: list[Change] = []
        while not told:
            told = [self._webhook(topic, resource) for topic, resource in self._act(now, again, keep)]
        self._untold.extend(told[1:])
        return told[0]

    def stock(self, orders: int, start: int, end: int) -> None:
        """Fills the shop with so many orders made between `start` and `end` (seconds since the epoch), and webhooks of none.

        They take 8 bytes each until they're touched. To be called once, before any change.
        """
        self._now = start
        for act in ["customer_create"] * 40 + ["product_create"] * 20:
            for _ in MAKE[act](self, self._rng, start):
                pass
        first = self._last_id["order"] + 1
        stocked = Stock(self.seed, orders, start, end, first, *([one.body for one in self.live(kind)] for kind in ("customer", "product")))
        self.shelves["order"].stock = stocked
        self._last_id["order"] = stocked.number(orders)
        self._made["order"] = orders

    def get(self, resource: str) -> Resource | None:
        """The live resource of that name (`order/123`); None where there is none or it was deleted."""
        kind, _, number = resource.partition("/")
        if kind == "inventory_level":
            item, _, place = number.partition("-")
            known = item.isdecimal() and place.isdecimal() and 0 <= int(place) - FIRST_PLACE < PLACES
            return self.get_id(kind, level_id(int(item), int(place))) if known else None
        return self.get_id(kind, int(number)) if kind in self.shelves and number.isdecimal() else None

    def get_id(self, kind: str, number: int) -> Resource | None:
        """The live resource of that kind and id."""
        return self.shelves[kind].get(number)

    def live(self, kind: str) -> list[Resource]:
        """The live resources of a kind, in order of id."""
        return list(self.shelves[kind].find())

    def children(self, parent: Resource, kind: str) -> list[Resource]:
        """The live resources of a kind that belong to this one, oldest first."""
        return [child for child in self._children.get(parent.name, ()) if child.kind == kind and child.deleted is None]

    def below(self, parent: Resource) -> list[Resource]:
        """All live resources that go when this one goes."""
        children = [child for child in self._children.get(parent.name, ()) if child.deleted is None]
        if parent.kind == "location":
            children += [level for level in self.live("inventory_level") if FIRST_PLACE + level.id % PLACES == parent.id]
        return children + [below for child in children for below in self.below(child)]

    def destroyed_until(self, at: float) -> Iterator[Destroyed]:
        """The deletions that `events` tells of, up to `at`."""
        return (one for one in self.destroyed if one.when <= at)

    # ── what acts do ────────────────────────────────────────────────────────────────────────────────────────────────
    def next_id(self, kind: str, rng: Random) -> int:
        """An id above all of its kind; `hold` is a kind too."""
        base = 1_000_000_000_000 + 40_000_000_000 * [*GID, "hold"].index(kind)
        number = self._last_id[kind] = self._last_id.get(kind, base) + rng.randrange(32_768, 1_000_000)
        return number

    def made(self, kind: str) -> int:
        """How many of a kind there ever were."""
        return self._made[kind]

    def any(self, kind: str, rng: Random) -> Resource:
        """Some live resource of a kind; there must be one."""
        shelf = self.shelves[kind]
        while True:
            if found := shelf.at(rng.choice(range(shelf.places))):
                return found

    def add(self, kind: str, number: int, body: Body, at: int, parent: str = "") -> Resource:
        resource = Resource(kind, number, body, at, at, parent)
        resource.seen.append((self._now, at))
        self.shelves[kind].add(resource)
        self._made[kind] += 1
        if kind == "order":
            self.bought[body["customer"]["id"]].append(resource)
        if parent:
            self._children[parent].append(resource)
        return resource

    def touch(self, resource: Resource, at: int) -> None:
        """Moves `updated` on, after its body was changed."""
        self.shelves[resource.kind].change(resource, at)
        if "lastEditDate" in resource.body:
            resource.body["lastEditDate"] = samples.millis(resource.updated)
        else:
            resource.body["updated_at" if "updated_at" in resource.body else "_updated_at"] = samples.stamp(resource.updated)
        resource.seen.append((self._now, resource.updated))

    def remove(self, resource: Resource, at: int) -> None:
        self.shelves[resource.kind].remove(resource, at)
        if resource.kind in SUBJECTS:
            number = len(self.destroyed) + 164_000_000_001
            self.destroyed.append(Destroyed(number, at, resource.kind, resource.id, self._now))

    def _act(self, now: float, again: Resource | None, keep: frozenset[str]) -> News:
        self._now = now
        act = self._rng.choices(self._acts, self._weights)[0]
        draw, tie = self._rng.random(), self._rng.random() < self.ties
        target = again
        if again is not None:
            act = _AGAIN[again.kind]
        elif act not in MAKE:
            target = self._target(act, draw, int(now), tie, keep)
        if target is None:
            return MAKE[f"{self._first_needed(act)}_create"](self, self._rng, int(now))
        # A clock that steps back must not take `updated_at` with it: Shopify's never goes back.
        return ACTS[act](self, self._rng, target, max(int(now), target.updated))

    def _target(self, act: str, draw: float, second: int, tie: bool, keep: frozenset[str]) -> Resource | None:
        shelf, allowed = self.shelves[_kind(act)], ALLOWED.get(act)
        first = int(draw * shelf.places)
        # One draw whatever the clock says: only which neighbour is taken depends on the time, never the fates that follow.
        for step in range(shelf.places):
            resource = shelf.at((first + step) % shelf.places)
            if resource is None or not (tie or resource.updated < second) or resource.name in keep:
                continue
            if allowed is None or allowed(resource):
                return resource
        return None

    def _first_needed(self, act: str) -> str:
        """The kind to make so that the act can happen."""
        kind = _kind(act)
        kind = kind if f"{kind}_create" in MAKE else {"inventory_item": "product", "inventory_level": "product"}.get(kind, "order")
        for needed in _NEEDS.get(kind, ()):
            if not len(self.shelves[needed]) and (self.whole or needed != "location"):
                return self._first_needed(f"{needed}_create")
        return kind

    def tell(self, topic: str, name: str, gid: str, body: Body, now: float) -> Change:
        """A webhook of something that isn't among the resources, as the end of a bulk operation."""
        self._now = now
        return self._told(topic, name, gid, body, None, 0)

    def _webhook(self, topic: str, resource: Resource) -> Change:
        deleted = topic.rpartition("/")[2] in ENDS
        body = _last_words(resource) if deleted else bodies.plain(resource.body)
        stamped = resource.created if resource.kind in _WRITTEN_ONCE else resource.updated
        unversioned = resource.kind in _UNVERSIONED or (deleted and "updated_at" not in body)
        return self._told(topic, resource.name, resource.gid, body, None if unversioned else stamped, resource.updated)

    def _told(self, topic: str, name: str, gid: str, body: Body, version: int | None, state: int) -> Change:
        self._number += 1
        return Change(
            number=self._number, shop=self.domain, topic=topic, resource=name, gid=gid,
            version=None if version is None else version * _MICRO, body=samples.encode(body),
            triggered_at=_nanos(self._now, self._rng.randrange(1000)),
            webhook_id=str(UUID(int=self._rng.getrandbits(128), version=4)),
            event_id=str(UUID(int=self._rng.getrandbits(128), version=4)), state=state * _MICRO,
        )  # fmt: skip


def _kind(act: str) -> str:
    """`fulfillment_order_hold` → `fulfillment_order`."""
    return max((kind for kind in GID if act.startswith(f"{kind}_")), key=len)


def _last_words(resource: Resource) -> Body:
    """What a deletion's webhook says."""
    if resource.kind == "inventory_level":
        return {key: resource.body[key] for key in ("inventory_item_id", "location_id")}
    if resource.kind in ("company", "company_location"):
        return bodies.plain(resource.body)
    return {"admin_graphql_api_id": resource.gid} if resource.kind == "discount" else {"id": resource.id}


def _nanos(now: float, below: int) -> str:
    whole, micro = divmod(round(now * _MICRO), _MICRO)
    return f"{samples.utc(whole)[:-1]}.{micro:06d}{below:03d}Z"
