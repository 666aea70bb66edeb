"""Replays and redrives as jobs that survive their runner: the plan, how far it got, and the account."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hooktape.errors import LedgerError, UsageError
from hooktape.ledger import items
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.items import Account, Item
from hooktape.ledger.keys import EventKey
from hooktape.ledger.selection import Selection
from hooktape.ledger.texts import clean


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
    """What a job hands over: events from the tape, or dead ones from the dead-letter topic."""

    REPLAY = "replay"
    REDRIVE = "redrive"


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `id` (see `keys.new_id`) is the generation of its records. Times are epoch seconds; `rate` is events a second,
    None: as fast as it goes. `selected` counts the plan's items; `published_seq` is the last item known to be on Kafka.
    """

    id: str
    group: str
    kind: Kind
    selection: Selection
    reason: str
    who: str
    created_at: float
    forced: bool = False
    rate: float | None = None
    state: JobState = JobState.PLANNED
    started_at: float | None = None
    ended_at: float | None = None
    selected: int = 0
    published_seq: int = 0
    note: str = ""


_COLUMNS = ("id, grp, kind, selection, reason, who, created_at, forced, rate, state, started_at, ended_at, selected, "
            "published_seq, note")  # fmt: skip


class Jobs:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, job: Job) -> None:
        """Adds a job as it's given. Raises LedgerError when its id is taken."""

        def work(t: Transaction) -> None:
            added = t.run(
                f"""INSERT INTO jobs ({_COLUMNS}) VALUES (:id, :grp, :kind, :selection, :reason, :who, :created_at, :forced,
                    :rate, :state, :started_at, :ended_at, :selected, :published_seq, :note) ON CONFLICT (id) DO NOTHING""",
                {"id": job.id, "grp": job.group, "kind": str(job.kind), "selection": job.selection.to_json(),
                 "reason": clean(job.reason), "who": clean(job.who), "created_at": job.created_at, "forced": int(job.forced),
                 "rate": job.rate, "state": str(job.state), "started_at": job.started_at, "ended_at": job.ended_at,
                 "selected": job.selected, "published_seq": job.published_seq, "note": clean(job.note)},
            )  # fmt: skip
            if not added:
                raise LedgerError(f"There is a job {job.id} already: ids are used once.")

        self._database.write(work)

    def add_items(self, job_id: str, new: Sequence[Item]) -> int:
        """Adds planned events and counts them as selected; how many were new (a `seq` that the job has is left as it is).

        Raises LedgerError when there is no such job, or it's past planning.
        """

        def work(t: Transaction) -> int:
            added = items.add(t, job_id, new)
            if not t.run("UPDATE jobs SET selected = selected + :added WHERE id = :id AND state = 'planned'",
                         {"added": added, "id": job_id}):  # fmt: skip
                raise LedgerError(f"Job {job_id} isn't being planned: nothing can be added to it.")
            return added

        return self._database.write(work)

    def amend(self, job_id: str, *, who: str | None = None, reason: str | None = None, note: str | None = None) -> bool:
        """Changes what is said of a job that is planned and not started: who runs it and why; whether it was planned still."""
        values = {"who": who, "reason": reason, "note": note}
        return self._database.write(lambda t: t.run(
            """UPDATE jobs SET who = COALESCE(:who, who), reason = COALESCE(:reason, reason), note = COALESCE(:note, note)
               WHERE id = :id AND state = 'planned'""",
            {"id": job_id, **{name: None if text is None else clean(text) for name, text in values.items()}})) == 1  # fmt: skip

    def of_event(self, job_id: str, key: EventKey) -> list[Item]:
        """The job's item of this event: none, or one."""
        return self._database.read(lambda t: items.read(
            t, job_id, "AND day = :day AND id = :id", {"day": key.day, "id": key.id, "limit": 1}))  # fmt: skip

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""
        row = self._database.read(lambda t: t.row(f"SELECT {_COLUMNS} FROM jobs WHERE id = :id", {"id": job_id}))
        return _job(row) if row else None

    def move(self, job_id: str, from_states: Collection[JobState], to_state: JobState, now: float,
             note: str | None = None) -> bool:  # fmt: skip
        """Moves the job to `to_state` if it's in one of `from_states` at this instant; whether it did.

        The first RUNNING sets `started_at`, an end sets `ended_at`; `note` replaces the note. Raises UsageError for a move
        that `JobState` doesn't draw.
        """
        for state in from_states:
            if to_state not in MOVES[state]:
                raise UsageError(f"A job that is {state} can't become {to_state}.")
        return self._database.write(lambda t: t.run(
            """UPDATE jobs SET state = :state, note = COALESCE(:note, note),
                   started_at = CASE WHEN :running = 1 THEN COALESCE(started_at, :now) ELSE started_at END,
                   ended_at = CASE WHEN :ended = 1 THEN :now ELSE ended_at END
               WHERE id = :id AND state IN :from""",
            {"state": str(to_state), "note": None if note is None else clean(note), "now": now, "id": job_id,
             "running": int(to_state is JobState.RUNNING), "ended": int(to_state in ENDED),
             "from": [str(s) for s in from_states]})) == 1  # fmt: skip

    def next_items(self, job_id: str, after_seq: int, limit: int) -> list[Item]:
        """The next events that the plan decided to run, in order of `seq`."""
        return self._database.read(lambda t: items.read(
            t, job_id, "AND seq > :after AND decision = :run",
            {"after": after_seq, "run": items.RUN, "limit": limit}))  # fmt: skip

    def published(self, job_id: str, up_to_seq: int) -> None:
        """Notes that every event up to `up_to_seq` that was to run is on Kafka, acknowledged. Never goes back."""
        self._database.write(lambda t: t.run(
            "UPDATE jobs SET published_seq = :seq WHERE id = :id AND published_seq < :seq",
            {"seq": up_to_seq, "id": job_id}))  # fmt: skip

    def settle(self, job_id: str, outcomes: Sequence[tuple[EventKey, str, str]]) -> int:
        """Gives items an outcome from outside a worker: (key, outcome, error), as `gone` when the record can't be read any
        more. The first outcome of an item stays; how many got theirs now.
        """
        return self._database.write(lambda t: items.settle(t, [(job_id, *outcome) for outcome in outcomes]))

    def account(self, job_id: str) -> Account:
        """Where every selected event of the job stands. Raises LedgerError when there is no such job."""

        def work(t: Transaction) -> Account:
            row = t.row("SELECT selected, published_seq FROM jobs WHERE id = :id", {"id": job_id})
            if row is None:
                raise LedgerError(f"There is no job {job_id}.")
            return items.account(t, job_id, *row)

        return self._database.read(work)

    def items(self, job_id: str, *, outcome: str | None = None, decision: str | None = None, after_seq: int = 0,
              limit: int = 100) -> list[Item]:  # fmt: skip
        """Events of the job in order of `seq`, narrowed by outcome (`""`: none yet) and by the plan's decision."""
        terms = "AND seq > :after"
        if outcome is not None:
            terms += " AND outcome = :outcome" if outcome else " AND outcome IS NULL"
        if decision is not None:
            terms += " AND decision = :decision"
        return self._database.read(lambda t: items.read(
            t, job_id, terms, {"after": after_seq, "outcome": outcome, "decision": decision, "limit": limit}))  # fmt: skip

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
            f"SELECT {_COLUMNS} FROM jobs WHERE {' AND '.join(terms) or '1 = 1'} ORDER BY created_at DESC, id DESC LIMIT :limit",
            params))  # fmt: skip
        return [_job(row) for row in rows]


def _job(row: tuple[Any, ...]) -> Job:
    id_, group, kind, selection, reason, who, created_at, forced, rate, state, *rest = row
    return Job(id_, group, Kind(kind), Selection.from_json(selection), reason, who, created_at, bool(forced), rate,
               JobState(state), *rest)  # fmt: skip
