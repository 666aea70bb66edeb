"""What a group knows of an event, and whether it may run: the states, the verdicts, and the pure rule between them.

    no row ──▶ SUCCEEDED   handled                       ┌──▶ any of the left
      │ ├────▶ STALE       skipped: a newer version of   │
      │ │                  the resource had been applied │
      │ ├────▶ DEAD ◀─discard, restore─▶ DISCARDED       │
      │ ├────▶ WAITING ──its retry record───────────────▶┤
      │ └────▶ BEHIND ───its retry record───────────────▶┘
      └─ DEAD, and what's finished, run again for a record of a new generation (a redrive, a replay, a reset)

WAITING: it failed, and its retry record is in a retry topic. BEHIND: it was never tried; an earlier event of its resource
waits, and its own record waits behind that one's. A worker produces the record first and writes the row afterwards.

Nothing here says that an event is running: an event's copies have one key and so one partition number, only the worker
that owns the partition (`ownership.py`) runs what is in it, and within a worker memory knows. A worker that dies in a run leaves no
row, and the event, whose offset isn't committed, runs again.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum

import msgspec

from hooktape.ledger.keys import EventKey
from hooktape.schemas.event import Coordinates


class State(IntEnum):
    """What became of an event in a group. The numbers are what the table holds: never renumber."""

    WAITING = 1
    SUCCEEDED = 2
    STALE = 3
    DEAD = 4
    DISCARDED = 5
    BEHIND = 6


FINISHED = frozenset({State.SUCCEEDED, State.STALE, State.DISCARDED})
FAILED = frozenset({State.WAITING, State.DEAD})
IN_RETRY = frozenset({State.WAITING, State.BEHIND})


class Verdict(Enum):
    """The answer to a check."""

    RUN = "run"
    """Not finished, and this record may bring it: run the handler, then `finish`."""
    DONE = "done"
    """This group has finished it (succeeded, stale or discarded). Skip it and complete the offset."""
    ELSEWHERE = "elsewhere"
    """In custody elsewhere: in a retry topic, or dead. Skip it and complete the offset."""


class Check(msgspec.Struct, frozen=True, gc=False):
    """A record that a worker wants to handle.

    `attempt` is how often the event was tried before this record was produced: 0 for a record of the tape or of a replay.
    `retry`: it came by a retry topic. `generation` is the id of the replay, redrive or reset that brought the record, and
    travels on with its retries; `seq` is the event's place in that replay, where it has one; `forced` says that it may run again what has
    succeeded.
    """

    key: EventKey
    attempt: int = 0
    generation: str = ""
    forced: bool = False
    retry: bool = False
    seq: int | None = None


class Row(msgspec.Struct, frozen=True, gc=False):
    """An outcome as the table holds it."""

    key: EventKey
    state: State
    attempts: int
    generation: str
    epoch: int
    first_failed_at: float | None


class Checked(msgspec.Struct, frozen=True, gc=False):
    """What came of a check; the answers stand in the order of the checks.

    `attempts` counts the tries so far and `first_failed_at` (epoch seconds) is the first failure's time, both within the
    generation in force, `generation`. `seen` is the row that decided, None where there was none: `finish` wants it back.
    """

    key: EventKey
    verdict: Verdict
    seen: Row | None = None
    attempts: int = 0
    first_failed_at: float | None = None
    generation: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """The version of a resource that a handler has now applied (microseconds of its `updated_at`)."""

    handler: str
    shop: str
    resource: str
    version_micros: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record in a retry topic, as the ledger knows it.

    `lane` holds the 16 bytes that stand for what must stay in order (None: the handler asked for no order), `seq` the
    event's place in it. `delay` in seconds names the retry topic, `due` is in epoch seconds. `origin` is the event's place
    on the tape, from where it can be fetched should its record be lost.
    """

    key: EventKey
    lane: bytes | None
    seq: int
    delay: float
    due: float
    origin: Coordinates


class Finish(msgspec.Struct, frozen=True, gc=False):
    """The end of a run, or of the wait for one. `attempts` counts it; `seen` is the row that `check` answered with.

    `partition` and `epoch` are the fencing token: an end is recorded only while the worker owns the partition in that
    epoch. For WAITING and BEHIND: `waiting`. For WAITING and DEAD: `error_type`, `error_message` (cut to 1 KB),
    `error_group` (same cause, same text) and `shop`, so that failures can be listed without the catalogue. `version` is
    kept as the highest applied one. `received_us` is the event's, by which searches by status are ordered; 0 where the caller
    doesn't have it. `seq` as in the check.
    """

    key: EventKey
    state: State
    attempts: int
    partition: int
    epoch: int
    topic: str
    seen: Row | None = None
    generation: str = ""
    error_type: str = ""
    error_group: str = ""
    error_message: str = ""
    shop: str = ""
    version: Applied | None = None
    waiting: Waiting | None = None
    received_us: int = 0
    seq: int | None = None


def decide(row: Row | None, check: Check, settled: bool = False) -> Checked:
    """Whether a record may run its event, given the event's row.

    `settled`: the check's generation is a job that already has this event's outcome, so its record is a second delivery.
    """
    if row is None:
        return Checked(check.key, Verdict.RUN, None, check.attempt, None, check.generation)
    if row.state in IN_RETRY:
        # A record that is ahead of the row (the database lost its last commits) must run: nothing else brings the event back.
        # One that is behind it is a second copy of an earlier hop.
        if check.retry and check.generation == row.generation and check.attempt >= row.attempts:
            return Checked(row.key, Verdict.RUN, row, check.attempt, row.first_failed_at, row.generation)
        return Checked(row.key, Verdict.ELSEWHERE, row, row.attempts, row.first_failed_at, row.generation)
    renewed = bool(check.generation) and check.generation != row.generation and not settled
    if renewed and (check.forced or row.state is State.DEAD):
        return Checked(row.key, Verdict.RUN, row, check.attempt, None, check.generation)
    verdict = Verdict.ELSEWHERE if row.state is State.DEAD else Verdict.DONE
    return Checked(row.key, verdict, row, row.attempts, row.first_failed_at, row.generation)
