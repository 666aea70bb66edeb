"""Giving dead events up, and taking that back: by a person, with a reason, in the audit trail.

Neither may happen to an event that is on its way through a job: its handler would run, and its end, which is based on what the
ledger said before, would be refused. So events of a job that runs are held back, and so are those that an ended job sent and that
have no outcome yet: their records lie in the replay lane. What isn't known here is an event that a worker runs because of an offset
reset: its end is refused then, and the person's word stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hooktape.ledger.audit import append
from hooktape.ledger.checks import State
from hooktape.ledger.database import Transaction
from hooktape.ledger.jobs import JobState
from hooktape.ledger.keys import EventKey, shown
from hooktape.ledger.letters import NEWEST

# Records stay in the replay lane for a week; a job that ended before has none there.
_LANE_SECONDS = 7 * 86_400.0
# A runner learns that its job was cancelled between two batches: what it sends in the meantime isn't counted as sent yet. Its
# producer gives a batch up after seconds; this is many times that.
_LAST_BATCH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of it: `done` were changed; `held` are in a job's hands (key → job id); of `lost` no letter is retained."""

    done: tuple[EventKey, ...] = ()
    held: Mapping[EventKey, str] = field(default_factory=dict)
    lost: tuple[EventKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Deed:
    """What a person did to an event: `action` is `dlq discard` or `dlq restore`. `at` is epoch seconds."""

    at: float
    who: str
    action: str
    reason: str


def discard(t: Transaction, group: str, keys: Sequence[EventKey], who: str, reason: str, now: float) -> Changed:
    held = _held(t, group, keys, now)
    free = [key for key in dict.fromkeys(keys) if key not in held]
    done = [EventKey(*row) for row in t.rows(
        f"""UPDATE outcomes SET state = {State.DISCARDED:d}, failed_at = NULL, updated_at = :now
            WHERE day IN :days AND grp = :grp AND id IN :ids AND state = {State.DEAD:d} RETURNING day, id""",
        {"now": now, "grp": group, **_keys(free)})] if free else []  # fmt: skip
    _write(t, "dlq discard", group, done, who, reason, now)
    return Changed(tuple(done), held)


def restore(t: Transaction, group: str, keys: Sequence[EventKey], who: str, reason: str, now: float) -> Changed:
    held = _held(t, group, keys, now)
    free = [key for key in dict.fromkeys(keys) if key not in held]
    rows = t.rows(
        f"""SELECT o.day, o.id, l.died_at, l.first_failed_at, l.shop, l.error_type, l.error_group, l.error_message
            FROM outcomes o LEFT JOIN letters l ON l.grp = o.grp AND l.id = o.id AND {NEWEST}
            WHERE o.day IN :days AND o.grp = :grp AND o.id IN :ids AND o.state = {State.DISCARDED:d}""",
        {"grp": group, **_keys(free)}) if free else []  # fmt: skip
    # What the sweep gave up has no error in its row: its letter tells of the death before.
    done = [EventKey(day, id_) for day, id_, died_at, first, shop, kind, cause, message in rows if died_at is not None and t.run(
        f"""UPDATE outcomes SET state = {State.DEAD:d}, failed_at = :died_at, updated_at = :now,
                first_failed_at = COALESCE(first_failed_at, :first), shop = COALESCE(shop, :shop),
                error_type = COALESCE(error_type, :kind), error_group = COALESCE(error_group, :cause),
                error_message = COALESCE(error_message, :message)
            WHERE day = :day AND grp = :grp AND id = :id AND state = {State.DISCARDED:d}""",
        {"died_at": died_at, "now": now, "first": first, "shop": shop, "kind": kind, "cause": cause, "message": message, "day": day,
         "grp": group, "id": id_})]  # fmt: skip
    _write(t, "dlq restore", group, done, who, reason, now)
    return Changed(tuple(done), held, tuple(EventKey(row[0], row[1]) for row in rows if row[2] is None))


def deeds(t: Transaction, group: str, key: EventKey) -> list[Deed]:
    # The event is named by its day and id; the id alone is unique, and hexadecimal: nothing in it is a wildcard.
    return [Deed(*row) for row in t.rows(
        "SELECT at, who, action, reason FROM audit WHERE action IN :actions AND target = :grp AND detail LIKE :named ORDER BY seq",
        {"actions": ["dlq discard", "dlq restore"], "grp": group, "named": f'%/{key.id.hex()}"%'})]  # fmt: skip


def _keys(keys: Sequence[EventKey]) -> dict[str, list[int] | list[bytes]]:
    return {"days": sorted({key.day for key in keys}), "ids": [key.id for key in keys]}


def _held(t: Transaction, group: str, keys: Sequence[EventKey], now: float) -> dict[EventKey, str]:
    # Planned jobs too: locked, none of them can be started before this transaction has ended.
    states = [str(s) for s in JobState if s is not JobState.DONE]
    jobs = t.rows(f"""SELECT id, state FROM jobs WHERE grp = :grp AND state IN :states AND (ended_at IS NULL OR ended_at >= :since)
                      ORDER BY id{t.share_lock}""", {"grp": group, "states": states, "since": now - _LANE_SECONDS})  # fmt: skip
    started = [id_ for id_, state in jobs if state != JobState.PLANNED]
    if not started or not keys:
        return {}
    # By id alone: a job may know the event by the day of a copy of it. Among what is open, which its index tells by itself.
    found = {id_: job for job, id_ in t.rows(
        """SELECT j.id, i.id FROM jobs j JOIN replay_items i ON j.number = i.job
           WHERE j.id IN :jobs AND i.id IN :ids AND i.decision = 'run' AND i.outcome IS NULL
               AND (j.ended_at IS NULL OR j.ended_at >= :lately OR i.seq <= j.published_seq)""",
        {"jobs": started, "ids": [key.id for key in keys], "lately": now - _LAST_BATCH_SECONDS})}  # fmt: skip
    return {key: found[key.id] for key in keys if key.id in found}


def _write(t: Transaction, action: str, group: str, done: Sequence[EventKey], who: str, reason: str, now: float) -> None:
    if done:
        append(t, now, who, action, group, reason, {"count": len(done), "events": [shown(key) for key in done]})
