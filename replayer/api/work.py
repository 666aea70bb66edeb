"""Long work that this process does: plans that are being made, and jobs that nobody else runs.

What became of either is in the ledger. Here stand only how far a plan is, and the threads: killed with -9, the process leaves plans
that are called abandoned after a while, and jobs that whoever finds them first goes on with.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from hooktape import log
from hooktape.errors import HooktapeError, NotAllowed
from hooktape.ledger.jobs import Job
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import adopting
from hooktape.replayer.planning import Begun, Plan, Progress
from hooktape.settings import Settings

_log = log.get("hooktape.api")
# How many plans are made at the same time: each reads the tape and keeps a connection.
_PLANS = 4

Make = Callable[[Ledger, Begun, Progress], Plan]
"""Makes a plan: gets a ledger, what to call with the job once it's there, and what to tell progress to."""


@dataclass
class Planning:
    """A plan under way. `job` is set once it's in the ledger, `plan` or `error` at its end."""

    job: Job | None = None
    what: str = ""
    done: int = 0
    of: int | None = None
    plan: Plan | None = None
    error: Exception | None = None
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


class Work:
    """`start` begins to adopt jobs; `stop` ends what runs here, and leaves it to be resumed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plans: dict[str, Planning] = {}
        self._making = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def planning(self, job_id: str) -> Planning | None:
        """The plan with this id while it's made here."""
        return self._plans.get(job_id)

    def plan(self, make: Make, patience: float) -> Planning:
        """Begins to make a plan in a thread, and waits `patience` seconds at most for its end. Raises NotAllowed for too many."""
        with self._lock:
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
            if planning.job is not None:
                self._plans.pop(planning.job.id, None)
            planning.ended.set()
            planning.began.set()

    def take(self, job: Job) -> None:
        """Runs a job here that was just started."""
        self._begin(adopting.take, job, self._stop)

    def start(self) -> None:
        """Begins to look for jobs without a runner."""
        self._begin(adopting.adopt, self._stop)

    def _begin(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=(self._settings, *args), name=f"hooktape-{target.__name__}")
        with self._lock:
            self._threads = [*(t for t in self._threads if t.is_alive()), thread]
        thread.start()

    def stop(self) -> None:
        """Ends the runners; their jobs stand as they are."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
