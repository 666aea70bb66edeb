"""What the reconciler's tests share: a local shop that changes without sending, and a tape to put its webhooks on."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.model import Change
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler import synthetic
from hooktape.schemas import resources
from hooktape.schemas import topics as shopify
from hooktape.schemas.event import Event
from hooktape.settings import Secret, Settings
from hooktape.tape import headers, topics
from hooktape.tape.names import Names
from hooktape.tape.publisher import Publisher
from hooktape.tape.reader import Reader
from hooktape.tape.wire import Wire
from hooktape.times import micros, parse_time
from tests.tape.kit import PATIENT, settled


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        yield opened


# What three families are told by, with a log each; the shop's other webhooks of them go to the log of other topics. Each log costs
# a broker as much as the test that it's made for.
TOPICS = ("orders/create", "orders/updated", "orders/cancelled", "orders/delete", "products/*", "customers/create", "customers/update",
          "customers/delete")  # fmt: skip


@pytest.fixture
def tape(settings: Settings) -> Settings:
    """The run's settings with the logs of three families made."""
    narrowed = replace(settings, topics=TOPICS)
    topics.apply(narrowed)
    return narrowed


def pointed_at(settings: Settings, shop: LocalShop, **changes: object) -> Settings:
    """`settings` for this shop: no lag and no grace unless `changes` say so."""
    values: dict[str, object] = {"shop_tokens": {shop.domain: Secret(shop.token)}, "admin_url": shop.admin_url,
                                 "reconcile_lag": 0.0, "reconcile_grace": 0.0, "reconcile_overlap": 30.0}  # fmt: skip
    return replace(settings, **{**values, **changes})  # type: ignore[arg-type]


class Clock:
    """The shop's own time, moved by hand: it begins now, since Kafka stamps records by the real one."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def event_of(change: Change, shop: str | None = None) -> Event:
    """The record that ingest would make of a webhook."""
    found = resources.find(change.topic, change.body)
    triggered = micros(parse_time(change.triggered_at))
    return Event(
        webhook_id=change.webhook_id, shop=shop or change.shop, topic=change.topic, payload=change.body,
        received_us=triggered + 200_000, event_id=change.event_id, api_version=change.api_version, resource=found.name,
        resource_root=found.root, version_us=found.version, triggered_us=triggered, hmac="checked elsewhere", secret_id="test",
    )  # fmt: skip


async def deliver(settings: Settings, changes: Sequence[Change]) -> None:
    """Puts the webhooks of `changes` on the tape."""
    await put(settings, [event_of(change) for change in changes])


async def put(settings: Settings, events: Sequence[Event]) -> None:
    wire, names = Wire(settings), Names(settings.topic_prefix)
    provisioned = shopify.expand(settings.topics)
    publisher = Publisher(settings, **PATIENT)
    await asyncio.gather(*(
        publisher.publish(synthetic.kafka_topic(names, provisioned, event.topic), wire.encode(event), key=event.lane,
                          extra=headers.of_event(event))
        for event in events))  # fmt: skip
    await publisher.close()


def on_tape(settings: Settings, source: str = "reconciler") -> list[Event]:
    """All events of that source on the tape."""
    wire, names = Wire(settings), Names(settings.topic_prefix)
    logs = [names.log(topic.kafka_name) for topic in shopify.table().values()] + [names.other]
    settled(settings, logs)
    with Reader(settings) as reader:
        events = [wire.decode(record.value) for batch in reader.scan(reader.bounds(logs)) for record in batch]
    return [event for event in events if event.source == source]
