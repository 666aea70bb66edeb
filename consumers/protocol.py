"""Which group protocol a broker speaks: KIP-848's or the classic one, from what it refuses and from its silence. Pure."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError

# A member sends its first heartbeat within a second of finding its coordinator.
_SILENT_MS = 3000
# A broker's highest group.consumer.heartbeat.interval.ms is 15 s.
_LONGEST_US = 20_000_000
_REFUSALS = {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}
_WORDS = tuple(KafkaError(code).str() for code in _REFUSALS)


def refuses_kip848(error: KafkaError) -> bool:
    """Whether an error says that the broker has KIP-848 switched off, or is older."""
    # What made it fatal is told in words only.
    return error.code() in _REFUSALS or (error.code() == KafkaError._FATAL and any(words in error.str() for words in _WORDS))


class Silence:
    """Notices a broker that has never heard of KIP-848: it isn't sent heartbeats, and the client says nothing about it (librdkafka 2.16).

    Fed with the client's statistics (STATISTICS.md of librdkafka), which count all requests and break them down by kind, but not
    KIP-848's heartbeat. A member that has nothing assigned, since there are more workers than partitions, sends heartbeats all the same.
    """

    def __init__(self) -> None:
        self.over = False
        """The member sends heartbeats."""
        self._first: tuple[int, int] | None = None

    def lasts(self, statistics: Mapping[str, Any]) -> bool:
        """Whether its coordinator is there, and was sent no heartbeat for longer than any broker puts between two."""
        group = statistics.get("cgrp", {})
        self.over = self.over or group.get("join_state") == "steady"
        if self.over or group.get("state") != "up" or group["stateage"] < _SILENT_MS:
            return False
        # With SASL there may be others that aren't broken down, when a connection is made.
        hidden, now = sum(broker["tx"] - sum(broker["req"].values()) for broker in statistics["brokers"].values()), statistics["ts"]
        if self._first is None:
            self._first = hidden, now
        self.over = hidden > self._first[0]
        return not self.over and (hidden == 0 or now - self._first[1] > _LONGEST_US)
