"""Where a shop keeps what it holds: by id, by `updated_at`, and, for a shop of a million orders, as a seed.

`Stock` is many orders that nobody has touched since: 8 bytes each, their bodies made from the seed when they're read.
`Shelf` is one kind of resource: a stock, if there is one, under whatever was made or changed since.
"""

import bisect
from array import array
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from hooktape.schemas import samples

Body = dict[str, Any]
GID = {
    "order": "Order", "product": "Product", "customer": "Customer", "refund": "Refund", "fulfillment": "Fulfillment",
    "order_transaction": "OrderTransaction", "return": "Return", "fulfillment_order": "FulfillmentOrder",
    "variant": "ProductVariant", "collection": "Collection", "draft_order": "DraftOrder", "inventory_item": "InventoryItem",
    "inventory_level": "InventoryLevel", "location": "Location", "discount": "DiscountCodeNode",
    "company": "Company", "company_location": "CompanyLocation", "theme": "OnlineStoreTheme",
    "segment": "Segment", "subscription_contract": "SubscriptionContract",
}  # fmt: skip
"""Every kind of resource, as the tape's names say it, and its type in global ids."""
PLACES = 64
"""Most locations of a shop. A level's id is its item's, times this, plus its location's place: it belongs to the pair."""
FIRST_PLACE = 91_000_000_000
NARROW = 20_000
"""A window of so many rows is sorted; a wider one is walked in order of id, where most rows are hits anyway."""
EVER = (0, 2**40)
"""The window of all seconds."""
Window = tuple[int, int]
"""First and last second, both inside."""


class Resource:
    """One thing that the shop holds. Times in whole seconds since the epoch, as Shopify keeps `updated_at`."""

    __slots__ = ("_body", "_make", "created", "deleted", "id", "kind", "parent", "seen", "updated")

    def __init__(
        self, kind: str, number: int, body: Body | None, created: int, updated: int, parent: str = "",
        make: Callable[[], Body] | None = None,
    ) -> None:  # fmt: skip
        self.kind, self.id, self.created, self.updated, self.parent = kind, number, created, updated, parent
        self.deleted: int | None = None
        self.seen: list[tuple[float, int]] = []
        """(when it changed, its `updated`) for each change: what a search index that lags still shows."""
        self._body, self._make = body, make

    @property
    def body(self) -> Body:
        """Its REST body, made when first asked for."""
        if self._body is None:
            assert self._make is not None
            self._body = self._make()
        return self._body

    @property
    def name(self) -> str:
        """`order/123`: as the tape names it."""
        if self.kind == "inventory_level":
            return f"inventory_level/{self.id // PLACES}-{FIRST_PLACE + self.id % PLACES}"
        return f"{self.kind}/{self.id}"

    @property
    def gid(self) -> str:
        if self.kind == "inventory_level":
            return f"gid://shopify/InventoryLevel/{FIRST_PLACE + self.id % PLACES}?inventory_item_id={self.id // PLACES}"
        return samples.gid(GID[self.kind], self.id)

    def indexed(self, at: float) -> int | None:
        """`updated` as an index that stands at `at` knows it; None: not indexed yet."""
        if not self.seen:
            return self.updated if self.updated <= at else self.created if self.created <= at else None
        place = bisect.bisect_right(self.seen, at, key=lambda entry: entry[0])
        return self.seen[place - 1][1] if place else None


def level_id(item: int, location: int) -> int:
    """The id under which the level of this item at this location is kept."""
    return item * PLACES + location - FIRST_PLACE


class Stock:
    """`count` orders made between `start` and `end` (seconds since the epoch), evenly; every fourth was changed later on."""

    STRIDE = 611

    def __init__(self, seed: int, count: int, start: int, end: int, first: int, buyers: list[Body], goods: list[Body]) -> None:
        self._seed, self.count, self._first, self._start, self._end = seed, count, first, start, end
        self._buyers, self._goods = buyers, goods
        rng = Random(f"{seed}/stock")
        self.updated = array("I", (self.created(place) if rng.random() < 0.75 else min(end, self.created(place) + rng.randrange(1, 86_400))
                                   for place in range(count)))  # fmt: skip
        self.order = array("I", sorted(range(count), key=self.updated.__getitem__))

    def created(self, place: int) -> int:
        return self._start + place * (self._end - self._start) // self.count

    def number(self, place: int) -> int:
        return self._first + place * self.STRIDE

    def place(self, number: int) -> int | None:
        """Which of the stock has this id; None: none of it."""
        place, rest = divmod(number - self._first, self.STRIDE)
        return place if not rest and 0 <= place < self.count else None

    def get(self, place: int) -> Resource:
        number, created, updated = self.number(place), self.created(place), self.updated[place]

        def body() -> Body:
            rng = Random(f"{self._seed}/{place}")
            made = samples.order(rng, number, place + 1, created, rng.choice(self._buyers), [rng.choice(self._goods)])
            return made | {"updated_at": samples.stamp(updated)}

        return Resource("order", number, None, created, updated, make=body)

    def span(self, window: Window) -> tuple[int, int]:
        """Where in `order` the rows begin and end whose `updated` is in the window."""
        key = self.updated.__getitem__
        return bisect.bisect_left(self.order, window[0], key=key), bisect.bisect_right(self.order, window[1], key=key)


class Shelf:
    """All live resources of one kind, in order of id and by `updated`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.stock: Stock | None = None
        self._kept: dict[int, Resource] = {}
        """What was made or touched since, deleted ones included."""
        self._made: list[int] = []
        self._by_update: list[tuple[int, int]] = []
        self._lifted: list[int] = []
        """`updated` in the stock's own index of those that were touched or deleted since: it still has them."""
        self._gone = 0

    def __len__(self) -> int:
        return (self.stock.count if self.stock else 0) + len(self._made) - self._gone

    def get(self, number: int) -> Resource | None:
        """The live resource of that id."""
        kept = self._kept.get(number)
        if kept is not None:
            return kept if kept.deleted is None else None
        place = self.stock.place(number) if self.stock else None
        return None if place is None or self.stock is None else self.stock.get(place)

    def at(self, place: int) -> Resource | None:
        """The `place`-th of the stock and what came after it; None where it was deleted from the stock."""
        stocked = self.stock.count if self.stock else 0
        return self.get(self.stock.number(place)) if self.stock and place < stocked else self.get(self._made[place - stocked])

    @property
    def places(self) -> int:
        """How many `at` knows."""
        return (self.stock.count if self.stock else 0) + len(self._made)

    def add(self, resource: Resource) -> None:
        self._kept[resource.id] = resource
        bisect.insort(self._made, resource.id)
        bisect.insort(self._by_update, (resource.updated, resource.id))

    def change(self, resource: Resource, second: int) -> None:
        """Sets `updated` to `second`, or leaves it where it's later: a clock that steps back doesn't take it along."""
        if resource.id in self._kept:
            old = bisect.bisect_left(self._by_update, (resource.updated, resource.id))
            del self._by_update[old]
        else:
            self._kept[resource.id] = resource
            resource.seen.append((resource.updated, resource.updated))
            bisect.insort(self._lifted, resource.updated)
        resource.updated = max(second, resource.updated)
        bisect.insort(self._by_update, (resource.updated, resource.id))

    def remove(self, resource: Resource, second: int) -> None:
        self.change(resource, resource.updated)
        resource.deleted = second
        if self.stock and self.stock.place(resource.id) is not None:
            self._gone += 1
        else:
            del self._made[bisect.bisect_left(self._made, resource.id)]
        del self._by_update[bisect.bisect_left(self._by_update, (resource.updated, resource.id))]

    def count(self, window: Window) -> int:
        """How many live resources have an `updated` in the window."""
        low, high = self._kept_span(window)
        found = high - low
        if self.stock:
            begin, end = self.stock.span(window)
            found += end - begin - bisect.bisect_right(self._lifted, window[1]) + bisect.bisect_left(self._lifted, window[0])
        return found

    def find(self, window: Window = EVER, at: float | None = None, after: int = -1) -> Iterator[Resource]:
        """The live resources in the window, and with `at` all changed since too, in order of id from the first above `after`.

        Whoever lags behind must see both: what changed since may have been in the window at `at`.
        """
        windows = [window] if at is None else [window, (int(at), EVER[1])]
        if sum(self.count(one) for one in windows) <= NARROW:
            ids = sorted({number for one in windows for number in self._numbers(one) if number > after})
            yield from filter(None, map(self.get, ids))
            return
        if self.stock:
            first = max(0, (after - self.stock.number(0)) // Stock.STRIDE + 1)
            for place in range(first, self.stock.count):
                kept = self._kept.get(self.stock.number(place))
                updated = self.stock.updated[place] if kept is None else kept.updated
                if (kept is None or kept.deleted is None) and any(low <= updated <= high for low, high in windows):
                    yield kept or self.stock.get(place)
        for number in self._made[bisect.bisect_right(self._made, after):]:
            if any(low <= self._kept[number].updated <= high for low, high in windows):
                yield self._kept[number]

    def _kept_span(self, window: Window) -> tuple[int, int]:
        return (bisect.bisect_left(self._by_update, (window[0], -1)),
                bisect.bisect_right(self._by_update, (window[1], 2**62)))  # fmt: skip

    def _numbers(self, window: Window) -> Iterator[int]:
        low, high = self._kept_span(window)
        yield from (number for _, number in self._by_update[low:high])
        if self.stock:
            begin, end = self.stock.span(window)
            numbers = map(self.stock.number, self.stock.order[begin:end])
            yield from (number for number in numbers if number not in self._kept)
