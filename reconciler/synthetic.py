"""The event that stands for a webhook that never came: pure, the same for the same state whoever builds it and when."""

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from hooktape.reconciler.bodies.values import Body, Home
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import Missing
from hooktape.schemas import resources
from hooktape.schemas import topics as shopify
from hooktape.schemas.event import BACKFILL, RECONCILER, Event
from hooktape.tape.names import Names

# Whose names the ids are, for UUID version 5: a UUID is what handlers and their databases expect of a webhook's id.
_NOWHERE = Home()
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "reconciler.hooktape.dev")


def build(shop: str, family: Family, item: Missing, api_version: str, received_us: int, home: Home = _NOWHERE,
          backfill: bool = False) -> Event:  # fmt: skip
    """The synthetic event for a missing state or deletion; `received_us` is now. No signature: the Admin API's token vouches for it.

    `backfill`: no webhook was missed, and it's marked so.
    """
    body = family.last_words(item.row.resource) if item.node is None else family.body(item.node, home)
    payload = msgspec.json.encode(body)
    found = resources.find(item.topic, payload)
    return Event(
        webhook_id=webhook_id(shop, family, item, body), shop=shop, topic=item.topic, payload=payload, received_us=received_us,
        api_version=api_version, resource=found.name or item.row.resource, resource_root=found.root or item.row.resource,
        version_us=found.version, triggered_us=item.at, source=RECONCILER,
        headers={BACKFILL: "1"} if backfill else {},
    )  # fmt: skip


def webhook_id(shop: str, family: Family, item: Missing, body: Body) -> str:
    """One id for one state of one resource: shop, family, global id, version, and a digest of a few stable fields.

    The family's update topic stands for all of its topics: whether a state is told as a creation or as an update may
    change between two tries, and both must not be recorded. A step is taken once, at its instant. A deletion has no version, and is
    once in an id's life: the API tells of it in several ways, at several instants. Of what may come back, a deletion is only found where
    a state was missing, whose version tells it from another.
    """
    if item.node is None:
        again = [item.row.version] if family.deletion and family.deletion.again else []
        told: list[Any] = [shop, family.delete, item.row.gid, "deleted", *again]
    elif item.step:
        told = [shop, item.topic, item.row.gid, item.at]
    else:
        told = [shop, family.update, item.row.gid, item.row.version, family.digest_of(body)]
    return str(uuid.uuid5(_NAMESPACE, msgspec.json.encode(told).decode()))


def kafka_topic(names: Names, provisioned: Iterable[str], topic: str) -> str:
    """Where a webhook of `topic` is recorded, and so its synthetic twin: its own log, or the log of other topics."""
    return names.log(shopify.table()[topic].kafka_name) if topic in set(provisioned) else names.other
