"""Offset resets: the offsets that each replaced, what of its windows is still to run, and what the catalogue says of a range.

A window outlives its reset until the group has passed it. It's written before the offsets move, so that no worker can meet the
moved offsets without it; therefore a window is taken for passed only by whoever knows that its reset isn't under way.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hooktape.ledger import handlers, windows
from hooktape.ledger.audit import append
from hooktape.ledger.checks import FINISHED, IN_RETRY, State
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.texts import clean
from hooktape.ledger.windows import Window

Place = tuple[str, int]
"""A Kafka topic and partition."""


class ResetState(StrEnum):
    """How far a reset came. BEGUN: it's under way, or broke off; the offsets may have moved or not."""

    BEGUN = "begun"
    DONE = "done"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Saved:
    """A reset. `old` and `new`: partition → offset, before and after; an `old` of None was never committed. `at` is epoch seconds,
    `undoes` the id of the reset that this one took back. `reprocess`: what had succeeded was to run again."""

    id: str
    group: str
    at: float
    who: str
    reason: str
    reprocess: bool
    old: Mapping[Place, int | None]
    new: Mapping[Place, int]
    undoes: str = ""
    state: ResetState = ResetState.BEGUN


@dataclass(frozen=True, slots=True)
class Mix:
    """What a range of the tape is to a group, in events; copies of one event are counted once. `marked` of the `finished` and `dead`
    ones run again for a reset before this one."""

    unhandled: int = 0
    finished: int = 0
    dead: int = 0
    in_retry: int = 0
    marked: int = 0

    @property
    def events(self) -> int:
        return self.unhandled + self.finished + self.dead + self.in_retry

    def __add__(self, other: "Mix") -> "Mix":
        return Mix(self.unhandled + other.unhandled, self.finished + other.finished, self.dead + other.dead,
                   self.in_retry + other.in_retry, self.marked + other.marked)  # fmt: skip


_COLUMNS = "id, grp, at, who, reason, reprocess, offsets, undoes, state"
_JOINED = """
    FROM events e LEFT JOIN outcomes o ON o.day = e.day AND o.grp = :grp AND o.id = e.id
    WHERE e.kafka_topic = :topic AND e.kafka_partition = :part AND e.kafka_offset >= :low AND e.kafka_offset < :high"""
# A worker goes by the newest window that holds the record, and what has run for it doesn't run again.
_MARK = """CASE WHEN COALESCE((
    SELECT MAX(r.id) FROM reprocess r WHERE r.grp = :grp AND r.kafka_topic = e.kafka_topic AND r.kafka_partition = e.kafka_partition
        AND r.from_offset <= e.kafka_offset AND r.to_offset > e.kafka_offset AND r.to_offset > :passed), o.generation)
    <> o.generation THEN 1 ELSE 0 END"""


class Resets:
    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, reset: Saved, ranges: Sequence[tuple[str, int, int, int]], committed: Mapping[Place, int]) -> None:
        """Writes down a reset that is about to move offsets, with its windows (Kafka topic, partition, from, to) and in the audit trail.

        `committed` is where the group stands: windows that it has passed there are forgotten, and those of a reset that this one
        takes back. The caller keeps others from resetting the group.
        """
        offsets = [[*place, reset.old[place], reset.new[place]] for place in sorted(reset.new)]

        def work(t: Transaction) -> None:
            _forget(t, [(reset.group, window) for window in windows.of(t, reset.group)
                        if window.to_offset <= committed.get((window.kafka_topic, window.partition), -1)])  # fmt: skip
            if reset.undoes:
                t.run("DELETE FROM reprocess WHERE grp = :grp AND id = :id", {"grp": reset.group, "id": reset.undoes})
                t.run("UPDATE resets SET state = :state WHERE id = :id", {"state": str(ResetState.UNDONE), "id": reset.undoes})
            t.run(f"""INSERT INTO resets ({_COLUMNS})
                      VALUES (:id, :grp, :at, :who, :reason, :reprocess, :offsets, :undoes, :state)""",
                  {"id": reset.id, "grp": reset.group, "at": reset.at, "who": clean(reset.who), "reason": clean(reset.reason),
                   "reprocess": int(reset.reprocess), "offsets": json.dumps(offsets), "undoes": reset.undoes,
                   "state": str(reset.state)})  # fmt: skip
            windows.add(t, reset.group, reset.id, ranges)
            append(t, reset.at, reset.who, "reset undo" if reset.undoes else "reset", reset.group, reset.reason,
                   {"id": reset.id, "offsets": offsets, "reprocess": reset.id if ranges else None, "undoes": reset.undoes or None})

        self._database.write(work)

    def done(self, reset_id: str) -> None:
        """The broker has stored what it was asked to."""
        self._database.write(lambda t: t.run("UPDATE resets SET state = :state WHERE id = :id",
                                             {"state": str(ResetState.DONE), "id": reset_id}))  # fmt: skip

    def get(self, reset_id: str) -> Saved | None:
        """The reset, or None."""
        row = self._database.read(lambda t: t.row(f"SELECT {_COLUMNS} FROM resets WHERE id = :id", {"id": reset_id}))
        return _saved(row) if row else None

    def mix(self, group: str, place: Place, low: int, high: int, passed: int) -> Mix:
        """What the offsets [low, high) of a partition are to the group, as far as the catalogue has read. Windows that end at or
        before `passed` count for nothing, nor do events for which the group's workers had no handler when they last started: each group
        reads the log of other topics, and little there concerns it."""

        def work(t: Transaction) -> Mix:
            marks = any((w.kafka_topic, w.partition) == place and w.from_offset < high and w.to_offset > max(low, passed)
                        for w in windows.of(t, group))  # fmt: skip
            topics = handlers.topics_of(t, group)
            own = ("AND e.topic IN :topics", {"topics": topics}) if topics else ("", {})
            found: Counter[str] = Counter()
            for state, marked, number in t.rows(
                f"SELECT o.state, {_MARK if marks else '0'} AS marked, COUNT(*) {_JOINED} {own[0]} GROUP BY 1, 2",
                {"grp": group, "topic": place[0], "part": place[1], "low": low, "high": high, "passed": passed} | own[1],
            ):
                kind = _kind(state)
                found[kind] += number
                if marked and kind in ("finished", "dead"):
                    found["marked"] += number
            return Mix(**found)

        return self._database.read(work)

    def waiting(self, group: str) -> int:
        """Events in the group's retry topics."""
        row = self._database.read(lambda t: t.row("SELECT COUNT(*) FROM waiting WHERE grp = :grp", {"grp": group}))
        return int(row[0]) if row else 0

    def windows(self, before: float) -> Mapping[str, Sequence[Window]]:
        """Group → its windows whose resets began before `before` (epoch seconds)."""

        def work(t: Transaction) -> dict[str, list[Window]]:
            found: dict[str, list[Window]] = {}
            for group, *window in t.rows(
                """SELECT r.grp, r.id, r.kafka_topic, r.kafka_partition, r.from_offset, r.to_offset FROM reprocess r
                   LEFT JOIN resets s ON s.id = r.id WHERE COALESCE(s.at, 0) < :before""", {"before": before},
            ):  # fmt: skip
                found.setdefault(group, []).append(Window(*window))
            return found

        return self._database.read(work)

    def forget(self, group: str, gone: Collection[Window]) -> int:
        """Deletes windows; how many were there."""
        return self._database.write(lambda t: _forget(t, [(group, window) for window in gone])) if gone else 0

    def list(self, group: str, limit: int = 50) -> list[Saved]:
        """The latest first."""
        return [_saved(row) for row in self._database.read(lambda t: t.rows(
            f"SELECT {_COLUMNS} FROM resets WHERE grp = :grp ORDER BY id DESC LIMIT :limit", {"grp": group, "limit": limit}))]


def _forget(t: Transaction, gone: Sequence[tuple[str, Window]]) -> int:
    return t.many(
        """DELETE FROM reprocess WHERE grp = :grp AND id = :id AND kafka_topic = :topic AND kafka_partition = :part
           AND to_offset = :high""",
        [{"grp": group, "id": w.generation, "topic": w.kafka_topic, "part": w.partition, "high": w.to_offset} for group, w in gone],
    ) if gone else 0  # fmt: skip


def _kind(state: int | None) -> str:
    if state is None:
        return "unhandled"
    if State(state) in FINISHED:
        return "finished"
    return "in_retry" if State(state) in IN_RETRY else "dead"


def _saved(row: tuple[Any, ...]) -> Saved:
    id_, group, at, who, reason, reprocess, offsets, undoes, state = row
    rows = json.loads(offsets)
    return Saved(id_, group, at, who, reason, bool(reprocess), {(topic, number): old for topic, number, old, _ in rows},
                 {(topic, number): new for topic, number, _, new in rows}, undoes, ResetState(state))  # fmt: skip
