"""What the reconciler remembers between passes: how far it has looked, what seems missing, what it has recorded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.texts import clean


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a (shop, family of topics) stands. `coverage_from`, `position` and `steps_from` are microseconds, `last_success` epoch seconds.

    `steps_from`: since when steps before `position` may not have been seen yet; None: all of them have.
    """

    coverage_from: int | None = None
    position: int | None = None
    last_success: float | None = None
    steps_from: int | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that the Admin API showed and the tape didn't have, waiting out its grace period.

    `version` in microseconds: of the state, or when the deletion was told of; `digest`: tells states of one version apart; `kind` and
    `topic` are the reconciler's words for what to record (`topic` is "" where only steps are missing); `steps`: (topic, microseconds)
    of those; `gid`: its global id, "" where only the tape has told of it.
    `first_seen` epoch seconds; `high_water`: "Kafka topic/partition" → offset up to which the tape was searched.
    A deletion's `nulled_at`: when the API first denied the resource (epoch seconds); `held`: an operator has to agree to it.
    """

    shop: str
    family: str
    resource: str
    version: int | None
    kind: str
    topic: str
    first_seen: float
    high_water: Mapping[str, int]
    nulled_at: float | None = None
    held: bool = False
    gid: str = ""
    digest: str = ""
    steps: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """A synthetic event that is about to be recorded: `version` in microseconds (of a deletion: -1); `marks`: "Kafka
    topic/partition" → offset that it can only lie behind."""

    id: str
    resource: str
    version: int
    marks: Mapping[str, int]


_PENDING = "shop, family, resource, version, kind, topic, first_seen, high_water, nulled_at, held, gid, digest, steps"


class Reconcile:
    def __init__(self, database: Database) -> None:
        self._database = database

    def cursor(self, shop: str, family: str) -> Cursor:
        """How far this family has been looked through; all None before its first pass."""
        row = self._database.read(lambda t: t.row(
            "SELECT coverage_from, position, last_success, steps_from FROM reconcile_cursors WHERE shop = :shop AND family = :family",
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

    def advance(self, shop: str, family: str, position: int, now: float, steps_from: int | None = None) -> None:
        """A pass up to `position` (microseconds) is complete: moves the cursor, never back, and notes the success and `steps_from`."""
        self._database.write(lambda t: t.run(
            """INSERT INTO reconcile_cursors (shop, family, position, last_success, steps_from)
               VALUES (:shop, :family, :position, :now, :steps_from)
               ON CONFLICT (shop, family) DO UPDATE SET last_success = excluded.last_success, steps_from = excluded.steps_from,
                   position = CASE WHEN reconcile_cursors.position > excluded.position
                                   THEN reconcile_cursors.position ELSE excluded.position END""",
            {"shop": shop, "family": family, "position": position, "now": now, "steps_from": steps_from}))  # fmt: skip

    def last_success(self, families: Sequence[str] | None = None) -> dict[str, float]:
        """Shop → when the oldest of these families' last complete passes ended (epoch seconds); None: of all. Deletions and look-backs have
        cursors of their own, "family/look", which move when there's something to look at."""
        one_of = "family NOT LIKE '%/%'" if families is None else "family IN :families"
        rows = self._database.read(lambda t: t.rows(
            f"SELECT shop, MIN(last_success) FROM reconcile_cursors WHERE last_success IS NOT NULL AND {one_of} GROUP BY shop",
            {"families": tuple(families or ())})) if families is None or families else []  # fmt: skip
        return dict(rows)

    def oldest_positions(self, families: Sequence[str]) -> dict[str, int]:
        """Shop → up to when the one of these families that is furthest behind has been looked through (microseconds)."""
        rows = self._database.read(lambda t: t.rows(
            """SELECT shop, MIN(position) FROM reconcile_cursors WHERE position IS NOT NULL AND family IN :families GROUP BY shop""",
            {"families": tuple(families)})) if families else []  # fmt: skip
        return {shop: int(position) for shop, position in rows}

    def put_pending(self, rows: Sequence[Pending], propose: bool = False) -> None:
        """Adds what looks missing. A resource that is pending already gets the new version and, where that's of the same kind, keeps its
        `first_seen`; with `propose` it stays as it is."""
        change = "NOTHING" if propose else (
            """UPDATE SET version = excluded.version, kind = excluded.kind, topic = excluded.topic,
                   first_seen = CASE WHEN reconcile_pending.kind = excluded.kind THEN reconcile_pending.first_seen
                                     ELSE excluded.first_seen END,
                   high_water = excluded.high_water, nulled_at = excluded.nulled_at, held = excluded.held,
                   gid = excluded.gid, digest = excluded.digest, steps = excluded.steps""")  # fmt: skip
        self._database.write(lambda t: t.many(
            f"""INSERT INTO reconcile_pending ({_PENDING})
               VALUES (:{_PENDING.replace(", ", ", :")})
               ON CONFLICT (shop, family, resource) DO {change}""",
            [{"shop": r.shop, "family": r.family, "resource": clean(r.resource), "version": r.version, "kind": r.kind,
              "topic": r.topic, "first_seen": r.first_seen, "high_water": json.dumps(dict(r.high_water)),
              "nulled_at": r.nulled_at, "held": int(r.held), "gid": clean(r.gid), "digest": r.digest,
              "steps": json.dumps(r.steps)} for r in rows]))  # fmt: skip

    def pending(self, shop: str | None = None, family: str | None = None, seen_before: float | None = None) -> list[Pending]:
        """What is pending, the oldest first; `seen_before`: first seen at or before (epoch seconds)."""
        terms = [term for value, term in ((shop, "shop = :shop"), (family, "family = :family"),
                                          (seen_before, "first_seen <= :seen")) if value is not None]  # fmt: skip
        rows = self._database.read(lambda t: t.rows(
            f"""SELECT {_PENDING} FROM reconcile_pending
                WHERE {" AND ".join(terms) or "1 = 1"} ORDER BY first_seen, shop, family, resource""",
            {"shop": shop, "family": family, "seen": seen_before}))  # fmt: skip
        return [Pending(of, named, resource, version, kind, topic, first_seen, json.loads(high_water), nulled_at, bool(held), gid, digest,
                        tuple((topic, at) for topic, at in json.loads(steps)))
                for of, named, resource, version, kind, topic, first_seen, high_water, nulled_at, held, gid, digest, steps in rows]

    def pending_counts(self, suspected_before: float) -> dict[tuple[str, str], tuple[int, int, int]]:
        """(shop, family) → all that is pending; how much of it was first seen before (epoch seconds); how many deletions are held."""
        rows = self._database.read(lambda t: t.rows(
            """SELECT shop, family, COUNT(*), SUM(CASE WHEN first_seen <= :before THEN 1 ELSE 0 END), SUM(held)
               FROM reconcile_pending GROUP BY shop, family""", {"before": suspected_before}))  # fmt: skip
        return {(shop, family): (int(pending), int(suspected), int(held)) for shop, family, pending, suspected, held in rows}

    def remove_pending(self, rows: Sequence[Pending]) -> int:
        """Forgets these, unless their version was replaced since they were read; how many went."""
        return self._database.write(lambda t: t.many(
            """DELETE FROM reconcile_pending WHERE shop = :shop AND family = :family AND resource = :resource
               AND COALESCE(version, -1) = :version""",
            [{"shop": r.shop, "family": r.family, "resource": clean(r.resource),
              "version": -1 if r.version is None else r.version} for r in rows]))  # fmt: skip

    def intend(self, shop: str, family: str, intents: Sequence[Intent], now: float) -> dict[str, str]:
        """Notes that these synthetic events are about to be recorded. Id → its state before: "new", "intended" or "recorded".

        What was intended before and isn't on the tape may be recorded now, by whoever has fenced the others since.
        """

        def work(t: Transaction) -> dict[str, str]:
            ids = tuple(intent.id for intent in intents)
            before = {id_: str(state) for id_, state in t.rows(
                "SELECT id, state FROM reconcile_intents WHERE shop = :shop AND family = :family AND id IN :ids",
                {"shop": shop, "family": family, "ids": ids})}  # fmt: skip
            t.many(
                """INSERT INTO reconcile_intents (shop, family, id, resource, version, state, marks, updated_at)
                   VALUES (:shop, :family, :id, :resource, :version, 'intended', :marks, :now)
                   ON CONFLICT (shop, family, id) DO UPDATE SET updated_at = excluded.updated_at
                   WHERE reconcile_intents.state = 'intended'""",
                [{"shop": shop, "family": family, "id": i.id, "resource": clean(i.resource), "version": i.version,
                  "marks": json.dumps(dict(i.marks)), "now": now} for i in intents],
            )  # fmt: skip
            return {id_: before.get(id_, "new") for id_ in ids}

        return self._database.write(work) if intents else {}

    def recorded(self, shop: str, family: str, ids: Sequence[str], now: float) -> None:
        """Notes that these synthetic events are on the tape."""
        self._mark(shop, family, ids, "recorded", ("intended",), now)

    def twinned(self, shop: str, family: str, ids: Sequence[str], now: float) -> int:
        """Notes that the webhooks of these synthetic events came after all; of how many that is news."""
        return self._mark(shop, family, ids, "twinned", ("intended", "recorded"), now)

    def undone(self, shop: str, family: str, ids: Sequence[str]) -> None:
        """Forgets synthetic events that were intended and, as nobody can write them any more, never will be on the tape."""
        if ids:
            self._database.write(lambda t: t.run(
                """DELETE FROM reconcile_intents
                   WHERE shop = :shop AND family = :family AND id IN :ids AND state = 'intended'""",
                {"shop": shop, "family": family, "ids": tuple(ids)}))  # fmt: skip

    def _mark(self, shop: str, family: str, ids: Sequence[str], state: str, before: tuple[str, ...], now: float) -> int:
        if not ids:
            return 0
        return self._database.write(lambda t: t.run(
            """UPDATE reconcile_intents SET state = :state, updated_at = :now
               WHERE shop = :shop AND family = :family AND id IN :ids AND state IN :before""",
            {"shop": shop, "family": family, "ids": tuple(ids), "state": state, "before": before, "now": now}))  # fmt: skip

    def intents(self, shop: str, family: str, state: str = "intended") -> list[Intent]:
        """The synthetic events in that state; "intended": what a crash left open."""
        return [Intent(id_, resource, version, json.loads(marks)) for id_, resource, version, marks in self._database.read(lambda t: t.rows(
            """SELECT id, resource, version, marks FROM reconcile_intents
               WHERE shop = :shop AND family = :family AND state = :state ORDER BY id""",
            {"shop": shop, "family": family, "state": state}))]  # fmt: skip

    def forget_intents(self, before: float) -> int:
        """Forgets what was recorded before (epoch seconds): once retention has taken it from the tape; how many."""
        return self._database.write(lambda t: t.run(
            "DELETE FROM reconcile_intents WHERE state <> 'intended' AND updated_at < :before", {"before": before}))  # fmt: skip
