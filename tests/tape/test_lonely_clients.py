"""Clients that live long and lose every broker: what reads through them goes on, with another client, where it was."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from hooktape.errors import TapeUnavailable
from hooktape.schemas.event import Coordinates
from hooktape.settings import Settings
from hooktape.tape import clients, transactions
from hooktape.tape.bulk import Bulk
from hooktape.tape.follower import Follower
from hooktape.tape.reader import Reader
from hooktape.tape.taker import Taker
from hooktape.tape.transactions import Outgoing, Writer
from tests.tape.kit import lose_first
from tests.tape.mock_cluster import mock_cluster

TOPIC = "t"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with mock_cluster() as cluster:
        cluster.create(TOPIC)
        found = Settings(kafka=cluster.bootstrap, home=tmp_path)
        append(found, 3)
        yield found


def append(settings: Settings, count: int) -> None:
    # Without idempotence a new producer needn't wait for an id.
    producer = clients.producer(settings, **{"enable.idempotence": False})
    for _ in range(count):
        producer.produce(TOPIC, b"", partition=0)
    assert producer.flush(10) == 0


class Lonely:
    """A consumer that from `begun` on hears nothing any more, and tells that it has no broker."""

    def __init__(self, consumer: Any, tell: Callable[[str], None]) -> None:
        self._consumer, self._tell = consumer, tell
        self.begun = False

    def poll(self, timeout: float) -> Any:
        if not self.begun:
            return self._consumer.poll(timeout)
        self._tell('{"brokers": {"GroupCoordinator": {"source": "logical"}}}')
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def test_a_follower_that_has_lost_every_broker_goes_on_where_it_was(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = clients.consumer, []

    def make(settings: Settings, group: str, **config: Any) -> Any:
        consumer = real(settings, group, **config)
        made.append(consumer if made else Lonely(consumer, config["stats_cb"]))
        return made[-1]

    monkeypatch.setattr(clients, "consumer", make)
    with Follower(settings) as follower:
        follower.follow({(TOPIC, 0): 1})
        assert read(follower, 2) == [1, 2]
        made[0].begun = True
        append(settings, 1)
        assert read(follower, 1) == [3]
        follower.follow({(TOPIC, 0): 0})  # it's followed already, by the new client too
        append(settings, 1)
        assert read(follower, 1) == [4]
    assert len(made) == 2


def read(follower: Follower, count: int) -> list[int]:
    found: list[int] = []
    deadline = time.monotonic() + 15
    while len(found) < count and time.monotonic() < deadline:
        found += [record.at.offset for record in follower.poll(0.1)[0]]
    return found


@pytest.mark.parametrize("kind", ["admin", "consumer"])
def test_a_reader_that_got_no_answer_has_another_client_for_the_next_question(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made = lose_first(monkeypatch, kind)
    places = [Coordinates(TOPIC, 0, offset) for offset in range(3)]
    with Reader(settings, timeout=0.3) as reader:
        with pytest.raises(TapeUnavailable):
            reader.fetch_many(places)
        assert reader.fetch_many(places).keys() == set(places)
    assert len(made) == 2


def test_a_taker_that_got_no_answer_has_another_client_for_the_next_window(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lose_first(monkeypatch, "consumer")
    with Taker(settings, timeout=0.3) as taker:
        with pytest.raises(TapeUnavailable):
            taker.take([(TOPIC, 0, 0)])
        taken = taker.take([(TOPIC, 0, 0), (TOPIC, 0, 2)])
    assert [message.offset() for message in taken if message is not None] == [0, 2]
    assert len(made) == 2


def test_a_batch_that_got_no_answer_is_sent_by_another_producer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lose_first(monkeypatch, "producer")
    real, hurried = clients.producer, {"delivery.timeout.ms": 300, "request.timeout.ms": 200}
    monkeypatch.setattr(clients, "producer", lambda settings, **named: real(settings, **named if made else named | hurried))
    with Bulk(settings, TOPIC) as bulk:
        bulk.send([(b"", None, [])], "token")
        deadline = time.monotonic() + 15
        while not (done := bulk.done(0.1)) and time.monotonic() < deadline:
            assert bulk.unacknowledged == 1
    assert (done, len(made)) == (["token"], 2)


def test_a_writer_that_got_no_answer_ends_in_time_and_the_next_one_writes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "_PATIENCE", 0.5)
    lose_first(monkeypatch, "producer")
    with pytest.raises(TapeUnavailable):
        Writer.open(settings, "w")
    monkeypatch.undo()
    writer = Writer.open(settings, "w")
    writer.write([Outgoing(TOPIC, None, b"", {})])
    writer.close()
    with Reader(settings) as reader:
        assert sum(len(records) for records in reader.scan(reader.bounds([TOPIC]))) == 4


def test_partitions_without_a_leader_are_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refusals = clients.is_passing, []

    with mock_cluster() as cluster:
        cluster.create(TOPIC)
        cluster.lead(TOPIC, 0, -1)

        def elect(error: KafkaError | None) -> bool:
            refusals.append(error)
            cluster.lead(TOPIC, 0, 1)
            return real(error)

        monkeypatch.setattr(clients, "is_passing", elect)
        with Reader(Settings(kafka=cluster.bootstrap, home=tmp_path)) as reader:
            assert reader.ends([TOPIC]) == {(TOPIC, 0): 0}
    assert refusals
