"""What the tests of the tape share: topics made at once, records written and waited for."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.reader import Reader

# librdkafka's settings for what a test puts on the log: it must get there, however busy the machine is.
PATIENT = {"linger.ms": 5, "queue.buffering.max.messages": 1_000_000, "delivery.timeout.ms": 60_000, "request.timeout.ms": 30_000}


def create(settings: Settings, *names: str, partitions: int = 2, config: Mapping[str, str] | None = None) -> None:
    """Makes topics and waits until they can be written."""
    admin = clients.admin(settings)
    new = [NewTopic(name, partitions, 1, config={"message.timestamp.type": "LogAppendTime", **(config or {})}) for name in names]
    for future in admin.create_topics(new).values():
        future.result()


@cache
def _producer(kafka: str) -> Producer:
    # One for the whole run: a new one waits half a second for its id from the broker.
    return clients.producer(Settings(kafka=kafka), **PATIENT, **{"log_level": 0})


def fill(settings: Settings, topic: str, values: Iterable[bytes], partition: int = 0) -> list[tuple[int, int]]:
    """Writes records; (offset, timestamp in ms) of each."""
    producer = _producer(settings.kafka)
    places: list[tuple[int, int]] = []
    errors: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: object) -> None:
        if error is not None:
            errors.append(error)
        else:
            places.append((message.offset(), message.timestamp()[1]))  # type: ignore[attr-defined]

    for value in values:
        producer.produce(topic, value, f"k{len(places)}", partition, on_delivery=delivered)
    producer.flush(60)
    assert not errors, errors
    return places


def settled(settings: Settings, topics: Iterable[str]) -> None:
    """Waits until readers see each transaction that has ended. The broker answers a commit, or an abort, before its markers are in all
    partitions (KIP-98, 5.2 and 5.3), and ends a reader before them until then."""
    admin = clients.admin(settings)
    with Reader(settings) as reader:
        asked = {TopicPartition(*partition): OffsetSpec.latest() for partition in reader.partitions(topics)}
        while asked:
            answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
            written = {(tp.topic, tp.partition): future.result().offset for tp, future in answers.items()}
            if reader.ends(topics) == written:
                return
            time.sleep(0.01)


def delete_before(settings: Settings, topic: str, partition: int, offset: int) -> None:
    """What retention does: removes the records below `offset`."""
    admin: AdminClient = clients.admin(settings)
    for future in admin.delete_records([TopicPartition(topic, partition, offset)]).values():
        future.result()


def lose_first(monkeypatch: pytest.MonkeyPatch, kind: str) -> list[Any]:
    """Has the first client of a kind (`admin`, `consumer`, `producer`) know no broker that answers; all that are made are in the list."""
    made: list[Any] = []
    real = getattr(clients, kind)

    def make(settings: Settings, *words: Any, **named: Any) -> Any:
        # Nobody listens on port 1.
        made.append(real(settings if made else replace(settings, kafka="127.0.0.1:1"), *words, **named))
        return made[-1]

    monkeypatch.setattr(clients, kind, make)
    return made
