"""What a group knows of an event, and who may run it now: the states, the verdicts, and the pure rule between them.

    no row ──claim──▶ RUNNING ──▶ SUCCEEDED   handled
                       ▲  │ ├──▶ STALE        skipped: a newer version of the resource had been applied
                       │  │ ├──▶ DISCARDED    given up by a person, or by the handler's own word
                       │  │ └──▶ DEAD ───discard──▶ DISCARDED
                       │  ▼       │
                       │ WAITING  │ (a claim of a new generation: redrive or replay)
                       └──┴───────┘

WAITING means that the event's retry record is in a retry topic: a worker produces that record first and finishes with
WAITING afterwards. RUNNING ends without a finish when its owner dies: once the owner's lease has run out, or it was
released, the next claim takes the event over.
"""

from dataclasses import dataclass, replace
from enum import Enum, IntEnum

from hooktape.ledger.keys import EventKey


class State(IntEnum):
    """What became of an event in a group. The numbers are what the table holds: never renumber."""

    RUNNING = 0
    WAITING = 1
    SUCCEEDED = 2
    STALE = 3
    DEAD = 4
    DISCARDED = 5


FINISHED = frozenset({State.SUCCEEDED, State.STALE, State.DISCARDED})
FAILED = frozenset({State.WAITING, State.DEAD})


class Verdict(Enum):
    """The answer to a claim."""

    RUN = "run"
    """Yours now. Run the handler, then `finish`."""
    DONE = "done"
    """This group has finished it (succeeded, stale or discarded). Skip it and complete the offset."""
    ELSEWHERE = "elsewhere"
    """In custody elsewhere: waiting in a retry topic, or dead. Skip it and complete the offset."""
    BUSY = "busy"
    """Being run, by another live owner or (`Claimed.mine`) by you. Ask again later; the offset stays incomplete."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A record that a worker wants to handle.

    `topic` is Shopify's (`orders/create`). `attempt` is how often the event was tried before this record was produced: 0
    for a record of the tape or of a replay, n for the record of the n-th retry. `generation` is the id of the replay,
    redrive or reset that brought the record, and travels on with its retries; `forced` says that it may run again what
    has succeeded.
    """

    key: EventKey
    topic: str
    attempt: int = 0
    generation: str = ""
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """What came of a claim; the answers stand in the order of the claims.

    `attempts` counts the tries so far and `first_failed_at` (epoch seconds) is the first failure's time, both within the
    generation in force, `generation`. `state` is the state that decided. `mine` with BUSY: the event is running under the
    asking owner itself; a worker that isn't running it (its earlier claim's answer was lost on the way) may run it.
    """

    key: EventKey
    verdict: Verdict
    state: State
    attempts: int = 0
    first_failed_at: float | None = None
    generation: str = ""
    mine: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """The version of a resource that a handler has now applied (microseconds of its `updated_at`)."""

    handler: str
    shop: str
    resource: str
    version_micros: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a run. `attempts` counts it. `state` is anything but RUNNING.

    For WAITING and DEAD: `error_type`, `error_message` (cut to 1 KB), `error_group` (same cause, same text) and `shop`,
    so that failures can be listed without the catalogue. `version` is kept as the highest applied one.
    """

    key: EventKey
    state: State
    attempts: int
    error_type: str = ""
    error_group: str = ""
    error_message: str = ""
    generation: str = ""
    version: Applied | None = None
    shop: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An outcome as the table holds it. `owner` stays after the end, so that a finish sent twice is known."""

    key: EventKey
    state: State
    attempts: int
    owner: str
    generation: str
    first_failed_at: float | None


def decide(row: Row | None, claim: Claim, owner: str, live: frozenset[str], settled: bool = False) -> tuple[Verdict, Row]:
    """Who may run it, and the row as it stands afterwards (changed only for RUN).

    `live` holds the owners whose lease is running. `settled`: the claim's generation is a job that already has this
    event's outcome, so its record is a second delivery.
    """
    if row is None:
        return Verdict.RUN, Row(claim.key, State.RUNNING, claim.attempt, owner, claim.generation, None)
    if row.state is State.RUNNING:
        if row.owner == owner or row.owner in live:
            return Verdict.BUSY, row
        # Its owner is gone. Whichever record of the event asks first goes on: the tape's, or a retry's that was produced
        # just before the owner died; hence the larger count.
        return Verdict.RUN, replace(row, owner=owner, attempts=max(row.attempts, claim.attempt))
    if row.state is State.WAITING:
        # A record ahead of the row (the database lost its last commits) must run: nothing else will bring the event back.
        if claim.attempt > 0 and claim.attempt >= row.attempts:
            return Verdict.RUN, replace(row, state=State.RUNNING, owner=owner, attempts=claim.attempt)
        return Verdict.ELSEWHERE, row
    renewed = bool(claim.generation) and claim.generation != row.generation and not settled
    if renewed and (claim.forced or row.state is State.DEAD):
        return Verdict.RUN, Row(row.key, State.RUNNING, claim.attempt, owner, claim.generation, None)
    return (Verdict.ELSEWHERE if row.state is State.DEAD else Verdict.DONE), row
