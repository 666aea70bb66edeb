"""The worker: sources, lanes, ledger, handlers and letters, tied together on one event loop. It decides nothing itself.

    source ─▶ backlog ─▶ claim ─▶ lane ─▶ handler ─▶ finish in the ledger ─────────────────▶ offset finished ─▶ commit
                          │ done, elsewhere: skip      │ failed: retry or dead-letter record acked ─▶ finish ─┘
                          │ busy: keeps its place in the lane and asks again

Three consumers, so that none waits for another: `<group>` reads the log, `<group>.retry` the retry topics, `<group>.replay`
the replay lane. Events are claimed shortly before they can start: what's claimed when a partition goes is run here to the
end (the new owner finds it BUSY, then done), so it should be little.

Order of every step that matters: a record is acknowledged before the ledger says so, and the ledger is on disk before the
offset counts as finished. A crash between any two repeats a step and loses nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future

from confluent_kafka import Consumer

from hooktape import log, metrics
from hooktape.consumers.app import App, Handler
from hooktape.consumers.applied import AppliedVersions
from hooktape.consumers.classify import Disposition
from hooktape.consumers.custody import Custody, Versions, stale_key
from hooktape.consumers.deliveries import Assigned, Broken, Commits, Delivery, Fetched, Lost, Plan, Revoked
from hooktape.consumers.failing import Failing
from hooktape.consumers.handover import Handover
from hooktape.consumers.intake import Intake
from hooktape.consumers.lanes import Lanes
from hooktape.consumers.options import Options
from hooktape.consumers.runner import Runner
from hooktape.consumers.schedule import Again
from hooktape.consumers.source import Source
from hooktape.consumers.task import Home, Rank, Task
from hooktape.consumers.watch import Watch
from hooktape.errors import HooktapeError, NotOurs
from hooktape.ledger.checks import Applied, Claimed, Finish, State, Verdict
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.publisher import Publisher
from hooktape.tape.wire import Wire

_log = log.get("hooktape.consumers")
_TICK = 0.1
_COMMIT_EVERY = 1.0
# Claimed and ready to start, at most: two full batches; never more than a second's work, for when partitions go.
_AHEAD = 2000
_SKIPPED = {State.SUCCEEDED: "already_done", State.STALE: "superseded", State.DISCARDED: "discarded", State.WAITING: "held",
            State.DEAD: "dead"}  # fmt: skip


class Worker:
    """One process's share of a group. Made on a running loop; `start`, then `stop`. `failed` gets the error that ends it."""

    def __init__(self, app: App, settings: Settings, ledger: Ledger, publisher: Publisher, options: Options,
                 make: Callable[..., Consumer] = clients.consumer) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        self.app, self.settings, self.options = app, settings, options
        self.failed: asyncio.Future[None] = loop.create_future()
        self.lanes = Lanes(options.in_flight)
        self._loop, self._make = loop, make
        self._failing = Failing(app, settings, options.quick_tries)
        self._intake = Intake(app, settings, options)
        self._custody = Custody(ledger, app.group, options.lease, self._on_claimed, self._on_finished, self._after_batch, self._fail)
        self._runner = Runner(self._on_ended, self.lanes.seize, self._on_freed)
        self._handover = Handover(publisher)
        self._applied = AppliedVersions()
        self._claimed: dict[EventKey, Task] = {}
        self._leaving: list[tuple[list[Home], Future[Commits], float]] = []
        self._sources: list[Source] = []
        self._ahead = 2 * sum(h.concurrency for h in set(app.handlers.values()))
        self._finished_before = 0
        self.finished = 0
        """Events that have ended in the ledger by this worker since it started."""
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._stopping = False
        self._moved = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None
        self._watch: Watch | None = None

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def start(self) -> None:
        """Takes its lease and joins the group. Raises LedgerError, TopicMissing, TapeUnavailable."""
        await asyncio.to_thread(self._intake.check_topics)
        await self._custody.begin()
        self._intake.windows = await self._custody.ask(lambda ledger: ledger.outcomes.reprocess(self.app.group))
        wire = await asyncio.to_thread(Wire, self.settings)
        self._watch = Watch(set(self.app.handlers.values()))
        self._sources = [Source(self.settings, plan, wire, self._loop, self._on_delivery, self._make) for plan in self._intake.plans()]
        self._ticker = self._loop.create_task(self._tick())

    async def stop(self, within: float | None = None) -> None:
        """Finishes what runs, records, commits and leaves the group, all within `within` seconds.

        What hasn't ended by two thirds of that is cancelled and runs again elsewhere.
        """
        within = self.options.stop_within if within is None else within
        end = time.monotonic() + within
        self._stopping = True
        for task in self._custody.give_up_claims():
            if task.queued:
                self.lanes.end(task)
        while (self.lanes.running or self._custody.claiming) and (left := end - within / 3 - time.monotonic()) > 0:
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left)
        if self.lanes.running:
            _log.warning("handlers were cancelled at the stop's deadline: their events will run again", handlers=self.lanes.running)
        await self._handover.settle(max(end - within / 4 - time.monotonic(), 0.1))
        await self._runner.close()
        self._custody.kick()
        await self._bounded(self._custody.settle(), max(end - time.monotonic(), 0.5), "the ledger didn't take the last results")
        # A floor for the commit: leaving without it would repeat what is done.
        left = max(end - time.monotonic(), 2.0)
        await asyncio.gather(*(s.stop(self._intake.snapshot(s), left) for s in self._sources))
        for ender in (self._ticker, self._timer):
            if ender is not None:
                ender.cancel()
        if self._watch is not None:
            self._watch.close()
        await self._bounded(self._custody.close(), 2.0, "the lease couldn't be given back")

    async def _bounded(self, work: "asyncio._CoroutineLike[None]", within: float, otherwise: str) -> None:
        try:
            await asyncio.wait_for(work, within)
        except TimeoutError:
            _log.warning(otherwise, group=self.app.group)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # seen: whoever waits for it raises it

    # ── from the sources ────────────────────────────────────────────────────────────────────────────────────────────
    def _on_delivery(self, source: Source, delivery: Delivery) -> None:
        match delivery:
            case list():
                source.received += len(delivery)
                if not self._stopping:
                    for record, error in self._intake.take(source, delivery):
                        self._bury(record, error)
                    self._pump()
            case Assigned(homes):
                self._intake.open(source, homes)
                _log.info("partitions assigned", group=source.plan.group, partitions=len(homes))
            case Revoked(homes, answer):
                self._leave(homes, answer)
            case Lost(home, first, to):
                self._note_lost(home, first, to)
            case Broken(error):
                self._fail(error)

    def _leave(self, homes: list[Home], answer: "Future[Commits] | None") -> None:
        for home in homes:
            home.revoked = True
        self._intake.drop_abandoned()
        self.lanes.drop_abandoned()
        _log.info("partitions revoked" if answer else "partitions lost", group=self.app.group, partitions=len(homes))
        if answer is None:
            self._intake.close(homes)
            return
        self._leaving.append((homes, answer, time.monotonic() + self.options.revoke_within))
        self._custody.kick()
        self._let_go()

    def _let_go(self) -> None:
        """Answers rebalances whose events have ended, or whose time is up."""
        now = time.monotonic()
        for entry in list(self._leaving):
            homes, answer, until = entry
            if now < until and any(home.taken for home in homes):
                continue
            self._leaving.remove(entry)
            answer.set_result(self._intake.snapshot(None, homes))
            self._intake.close(homes)

    def _note_lost(self, home: Home, first: int, to: int) -> None:
        self._intake.jump(home, to)
        _log.error("records were gone before this group had read them", topic=home.topic, partition=home.partition,
                   first=first, to=to, records=to - first)  # fmt: skip
        self._loop.create_task(self._audit_lost(home, first, to))

    async def _audit_lost(self, home: Home, first: int, to: int) -> None:
        detail = {"group": self.app.group, "partition": home.partition, "from": first, "to": to, "records": to - first}
        why = "retention removed records before the group had read them"
        try:
            await self._custody.ask(lambda ledger: ledger.audit.append(time.time(), "worker", "lost_range", home.topic, why, detail))
        except HooktapeError as error:
            _log.error("the lost range isn't in the audit trail", error=str(error))

    # ── claiming and starting ───────────────────────────────────────────────────────────────────────────────────────
    def _pump(self) -> None:
        """Moves everything that can move: claims what will start soon, starts what may start."""
        self._moved.set()
        if self._stopping:
            self._custody.kick()
            return
        while self.lanes.ready + self._custody.claiming < self._ahead and (task := self._intake.next()) is not None:
            self._ask(task)
        now = time.monotonic()
        while (task := self.lanes.start(now)) is not None:
            if task.abandoned:
                self.lanes.end(task)
            elif task.claimed:
                self._begin(task)
            else:
                self._ask(task)
        self._custody.kick()
        self._arm(now)

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._pumping = False
        self._pump()

    def _arm(self, now: float) -> None:
        wake = self.lanes.wake_at()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if wake is None else self._loop.call_later(max(wake - now, 0.0), self._pump)

    def _ask(self, task: Task) -> None:
        task.home.taken += 1
        self._custody.claim(task)

    def _on_claimed(self, task: Task, answer: Claimed, versions: Versions) -> None:
        verdict = answer.verdict
        if verdict is Verdict.BUSY and answer.mine and task.key not in self._claimed:
            # Claimed before, but the database's answer was lost on the way here.
            verdict = Verdict.RUN
        if verdict is Verdict.RUN:
            task.claimed, task.attempts, task.generation = True, answer.attempts, answer.generation
            task.first_failed = answer.first_failed_at or task.first_failed
            self._claimed[task.key] = task
            if of := stale_key(task):
                self._applied.enter(of, versions.get(of))
            if not task.queued:
                task.queued = True
                self.lanes.add(task)
            elif self._stopping:
                self.lanes.end(task)
            else:
                self._begin(task)
            return
        task.home.taken -= 1
        if verdict is Verdict.BUSY:
            self._wait_for_other(task)
            return
        metrics.DUPLICATES.labels(self.app.group).inc()
        if task.generation:
            self._custody.skip(task.generation, task.key, _SKIPPED.get(answer.state, answer.state.name.lower()), "")
        self._intake.finish(task.home, task.offset)
        if task.queued:
            self.lanes.end(task)

    def _wait_for_other(self, task: Task) -> None:
        """It runs elsewhere, or its owner died and the lease hasn't run out: it keeps its place, and asks again."""
        if not task.queued:
            task.queued = True
            if not task.home.revoked:
                self.lanes.add(task)
        elif task.home.revoked:
            self.lanes.end(task)
        else:
            self.lanes.postpone(task, time.monotonic() + min(0.05 * 2**task.busy, 1.0))
            task.busy += 1

    def _begin(self, task: Task) -> None:
        event = task.event
        of = stale_key(task)
        if of is not None and event.version_us is not None and self._applied.is_stale(of, event.version_us):
            metrics.STALE.labels(self.app.group).inc()
            self.lanes.end(task)
            self._custody.finish(task, Finish(task.key, State.STALE, task.attempts, generation=task.generation))
            self._pump_soon()
            return
        event.attempt = task.attempts + 1
        if task.attempts == 0 and task.rank is Rank.LIVE:
            self._intake.start_seconds.observe(max(time.time() - event.received_us / 1e6, 0.0))
        self._runner.run(task)

    # ── from the handlers ───────────────────────────────────────────────────────────────────────────────────────────
    def _on_ended(self, task: Task, error: BaseException | None, seconds: float) -> None:
        task.attempts += 1
        self._intake.meter(task.event.topic).seconds.observe(seconds)
        if error is not None:
            self._on_error(task, error)
        else:
            version = None
            if (of := stale_key(task)) and task.event.version_us is not None:
                self._applied.apply(of, task.event.version_us)
                version = Applied(*of, task.event.version_us)
            self.lanes.end(task)
            end = Finish(task.key, State.SUCCEEDED, task.attempts, generation=task.generation, version=version)
            self._custody.finish(task, end)
        self._pump_soon()

    def _on_freed(self, handler: Handler) -> None:
        self.lanes.give_back(handler)
        self._pump_soon()

    def _on_error(self, task: Task, error: BaseException) -> None:
        cause, step = self._failing.judge(task, error, time.time())
        if cause.disposition is Disposition.THROTTLED and cause.after is not None:
            self.lanes.cool(task.handler, "" if cause.whole_destination else task.event.shop, time.monotonic(), cause.after)
        if isinstance(step, Again):
            task.quick += 1
            self.lanes.postpone(task, time.monotonic() + step.seconds)
            return
        end = step.end
        self.lanes.hold(task)
        self._handover.send(step.letter, lambda: self._arrived(task, end))

    def _arrived(self, task: Task, end: Finish) -> None:
        self._custody.finish(task, end)
        self.lanes.release(task)
        self._pump_soon()

    def _bury(self, record: Fetched, error: NotOurs) -> None:
        home = record.home
        home.taken += 1

        def arrived() -> None:
            home.taken -= 1
            self._intake.finish(home, record.offset)
            metrics.PROCESSED.labels(self.app.group, "unreadable", "dead").inc()
            self._after_batch()

        self._handover.send(self._failing.unreadable(record, error, *self._intake.provenance(record), time.time()), arrived)

    # ── from the ledger ─────────────────────────────────────────────────────────────────────────────────────────────
    def _on_finished(self, task: Task, end: Finish, kept: bool) -> None:
        task.home.taken -= 1
        self._claimed.pop(task.key, None)
        if of := stale_key(task):
            self._applied.leave(of)
        self._intake.finish(task.home, task.offset)
        self.finished += 1
        self._intake.meter(task.event.topic).outcomes[end.state].inc()
        if not kept:
            _log.warning("the event had been taken over by another worker: its lease ran out here", event=str(task.event))

    def _after_batch(self) -> None:
        self._intake.update_held(self._sources)
        if self._leaving:
            self._let_go()
        self._pump()

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _tick(self) -> None:
        committed = 0.0
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self._runner.sweep(now)
            if not self._stopping:
                # A second's work at the pace of the last tick; never less than two for each slot.
                least = 2 * sum(h.concurrency for h in set(self.app.handlers.values()))
                self._ahead = min(max(least, self._ahead // 2, int((self.finished - self._finished_before) / _TICK)), max(_AHEAD, least))
                self._finished_before = self.finished
                self._intake.hold_windows(self._sources)
                self._let_go()
            if now - committed >= _COMMIT_EVERY:
                committed = now
                self.commit()
                metrics.IN_FLIGHT.labels(self.app.group).set(self._intake.incomplete)
                if self._custody.heartbeat_due():
                    self._loop.create_task(self._custody.heartbeat())

    def commit(self) -> None:
        """Commits what has changed, in the background."""
        for source in self._sources:
            source.commit(self._intake.commits(source))

    @property
    def plans(self) -> list[Plan]:
        """What its consumers read."""
        return [source.plan for source in self._sources]

    def describe(self) -> str:
        """What is under way, for people."""
        return (f"{self._intake.incomplete} fetched and not finished, {len(self.lanes)} in lanes of which {self.lanes.running} "
                f"running, {len(self._handover)} on their way to a retry or dead-letter topic")  # fmt: skip

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way in this process; what lies on Kafka isn't looked at."""
        custody = self._custody
        return not (self._intake.incomplete or len(self.lanes) or len(self._handover) or custody.claiming or custody.finishing)

