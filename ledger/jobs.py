"""Replays, redrives and backfills as jobs that survive their runner: the plan, how far it got, and the account."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from hooktape.errors import LedgerError, UsageError
from hooktape.ledger import copying, items, search
from hooktape.ledger.catalogue import After
from hooktape.ledger.copying import Alike, Copied
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.items import START, Account, Ending, Item, Row, ToSend, Total
from hooktape.ledger.selection import Selection
from hooktape.ledger.texts import clean
from hooktape.schemas.event import Coordinates


class JobState(StrEnum):
    """Where a job stands.

        PLANNED ──▶ RUNNING ◀──▶ PAUSED
           │        │  │  │        │
           │        │  │  ▼        │
           │        │  │ VERIFYING │     all is published; outcomes are coming in
           │        │  │  │  │  │  │
           ▼        ▼  ▼  ▼  ▼  ▼  ▼
        CANCELLED  FAILED  DONE  INCOMPLETE

    From PAUSED a job can only go on or be CANCELLED. CANCELLED and FAILED are also reached from VERIFYING. DONE: every
    event that was to run succeeded or was skipped with its reason. INCOMPLETE: some failed again, or the account doesn't
    add up. FAILED: the job itself broke off, as its note says.
    """

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    VERIFYING = "verifying"
    DONE = "done"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"
    FAILED = "failed"


_S = JobState
MOVES: Mapping[JobState, frozenset[JobState]] = {
    _S.PLANNED: frozenset({_S.RUNNING, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.VERIFYING, _S.CANCELLED, _S.FAILED}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.CANCELLED}),
    _S.VERIFYING: frozenset({_S.DONE, _S.INCOMPLETE, _S.CANCELLED, _S.FAILED}),
    _S.DONE: frozenset(), _S.INCOMPLETE: frozenset(), _S.CANCELLED: frozenset(), _S.FAILED: frozenset(),
}  # fmt: skip
ENDED = frozenset(state for state, onward in MOVES.items() if not onward)


class Kind(StrEnum):
    """What a job is for; all are planned, run and accounted for alike."""

    REPLAY = "replay"
    REDRIVE = "redrive"
    BACKFILL = "backfill"


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run keeps to; None: no such bound.

    `rate`: events a second. 200 beside live traffic of 500 leaves the workers two fifths more to do, and brings 720,000 events in an hour;
    who has no live traffic, or handlers to spare, says more. `outstanding`: handed over and without an outcome; ten seconds' worth at that
    rate, and what a cancelled job still runs. `max_lag`: seconds that the group's oldest live event may wait before the replay does: as
    long as Shopify itself waits for an answer. `max_failures`: the share of the last hundred outcomes that may be failures before the
    job pauses itself.
    """

    rate: float | None = 200.0
    outstanding: int | None = 2000
    max_lag: float | None = 5.0
    max_failures: float | None = 0.2

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate <= 0:
            raise UsageError("A rate is a number of events a second, above 0.")
        if (self.outstanding is not None and self.outstanding < 1) or (self.max_lag is not None and self.max_lag <= 0):
            raise UsageError("The limits on outstanding events and on live lag must be above 0.")
        if self.max_failures is not None and not 0 <= self.max_failures < 1:
            raise UsageError("--max-failures is a share of the last hundred outcomes: from 0% to below 100%.")


STANDARD = Limits()
"""What a run keeps to unless it's told otherwise."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `id` (see `keys.new_id`) is the generation of its records. Times are epoch seconds.

    `first`: a trial: it pauses by itself once so many are sent. `alive_until`: when whoever runs it is taken for
    dead. `selected` counts the plan's items, `sent` those known to be on Kafka, `published_seq` is the last of these.
    """

    id: str
    group: str
    kind: Kind
    selection: Selection
    reason: str
    who: str
    created_at: float
    forced: bool = False
    again: bool = False
    limits: Limits = STANDARD
    first: int | None = None
    state: JobState = JobState.PLANNED
    started_at: float | None = None
    ended_at: float | None = None
    alive_until: float = 0.0
    selected: int = 0
    published_seq: int = START
    sent: int = 0
    note: str = ""
    number: int = 0

    @property
    def rate(self) -> float | None:
        """Events a second, at most."""
        return self.limits.rate


_COLUMNS = ("id, grp, kind, selection, reason, who, created_at, forced, again, limits, first, state, started_at, ended_at, alive_until, "
            "selected, published_seq, sent, note")  # fmt: skip


class Jobs:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, job: Job) -> Job:
        """Adds a job as it's given; returns it with its number. Raises LedgerError when its id is taken."""
        names = _COLUMNS.split(", ")
        values = {"id": job.id, "grp": job.group, "kind": str(job.kind), "selection": job.selection.to_json(), "reason": clean(job.reason),
                  "who": clean(job.who), "created_at": job.created_at, "forced": int(job.forced), "again": int(job.again),
                  "limits": msgspec.json.encode(job.limits).decode(), "first": job.first, "state": str(job.state),
                  "started_at": job.started_at, "ended_at": job.ended_at, "alive_until": job.alive_until, "selected": job.selected,
                  "published_seq": job.published_seq, "sent": job.sent, "note": clean(job.note)}  # fmt: skip

        def work(t: Transaction) -> Job:
            if not t.run(f"INSERT INTO jobs ({_COLUMNS}) VALUES ({', '.join(f':{n}' for n in names)}) ON CONFLICT (id) DO NOTHING", values):
                raise LedgerError(f"There is a job {job.id} already: ids are used once.")
            return _found(t, job.id)

        return self._database.write(work)

    def add_items(self, job: Job, rows: Sequence[Row], totals: Iterable[Total]) -> int:
        """Adds planned events and counts them as selected; how many were new (a `seq` that the job has is left as it is).

        `totals` count them by decision, topic and shop. Raises LedgerError when there is no such job, or it's past planning.
        """

        def work(t: Transaction) -> int:
            added = items.add(t, rows)
            _select(t, job, added, totals)
            return added

        # Not each page on disk at once: a plan that a power cut ended isn't whole and never runs; its last write is durable.
        return self._database.write(work, durable=False)

    def copy_items(self, job: Job, after: After, limit: int, seq: int, runs: Callable[[Alike], bool]) -> Copied | None:
        """Adds the next page of what the job selects as events to run, behind `seq`, provided that nothing speaks against any of them.

        None, and nothing is added: the job's group has outcomes already, `runs` says no to some of the page, or there are no more. Raises
        as `add_items` does, and UsageError as `Catalogue.find`.
        """

        def work(t: Transaction) -> Copied | None:
            t.one_snapshot()
            t.step_by_index()
            if copying.has_outcomes(t, job.group) or (query := search.compile(t, job.selection, None)) is None:
                return None
            page = copying.alike(t, query, after, limit)
            if not page or not all(map(runs, page)):
                return None
            copied = copying.copy(t, job.number, seq, query, after, limit)
            totals: Counter[tuple[str, str]] = Counter()
            for each in page:
                totals[each.topic, each.shop] += each.events
            _select(t, job, copied.events, [Total(items.RUN, *names, events) for names, events in totals.items()])
            return copied

        return self._database.write(work, durable=False)

    def amend(self, job_id: str, *, who: str | None = None, reason: str | None = None, note: str | None = None,
              limits: Limits | None = None, first: int | None = None) -> bool:  # fmt: skip
        """Changes what is said of a job that isn't running; whether it was planned or paused still."""
        values = {"who": who, "reason": reason, "note": note}
        return self._database.write(lambda t: t.run(
            """UPDATE jobs SET who = COALESCE(:who, who), reason = COALESCE(:reason, reason), note = COALESCE(:note, note),
                   limits = COALESCE(:limits, limits), first = :first
               WHERE id = :id AND state IN ('planned', 'paused')""",
            {"id": job_id, "first": first, "limits": None if limits is None else msgspec.json.encode(limits).decode(),
             **{name: None if text is None else clean(text) for name, text in values.items()}})) == 1  # fmt: skip

    def of_event(self, job_id: str, id_: bytes, places: Iterable[Coordinates]) -> list[Item]:
        """The job's item of the event with this key's `id`: none, or one. `places` are those of its records, on the tape and as dead
        letters: at one of them the plan found it."""

        def work(t: Transaction) -> list[Item]:
            job = _found(t, job_id)
            for place in places:
                # The place by itself, and nothing that isn't in its index: SQLite would rather walk along the whole job.
                at = "SELECT seq FROM replay_items WHERE job = :job AND kafka_partition = :partition AND kafka_offset = :offset"
                if found := items.read(t, job.number, f"AND i.id = :id AND i.seq IN ({at})", {
                        "partition": place.partition, "offset": place.offset, "id": id_, "limit": 1}):  # fmt: skip
                    return found
            return []

        return self._database.read(work)

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""
        row = self._database.read(lambda t: t.row(f"SELECT {_COLUMNS}, number FROM jobs WHERE id = :id", {"id": job_id}))
        return _job(row) if row else None

    def beginning(self, prefix: str, limit: int = 3) -> list[Job]:
        """Jobs whose ids begin so."""
        rows = self._database.read(lambda t: t.rows(
            f"SELECT {_COLUMNS}, number FROM jobs WHERE id >= :low AND id < :high ORDER BY id LIMIT :limit",
            {"low": prefix, "high": prefix + "g", "limit": limit}))  # fmt: skip - ids are hex: g comes after
        return [_job(row) for row in rows]

    def move(self, job_id: str, from_states: Collection[JobState], to_state: JobState, now: float, note: str | None = None,
             alive_until: float | None = None) -> bool:  # fmt: skip
        """Moves the job to `to_state` if it's in one of `from_states` at this instant; whether it did.

        The first RUNNING sets `started_at`, an end sets `ended_at`; `note` replaces the note; a pause ends a trial. Raises UsageError for
        a move that `JobState` doesn't draw.
        """
        for state in from_states:
            if to_state not in MOVES[state]:
                raise UsageError(f"A job that is {state} can't become {to_state}.")
        return self._database.write(lambda t: t.run(
            """UPDATE jobs SET state = :state, note = COALESCE(:note, note), alive_until = COALESCE(:alive_until, alive_until),
                   first = CASE WHEN :paused = 1 THEN NULL ELSE first END,
                   started_at = CASE WHEN :running = 1 THEN COALESCE(started_at, :now) ELSE started_at END,
                   ended_at = CASE WHEN :ended = 1 THEN :now ELSE ended_at END
               WHERE id = :id AND state IN :from""",
            {"state": str(to_state), "note": None if note is None else clean(note), "now": now, "id": job_id, "alive_until": alive_until,
             "running": int(to_state is JobState.RUNNING), "ended": int(to_state in ENDED), "paused": int(to_state is JobState.PAUSED),
             "from": [str(s) for s in from_states]})) == 1  # fmt: skip

    def alive(self, job_id: str, until: float) -> None:
        """Notes that somebody runs it, and until when to believe so."""
        self._database.write(lambda t: t.run("UPDATE jobs SET alive_until = :until WHERE id = :id", {"until": until, "id": job_id}),
                             durable=False)  # fmt: skip

    def to_send(self, job: Job, after_seq: int, limit: int) -> list[ToSend]:
        """The next events that the plan decided to run, in order of `seq`."""
        return self._database.read(lambda t: items.to_send(t, job.number, after_seq, limit))

    def published(self, job: Job, before_seq: int, up_to_seq: int, sent: int) -> bool:
        """Notes that the `sent` events after `before_seq` and up to `up_to_seq` that were to run are on Kafka, acknowledged.

        False when the job's cursor isn't at `before_seq`: nothing is noted then.
        """
        return self._database.write(lambda t: t.run(
            "UPDATE jobs SET published_seq = :seq, sent = sent + :sent WHERE number = :number AND published_seq = :before",
            {"seq": up_to_seq, "before": before_seq, "sent": sent, "number": job.number})) == 1  # fmt: skip

    def settle(self, endings: Sequence[Ending]) -> int:
        """Gives items an outcome from outside a worker, as `gone` when the record can't be read any more. The first outcome of an item
        stays; how many got theirs now.
        """
        return self._database.write(lambda t: items.settle(t, endings))

    def outstanding(self, job: Job) -> int:
        """Events handed over that have no outcome yet."""

        def work(t: Transaction) -> int:
            return items.open_up_to(t, job.number, _found(t, job.id).published_seq)

        return self._database.read(work)

    def account(self, job_id: str, *, counted: bool = False) -> Account:
        """Where every selected event of the job stands. Raises LedgerError when there is no such job.

        By the plan's totals and what is open or ended oddly, so that it may be asked every second; `counted`: by every single item.
        """

        def work(t: Transaction) -> Account:
            job = _found(t, job_id)
            if counted:
                return items.counted(t, job.number, job.selected, job.published_seq)
            return items.standing(t, job.number, job.selected, job.published_seq, job.sent)

        return self._database.read(work)

    def items(self, job_id: str, *, outcome: str | None = None, decision: str | None = None, after_seq: int = START,
              limit: int = 100) -> list[Item]:  # fmt: skip
        """Events of the job in order of `seq`, narrowed by outcome (`""`: none yet) and by the plan's decision."""
        terms = "AND i.seq > :after"
        if outcome is not None:
            terms += " AND i.outcome = :outcome" if outcome else " AND i.outcome IS NULL"
        if outcome not in (None, "", items.SUCCEEDED):
            terms += " AND i.outcome IS NOT NULL AND i.outcome <> 'succeeded'"  # redundant, and what lets the partial index be taken
        if decision == items.RUN:
            terms += " AND i.decision = 'run'"  # as text, for the other partial index
        elif decision is not None:
            terms += " AND i.decision = :decision"
        job = self.get(job_id)
        return [] if job is None else self._database.read(lambda t: items.read(
            t, job.number, terms, {"after": after_seq, "outcome": outcome, "decision": decision, "limit": limit}))  # fmt: skip

    def totals(self, job_id: str, by: str, limit: int = 1000) -> list[tuple[str, dict[str, int]]]:
        """What the plan decided, `by` topic or shop: those with the most events first."""
        if by not in ("topic", "shop"):
            raise UsageError(f"A plan is counted by topic and by shop, not by {by}.")

        def work(t: Transaction) -> list[tuple[str, dict[str, int]]]:
            job = _found(t, job_id)
            names = [name for (name,) in t.rows(
                f"SELECT {by} FROM replay_totals WHERE job = :job GROUP BY {by} ORDER BY SUM(events) DESC, {by} LIMIT :limit",
                {"job": job.number, "limit": limit})]  # fmt: skip
            found: dict[str, dict[str, int]] = {name: {} for name in names}
            for name, decision, number in t.rows(
                f"SELECT {by}, decision, SUM(events) FROM replay_totals WHERE job = :job AND {by} IN :names GROUP BY {by}, decision",
                {"job": job.number, "names": names},
            ):
                found[name][decision] = int(number)
            return list(found.items())

        return self._database.read(work)

    def shops(self, job_id: str) -> int:
        """How many shops the plan touches."""

        def work(t: Transaction) -> int:
            row = t.row("SELECT COUNT(DISTINCT shop) FROM replay_totals WHERE job = :job", {"job": _found(t, job_id).number})
            return int(row[0]) if row else 0

        return self._database.read(work)

    def topics_to_run(self, job_id: str) -> list[str]:
        """The Shopify topics of the events that are to run, sorted."""
        return self._database.read(lambda t: [topic for (topic,) in t.rows(
            "SELECT DISTINCT topic FROM replay_totals WHERE job = :job AND decision = 'run' ORDER BY topic",
            {"job": _found(t, job_id).number})])  # fmt: skip

    def list(self, limit: int = 50, *, group: str | None = None, states: Collection[JobState] = (),
             before: tuple[float, str] | None = None) -> list[Job]:  # fmt: skip
        """The latest first, of one group and in some states only when these are given.

        `before`: (`created_at`, `id`) of a page's last job, for the next page.
        """
        terms = [term for wanted, term in ((group is not None, "grp = :grp"), (bool(states), "state IN :states"),
                                           (before is not None, "(created_at, id) < (:at, :id)")) if wanted]  # fmt: skip
        params: dict[str, object] = {"limit": limit, "grp": group}
        if before is not None:
            params |= {"at": before[0], "id": before[1]}
        if states:
            params["states"] = [str(s) for s in states]
        rows = self._database.read(lambda t: t.rows(
            f"SELECT {_COLUMNS}, number FROM jobs WHERE {' AND '.join(terms) or '1 = 1'} ORDER BY created_at DESC, id DESC LIMIT :limit",
            params))  # fmt: skip
        return [_job(row) for row in rows]

    def prune(self, before: float) -> int:
        """Forgets jobs that ended before then (epoch seconds), and plans as old that never ran, with their items; how many."""

        def work(t: Transaction) -> int:
            old = [number for (number,) in t.rows(
                """SELECT number FROM jobs WHERE ended_at < :before OR (state = 'planned' AND created_at < :before)
                   ORDER BY number LIMIT 100""", {"before": before})]  # fmt: skip
            if old:
                for table, column in (("replay_items", "job"), ("replay_totals", "job"), ("jobs", "number")):
                    t.run(f"DELETE FROM {table} WHERE {column} IN :jobs", {"jobs": old})
            return len(old)

        return self._database.write(work)


def _select(t: Transaction, job: Job, added: int, totals: Iterable[Total]) -> None:
    items.add_totals(t, job.number, totals)
    if not t.run("UPDATE jobs SET selected = selected + :added WHERE number = :number AND state = 'planned'",
                 {"added": added, "number": job.number}):  # fmt: skip
        raise LedgerError(f"Job {job.id} isn't being planned: nothing can be added to it.")


def _found(t: Transaction, job_id: str) -> Job:
    row = t.row(f"SELECT {_COLUMNS}, number FROM jobs WHERE id = :id", {"id": job_id})
    if row is None:
        raise LedgerError(f"There is no job {job_id}.")
    return _job(row)


def _job(row: tuple[Any, ...]) -> Job:
    id_, group, kind, selection, reason, who, created_at, forced, again, limits, first, state, *rest = row
    return Job(id_, group, Kind(kind), Selection.from_json(selection), reason, who, created_at, bool(forced), bool(again),
               msgspec.json.decode(limits, type=Limits), first, JobState(state), *rest)  # fmt: skip
