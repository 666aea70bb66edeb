"""Transactions on the tape: all or nothing, one writer of a name, and readers that see neither markers nor what was undone."""

import random

import pytest

from hooktape.errors import Fenced, TapeUnavailable
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.follower import Follower
from hooktape.tape.reader import Reader
from hooktape.tape.transactions import BYTES, RECORDS, Outgoing, Writer, parts
from tests.tape.kit import create, fill, settled


def record(topic: str, value: bytes = b"x") -> Outgoing:
    return Outgoing(topic, "one.myshopify.com/order/1", value, {"hooktape-shop": "one.myshopify.com"})


def undone(settings: Settings, topic: str, count: int = 3) -> None:
    """A transaction that a writer left open, undone by the next one of its name."""
    left = clients.producer(settings, **{"transactional.id": f"{settings.topic_prefix}.left"})
    left.init_transactions(10)
    left.begin_transaction()
    for _ in range(count):
        left.produce(topic, b"never", "one.myshopify.com/order/1")
    left.flush(10)
    left.abort_transaction(10)


def test_what_is_written_together_is_cut_by_number_and_by_size() -> None:
    assert [len(part) for part in parts([record("t")] * (2 * RECORDS + 1))] == [RECORDS, RECORDS, 1]
    large = record("t", b"x" * (BYTES - 1))
    assert [len(part) for part in parts([record("t"), large, record("t"), record("t", b"x" * (2 * BYTES))])] == [2, 1, 1]
    assert parts([]) == []


def test_readers_see_what_was_committed_and_end_behind_the_markers(settings: Settings, prefix: str) -> None:
    topic = f"{prefix}.a"
    create(settings, topic, partitions=1)
    fill(settings, topic, [b"0"])
    writer = Writer.open(settings, "one")
    writer.write([record(topic, b"1"), record(topic, b"2")])
    undone(settings, topic)
    settled(settings, [topic])
    with Reader(settings) as reader, Follower(settings) as follower:
        ends = reader.ends([topic])
        assert ends == {(topic, 0): 8}  # 0, 1, 2, a marker, three records undone, a marker
        assert [r.value for batch in reader.scan(reader.bounds([topic])) for r in batch] == [b"0", b"1", b"2"]
        assert reader.first_times({(topic, 0): 3}) == {}
        assert [r.value for r in reader.fetch_many([r.at for b in reader.scan(reader.bounds([topic])) for r in b]).values()] == [
            b"0", b"1", b"2"]  # fmt: skip
        follower.follow({(topic, 0): 0})
        seen, position = [], 0
        while position < 8:
            records, positions = follower.poll()
            seen += [r.value for r in records]
            position = positions.get((topic, 0), position)
        assert seen == [b"0", b"1", b"2"]
    writer.close()


def test_what_is_open_isnt_the_tapes_end_yet(settings: Settings, prefix: str) -> None:
    topic = f"{prefix}.a"
    create(settings, topic, partitions=1)
    fill(settings, topic, [b"0"])
    left = clients.producer(settings, **{"transactional.id": f"{prefix}.open"})
    left.init_transactions(10)
    left.begin_transaction()
    left.produce(topic, b"1")
    left.flush(10)
    with Reader(settings) as reader:
        assert reader.ends([topic]) == {(topic, 0): 1}
        # Whoever opens its name settles it: undone, and the end is behind its marker.
        Writer.open(settings, "open").close()
        settled(settings, [topic])
        assert reader.ends([topic]) == {(topic, 0): 3}
        assert [r.value for batch in reader.scan(reader.bounds([topic])) for r in batch] == [b"0"]


def test_a_writer_is_fenced_by_the_next_one_of_its_name_and_writes_nothing_more(settings: Settings, prefix: str) -> None:
    topic = f"{prefix}.a"
    create(settings, topic, partitions=1)
    first = Writer.open(settings, "one")
    first.write([record(topic, b"1")])
    second, other = Writer.open(settings, "one"), Writer.open(settings, "two")
    with pytest.raises(Fenced):
        first.write([record(topic, b"2")])
    second.write([record(topic, b"3")])
    other.write([record(topic, b"4")])
    settled(settings, [topic])
    with Reader(settings) as reader:
        assert [r.value for batch in reader.scan(reader.bounds([topic])) for r in batch] == [b"1", b"3", b"4"]
    for writer in (first, second, other):
        writer.close()


def test_a_record_that_cant_be_written_undoes_its_whole_transaction(settings: Settings, prefix: str) -> None:
    topic = f"{prefix}.a"
    create(settings, topic, partitions=1, config={"max.message.bytes": "1000"})
    writer = Writer.open(settings, "one")
    with pytest.raises(TapeUnavailable):
        writer.write([record(topic, b"1"), record(topic, bytes(random.Random(1).randbytes(5000)))])
    with pytest.raises(TapeUnavailable, match="closed"):
        writer.write([record(topic, b"2")])
    following = Writer.open(settings, "one")
    following.write([record(topic, b"2")])
    settled(settings, [topic])
    with Reader(settings) as reader:
        assert [r.value for batch in reader.scan(reader.bounds([topic])) for r in batch] == [b"2"]
    following.close()
