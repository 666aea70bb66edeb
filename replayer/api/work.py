"""Long work that this process does: plans that are being made, and jobs that nobody else runs.

A job's truth is in the ledger. Here stand only the plans under way, and the tasks of the runners: killed with -9, the process
leaves jobs that whoever finds them first goes on with.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hooktape import log
from hooktape.errors import HooktapeError, LedgerUnavailable, NotAllowed
from hooktape.ledger.jobs import Job, JobState
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import run as running
from hooktape.replayer.control import LEASE
from hooktape.replayer.plan import Plan, Progress
from hooktape.settings import Settings

_log = log.get("hooktape.api")
# How often jobs without a runner are looked for.
_LOOK = 1.0
# A runner that is just being started elsewhere (`replay run` confirms, then starts) has its lease by then; and one that was killed lost it.
_PATIENCE = LEASE + 1
# How many plans are made at the same time: each reads the tape and keeps a connection.
_PLANS = 4
# How long the end of a plan that failed can be looked at.
_KEPT = 600.0

Begun = Callable[[Job], None]
Make = Callable[[Ledger, Begun, Progress], Plan]
"""Makes a plan: gets a ledger, what to call with the job once it has its id, and what to tell progress to."""


@dataclass
class Planning:
    """A plan under way. `job` is set once it has its id, `plan` or `error` at its end."""

    job: Job | None = None
    what: str = ""
    done: int = 0
    of: int | None = None
    plan: Plan | None = None
    error: Exception | None = None
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    at: float = field(default_factory=time.monotonic)


class Work:
    """`start` begins to adopt jobs; `stop` ends what runs here, and leaves it to be resumed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plans: dict[str, Planning] = {}
        self._making = 0
        self._lock = threading.Lock()
        self._mine: dict[str, float] = {}
        self._ledger: Ledger | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._runs: dict[str, asyncio.Task[None]] = {}

    def planning(self, job_id: str) -> Planning | None:
        """The plan with this id while it's made here, and for a while after it failed."""
        return self._plans.get(job_id)

    def plan(self, make: Make, patience: float) -> Planning:
        """Begins to make a plan in a thread, and waits `patience` seconds at most for its end. Raises NotAllowed for too many."""
        with self._lock:
            now = time.monotonic()
            self._plans = {i: p for i, p in self._plans.items() if not p.ended.is_set() or now - p.at < _KEPT}
            if self._making >= _PLANS:
                raise NotAllowed(f"{_PLANS} plans are being made already: wait for one of them.")
            self._making += 1
        planning = Planning()
        # A daemon: a plan that isn't whole is never run, so nothing is lost with it.
        threading.Thread(target=self._make, args=(make, planning), name="hooktape-plan", daemon=True).start()
        planning.ended.wait(patience)
        planning.began.wait()
        return planning

    def _make(self, make: Make, planning: Planning) -> None:
        def begun(job: Job) -> None:
            planning.job = job
            self._plans[job.id] = planning
            planning.began.set()

        def progress(what: str, done: int, of: int | None) -> None:
            planning.what, planning.done, planning.of = what, done, of

        try:
            with Ledger.open(self._settings.ledger_url) as ledger:
                planning.plan = make(ledger, begun, progress)
        except Exception as error:  # noqa: BLE001 - whoever asked for the plan is told
            planning.error = error
            if not isinstance(error, HooktapeError):
                _log.error("a plan broke off", exc=error)
        finally:
            with self._lock:
                self._making -= 1
            planning.at = time.monotonic()
            planning.ended.set()
            planning.began.set()
            if planning.plan is not None:
                self._plans.pop(planning.plan.job.id, None)

    def take(self, job_id: str) -> None:
        """Runs a job here at the next look, without waiting whether somebody else does."""
        self._mine[job_id] = time.time()

    def start(self) -> None:
        """Begins to look for jobs without a runner. On the loop."""
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ends the runners; their jobs stand as they are."""
        tasks = [*self._runs.values(), *([self._keeper] if self._keeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._ledger is not None:
            self._ledger.close()

    async def _keep(self) -> None:
        tried: dict[str, float] = {}
        while True:
            try:
                jobs = await asyncio.to_thread(self._unfinished)
            except HooktapeError as error:
                _log.warning("jobs can't be looked for", error=str(error))
                jobs = []
            now = time.time()
            for job in jobs:
                mine = self._mine.pop(job.id, None) is not None
                waited = now - max(tried.get(job.id, 0.0), job.started_at or 0.0) > _PATIENCE
                if job.id not in self._runs and (mine or waited):
                    tried[job.id] = now
                    self._runs[job.id] = asyncio.create_task(self._run(job))
            tried = {job.id: tried[job.id] for job in jobs if job.id in tried}
            await asyncio.sleep(_LOOK)

    def _unfinished(self) -> list[Job]:
        self._ledger = self._ledger or Ledger.open(self._settings.ledger_url)
        # Not the paused: nothing of them is to be done until somebody resumes them.
        return self._ledger.jobs.list(100, states=(JobState.RUNNING, JobState.VERIFYING))

    async def _run(self, job: Job) -> None:
        """A thread and a loop of its own: a million records through a producer mustn't make requests wait."""
        loop = asyncio.get_running_loop()
        inner: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[object]]] = []

        async def main(ledger: Ledger) -> None:
            task = asyncio.current_task()
            assert task is not None
            inner.append((asyncio.get_running_loop(), task))
            ended, _ = await running.run(self._settings, ledger, job.id)
            _log.info("a job has ended", job=job.id, state=str(ended.state))

        def work() -> None:
            with Ledger.open(self._settings.ledger_url) as ledger, contextlib.suppress(asyncio.CancelledError):
                asyncio.run(main(ledger))

        future = loop.run_in_executor(None, work)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            for other, task in inner:
                other.call_soon_threadsafe(task.cancel)
            await asyncio.gather(future, return_exceptions=True)
            raise
        except NotAllowed:
            pass  # it has a runner, or has ended meanwhile
        except LedgerUnavailable as error:
            _log.warning("a job waits for the ledger", job=job.id, error=str(error))
        except HooktapeError as error:
            _log.warning("a job stands still, and is tried again", job=job.id, error=str(error))
        except Exception as error:  # noqa: BLE001 - the others go on
            _log.error("a job's runner broke off", exc=error, job=job.id)
        finally:
            self._runs.pop(job.id, None)
