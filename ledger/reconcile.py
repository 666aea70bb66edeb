"""What the reconciler remembers between passes: how far it has looked, what seems missing, what it has recorded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.texts import clean


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a (shop, family of topics) stands. `coverage_from` and `position` are microseconds, `last_success` epoch seconds."""

    coverage_from: int | None = None
    position: int | None = None
    last_success: float | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that the Admin API showed and the tape didn't have, waiting out its grace period.

    `version` in microseconds, None for a deletion; `kind` and `topic` are the reconciler's words for what to record;
    `first_seen` epoch seconds; `high_water`: "Kafka topic/partition" → offset up to which the tape was searched.
    """

    shop: str
    family: str
    resource: str
    version: int | None
    kind: str
    topic: str
    first_seen: float
    high_water: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """What a pass found; `report` is JSON values."""

    seq: int
    ended_at: float
    shop: str
    family: str
    report: dict[str, Any]


class Reconcile:
    def __init__(self, database: Database) -> None:
        self._database = database

    def cursor(self, shop: str, family: str) -> Cursor:
        """How far this family has been looked through; all None before its first pass."""
        row = self._database.read(lambda t: t.row(
            "SELECT coverage_from, position, last_success FROM reconcile_cursors WHERE shop = :shop AND family = :family",
            {"shop": shop, "family": family}))  # fmt: skip
        return Cursor(*row) if row else Cursor()

    def cover_from(self, shop: str, family: str, micros: int) -> int:
        """Sets the instant that coverage begins at, unless it's set; the one in force."""

        def work(t: Transaction) -> int:
            t.run("""INSERT INTO reconcile_cursors (shop, family, coverage_from) VALUES (:shop, :family, :at)
                     ON CONFLICT (shop, family) DO UPDATE SET
                         coverage_from = COALESCE(reconcile_cursors.coverage_from, excluded.coverage_from)""",
                  {"shop": shop, "family": family, "at": micros})  # fmt: skip
            row = t.row("SELECT coverage_from FROM reconcile_cursors WHERE shop = :shop AND family = :family",
                        {"shop": shop, "family": family})  # fmt: skip
            assert row is not None
            return int(row[0])

        return self._database.write(work)

    def advance(self, shop: str, family: str, position: int, now: float) -> None:
        """A pass up to `position` (microseconds) is complete: moves the cursor, never back, and notes the success."""
        self._database.write(lambda t: t.run(
            """INSERT INTO reconcile_cursors (shop, family, position, last_success) VALUES (:shop, :family, :position, :now)
               ON CONFLICT (shop, family) DO UPDATE SET last_success = excluded.last_success,
                   position = CASE WHEN reconcile_cursors.position > excluded.position
                                   THEN reconcile_cursors.position ELSE excluded.position END""",
            {"shop": shop, "family": family, "position": position, "now": now}))  # fmt: skip

    def last_success(self) -> dict[str, float]:
        """Shop → when the oldest of its families' last complete passes ended (epoch seconds)."""
        return dict(self._database.read(lambda t: t.rows(
            "SELECT shop, MIN(last_success) FROM reconcile_cursors WHERE last_success IS NOT NULL GROUP BY shop")))  # fmt: skip

    def put_pending(self, rows: Sequence[Pending]) -> None:
        """Adds what looks missing. A resource that is pending already gets the new version and keeps its `first_seen`."""
        self._database.write(lambda t: t.many(
            """INSERT INTO reconcile_pending (shop, family, resource, version, kind, topic, first_seen, high_water)
               VALUES (:shop, :family, :resource, :version, :kind, :topic, :first_seen, :high_water)
               ON CONFLICT (shop, family, resource) DO UPDATE SET version = excluded.version, kind = excluded.kind,
                   topic = excluded.topic, high_water = excluded.high_water""",
            [{"shop": r.shop, "family": r.family, "resource": clean(r.resource), "version": r.version, "kind": r.kind,
              "topic": r.topic, "first_seen": r.first_seen, "high_water": json.dumps(dict(r.high_water))}
             for r in rows]))  # fmt: skip

    def pending(self, shop: str | None = None, family: str | None = None, seen_before: float | None = None) -> list[Pending]:
        """What is pending, the oldest first; `seen_before`: first seen at or before (epoch seconds)."""
        terms = [term for value, term in ((shop, "shop = :shop"), (family, "family = :family"),
                                          (seen_before, "first_seen <= :seen")) if value is not None]  # fmt: skip
        rows = self._database.read(lambda t: t.rows(
            f"""SELECT shop, family, resource, version, kind, topic, first_seen, high_water FROM reconcile_pending
                WHERE {" AND ".join(terms) or "1 = 1"} ORDER BY first_seen, shop, family, resource""",
            {"shop": shop, "family": family, "seen": seen_before}))  # fmt: skip
        return [Pending(of, named, resource, version, kind, topic, first_seen, json.loads(high_water))
                for of, named, resource, version, kind, topic, first_seen, high_water in rows]

    def remove_pending(self, rows: Sequence[Pending]) -> int:
        """Forgets these, unless their version was replaced since they were read; how many went."""
        return self._database.write(lambda t: t.many(
            """DELETE FROM reconcile_pending WHERE shop = :shop AND family = :family AND resource = :resource
               AND COALESCE(version, -1) = :version""",
            [{"shop": r.shop, "family": r.family, "resource": clean(r.resource),
              "version": -1 if r.version is None else r.version} for r in rows]))  # fmt: skip

    def intend(self, id_: str, now: float) -> str:
        """Notes that the synthetic event `id_` is about to be recorded. The state before: "new", "intended" or "recorded".

        Only "new" may be recorded at once; after "intended" look on the tape first: an earlier try may have succeeded.
        """

        def work(t: Transaction) -> str:
            if t.run("""INSERT INTO reconcile_intents (id, state, updated_at) VALUES (:id, 'intended', :now)
                        ON CONFLICT (id) DO NOTHING""", {"id": id_, "now": now}):  # fmt: skip
                return "new"
            row = t.row("SELECT state FROM reconcile_intents WHERE id = :id", {"id": id_})
            return str(row[0]) if row else "intended"

        return self._database.write(work)

    def recorded(self, ids: Sequence[str], now: float) -> None:
        """Notes that these synthetic events are on the tape."""
        self._database.write(lambda t: t.many(
            """INSERT INTO reconcile_intents (id, state, updated_at) VALUES (:id, 'recorded', :now)
               ON CONFLICT (id) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at""",
            [{"id": id_, "now": now} for id_ in ids]))  # fmt: skip

    def intents(self) -> list[str]:
        """Ids of synthetic events that were intended and never noted as recorded: what a crash left open."""
        return [id_ for (id_,) in self._database.read(lambda t: t.rows(
            "SELECT id FROM reconcile_intents WHERE state = 'intended' ORDER BY id"))]  # fmt: skip

    def add_report(self, now: float, shop: str, family: str, report: Mapping[str, Any]) -> None:
        """Keeps what a pass found."""
        self._database.write(lambda t: t.run(
            "INSERT INTO reconcile_reports (ended_at, shop, family, report) VALUES (:now, :shop, :family, :report)",
            {"now": now, "shop": shop, "family": family, "report": json.dumps(report, sort_keys=True)}))  # fmt: skip

    def reports(self, limit: int = 20) -> list[Report]:
        """The latest first."""
        rows = self._database.read(lambda t: t.rows(
            "SELECT seq, ended_at, shop, family, report FROM reconcile_reports ORDER BY seq DESC LIMIT :limit",
            {"limit": limit}))  # fmt: skip
        return [Report(seq, at, shop, family, json.loads(report)) for seq, at, shop, family, report in rows]
