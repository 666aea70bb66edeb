"""One block: services, load and faults; then everything is healed and drained, and what was seen becomes a history."""

import asyncio
import contextlib
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hooktape.errors import HooktapeError
from hooktape.ledger.ledger import Ledger
from hooktape.local import kafka
from hooktape.local.soak import operator as operating
from hooktape.local.soak import watching, workload
from hooktape.local.soak.faults import SESSION, Cell, Draw
from hooktape.local.soak.history import Change, Command, Facts, Handler, History, Post
from hooktape.local.soak.operator import Operator
from hooktape.local.soak.outcome_rules import FINAL
from hooktape.local.soak.posting import Posting
from hooktape.local.soak.services import ARMED_SECONDS, LONG_SECONDS, LOOK_SECONDS, START_SECONDS, Errands, Servers, Services, Slot
from hooktape.settings import Secret, Settings
from hooktape.tape import topics
from hooktape.tape.names import Kind, Names
from hooktape.times import format_duration

WORKERS, INGESTS, PARTITIONS = 4, 2, 6
"""So many workers that there's one at work nearly always, while others start; a round waits for one."""
RATE = 80.0
"""Webhooks a second: enough that there's always one in every step, and a third of what two busy cores take."""
VICTIM_SECONDS = 6.0
"""How long a round waits for a process that works and to which nothing is being done."""
DRAIN_SECONDS = 40.0
"""The longest chain of retries is 7 s, and one that waits behind it has its own; 7 to 18 s were measured on a busy machine."""
JOIN_SECONDS = 10.0
"""How long workers may take until each has had an event; one that was given no partition never has."""
PATIENCE = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a block is made of."""

    seed: int
    block: int
    ledger: str
    draws: Sequence[Draw]
    app: str
    """MODULE:APP of the handlers, as `hooktape consume` takes it."""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Played:
    """What a block's play leaves for its history."""

    posts: list[Post]
    commands: Sequence[Command] = ()
    changes: Sequence[Change] = ()
    idle: bool = True
    """Whether all that was begun has ended."""


class Block:
    """Runs one block. `progress` gets a line for each round."""

    workers, partitions, rate, victim_seconds = WORKERS, PARTITIONS, RATE, VICTIM_SECONDS
    topics: tuple[str, ...] = workload.TOPICS

    def __init__(self, plan: Plan, servers: Servers, home: Path, progress: Callable[[str], None]) -> None:
        self._plan, self._servers, self._home, self._progress = plan, servers, home, progress
        home.mkdir(parents=True)
        self._prefix = f"soak-{plan.block}-{secrets.token_hex(3)}"
        self._secret = secrets.token_hex(16)
        url = f"sqlite:///{home / 'ledger.db'}"
        if plan.ledger == "postgresql":
            assert servers.postgres is not None
            url = watching.make_database(servers.postgres.url, self._prefix)
        self._settings = Settings(
            kafka=servers.bootstrap, home=home, topic_prefix=self._prefix, partitions=self.partitions, topics=self.topics,
            retry_delays=workload.DELAYS, database_url=Secret(url),
        )  # fmt: skip
        self._effects = watching.Effects(home / "effects.jsonl")
        self._services = Services(lambda pid: pid in self._effects.pids)
        self.hits: Counter[str] = self._services.hits
        self._began = time.monotonic()
        self._drain_limit, self._grace = DRAIN_SECONDS, 0.0

    async def run(self) -> History:
        """The history of the block. Raises LocalStackError when a server can't be brought back."""
        await asyncio.to_thread(topics.apply, self._settings, [workload.GROUP])
        ledger = await asyncio.to_thread(Ledger.open, self._settings.ledger_url)
        skew = time.time() - time.monotonic()
        shelf = watching.Shelf(self._settings, ledger, skew)
        names = Names(self._prefix)
        sampler = watching.Sampler(self._settings, [*(names.log(topic.replace("/", ".")) for topic in self.topics),
                                                    names.replay(workload.GROUP)])  # fmt: skip
        try:
            played = await self._play(ledger, shelf, sampler)
            drain = await self._drain(shelf, sampler) if played.idle else None
            await self._services.close(STOP_SECONDS)
            await asyncio.to_thread(sampler.close)
            return await asyncio.to_thread(self._history, played, shelf, sampler, drain)
        finally:
            await self._services.close(0.0)
            self._effects.close()
            ledger.close()
            # A broker that couldn't be brought back is the error to show, not what follows from it.
            with contextlib.suppress(HooktapeError):
                await asyncio.to_thread(topics.remove, self._settings)

    async def _play(self, ledger: Ledger, shelf: watching.Shelf, sampler: watching.Sampler) -> Played:
        """The rounds: load, faults and replays, until everything is healed."""
        async with self._staged(INGESTS), self._posting() as posting, self._operated(ledger) as operator:
            await self._rounds()
            operator.stop_soon()
            await self._heal()
        return Played(posting.posts, operator.commands, idle=operator.idle)

    def _webhooks(self) -> Iterator[workload.Webhook]:
        return workload.webhooks(self._plan.seed, self._plan.block)

    def _handlers(self) -> list[Handler]:
        return workload.handlers(self._plan.ledger)

    async def _rounds(self) -> None:
        """All draws, and a second chance at the first passage for what was armed and came to another end first."""
        for draw in self._plan.draws:
            await asyncio.sleep(draw.pause)
            await self._do(draw)
        await self._await_crashes()
        unhit = {cell.name: draw for draw in self._plan.draws
                 if (cell := draw.cell) and cell.point and cell.target != "replay" and not self.hits[cell.name]}  # fmt: skip
        for draw in unhit.values():
            await self._do(replace(draw, passage=1))
        if unhit:
            await self._await_crashes()

    # ── the stage ───────────────────────────────────────────────────────────────────────────────────────────────────
    @asynccontextmanager
    async def _staged(self, ingests: int) -> AsyncIterator[None]:
        """All services work, and are watched."""
        env = self._environment()
        words = ["consume", self._plan.app, "--stop-within", "3s"]
        for number in range(ingests):
            port = kafka.free_ports().broker
            slot = Slot("ingest", f"ingest-{number}", ["ingest", "--port", str(port)], env, self._home / f"ingest-{number}.log",
                        f"http://127.0.0.1:{port}")  # fmt: skip
            self._services.slots.append(slot)
        for number in range(self.workers):
            self._services.slots.append(Slot("worker", f"worker-{number}", words, env, self._home / f"worker-{number}.log"))
        for slot in self._services.of("ingest"):
            await asyncio.to_thread(slot.service.wait_for, f"{slot.url}/readyz", PATIENCE)
        watching_ = asyncio.create_task(self._services.watch())
        try:
            yield
        finally:
            watching_.cancel()
            await asyncio.gather(watching_, return_exceptions=True)

    @asynccontextmanager
    async def _posting(self) -> AsyncIterator[Posting]:
        """Webhooks come in, and every worker has had one; at its end no new ones do, and each of those that came has its answer."""
        plan = self._plan
        posting = Posting([slot.url for slot in self._services.of("ingest")], self._secret, self._webhooks(), self.rate,
                          f"{plan.seed}/{plan.block}/posting")
        posting_ = asyncio.create_task(posting.run())
        try:
            await self._until(lambda: self._working() >= self.workers, JOIN_SECONDS)
            yield posting
            posting_.cancel()
            await posting.settle()
        finally:
            posting_.cancel()
            await asyncio.gather(posting_, return_exceptions=True)
            posting.close()

    @asynccontextmanager
    async def _operated(self, ledger: Ledger, patience: str = operating.PATIENCE) -> AsyncIterator[Operator]:
        """Somebody replays meanwhile; at its end the last replay has come to its own."""
        env = self._environment()
        errands = Errands(env, self._home / "operator.log")
        self._services.slots.append(errands)
        operator = Operator(errands, env, self._home, ledger, f"{self._plan.seed}/{self._plan.block}/operator", patience)
        work = asyncio.create_task(operator.work())
        try:
            yield operator
            await asyncio.wait({work}, timeout=PATIENCE)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def _environment(self) -> dict[str, str]:
        """Ours without any HOOKTAPE_* of the user, and what the block needs."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("HOOKTAPE_")}
        return env | {
            "HOOKTAPE_KAFKA": self._settings.kafka,
            "HOOKTAPE_HOME": str(self._home),
            "HOOKTAPE_TOPIC_PREFIX": self._prefix,
            "HOOKTAPE_TOPICS": ",".join(self.topics),
            "HOOKTAPE_PARTITIONS": str(self.partitions),
            "HOOKTAPE_RETRY_DELAYS": ",".join(map(format_duration, workload.DELAYS)),
            "HOOKTAPE_SHOPIFY_SECRETS": self._secret,
            "HOOKTAPE_DATABASE_URL": self._settings.ledger_url,
            "HOOKTAPE_TEST_MODE": "1",
            "SOAK_EFFECTS": str(self._home / "effects.jsonl"),
            "SOAK_SEED": str(self._plan.seed),
            "SOAK_LEDGER": self._plan.ledger,
        }

    # ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _do(self, draw: Draw) -> None:
        cell = draw.cell
        if cell is None:
            return
        if cell.target in ("broker", "postgres"):
            await self._hurt_server(cell)
            self.hits[cell.name] += 1
        elif cell.point and (slots := [slot for slot in self._services.of(cell.target) if slot.insistent]):
            await self._make_room(slots)
            self._hurt(min(slots, key=lambda slot: len(slot.due)), cell, draw.passage)
        elif (victim := await self._victim(cell.target, draw.victim)) is not None:
            self._hurt(victim, cell, draw.passage)
        self._progress(f"{time.monotonic() - self._began:6.1f} s  {draw}")

    async def _hurt_server(self, cell: Cell) -> None:
        match cell.act:
            case "kill":
                hurt = self._servers.kill(cell.target)
            case "cut":
                hurt = self._servers.cut(cell.target)
            case _:
                hurt = self._servers.freeze(cell.target, cell.seconds)
        await self._services.without(hurt)

    async def _make_room(self, slots: Sequence[Slot]) -> None:
        """Waits until one more crash point may become due at one of them."""

    def _hurt(self, slot: Slot, cell: Cell, passage: int) -> None:
        if cell.act in ("crash", "hold"):
            # The next process in its place carries the point. Most commands are short, and the next one is at hand.
            slot.due.append((cell, passage))
            if isinstance(slot, Errands) and slot.at_work and time.monotonic() - slot.started > LONG_SECONDS:
                self._services.term(slot)
            return
        self.hits[cell.name] += 1
        if cell.act == "kill":
            self._services.kill(slot)
        elif cell.act == "term":
            self._services.term(slot)
        else:
            self._services.freeze(slot, cell.seconds)

    async def _victim(self, target: str, choice: int) -> Slot | None:
        """A process that works, as far as the choice allows; None when none does in time."""

        def able() -> list[Slot]:
            return [slot for slot in self._services.of(target)
                    if slot.steady and self._at_work(slot) and (slot.insistent or not slot.expectant)]  # fmt: skip

        await self._until(lambda: bool(able()), self.victim_seconds)
        found = able() or [slot for slot in self._services.of(target) if slot.steady]
        return found[choice % len(found)] if found else None

    def _at_work(self, slot: Slot) -> bool:
        if slot.target == "worker":
            return slot.pid in self._effects.pids
        if isinstance(slot, Errands):
            return slot.at_work
        return time.monotonic() - slot.started > (START_SECONDS if slot.target == "reconciler" else 1.0)

    def _working(self) -> int:
        self._effects.look()
        return sum(slot.steady and slot.pid in self._effects.pids for slot in self._services.of("worker"))

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
            self._effects.look()
        return True

    async def _await_crashes(self) -> None:
        """Gives armed processes their time. Some points lie on the way of a rebalance only, so another worker is stopped for it."""
        slots, began = self._services.slots, time.monotonic()

        def settled() -> bool:
            return not any(slot.expectant for slot in slots)

        def idle() -> bool:
            return settled() or time.monotonic() - began > ARMED_SECONDS / 2

        await self._until(idle, PATIENCE)
        if not settled():
            if (other := next((slot for slot in self._services.of("worker") if slot.steady and not slot.armed), None)) is not None:
                self._services.term(other)
            await self._until(settled, PATIENCE)

    async def _heal(self) -> None:
        """Nothing is frozen, nothing is armed, everything works."""
        await self._services.thawed()
        services = [slot for slot in self._services.slots if slot.restarts]
        for slot in services:
            slot.relieve()
            if slot.armed is not None and slot.steady:
                self._services.term(slot)
        await self._until(lambda: all(slot.steady and slot.armed is None for slot in services), PATIENCE)
        await self._until(lambda: self._working() >= self.workers, JOIN_SECONDS)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _drain(self, shelf: watching.Shelf, sampler: watching.Sampler) -> float | None:
        """Waits until every offset is committed and every webhook has its outcome; the seconds that it took. None: it never came, and
        no handler had come to its end for as long as patience lasts."""
        began = moved = time.monotonic()
        ended = 0
        watch = asyncio.create_task(self._services.watch())
        try:
            _, ends = await asyncio.to_thread(shelf.read, [Kind.LOG, Kind.REPLAY])
            open_ = set(shelf.keys)
            while time.monotonic() - moved < PATIENCE:
                self._effects.look()
                if (now_ended := self._effects.ended.total()) > ended:
                    ended, moved = now_ended, time.monotonic()
                seen = sampler.ends()
                behind = [f"{place} {seen.get(place, 0)} of {end}" for place, end in ends.items() if seen.get(place, 0) < end]
                if not behind:
                    states = await asyncio.to_thread(shelf.outcomes, open_)
                    open_ -= {outcome.wid for outcome in states if outcome.state in FINAL}
                    if not open_:
                        return time.monotonic() - began
                await asyncio.sleep(0.2)
            self._progress(f"not drained: {len(open_):,} events without an outcome{f', committed {behind[0]}' if behind else ''}")
            return None
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    def _history(self, played: Played, shelf: watching.Shelf, sampler: watching.Sampler, drain: float | None) -> History:
        records, ends = shelf.read([Kind.LOG, Kind.RETRY, Kind.DLQ, Kind.REPLAY])
        rows = watching.rows(self._settings.ledger_url) if self._plan.ledger == "postgresql" else []
        facts = Facts(seed=self._plan.seed, block=self._plan.block, ledger=self._plan.ledger, session=SESSION, drain=drain,
                      drain_limit=self._drain_limit, ends=ends, versions=dict(self._plan.versions), grace=self._grace)  # fmt: skip
        return History(
            facts, self._handlers(), played.posts, self._effects.attempts(), rows,
            self._services.faults + sampler.silences, sampler.commits, records, shelf.outcomes(shelf.keys),
            shelf.items(), list(played.commands), list(played.changes),
        )  # fmt: skip
