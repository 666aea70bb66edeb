"""A job's life from outside its runner: start, pause, resume, cancel. All of it is a state in the ledger, so that it works
from any machine, and all of it is written to the audit trail.
"""

import os
import socket
import time
import uuid
from collections.abc import Sequence
from enum import Enum

from hooktape.errors import NotAllowed, UsageError
from hooktape.ledger.audit import Entry
from hooktape.ledger.jobs import ENDED, Job, JobState
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer.planning import PLANNING

LEASE = 6.0
"""A runner that hasn't renewed its lease for so many seconds is taken for dead."""
ABANDONED = "abandoned"
_COUNTED = 100


def new_owner() -> str:
    """A name that no other runner has."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


class Ask(Enum):
    """How firmly a run is confirmed."""

    YES = "yes"
    """One event: yes or no."""
    COUNT = "count"
    """Some: the number is shown."""
    TYPE = "type"
    """Many, or without a bound that a person has set: the number is typed."""


def confirmation(selection: Selection, to_run: int, *, forced: bool) -> Ask:
    """How firmly to ask before so many events are handed over. Pure; the same for a terminal and a page.

    A selection by ids or resources is bounded by those; without them, no time bound or no shop makes it a wide one.
    """
    named = bool(selection.ids or selection.resources)
    if to_run > _COUNTED or forced or (not named and selection.since is None) or (not named and not selection.shops):
        return Ask.YES if to_run <= 1 else Ask.TYPE
    return Ask.YES if to_run <= 1 else Ask.COUNT


def find_job(ledger: Ledger, job_id: str) -> Job:
    """The job with this id or with the only id that begins so. Raises UsageError."""
    exact = ledger.jobs.get(job_id)
    found = [exact] if exact else ledger.jobs.beginning(job_id) if job_id else []
    if len(found) != 1:
        raise UsageError(f"{'No job' if not found else 'Several jobs'} with the id {job_id!r}. `hooktape replay list` shows them.")
    return found[0]


def state_of(job: Job, now: float) -> str:
    """Its state in a word: a plan that isn't whole is `planning`, or `abandoned` where its planner hasn't been heard of for long."""
    if job.state is JobState.PLANNED and job.note == PLANNING:
        return PLANNING if job.alive_until > now else ABANDONED
    return str(job.state)


def start(ledger: Ledger, plan_id: str, *, who: str, reason: str, now: float, first: int | None = None) -> Job:
    """Turns a plan into a running job, or lets a paused one go on; it's in the audit trail. Somebody must run it then: `Runner`.

    `first`: hand over so many, wait for their outcomes, and pause. Raises UsageError, NotAllowed.
    """
    job = find_job(ledger, plan_id)
    if first is not None and first < 1:
        raise UsageError("A trial takes at least one event: --first 1.")
    if job.state is JobState.PAUSED:
        return resume(ledger, job.id, who=who, now=now, reason=reason, first=first)
    if job.state is not JobState.PLANNED:
        what = f"has ended as {job.state}: make a new plan" if job.state in ENDED else f"is {job.state}: `hooktape replay show {job.id}`"
        raise NotAllowed(f"Job {job.id} {what}.")
    if job.note == PLANNING:
        raise NotAllowed(f"The plan {job.id} isn't whole: its planning was interrupted, or isn't over. Plan again.")
    if not reason.strip():
        raise UsageError("A replay needs a --reason: it's kept in the audit trail, and handlers see it.")
    ledger.jobs.amend(job.id, who=who, reason=reason, first=first and job.sent + first)
    if not ledger.jobs.move(job.id, [JobState.PLANNED], JobState.RUNNING, now, alive_until=now + LEASE):
        raise NotAllowed(f"Job {job.id} was started or cancelled by somebody else just now.")
    account = ledger.jobs.account(job.id)
    ledger.audit.append(now, who, f"{job.kind} run", job.id, reason, {
        "group": job.group, "selection": job.selection.describe(), "selected": job.selected, "to_run": account.planned,
        "forced": job.forced, "again": job.again, **({"first": first} if first else {})})  # fmt: skip
    return find_job(ledger, job.id)


def pause(ledger: Ledger, job_id: str, *, who: str, now: float, reason: str = "") -> Job:
    """Stops handing over; what is handed over goes on. Its runner lets go of it. Raises UsageError, NotAllowed for a job that isn't
    handing over."""
    return _move(ledger, job_id, [JobState.RUNNING], JobState.PAUSED, who, now, reason, f"paused by {who}")


def resume(ledger: Ledger, job_id: str, *, who: str, now: float, reason: str = "", first: int | None = None) -> Job:
    """Lets a paused job go on. Whether a runner is there to do so is another question (`is_running`): run it where there's none.

    Raises UsageError, NotAllowed for a job that has nothing to resume.
    """
    job = find_job(ledger, job_id)
    if job.state is JobState.PAUSED:
        ledger.jobs.amend(job.id, first=first and job.sent + first)
        return _move(ledger, job.id, [JobState.PAUSED], JobState.RUNNING, who, now, reason, "")
    if job.state not in (JobState.RUNNING, JobState.VERIFYING):
        raise NotAllowed(f"Job {job.id} is {job.state}: there's nothing to resume.")
    return job


def cancel(ledger: Ledger, job_id: str, *, who: str, now: float, reason: str = "") -> Job:
    """Ends a job, or throws a plan away. What is handed over already runs nevertheless. Raises NotAllowed for a job that has ended."""
    return _move(ledger, job_id, [s for s in JobState if s not in ENDED], JobState.CANCELLED, who, now, reason, f"cancelled by {who}")


def _move(ledger: Ledger, job_id: str, sources: Sequence[JobState], target: JobState, who: str, now: float, reason: str,
          note: str) -> Job:  # fmt: skip
    job = find_job(ledger, job_id)
    alive = now + LEASE if target is JobState.RUNNING else None
    if not ledger.jobs.move(job.id, sources, target, now, note, alive_until=alive):
        raise NotAllowed(f"Job {job.id} is {find_job(ledger, job.id).state}: it can't become {target}.")
    ledger.audit.append(now, who, f"{job.kind} {target}", job.id, reason, {"group": job.group})
    return find_job(ledger, job.id)


def is_running(ledger: Ledger, job: Job, now: float | None = None) -> bool:
    """Whether some live process runs the job, or has just said that it will."""
    current = find_job(ledger, job.id)
    return current.state in (JobState.RUNNING, JobState.VERIFYING) and current.alive_until > (time.time() if now is None else now)


def deeds(ledger: Ledger, job: Job) -> list[Entry]:
    """The job's lines of the audit trail, the first one first."""
    return list(reversed(ledger.audit.of(job.id)))
