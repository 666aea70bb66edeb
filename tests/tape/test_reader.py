import time
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from hooktape.errors import NothingMatched, TapeUnavailable
from hooktape.schemas.event import Coordinates
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.follower import Follower
from hooktape.tape.reader import Reader, Record, Span
from tests.tape.kit import create, delete_before, fill, settled


@pytest.fixture
def reader(settings: Settings):
    with Reader(settings) as open_reader:
        yield open_reader


def _numbers(batches) -> list[int]:
    return [int(record.value) for records in batches for record in records]


def test_an_empty_or_missing_topic_holds_nothing(settings: Settings, prefix: str, reader: Reader) -> None:
    create(settings, f"{prefix}.a")
    assert reader.bounds([f"{prefix}.a", f"{prefix}.missing"]) == {}
    assert reader.ends([f"{prefix}.a"]) == {(f"{prefix}.a", 0): 0, (f"{prefix}.a", 1): 0}
    assert list(reader.scan({})) == []


def test_a_scan_reads_the_span_to_its_frozen_end_and_no_further(settings: Settings, prefix: str, reader: Reader) -> None:
    topic = f"{prefix}.a"
    create(settings, topic)
    fill(settings, topic, [b"%d" % i for i in range(1000)])
    fill(settings, topic, [b"%d" % i for i in range(1000, 1010)], partition=1)
    bounds = reader.bounds([topic])
    fill(settings, topic, [b"99999"] * 50)
    assert bounds == {(topic, 0): Span(0, 1000), (topic, 1): Span(0, 10)}
    assert sorted(_numbers(reader.scan(bounds, batch=300))) == list(range(1010))
    assert _numbers(reader.scan({(topic, 0): Span(990, 993)})) == [990, 991, 992]


def test_a_time_becomes_the_first_offset_appended_at_or_after_it(settings: Settings, prefix: str, reader: Reader) -> None:
    topic = f"{prefix}.a"
    create(settings, topic)
    fill(settings, topic, [b"0", b"1"])
    time.sleep(0.01)  # two appends within one millisecond would share their timestamp
    (offset, stamp), *_ = fill(settings, topic, [b"2", b"3"])
    assert reader.bounds([topic], since_ms=stamp) == {(topic, 0): Span(offset, 4)}
    assert reader.bounds([topic], since_ms=stamp + 3_600_000) == {}
    assert reader.starts([topic], stamp + 3_600_000) == {(topic, 0): 4, (topic, 1): 0}


def test_a_span_whose_beginning_has_expired_is_noticed(settings: Settings, prefix: str, reader: Reader) -> None:
    topic = f"{prefix}.a"
    create(settings, topic)
    fill(settings, topic, [b"%d" % i for i in range(20)])
    stale = reader.bounds([topic])
    delete_before(settings, topic, 0, 10)
    with pytest.raises(NothingMatched, match="select again"):
        list(reader.scan(stale))
    assert reader.bounds([topic]) == {(topic, 0): Span(10, 20)}
    assert reader.lows([topic])[topic, 0] == 10
    with pytest.raises(NothingMatched, match="no record"):
        reader.fetch(Coordinates(topic, 0, 5))
    assert reader.fetch(Coordinates(topic, 0, 15)).value == b"15"


def test_single_records_are_fetched_wherever_they_lie_and_the_gone_are_left_out(
    settings: Settings, prefix: str, reader: Reader
) -> None:
    topic = f"{prefix}.a"
    create(settings, topic)
    for partition in (0, 1):
        fill(settings, topic, [b"%d" % i for i in range(3000)], partition)
    delete_before(settings, topic, 1, 100)
    offsets = [0, 1, 5, 200, 1200, 1201, 2999, 5000]
    found = reader.fetch_many([Coordinates(topic, partition, offset) for partition in (0, 1) for offset in offsets])
    assert {at.offset for at in found if at.partition == 0} == {0, 1, 5, 200, 1200, 1201, 2999}
    assert {at.offset for at in found if at.partition == 1} == {200, 1200, 1201, 2999}
    assert all(int(record.value or b"") == at.offset for at, record in found.items())


def test_the_first_time_of_a_partition_is_that_of_its_first_record(settings: Settings, prefix: str, reader: Reader) -> None:
    topic = f"{prefix}.a"
    create(settings, topic)
    places = fill(settings, topic, [b"%d" % i for i in range(500)])
    assert reader.first_times({(topic, 0): 7, (topic, 1): 0}) == {(topic, 0): places[7][1]}


def test_an_aborted_transaction_at_the_end_does_not_hang_a_scan(settings: Settings, prefix: str, reader: Reader) -> None:
    topic = f"{prefix}.a"
    create(settings, topic)
    fill(settings, topic, [b"1"])
    producer = clients.producer(settings, **{"transactional.id": prefix, "delivery.timeout.ms": 10000, "transaction.timeout.ms": 10000})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(topic, b"2", partition=0)
    producer.flush(10)
    assert reader.bounds([topic]) == {(topic, 0): Span(0, 1)}  # the last stable offset
    producer.abort_transaction(10)
    settled(settings, [topic])
    assert _numbers(reader.scan(reader.bounds([topic]))) == [1]


def test_a_silent_broker_is_an_error_after_the_timeout(tmp_path: Path) -> None:
    with Reader(Settings(kafka="127.0.0.1:1", home=tmp_path), timeout=0.3) as reader, pytest.raises(TapeUnavailable):
        reader.bounds(["a"])


def test_a_follower_gives_what_is_appended_and_passes_what_retention_took(settings: Settings, prefix: str) -> None:
    topic = f"{prefix}.a"
    create(settings, topic)
    fill(settings, topic, [b"%d" % i for i in range(10)])
    delete_before(settings, topic, 0, 4)

    def until(follower: Follower, count: int) -> list[Record]:
        found: list[Record] = []
        deadline = time.monotonic() + 15
        while len(found) < count and time.monotonic() < deadline:
            found += follower.poll(0.2)[0]
        return found

    with Follower(settings) as follower:
        follower.follow({(topic, 0): 0})
        assert [int(r.value or b"") for r in until(follower, 6)] == [4, 5, 6, 7, 8, 9]
        follower.follow({(topic, 0): 0, (topic, 1): 0})  # the first is followed already
        fill(settings, topic, [b"10"])
        fill(settings, topic, [b"11"], partition=1)
        assert {int(r.value or b"") for r in until(follower, 2)} == {10, 11}
    with Follower(settings) as another:
        another.follow({(topic, 0): 9})
        assert [int(r.value or b"") for r in until(another, 2)] == [9, 10]


def test_reading_moves_no_group(settings: Settings, prefix: str, reader: Reader) -> None:
    topic = f"{prefix}.a"
    create(settings, topic)
    fill(settings, topic, [b"1"])
    list(reader.scan(reader.bounds([topic])))
    consumer = clients.consumer(settings, "hooktape-reader")
    try:
        assert consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset < 0
    finally:
        consumer.close()
