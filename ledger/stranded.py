"""What waits for a retry that doesn't come: its record is lost, while the ledger and, with it, its whole resource wait.

A retry topic that was made anew, or whose retention has passed; a delay that the settings no longer name; a ledger that came back
from a backup. A worker looks for such events among the overdue ones of its partitions, and writes their records again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from hooktape.ledger.audit import append
from hooktape.ledger.checks import IN_RETRY, Finish, Row, State, Waiting
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.keys import EventKey, shown
from hooktape.ledger.outcomes import finish_in, overdue_in
from hooktape.ledger.ownership import owned

# A wait is nobody's any more once its event has ended, or retention has dropped the event's row.
_STILL = f"""EXISTS (SELECT 1 FROM outcomes o WHERE o.day = waiting.day AND o.grp = waiting.grp AND o.id = waiting.id
             AND o.state IN ({State.WAITING:d}, {State.BEHIND:d}))"""
_THIS = "grp = :grp AND part = :part AND day = :day AND id = :id"


@dataclass(frozen=True, slots=True)
class Story:
    """What the ledger tells of an event that waits. `row` None: it has ended or is forgotten, and only its wait is left.

    `since` is when the wait was written, after the retry record was acknowledged, and `failed_at` the last failure; both in
    epoch seconds.
    """

    wait: Waiting
    row: Row | None = None
    since: float = 0.0
    failed_at: float = 0.0
    topic: str = ""
    shop: str = ""
    error_type: str = ""
    error_group: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class HeldFigures:
    """What a group's resources wait for. `oldest_due` in epoch seconds; None: nothing waits."""

    events: int
    resources: int
    oldest_due: float | None

    def overdue(self, now: float) -> float:
        """Seconds that the longest overdue event has been due; 0: none is."""
        return max(0.0, now - self.oldest_due) if self.oldest_due is not None else 0.0


class Stranded:
    """Each method is one transaction; those that write do nothing for a partition that isn't `owner`'s in that epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, group: str, partition: int, before: float, limit: int) -> list[Story]:
        """What should have left its retry topic before `before` (epoch seconds), the longest first."""

        def work(t: Transaction) -> list[Story]:
            waits = overdue_in(t, group, partition, before, limit)
            if not waits:
                return []
            rows = t.rows(
                """SELECT day, id, state, attempts, generation, epoch, first_failed_at, updated_at, failed_at, topic, shop, error_type,
                       error_group, error_message FROM outcomes WHERE day IN :days AND grp = :grp AND id IN :ids""",
                {"grp": group, "days": sorted({w.key.day for w in waits}), "ids": [w.key.id for w in waits]})  # fmt: skip
            found = {EventKey(day, id_): _story(EventKey(day, id_), rest) for day, id_, *rest in rows}
            return [Story(w, *found.get(w.key, ())) for w in waits]

        return self._database.read(work)

    def held(self, group: str) -> HeldFigures:
        """Events that wait for a retry in order, and the resources that they hold."""
        return HeldFigures(*self._database.read(lambda t: t.rows(
            "SELECT COUNT(*), COUNT(DISTINCT lane), MIN(due) FROM waiting WHERE grp = :grp AND lane IS NOT NULL", {"grp": group}))[0])

    def waits(self, group: str, partition: int, keys: Collection[EventKey]) -> set[EventKey]:
        """Which of these the ledger still has waiting."""
        values = {"grp": group, "part": partition, "days": sorted({k.day for k in keys}), "ids": [k.id for k in keys]}
        return self._database.read(lambda t: {EventKey(day, id_) for day, id_ in t.rows(
            "SELECT day, id FROM waiting WHERE grp = :grp AND part = :part AND day IN :days AND id IN :ids", values)})  # fmt: skip

    def renew(self, group: str, owner: str, partition: int, epoch: int, stories: Sequence[tuple[Story, float]], now: float) -> None:
        """Their records were written again, each to the retry topic of that delay (seconds): they are due now."""

        def work(t: Transaction) -> None:
            if owned(t, group, owner, locked=True).get(partition) != epoch:
                return
            for story, delay in stories:
                values = {"grp": group, "part": partition, "day": story.wait.key.day, "id": story.wait.key.id, "now": now,
                          "delay": delay, "due": story.wait.due}  # fmt: skip
                # Not what has moved on meanwhile.
                if t.run(f"UPDATE waiting SET due = :now, delay = :delay WHERE {_THIS} AND due = :due", values):
                    t.run("UPDATE outcomes SET updated_at = :now WHERE day = :day AND grp = :grp AND id = :id", values)

        self._database.write(work)

    def discard(self, group: str, owner: str, end: Finish, who: str, reason: str, now: float) -> bool:
        """Gives up an event that is on the tape no more, and writes so in the audit trail. False: it has moved on meanwhile."""

        def work(t: Transaction) -> bool:
            assert end.seen is not None
            [kept] = finish_in(t, group, owner, [end], now)
            if kept:
                append(t, now, who, "discard lost", group, reason, {"count": 1, "events": [shown(end.key)], "topic": end.topic})
            return kept

        return self._database.write(work)

    def drop(self, group: str, owner: str, partition: int, epoch: int, keys: Sequence[EventKey]) -> None:
        """Deletes waits whose events have ended or are forgotten; others stay."""

        def work(t: Transaction) -> None:
            if owned(t, group, owner, locked=True).get(partition) == epoch:
                t.many(f"DELETE FROM waiting WHERE {_THIS} AND NOT {_STILL}",
                       [{"grp": group, "part": partition, "day": key.day, "id": key.id} for key in keys])  # fmt: skip

        if keys:
            self._database.write(work)


def _story(key: EventKey, rest: Sequence[Any]) -> tuple[Any, ...]:
    state, attempts, generation, epoch, first, updated, failed, topic, *texts = rest
    if State(state) not in IN_RETRY:
        return ()
    return (Row(key, State(state), attempts, generation, epoch, first), updated, failed or 0.0, topic, *(text or "" for text in texts))
