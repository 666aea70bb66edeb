"""Which group protocol a broker speaks: KIP-848's or the classic one, from what it refuses and from its silence. Pure."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError

MEMBERS = frozenset({"group.protocol", "group.remote.assignor", "partition.assignment.strategy", "session.timeout.ms",
                     "heartbeat.interval.ms", "group.instance.id"})  # fmt: skip
"""Properties that only a member of a group has a use for; with another protocol the client refuses some of them."""
STATISTICS_MS = 2000
"""How often the client tells what it has sent; only looked at until it has sent its first heartbeat."""
# A member sends its first heartbeat within a second of finding its coordinator.
_SILENT_MS = 3000
_REFUSALS = {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}
_WORDS = tuple(KafkaError(code).str() for code in _REFUSALS)


def refuses_kip848(error: KafkaError) -> bool:
    """Whether an error says that the broker has KIP-848 switched off, or is older."""
    # What made it fatal is told in words only.
    return error.code() in _REFUSALS or (error.code() == KafkaError._FATAL and any(words in error.str() for words in _WORDS))


def sends_heartbeats(statistics: Mapping[str, Any]) -> bool:
    """Whether the client has sent KIP-848's heartbeat to any broker, by its statistics (STATISTICS.md of librdkafka)."""
    return any(broker["req"].get("ConsumerGroupHeartbeat") for broker in statistics["brokers"].values())


def is_silent(statistics: Mapping[str, Any]) -> bool:
    """Whether the coordinator has been there for a while and no heartbeat was sent: a broker that has never heard of KIP-848 isn't
    sent any, and the client says nothing about that (librdkafka 2.16)."""
    group = statistics.get("cgrp", {})
    return group.get("state") == "up" and group["stateage"] >= _SILENT_MS and not sends_heartbeats(statistics)
