import time

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from hooktape.errors import NotAllowed
from hooktape.settings import Settings
from hooktape.tape import clients, groups
from tests.tape.kit import create, fill


def test_a_group_that_nobody_ever_used_is_dead_and_has_no_offsets(settings: Settings, prefix: str) -> None:
    assert groups.describe(settings, f"{prefix}-g") == groups.Group(f"{prefix}-g", "dead", ())
    assert groups.committed(settings, f"{prefix}-g") == {}


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_live_group_names_its_members_and_refuses_new_offsets_and_an_empty_one_takes_them(
    settings: Settings, prefix: str, protocol: str
) -> None:
    topic, group = f"{prefix}.a", f"{prefix}-g"
    create(settings, topic)
    fill(settings, topic, [b"1", b"2", b"3"])
    consumer = clients.consumer(settings, group, **{"group.protocol": protocol, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        deadline = time.monotonic() + 20
        while consumer.poll(0.1) is None:
            assert time.monotonic() < deadline
        assert {(tp.topic, tp.partition) for tp in consumer.assignment()} == {(topic, 0), (topic, 1)}
        while not (live := groups.describe(settings, group)).live:
            assert time.monotonic() < deadline
        (member,) = live.members
        assert (live.state, member.client, set(member.partitions)) == ("stable", "hooktape", {(topic, 0), (topic, 1)})
        with pytest.raises(NotAllowed, match="stop its workers first"):
            groups.alter(settings, group, {(topic, 0): 1})
    finally:
        consumer.close()
    assert not groups.describe(settings, group).live
    groups.alter(settings, group, {(topic, 0): 1, (topic, 1): 0})
    assert groups.committed(settings, group) == {(topic, 0): 1, (topic, 1): 0}


def test_the_groups_are_those_that_have_a_dead_letter_topic(settings: Settings, prefix: str) -> None:
    names = [f"{prefix}.dlq.b", f"{prefix}.dlq.a", f"{prefix}.log.orders.create", "other.dlq.c"]
    assert groups.groups_of(settings, names) == ["a", "b"]


@pytest.mark.parametrize("name", ["_TIMED_OUT", "_TIMED_OUT_QUEUE", "_TRANSPORT", "_ALL_BROKERS_DOWN", "COORDINATOR_LOAD_IN_PROGRESS"])
def test_whoever_asks_what_was_committed_while_the_broker_is_away_waits_for_it(name: str) -> None:
    asked: list[str] = []

    class Away:
        def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            asked.append(name)
            if len(asked) < 3:
                raise KafkaException(KafkaError(getattr(KafkaError, name)))
            return partitions

    place = TopicPartition("a", 0, 7)
    assert groups.committed_by(Away(), [place], patience=60.0) == [place]  # type: ignore[arg-type]
    assert len(asked) == 3
