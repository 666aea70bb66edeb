"""Takes records from the tape by their places, window after window, reading on where the next window goes on.

`Reader.fetch_many` begins anew with each call; this keeps its place, so that a million records in the tape's order cost what reading
them does. One thread at a time. A client that got no answer is given up, since it may have lost every broker (`clients.Solitude`).
"""

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from hooktape.errors import TapeUnavailable
from hooktape.settings import MIB, Settings
from hooktape.tape import clients
from hooktape.tape.reader import Partition

# Two wanted records this close are reached by reading on, further ones by a seek, a round trip in which about as many arrive.
_READ_ON = 500
# What a partition brought beyond a window waits here for the next one. Beyond so much the partitions that are ahead are paused, which
# throws away what the client has fetched of them.
_KEPT_BYTES = 16 * MIB
# Two events may lie on the tape in another order than they were received in: so far behind a window's last record the next may reach.
_BACK = 200


class _Spot:
    """How far one partition has been read, and what of it waits for a later window."""

    __slots__ = ("assigned", "kept", "next", "paused")

    def __init__(self, offset: int) -> None:
        self.next, self.assigned, self.paused = offset, False, False
        self.kept: dict[int, Message] = {}


class Taker:
    """`take` windows of places; `close` it, or use it as a context manager."""

    def __init__(self, settings: Settings, timeout: float = 10.0) -> None:
        self._settings, self._timeout = settings, timeout
        self._consumer = self._make()
        self._spots: dict[Partition, _Spot] = {}
        self._weight = 0

    def _make(self) -> Consumer:
        # Small beside a reader's: these bounds are most of what a runner of large bodies weighs.
        return clients.consumer(self._settings, "hooktape-reader", **{
            "enable.partition.eof": True, "queued.min.messages": 1000, "queued.max.messages.kbytes": 16384,
            # A partition that is taken up again isn't in the request that waits at the others' ends: that one must be short. Small pieces
            # keep the partitions side by side, so that few get ahead.
            "fetch.wait.max.ms": 5, "fetch.message.max.bytes": MIB // 4})  # fmt: skip

    def __enter__(self) -> "Taker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the client."""
        self._consumer.close()

    def take(self, places: Sequence[tuple[str, int, int]]) -> list[Message | None]:
        """The records at these places, in their order; None for one that retention or compaction took.

        Raises TapeUnavailable when Kafka stays silent for the timeout, or refuses.
        """
        wanted: dict[Partition, list[int]] = {}
        for topic, number, offset in places:
            wanted.setdefault((topic, number), []).append(offset)
        reading: dict[Partition, list[int]] = {}
        try:
            for partition, offsets in wanted.items():
                if missing := self._missing(partition, offsets):
                    reading[partition] = missing
                    self._go_to(partition, missing[-1])
            self._read(reading)
        except (TapeUnavailable, KafkaException) as error:
            self._begin_anew()
            if isinstance(error, TapeUnavailable):
                raise
            raise TapeUnavailable(f"the tape can't be read: {error.args[0].str()}") from None
        found = [self._spots[topic, number].kept.pop(offset, None) for topic, number, offset in places]
        self._weight -= sum(len(message) for message in found if message is not None)
        for partition, offsets in wanted.items():
            self._forget(partition, max(offsets) - _BACK)
        return found

    def _begin_anew(self) -> None:
        self._consumer.close()
        self._consumer = self._make()
        self._spots, self._weight = {}, 0

    def _missing(self, partition: Partition, offsets: list[int]) -> list[int]:
        """Those of the offsets that no earlier window read on its way, the highest first."""
        spot = self._spots.get(partition)
        return sorted(offsets if spot is None else (offset for offset in offsets if offset not in spot.kept), reverse=True)

    def _go_to(self, partition: Partition, offset: int) -> None:
        spot = self._spots.setdefault(partition, _Spot(offset))
        if not spot.assigned:
            spot.next, spot.assigned, spot.paused = offset, True, False
            self._consumer.incremental_assign([TopicPartition(*partition, offset)])
            return
        if spot.paused:
            spot.paused = False
            self._consumer.resume([TopicPartition(*partition)])
        if not spot.next <= offset <= spot.next + _READ_ON:
            self._consumer.seek(TopicPartition(*partition, offset))
            spot.next = offset

    def _read(self, reading: dict[Partition, list[int]]) -> None:
        heard = time.monotonic()
        while reading:
            # A first message by poll, the rest without waiting: consume(n, t) would sit out its whole timeout.
            first = self._consumer.poll(0.1)
            if first is None:
                if time.monotonic() - heard > self._timeout:
                    raise TapeUnavailable(f"Kafka sent nothing for {self._timeout:g} s while {len(reading)} partitions were unread")
                continue
            heard = time.monotonic()
            for message in (first, *self._consumer.consume(999, 0)):
                partition = (message.topic() or "", message.partition() or 0)
                spot = self._spots[partition]
                if (error := message.error()) is None:
                    offset = message.offset() or 0
                    if offset >= spot.next:  # else it was fetched before a seek
                        spot.next = offset + 1
                        if offset not in spot.kept:  # else it was read before a seek backwards
                            spot.kept[offset] = message
                            self._weight += len(message)
                elif (past := self._past(error, message, partition)) is not None:
                    spot.next = past
            for partition in [*reading]:
                self._advance(partition, reading)
            if self._weight > _KEPT_BYTES:
                self._pause_all_but(reading)

    def _past(self, error: KafkaError, message: Message, partition: Partition) -> int | None:
        """How far an error event says that the partition has been read; None: nothing."""
        if error.code() == KafkaError._PARTITION_EOF:
            return message.offset()
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            low: int = self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=self._timeout)[0]
            # Nothing is fetched of a partition whose place has gone, and a seek doesn't change that; nor does one take a partition that has
            # just been assigned any further (librdkafka#3959). So it's assigned where it's to be read from.
            self._consumer.incremental_unassign([TopicPartition(*partition)])
            self._spots[partition].assigned = False
            return low
        if error.fatal() or not error.retriable():
            raise TapeUnavailable(f"{partition[0]}/{partition[1]} can't be read: {error.str()}")
        return None

    def _advance(self, partition: Partition, reading: dict[Partition, list[int]]) -> None:
        spot, left = self._spots[partition], reading[partition]
        while left and left[-1] < spot.next:
            left.pop()
        if not left:
            del reading[partition]
        elif not spot.assigned or left[-1] > spot.next + _READ_ON:
            self._go_to(partition, left[-1])

    def _forget(self, partition: Partition, below: int) -> None:
        spot = self._spots[partition]
        for offset in [offset for offset in spot.kept if offset < below]:
            self._weight -= len(spot.kept.pop(offset))

    def _pause_all_but(self, reading: dict[Partition, list[int]]) -> None:
        ahead = [p for p, spot in self._spots.items() if p not in reading and spot.assigned and not spot.paused]
        if ahead:
            self._consumer.pause([TopicPartition(*p) for p in ahead])
            for p in ahead:
                self._spots[p].paused = True
