"""Replays and redrives as jobs that survive their runner: the plan, how far it got, and the account."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hooktape.errors import LedgerError, UsageError
from hooktape.ledger import items
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.items import Account, Item
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
