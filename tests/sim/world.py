"""A group of real workers in a simulated world: what comes in, what breaks, and when it has all ended.

The workers are `consumers/worker.Worker` as it is, over the real ledger's SQL. Simulated are time, Kafka, the database's and the
network's moods, the handlers' doings, and death. One `choose` decides everything: workload, faults, delays, and who runs next.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from hooktape import crash
from hooktape.consumers import custody, worker
from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.worker import Worker
from hooktape.errors import Reject, Retry
from hooktape.ledger import outcomes
from hooktape.ledger.ledger import Ledger
from hooktape.schemas import codec
from hooktape.schemas.event import Event, event_id16
from hooktape.settings import Settings
from hooktape.tape import headers, topics
from hooktape.tape.names import Names

from .faults import KINDS, SESSION, Faults
from .judge import Judge, Told
from .kafka import Broker
from .ledger import SimDatabase
from .loop import EPOCH, Choose, Process, Simulation, Stuck
from .source import SimPublisher, SimSource

GROUP = "g"
# Everything is short, and in the proportions of the real ones: session > lease > rebalance > handler.
OPTIONS = replace(Options(), lease=3.0, revoke_within=2.0, stop_within=4.0, buffer=40, side_buffer=10)
DELAYS = (1.0, 4.0)
ATTEMPTS = 7
HANDLER_TIMEOUT = 3.0
# Events come and faults strike for so long; then all is healed, and everything has to end.
TROUBLE = 40.0
# Measured over 3,000 seeds of 60 events: 144 s at most.
PATIENCE = 900.0

_TOPICS = {"orders/create": "order", "orders/updated": "order", "products/update": "product", "customers/update": "customer"}
_STRANGE = "themes/publish"


class Clock:
    """A process's."""

    def __init__(self, process: Process) -> None:
        self.time, self.monotonic = process.wall, process.monotonic


class NoWatch:
    """In place of the thread that watches the loop: it would look at a real clock."""

    def __init__(self, handlers: object) -> None: ...
    def close(self) -> None: ...


@dataclass
class Outcome:
    """What a run came to."""

    violation: str | None
    digest: str
    steps: int
    seconds: float
    """Virtual."""
    counts: dict[str, int]
    trace: list[str] = field(repr=False, default_factory=list)


class World:
    """`kinds`: the faults that may strike; None: half of them, by the choices (swarm testing)."""

    def __init__(self, choose: Choose, events: int = 60, kinds: tuple[str, ...] | None = None, keep_trace: bool = False,
                 trouble: float = TROUBLE) -> None:  # fmt: skip
        self.sim = sim = Simulation(choose)
        self.kinds = tuple(k for k in KINDS if choose(2)) if kinds is None else kinds
        self.settings = Settings(partitions=1 + choose(3), retry_delays=DELAYS, max_attempts=ATTEMPTS, topics=tuple(_TOPICS))
        names = self.names = Names(self.settings.topic_prefix)
        self.logs = {topic: names.log(topic.replace("/", ".")) for topic in _TOPICS}
        self.tape = [*self.logs.values(), names.other]
        self.dlq, self.replay = names.dlq(GROUP), names.replay(GROUP)
        retries = {names.retry(GROUP, delay) for delay in DELAYS}
        self.broker = Broker(sim, self.settings.partitions, [*self.tape, *sorted(retries), self.dlq, self.replay], SESSION,
                             lambda: self.troubled and sim.chance(0.02))  # fmt: skip
        self.judge = Judge(sim, self.broker, set(self.tape), retries, self.dlq)
        self.broker.appended, self.broker.committed_to, self.broker.note = self._appended, self._committed, self.note
        self._digest, self._kept = hashlib.blake2b(digest_size=8), [] if keep_trace else None
        self.troubled = True
        self.outage = self.silence = self.slow = False
        self.flaky = 0.02 if "outage" in self.kinds else 0.0
        self.database = SimDatabase(lambda: self.outage or (self.troubled and sim.chance(self.flaky)), self._owners_are)
        self.ledger = Ledger(self.database)
        self.workers: dict[Process, Worker | None] = {}
        self._stops: dict[Process, asyncio.Event] = {}
        self._begun = 0
        self._events, self.trouble_until = events, trouble
        self._plans: dict[str, list[str]] = {}
        self._quiet = False
        self._keys: list[Any] = []

    # ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def run(self) -> Outcome:
        with self._patched():
            main = self.sim.outside.create_task(self._life())
            try:
                self.sim.run(lambda: main.done() or self.judge.found is not None or bool(self.sim.faults))
                if self.sim.faults:
                    self.judge.fail(f"an error that nobody caught: {self.sim.faults[0]}")
                elif main.done():
                    main.result()
            except Stuck as stuck:
                self.judge.fail(str(stuck))
            finally:
                for process in [*self.workers, self.sim.outside]:
                    process.bury()
                self.database.close()
            for process in [*self.workers, self.sim.outside]:
                for error in process.unheard():
                    self.judge.fail(f"a task of {process.name} failed unheard: {error}")
        return Outcome(self.judge.found, self._digest.hexdigest(), self.sim.steps, self.sim.now, dict(self.judge.counts), self._kept or [])

    def note(self, *what: object) -> None:
        """A line of the trace."""
        line = f"{self.sim.now:9.4f} {' '.join(map(str, what))}"
        self._digest.update(line.encode())
        if self._kept is not None:
            self._kept.append(line)

    async def _life(self) -> None:
        sim = self.sim
        for _ in range(1 + sim.choose(3)):
            self.begin()
        coming = sim.outside.create_task(self._events_come())
        await Faults(self).strike()
        await coming
        self._heal()
        healed = sim.now
        while left := self._left():
            if sim.now - healed > PATIENCE:
                self.judge.fail(f"{PATIENCE:g} s after the last fault there's still something to do: {'; '.join(left[:6])}")
                return
            await asyncio.sleep(1.0)
            if not self.living:
                self.begin()
        self.note("drained", f"{sim.now - healed:.0f} s after the last fault")
        self.judge.counts["seconds to drain"] = int(sim.now - healed)
        await asyncio.sleep(2 * OPTIONS.lease)  # what was slow is over
        states = self.ledger.outcomes.states(GROUP, list(self.judge.told))
        self.judge.conclude(states, self.database.query("SELECT * FROM waiting"))
        self._look_for_leaks()
        last = self.living
        for process in last:
            self.stop(process)
        await asyncio.sleep(OPTIONS.stop_within + 2.0)
        if self.living:
            self.judge.fail(f"{[process.name for process in self.living]} didn't stop in time")
        owners = {owner for (owner,) in self.database.query("SELECT owner FROM ownership")}
        if kept := [process.name for process in last if process.name in owners]:
            self.judge.fail(f"all workers have stopped, and {kept} still own partitions")

    def _left(self) -> list[str]:
        return [f"{process.name} stands still" for process in self.living if process.frozen] + self.judge.left()

    def _look_for_leaks(self) -> None:
        for process in self.living:
            running = self.workers[process]
            if running is None:
                continue
            flow, intake = running._flow, running._intake
            kept = {"held": len(flow.holds), "in lanes": len(flow.lanes), "copies": len(flow._copies), "applied": len(flow._applied),
                    "letters": len(flow.handover), "incomplete": intake.incomplete, "slots": flow.lanes.running,
                    "taken": sum(home.taken for home in intake.homes)}  # fmt: skip
            if any(kept.values()):
                self.judge.fail(f"everything has ended, and {process.name} still keeps {kept}")

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        real_finish, real_skips = outcomes.finish_in, outcomes.Outcomes.note_skips

        def finish(t: Any, group: str, owner: str, finishes: Any, now: float) -> list[bool]:
            kept = real_finish(t, group, owner, finishes, now)
            for f, accepted in zip(finishes, kept, strict=True):
                self.note(owner, "recorded" if accepted else "couldn't record", f.state.name, self.judge.told[f.key].event.webhook_id)
            self.judge.recorded(owner, finishes, kept)
            return kept

        def note_skips(store: Any, group: str, skips: Any) -> None:
            real_skips(store, group, skips)
            for ending in skips:
                self.judge.told[ending.key].skipped.add(ending.job_id)

        def name() -> str:
            assert self.sim.current is not None
            return self.sim.current.name

        disabled = logging.root.manager.disable
        if self._kept is None:
            logging.disable(logging.CRITICAL)
        fakes: tuple[tuple[Any, str, Any], ...] = (
            (topics, "look", lambda settings, names: dict.fromkeys(names, topics.Found(settings.partitions, 1, {}))),
            (worker, "Watch", NoWatch), (custody, "owner_name", name), (outcomes, "finish_in", finish),
            (outcomes.Outcomes, "note_skips", note_skips))  # fmt: skip
        with contextlib.ExitStack() as stack:
            for where, what, fake in fakes:
                stack.enter_context(mock.patch.object(where, what, fake))
            try:
                yield
            finally:
                crash.arm("")
                logging.disable(disabled)

    def _appended(self, message: Any) -> None:
        ours = headers.read(message.packed)
        self.note("record", message.at, ours.get(headers.WEBHOOK_ID, ""), ours.get(headers.DISPOSITION, ""))
        self.judge.appended(message)

    def _owners_are(self, owners: dict[int, tuple[str, int]]) -> None:
        alive = dict(self.database.query("SELECT owner, alive_until FROM owners"))
        # The taker's clock may be ahead of the former owner's by as much as clocks may differ.
        self.judge.owners_are(owners, {owner for owner, until in alive.items() if until > EPOCH + self.sim.now + OPTIONS.lease / 3})

    def _committed(self, key: tuple[str, int], offset: int, metadata: str) -> None:
        self.note("committed", key, offset, metadata)
        self.judge.committed_to(key, offset, metadata)

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def living(self) -> list[Process]:
        return [process for process in self.workers if not process.dead]

    def begin(self) -> None:
        """A worker more."""
        self._begun += 1
        # Clocks may differ by a third of the lease (ownership.py).
        process = Process(self.sim, f"w{self._begun}", skew=self.sim.delay(0.0, OPTIONS.lease / 3))
        process.thread_delay = self._ledger_delay
        self.workers[process] = None
        self._stops[process] = asyncio.Event()
        self.note(process.name, "begins")
        process.call_soon(lambda: process.create_task(self._serve(process)))

    def _ledger_delay(self) -> float:
        if self.slow and self.troubled and self.sim.chance(0.05):
            return self.sim.delay(0.1, 4.0)  # longer than the lease, at worst
        return self.sim.delay(0.0, 0.004)

    async def _serve(self, process: Process) -> None:
        """As consumers/serve.py, with a supervisor that starts it again."""
        publisher = SimPublisher(self.broker, process, lambda: self.silence, 0.03 if "silence" in self.kinds else 0.0)
        clock, stop = Clock(process), self._stops[process]

        def source(settings: Any, plan: Any, wire: Any, loop: Any, deliver: Any, make: Any) -> Any:
            return SimSource(self.broker, process, plan, wire, deliver)

        running = Worker(self._app(process), self.settings, self.ledger, publisher, OPTIONS, source=source, clock=clock,  # type: ignore[arg-type]
                         chance=lambda: self.sim.choose(64) / 64)  # fmt: skip
        why = ""
        try:
            await running.start()
            self.workers[process] = running
            stopped = process.create_task(stop.wait())
            await asyncio.wait({stopped, running.failed}, return_when=asyncio.FIRST_COMPLETED)
        except Exception as error:  # noqa: BLE001 - whatever ends a worker ends the process, and it's started again
            why = str(error)
        if running.failed.done():
            why = str(running.failed.exception())
        self.note(process.name, "stops", why)
        self.judge.counts["workers that failed"] += bool(why)
        self.judge.ended[process.name] = ("stop", self.sim.now)
        with contextlib.suppress(Exception):
            await running.stop()
        self.note(process.name, "ends")
        process.kill()
        self.sim.outside.call_later(self.sim.delay(0.1, 3.0), self._replace)
        # A source that didn't come to its end in time: the session runs out.
        self.sim.outside.call_later(SESSION, self._expel, process, running)

    def _replace(self) -> None:
        if self.troubled and not self.living:
            self.begin()

    def kill(self, process: Process) -> None:
        """SIGKILL; its session runs out later."""
        if process.dead:
            return
        self.note(process.name, "is killed")
        self.judge.ended[process.name] = ("kill", self.sim.now)
        self.judge.counts["kills"] += 1
        process.kill()
        self.sim.outside.call_later(SESSION, self._expel, process, self.workers[process])
        self.sim.outside.call_later(self.sim.delay(0.1, 8.0), self._replace)

    def _expel(self, process: Process, running: Worker | None) -> None:
        for member in list(self.broker.members):
            if member.source._process is process:
                self.note(process.name, "is expelled")
                self.broker.expel(member)

    def stop(self, process: Process) -> None:
        """SIGTERM. It may be frozen: it hears of it later."""
        process.call_soon(self._stops[process].set)

    async def freeze(self, process: Process, seconds: float) -> None:
        if not self.troubled:
            return
        self.note(process.name, "is frozen for", seconds)
        self.judge.counts["freezes"] += 1
        process.freeze(True)
        await asyncio.sleep(min(seconds, SESSION))
        members = [m for m in self.broker.members if m.source._process is process]
        if seconds > SESSION:
            self._expel(process, None)
            await asyncio.sleep(seconds - SESSION)
        self.note(process.name, "thaws")
        process.freeze(False)
        if seconds > SESSION:
            for member in members:
                process.call_later(self.sim.delay(0.0, 1.0), member.source.expelled)

    # ── handlers ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _app(self, process: Process) -> App:
        app = App(GROUP)

        def on(*names: str, **how: Any) -> None:
            async def handle(event: Event) -> None:
                await self._handle(process, event)

            handle.__qualname__ = names[0]
            app.on(*names, timeout=HANDLER_TIMEOUT, **how)(handle)

        on("orders/create", "orders/updated", concurrency=3)
        on("products/update", skip_stale=True, concurrency=4)
        on("customers/update", order="none", concurrency=2)
        return app

    async def _handle(self, process: Process, event: Event) -> None:
        if process.dead:
            return
        judge, told = self.judge, self.judge.told[event.key]
        effect = judge.begins(process, event, self.broker.home_of(event.lane.encode()))
        self.note(process.name, "starts", event.webhook_id, effect.generation)
        plan = self._plans[event.webhook_id]
        what = plan.pop() if plan else "ok"
        ok = False
        try:
            await asyncio.sleep(self.sim.delay(0.0, 0.3) if what != "hang" else 2 * HANDLER_TIMEOUT)
            if what == "wait":
                await asyncio.sleep(self.sim.delay(0.0, HANDLER_TIMEOUT / 2))
            ok = what in ("ok", "wait", "hang")
        finally:
            if not process.dead:
                self.note(process.name, "did" if ok else "failed", event.webhook_id, what)
                judge.ends(told, effect, ok)
        match what:
            case "down":
                raise ConnectionError("the shop's API is down")
            case "bug":
                raise KeyError("a bug")
            case "retry":
                raise Retry(after=self.sim.delay(0.5, 10.0))
            case "reject":
                raise Reject("never")

    # ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────
    async def _events_come(self) -> None:
        sim, known = self.sim, list(_TOPICS)
        resources = 1 + sim.choose(max(self._events // 4, 1))
        # One by one, or in bursts that fill the lanes.
        share = (0.7, 0.05)[sim.choose(2)]
        for number in range(self._events):
            if sim.chance(share):
                await asyncio.sleep(sim.delay(0.0, self.trouble_until / self._events / share))
            topic = known[sim.choose(len(known))]
            if sim.chance(0.01):
                message = self.broker.append(self.logs[topic], b"x", b"not ours", [])
                self.judge.garbage.append(message.at)
            elif sim.chance(0.02):
                self._record_stranger(number)
            else:
                self._record(number, topic, sim.choose(resources))

    def _record(self, number: int, topic: str, resource: int) -> None:
        sim, now = self.sim, int((EPOCH + self.sim.now) * 1e6)
        root = f"{_TOPICS[topic]}/{resource}"
        # Shopify promises no order: a version may be older than one that came before.
        event = Event(webhook_id=f"e{number}", shop="a.myshopify.com", topic=topic, payload=b"{}", received_us=now, triggered_us=now,
                      resource=root, resource_root=root, version_us=now - (sim.choose(3) * 5_000_000))  # fmt: skip
        fates = ("down", "down", "down", "retry", "bug", "wait", "hang", "reject")
        plan = [fates[sim.choose(len(fates))] for _ in range(1 + sim.choose(ATTEMPTS + 1))] if sim.chance(0.3) else []
        self._plans[event.webhook_id] = plan
        key, lane = event.key, event.lane.encode()
        # Ingest may not have heard of a topic's own log yet, or have heard that it's gone.
        log = self.names.other if sim.chance(0.05) else self.logs[topic]
        where = log, self.broker.home_of(lane)
        told = Told(event, key, topic != "customers/update", topic == "products/update", (*where, self.broker.logs[where].end))
        self.judge.told[key] = told
        self.judge.by_lane[where[0], where[1], event.lane].append(told)
        assert key.id == event_id16(event.shop, event.webhook_id)
        self.copy(told, log)

    def _record_stranger(self, number: int) -> None:
        event = Event(webhook_id=f"s{number}", shop="a.myshopify.com", topic=_STRANGE, payload=b"{}", received_us=1, triggered_us=1)
        message = self.broker.append(self.names.other, event.lane.encode(), codec.encode(event),
                                     headers.pack(headers.of_event(event)))  # fmt: skip
        self.judge.strangers.add(message.at)

    def copy(self, told: Told, log: str | None = None) -> None:
        log = log or self.logs[told.event.topic]
        told.elsewhere = told.elsewhere or log != told.at[0]
        self.broker.append(log, told.event.lane.encode(), codec.encode(told.event),
                           headers.pack(headers.of_event(told.event)))  # fmt: skip

    def replayed(self, told: Told, forced: bool) -> None:
        """As the replayer sends it."""
        generation = f"job{self.sim.steps}"
        if forced:
            told.forced.add(generation)
        extra = {headers.REPLAY_ID: generation, headers.REPLAY_FORCED: "1" if forced else "0"}
        origin = {headers.ORIGIN_TOPIC: told.at[0], headers.ORIGIN_PARTITION: str(told.at[1]), headers.ORIGIN_OFFSET: str(told.at[2])}
        self.broker.append(self.replay, told.event.lane.encode(), codec.encode(told.event),
                           headers.pack(headers.of_event(told.event) | origin | extra))  # fmt: skip

    def _heal(self) -> None:
        self.note("healed")
        self.troubled = self.slow = self.outage = self.silence = False
        crash.arm("")
        if not self.living:
            self.begin()
