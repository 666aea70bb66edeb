"""What the consumers' tests share: a fast group's settings, events on the tape, and a look at retry and dead-letter topics."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import Running, running
from hooktape.ledger.ledger import Ledger
from hooktape.schemas import codec
from hooktape.schemas.event import Event
from hooktape.schemas.resources import find
from hooktape.schemas.topics import table
from hooktape.settings import Settings
from hooktape.tape import clients, headers, topics
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader, Record
from tests.tape.kit import PATIENT


def make_event(number: int = 0, *, topic: str = "orders/create", shop: str = "a.myshopify.com", order: int | None = None,
               version: int | None = None, webhook_id: str | None = None, **fields: object) -> Event:  # fmt: skip
    """An event of an order; `version` is the second of its `updated_at`."""
    order = number if order is None else order
    stamp = "" if version is None else f', "updated_at": "2026-11-01T00:00:{version:02}Z"'
    payload = f'{{"id": {order}, "n": {number}{stamp}}}'.encode()
    found = find(topic, payload)
    now = time.time_ns() // 1000
    return Event(webhook_id=webhook_id or uuid.uuid4().hex, shop=shop, topic=topic, payload=payload, received_us=now,
                 triggered_us=now, resource=found.name, resource_root=found.root, version_us=found.version, **fields)  # type: ignore[arg-type]  # fmt: skip


class Tape:
    """Puts events on the log, and reads what came of them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = Names(settings.topic_prefix)

    def record(self, events: Iterable[Event], topic: str | None = None, extra: dict[str, str] | None = None) -> None:
        """Writes events to their logs, or to the Kafka topic `topic`."""
        producer = clients.producer(self.settings, **PATIENT)
        known = table()
        for event in events:
            where = topic or self.names.log(known[event.topic].kafka_name)
            packed = headers.pack(headers.of_event(event) | (extra or {}))
            producer.produce(where, codec.encode(event), event.lane, headers=packed)
            producer.poll(0)
        assert producer.flush(60) == 0

    def write(self, topic: str, value: bytes | None, key: bytes | None = None, extra: headers.Packed | None = None) -> None:
        """Writes one raw record."""
        producer = clients.producer(self.settings, **PATIENT)
        producer.produce(topic, value, key, headers=extra or [])
        assert producer.flush(60) == 0

    def read(self, topic: str) -> list[Record]:
        """Everything on a topic now."""
        with Reader(self.settings) as reader:
            return [record for batch in reader.scan(reader.bounds([topic])) for record in batch]

    def dead(self, group: str) -> list[Record]:
        """The group's dead letters."""
        return self.read(self.names.dlq(group))


@pytest.fixture
def settings(kafka: str, prefix: str, tmp_path: Path) -> Settings:
    """Settings with three log topics of two partitions, those of the group `g`, and short retry delays."""
    made = Settings(kafka=kafka, topic_prefix=prefix, partitions=2, home=tmp_path, retry_delays=(0.2, 0.5), max_attempts=4,
                    topics=("orders/create", "orders/updated", "products/update"))  # fmt: skip
    topics.apply(made, ["g"])
    return made


@pytest.fixture
def tape(settings: Settings) -> Tape:
    return Tape(settings)


@pytest.fixture
def options() -> Options:
    """No quick tries, so that each retry goes through its topic; a short lease."""
    return replace(Options(), quick_tries=0, lease=2.0)


async def until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Waits until `condition()` is true; fails after `within` seconds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "what was waited for didn't come"
        await asyncio.sleep(0.01)


Act = Callable[[Running], Awaitable[None]]


def run(app: App, settings: Settings, options: Options, act: Act | None = None, **more: Any) -> None:
    """A worker until it's idle, or while `act` runs."""

    async def main() -> None:
        async with running(app, settings, options=options, **more) as worker:
            await (act(worker) if act else worker.idle())

    asyncio.run(main())


def states(settings: Settings, group: str, events: list[Event]) -> Counter[str]:
    """What the ledger says of events."""
    with Ledger.open(settings.ledger_url) as ledger:
        found = ledger.outcomes.states(group, [e.key for e in events])
    return Counter(state.name.lower() for state in found.values())
