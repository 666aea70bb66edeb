import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from hooktape.errors import RecordTooLarge, SettingsError, TapeFull, TapeUnavailable
from hooktape.schemas.event import Coordinates
from hooktape.settings import MIB, Settings
from hooktape.tape import clients, headers, topics
from hooktape.tape.names import Names
from hooktape.tape.publisher import Publisher
from hooktape.tape.reader import Reader
from tests.tape.kit import create


def test_a_published_record_lies_where_its_future_says(settings: Settings, prefix: str) -> None:
    create(settings, f"{prefix}.a")

    async def work() -> Coordinates:
        publisher = Publisher(settings)
        at = await publisher.publish(f"{prefix}.a", b"body", key="k", extra={headers.SHOP: "s"})
        await publisher.close()
        return at

    at = asyncio.run(work())
    with Reader(settings) as reader:
        record = reader.fetch(at)
    assert (record.key, record.value, record.headers) == (b"k", b"body", [(headers.SHOP, b"s")])


def test_a_record_larger_than_the_topic_takes_is_refused_and_the_next_one_isnt(settings: Settings, prefix: str) -> None:
    create(settings, f"{prefix}.a", config={"max.message.bytes": str(MIB)})

    async def work() -> None:
        publisher = Publisher(settings, **{"compression.type": "none"})
        with pytest.raises(RecordTooLarge):  # by the client
            await publisher.publish(f"{prefix}.a", bytes(clients.MAX_RECORD + 1), key=None, extra={})
        with pytest.raises(RecordTooLarge):  # by the broker
            await publisher.publish(f"{prefix}.a", bytes(2 * MIB), key=None, extra={})
        assert (await publisher.publish(f"{prefix}.a", b"small", key=None, extra={})).offset == 0
        await publisher.close()

    asyncio.run(work())


def test_a_full_queue_takes_nothing_and_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        publisher = Publisher(Settings(kafka="127.0.0.1:1", home=tmp_path), **{"queue.buffering.max.messages": 3})
        taken = [publisher.publish("t", b"x", key=None, extra={}) for _ in range(3)]
        with pytest.raises(TapeFull):
            await publisher.publish("t", b"x", key=None, extra={})
        assert publisher.outstanding == 3
        for future in taken:
            with pytest.raises(TapeUnavailable):
                await future
        await publisher.close()

    asyncio.run(work())


@pytest.mark.parametrize("how", ["fatal", "without a broker"])
def test_a_producer_of_which_nothing_comes_any_more_fails_what_waits_and_another_is_built(
    settings: Settings, prefix: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    create(settings, f"{prefix}.a")
    real, broken = clients.producer, []

    class Doomed:
        """A producer that takes records, and at its next poll has failed for good, as librdkafka raises it or tells by its statistics."""

        def __init__(self, tell: Callable[[str], None]) -> None:
            self.taken, self.tell = 0, tell

        def produce(self, *_: object, **__: object) -> None:
            self.taken += 1

        def poll(self, _: float) -> None:
            if self.taken and how == "fatal":
                raise KafkaException(KafkaError(KafkaError._FATAL, "out of order sequence", fatal=True))
            if self.taken:
                self.tell('{"brokers": {}}')

    def build(settings: Settings, **overrides: Any) -> Producer | Doomed:
        if broken:
            return real(settings, **overrides)
        broken.append(Doomed(overrides["stats_cb"]))
        return broken[0]

    monkeypatch.setattr(clients, "producer", build)

    async def work() -> Coordinates:
        publisher = Publisher(settings)
        with pytest.raises(TapeUnavailable, match="isn't known"):
            await publisher.publish(f"{prefix}.a", b"1", key=None, extra={})
        while True:
            try:
                at = await publisher.publish(f"{prefix}.a", b"2", key=None, extra={}, partition=0)
            except TapeUnavailable:
                await asyncio.sleep(0.01)
            else:
                await publisher.close()
                return at

    assert asyncio.run(work()) == Coordinates(f"{prefix}.a", 0, 0)


def test_an_acknowledgement_without_an_offset_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As librdkafka reports a batch sent again that the broker calls a duplicate."""

    class Message:
        def topic(self) -> str:
            return "t"

        def partition(self) -> int:
            return 0

        def offset(self) -> None:
            return None

    class Producer:
        def __init__(self) -> None:
            self.reports: list[Callable[[None, Message], None]] = []

        def produce(self, *_: object, on_delivery: Callable[[None, Message], None], **__: object) -> None:
            self.reports.append(on_delivery)

        def poll(self, wait: float) -> None:
            while self.reports:
                self.reports.pop()(None, Message())
            time.sleep(0.001)

    monkeypatch.setattr(clients, "producer", lambda *_, **__: Producer())

    async def work() -> None:
        publisher = Publisher(Settings(kafka="127.0.0.1:1", home=tmp_path))
        with pytest.raises(TapeUnavailable, match="not where"):
            await publisher.publish("t", b"x", key=None, extra={})
        await publisher.close()

    asyncio.run(work())


def test_closing_flushes_what_was_handed_over(settings: Settings, prefix: str) -> None:
    create(settings, f"{prefix}.a")

    async def work() -> list[Coordinates]:
        publisher = Publisher(settings, **{"linger.ms": 200})
        futures = [publisher.publish(f"{prefix}.a", b"x", key=None, extra={}, partition=0) for _ in range(100)]
        await publisher.close()
        return [future.result() for future in futures]

    assert [at.offset for at in asyncio.run(work())] == list(range(100))


def test_records_published_in_bursts_are_acknowledged_in_order(settings: Settings) -> None:
    topics.apply(settings)
    log = Names(settings.topic_prefix).other

    async def main() -> list[int]:
        publisher = Publisher(settings)
        await publisher.warm_up([log], 10)
        futures = []
        for burst in range(20):
            futures += [publisher.publish(log, b"%d" % n, key="k", extra={}) for n in range(burst)]
            await asyncio.sleep(0.001 * (burst % 3))  # some while a request is under way, some between two
        offsets = [at.offset for at in await asyncio.gather(*futures)]
        await publisher.close()
        return offsets

    offsets = asyncio.run(main())
    assert offsets == list(range(offsets[0], offsets[0] + 190))


def test_closing_delivers_what_waits_behind_a_request(settings: Settings) -> None:
    topics.apply(settings)
    log = Names(settings.topic_prefix).other

    async def main() -> int:
        publisher = Publisher(settings)
        first = publisher.publish(log, b"1", key="k", extra={})
        await asyncio.sleep(0)  # the first one goes by itself
        others = [publisher.publish(log, b"2", key="k", extra={}) for _ in range(100)]
        await publisher.close(10)
        return sum(future.done() and future.exception() is None for future in [first, *others])

    assert asyncio.run(main()) == 101


def test_a_property_that_librdkafka_does_not_know_is_an_error_of_the_settings() -> None:
    async def main() -> None:
        Publisher(Settings(kafka="127.0.0.1:1", kafka_properties={"no.such.thing": "1"}))

    with pytest.raises(SettingsError, match=r"no\.such\.thing.*HOOKTAPE_KAFKA_"):
        asyncio.run(main())
