"""Runs a started job: hands its events to the group's replay lane, waits for their outcomes, and accounts for every one.

    planned ──▶ running ◀──▶ paused          who pauses or cancels may sit at another machine: the state is in the ledger
                   │
                   ▼
               verifying ──▶ done | incomplete

The cursor moves only after Kafka has acknowledged. A runner killed between the two hands some events over again: the ledger's check of
the generation makes the second delivery harmless, since an item has one outcome. A paused job has no runner: whoever resumes it runs it.
"""

import gc
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from functools import partial
from typing import NamedTuple, TypeVar

from hooktape import crash, log
from hooktape.errors import LedgerUnavailable, NotAllowed, TapeUnavailable
from hooktape.ledger.items import Account, Ending, ToSend
from hooktape.ledger.jobs import ENDED, Job, JobState
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.account import shortfall
from hooktape.replayer.control import LEASE, find_job, new_owner
from hooktape.replayer.copying import Copier, light
from hooktape.replayer.deciding import Decision
from hooktape.replayer.live import LiveWait
from hooktape.replayer.pace import Failing, Pace
from hooktape.schemas.event import Replay
from hooktape.settings import Settings
from hooktape.tape import topics
from hooktape.tape.bulk import Bulk, Outgoing
from hooktape.tape.names import Names
from hooktape.tape.taker import Taker
from hooktape.times import format_duration

_log = log.get("hooktape.replay")
T = TypeVar("T")
# Events of a batch: what is handed over and acknowledged together.
_BATCH = 500
# Read from the ledger and the tape at once: a thousand fsyncs for a million events, and as many records as a batch of Kafka's fetches.
_WINDOW = 2000
# On their way to Kafka at once: two windows. What a killed runner may hand over twice.
_UNACKNOWLEDGED = 4000
# How often a runner looks whether it was paused or cancelled, at outcomes and at live traffic; and tells how far it is.
_LOOK = 0.25
_SHOW = 1.0
# More new objects than a run holds at once, some fifteen for each of its records, none of them in a cycle: at every 700, as is usual, and
# even at every 20,000 the garbage collector took a tenth of this thread's time and more, to find nothing.
_OBJECTS = 200_000
# A database or a broker that restarts is back within a minute.
_PATIENT = 60.0


class Status(NamedTuple):
    """How a run goes. `holding` says in words what it waits for, "" for nothing; `rate` is events a second of late."""

    job: Job
    account: Account
    rate: float = 0.0
    live_wait: float = 0.0
    holding: str = ""


Report = Callable[[Status], None]


class _Window(NamedTuple):
    """What the cursor passes at once: the items, and of these the records to send (None: not to be sent)."""

    items: list[ToSend]
    records: list[Outgoing | None]


class RunElsewhere(NotAllowed):
    """Somebody else runs this job. Do: `watch` it."""


class _Stopped(Exception):
    """The job isn't running any more: somebody paused or cancelled it, or it did so itself."""


class Runner:
    """One run of one job, on the caller's thread. `patience`: seconds without any outcome after which what is missing is called missing.

    `report` is told about once a second. `stop`, once set, ends the run where it stands: the job can be taken over.
    """

    def __init__(self, settings: Settings, ledger: Ledger, job: Job, *, patience: float = 60.0, report: Report | None = None,
                 stop: threading.Event | None = None) -> None:  # fmt: skip
        self._settings, self._ledger, self._job = settings, ledger, job
        self._patience, self._report = patience, report
        self._stop = stop or threading.Event()
        self._owner = f"{job.id} {new_owner()}"
        self._lane = Names(settings.topic_prefix).replay(job.group)
        self._lost = threading.Event()
        self._cursor, self._sent = job.published_seq, job.sent
        self._acknowledged: tuple[int, int] | None = None
        self._handed = job.sent
        self._open = 0
        self._looked_at = self._showed_at = 0.0
        self._showed = 0
        self._live: LiveWait | None = None
        self._looks = 0
        self._holding = ""
        limits = job.limits
        self._pace = Pace(limits.rate, limits.max_lag, time.monotonic())
        self._failing: Failing | None = None

    def run(self) -> tuple[Job, Account]:
        """The job and its account when it has ended, or was paused or cancelled, or `stop` was set.

        Raises NotAllowed while another job of this group hands over events of the same topics (or somebody runs this one),
        TopicMissing, TapeUnavailable, LedgerUnavailable (the job can be resumed).
        """
        topics.require(self._settings, [self._lane])
        leases = [f"replay/{self._job.group}/{topic}" for topic in self._ledger.jobs.topics_to_run(self._job.id)]
        leases.append(f"replay/{self._job.id}")
        self._take(leases)
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(leases, ended), name="hooktape-replay-lease", daemon=True)
        keeper.start()
        try:
            self._work()
        except _Stopped:
            pass
        finally:
            ended.set()
            keeper.join()
            self._patiently(lambda: self._ledger.leases.release_all(leases, self._owner))
            self._patiently(lambda: self._ledger.jobs.alive(self._job.id, 0.0))
        status = self._status()
        self._tell(status)
        return status.job, status.account

    # ── one runner ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _take(self, leases: list[str]) -> None:
        until = time.monotonic() + LEASE + 1
        while (held := self._hold(leases)) is not None:
            # One that was killed holds its leases for as long as they last.
            if time.monotonic() > until:
                other = held[1].split(" ")[0]
                if other == self._job.id:
                    raise RunElsewhere(f"Job {self._job.id} is being run already: `hooktape replay show {self._job.id} --follow`.")
                raise NotAllowed(f"Job {self._job.id} must wait for job {other}, which replays the same topics: one job at a time for "
                                 f"each topic of group {self._job.group}. See `hooktape replay show {other}`.")  # fmt: skip
            time.sleep(0.2)

    def _hold(self, leases: list[str]) -> tuple[str, str] | None:
        now = time.time()
        held = self._ledger.leases.acquire_all(leases, self._owner, now, LEASE)
        if held is None:
            self._ledger.jobs.alive(self._job.id, now + LEASE)
        return held

    def _keep(self, leases: list[str], ended: threading.Event) -> None:
        while not ended.wait(LEASE / 3):
            try:
                if self._hold(leases) is not None:
                    self._lost.set()
                    return
            except LedgerUnavailable as error:
                _log.warning("the lease of a replay couldn't be renewed", job=self._job.id, error=str(error))

    def _patiently(self, work: Callable[[], T]) -> T:
        until = time.monotonic() + _PATIENT
        while True:
            try:
                return work()
            except (LedgerUnavailable, TapeUnavailable) as error:
                if time.monotonic() > until or self._stop.is_set():
                    raise
                _log.warning("a replay waits", job=self._job.id, error=str(error))
                self._stop.wait(0.5)

    # ── the work ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _work(self) -> None:
        if self._state() is JobState.RUNNING:
            self._hand_over()
        if self._state() is JobState.VERIFYING:
            self._verify()

    def _hand_over(self) -> None:
        gc.set_threshold(_OBJECTS)
        self._job = find_job(self._ledger, self._job.id)
        self._cursor, self._sent, self._handed = self._job.published_seq, self._job.sent, self._job.sent
        copier = Copier(self._settings, Replay(self._job.id, self._job.reason, self._job.who, self._job.forced))
        with ExitStack() as ends:
            bulk = ends.enter_context(Bulk(self._settings, self._lane))
            if self._job.limits.max_lag is not None:
                self._live = ends.enter_context(LiveWait(self._settings, self._job.group))
            try:
                for window in ends.enter_context(closing(self._windows(copier))):
                    crash.point("replay-batch-read")
                    self._send(bulk, window)
                self._drain(bulk)
            except _Stopped:
                self._drain(bulk)
                raise
        self._live, self._holding = None, ""
        first = self._job.first
        if first is not None and self._sent >= first and self._ledger.jobs.to_send(self._job, self._cursor, 1):
            self._await(lambda account: account.in_flight == 0, JobState.RUNNING)
            account = self._account()
            self._move(JobState.RUNNING, JobState.PAUSED, f"after a trial of {first:,}: {account.succeeded:,} succeeded, "
                       f"{account.failed_again:,} failed again. `hooktape replay run {self._job.id}` goes on")  # fmt: skip
            raise _Stopped
        self._move(JobState.RUNNING, JobState.VERIFYING)

    def _windows(self, copier: Copier) -> Generator[_Window]:
        """What is left to send. On this thread: Kafka's client reads ahead and sends on its own, and a second one that runs Python would
        wait at each row of the ledger for the first to let go of the interpreter."""
        after, sent = self._cursor, self._sent
        with Taker(self._settings) as taker:
            while True:
                most = _WINDOW if self._job.limits.rate is None else _BATCH
                if self._job.first is not None:
                    most = min(most, self._job.first - sent)
                if most <= 0 or not (items := light(self._patiently(partial(self._ledger.jobs.to_send, self._job, after, most)))):
                    return
                after, sent = items[-1].seq, sent + len(items)
                yield self._read(copier, taker, items)

    def _read(self, copier: Copier, taker: Taker, items: list[ToSend]) -> _Window:
        messages = self._patiently(lambda: taker.take([item[3:6] for item in items]))
        refused: list[Ending] = []
        records: list[Outgoing | None] = []
        for item, message in zip(items, messages, strict=True):
            if item.outcome is not None:
                records.append(None)
                continue
            if message is None:
                made: Outgoing | tuple[str, str] = (Decision.GONE.value, "retention removed it from the tape after the plan was made")
            else:
                made = copier.copy(item, message.key(), message.value(), message.headers() or [])  # type: ignore[arg-type]
            if len(made) == 2:
                refused.append(Ending(self._job.id, EventKey(item.day, item.id), *made, item.seq))
                records.append(None)
            else:
                records.append(made)
        if refused:
            self._patiently(lambda: self._ledger.jobs.settle(refused))
        return _Window(items, records)

    def _send(self, bulk: Bulk, window: _Window) -> None:
        start = 0
        while start < len(window.items):
            number = self._gate(bulk, min(_BATCH, len(window.items) - start))
            end = start + number
            bulk.send([record for record in window.records[start:end] if record is not None], (window.items[end - 1].seq, number))
            self._handed += number
            crash.point("replay-half-published")
            start = end

    def _gate(self, bulk: Bulk, most: int) -> int:
        """How many may go now; waits until any may."""
        while True:
            self._note(bulk.done())
            self._look()
            room = most
            if self._job.limits.outstanding is not None:
                room = min(room, self._job.limits.outstanding - self._open - (self._handed - self._sent))
            if bulk.unacknowledged > _UNACKNOWLEDGED:
                room, why = 0, ""
            elif room <= 0:
                why = f"{self._job.limits.outstanding:,} are handed over and have no outcome yet"
            elif self._pace.stopped and self._live is not None:
                wait = format_duration(round(self._live.seconds) or 1)
                why = f"live events wait for {wait}, more than the {format_duration(self._job.limits.max_lag or 0)} that they may"
            else:
                why = ""
            self._holding = why
            if room > 0 and (passing := self._pace.allow(time.monotonic(), room)):
                return passing
            self._note(bulk.done(0.01))

    def _drain(self, bulk: Bulk) -> None:
        """Waits until all that was handed over is on Kafka, and moves the cursor behind it."""
        while bulk.unacknowledged:
            self._note(bulk.done(0.05))
        self._note(bulk.done())
        self._checkpoint()

    def _note(self, tokens: list[tuple[int, int]]) -> None:
        for seq, number in tokens:
            self._acknowledged = (seq, number + (self._acknowledged[1] if self._acknowledged else 0))

    def _checkpoint(self) -> None:
        if self._acknowledged is None:
            return
        crash.point("replay-acked-not-recorded")
        (seq, number), self._acknowledged = self._acknowledged, None
        before = self._cursor
        if not self._patiently(lambda: self._ledger.jobs.published(self._job, before, seq, number)):
            current = find_job(self._ledger, self._job.id)
            # The answer to the same question was lost on the way; anything else is another runner's doing.
            if current.published_seq != seq:
                self._lost.set()
                raise NotAllowed(f"Another runner has taken job {self._job.id} over.")
        self._cursor, self._sent = seq, self._sent + number
        crash.point("replay-recorded")

    def _look(self) -> None:
        """Four times a second: whether to go on at all, how much is outstanding, how live traffic fares. Raises _Stopped."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK:
            return
        self._looked_at = now
        self._checkpoint()
        if self._state() is not JobState.RUNNING:
            raise _Stopped
        if self._live is not None and self._live.looks != self._looks:
            self._looks = self._live.looks
            self._pace.heed(self._live.seconds)
        limits = self._job.limits
        if limits.outstanding is None and limits.max_failures is None and self._report is None:
            return  # nobody asks, and without a bound what is open may be all of it
        account = self._account()
        self._open = account.in_flight
        failing = self._failing = self._failing or Failing(self._job.limits.max_failures, account.ended, account.failed_again)
        if failing.note(account.ended, account.failed_again):
            bound = self._job.limits.max_failures or 0
            self._move(JobState.RUNNING, JobState.PAUSED, f"paused itself: more than {bound:.0%} of the last 100 failed again. Once that "
                       f"is fixed, `hooktape replay resume {self._job.id}` goes on")  # fmt: skip
            raise _Stopped
        if now - self._showed_at >= _SHOW:
            self._tell(self._status(account))

    def _verify(self) -> None:
        """Waits for the outcomes: until all are there, or none came for as long as patience lasts."""
        crash.point("replay-verifying")
        self._await(lambda account: account.is_settled, JobState.VERIFYING)
        account = self._patiently(lambda: self._ledger.jobs.account(self._job.id, counted=True))
        missing = shortfall(account)
        note = f"{missing} (none came for {self._patience:g} s)" if missing and not account.is_settled else missing
        self._move(JobState.VERIFYING, JobState.INCOMPLETE if missing else JobState.DONE, note)

    def _await(self, met: Callable[[Account], bool], state: JobState) -> None:
        account = self._account()
        moved = time.monotonic()
        while not met(account) and time.monotonic() - moved < self._patience:
            self._stop.wait(_LOOK)
            if self._state() is not state:
                raise _Stopped
            before, account = account, self._account()
            if account != before:
                moved = time.monotonic()
            if time.monotonic() - self._showed_at >= _SHOW:
                self._tell(self._status(account))

    def _state(self) -> JobState:
        """The job's. Raises _Stopped, NotAllowed when the lease was lost."""
        if self._stop.is_set():
            raise _Stopped
        if self._lost.is_set():
            raise NotAllowed(f"Another runner has taken job {self._job.id} over: this one was silent for {LEASE:g} s.")
        job = self._patiently(lambda: self._ledger.jobs.get(self._job.id))
        return job.state if job else JobState.CANCELLED

    def _account(self) -> Account:
        return self._patiently(lambda: self._ledger.jobs.account(self._job.id))

    def _status(self, account: Account | None = None) -> Status:
        now = time.monotonic()
        found = account or self._account()
        rate = (self._handed - self._showed) / (now - self._showed_at) if self._showed_at else 0.0
        self._showed_at, self._showed = now, self._handed
        live = self._live.seconds if self._live is not None else 0.0
        return Status(self._patiently(lambda: find_job(self._ledger, self._job.id)), found, rate, live, self._holding)

    def _tell(self, status: Status) -> None:
        if self._report:
            self._report(status)

    def _move(self, start: JobState, end: JobState, note: str | None = None) -> None:
        self._patiently(lambda: self._ledger.jobs.move(self._job.id, [start], end, time.time(), note))


def run(settings: Settings, ledger: Ledger, job_id: str, *, patience: float = 60.0, report: Report | None = None,
        stop: threading.Event | None = None) -> tuple[Job, Account]:  # fmt: skip
    """Runs a started job, from where it stands, until it ends or pauses. Raises as `Runner.run`; Incomplete is the caller's to raise."""
    job = find_job(ledger, job_id)
    if job.state in ENDED or job.state in (JobState.PLANNED, JobState.PAUSED):
        raise NotAllowed(f"Job {job.id} is {job.state}: there's nothing to run.")
    return Runner(settings, ledger, job, patience=patience, report=report, stop=stop).run()


def watch(ledger: Ledger, job_id: str, report: Report, *, every: float = _SHOW, stop: threading.Event | None = None) -> tuple[Job, Account]:
    """Follows a job that somebody else runs, until it has ended or nobody runs it any more."""
    pause = stop or threading.Event()
    while True:
        job, account = find_job(ledger, job_id), ledger.jobs.account(job_id)
        report(Status(job, account))
        if job.state not in (JobState.RUNNING, JobState.VERIFYING) or job.alive_until < time.time() or pause.wait(every):
            return job, account
