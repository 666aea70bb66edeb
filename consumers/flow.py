"""An event's way through a worker: checked, started, and brought to one of its ends. All on the event loop.

    backlog ─▶ check ─▶ lane ─▶ handler ─▶ finish in the ledger ───────────────────▶ offset finished
                │ done, elsewhere: skip     │ failed: retry or dead-letter record acked ─▶ finish ─┘
                │                           └ its resource waits for a retry: held, the same way
                └─ another copy runs: keeps its place in the lane and is checked again
"""

import asyncio
from collections.abc import Callable

from hooktape import crash, log, metrics
from hooktape.consumers.app import App, Handler
from hooktape.consumers.applied import AppliedVersions
from hooktape.consumers.breaker import Breaker
from hooktape.consumers.classify import Disposition
from hooktape.consumers.clock import Clock
from hooktape.consumers.copies import Copies
from hooktape.consumers.custody import Custody, Versions
from hooktape.consumers.ends import Ends
from hooktape.consumers.failing import Failing, Kept, finish
from hooktape.consumers.flood import Flood
from hooktape.consumers.handover import Handover
from hooktape.consumers.holds import Holds, lane16
from hooktape.consumers.intake import Intake
from hooktape.consumers.lanes import Lanes
from hooktape.consumers.options import Options
from hooktape.consumers.runner import Runner
from hooktape.consumers.schedule import Again, Chance
from hooktape.consumers.task import Rank, Task
from hooktape.consumers.throttle import Throttle
from hooktape.consumers.transactions import OVER, Transactions, Try, version_of
from hooktape.consumers.transactions import Verdict as Said
from hooktape.errors import LedgerUnavailable
from hooktape.ledger.checks import Checked, State, Verdict
from hooktape.ledger.ledger import Ledger
from hooktape.schemas.event import EventKey
from hooktape.settings import Settings
from hooktape.tape.publisher import Publisher

_log = log.get("hooktape.consumers")
# Checked and ready to start, at most: two full batches. What's checked too early may be another worker's before it starts.
_AHEAD = 2000


class Flow(Ends):
    """What is under way in one worker. `on_owned`: see `Custody`; `after` is called after each batch of the ledger's answers, and
    `fail` with an error that ends the worker."""

    def __init__(self, app: App, settings: Settings, options: Options, intake: Intake, ledger: Ledger, publisher: Publisher, clock: Clock,
                 chance: Chance, *, on_owned: Callable[[dict[int, int]], None], after: Callable[[], None],
                 fail: Callable[[BaseException], None]) -> None:  # fmt: skip
        self.lanes = Lanes(options.in_flight)
        self.holds = Holds()
        self.handover = Handover(publisher, fail)
        self.runner = Runner(self._on_ended, self.lanes.seize, self._on_freed, fail, clock)
        self.custody = Custody(ledger, app.group, options.lease, clock, on_checked=self._on_checked, on_finished=self._on_finished,
                               on_skipped=self._on_skipped, on_owned=on_owned, after=after, starved=lambda: not self.lanes.ready,
                               on_broken=fail)  # fmt: skip
        self.transactions = Transactions(ledger, app, self.custody.owner, clock, options.lease)
        self.throttle = Throttle(app, self.lanes, self.custody.ask, clock.monotonic)
        self.flood = Flood(app.group, self.custody.owner, self.lanes, Breaker(chance), self.custody.ask, clock, intake.logs_of(), self.bury)
        self.stopping = False
        self.moved = asyncio.Event()
        """Set whenever something may have changed."""
        self.finished = 0
        self._app, self._intake, self._clock = app, intake, clock
        self._loop = asyncio.get_running_loop()
        self._failing = Failing(app, settings, options.quick_tries, self.flood.keeps, chance)
        self._applied = AppliedVersions()
        self._copies = Copies()
        self._costly = any(h.admin_cost for h in app.handlers.values())
        self._least = 2 * sum(h.concurrency for h in set(app.handlers.values()))
        self._ahead = self._least
        self._finished_before = 0
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._after, self._fail, self._unsettled = after, fail, False

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way here."""
        return not (len(self.lanes) or len(self.handover) or self.custody.checking or self.custody.finishing)

    def is_here(self, key: EventKey) -> bool:
        """Whether an event has been checked, and its end isn't on disk yet."""
        return key.id in self._copies

    def describe(self) -> str:
        """What is under way, for people."""
        return (f"{len(self.lanes)} in lanes of which {self.lanes.running} running, {len(self.handover)} on their way to a retry or "
                f"dead-letter topic, {len(self.holds)} waiting in {self.holds.lanes} held resources")  # fmt: skip

    def close(self) -> None:
        """Ends the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def drop_abandoned(self) -> None:
        """Forgets what has become another worker's and hasn't begun."""
        self._intake.drop_abandoned()
        for task in self.lanes.drop_abandoned():
            self._forget(task)

    def tick(self, now: float, seconds: float) -> None:
        """To be called every `seconds`; `now` by the monotonic clock."""
        self.runner.sweep(now)
        self.throttle.tick(now)
        self.custody.beat()
        if self.stopping:
            return
        self._pace(seconds)
        if self.flood.sync_due():
            self._loop.create_task(self._heed_operators())
        if (wake := self.flood.wake_at()) is not None and wake <= now:
            self.pump()

    async def _heed_operators(self) -> None:
        await self.flood.sync()
        self._pump_soon()

    def give_up_checks(self) -> None:
        """Forgets what hasn't been asked for yet, at the worker's end."""
        for task in self.custody.give_up_checks():
            self._drop(task)

    def _pace(self, seconds: float) -> None:
        # A second's work is checked ahead, and never less than two events for each slot.
        pace = int((self.finished - self._finished_before) / seconds)
        self._ahead = min(max(self._least, self._ahead // 2, pace), max(_AHEAD, self._least))
        self._finished_before = self.finished

    # ── checking and starting ───────────────────────────────────────────────────────────────────────────────────────
    def pump(self) -> None:
        """Moves everything that can move: checks what will start soon, starts what may start."""
        self.moved.set()
        now = self._clock.monotonic()
        if not self.stopping and self.custody.is_sound():
            while self.lanes.ready + self.custody.checking < self._ahead and (task := self._intake.next()) is not None:
                self.custody.check(task)
            self.flood.tend()
            while (task := self.lanes.start(now)) is not None:
                self._begin(task)
            self._arm(now)
        self.custody.kick()

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._pumping = False
        try:
            if self._unsettled:
                self._unsettled = False
                self._after()
            self.pump()
        except Exception as error:  # noqa: BLE001 - the loop would only log it, and events wait for ever
            self._fail(error)

    def _arm(self, now: float) -> None:
        wake = self.lanes.wake_at()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if wake is None else self._loop.call_later(max(wake - now, 0.0), self._pump_now)

    def _on_checked(self, task: Task, answer: Checked, versions: Versions) -> None:
        if task.doubt is not None:
            self._resolve(task, task.doubt, answer)
            return
        if task.abandoned or self.stopping:
            self._drop(task)
            return
        if answer.verdict is Verdict.RUN and self._refuses(task, answer):
            self._refuse(task)
        elif answer.verdict is Verdict.RUN:
            task.seen, task.attempts, task.generation = answer.seen, answer.attempts, answer.generation
            task.first_failed = answer.first_failed_at or task.first_failed
            if task.queued:
                task.copy = False
                self._begin(task)
            else:
                if (of := task.versioned) is not None:
                    self._applied.enter(of, versions.get(of))
                task.queued = True
                self._copies.enter(task)
                self.lanes.add(task)
        else:
            self._skip(task, answer)

    @staticmethod
    def _refuses(task: Task, answer: Checked) -> bool:
        """Whether its handler takes no replays, and this is one. A retry isn't: it was taken once, and nothing else would end its wait; nor
        is an event in a reset's window that was never handled."""
        again = task.rank is Rank.REPLAY or (task.rank is Rank.LIVE and task.replay is not None and answer.seen is not None)
        return again and not task.queued and isinstance(task.handler, Handler) and not task.handler.replay

    def _begin(self, task: Task) -> None:
        """A task that has a slot: runs it, unless it's not to be run here and now after all."""
        if task.home.revoked:
            self._drop(task)
        elif task.copy:
            self._check_again(task)
        elif self.holds and task.lane is not None and (head := self.holds.ahead(lane16(task.event.lane), task.key)) is not None:
            self._leave(task, self._failing.follow(task, head, self._clock.time()))
        elif self._is_stale(task):
            metrics.STALE.labels(self._app.group).inc()
            self._take(task)
            self._end(task, finish(task, State.STALE))
        elif self._costly and (wait := self.throttle.wait(task, now := self._clock.monotonic())):
            self.lanes.postpone(task, now + wait)
            self._pump_soon()
        else:
            crash.point("checked")
            self._take(task)
            event = task.event
            event.attempt = task.attempts + 1
            event._bound = Try(self.transactions, task)
            if task.attempts == 0 and task.rank is Rank.LIVE:
                self._intake.start_seconds.observe(max(self._clock.time() - event.received_us / 1e6, 0.0))
            self.runner.run(task)

    def _check_again(self, task: Task) -> None:
        """It was checked while another copy was here: once that has ended, the ledger knows better."""
        if self._copies.is_first(task):
            self.custody.check(task)
        else:
            self.lanes.postpone(task, self._clock.monotonic() + min(0.05 * 2**task.waits, 1.0))
            task.waits += 1

    def _is_stale(self, task: Task) -> bool:
        of, version = task.versioned, task.event.version_us
        # A synthetic event tells the same state as the webhook of its version: whichever comes second is no news.
        return of is not None and version is not None and self._applied.is_stale(of, version - task.event.synthetic)

    # ── from the handlers ───────────────────────────────────────────────────────────────────────────────────────────
    def _on_ended(self, task: Task, error: BaseException | None, seconds: float) -> None:
        task.attempts += 1
        if task.event.costs:
            self.throttle.ended(task)
        self._intake.meter(task.event.topic).seconds.observe(seconds)
        said, task.event._bound = task.event._bound.close(), OVER
        if said is not Said.NONE:
            self._on_transaction(task, said, error)
        elif error is not None:
            self._on_error(task, error)
        else:
            crash.point("effect-not-recorded")
            self._note_success(task)
            self._end(task, finish(task, State.SUCCEEDED, version=version_of(task)))
            # The slot that has come free goes on at once; what else may move now waits for the loop's next turn.
            if not self.stopping and self.custody.is_sound() and (following := self.lanes.start(self._clock.monotonic())) is not None:
                self._begin(following)

    def _on_transaction(self, task: Task, said: Said, error: BaseException | None) -> None:
        """Its handler had a transaction whose end is more than the handler's own."""
        if said is Said.SUCCEEDED:
            crash.point("transaction-returned")
            if error is not None:
                _log.error("a handler failed after its transaction was committed: the event has succeeded, and what it had left to do "
                           "won't be done", event=str(task.event), exc=error)  # fmt: skip
            self._recorded(task)
        elif said is Said.NOT_OURS:
            # Its offset stays as it is here: should Kafka believe that the partition is ours, it's read again.
            _log.warning("a transaction wasn't kept: the event's partition is another worker's", event=str(task.event))
            self._drop(task)
        else:
            task.doubt = error or LedgerUnavailable(f"the transaction of {task.event} wasn't kept, as far as its handler could see")
            self.custody.check(task)
        self._unsettled = True
        self._pump_soon()

    def _resolve(self, task: Task, doubt: BaseException, answer: Checked) -> None:
        """What the ledger says of an event whose transaction may have been committed."""
        task.doubt = None
        seen, tenure = answer.seen, task.home.tenure
        if answer.verdict is Verdict.RUN:
            task.seen = seen
            self._on_error(task, doubt)
        elif seen is not None and tenure is not None and seen.state is State.SUCCEEDED and (
                (seen.attempts, seen.generation, seen.epoch) == (task.attempts, task.generation, tenure.epoch)):  # fmt: skip
            self._recorded(task)
        else:
            self._skip(task, answer)

    def _on_freed(self, handler: Handler) -> None:
        self.lanes.give_back(handler)
        self._pump_soon()

    def _on_error(self, task: Task, error: BaseException) -> None:
        cause, step = self._failing.judge(task, error, self._clock.time())
        now = self._clock.monotonic()
        if cause.disposition is Disposition.THROTTLED and cause.after is not None:
            self.lanes.cool(task.handler, "" if cause.whole_destination else task.event.shop, now, cause.after)
        self.throttle.throttled(task, cause)
        if isinstance(step, Again):
            task.quick += 1
            self._untake(task)
            self.lanes.postpone(task, now + step.seconds)
        elif isinstance(step, Kept):
            self._untake(task)
            if task.home.revoked:
                self._forget(task)
        else:
            self._leave(task, step)
        self._pump_soon()
