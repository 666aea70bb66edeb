"""Where on the tape an event lies, and the searches over that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hooktape.ledger import search
from hooktape.ledger.checks import State
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.keys import EventKey, event_id16
from hooktape.ledger.selection import Selection, Status
from hooktape.ledger.texts import clean

Place = tuple[str, int]
"""A Kafka topic and partition."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as the catalogue knows it. Times and `version` are microseconds, `size` the body's bytes.

    Coordinates are the first copy's; `copies` counts all. `status` and the rest are filled where a group was asked about.
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
    status: Status | None = None
    attempts: int = 0
    error_type: str = ""
    error_group: str = ""
    error_message: str = ""


class After(NamedTuple):
    """Where a page ended; `After.of(page[-1])` asks for the next."""

    received_at: int
    id: bytes

    @classmethod
    def of(cls, entry: Entry) -> "After":
        return cls(entry.received_at, entry.key.id)


_COLUMNS = ("day, id, shop, topic, webhook_id, resource, root, version, triggered_at, received_at, source, kafka_topic, "
            "kafka_partition, kafka_offset, size, copies")  # fmt: skip
_WIDTH = _COLUMNS.count(",") + 1


class Catalogue:
    """Kept by `hooktape catalog` from the tape alone: `reset` it, and it's built again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, rows: Sequence[Entry], positions: Mapping[Place, int], expected: Mapping[Place, int | None]) -> bool:
        """Adds records read from the tape and moves the positions, both or neither. False: another was faster.

        `positions`: the next offset to read; `expected`: what `positions()` said for each of them before the batch was
        read, None where it said nothing. An event that is known already (one more copy) keeps its first coordinates.
        After False read `positions()` again and go on from there.
        """

        def work(t: Transaction) -> bool:
            for place in sorted(positions):
                values = {"topic": place[0], "partition": place[1], "next": positions[place], "seen": expected.get(place)}
                if not t.run(_FIRST_POSITION if values["seen"] is None else _MOVE_POSITION, values):
                    raise _Overtaken
            t.many("INSERT INTO event_days (day) VALUES (:day) ON CONFLICT (day) DO NOTHING",
                   [{"day": day} for day in sorted({row.key.day for row in rows})])  # fmt: skip
            t.many("INSERT INTO event_topics (topic) VALUES (:topic) ON CONFLICT (topic) DO NOTHING",
                   [{"topic": topic} for topic in sorted({clean(row.topic) for row in rows})])  # fmt: skip
            t.many(_ADD, [_values(row) for row in sorted(rows, key=lambda r: r.key)])
            return True

        try:
            return self._database.write(work, days={row.key.day for row in rows})
        except _Overtaken:
            return False

    def positions(self) -> dict[Place, int]:
        """(Kafka topic, partition) → the next offset to read."""
        rows = self._database.read(lambda t: t.rows("SELECT kafka_topic, kafka_partition, next_offset FROM positions"))
        return {(topic, partition): offset for topic, partition, offset in rows}

    def reset(self) -> None:
        """Forgets all events and positions; outcomes stay."""

        def work(t: Transaction) -> None:
            for table in ("events", "event_days", "event_topics", "positions"):
                t.run(f"DELETE FROM {table}")

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
             newest_first: bool = False) -> list[Entry]:  # fmt: skip
        """A page of the selected events by time received, with their status in `group` where one is given.

        Raises UsageError when the selection needs a group and there is none.
        """

        def work(t: Transaction) -> list[Entry]:
            query = search.compile(t, selection, group)
            if query is None:
                return []
            sql, params = query.page(_COLUMNS, after, limit, newest_first)
            return [_entry(row, group) for row in t.rows(sql, params)]

        return self._database.read(work)

    def count(self, selection: Selection, group: str | None = None) -> int:
        """How many events are selected. Raises as `find` does."""

        def work(t: Transaction) -> int:
            query = search.compile(t, selection, group)
            row = None if query is None else t.row(*query.count())
            return int(row[0]) if row else 0

        return self._database.read(work)

    def get(self, webhook_id: str, shop: str | None = None, group: str | None = None) -> list[Entry]:
        """Events with this webhook id: one, or several where shops aren't told apart and share it."""
        if shop is None:
            return self.find(Selection(ids=(webhook_id,)), group)
        return self.by_id(event_id16(shop, webhook_id), group)

    def by_id(self, id_: bytes, group: str | None = None) -> list[Entry]:
        """The event with this key's `id`, on whatever day it lies."""

        def work(t: Transaction) -> list[Entry]:
            query = search.of_ids(t, [id_], group)
            if query is None:
                return []
            return [_entry(row, group) for row in t.rows(*query.page(_COLUMNS, None, 100, False))]

        return self._database.read(work)

    def of_keys(self, keys: Sequence[EventKey]) -> list[Entry]:
        """These events, as far as they're known, in the order of the keys."""
        days = sorted({key.day for key in keys})
        columns = ", ".join(f"e.{column.strip()}" for column in _COLUMNS.split(","))
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
        wanted = [e for e in entries if e.resource and e.version is not None]
        if not wanted:
            return {}
        first = min(e.key.day for e in wanted) - 1

        def work(t: Transaction) -> list[tuple[Any, ...]]:
            days = [day for (day,) in t.rows("SELECT day FROM event_days WHERE day >= :first ORDER BY day", {"first": first})]
            # A group that has handled nothing of these days needn't be asked about each resource.
            if not t.row("SELECT 1 FROM outcomes WHERE day IN :days AND grp = :grp LIMIT 1", {"days": days, "grp": group}):
                return []
            return t.rows(
                f"""SELECT e.shop, e.topic, e.resource, MAX(e.version) FROM events e
                    JOIN outcomes o ON o.day = e.day AND o.grp = :grp AND o.id = e.id AND o.state = {State.SUCCEEDED:d}
                    WHERE e.day IN :days AND e.resource IN :resources AND e.version IS NOT NULL GROUP BY e.shop, e.topic, e.resource""",
                {"days": days, "grp": group, "resources": sorted({e.resource for e in wanted if e.resource})},
            )

        return {(shop, topic, resource): version for shop, topic, resource, version in self._database.read(work)}


class _Overtaken(Exception):
    """Rolls back: another process has moved a position."""


_FIRST_POSITION = """
    INSERT INTO positions (kafka_topic, kafka_partition, next_offset) VALUES (:topic, :partition, :next)
    ON CONFLICT (kafka_topic, kafka_partition) DO NOTHING"""
_MOVE_POSITION = """
    UPDATE positions SET next_offset = :next
    WHERE kafka_topic = :topic AND kafka_partition = :partition AND next_offset = :seen"""
_ADD = f"""
    INSERT INTO events ({_COLUMNS}) VALUES (:day, :id, :shop, :topic, :webhook_id, :resource, :root, :version, :triggered_at,
        :received_at, :source, :kafka_topic, :partition, :offset, :size, :copies)
    ON CONFLICT (day, id) DO UPDATE SET copies = events.copies + excluded.copies"""


def _values(row: Entry) -> dict[str, Any]:
    return {"day": row.key.day, "id": row.key.id, "shop": clean(row.shop), "topic": clean(row.topic),
            "webhook_id": clean(row.webhook_id), "resource": None if row.resource is None else clean(row.resource),
            "root": None if row.root is None else clean(row.root), "version": row.version, "triggered_at": row.triggered_at,
            "received_at": row.received_at, "source": row.source, "kafka_topic": row.kafka_topic, "partition": row.partition,
            "offset": row.offset, "size": row.size, "copies": row.copies}  # fmt: skip


def _entry(row: tuple[Any, ...], group: str | None) -> Entry:
    day, id_, *event = row[:_WIDTH]
    entry = Entry(EventKey(day, id_), *event)
    if group is None:
        return entry
    state, attempts, error_type, error_group, error_message = row[_WIDTH:]
    status = Status.PENDING if state in (None, State.BEHIND) else Status[State(state).name]
    return replace(entry, status=status, attempts=attempts or 0, error_type=error_type or "", error_group=error_group or "",
                   error_message=error_message or "")  # fmt: skip
