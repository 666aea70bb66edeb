"""The reconciler's look at the tape: records of one shop and family, from a time to the end as it is when asked."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from hooktape import log
from hooktape.errors import NothingMatched, NotOurs
from hooktape.ledger.reconcile import Intent
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.family import Family
from hooktape.schemas import resources
from hooktape.schemas import topics as shopify
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Names
from hooktape.tape.reader import Partition, Reader, Record, Span
from hooktape.tape.wire import Wire

_log = log.get("hooktape.reconciler")
# Retention may take a span's beginning between asking for bounds and reading them; a second time in a row is very bad luck.
_TRIES = 3
# Microseconds from a change to its record within which it was delivered at once: seconds as a rule; retries take longer.
_PROMPT = 60_000_000
T = TypeVar("T")


class TapeView:
    """Reads coverage. Calls from several threads take turns. `close` it."""

    def __init__(self, settings: Settings) -> None:
        self._names = Names(settings.topic_prefix)
        self._reader = Reader(settings)
        self._wire = Wire(settings)
        self._turn = threading.Lock()
        self._beginnings: dict[str, tuple[dict[Partition, int], dict[str, int]]] = {}

    def close(self) -> None:
        """Ends the client."""
        with self._turn:
            self._reader.close()

    def coverage(self, shop: str, family: Family, since_us: int, wanted: frozenset[str] | None = None,
                 intents: Sequence[Intent] = (), watched: Sequence[Intent] = (),
                 beyond: Mapping[str, int] | None = None) -> Coverage:  # fmt: skip
        """What the tape holds of the family, from the records appended at or after `since_us`, or where `beyond` is given from the offsets
        of these marks, to its end now; of `wanted` only.

        Of `intents`, too, wherever they may lie: from their marks on, whatever the clocks say. `watched` are synthetic events
        whose webhooks are looked for. Raises TapeUnavailable; NothingMatched when retention keeps overtaking the reader.
        """

        def read() -> Coverage:
            spans = self._bounds(family, None if beyond is not None else since_us)
            if beyond is not None:
                spans = {(topic, number): Span(max(span.start, min(span.end, beyond.get(f"{topic}/{number}", 0))), span.end)
                         for (topic, number), span in spans.items()}  # fmt: skip
            spans = self._back_to(spans, intents, family)
            coverage = Coverage(family, wanted=wanted, watched={(intent.resource, intent.version): intent.id for intent in watched})
            keys = _keys(shop, family, wanted, (*intents, *watched))
            for records in self._reader.scan(spans):
                for record in records:
                    if keys is None or record.key in keys:
                        self._take(record, shop, family, coverage)
            coverage.marks = {f"{topic}/{number}": span.end for (topic, number), span in spans.items()}
            return coverage

        return self._again(read)

    def beginning(self, shop: str, family: Family) -> int | None:
        """When the tape of the family begins for the shop (microseconds): its oldest record; None: there's none.

        In Shopify's time, since that is what changes are compared in: when the record's change was triggered. A delivery that
        took long (a retry) tells nothing of when recording began, so that then the time of its recording counts.

        One reading answers for all shops; for one that it hasn't met it's gone on with from where it ended.
        """

        def read() -> int | None:
            read_to, begun = self._beginnings.setdefault(family.name, ({}, {}))
            if shop in begun:
                return begun[shop]
            spans = {place: Span(max(span.start, min(span.end, read_to.get(place, 0))), span.end)
                     for place, span in self._bounds(family, None).items()}  # fmt: skip
            first: dict[str, Record] = {}
            for records in self._reader.scan(spans):
                for record in records:
                    found = headers.read(record.headers)
                    of = found.get(headers.SHOP, "")
                    if of not in begun and self._of(record, found, family):
                        first[of] = min(first.get(of, record), record, key=lambda r: r.timestamp_ms)
            begun |= {of: self._begin(record) for of, record in first.items()}
            read_to |= {place: span.end for place, span in spans.items()}
            return begun.get(shop)

        return self._again(read)

    def _begin(self, record: Record) -> int:
        recorded = record.timestamp_ms * 1000
        with contextlib.suppress(NotOurs):
            event = self._wire.decode(record.value)
            changed = event.version_us if event.version_us is not None else event.triggered_us
            if changed is not None and 0 <= recorded - changed <= _PROMPT:
                return changed
        return recorded

    def _bounds(self, family: Family, since_us: int | None) -> dict[Partition, Span]:
        logs = {self._names.log(shopify.table()[topic].kafka_name) for topic in family.topics}
        since_ms = None if since_us is None else max(0, since_us // 1000)
        return self._reader.bounds([*sorted(logs), self._names.other], since_ms)

    def _back_to(self, spans: dict[Partition, Span], intents: Sequence[Intent], family: Family) -> dict[Partition, Span]:
        """The spans, each from the lowest mark of an open intent on where that is lower."""
        marks: dict[Partition, int] = {}
        for intent in intents:
            for place, offset in intent.marks.items():
                topic, _, number = place.rpartition("/")
                marks[topic, int(number)] = min(offset, marks.get((topic, int(number)), offset))
        if not marks:
            return spans
        whole = self._bounds(family, None)
        return {p: Span(max(span.start, min(spans[p].start if p in spans else span.end, marks.get(p, span.end))), span.end)
                for p, span in whole.items() if p in spans or p in marks}  # fmt: skip

    def _of(self, record: Record, found: headers.Headers, family: Family) -> bool:
        return record.at.topic != self._names.other or found.get(headers.TOPIC) in family.topics

    def _take(self, record: Record, shop: str, family: Family, coverage: Coverage) -> None:
        found = headers.read(record.headers)
        if found.get(headers.SHOP) != shop or not self._of(record, found, family):
            return
        try:
            event = self._wire.decode(record.value)
        except NotOurs as error:
            # It proves nothing about any resource; whoever plays the tape dead-letters it.
            _log.warning("a record on the tape isn't ours", at=str(record.at), error=str(error))
            return
        if event.shop == shop:
            coverage.fold(event)

    def _again(self, read: Callable[[], T]) -> T:
        with self._turn:
            for _ in range(_TRIES - 1):
                try:
                    return read()
                except NothingMatched:
                    continue
            return read()


def _keys(shop: str, family: Family, wanted: frozenset[str] | None, intents: Sequence[Intent]) -> frozenset[bytes] | None:
    """The Kafka keys of all records that may matter: of a tape of millions, all others needn't be decoded. None: any may."""
    if wanted is None or not resources.own_root(family.name):
        return None
    return frozenset(f"{shop}/{name}".encode() for name in wanted.union(intent.resource for intent in intents))
