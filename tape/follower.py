"""Records as they're appended: for ever, without a group, from positions that the caller knows.

A client that has lost every broker (`clients.Solitude`) would be silent from then on, like a tape to which nothing is appended: it's made
anew, and goes on where the old one was.
"""

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, TopicPartition

from hooktape import log
from hooktape.errors import TapeUnavailable
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.reader import Partition, Reader, Record, positions

_log = log.get("hooktape.tape")


class Follower:
    """Follows partitions. One thread at a time; `close` it, or use it as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._solitude = clients.Solitude()
        self._consumer = self._make()
        self._positions: dict[Partition, int] = {}

    def _make(self) -> Consumer:
        self._solitude = clients.Solitude()
        return clients.consumer(self._settings, "hooktape-follower", **{
            "enable.partition.eof": True, "queued.min.messages": 10000, **self._solitude.properties()})  # fmt: skip

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the client."""
        self._consumer.close()

    def follow(self, starts: Mapping[Partition, int]) -> None:
        """Follows these partitions too, each from its offset; those that are followed already stay where they are."""
        new = {partition: offset for partition, offset in starts.items() if partition not in self._positions}
        if new:
            self._consumer.incremental_assign([TopicPartition(*partition, offset) for partition, offset in new.items()])
            self._positions |= new

    def poll(self, timeout: float = 0.5, batch: int = 1000) -> tuple[list[Record], dict[Partition, int]]:
        """New records, waiting at most `timeout` seconds for a first one, and the next offset of each partition heard of.

        Where retention overtook a position, it goes on from the first record that is left and logs the gap. Raises
        TapeUnavailable when a partition can't be read for good.
        """
        if self._solitude.lasts:
            self._begin_anew()
        first = self._consumer.poll(timeout)
        messages = [] if first is None else [first, *self._consumer.consume(batch - 1, 0)]
        found = positions(messages)
        self._positions |= found
        for message in messages:
            if (error := message.error()) is not None:
                self._mind(error, (message.topic() or "", message.partition() or 0))
        return [Record.of(message) for message in messages if message.error() is None], found

    def _begin_anew(self) -> None:
        _log.error("the client was told of no broker, and looks for none any more: it's made anew")
        self._consumer.close()
        self._consumer = self._make()
        self._consumer.assign([TopicPartition(*partition, offset) for partition, offset in self._positions.items()])

    def _mind(self, error: KafkaError, partition: Partition) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            with Reader(self._settings) as reader:
                low = reader.lows([partition[0]])[partition]
            _log.warning("retention overtook a reader; it goes on from what is left", partition=partition, offset=low)
            self._consumer.incremental_unassign([TopicPartition(*partition)])
            self._consumer.incremental_assign([TopicPartition(*partition, low)])
            self._positions[partition] = low
        elif error.code() != KafkaError._PARTITION_EOF and (error.fatal() or not error.retriable()):
            raise TapeUnavailable(f"{partition[0]}/{partition[1]} can't be followed: {error.str()}")
