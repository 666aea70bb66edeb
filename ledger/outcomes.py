"""A group's memory: what became of its events. The deduplication is here."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from hooktape.ledger import discards, failures, windows
from hooktape.ledger.checks import FAILED, IN_RETRY, Applied, Check, Checked, Finish, Row, State, Waiting, decide
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.discards import Changed, Deed
from hooktape.ledger.failures import ErrorGroup, Failure
from hooktape.ledger.items import FAILED_AGAIN, SUCCEEDED, Ending, settle, settled, settling
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ownership import owned
from hooktape.ledger.texts import clean
from hooktape.ledger.windows import Window
from hooktape.schemas.event import Coordinates

# A day away counts as the same event: that copies share their day is implied by Shopify, not promised.
_NEAR = (-1, 0, 1)
# As much of an error as a list shows; the whole of it is in the dead-letter record.
_MESSAGE_BYTES = 1024

_LOOK = """
    SELECT day, id, state, attempts, generation, epoch, first_failed_at FROM outcomes
    WHERE day IN :days AND grp = :grp AND id IN :ids"""
# The end of an event that had no row, and almost every end is one.
_NEW = """INSERT INTO outcomes (day, grp, id, state, attempts, epoch, generation, topic, updated_at, received_at)"""
_NEW_TYPES = ("integer", "text", "bytes", "smallint", "integer", "bigint", "text", "text", "double precision", "bigint")
_ONCE = "ON CONFLICT (day, grp, id) DO NOTHING"
_ADD = f"""
    INSERT INTO outcomes (day, grp, id, state, attempts, epoch, generation, topic, updated_at, first_failed_at, failed_at,
        received_at, shop, error_type, error_group, error_message)
    VALUES (:day, :grp, :id, :state, :attempts, :epoch, :generation, :topic, :now, :first_failed_at, :failed_at,
        :received_at, :shop, :error_type, :error_group, :error_message) {_ONCE}"""
# What `check` had seen must still stand, or another record of the event was finished in between.
_CHANGE = """
    UPDATE outcomes SET state = :state, attempts = :attempts, epoch = :epoch, generation = :generation, updated_at = :now,
        first_failed_at = :first_failed_at, failed_at = :failed_at, shop = :shop,
        received_at = CASE WHEN :keep = 1 THEN COALESCE(received_at, :received_at) ELSE :received_at END,
        error_type = :error_type, error_group = :error_group, error_message = :error_message
    WHERE day = :day AND grp = :grp AND id = :id
        AND state = :seen_state AND attempts = :seen_attempts AND generation = :seen_generation"""
_APPLY = """
    INSERT INTO applied (grp, handler, shop, resource, version) VALUES (:grp, :handler, :shop, :resource, :version)
    ON CONFLICT (grp, handler, shop, resource) DO UPDATE SET version = excluded.version
    WHERE excluded.version > applied.version"""
_WAIT = """
    INSERT INTO waiting (grp, part, day, id, lane, seq, delay, due, kafka_topic, kafka_partition, kafka_offset)
    VALUES (:grp, :part, :day, :id, :lane, :seq, :delay, :due, :topic, :number, :offset)
    ON CONFLICT (grp, part, day, id) DO UPDATE SET seq = excluded.seq, delay = excluded.delay, due = excluded.due"""
_WAITING = """
    SELECT day, id, lane, seq, delay, due, kafka_topic, kafka_partition, kafka_offset FROM waiting
    WHERE grp = :grp AND part = :part"""
_ARRIVED = "DELETE FROM waiting WHERE grp = :grp AND part = :part AND day = :day AND id = :id"

Statement = tuple[str, Mapping[str, Any]]
"""SQL and its parameters."""
_Rows = dict[bytes, dict[int, Row]]


class Outcomes:
    """Checks read, finishes write; batches of up to a thousand cost a few statements each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, group: str, checks: Sequence[Check]) -> list[Checked]:
        """Which of these records may run their events; one answer for each, in order (see `checks.decide`).

        The asker owns the partitions of the records, and runs none of the events already.
        """

        def work(t: Transaction) -> list[Checked]:
            rows = _rows(t, group, [c.key for c in checks])
            if not rows:
                return [decide(None, c) for c in checks]
            done = _settled(t, checks)
            return [decide(_near(rows, c.key), c, (c.generation, c.key) in done) for c in checks]

        return self._database.read(work) if checks else []

    def finish(self, group: str, owner: str, finishes: Sequence[Finish], now: float) -> list[bool]:
        """Records ends; on disk when it returns. False: the partition isn't `owner`'s any more (or not in that epoch), or
        another record of the event was finished since the check; nothing is recorded then.

        Sending the same finish again (after LedgerUnavailable) is answered True. Where a finish's generation is a job's,
        the job's item gets its outcome in the same transaction.
        """
        return self._database.write(lambda t: finish_in(t, group, owner, finishes, now),
                                    days={f.key.day for f in finishes}) if finishes else []  # fmt: skip

    def note_skips(self, group: str, skips: Sequence[Ending]) -> None:
        """For replayed records that weren't run; the generation is the job's id. An item's first outcome stays."""
        self._database.write(lambda t: settle(t, skips))

    def waiting(self, group: str, partition: int) -> list[Waiting]:
        """What waits in the group's retry topics for a partition number, in the order in which it began to."""
        return self._database.read(lambda t: [_waiting(*row) for row in t.rows(
            _WAITING + " ORDER BY seq", {"grp": group, "part": partition})])  # fmt: skip

    def states(self, group: str, keys: Sequence[EventKey]) -> dict[EventKey, State]:
        """The state of those events that the group has met."""
        rows = self._database.read(lambda t: _rows(t, group, keys, _met(t, group, keys)))
        return {key: row.state for key in keys if (row := _near(rows, key))} if rows else {}

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

    def affected(self, group: str, error_group: str, limit: int = 5) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """The topics and the shops that died most often of a cause, each with its number of dead events."""
        return self._database.read(lambda t: failures.affected(t, group, error_group, limit))

    def discard(self, group: str, keys: Sequence[EventKey], who: str, reason: str, now: float) -> Changed:
        """Gives up dead events and writes so in the audit trail. Those in a job's hands are left as they are, and said."""
        return self._database.write(lambda t: discards.discard(t, group, keys, who, reason, now))

    def restore(self, group: str, keys: Sequence[EventKey], who: str, reason: str, now: float) -> Changed:
        """Makes discarded events dead again while their letter is retained, and writes so in the audit trail."""
        return self._database.write(lambda t: discards.restore(t, group, keys, who, reason, now))

    def deeds(self, group: str, key: EventKey) -> list[Deed]:
        """When this event was discarded and restored, by whom and why, the first first."""
        return self._database.read(lambda t: discards.deeds(t, group, key))

    def add_reprocess(self, group: str, generation: str, ranges: Sequence[tuple[str, int, int, int]]) -> None:
        """Marks offset ranges (Kafka topic, partition, from, to; `to` excluded) to be run again, done or not.

        The worker checks what lies in them with `forced=True, generation=generation`.
        """
        self._database.write(lambda t: windows.add(t, group, generation, ranges))

    def reprocess(self, group: str) -> list[Window]:
        """The marked ranges, the newest mark last."""
        return self._database.read(lambda t: windows.of(t, group))


def overdue_in(t: Transaction, group: str, partition: int, before: float, limit: int) -> list[Waiting]:
    """`Outcomes.overdue`, inside a transaction."""
    return [_waiting(*row) for row in t.rows(_WAITING + " AND due < :before ORDER BY due, seq LIMIT :limit",
                                             {"grp": group, "part": partition, "before": before, "limit": limit})]  # fmt: skip


def finish_in(t: Transaction, group: str, owner: str, finishes: Sequence[Finish], now: float) -> list[bool]:
    """`Outcomes.finish`, inside a transaction."""
    own = owned(t, group, owner, locked=True)
    mine = [own.get(f.partition) == f.epoch for f in finishes]
    new: list[Finish] = []
    rest: list[Finish] = []
    for f, ok in zip(finishes, mine, strict=True):
        if ok:
            (new if f.seen is None and f.state not in FAILED else rest).append(f)
    rows = [(f.key.day, group, f.key.id, int(f.state), f.attempts, f.epoch, f.generation, f.topic, now, _received(f)) for f in new]
    rows.sort(key=_by_key)  # in one order everywhere, so that two transactions can't wait for each other
    all_new = t.insert(_NEW, _NEW_TYPES, rows, _ONCE) == len(rows)
    changed = {id(f) for f in sorted(rest, key=lambda f: f.key) if t.run(*_changing(group, f, now)) == 1}
    if all_new and len(changed) == len(rest):
        answers = mine
    else:
        kept = changed | ({id(f) for f in new} if all_new else set())
        answers = [ok and (id(f) in kept or _stands(t, group, f)) for f, ok in zip(finishes, mine, strict=True)]
    _follow_up(t, group, [f for f, ok in zip(finishes, answers, strict=True) if ok])
    return answers


def statements(group: str, f: Finish, now: float) -> list[Statement]:
    """One end as SQL for a connection that isn't ours: the first writes the outcome and changes exactly one row, unless another
    record of the event was finished since the check. The rest hangs on it, and changes what there is to change.

    What `finish_in` answers for a finish that was sent before isn't known here: it would vouch for writes that weren't made with it.
    """
    found = [_changing(group, f, now)]
    if _ends_wait(f):
        found.append((_ARRIVED, _place(group, f)))
    if f.version is not None:
        found.append((_APPLY, _version(group, f.version)))
    if f.generation and f.state in _ITEM_OUTCOMES:
        found.append(settling(_item(f)))
    return found


def _changing(group: str, f: Finish, now: float) -> Statement:
    key = f.seen.key if f.seen is not None else f.key
    first = f.seen.first_failed_at if f.seen is not None and f.seen.generation == f.generation else None
    values = {"day": key.day, "grp": group, "id": key.id, "state": f.state.value, "attempts": f.attempts, "epoch": f.epoch,
              "generation": f.generation, "topic": f.topic, "now": now, "first_failed_at": first, "failed_at": None,
              "received_at": _received(f), "keep": int(_received(f) == 0), "shop": None, "error_type": None,
              "error_group": None, "error_message": None}  # fmt: skip
    if f.state in FAILED:
        values |= {"first_failed_at": first or now, "failed_at": now, "shop": clean(f.shop), "error_type": clean(f.error_type),
                   "error_group": clean(f.error_group), "error_message": clean(f.error_message, _MESSAGE_BYTES)}  # fmt: skip
    if f.seen is None:
        return _ADD, values
    seen = {"seen_state": f.seen.state.value, "seen_attempts": f.seen.attempts, "seen_generation": f.seen.generation}
    return _CHANGE, values | seen


def _by_key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[:3]


def _received(f: Finish) -> int | None:
    return None if f.state is State.SUCCEEDED else f.received_us


def _stands(t: Transaction, group: str, f: Finish) -> bool:
    """Whether the row says already what the finish says: it was sent before, and its answer was lost on the way."""
    row = _near(_rows(t, group, [f.key]), f.key)
    return row is not None and (row.state, row.attempts, row.generation, row.epoch) == (f.state, f.attempts, f.generation, f.epoch)


def _met(t: Transaction, group: str, keys: Sequence[EventKey]) -> set[int]:
    """The days, those beside the keys' included, of which the group has outcomes: each look into another would cost as much as one
    that finds something. Worth its own statement for thousands of keys."""
    days = sorted({key.day + near for key in keys for near in _NEAR})
    return {day for day in days if t.row("SELECT 1 FROM outcomes WHERE day = :day AND grp = :grp LIMIT 1", {"day": day, "grp": group})}


def _rows(t: Transaction, group: str, keys: Sequence[EventKey], met: Collection[int] | None = None) -> _Rows:
    """The rows of these events, on their day or the ones beside it (of these only `met`, if it's known): id → day → row."""
    by_days: dict[int, list[bytes]] = {}
    for key in keys:
        by_days.setdefault(key.day, []).append(key.id)
    found: _Rows = {}
    for of_day, ids in by_days.items():
        days = [day for day in (of_day + near for near in _NEAR) if met is None or day in met]
        if not days:
            continue
        for day, id_, state, *rest in t.rows(_LOOK, {"grp": group, "days": days, "ids": ids}):
            found.setdefault(id_, {})[day] = Row(EventKey(day, id_), State(state), *rest)
    return found


def _near(rows: _Rows, key: EventKey) -> Row | None:
    days = rows.get(key.id)
    return None if days is None else next((row for near in (0, -1, 1) if (row := days.get(key.day + near))), None)


def _settled(t: Transaction, checks: Sequence[Check]) -> set[tuple[str, EventKey]]:
    by_generation: dict[str, list[tuple[EventKey, int | None]]] = {}
    for check in checks:
        if check.generation:
            by_generation.setdefault(check.generation, []).append((check.key, check.seq))
    return {(generation, key) for generation, wanted in by_generation.items() for key in settled(t, generation, wanted)}


def _waiting(day: int, id_: bytes, lane: bytes | None, seq: int, delay: float, due: float, *origin: Any) -> Waiting:
    return Waiting(EventKey(day, id_), lane, seq, delay, due, Coordinates(*origin))


def _follow_up(t: Transaction, group: str, finishes: Sequence[Finish]) -> None:
    """What hangs on an accepted end: the wait, the applied version, and the item of the job that brought the event."""
    for f in finishes:
        if _ends_wait(f):
            t.run(_ARRIVED, _place(group, f))
    if waits := [(f, f.waiting) for f in finishes if f.waiting is not None]:
        t.many(_WAIT, [{"grp": group, "part": f.partition, "day": w.key.day, "id": w.key.id, "lane": w.lane, "seq": w.seq,
                        "delay": w.delay, "due": w.due, "topic": w.origin.topic, "number": w.origin.partition,
                        "offset": w.origin.offset} for f, w in waits])  # fmt: skip
    t.many(_APPLY, [_version(group, v) for v in sorted(_highest(finishes), key=_by_resource)])
    settle(t, [_item(f) for f in finishes if f.generation and f.state in _ITEM_OUTCOMES])


def _ends_wait(f: Finish) -> bool:
    return f.seen is not None and f.seen.state in IN_RETRY and f.state not in IN_RETRY


def _place(group: str, f: Finish) -> Mapping[str, Any]:
    key = f.seen.key if f.seen is not None else f.key
    return {"grp": group, "part": f.partition, "day": key.day, "id": key.id}


def _version(group: str, v: Applied) -> Mapping[str, Any]:
    return {"grp": group, "handler": v.handler, "shop": clean(v.shop), "resource": clean(v.resource), "version": v.version_micros}


def _item(f: Finish) -> Ending:
    return Ending(f.generation, f.key, _ITEM_OUTCOMES[f.state], f.error_message, f.seq)


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


# What waits is still in flight: no outcome of a job's item.
_ITEM_OUTCOMES = {State.SUCCEEDED: SUCCEEDED, State.DEAD: FAILED_AGAIN, State.STALE: "superseded", State.DISCARDED: "discarded"}
