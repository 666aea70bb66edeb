"""A job's life from outside its runner: start, pause, resume, cancel. All of it is a state in the ledger, so that it works
from any machine, and all of it is written to the audit trail.
"""

import os
import socket
import time
import uuid
from collections.abc import Sequence

from hooktape.errors import NotAllowed, UsageError
from hooktape.ledger.jobs import ENDED, Job, JobState
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.plan import PLANNING

LEASE = 6.0
"""A runner that hasn't renewed its lease for so many seconds is taken for dead."""


def lease_of(group: str) -> str:
    """The lease's name: one job runs per group."""
    return f"replay/{group}"


def new_owner() -> str:
    """A name that no other runner has."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def find_job(ledger: Ledger, job_id: str) -> Job:
    """The job with this id or with the only id that begins so. Raises UsageError."""
    found = [job for job in [ledger.jobs.get(job_id)] if job] or [j for j in ledger.jobs.list(1000) if j.id.startswith(job_id)]
    if len(found) != 1:
        raise UsageError(f"{'No job' if not found else f'{len(found)} jobs'} with the id {job_id!r}. `hooktape replay list` shows them.")
    return found[0]


def start(ledger: Ledger, job: Job, *, who: str, reason: str, now: float) -> Job:
    """Turns a plan into a running job, written to the audit trail. Raises UsageError, NotAllowed."""
    if job.state is not JobState.PLANNED:
        what = f"has ended as {job.state}: make a new plan" if job.state in ENDED else f"is {job.state}: `hooktape replay resume {job.id}`"
        raise NotAllowed(f"Job {job.id} {what}.")
    if job.note == PLANNING:
        raise NotAllowed(f"The plan {job.id} isn't whole: its planning was interrupted, or isn't over. Plan again.")
    if not reason.strip():
        raise UsageError("A replay needs a --reason: it's kept in the audit trail, and handlers see it.")
    ledger.jobs.amend(job.id, who=who, reason=reason)
    if not ledger.jobs.move(job.id, [JobState.PLANNED], JobState.RUNNING, now):
        raise NotAllowed(f"Job {job.id} was started or cancelled by somebody else just now.")
    ledger.audit.append(now, who, f"{job.kind} run", job.id, reason, {
        "group": job.group, "selection": job.selection.describe(), "selected": job.selected, "forced": job.forced})  # fmt: skip
    return find_job(ledger, job.id)


def pause(ledger: Ledger, job: Job, *, who: str, now: float) -> None:
    """Raises NotAllowed for a job that isn't handing over events."""
    _move(ledger, job, [JobState.RUNNING], JobState.PAUSED, who, now)


def resume(ledger: Ledger, job: Job, *, who: str, now: float) -> Job:
    """Lets a paused job go on. Whether a runner is there to do so is another question: run it where there's none."""
    if job.state is JobState.PAUSED:
        _move(ledger, job, [JobState.PAUSED], JobState.RUNNING, who, now)
    elif job.state not in (JobState.RUNNING, JobState.VERIFYING):
        raise NotAllowed(f"Job {job.id} is {job.state}: there's nothing to resume.")
    return find_job(ledger, job.id)


def cancel(ledger: Ledger, job: Job, *, who: str, now: float) -> None:
    """What is handed over already runs nevertheless. Raises NotAllowed for a job that has ended."""
    _move(ledger, job, [s for s in JobState if s not in ENDED], JobState.CANCELLED, who, now)


def _move(ledger: Ledger, job: Job, sources: Sequence[JobState], target: JobState, who: str, now: float) -> None:
    if not ledger.jobs.move(job.id, sources, target, now):
        current = find_job(ledger, job.id).state
        raise NotAllowed(f"Job {job.id} is {current}: it can't become {target}.")
    ledger.audit.append(now, who, f"{job.kind} {target}", job.id, "", {"group": job.group})


def is_running(ledger: Ledger, job: Job, patience: float = LEASE + 1) -> bool:
    """Whether some live process runs a job of this group. Waits at most `patience` seconds for a killed one's lease to end."""
    owner, until = new_owner(), time.time() + patience
    while ledger.leases.acquire(lease_of(job.group), owner, time.time(), 1.0) is None:
        if time.time() > until:
            return True
        time.sleep(0.2)
    ledger.leases.release(lease_of(job.group), owner)
    return False
