"""A shop whose lost webhooks a flawless reconciler has recorded, and plants of what another might do."""

from hooktape.local.soak.history import Change, Fault, History, Post, Record
from tests.soak.histories import Plant
from tests.soak.planting import change, swap

SHOP = "lossy.myshopify.com"
GRACE = 4.0
_BASE, _LOG = 50.0, "log.orders"


class Shop:
    """Writes into a history what a shop did and what came of it."""

    def __init__(self, history: History) -> None:
        self.history, self.offset = history, len(history.records)
        history.facts = change(history.facts, grace=GRACE)

    def change(self, topic: str, order: int, version: int | None, at: float, *, after: float | None = 0.1) -> Change:
        """A change at `at`, whose webhook is on the tape so long after it; None: it's dropped."""
        made = Change(f"s{len(self.history.changes)}", topic, f"order/{order}", version, at, "dropped" if after is None else "sent")
        self.history.changes.append(made)
        if after is not None:
            lane = f"{SHOP}/order/{order}"
            self.history.posts.append(Post(made.wid, SHOP, topic, lane, made.resource, version or 0, made.wid, at, at + after, 200))
            self.record(made.wid, topic, made.resource, version, at + after)
        return made

    def record(self, wid: str, topic: str, resource: str, version: int | None, at: float, source: str = "webhook",
               received: int = 0) -> None:  # fmt: skip
        self.offset += 1
        self.history.records.append(Record("log", _LOG, 0, self.offset, at, wid, SHOP, topic, wid, f"{SHOP}/{resource}", source,
                                           resource=resource, version=version, received=received or round(at * 1e6)))  # fmt: skip

    def found(self, of: Change, after: float = GRACE + 1, version: int | None = None) -> None:
        """The reconciler's event for a change, so long after it; of a step, with the newest `version`."""
        self.record(f"r-{of.wid}", of.topic, of.resource, version or of.version, of.at + after, "reconciler")


def with_shop(history: History) -> History:
    """The same with a shop's five lost webhooks: two states, two steps of what changed again, a deletion."""
    shop = Shop(history)
    for order in range(1, 30):
        shop.change("orders/updated", order, 1_000_000 * order, _BASE + order / 10)
    later = _BASE + 4
    shop.found(shop.change("orders/updated", 1, 50_000_000, later, after=None))
    shop.found(shop.change("orders/paid", 2, 51_000_000, later, after=None))
    for order in (3, 4):
        step = shop.change("orders/cancelled", order, 52_000_000, later, after=None)
        shop.change("orders/updated", order, 54_000_000, later + 2)
        shop.found(step, version=54_000_000)
    shop.found(shop.change("orders/delete", 5, None, later, after=None))
    return history


def own(history: History, topic: str) -> Record:
    """The reconciler's first event of that topic."""
    return next(r for r in history.records if r.source == "reconciler" and r.topic == topic)


def without(topic: str) -> Plant:
    def plant(history: History) -> None:
        history.records.remove(own(history, topic))

    plant.__name__ = f"without_the_event_of_{topic.replace('/', '_')}"
    return plant


def recorded_again(history: History) -> None:
    event = own(history, "orders/updated")
    history.records.append(change(event, offset=9_000, at=event.at + 1))


def recorded_under_another_id(history: History) -> None:
    event = own(history, "orders/cancelled")
    history.records.append(change(event, offset=9_000, at=event.at + 1, wid="r-other"))


def deleted_twice(history: History) -> None:
    event = own(history, "orders/delete")
    history.records.append(change(event, offset=9_000, at=event.at + 1, wid="r-other"))


def invented(history: History) -> None:
    event = own(history, "orders/updated")
    swap(history.records, event, change(event, version=60_000_000))


def too_soon(history: History) -> None:
    event = own(history, "orders/updated")
    swap(history.records, event, change(event, at=event.at - GRACE + 1))


def false(history: History) -> None:
    webhook = next(r for r in history.records if r.resource == "order/9")
    history.records.append(change(webhook, wid="r-9", source="reconciler", offset=9_000, at=webhook.at + 20))


def false_deletion(history: History) -> None:
    shop = Shop(history)
    shop.found(shop.change("orders/delete", 9, None, _BASE + 10), after=20)


def false_at_once(history: History) -> None:
    """Its webhook came in time, and the reconciler's last look was before: it didn't wait."""
    webhook = next(r for r in history.records if r.resource == "order/9")
    swap(history.records, webhook, change(webhook, at=webhook.at + GRACE - 1.5))
    history.records.append(change(webhook, wid="r-9", source="reconciler", offset=9_000, at=webhook.at + GRACE + 1))


SHOP_PLANTS: list[tuple[str, Plant]] = [
    ("missed", without("orders/updated")), ("missed", without("orders/paid")), ("missed", without("orders/delete")),
    ("missed-step", without("orders/cancelled")), ("recorded-twice", recorded_again), ("recorded-twice", recorded_under_another_id),
    ("recorded-twice", deleted_twice), ("invented", invented), ("too-soon", too_soon), ("false", false), ("false", false_deletion),
    ("false", false_at_once),
]  # fmt: skip


def late(history: History, by: float) -> Fault | None:
    """The webhook of the first lost state comes after all, `by` seconds after its event."""
    event = own(history, "orders/updated")
    lost = next(c for c in history.changes if f"r-{c.wid}" == event.wid)
    at = event.at + by
    history.posts.append(Post(lost.wid, SHOP, lost.topic, event.key, lost.resource, lost.version or 0, lost.wid, at - 0.1, at, 200))
    history.records.append(change(event, wid=lost.wid, source="webhook", sha=lost.wid, offset=9_000, at=at))
    return None
