"""The one reader of past records: bounded, without a group, so that it moves nobody's offsets.

The end is frozen when the bounds are taken (the last stable offset), and is recognised by the position, never by the last
record: a transaction marker or compaction may sit there. Times become offsets once per partition; `LogAppendTime` makes that
sound.

Nothing is waited for longer than the timeout. A client that got no answer may have lost every broker (`clients.Solitude`): it's given up,
and the next question has another.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from hooktape.errors import NothingMatched, TapeUnavailable
from hooktape.schemas.event import Coordinates
from hooktape.settings import Settings
from hooktape.tape import clients

Partition = tuple[str, int]
RawHeaders = list[tuple[str, str | bytes | None]]
T = TypeVar("T")

# Two wanted records of a partition this close are reached by reading on, further ones by a seek: a seek costs a round trip,
# in which some hundreds of records of 4 KiB arrive.
_READ_ON = 250
# The client's own class methods bear no types.
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_CONSUMERS = {
    # The client's own bounds, 64 MiB of records fetched and not taken and 50 MiB to one fetch, weigh 67 MiB more where records have 6 KiB.
    "large": {"queued.min.messages": 10000, "queued.max.messages.kbytes": 16 * 1024, "fetch.max.bytes": 4 * 1024 * 1024},
    # For single records: a fetch brings little that isn't wanted, and one partition at its end doesn't hold up the others.
    "small": {"queued.min.messages": 100, "fetch.message.max.bytes": 512 * 1024, "fetch.wait.max.ms": 5},
}


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


def positions(messages: Iterable[Message]) -> dict[Partition, int]:
    """How far each partition has been read: behind the last record, or where an end event says that the end is."""
    found: dict[Partition, int] = {}
    for message in messages:
        error, offset = message.error(), message.offset()
        at_end = error is not None and error.code() == KafkaError._PARTITION_EOF
        if offset is not None and offset >= 0 and (error is None or at_end):
            found[message.topic() or "", message.partition() or 0] = offset if at_end else offset + 1
    return found


class Reader:
    """Reads spans of partitions. One thread at a time; `close` it, or use it as a context manager."""

    def __init__(self, settings: Settings, timeout: float | None = None) -> None:
        self._settings = settings
        self._timeout = settings.read_timeout if timeout is None else timeout
        self._admin = clients.admin(settings)
        self._consumers: dict[str, Consumer] = {}

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the clients."""
        while self._consumers:
            self._consumers.popitem()[1].close()

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """The partitions of those `topics` that exist. Raises TapeUnavailable."""
        wanted = set(topics)
        known = self._ask(lambda: self._admin.list_topics(timeout=self._timeout)).topics
        return [(topic, number) for topic in sorted(wanted & set(known)) for number in sorted(known[topic].partitions)]

    def topics(self) -> list[str]:
        """The names of all topics on the broker. Raises TapeUnavailable."""
        return sorted(self._ask(lambda: self._admin.list_topics(timeout=self._timeout)).topics)

    def bounds(self, topics: Iterable[str], since_ms: int | None = None) -> dict[Partition, Span]:
        """What lies on `topics` now: from the first offset (or the first appended at or after `since_ms`) to the end.

        Partitions that hold nothing there are left out. Raises TapeUnavailable.
        """
        partitions = self.partitions(topics)
        starts = self._offsets(partitions, _EARLIEST if since_ms is None else OffsetSpec.for_timestamp(since_ms))
        ends = self._offsets(partitions, _LATEST)
        # A negative start: nothing was appended that late.
        return {p: Span(starts[p], ends[p]) for p in partitions if 0 <= starts[p] < ends[p]}

    def lows(self, topics: Iterable[str]) -> dict[Partition, int]:
        """The first offset that retention has left of each partition."""
        return self._offsets(self.partitions(topics), _EARLIEST)

    def ends(self, topics: Iterable[str]) -> dict[Partition, int]:
        """The end of each partition, empty ones too: the offset that its next readable record will have."""
        return self._offsets(self.partitions(topics), _LATEST)

    def starts(self, topics: Iterable[str], since_ms: int) -> dict[Partition, int]:
        """The first offset appended at or after `since_ms`, or the partition's end where nothing was."""
        partitions = self.partitions(topics)
        found, ends = self._offsets(partitions, OffsetSpec.for_timestamp(since_ms)), self._offsets(partitions, _LATEST)
        return {p: found[p] if found[p] >= 0 else ends[p] for p in partitions}

    def _offsets(self, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        # One request a broker for all partitions; `get_watermark_offsets` would make one for each.
        asked = {TopicPartition(*partition): spec for partition in partitions}
        if not asked:
            return {}

        def question() -> dict[Partition, int]:
            answers = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._timeout)
            return {(tp.topic, tp.partition): future.result().offset for tp, future in answers.items()}

        return self._ask(question)

    def scan(self, spans: Mapping[Partition, Span], batch: int = 500) -> Iterator[list[Record]]:
        """All records of the spans, in batches; in order within a partition, in no order across.

        Raises TapeUnavailable when Kafka stays silent for the timeout, NothingMatched when retention took a span's beginning
        meanwhile (take new bounds).
        """
        return self._sweep("large", {p: deque([span]) for p, span in spans.items()}, batch)

    def fetch(self, at: Coordinates) -> Record:
        """The one record at `at`. Raises NothingMatched when retention or compaction took it, TapeUnavailable."""
        found = self.fetch_many([at])
        if at not in found:
            raise NothingMatched(f"there's no record at {at} any more")
        return found[at]

    def fetch_many(self, places: Iterable[Coordinates]) -> dict[Coordinates, Record]:
        """The records at these places; those that retention or compaction took are left out. Raises TapeUnavailable.

        What it costs follows from the number of places, not from what lies between them.
        """
        wanted = set(places)
        while True:
            runs = self._runs(wanted)
            found: dict[Coordinates, Record] = {}
            try:
                for records in self._sweep("small", runs, 500):
                    found |= {record.at: record for record in records if record.at in wanted}
            except NothingMatched:
                continue  # retention took a run's beginning meanwhile: the new low watermark tells
            return found

    def _runs(self, wanted: Iterable[Coordinates]) -> dict[Partition, deque[Span]]:
        spans = self.bounds({at.topic for at in wanted})
        runs: dict[Partition, deque[Span]] = {}
        for at in sorted(wanted):
            partition = (at.topic, at.partition)
            span = spans.get(partition)
            if span is None or not span.start <= at.offset < span.end:
                continue
            queue = runs.setdefault(partition, deque())
            if queue and at.offset - queue[-1].end < _READ_ON:
                queue[-1] = Span(queue[-1].start, at.offset + 1)
            else:
                queue.append(Span(at.offset, at.offset + 1))
        return runs

    def first_times(self, places: Mapping[Partition, int]) -> dict[Partition, int]:
        """The timestamp (ms) of the first record at or after an offset of each partition, where there is one by now."""
        ends = self.ends({topic for topic, _ in places})
        spans = {p: deque([Span(offset, ends[p])]) for p, offset in places.items() if offset < ends.get(p, 0)}
        times: dict[Partition, int] = {}
        for records in self._sweep("small", spans, 100):
            for record in records:
                partition = (record.at.topic, record.at.partition)
                times.setdefault(partition, record.timestamp_ms)
                # The first one tells: the rest of the span needn't be read.
                if partition in spans:
                    spans[partition][0] = Span(record.at.offset, record.at.offset)
        return times

    def _consumer(self, name: str) -> Consumer:
        if name not in self._consumers:
            # `error` (the default of ours): a span whose beginning has expired meanwhile is noticed, not skipped.
            self._consumers[name] = clients.consumer(
                self._settings, "hooktape-reader", **{"enable.partition.eof": True, **_CONSUMERS[name]})  # fmt: skip
        return self._consumers[name]

    def _sweep(self, name: str, runs: dict[Partition, deque[Span]], batch: int) -> Iterator[list[Record]]:
        """The records of each partition's runs, which are in ascending order. A run is popped from `runs` when it's read."""
        if not runs:
            return
        try:
            yield from self._read(self._consumer(name), runs, batch)
        except (TapeUnavailable, KafkaException) as error:
            self._consumers.pop(name).close()
            if isinstance(error, TapeUnavailable):
                raise
            raise TapeUnavailable(f"the tape can't be read: {error.args[0].str()}") from None

    def _read(self, consumer: Consumer, runs: dict[Partition, deque[Span]], batch: int) -> Iterator[list[Record]]:
        consumer.assign([TopicPartition(topic, number, queue[0].start) for (topic, number), queue in runs.items()])
        try:
            heard = time.monotonic()
            while runs:
                # A first message by poll, the rest without waiting: consume(n, t) would sit out its whole timeout.
                first = consumer.poll(0.1)
                messages = [] if first is None else [first, *consumer.consume(batch - 1, 0)]
                if messages:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self._timeout:
                    raise TapeUnavailable(f"Kafka sent nothing for {self._timeout:g} s while {len(runs)} partitions were unread")
                if records := self._take(messages, runs):
                    yield records
                for partition, position in positions(messages).items():
                    self._advance(consumer, runs, partition, position)
        finally:
            consumer.unassign()

    def _take(self, messages: Iterable[Message], runs: dict[Partition, deque[Span]]) -> list[Record]:
        records = []
        for message in messages:
            partition = (message.topic() or "", message.partition() or 0)
            if (error := message.error()) is not None:
                self._refuse(error, partition)
            elif partition in runs and runs[partition][0].start <= (message.offset() or 0) < runs[partition][0].end:
                records.append(Record.of(message))
        return records

    @staticmethod
    def _refuse(error: KafkaError, partition: Partition) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise NothingMatched(f"retention removed the beginning of {partition[0]}/{partition[1]} meanwhile: select again")
        if error.code() != KafkaError._PARTITION_EOF and (error.fatal() or not error.retriable()):
            raise TapeUnavailable(f"{partition[0]}/{partition[1]} can't be read: {error.str()}")

    @staticmethod
    def _advance(consumer: Consumer, runs: dict[Partition, deque[Span]], partition: Partition, position: int) -> None:
        if partition not in runs or position < runs[partition][0].end:
            return
        runs[partition].popleft()
        if runs[partition]:
            # Also where the next run began within this batch: what was taken of the batch belongs to the former run.
            consumer.seek(TopicPartition(*partition, runs[partition][0].start))
        else:
            del runs[partition]
            consumer.incremental_unassign([TopicPartition(*partition)])

    def _ask(self, question: Callable[[], T]) -> T:
        def ask() -> T:
            try:
                return question()
            except KafkaException:
                self._admin = clients.admin(self._settings)
                raise

        try:
            # A partition just made, or whose leader just moved, isn't ready for a moment.
            return clients.patiently(ask, self._timeout)
        except KafkaException as error:
            raise TapeUnavailable(f"Kafka doesn't answer: {error.args[0].str()}") from None
