"""The ledger of truth: what the shop changed, and what became of each webhook. Pure.

Whoever tests the pipeline compares its effects with this, never with the pipeline's own counters.
"""

from collections import Counter, defaultdict
from collections.abc import Set
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any

from hooktape.local.shop.faults import Fate
from hooktape.local.shop.model import ENDS, Change

STEPS = frozenset({"orders/create", "orders/cancelled", "fulfillments/create", "products/create", "customers/create",
                   "draft_orders/create", "inventory_items/create", "companies/create", "company_locations/create",
                   "themes/create", "segments/create", "subscription_contracts/create"})  # fmt: skip
"""Topics of what the Admin API tells the time of: that it was missed can be seen although a later change arrived."""
_NONE: Set[str] = frozenset()


class Outcome(StrEnum):
    """What became of a webhook in the end."""

    PENDING = "pending"
    DELIVERED = "delivered"
    """At least one copy got a 2xx."""
    DROPPED = "dropped"
    GAVE_UP = "gave_up"
    """No copy got a 2xx, the last retry included."""


@dataclass(slots=True)
class Delivery:
    """A change's webhook: what it said, what was planned, what happened. Bodies aren't kept, their digests are.

    `version` in microseconds since the epoch; `answers` holds the status of every attempt of every copy, in order, or
    the name of the error; `accepted` counts the copies that got a 2xx; `delay` in seconds.
    """

    number: int
    topic: str
    resource: str
    gid: str
    version: int | None
    webhook_id: str
    event_id: str
    triggered_at: str
    sha256: str
    fate: Fate
    delay: float = 0.0
    state: int = 0
    """`updatedAt` in the Admin API at that time, in microseconds: of the resources whose bodies have no version, too."""
    outcome: Outcome = Outcome.PENDING
    accepted: int = 0
    answers: list[int | str] = field(default_factory=list)

    @property
    def deleted(self) -> bool:
        """Whether it tells of a deletion."""
        return self.topic.rpartition("/")[2] in ENDS

    @property
    def shows(self) -> int:
        """The state that it shows, as an instant in microseconds."""
        return self.state or self.version or 0


class Truth:
    """All deliveries, in the order in which the shop changed."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    def add(self, change: Change, fate: Fate, delay: float = 0.0) -> Delivery:
        """Writes down a change before anything is sent of it."""
        delivery = Delivery(
            change.number, change.topic, change.resource, change.gid, change.version, change.webhook_id, change.event_id,
            change.triggered_at, sha256(change.body).hexdigest(), fate, delay, state=change.state,
        )  # fmt: skip
        self.deliveries.append(delivery)
        return delivery

    def by_resource(self) -> dict[str, list[Delivery]]:
        """`order/123` → its changes, oldest first."""
        found: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in self.deliveries:
            found[delivery.resource].append(delivery)
        return dict(found)

    def latest(self) -> dict[str, Delivery]:
        """`order/123` → its last change: the state that must be on the tape in the end."""
        return {delivery.resource: delivery for delivery in self.deliveries}

    def accepted_ids(self) -> set[str]:
        """The webhook ids that were answered with 2xx: each must be recorded, and handled once."""
        return {delivery.webhook_id for delivery in self.deliveries if delivery.accepted}

    def missing(self, also: Set[str] = _NONE) -> dict[str, Delivery]:
        """`order/123` → its last change, where no delivered webhook shows that state or a later one. `also`: ids of webhooks that
        arrived although their sender had stopped waiting for the answer.

        Exactly what a reconciler must find: a dropped change that a later delivered one covers is no longer visible in
        the shop, and several dropped ones of one resource are one state. Where a second change in the same second was
        dropped, its version did arrive: `unseen` has that.
        """
        missing = {}
        for resource, changes in self.by_resource().items():
            last = changes[-1]
            arrived = [change for change in changes if change.outcome is Outcome.DELIVERED or change.webhook_id in also]
            if last.deleted:
                covered = any(change.deleted for change in arrived)
            else:
                covered = any(not change.deleted and change.shows >= last.shows for change in arrived)
            if not covered:
                missing[resource] = last
        return missing

    def owed(self, also: Set[str] = _NONE) -> set[str]:
        """The resources of which a reconciler must record something: what is `missing`, and living ones of whose steps one wasn't told.
        `also` as there."""
        told: dict[tuple[str, str], bool] = defaultdict(bool)
        for delivery in self.deliveries:
            if delivery.topic in STEPS:
                told[delivery.resource, delivery.topic] |= delivery.outcome is Outcome.DELIVERED or delivery.webhook_id in also
        gone = {name for name, last in self.latest().items() if last.deleted}
        return self.missing(also).keys() | {resource for (resource, _), came in told.items() if not came and resource not in gone}

    def unseen(self) -> dict[str, Delivery]:
        """`missing`, and the resources of whose last state no delivered webhook has the very content."""
        found = self.missing()
        for resource, changes in self.by_resource().items():
            last = changes[-1]
            if not last.deleted and not any(c.sha256 == last.sha256 for c in changes if c.outcome is Outcome.DELIVERED):
                found[resource] = last
        return found

    def counts(self) -> dict[str, int]:
        """The figures for a table: changes, resources, each fate, each outcome, copies accepted, requests, missing."""
        fates, outcomes = Counter(d.fate for d in self.deliveries), Counter(d.outcome for d in self.deliveries)
        return {
            "changes": len(self.deliveries), "resources": len(self.latest()),
            **{f"fate_{fate}": fates[fate] for fate in Fate}, **{str(outcome): outcomes[outcome] for outcome in Outcome},
            "accepted": sum(d.accepted for d in self.deliveries), "requests": sum(len(d.answers) for d in self.deliveries),
            "missing": len(self.missing()),
        }  # fmt: skip

    def document(self) -> dict[str, Any]:
        """All of it, for JSON: `counts`, `deliveries`, `missing` (resource → change number)."""
        return {"counts": self.counts(), "missing": {name: d.number for name, d in self.missing().items()},
                "deliveries": self.deliveries}  # fmt: skip
