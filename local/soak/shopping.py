"""A local shop that changes, and of whose webhooks some never come: what it knows of each is what a reconciler is judged by."""

import random
import time
from collections.abc import Iterator

from hooktape.local.shop.cost import Plan
from hooktape.local.shop.model import Mix
from hooktape.local.shop.server import LocalShop
from hooktape.local.soak.history import Change
from hooktape.local.soak.workload import Webhook
from hooktape.schemas import resources

DOMAIN = "soak-shop.myshopify.com"
DROPPED = 0.15
"""Webhooks that are never sent: a hundred times what anybody reports of Shopify, so that each pass has something to record."""
DELETING = Mix(order_delete=0.5, product_delete=0.5, customer_delete=0.5)
"""One change in 65 is a deletion: of those that get lost, few enough for a pass, which holds more than ten back."""
LATE = 0.04
"""Webhooks that are on their way for up to three times the grace period."""
BUCKET = 1_000_000.0
"""Points of the Admin API, as good as without end: what a shop's plan allows is another test's affair."""
SEARCH_LAG = 0.4
"""Seconds by which the Admin API's lists are behind, as Shopify's are."""
STEPS = frozenset({"orders/create", "orders/cancelled", "products/create", "customers/create"})
"""Topics of steps that a reconciler tells apart from the newest state (docs/reconciliation.md)."""


class Shopping:
    """The shop, and the webhooks that come of its changes. `grace` in seconds: how late is too late.

    Until `unreliable` is set each webhook is sent at once.
    """

    def __init__(self, seed: int, block: int, grace: float) -> None:
        self.shop = LocalShop(DOMAIN, seed=seed * 1000 + block, plan=Plan("soak", BUCKET, BUCKET), mix=DELETING, search_lag=SEARCH_LAG)
        self.changes: list[Change] = []
        self.unreliable = False
        self._dice = random.Random(f"{seed}/{block}/fates")
        self._grace = grace

    def webhooks(self) -> Iterator[Webhook]:
        """A change of the shop for each that is asked for, and for each that is dropped before it."""
        while True:
            change = self.shop.shop.change(time.time())
            # Two draws whatever comes out: the n-th change has the same fate whenever the shop became unreliable.
            chance, held = self._dice.random(), self._dice.uniform(0, 3 * self._grace)
            fate = "sent" if not self.unreliable else "dropped" if chance < DROPPED else "late" if chance < DROPPED + LATE else "sent"
            self.changes.append(Change(change.webhook_id, change.topic, change.resource, None if change.deleted else change.version,
                                       time.monotonic(), fate))  # fmt: skip
            if fate != "dropped":
                root = resources.find(change.topic, change.body).root
                yield Webhook(change.webhook_id, DOMAIN, change.topic, f"{DOMAIN}/{root}", change.resource, change.version or 0,
                              change.body, held if fate == "late" else 0.0, change.triggered_at)  # fmt: skip
