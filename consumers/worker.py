"""The worker: sources, tenures, ledger and the events' flow, tied together on one event loop. It decides nothing itself.

    sources ──records──▶ intake ──▶ flow (lanes, handlers, letters) ◀──▶ custody ◀──▶ ledger
       ▲ │                 │ offsets                                        ▲
       │ └─ assigned, revoked ─▶ tenures ──────────── take, give up ────────┘
       └────── commit, hold, follow ────┘

Three consumers, so that none waits for another: the group's member reads the log, and two that follow it read the same
partition numbers of the retry topics and of the replay lane (`tenures.py`). So everything of one resource is in one worker.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from random import random

from confluent_kafka import Consumer

from hooktape import crash, log, metrics
from hooktape.consumers.app import App
from hooktape.consumers.clock import Clock
from hooktape.consumers.deliveries import Assigned, Broken, Delivery, Lost, Plan, Revoked
from hooktape.consumers.flow import Flow
from hooktape.consumers.intake import Intake
from hooktape.consumers.options import Options
from hooktape.consumers.schedule import Chance
from hooktape.consumers.source import Source
from hooktape.consumers.sweep import Sweeper
from hooktape.consumers.tenures import Tenures
from hooktape.consumers.vigil import Vigil
from hooktape.consumers.watch import Watch
from hooktape.errors import HooktapeError
from hooktape.ledger.handlers import Known
from hooktape.ledger.ledger import Ledger
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.publisher import Publisher
from hooktape.tape.reader import Reader
from hooktape.tape.wire import Wire

_log = log.get("hooktape.consumers")
_TICK = 0.1
_COMMIT_EVERY = 1.0


class Worker:
    """One process's share of a group. Made on a running loop; `start`, then `stop`. `failed` gets the error that ends it.

    `make`, `source`, `clock`, `chance` and `reader` are for tests: the client, who reads, time, the random part of delays, and the tape's
    reader of lost events.
    """

    def __init__(self, app: App, settings: Settings, ledger: Ledger, publisher: Publisher, options: Options,
                 make: Callable[..., Consumer] = clients.consumer, *, source: Callable[..., Source] = Source, clock: Clock = time,
                 chance: Chance = random, reader: Callable[[Settings, float], Reader] = Reader) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        self.app, self.settings, self.options = app, settings, options
        self.failed: asyncio.Future[None] = loop.create_future()
        self._loop, self._make, self._source, self._clock = loop, make, source, clock
        self._intake = Intake(app, settings, options)
        self._flow = Flow(app, settings, options, self._intake, ledger, publisher, clock, chance, on_owned=self._on_owned,
                          after=self._after_batch, fail=self._fail)  # fmt: skip
        self._custody = self._flow.custody
        self._tenures = Tenures(app.group, self._custody, self._intake, self._flow.holds, clock, options.revoke_within, self._fail)
        self._sweeper = Sweeper(settings, app.group, self._flow, self._intake, publisher, clock, options.sweep_after, self._fail, reader)
        self._vigil = Vigil(app.group, self._custody, self._tenures, clock, self._fail)
        self._sources: list[Source] = []
        self._ticker: asyncio.Task[None] | None = None
        self._watch: Watch | None = None

    @property
    def finished(self) -> int:
        """Events that have ended in the ledger by this worker since it started."""
        return self._flow.finished

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def start(self) -> None:
        """Takes its lease and joins the group. Raises LedgerError, TopicMissing, TapeUnavailable."""
        await asyncio.to_thread(self._intake.check_topics)
        await self._custody.begin()
        # For a plan of a replay, which says whom it reaches.
        known = [Known(h.name, h.topics, h.ordered, h.replay) for h in set(self.app.handlers.values())]
        await self._custody.ask(lambda ledger: ledger.handlers.record(self.app.group, known, self._clock.time()))
        wire = await asyncio.to_thread(Wire, self.settings)
        self._sweeper.wire = wire
        self._watch = Watch(set(self.app.handlers.values()))
        # The member last: what it's assigned, the followers must be there to follow.
        plans = self._intake.plans()
        self._tenures.followers = [self._open(plan, wire) for plan in plans[1:]]
        self._tenures.member = self._open(plans[0], wire)
        self._sources = [self._tenures.member, *self._tenures.followers]
        self._keep_time()

    def _keep_time(self) -> None:
        self._ticker = self._loop.create_task(self._tick())
        self._ticker.add_done_callback(self._look)

    def _look(self, ended: "asyncio.Task[None]") -> None:
        if not ended.cancelled() and (error := ended.exception()) is not None:
            self._fail(error)  # no heartbeat any more, and nothing would start

    def _open(self, plan: Plan, wire: Wire) -> Source:
        return self._source(self.settings, plan, wire, self._loop, self._on_delivery, self._make)

    async def stop(self, within: float | None = None) -> None:
        """Finishes what runs, records, commits and leaves the group, all within `within` seconds.

        What hasn't ended by two thirds of that is cancelled and runs again elsewhere.
        """
        within = self.options.stop_within if within is None else within
        end, flow = self._clock.monotonic() + within, self._flow
        flow.stopping = True
        await self._sweeper.close()
        self._vigil.close()
        flow.give_up_checks()
        while flow.lanes.running and (left := end - within / 3 - self._clock.monotonic()) > 0:
            flow.moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(flow.moved.wait(), left)
        if flow.lanes.running:
            _log.warning("handlers were cancelled at the stop's deadline: their events will run again", handlers=flow.lanes.running)
        await flow.handover.settle(max(end - within / 4 - self._clock.monotonic(), 0.1))
        await flow.runner.close()
        self._custody.kick()
        await self._bounded(self._custody.settle(), max(end - self._clock.monotonic(), 0.5), "the ledger didn't take the last results")
        # A floor for the commit: leaving without it would repeat what is done.
        left = max(end - self._clock.monotonic(), 2.0)
        last = self._intake.snapshot()
        await asyncio.gather(*(s.stop(last if s is self._tenures.member else {}, left) for s in self._sources))
        if self._ticker is not None:
            self._ticker.cancel()
        flow.close()
        self._tenures.close()
        if self._watch is not None:
            self._watch.close()
        with contextlib.suppress(HooktapeError):
            await self._bounded(flow.flood.close(), 1.0, "the flood breaker's reports stay until they are stale")
        await self._bounded(flow.transactions.close(), 1.0, "connections of event.transaction() couldn't be closed")
        await self._bounded(flow.throttle.close(), 1.0, "the shared limits weren't settled")
        # A thread can't be cancelled: what it runs ends with the process, in a moment.
        await self._bounded(self._custody.close(release=not flow.lanes.seized), 2.0, "the lease couldn't be given back")

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
        try:
            self._receive(source, delivery)
        except Exception as error:  # noqa: BLE001 - the loop would only log it, and the records be neither handled nor finished
            self._fail(error)

    def _receive(self, source: Source, delivery: Delivery) -> None:
        match delivery:
            case list():
                source.received += len(delivery)
                if not self._flow.stopping:
                    crash.point("fetched")
                    for record, error in self._intake.take(source, delivery):
                        self._flow.bury(record, error)
                    self._flow.pump()
            case Assigned(homes):
                self._tenures.assigned(source, homes)
            case Revoked(homes, answer):
                for home in homes:
                    home.revoked = True
                self._tenures.revoked(homes, answer)
                self._flow.drop_abandoned()
                self._custody.kick()
            case Lost(home, first, to):
                self._intake.note_lost(home, first, to)
                self._loop.create_task(self._audit_lost(home.topic, home.partition, first, to))
            case Broken(error):
                self._fail(error)

    def _on_owned(self, epochs: dict[int, int]) -> None:
        self._tenures.owned(epochs)
        self._flow.drop_abandoned()

    async def _audit_lost(self, topic: str, partition: int, first: int, to: int) -> None:
        detail = {"group": self.app.group, "partition": partition, "from": first, "to": to, "records": to - first}
        why = "retention removed records before the group had read them"
        try:
            await self._custody.ask(lambda ledger: ledger.audit.append(self._clock.time(), "worker", "lost_range", topic, why, detail))
        except HooktapeError as error:
            _log.error("the lost range isn't in the audit trail", error=str(error))

    def _after_batch(self) -> None:
        self._intake.update_held(self._sources)
        self._tenures.settle()
        self._flow.pump()

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _tick(self) -> None:
        committed = 0.0
        while True:
            await asyncio.sleep(_TICK)
            now = self._clock.monotonic()
            self._flow.tick(now, _TICK)
            if not self._flow.stopping:
                self._intake.hold_windows(self._sources, self._flow.flood.paused)
                self._intake.update_held(self._sources)
                self._tenures.settle()
                self._sweeper.tick(now, self._tenures.tenures())
                self._vigil.tick(now, self._intake.partitions, self._intake.logs)
            if now - committed >= _COMMIT_EVERY:
                committed = now
                self.commit()
                metrics.IN_FLIGHT.labels(self.app.group).set(self._intake.incomplete)

    def commit(self) -> None:
        """Commits what has changed, in the background."""
        if self._tenures.member is not None:
            self._tenures.member.commit(self._intake.commits())

    @property
    def plans(self) -> list[Plan]:
        """What its consumers read."""
        return [source.plan for source in self._sources]

    def describe(self) -> str:
        """What is under way, for people."""
        return f"{self._intake.incomplete} fetched and not finished, {self._flow.describe()}"

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way in this process; what lies on Kafka isn't looked at."""
        return not self._intake.incomplete and self._flow.quiet
