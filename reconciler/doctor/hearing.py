"""What comes, by the tape: read on from where the last look ended, once for all shops. Headers tell nearly all; of each topic of a
shop one webhook is decoded, the newest, and every synthetic event."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from hooktape import log
from hooktape.errors import NothingMatched, NotOurs
from hooktape.ledger import doctor as memory
from hooktape.ledger.doctor import Tape
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.doctor.facts import needed
from hooktape.schemas import topics as shopify
from hooktape.schemas.event import RECONCILER, Event
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader, Record, Span
from hooktape.tape.wire import Wire

_log = log.get("hooktape.reconciler")
FIRST_SECONDS = 3600.0
"""How far back the first reading begins: long enough to hear of each busy topic, short enough to be read in seconds."""
WEBHOOK = "webhook"
_OUTAGES_SECONDS = 86_400.0
# Retention may take a span's beginning, or another reconciler's doctor may read at the same time.
_TRIES = 3
# Our clock may be this far behind Shopify's (microseconds), as everywhere in the reconciler.
_SKEW = 300_000_000
Place = tuple[str, str]
"""(shop, topic)."""


Decode = Callable[[Record], Event | None]


@dataclass(slots=True)
class Reading:
    """What a stretch of the tape told. Feed it records with `take`, in any order."""

    decode: Decode
    newest: dict[Place, Record] = field(default_factory=dict)
    recorded: dict[Place, list[int]] = field(default_factory=dict)
    """When the change of each synthetic event happened."""
    outages: list[tuple[int, int]] = field(default_factory=list)

    def take(self, record: Record) -> None:
        """Takes one record in."""
        found = headers.read(record.headers)
        place, source = (found.get(headers.SHOP, ""), found.get(headers.TOPIC, "")), found.get(headers.SOURCE)
        if source == RECONCILER and (event := self.decode(record)) is not None:
            self.recorded.setdefault(place, []).append(_when(event))
        if source != WEBHOOK:
            return
        before = self.newest.get(place)
        if before is None or record.timestamp_ms >= before.timestamp_ms:
            self.newest[place] = record
        since = headers.refused_since_us(found)
        if since is not None:
            self.outages.append((since, record.timestamp_ms * 1000))


def after(before: Mapping[Place, memory.Heard], reading: Reading, begun: Callable[[Place], int]) -> list[memory.Heard]:
    """What is known of each topic that the reading told of, with what was known before.

    `begun`: when recording began (microseconds): no webhook could come of what happened earlier, and a backfill tells of that.
    """
    known = []
    for place in sorted({*reading.newest, *reading.recorded}):
        one = before.get(place, memory.Heard(*place, 0, "", (), 0, 0))
        newest = reading.newest.get(place)
        event = reading.decode(newest) if newest is not None else None
        if event is not None:
            # A retry brings an old change: what was triggered since stays known.
            latest = max(one.triggered_at, _when(event))
            one = replace(one, triggered_at=latest, version=event.api_version or "", lacks=lacking(event), recorded=0, recorded_at=0)
        if missed := [at for at in reading.recorded.get(place, ()) if at > one.triggered_at and at >= begun(place)]:
            since = min([*missed, *([one.recorded_at] if one.recorded else [])])
            one = replace(one, recorded=one.recorded + len(missed), recorded_at=since)
        known.append(one)
    return known


def _when(event: Event) -> int:
    """When its change happened, by Shopify's clock where that's known: by an unsigned header, which can't be later than its receipt."""
    return min(event.triggered_us, event.received_us + _SKEW) if event.triggered_us is not None else event.received_us


def lacking(event: Event) -> tuple[str, ...]:
    """The members that the event's body needs and hasn't."""
    *ids, last = needed(event.topic) or ("",)
    if not last:
        return ()
    version = last in ("updated_at", "created_at")
    missing = tuple(ids if version else (*ids, last)) if event.resource is None else ()
    return (*missing, last) if version and event.version_us is None else missing


def together(outages: Iterable[tuple[int, int]], before: int) -> tuple[tuple[int, int], ...]:
    """Outages that overlap are one; those that ended before `before` (microseconds) are forgotten. Each process tells of its own."""
    merged: list[tuple[int, int]] = []
    for since, until in sorted(outages):
        if until < before or since > until:
            continue
        if merged and since <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(until, merged[-1][1])
        else:
            merged.append((since, until))
    return tuple(merged)


class Listener:
    """Keeps what is heard in the ledger. Calls from several threads take turns. `close` it."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        names = Names(settings.topic_prefix)
        self._ledger = ledger
        self._logs = sorted(names.log(shopify.table()[topic].kafka_name) for topic in shopify.expand(settings.topics))
        self._reader = Reader(settings)
        self._wire = Wire(settings)
        self._turn = threading.Lock()

    def close(self) -> None:
        """Ends the client."""
        with self._turn:
            self._reader.close()

    def catch_up(self, now: float) -> None:
        """Reads to the tape's end as it is now (`now` in epoch seconds). Raises TapeUnavailable; NothingMatched when retention keeps
        overtaking it; LedgerUnavailable."""
        with self._turn:
            for attempt in range(_TRIES):
                try:
                    if self._read(now):
                        return
                except NothingMatched:
                    if attempt + 1 == _TRIES:
                        raise

    def _read(self, now: float) -> bool:
        tape = self._ledger.doctor.tape()
        spans = self._spans(tape, now)
        reading = Reading(self._decode)
        for records in self._reader.scan({place: span for place, span in spans.items() if span.start < span.end}):
            for record in records:
                reading.take(record)
        before = {(one.shop, one.topic): one for one in self._ledger.doctor.heard()}
        outages = together([*tape.outages, *reading.outages], round((now - _OUTAGES_SECONDS) * 1e6))
        marks = {f"{topic}/{number}": span.end for (topic, number), span in spans.items()}
        return self._ledger.doctor.hear(Tape(tape.seq, marks, outages), after(before, reading, self._begun))

    def _spans(self, tape: Tape, now: float) -> dict[tuple[str, int], Span]:
        ends, lows = self._reader.ends(self._logs), self._reader.lows(self._logs)
        places = {place: tape.marks.get(f"{place[0]}/{place[1]}") for place in ends}
        new = {place[0] for place, mark in places.items() if mark is None}
        begin = self._reader.starts(new, round((now - FIRST_SECONDS) * 1000)) if new else {}
        starts = {place: begin[place] if mark is None else mark for place, mark in places.items()}
        # A log that was made anew begins at 0 again, below what is noted of the old one.
        return {place: Span(max(start, lows[place]) if start <= ends[place] else lows[place], ends[place])
                for place, start in starts.items()}  # fmt: skip

    def _begun(self, place: Place) -> int:
        shop, topic = place
        return self._ledger.reconcile.cursor(shop, topic.partition("/")[0]).coverage_from or 0

    def _decode(self, record: Record) -> Event | None:
        try:
            return self._wire.decode(record.value)
        except NotOurs as error:
            _log.warning("a record on the tape isn't ours", at=str(record.at), error=str(error))
            return None
