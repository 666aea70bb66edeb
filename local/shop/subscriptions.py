"""An app's webhook subscriptions at a shop: what is sent, in which form, and what the Admin API shows of them. Pure.

Kinds, as with Shopify: those of the app's configuration file aren't in the API's list, those made by the API are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from hooktape.local.shop import search
from hooktape.local.shop.incidents import Incidents
from hooktape.local.shop.model import API_VERSION, Change
from hooktape.schemas import samples, topics


@dataclass(frozen=True, slots=True)
class Subscription:
    """One that was made by the API. Times in seconds since the epoch."""

    number: int
    topic: str
    uri: str
    created: int
    updated: int
    filter: str | None = None
    include_fields: tuple[str, ...] = ()
    format: str = "JSON"
    api_version: str = API_VERSION
    name: str | None = None
    namespaces: tuple[str, ...] = ()

    @property
    def gid(self) -> str:
        return samples.gid("WebhookSubscription", self.number)

    @property
    def id(self) -> int:
        return self.number


class Subscriptions:
    """`configured`: by the app's file, for every topic, and so not shown. Otherwise only what `create` made is sent."""

    def __init__(self, incidents: Incidents, configured: bool = True) -> None:
        self.configured = configured
        self._incidents = incidents
        self._made: dict[str, Subscription] = {}
        self._count = 0

    def create(self, topic: str, uri: str, now: float, **more: Any) -> Subscription:
        """A subscription made by the API. From the first one on, the app's file counts no more."""
        self.configured = False
        self._count += 1
        made = Subscription(892_400_000_000 + self._count, topic, uri, int(now), int(now), **more)
        self._made[made.gid] = made
        return made

    def update(self, gid: str, now: float, **changes: Any) -> Subscription | None:
        """Changes one; None where it isn't."""
        found = self._made.get(gid)
        if found:
            found = self._made[gid] = replace(found, updated=int(now), **changes)
        return found

    def delete(self, gid: str) -> bool:
        """Removes one; whether it was there."""
        return self._made.pop(gid, None) is not None

    def failed(self, topic: str) -> None:
        """A webhook of the topic failed for good; with that incident on, its subscriptions go. An app's file stays."""
        if self._incidents.is_on("subscription_removed_after_failures"):
            self._made = {gid: one for gid, one in self._made.items() if one.topic != topic}

    def get(self, gid: str) -> Subscription | None:
        return next((one for one in self.shown() if one.gid == gid), None)

    def shown(self) -> list[Subscription]:
        """What the Admin API lists."""
        removed = (self._incidents.on("subscription_removed") or {"topics": ()})["topics"]
        return [self._now(one) for one in self._made.values() if one.topic not in removed]

    def outgoing(self, change: Change) -> Change | None:
        """The webhook as its subscription has it; None: none is sent.

        A filter that doesn't parse, or names a member that the body hasn't, lets nothing through, as with Shopify.
        """
        if change.topic in (self._incidents.on("subscription_removed") or {"topics": ()})["topics"]:
            return None
        subscription = next((one for one in self.shown() if one.topic == change.topic), None)
        if subscription is None:
            if not self.configured:
                return None
            subscription = self._now(Subscription(0, change.topic, "", 0, 0))
        changed = self._incidents.on("subscription_changed")
        if changed and changed["uri"] and change.topic in changed["topics"]:
            return None
        if subscription.filter and not _passes(subscription.filter, change.body):
            return None
        if fields := subscription.include_fields:
            body = msgspec.json.decode(change.body)
            change = replace(change, body=samples.encode({key: value for key, value in body.items() if key in fields}))
        return replace(change, api_version=subscription.api_version)

    def _now(self, one: Subscription) -> Subscription:
        changed = self._incidents.on("subscription_changed")
        if not changed or one.topic not in changed["topics"]:
            return one
        given = {key: changed[key] for key in ("filter", "include_fields", "api_version", "uri") if changed[key]}
        return replace(one, **given)


def _passes(text: str, body: bytes) -> bool:
    members: Mapping[str, Any] = msgspec.json.decode(body)
    fields: dict[str, search.Field] = {name: _member(name) for name in members} | {"default": lambda row: ""}
    try:
        asked = search.parse(text, fields, 0.0)
        return not asked.unknown and asked.matches(members)
    except search.SearchError:
        return False


def _member(name: str) -> search.Field:
    # `id` compares as a number; everything else as text.
    return lambda row: row[name] if name == "id" else str(row[name])


def enum(topic: str) -> str:
    """`orders/create` → ORDERS_CREATE, as the schema names it."""
    return topics.table()[topic].enum


def topics_of(enums: Iterable[str]) -> set[str]:
    """The topics of the schema's names."""
    wanted = set(enums)
    return {topic for topic, row in topics.table().items() if row.enum in wanted}
