"""Keeps the ledger's index of dead letters: every record of every dead-letter topic, exactly once, however many do it at a time.

As the catalogue of the tape (whose positions it shares), and for the same reason: a question about dead letters must not cost what
their topics hold.
"""

from collections.abc import Iterable

from hooktape.errors import NothingMatched, NotOurs
from hooktape.ledger.catalogue import Entry
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.letters import Letter, Poison
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Kind, Names
from hooktape.tape.reader import Partition, Reader, Record, Span
from hooktape.tape.wire import Wire

# One fsync a batch, and of bodies only so many are in memory; what a lost race throws away.
_BATCH = 500


def letter(wire: Wire, record: Record, group: str) -> Letter | Poison:
    """The index's row for a record of a group's dead-letter topic. Pure."""
    ours, died = headers.read(record.headers), record.timestamp_ms / 1000
    origin = headers.origin(ours, record.at)
    try:
        event = wire.decode(record.value)
    except NotOurs as error:
        return Poison(group, record.at, died, origin, str(error), len(record.value or b""))
    failure, replay = headers.failure(ours), headers.replay(ours)
    # Whoever writes to the topic without saying how it failed has written a letter all the same.
    failure = failure or headers.Failure(0, record.timestamp_ms * 1000, record.timestamp_ms * 1000, "")
    entry = Entry(
        key=event.key, shop=event.shop, topic=event.topic, webhook_id=event.webhook_id, resource=event.resource, root=event.resource_root,
        version=event.version_us, triggered_at=event.triggered_us, received_at=event.received_us, source=event.source,
        kafka_topic=origin.topic, partition=origin.partition, offset=origin.offset, size=len(event.payload), attempts=failure.attempts,
        error_type=failure.error_type, error_group=failure.group, error_message=failure.message,
    )  # fmt: skip
    return Letter(group, entry, record.at, died, failure.first_failed_us / 1_000_000, failure.disposition, headers.redrives(ours),
                  replay.id if replay else "")  # fmt: skip


class LetterIndex:
    """Reads dead-letter topics into the index. On the thread that uses `reader`."""

    def __init__(self, settings: Settings, ledger: Ledger, reader: Reader) -> None:
        self._ledger = ledger
        self._reader = reader
        self._wire = Wire(settings)
        self._names = Names(settings.topic_prefix)
        self._pruned: dict[Partition, int] = {}

    def topics(self) -> dict[str, str]:
        """Dead-letter topic → its group, of all that exist. Raises TapeUnavailable."""
        parsed = {name: self._names.parse(name) for name in self._reader.topics()}
        return {name: found.group for name, found in parsed.items() if found and found.kind is Kind.DLQ}

    def catch_up(self, group: str | None = None) -> int:
        """Reads on to the end of all groups' dead-letter topics, or of one group's, as it is now; how many records that were.

        Raises TapeUnavailable, LedgerUnavailable.
        """
        groups = self.topics() if group is None else {self._names.dlq(group): group}
        ends, read = self._reader.ends(groups), 0
        while True:
            seen: dict[Partition, int | None] = {p: None for p in ends} | dict(self._ledger.catalogue.positions())
            behind = {p: end for p, end in ends.items() if (seen[p] or 0) < end}
            if not behind:
                return read
            lows = self._reader.lows({topic for topic, _ in behind})
            spans = {p: Span(max(seen[p] or 0, lows[p]), end) for p, end in behind.items()}
            try:
                for records in self._reader.scan({p: span for p, span in spans.items() if span.start < span.end}, _BATCH):
                    if not self._record(records, {_partition(r): r.at.offset + 1 for r in records}, groups, seen):
                        break
                    read += len(records)
                else:
                    # What retention took, and markers at a span's end, leave a position short of it.
                    self._record([], {p: end for p, end in behind.items() if (seen[p] or 0) < end}, groups, seen)
            except NothingMatched:
                continue  # retention took the beginning of a span meanwhile: the new low watermarks tell

    def _record(self, records: Iterable[Record], positions: dict[Partition, int], groups: dict[str, str],
                seen: dict[Partition, int | None]) -> bool:  # fmt: skip
        """False: another was faster, and it's to begin anew from the positions."""
        rows = [letter(self._wire, record, groups[record.at.topic]) for record in records]
        if not self._ledger.letters.record(rows, positions, {p: seen[p] for p in positions}):
            return False
        seen |= positions
        return True

    def prune(self) -> int:
        """Forgets what retention removed from the topics; how many records that were. Safe on another thread than `catch_up`."""
        gone = 0
        for partition, low in self._reader.lows(self.topics()).items():
            if low > self._pruned.get(partition, 0):
                gone += self._ledger.letters.prune(*partition, low)
                self._pruned[partition] = low
        return gone


def _partition(record: Record) -> Partition:
    return record.at.topic, record.at.partition
