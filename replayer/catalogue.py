"""Keeps the ledger's catalogue: where on the tape each event lies. Exactly once, however many do it at the same time.

Rows and positions are written in one transaction that holds only if nobody moved the positions meanwhile; whoever comes
second throws its batch away and goes on from where the first one was.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from hooktape import log, metrics
from hooktape.errors import LedgerUnavailable, NothingMatched, NotOurs, TapeUnavailable
from hooktape.ledger import catalogue, lookups
from hooktape.ledger.catalogue import Proof
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.letters import LetterIndex
from hooktape.schemas.event import Event
from hooktape.schemas.signature import Verifier, secret_id
from hooktape.settings import Settings
from hooktape.tape.follower import Follower
from hooktape.tape.names import Kind, Names
from hooktape.tape.reader import Partition, Reader, Record, Span
from hooktape.tape.wire import Wire

_log = log.get("hooktape.catalog")
# Rows in one transaction while there's more to read. In one of 2,000, almost every row is alone on its pages of the scattered
# indexes, which go to the log and then to the file once a transaction: 34 µs a row on SQLite (a day of 200,000), against 22 in one of
# 10,000. It's half a second's work, and what a lost race or a kill throws away.
_BATCH = 10_000
# Records asked of Kafka at a time: of bodies only these are in memory at once.
_POLL = 1000
# New topics and partitions are looked for this often, in seconds; `topics apply` is rare.
_LOOK_AGAIN = 5.0
# Kafka or the ledger don't answer: short beside the alarm on lag, long beside a reconnect.
_PAUSE = 2.0
# Outcomes and coordinates are kept for as long as a dead letter may still be redriven (90 days), and the days at both ends.
_KEPT_DAYS = 92
_DAY = 86_400


class Prover:
    """Tells what vouches for an event, with the secrets that are configured here: none, or some, or all that are in use."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._verifier = Verifier(secrets) if secrets else None
        self._known = frozenset(secret_id(secret) for secret in secrets)

    def proof(self, event: Event) -> Proof:
        """Pure. A body of 1 KiB takes 2 µs to verify, of 4 KiB 4: a tenth of what its row costs."""
        if event.hmac is None:
            return _UNSIGNED.get(event.source, Proof.NONE)
        if self._verifier and self._verifier.verify(event.payload, event.hmac.encode("ascii", "replace")):
            return Proof.VERIFIED
        if event.secret_id is None:
            return Proof.WRONG if self._verifier else Proof.NONE
        return Proof.WRONG if event.secret_id in self._known else Proof.SIGNED


_UNSIGNED = {"reconciler": Proof.ADMIN, "import": Proof.IMPORT}


def entry(wire: Wire, record: Record, prover: Prover | None = None) -> catalogue.Entry:
    """The catalogue's row for a record of the log. Raises NotOurs."""
    return _entry(wire.decode(record.value), record, prover or _NO_SECRETS)


def _entry(event: Event, record: Record, prover: Prover) -> catalogue.Entry:
    return catalogue.Entry(
        event.key, event.shop, event.topic, event.webhook_id, event.resource, event.resource_root, event.version_us,
        event.triggered_us, event.received_us, event.source, *record.at, len(event.payload), 1, prover.proof(event),
    )  # fmt: skip


_NO_SECRETS = Prover()


def log_topics(settings: Settings, reader: Reader) -> list[str]:
    """The Kafka topics that make up the tape, as far as they exist. Raises TapeUnavailable."""
    names = Names(settings.topic_prefix)
    return [name for name in reader.topics() if (parsed := names.parse(name)) and parsed.kind is Kind.LOG]


class Cataloguer(AbstractContextManager["Cataloguer"]):
    """Reads the tape into the catalogue. `foreign` counts the records that it met and that aren't events.

    `letters` is the index of the dead-letter topics, kept by the way: `follow` reads on in it every few seconds, and whoever asks
    about dead letters before that reads on by himself.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.settings = settings
        self._ledger = ledger
        self._wire = Wire(settings)
        self._prover = Prover([secret.reveal() for secret in settings.shopify_secrets])
        self.reader = Reader(settings)
        self.letters = LetterIndex(settings, ledger, self.reader)
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
                batch = _Batch()
                for records in self.reader.scan(spans, _POLL):
                    batch.add(*self._rows(records), _next(records))
                    read += len(records)
                    if batch.is_full and not self._record(batch, seen):
                        break
                    if progress:
                        progress(read, total)
                else:
                    # Markers and removed records at a span's end leave the position short of it.
                    batch.add([], [], {p: span.end for p, span in spans.items()})
                    if self._record(batch, seen):
                        return ends
            except NothingMatched:
                continue  # retention took the beginning of a span meanwhile: the new low watermarks tell

    def rebuild(self, progress: Callable[[int, int], None] | None = None) -> dict[Partition, int]:
        """Forgets the catalogue and reads the tape from its beginning; outcomes stay. Returns and raises as `catch_up` does.

        A rebuild that was killed is gone on with by any later `catch_up`.
        """
        self._ledger.catalogue.reset()
        return self.catch_up(progress=progress)

    def _rows(self, records: Iterable[Record]) -> tuple[list[catalogue.Entry], list[lookups.Row]]:
        rows: list[catalogue.Entry] = []
        names: list[lookups.Row] = []
        namer = self._ledger.lookups.namer
        for record in records:
            try:
                event = self._wire.decode(record.value)
                rows.append(_entry(event, record, self._prover))
                names += namer.rows(event)
            except NotOurs as error:
                self.foreign += 1
                _log.warning("a record on the tape isn't an event; it's left where it is", at=record.at, error=str(error))
        return rows, names

    def _record(self, batch: "_Batch", seen: dict[Partition, int | None]) -> bool:
        """Writes the batch and empties it. False: another was faster, nothing was written."""
        rows, names, positions = batch.take()
        # An end event may tell a position that was known.
        moved = {p: offset for p, offset in positions.items() if offset > (seen.get(p) or 0)}
        if not moved:
            return True
        if not self._ledger.catalogue.record(rows, moved, {p: seen.get(p) for p in moved}, names):
            return False
        seen |= moved
        for row in rows:
            # Here, where each record comes by once: a pass of the reconciler reads what the one before has read.
            if row.source == "webhook" and row.version is not None:
                metrics.DELIVERY_DELAY.labels(row.topic).observe(max(0, row.received_at - row.version) / 1e6)
        return True

    def lag(self) -> int:
        """Records on the tape that the catalogue hasn't read."""
        topics = log_topics(self.settings, self.reader)
        positions = self._ledger.catalogue.positions()
        lows = self.reader.lows(topics)
        return sum(max(0, end - max(positions.get(p, 0), lows.get(p, 0))) for p, end in self.reader.ends(topics).items())

    def prune(self, now: float) -> int:
        """Forgets what retention removed from the tape and the dead-letter topics, and outcomes too old to matter; how many records."""
        gone = 0
        for partition, low in self.reader.lows(log_topics(self.settings, self.reader)).items():
            if low > self._pruned.get(partition, 0):
                gone += self._ledger.catalogue.prune(*partition, low)
                self._pruned[partition] = low
        gone += self.letters.prune()
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
                self.letters.catch_up()
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
        batch = _Batch()
        while not stop.is_set() and time.monotonic() < look_again:
            records, positions = follower.poll(0.2, _POLL)
            batch.add(*self._rows(records), positions)
            # A poll that brought all it may says that there's more.
            if (len(records) < _POLL or batch.is_full) and not self._record(batch, seen):
                return False
        return self._record(batch, seen)


class _Batch:
    """Rows and positions for one transaction."""

    def __init__(self) -> None:
        self._rows: list[catalogue.Entry] = []
        self._names: list[lookups.Row] = []
        self._positions: dict[Partition, int] = {}

    @property
    def is_full(self) -> bool:
        return len(self._rows) >= _BATCH

    def add(self, rows: Iterable[catalogue.Entry], names: Iterable[lookups.Row], positions: Mapping[Partition, int]) -> None:
        self._rows += rows
        self._names += names
        self._positions |= positions

    def take(self) -> tuple[list[catalogue.Entry], list[lookups.Row], dict[Partition, int]]:
        taken, self._rows, self._names, self._positions = (self._rows, self._names, self._positions), [], [], {}
        return taken


def _next(records: Iterable[Record]) -> dict[Partition, int]:
    return {(record.at.topic, record.at.partition): record.at.offset + 1 for record in records}
