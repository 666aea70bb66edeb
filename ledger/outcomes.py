"""A group's memory: who runs an event, and what became of it. The deduplication is here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hooktape.errors import LedgerError
from hooktape.ledger import failures, windows
from hooktape.ledger.claims import FAILED, Applied, Claim, Claimed, Finish, Row, State, Verdict, decide
from hooktape.ledger.database import Database, Raced, Transaction
from hooktape.ledger.failures import ErrorGroup, Failure
from hooktape.ledger.items import FAILED_AGAIN, SUCCEEDED, settle, settled
from hooktape.ledger.keys import EventKey, shown
from hooktape.ledger.texts import clean
from hooktape.ledger.windows import Window

# A day away counts as the same event: that copies share their day is implied by Shopify, not promised.
_NEAR = (-1, 0, 1)
# As much of an error as a list shows; the whole of it is in the dead-letter record.
_MESSAGE_BYTES = 1024

# A worker that died without a word is of no interest after a day: its lease was seconds.
_FORGOTTEN_SECONDS = 86_400.0

_LOOK = """
    SELECT day, id, state, attempts, owner, generation, first_failed_at FROM outcomes
    WHERE day IN :days AND grp = :grp AND id IN :ids"""
_INSERT = """
    INSERT INTO outcomes (day, grp, id, state, attempts, owner, generation, topic, updated_at)
    VALUES (:day, :grp, :id, :state, :attempts, :owner, :generation, :topic, :now)
    ON CONFLICT (day, grp, id) DO NOTHING"""
# What it had read must still stand, or the row was finished or taken by another in between.
_TAKE = """
    UPDATE outcomes SET state = :state, attempts = :attempts, owner = :owner, generation = :generation,
        first_failed_at = :first_failed_at, failed_at = NULL, updated_at = :now
    WHERE day = :day AND grp = :grp AND id = :id
        AND state = :seen_state AND owner = :seen_owner AND attempts = :seen_attempts AND generation = :seen_generation"""
_FINISH = """
    UPDATE outcomes SET state = :state, attempts = :attempts, updated_at = :now
    WHERE day = :day AND grp = :grp AND id = :id AND state = 0 AND owner = :owner"""
_FAIL = """
    UPDATE outcomes SET state = :state, attempts = :attempts, updated_at = :now, failed_at = :now,
        first_failed_at = COALESCE(first_failed_at, :now), shop = :shop,
        error_type = :error_type, error_group = :error_group, error_message = :error_message
    WHERE day = :day AND grp = :grp AND id = :id AND state = 0 AND owner = :owner"""
_APPLY = """
    INSERT INTO applied (grp, handler, shop, resource, version) VALUES (:grp, :handler, :shop, :resource, :version)
    ON CONFLICT (grp, handler, shop, resource) DO UPDATE SET version = excluded.version
    WHERE excluded.version > applied.version"""


_Rows = dict[bytes, dict[int, Row]]


class Outcomes:
    """Claims and finishes are atomic over all processes; batches of up to some hundreds cost a few statements each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heartbeat(self, group: str, owner: str, now: float, lease: float) -> None:
        """Says that `owner` (a name no other worker ever had) lives until `now + lease` seconds.

        To be called before its first claim and about every third of the lease; clocks of the machines must agree to
        within another third. A claim by a live owner renews the lease too.
        """
        def work(t: Transaction) -> None:
            t.run("""INSERT INTO owners (grp, owner, lease, alive_until) VALUES (:grp, :owner, :lease, :until)
                     ON CONFLICT (grp, owner) DO UPDATE SET lease = excluded.lease, alive_until = excluded.alive_until""",
                  {"grp": group, "owner": owner, "lease": lease, "until": now + lease})  # fmt: skip
            t.run("DELETE FROM owners WHERE grp = :grp AND alive_until < :old", {"grp": group, "old": now - _FORGOTTEN_SECONDS})

        self._database.write(work, durable=False)

    def release(self, group: str, owner: str) -> None:
        """Says that `owner` is gone: what it was running may be claimed at once."""
        self._database.write(lambda t: t.run("DELETE FROM owners WHERE grp = :grp AND owner = :owner",
                                             {"grp": group, "owner": owner}))  # fmt: skip

    def claim(self, group: str, owner: str, claims: Sequence[Claim], now: float) -> list[Claimed]:
        """Asks for events to run; one answer for each claim, in order (see `Verdict` and `claims.decide`).

        Of two copies claimed at the same instant, in one batch or by two processes, exactly one gets RUN. Atomic, but
        not on disk when it returns: after a power cut the event is simply claimable again. Raises LedgerError when
        `owner` never sent a heartbeat.
        """

        def work(t: Transaction) -> list[Claimed]:
            live = _live(t, group, owner, now)
            rows = _rows(t, group, [c.key for c in claims])
            done = _settled(t, claims)
            before = {row.key: row for days in rows.values() for row in days.values()}
            taken: dict[EventKey, Claim] = {}
            answers = []
            for claim in claims:
                seen = _near(rows, claim.key)
                verdict, row = decide(seen, claim, owner, live, (claim.generation, claim.key) in done)
                if verdict is Verdict.RUN:
                    rows.setdefault(row.key.id, {})[row.key.day] = row
                    taken[row.key] = claim
                answers.append(Claimed(claim.key, verdict, row.state, row.attempts, row.first_failed_at, row.generation,
                                       verdict is Verdict.BUSY and row.owner == owner))  # fmt: skip
            _take(t, group, [(before.get(key), rows[key.id][key.day], claim) for key, claim in sorted(taken.items())], now)
            return answers

        return self._database.write(work, durable=False, days={c.key.day for c in claims}, names=_names(group, claims))

    def finish(self, group: str, owner: str, finishes: Sequence[Finish], now: float) -> list[bool]:
        """Records how runs ended; on disk when it returns. False: `owner` had lost the event to another, nothing is recorded.

        Sending the same finish again (after LedgerUnavailable) is answered True. Where a finish's generation is a job's,
        the job's item gets its outcome in the same transaction.
        """

        rest = [_values(group, owner, f, now) for f in finishes]

        def at_once(t: Transaction) -> list[bool]:
            """Almost always every one is still ours, and two statements are all it takes."""
            if _end(t, rest) != len(rest):
                raise _NotAll
            _follow_up(t, group, finishes)
            return [True] * len(finishes)

        def one_by_one(t: Transaction) -> list[bool]:
            rows = _rows(t, group, [f.key for f in finishes])
            answers, ours = [], []
            for finish, values in zip(finishes, rest, strict=True):
                row = _near(rows, finish.key)
                running = row is not None and row.owner == owner and row.state is State.RUNNING
                # The same finish again: its first answer was lost with the connection.
                again = row is not None and row.owner == owner and (row.state, row.attempts) == (finish.state, finish.attempts)
                answers.append(running or again)
                if running and row is not None:
                    ours.append((finish, values | {"day": row.key.day}))
                    rows[row.key.id][row.key.day] = replace(row, state=finish.state, attempts=finish.attempts)
            if _end(t, [values for _, values in ours]) != len(ours):
                raise Raced
            _follow_up(t, group, [finish for finish, _ in ours])
            return answers

        if not finishes:
            return []
        try:
            return self._database.write(at_once)
        except _NotAll:
            return self._database.write(one_by_one)

    def note_skips(self, group: str, skips: Sequence[tuple[str, EventKey, str, str]]) -> None:
        """For replayed records that weren't run: (generation, key, outcome, reason). An item's first outcome stays."""
        self._database.write(lambda t: settle(t, skips))

    def states(self, group: str, keys: Sequence[EventKey]) -> dict[EventKey, State]:
        """The state of those events that the group has met."""
        rows = self._database.read(lambda t: _rows(t, group, keys))
        return {key: row.state for key in keys if (row := _near(rows, key))}

    def applied(self, group: str, handler: str, resources: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """(shop, resource) → highest version that the handler applied (microseconds), for those that it has."""
        rows = self._database.read(lambda t: t.rows(
            """SELECT shop, resource, version FROM applied
               WHERE grp = :grp AND handler = :handler AND shop IN :shops AND resource IN :resources""",
            {"grp": group, "handler": handler, "shops": sorted({clean(shop) for shop, _ in resources}),
             "resources": sorted({clean(resource) for _, resource in resources})})) if resources else []  # fmt: skip
        found = {(shop, resource): version for shop, resource, version in rows}
        return {pair: found[kept] for pair in resources if (kept := (clean(pair[0]), clean(pair[1]))) in found}

    def failures(self, group: str) -> dict[str, dict[State, int]]:
        """Shopify topic → how many events are WAITING and DEAD."""
        return self._database.read(lambda t: failures.counts(t, group))

    def dead(self, group: str, *, topic: str | None = None, shop: str | None = None, error_group: str | None = None,
             since: float | None = None, limit: int = 100) -> list[Failure]:  # fmt: skip
        """Dead events, the latest first. `since`: died at or after (epoch seconds)."""
        return self._database.read(lambda t: failures.dead(t, group, topic, shop, error_group, since, limit))

    def error_groups(self, group: str) -> list[ErrorGroup]:
        """Dead events by cause, the most frequent first."""
        return self._database.read(lambda t: failures.error_groups(t, group))

    def discard(self, group: str, keys: Sequence[EventKey], who: str, reason: str, now: float) -> list[EventKey]:
        """Gives up dead events for good and writes so in the audit trail; the keys that were dead."""
        return self._database.write(lambda t: failures.discard(t, group, keys, who, reason, now))

    def add_reprocess(self, group: str, generation: str, ranges: Sequence[tuple[str, int, int, int]]) -> None:
        """Marks offset ranges (Kafka topic, partition, from, to; `to` excluded) to be run again, done or not.

        The worker claims what lies in them with `forced=True, generation=generation`.
        """
        self._database.write(lambda t: windows.add(t, group, generation, ranges))

    def reprocess(self, group: str) -> list[Window]:
        """The marked ranges, the newest mark last."""
        return self._database.read(lambda t: windows.of(t, group))


class _NotAll(Exception):
    """Rolls back: some of the finishes weren't the owner's to make, or their rows lie a day away."""


def _names(group: str, claims: Sequence[Claim]) -> list[str]:
    """What two claims of one event have in common, whatever day each of them has it under."""
    return sorted({f"{group}/{claim.key.id[0]:02x}" for claim in claims})


def _live(t: Transaction, group: str, owner: str, now: float) -> frozenset[str]:
    owners = {name: (lease, until) for name, lease, until in t.rows(
        "SELECT owner, lease, alive_until FROM owners WHERE grp = :grp", {"grp": group})}  # fmt: skip
    if owner not in owners:
        raise LedgerError(f"Worker {owner} of group {group} claims events but has no lease: heartbeat first.")
    lease, until = owners[owner]
    if until < now + lease / 2:
        # Once per half lease, not per claim: each renewal leaves a dead row behind on PostgreSQL.
        t.run("UPDATE owners SET alive_until = :until WHERE grp = :grp AND owner = :owner",
              {"until": now + lease, "grp": group, "owner": owner})  # fmt: skip
    return frozenset(name for name, (_, until) in owners.items() if until > now) | {owner}


def _rows(t: Transaction, group: str, keys: Sequence[EventKey]) -> _Rows:
    """The rows of these events, on their day or the ones beside it: id → day → row."""
    by_days: dict[tuple[int, ...], list[bytes]] = {}
    for key in keys:
        by_days.setdefault(tuple(key.day + near for near in _NEAR), []).append(key.id)
    found: _Rows = {}
    for days, ids in by_days.items():
        for day, id_, state, *rest in t.rows(_LOOK, {"grp": group, "days": days, "ids": ids}):
            found.setdefault(id_, {})[day] = Row(EventKey(day, id_), State(state), *rest)
    return found


def _near(rows: _Rows, key: EventKey) -> Row | None:
    days = rows.get(key.id)
    return None if days is None else next((row for near in (0, -1, 1) if (row := days.get(key.day + near))), None)


def _settled(t: Transaction, claims: Sequence[Claim]) -> set[tuple[str, EventKey]]:
    by_generation: dict[str, list[EventKey]] = {}
    for claim in claims:
        if claim.generation:
            by_generation.setdefault(claim.generation, []).append(claim.key)
    return {(generation, key) for generation, keys in by_generation.items() for key in settled(t, generation, keys)}


def _take(t: Transaction, group: str, taken: Iterable[tuple[Row | None, Row, Claim]], now: float) -> None:
    new, changed = [], []
    for seen, row, claim in taken:
        values = {"day": row.key.day, "grp": group, "id": row.key.id, "state": row.state.value, "attempts": row.attempts,
                  "owner": row.owner, "generation": row.generation, "now": now}  # fmt: skip
        if seen is None:
            new.append(values | {"topic": claim.topic})
        else:
            changed.append(values | {"first_failed_at": row.first_failed_at, "seen_state": seen.state.value,
                                     "seen_owner": seen.owner, "seen_attempts": seen.attempts,
                                     "seen_generation": seen.generation})  # fmt: skip
    if t.many(_INSERT, new) + t.many(_TAKE, changed) != len(new) + len(changed):
        raise Raced


def _values(group: str, owner: str, finish: Finish, now: float) -> dict[str, Any]:
    if finish.state is State.RUNNING:
        raise LedgerError(f"Event {shown(finish.key)} can't be finished as running.")
    values = {"day": finish.key.day, "grp": group, "id": finish.key.id, "state": finish.state.value,
              "attempts": finish.attempts, "owner": owner, "now": now}  # fmt: skip
    if finish.state in FAILED:
        values |= {"shop": clean(finish.shop), "error_type": clean(finish.error_type), "error_group": clean(finish.error_group),
                   "error_message": clean(finish.error_message, _MESSAGE_BYTES)}  # fmt: skip
    return values


def _end(t: Transaction, ends: Sequence[Mapping[str, Any]]) -> int:
    ordered = sorted(ends, key=lambda v: (v["day"], v["id"]))
    failed = [v for v in ordered if v["state"] in FAILED]
    return t.many(_FINISH, [v for v in ordered if v["state"] not in FAILED]) + t.many(_FAIL, failed)


def _follow_up(t: Transaction, group: str, finishes: Sequence[Finish]) -> None:
    """What hangs on an accepted end: the applied version, and the item of the job that brought the event."""
    t.many(_APPLY, [{"grp": group, "handler": v.handler, "shop": clean(v.shop), "resource": clean(v.resource),
                     "version": v.version_micros} for v in sorted(_highest(finishes), key=_by_resource)])  # fmt: skip
    settle(t, [(f.generation, f.key, _ITEM_OUTCOMES[f.state], f.error_message) for f in finishes
               if f.generation and f.state in _ITEM_OUTCOMES])  # fmt: skip


def _highest(finishes: Sequence[Finish]) -> Iterable[Applied]:
    highest: dict[tuple[str, str, str], Applied] = {}
    for finish in finishes:
        if version := finish.version:
            of = _by_resource(version)
            if of not in highest or highest[of].version_micros < version.version_micros:
                highest[of] = version
    return highest.values()


def _by_resource(version: Applied) -> tuple[str, str, str]:
    return version.handler, version.shop, version.resource


# WAITING is no outcome of a job's item: the event is still in flight.
_ITEM_OUTCOMES = {State.SUCCEEDED: SUCCEEDED, State.DEAD: FAILED_AGAIN, State.STALE: "superseded", State.DISCARDED: "discarded"}

