from dataclasses import replace

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from hooktape.errors import TopicMissing
from hooktape.settings import Settings
from hooktape.tape import clients, topics


@pytest.fixture
def few(settings: Settings) -> Settings:
    return replace(settings, topics=("orders/create",))


def test_applying_twice_changes_nothing_the_second_time(few: Settings, prefix: str) -> None:
    first = topics.apply(few, ["g"])
    second = topics.apply(few, ["g"])
    assert set(first.create) == set(topics.wanted(few, ["g"])) >= {f"{prefix}.log.orders.create", f"{prefix}.log.other",
                                                                  f"{prefix}.retry.g.30s", f"{prefix}.dlq.g", f"{prefix}.replay.g"}
    assert (second.create, second.alter, second.grow, second.too_many) == ({}, {}, {}, {})
    assert set(second.right) == set(first.create)


def test_a_configuration_that_somebody_changed_is_mended_and_nothing_else(few: Settings, prefix: str) -> None:
    topics.apply(few)
    name = f"{prefix}.log.orders.create"
    entries = [ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET),
               ConfigEntry("min.insync.replicas", "1", incremental_operation=AlterConfigOpType.SET)]
    changed = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    client = clients.admin(few)
    for future in client.incremental_alter_configs([changed]).values():
        future.result()
    while topics.look(few, [name])[name].config["retention.ms"] != "1000":
        pass  # the controller has it; the broker learns of it in a moment
    assert topics.apply(few).alter == {name: {"retention.ms": str(30 * 86_400_000)}}
    config = topics.look(few, [name])[name].config
    assert (config["retention.ms"], config["message.timestamp.type"], config["min.insync.replicas"]) == (
        str(30 * 86_400_000), "LogAppendTime", "1")


def test_partitions_are_added_and_never_taken_away(few: Settings, prefix: str) -> None:
    topics.apply(few)
    grown = topics.apply(replace(few, partitions=4))
    assert grown.grow == {f"{prefix}.log.orders.create": 4, f"{prefix}.log.other": 4}
    assert topics.apply(few).too_many == grown.grow
    assert topics.look(few)[f"{prefix}.log.other"].partitions == 4


def test_a_missing_topic_is_named_with_what_to_do(few: Settings, prefix: str) -> None:
    topics.apply(few)
    topics.require(few, [f"{prefix}.log.other"])
    with pytest.raises(TopicMissing, match=f"{prefix}.replay.g.*topics apply"):
        topics.require(few, [f"{prefix}.log.other", f"{prefix}.replay.g"])
    with pytest.raises(TopicMissing):
        topics.durability(few, f"{prefix}.dlq.g")
    assert topics.durability(few, f"{prefix}.log.other") == (1, 1)
