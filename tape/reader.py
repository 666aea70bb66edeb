"""The one reader of past records: bounded, without a group, so that it moves nobody's offsets.

The end is frozen when the bounds are taken (the last stable offset), and is recognised by the position, never by the last
record: a transaction marker or compaction may sit there. Times become offsets once per partition; `LogAppendTime` makes that
sound (research: reliability §4.1–4.3).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from hooktape.errors import NothingMatched, TapeUnavailable
from hooktape.schemas.event import Coordinates
from hooktape.settings import Settings
from hooktape.tape import clients

Partition = tuple[str, int]
RawHeaders = list[tuple[str, str | bytes | None]]
T = TypeVar("T")
_ELECTING = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART}
_PAUSE = 0.05  # between two questions to a broker that isn't ready for this partition yet: ready after a tenth of a second or so


class Record(NamedTuple):
    """A record as it lies on Kafka; `timestamp_ms` is the broker's clock when it was appended."""

    at: Coordinates
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: RawHeaders

    @classmethod
    def of(cls, message: Message) -> "Record":
        """The record that a client's message holds."""
        at = Coordinates(message.topic() or "", message.partition() or 0, message.offset() or 0)
        key, value = message.key(), message.value()
        return cls(at, message.timestamp()[1], key.encode() if isinstance(key, str) else key,
                   value.encode() if isinstance(value, str) else value, _pairs(message.headers()))  # fmt: skip


def _pairs(raw: dict[str, str | bytes | None] | list[tuple[str, str | bytes | None]] | None) -> RawHeaders:
    return list(raw.items() if isinstance(raw, dict) else raw or ())


class Span(NamedTuple):
    """Offsets [start, end) of one partition."""

    start: int
    end: int


class Reader:
    """Reads spans of partitions. One thread at a time; `close` it, or use it as a context manager."""

    def __init__(self, settings: Settings, timeout: float = 10.0) -> None:
        self._timeout = timeout
        # `error`: a span whose beginning has expired meanwhile is noticed in `scan`, not skipped.
        self._consumer: Consumer = clients.consumer(
            settings, "hooktape-reader", **{"enable.partition.eof": True, "queued.min.messages": 10000}
        )

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the client."""
        self._consumer.close()

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """The partitions of those `topics` that exist. Raises TapeUnavailable."""
        wanted = set(topics)
        known = self._ask(lambda: self._consumer.list_topics(timeout=self._timeout)).topics
        return [(topic, number) for topic in sorted(wanted & set(known)) for number in sorted(known[topic].partitions)]

    def bounds(self, topics: Iterable[str], since_ms: int | None = None) -> dict[Partition, Span]:
        """What lies on `topics` now: from the first offset (or the first appended at or after `since_ms`) to the end.

        Partitions that hold nothing there are left out. Raises TapeUnavailable.
        """
        spans: dict[Partition, Span] = {}
        partitions = self.partitions(topics)
        starts = self._offsets_at(partitions, since_ms) if since_ms is not None else {}
        for partition in partitions:
            low, high = self._ask(lambda p=partition: self._consumer.get_watermark_offsets(TopicPartition(*p), self._timeout))  # type: ignore[misc]
            start = max(low, starts.get(partition, low))
            if start < high:
                spans[partition] = Span(start, high)
        return spans

    def lows(self, topics: Iterable[str]) -> dict[Partition, int]:
        """The first offset that retention has left of each partition."""
        return {p: self._ask(lambda p=p: self._consumer.get_watermark_offsets(TopicPartition(*p), self._timeout))[0]  # type: ignore[misc]
                for p in self.partitions(topics)}  # fmt: skip

    def _offsets_at(self, partitions: list[Partition], since_ms: int) -> dict[Partition, int]:
        asked = [TopicPartition(topic, number, since_ms) for topic, number in partitions]
        answers = self._ask(lambda: self._consumer.offsets_for_times(asked, timeout=self._timeout)) if asked else []
        # Nothing that late: an end offset, which the caller's comparison with the high mark turns into "nothing".
        return {(a.topic, a.partition): a.offset if a.offset not in (OFFSET_END, -1) else 2**62 for a in answers}

    def scan(self, spans: dict[Partition, Span], batch: int = 500) -> Iterator[list[Record]]:
        """All records of the spans, in batches; in order within a partition, in no order across.

        Raises TapeUnavailable when Kafka stays silent for the timeout, NothingMatched when retention took a span's beginning
        meanwhile (take new bounds).
        """
        open_spans = dict(spans)
        if not open_spans:
            return
        self._consumer.assign([TopicPartition(t, p, span.start) for (t, p), span in open_spans.items()])
        try:
            quiet_since = time.monotonic()
            while open_spans:
                records, progressed = self._take(open_spans, batch)
                if records:
                    yield records
                if progressed:
                    quiet_since = time.monotonic()
                elif time.monotonic() - quiet_since > self._timeout:
                    unread = f"{len(open_spans)} partitions were unread"
                    raise TapeUnavailable(f"Kafka sent nothing for {self._timeout:g} s while {unread}")
        finally:
            self._consumer.unassign()

    def _take(self, open_spans: dict[Partition, Span], batch: int) -> tuple[list[Record], bool]:
        # A first message by poll, the rest without waiting: consume(n, t) would sit out its whole timeout.
        first = self._consumer.poll(0.1)
        messages = ([first] if first is not None else []) + (self._consumer.consume(batch, 0) if first is not None else [])
        records = []
        for message in messages:
            partition = (message.topic() or "", message.partition() or 0)
            if (error := message.error()) is not None:
                self._refuse(error, open_spans, partition)
                continue
            span = open_spans.get(partition)
            if span is not None and (message.offset() or 0) < span.end:
                records.append(Record.of(message))
        self._close_finished(open_spans)
        return records, bool(messages)

    def _refuse(self, error: KafkaError, open_spans: dict[Partition, Span], partition: Partition) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            open_spans.pop(partition, None)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise NothingMatched(f"retention removed the beginning of {partition[0]}/{partition[1]} meanwhile: select again")
        elif error.fatal() or not error.retriable():
            raise TapeUnavailable(f"{partition[0]}/{partition[1]} can't be read: {error.str()}")

    def _close_finished(self, open_spans: dict[Partition, Span]) -> None:
        for position in self._consumer.position([TopicPartition(t, p) for t, p in open_spans]):
            span = open_spans[position.topic, position.partition]
            if position.offset >= span.end:
                del open_spans[position.topic, position.partition]
                self._consumer.incremental_unassign([TopicPartition(position.topic, position.partition)])

    def fetch(self, at: Coordinates) -> Record:
        """The one record at `at`. Raises NothingMatched when retention or compaction took it, TapeUnavailable."""
        for records in self.scan({(at.topic, at.partition): Span(at.offset, at.offset + 1)}):
            for record in records:
                if record.at == at:
                    return record
        raise NothingMatched(f"there's no record at {at} any more")

    def _ask(self, question: Callable[[], T]) -> T:
        until = time.monotonic() + self._timeout
        while True:
            try:
                return question()
            except KafkaException as error:
                cause = error.args[0]
                # A topic made a moment ago has a leader that doesn't know of it yet.
                if cause.code() not in _ELECTING or time.monotonic() > until:
                    raise TapeUnavailable(f"Kafka doesn't answer: {cause.str()}") from None
                time.sleep(_PAUSE)
