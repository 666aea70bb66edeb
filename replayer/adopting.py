"""Takes over jobs whose runner has died: what a service that is always there does for those who started a job and went away."""

import threading
import time

from hooktape import log
from hooktape.errors import HooktapeError, LedgerError, NotAllowed
from hooktape.ledger.jobs import Job, JobState
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.runner import run
from hooktape.settings import Settings

_log = log.get("hooktape.replay")
_EVERY = 2.0
# A job that can't be run (its group's topics are gone) isn't tried at each look.
_AGAIN = 60.0


def orphans(ledger: Ledger, now: float) -> list[Job]:
    """Jobs that are to be run and that nobody runs, the oldest first."""
    found = ledger.jobs.list(200, states=[JobState.RUNNING, JobState.VERIFYING])
    return [job for job in reversed(found) if job.alive_until < now]


def adopt(settings: Settings, stop: threading.Event, *, every: float = _EVERY, patience: float = 60.0) -> None:
    """Looks for orphans until `stop` is set, and runs each to its end on a thread of its own. Nothing that happens to one ends it.

    Any number of services may do so: the leases let one of them have a job. On `stop` the jobs stand where they are.
    """
    threads: dict[str, threading.Thread] = {}
    tried: dict[str, float] = {}
    ledger: Ledger | None = None
    while not stop.is_set():
        threads = {job_id: thread for job_id, thread in threads.items() if thread.is_alive()}
        try:
            ledger = ledger or Ledger.open(settings.ledger_url)
            for job in orphans(ledger, time.time()):
                if job.id not in threads and time.monotonic() - tried.get(job.id, -_AGAIN) >= _AGAIN:
                    tried[job.id] = time.monotonic()
                    threads[job.id] = threading.Thread(target=take, args=(settings, job, stop, patience), name=f"replay-{job.id}")
                    threads[job.id].start()
        except LedgerError as error:
            _log.warning("jobs without a runner can't be looked for", error=str(error))
        stop.wait(every)
    for thread in threads.values():
        thread.join()
    if ledger is not None:
        ledger.close()


def take(settings: Settings, job: Job, stop: threading.Event, patience: float = 60.0) -> None:
    """Runs a job to its end, or until `stop` is set. It's the log that learns what came of it: whoever started the job has gone."""
    _log.info("a replay is taken", job=job.id, group=job.group)
    try:
        with Ledger.open(settings.ledger_url) as ledger:
            ended, _ = run(settings, ledger, job.id, patience=patience, stop=stop)
        _log.info("a replay stands", job=job.id, state=str(ended.state), note=ended.note)
    except NotAllowed as error:
        _log.info("a replay is somebody else's", job=job.id, error=str(error))
    except HooktapeError as error:
        _log.error("a replay can't be run", job=job.id, error=str(error))
