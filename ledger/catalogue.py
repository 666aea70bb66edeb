"""Where on the tape an event lies, and the searches over that."""

import base64
import struct
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from hooktape.errors import UsageError
from hooktape.ledger import lookups, search, versions
from hooktape.ledger.checks import State
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.keys import EventKey, event_id16
from hooktape.ledger.positions import Overtaken, Place, move
from hooktape.ledger.selection import Clock, Selection, Status
from hooktape.ledger.texts import clean


class Proof(StrEnum):
    """What vouches for an event. Guarantee: one that isn't in `REPLAYABLE` is never replayed."""

    VERIFIED = "verified"
    """Its body bears Shopify's signature: looked at when it was catalogued."""
    SIGNED = "signed"
    """Ingest verified it with a secret that the cataloguer doesn't have."""
    ADMIN = "admin"
    """The reconciler read it from the Admin API."""
    IMPORT = "import"
    """An operator imported it."""
    NONE = "none"
    """Nothing. Do: find out who wrote it to the tape."""
    WRONG = "wrong"
    """Its signature isn't its body's. Do: as above, and `hooktape verify-log`."""


REPLAYABLE = frozenset({Proof.VERIFIED, Proof.SIGNED, Proof.ADMIN, Proof.IMPORT})
"""What may be replayed; the rest failed verification."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event as the catalogue knows it. Times and `version` are microseconds, `size` the body's bytes.

    Coordinates and `proof` are the first copy's; `copies` counts all. `status` and the rest are filled where a group was asked
    about; a search by a status other than succeeded tells the time at which the copy was received that the group handled.
    """

    key: EventKey
    shop: str
    topic: str
    webhook_id: str
    resource: str | None
    root: str | None
    version: int | None
    triggered_at: int | None
    received_at: int
    source: str
    kafka_topic: str
    partition: int
    offset: int
    size: int
    copies: int = 1
    proof: Proof = Proof.NONE
    status: Status | None = None
    attempts: int = 0
    error_type: str = ""
    error_group: str = ""
    error_message: str = ""


class After(NamedTuple):
    """Where a page ended; `After.of(page[-1])` asks for the next. It serves either of a selection's clocks."""

    received_at: int
    id: bytes
    triggered_at: int | None = None

    @classmethod
    def of(cls, entry: Entry) -> "After":
        return cls(entry.received_at, entry.key.id, entry.triggered_at)

    def by(self, clock: Clock) -> tuple[int, bytes]:
        """The place in the order of that clock."""
        triggered = self.triggered_at if clock is Clock.TRIGGERED else None
        return self.received_at if triggered is None else triggered, self.id

    def encode(self) -> str:
        """As commands and the API hand it out: opaque, fit for an address, and fit for nothing but `decode`."""
        triggered = self.triggered_at
        return base64.urlsafe_b64encode(_CURSOR.pack(self.received_at, triggered is not None, triggered or 0, self.id)).decode()

    @classmethod
    def decode(cls, text: str) -> "After":
        """Raises UsageError for what `encode` didn't write."""
        try:
            received, known, triggered, id_ = _CURSOR.unpack(base64.b64decode(text, b"-_", validate=True))
        except (ValueError, struct.error):
            raise UsageError(f"{text[:60]!r} isn't a cursor: take the one that the page before ended with.") from None
        return cls(received, id_, triggered if known else None)


# 33 bytes: no padding in base64.
_CURSOR = struct.Struct(">q?q16s")

COLUMNS = ("day, id, shop, topic, webhook_id, resource, root, version, triggered_at, received_at, source, kafka_topic, "
            "kafka_partition, kafka_offset, size, copies, proof")  # fmt: skip
_WIDTH = COLUMNS.count(",") + 1
_TYPES = ("integer", "bytes", "text", "text", "text", "text", "text", "bigint", "bigint", "bigint", "text", "text", "integer",
          "bigint", "integer", "integer", "text")  # fmt: skip


class Catalogue:
    """Kept by `hooktape catalog` from the tape alone: `reset` it, and it's built again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, rows: Sequence[Entry], positions: Mapping[Place, int], expected: Mapping[Place, int | None],
               names: Sequence[lookups.Row] = ()) -> bool:  # fmt: skip
        """Adds records read from the tape and moves the positions, both or neither. False: another was faster.

        `positions`: the next offset to read; `expected`: what `positions()` said for each of them before the batch was read, None where
        it said nothing; `names`: what `ledger.lookups` finds the events' resources by. An event that is known already (one more copy)
        keeps its first coordinates.
        After False read `positions()` again and go on from there.
        """

        def work(t: Transaction) -> bool:
            move(t, positions, expected)
            t.many("INSERT INTO event_days (day) VALUES (:day) ON CONFLICT (day) DO NOTHING",
                   [{"day": day} for day in sorted({row.key.day for row in rows})])  # fmt: skip
            t.many("INSERT INTO event_topics (topic) VALUES (:topic) ON CONFLICT (topic) DO NOTHING",
                   [{"topic": topic} for topic in sorted({clean(row.topic) for row in rows})])  # fmt: skip
            t.insert(_ADD, _TYPES, ready, _AGAIN)
            lookups.add(t, names)
            return True

        # Sorted by key, so that two transactions can't wait for each other and neighbours in an index come one after another.
        ready = [_values(row) for row in sorted(_folded(rows), key=lambda r: r.key)]

        try:
            return self._database.write(work, days={row.key.day for row in rows})
        except Overtaken:
            return False

    def positions(self) -> dict[Place, int]:
        """(Kafka topic, partition) → the next offset to read."""
        rows = self._database.read(lambda t: t.rows("SELECT kafka_topic, kafka_partition, next_offset FROM positions"))
        return {(topic, partition): offset for topic, partition, offset in rows}

    def reset(self) -> None:
        """Forgets all events and positions; outcomes stay."""

        def work(t: Transaction) -> None:
            for table in ("events", "lookups", "event_days", "event_topics", "positions"):
                t.empty(table)

        self._database.write(work)

    def prune(self, kafka_topic: str, partition: int, low_offset: int) -> int:
        """Forgets what retention has deleted: records below `low_offset`, the partition's low watermark; how many."""
        return self._database.write(lambda t: t.run(
            "DELETE FROM events WHERE kafka_topic = :topic AND kafka_partition = :partition AND kafka_offset < :low",
            {"topic": kafka_topic, "partition": partition, "low": low_offset}))  # fmt: skip

    def topics(self) -> list[str]:
        """Every Shopify topic that was ever on the tape."""
        return self._database.read(search.known_topics)

    def find(self, selection: Selection, group: str | None = None, *, after: After | None = None, limit: int = 100,
             newest_first: bool = False, beyond: Mapping[Place, int] | None = None) -> list[Entry]:  # fmt: skip
        """A page of the selected events by time received (where the selection's clock is Shopify's: by time triggered), with
        their status in `group` where one is given.

        An event without an outcome is PENDING, also where its group has gone past it. `beyond`: only events at or behind these offsets
        of the tape's partitions, found by their places, for few of them. Raises UsageError when the selection needs a group and there
        is none, or what SQL alone can't say (`Selection.needs_tape`): that is `replayer.finding.Finder`'s.
        """

        def work(t: Transaction) -> list[Entry]:
            t.step_by_index()
            query = search.compile(t, selection, group, beyond)
            if query is None:
                return []
            sql, params = query.page(COLUMNS, after.by(query.clock) if after else None, limit, newest_first)
            return [_entry(row, group) for row in t.rows(sql, params)]

        return self._database.read(work)

    def count(self, selection: Selection, group: str | None = None, *, limit: int | None = None) -> int:
        """How many events are selected; with `limit`, it stops counting there: pages need no more than "over 1,000".

        Raises as `find` does.
        """

        def work(t: Transaction) -> int:
            t.step_by_index()
            query = search.compile(t, selection, group)
            row = None if query is None else t.row(*query.count(limit))
            return int(row[0]) if row else 0

        return self._database.read(work)

    def get(self, webhook_id: str, shop: str | None = None, group: str | None = None) -> list[Entry]:
        """Events with this webhook id: one, or several where shops aren't told apart and share it."""
        if shop is None:
            return self.find(Selection(ids=(webhook_id,)), group)
        return self.by_id(event_id16(shop, webhook_id), group)

    def starting(self, prefix: str, limit: int = 100) -> list[Entry]:
        """Events whose webhook id begins so, in plain ASCII."""

        def work(t: Transaction) -> list[Entry]:
            query = search.of_prefix(t, prefix)
            return [] if query is None else [_entry(row, None) for row in t.rows(*query.page(COLUMNS, None, limit, False))]

        return self._database.read(work)

    def by_id(self, id_: bytes, group: str | None = None) -> list[Entry]:
        """The event with this key's `id`, on whatever day it lies."""

        def work(t: Transaction) -> list[Entry]:
            t.step_by_index()
            query = search.of_ids(t, [id_], group)
            if query is None:
                return []
            return [_entry(row, group) for row in t.rows(*query.page(COLUMNS, None, 100, False))]

        return self._database.read(work)

    def of_keys(self, keys: Sequence[EventKey]) -> list[Entry]:
        """These events, as far as they're known, in the order of the keys."""
        days = sorted({key.day for key in keys})
        columns = ", ".join(f"e.{column.strip()}" for column in COLUMNS.split(","))
        rows = self._database.read(lambda t: t.rows(f"SELECT {columns} FROM events e WHERE e.day IN :days AND e.id IN :ids",
                                                    {"days": days, "ids": [key.id for key in keys]})) if keys else []  # fmt: skip
        found = {row[1]: _entry(row, None) for row in rows}
        return [found[key.id] for key in keys if key.id in found]

    def newest_failures(self, group: str, limit: int) -> list[str]:
        """The lanes (as `Event.lane`) of the group's `limit` newest failures, the newest first; a lane as often as it failed."""
        rows = self._database.read(lambda t: t.rows(
            """SELECT e.shop, e.root FROM (SELECT day, id, failed_at FROM outcomes WHERE grp = :grp AND failed_at IS NOT NULL
                                          ORDER BY failed_at DESC LIMIT :limit) o
               JOIN events e ON e.day = o.day AND e.id = o.id ORDER BY o.failed_at DESC""",
            {"grp": group, "limit": limit}))  # fmt: skip
        return [f"{shop}/{root}" if root else shop for shop, root in rows]

    def newest_succeeded(self, group: str, entries: Sequence[Entry]) -> dict[tuple[str, str, str], int]:
        """(shop, topic, resource) → the newest version that the group has handled, for the resources of these events.

        Of the same topic only: an `orders/paid` isn't superseded by a later `orders/updated`, which another handler may take. A newer
        version is looked for from the day before the oldest of these events on: it was triggered later.
        """
        versioned = [e for e in entries if e.resource and e.version is not None]
        if not versioned:
            return {}
        first = min(e.key.day for e in versioned) - 1
        wanted = sorted({(e.shop, e.topic, e.resource or "") for e in versioned})
        return self._database.read(lambda t: versions.newest_succeeded(t, group, first, wanted))


# Looked up: making an enum's member from its value takes as long as the rest of an entry.
_PROOFS = {proof.value: proof for proof in Proof}
_ADD = f"INSERT INTO events ({COLUMNS})"
_AGAIN = "ON CONFLICT (day, id) DO UPDATE SET copies = events.copies + excluded.copies"


def _folded(rows: Sequence[Entry]) -> list[Entry]:
    """One row for an event: PostgreSQL refuses a statement that would change one row twice."""
    first: dict[EventKey, Entry] = {}
    for row in rows:
        known = first.setdefault(row.key, row)
        if known is not row:
            first[row.key] = msgspec.structs.replace(known, copies=known.copies + row.copies)
    return list(first.values())


def _values(row: Entry) -> tuple[Any, ...]:
    resource, root = row.resource, row.root
    return (row.key.day, row.key.id, clean(row.shop), clean(row.topic), clean(row.webhook_id),
            None if resource is None else clean(resource), None if root is None else clean(root), row.version, row.triggered_at,
            row.received_at, clean(row.source), row.kafka_topic, row.partition, row.offset, row.size, row.copies,
            row.proof.value)  # fmt: skip


def _entry(row: tuple[Any, ...], group: str | None) -> Entry:
    day, id_, *event = row[:_WIDTH]
    event[-1] = _PROOFS[event[-1]]
    entry = Entry(EventKey(day, id_), *event)
    if group is None:
        return entry
    state, attempts, error_type, error_group, error_message = row[_WIDTH:]
    status = Status.PENDING if state is None else search.STATUSES[State(state)]
    return msgspec.structs.replace(entry, status=status, attempts=attempts or 0, error_type=error_type or "",
                                   error_group=error_group or "", error_message=error_message or "")  # fmt: skip
