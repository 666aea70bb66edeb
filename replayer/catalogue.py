"""Keeps the ledger's catalogue: where on the tape each event lies. Exactly once, however many do it at the same time.

Rows and positions are written in one transaction that holds only if nobody moved the positions meanwhile; whoever comes
second throws its batch away and goes on from where the first one was.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from hooktape import log
from hooktape.errors import LedgerUnavailable, NothingMatched, NotOurs, TapeUnavailable
from hooktape.ledger import catalogue, lookups
from hooktape.ledger.ledger import Ledger
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape.follower import Follower
from hooktape.tape.names import Kind, Names
from hooktape.tape.reader import Partition, Reader, Record, Span
from hooktape.tape.wire import Wire

_log = log.get("hooktape.catalog")
# One fsync a batch: larger ones gain little (measured), and are what a lost race throws away.
_BATCH = 2000
# New topics and partitions are looked for this often, in seconds; `topics apply` is rare.
_LOOK_AGAIN = 5.0
# Kafka or the ledger don't answer: short beside the alarm on lag, long beside a reconnect.
_PAUSE = 2.0
# Outcomes and coordinates are kept for as long as a dead letter may still be redriven (90 days), and the days at both ends.
_KEPT_DAYS = 92
_DAY = 86_400


def entry(wire: Wire, record: Record) -> catalogue.Entry:
    """The catalogue's row for a record of the log. Raises NotOurs."""
    return _entry(wire.decode(record.value), record)


def _entry(event: Event, record: Record) -> catalogue.Entry:
    return catalogue.Entry(
        event.key, event.shop, event.topic, event.webhook_id, event.resource, event.resource_root, event.version_us,
        event.triggered_us, event.received_us, event.source, *record.at, len(event.payload),
    )  # fmt: skip


def log_topics(settings: Settings, reader: Reader) -> list[str]:
    """The Kafka topics that make up the tape, as far as they exist. Raises TapeUnavailable."""
    names = Names(settings.topic_prefix)
    return [name for name in reader.topics() if (parsed := names.parse(name)) and parsed.kind is Kind.LOG]


class Cataloguer(AbstractContextManager["Cataloguer"]):
    """Reads the tape into the catalogue. `foreign` counts the records that it met and that aren't events."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.settings = settings
        self._ledger = ledger
        self._wire = Wire(settings)
        self.reader = Reader(settings)
        self._pruned: dict[Partition, int] = {}
        self.foreign = 0

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def catch_up(self, until: Mapping[Partition, int] | None = None,
                 progress: Callable[[int, int], None] | None = None) -> dict[Partition, int]:  # fmt: skip
        """Reads on to the tape's end as it is now (or to `until`), and returns that end.

        `progress` gets (records read, records to read). Raises TapeUnavailable, LedgerUnavailable.
        """
        ends = dict(until if until is not None else self.reader.ends(log_topics(self.settings, self.reader)))
        read = 0
        while True:
            seen: dict[Partition, int | None] = {p: None for p in ends} | dict(self._ledger.catalogue.positions())
            lows = self.reader.lows({topic for topic, _ in ends})
            spans = {p: Span(max(seen[p] or 0, lows.get(p, 0)), end) for p, end in ends.items()}
            spans = {p: span for p, span in spans.items() if span.start < span.end and (seen[p] or 0) < span.end}
            if not spans:
                return ends
            total = read + sum(span.end - span.start for span in spans.values())
            try:
                for records in self.reader.scan(spans, _BATCH):
                    if not self._record(records, _next(records), seen):
                        break
                    read += len(records)
                    if progress:
                        progress(read, total)
                else:
                    # Markers and removed records at a span's end leave the position short of it.
                    self._record([], {p: span.end for p, span in spans.items() if (seen[p] or 0) < span.end}, seen)
                    return ends
            except NothingMatched:
                continue  # retention took the beginning of a span meanwhile: the new low watermarks tell

    def _record(self, records: Iterable[Record], positions: Mapping[Partition, int], seen: dict[Partition, int | None]) -> bool:
        rows: list[catalogue.Entry] = []
        names: list[lookups.Row] = []
        namer = self._ledger.lookups.namer
        for record in records:
            try:
                event = self._wire.decode(record.value)
                rows.append(_entry(event, record))
                names += namer.rows(event)
            except NotOurs as error:
                self.foreign += 1
                _log.warning("a record on the tape isn't an event; it's left where it is", at=record.at, error=str(error))
        if not positions:
            return True
        if not self._ledger.catalogue.record(rows, positions, {p: seen.get(p) for p in positions}, names):
            return False
        seen |= positions
        return True

    def lag(self) -> int:
        """Records on the tape that the catalogue hasn't read."""
        topics = log_topics(self.settings, self.reader)
        positions = self._ledger.catalogue.positions()
        lows = self.reader.lows(topics)
        return sum(max(0, end - max(positions.get(p, 0), lows.get(p, 0))) for p, end in self.reader.ends(topics).items())

    def prune(self, now: float) -> int:
        """Forgets what retention removed from the tape, and outcomes too old to matter; how many events that was."""
        gone = 0
        for partition, low in self.reader.lows(log_topics(self.settings, self.reader)).items():
            if low > self._pruned.get(partition, 0):
                gone += self._ledger.catalogue.prune(*partition, low)
                self._pruned[partition] = low
        self._ledger.prune(int(now // _DAY) - max(_KEPT_DAYS, self.settings.retention_days + 2))
        return gone

    def follow(self, stop: threading.Event) -> None:
        """Keeps the catalogue up to date until `stop` is set. Nothing that Kafka or the ledger does ends it."""
        while not stop.is_set():
            try:
                self.catch_up()
                self._follow(stop)
            except (TapeUnavailable, LedgerUnavailable) as error:
                _log.warning("the catalogue waits", error=str(error))
                stop.wait(_PAUSE)

    def _follow(self, stop: threading.Event) -> None:
        with Follower(self.settings) as follower:
            seen: dict[Partition, int | None] = {}
            while not stop.is_set():
                lows = self.reader.lows(log_topics(self.settings, self.reader))
                if new := lows.keys() - seen.keys():
                    positions = self._ledger.catalogue.positions()
                    seen |= {p: positions.get(p) for p in new}
                    follower.follow({p: max(seen[p] or 0, lows[p]) for p in new})
                if not self._until_overtaken(follower, seen, stop):
                    return  # begins anew, from the positions of whoever was faster

    def _until_overtaken(self, follower: Follower, seen: dict[Partition, int | None], stop: threading.Event) -> bool:
        """Records what comes, until it's time to look for new partitions (True) or another was faster (False)."""
        look_again = time.monotonic() + _LOOK_AGAIN
        while not stop.is_set() and time.monotonic() < look_again:
            records, positions = follower.poll(0.2, _BATCH)
            moved = {p: offset for p, offset in positions.items() if offset > (seen.get(p) or 0)}
            if not self._record(records, moved, seen):
                return False
        return True


def _next(records: Iterable[Record]) -> dict[Partition, int]:
    return {(record.at.topic, record.at.partition): record.at.offset + 1 for record in records}
