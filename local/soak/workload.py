"""What is posted, and how the handlers fare with it: both by seed alone, so that whoever knows the seed knows them. Pure."""

import hashlib
import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hooktape.local.soak.history import Handler
from hooktape.schemas import resources
from hooktape.schemas.event import Event

GROUP = "soak"
SHOPS = tuple(f"soak-{name}.myshopify.com" for name in ("north", "south", "east"))
MAX_ATTEMPTS = 6
"""Three in the lane and one at each retry delay."""
DELAYS = (0.5, 1.0, 2.0)
"""Shopify's hours as seconds: the chain of an event that dies is over in under five."""
RESOURCES = 24
"""Of each kind in each shop: few, so that an event often has another of its own lane right behind it."""

ORDERS, SHIPPING, PRODUCTS, CUSTOMERS, STOCK = (
    "orders/updated", "fulfillments/update", "products/update", "customers/update", "inventory_items/update")  # fmt: skip
TOPICS = (ORDERS, SHIPPING, PRODUCTS, CUSTOMERS, STOCK)
KINDS = len(SHOPS) * len(TOPICS)
"""Of resources, by shop and topic."""
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


SHOP_TOPICS = tuple(f"{kind}/{word}" for kind, words in (
    ("orders", ("create", "updated", "paid", "cancelled", "delete")), ("products", ("create", "update", "delete")),
    ("customers", ("create", "update", "delete"))) for word in words)  # fmt: skip
"""What the local shop sends of, and a reconciler compares."""


def handlers(ledger: str, shop: bool = False) -> list[Handler]:
    """The handlers under test, of these webhooks or of the local `shop`'s. With the ledger on PostgreSQL, stock (customers, of the
    shop) is booked in the ledger's own transaction, if events offer one."""
    booked = ledger == "postgresql" and hasattr(Event, "transaction")
    if shop:
        orders, products, customers = (tuple(t for t in SHOP_TOPICS if t.startswith(of)) for of in ("orders", "products", "customers"))
        return [
            Handler(GROUP, "order", orders, max_attempts=MAX_ATTEMPTS),
            Handler(GROUP, "product", products, skip_stale=True, max_attempts=MAX_ATTEMPTS),
            Handler(GROUP, "stock", customers, transactional=booked, max_attempts=MAX_ATTEMPTS),
        ]
    return [
        Handler(GROUP, "order", (ORDERS,), max_attempts=MAX_ATTEMPTS),
        Handler(GROUP, "ship", (SHIPPING,), max_attempts=MAX_ATTEMPTS),
        Handler(GROUP, "product", (PRODUCTS,), skip_stale=True, max_attempts=MAX_ATTEMPTS),
        Handler(GROUP, "customer", (CUSTOMERS,), ordered=False, max_attempts=MAX_ATTEMPTS),
        Handler(GROUP, "stock", (STOCK,), transactional=booked, max_attempts=MAX_ATTEMPTS),
    ]


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook as Shopify would send it."""

    wid: str
    shop: str
    topic: str
    lane: str
    resource: str
    version: int
    body: bytes
    held: float = 0.0
    """Seconds that it's on its way before it arrives."""
    triggered_at: str = ""

    @property
    def sha(self) -> str:
        """SHA-256 of the body, in hex."""
        return hashlib.sha256(self.body).hexdigest()


def webhooks(seed: int, block: int, number_of: int = RESOURCES) -> Iterator[Webhook]:
    """The webhooks of a block, without end; so many resources of each kind in each shop."""
    dice = random.Random(f"{seed}/{block}/webhooks")
    number = 0
    while True:
        number += 1
        shop, topic, id_ = dice.choice(SHOPS), dice.choice(TOPICS), dice.randrange(1, number_of + 1)
        # One in twenty comes behind a newer state of its resource, as Shopify's sometimes do.
        moment = _BEGINNING + timedelta(seconds=number - (200 if dice.random() < 0.05 else 0))
        body = {"id": id_, "updated_at": moment.isoformat(), "note": "x" * dice.randrange(50, 2000)}
        if topic == SHIPPING:
            # A shipment belongs to its order: the two share a lane.
            body |= {"id": id_ * 10 + dice.randrange(3), "order_id": id_}
        payload = json.dumps(body).encode()
        found = resources.find(topic, payload)
        assert found.name is not None
        assert found.version is not None
        wid = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        yield Webhook(wid, shop, topic, f"{shop}/{found.root}", found.name, found.version, payload)


@dataclass(frozen=True, slots=True)
class Fate:
    """How the handlers fare with a webhook: each try takes `seconds`; the first `failures` fail; `rejected`: then it's given up."""

    seconds: float
    failures: int
    rejected: bool


def fate(seed: int, wid: str, replayed: bool = False) -> Fate:
    """By seed and webhook alone: another process, another attempt, another run meet the same. All replays meet another fate than the
    log: what has died mostly succeeds, and now and then what had succeeded dies."""
    dice = random.Random(f"{seed}/{wid}{'/replayed' if replayed else ''}")
    chance = dice.random()
    failures = dice.choice((1, 3, 4, 5)) if chance < 0.04 else MAX_ATTEMPTS if chance < 0.045 else 0
    # Mostly a few milliseconds; now and then long enough for a fault to fall in the middle of it.
    seconds = dice.uniform(0.001, 0.015) if dice.random() < 0.96 else dice.uniform(0.1, 0.3)
    return Fate(seconds, failures, rejected=0.045 <= chance < 0.06)
