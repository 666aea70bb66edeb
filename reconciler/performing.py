"""Performs the actions of a pure run: asks the API, reads the tape, writes the ledger, records what is missing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from hooktape import crash, log, metrics
from hooktape.errors import Fenced
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.reconcile import Intent
from hooktape.reconciler import api, synthetic
from hooktape.reconciler.bulk import Lister
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.coverage import DELETED
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import (
    Action,
    Advance,
    Count,
    Counted,
    Fence,
    Fetch,
    Fetched,
    Forget,
    Input,
    List,
    Listed,
    Look,
    Missing,
    Options,
    ReadTape,
    Record,
    Recorded,
    Remember,
    Taped,
)
from hooktape.reconciler.reading import TapeView
from hooktape.schemas import topics as shopify
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Names
from hooktape.tape.transactions import Outgoing, Writer
from hooktape.tape.wire import Wire

_log = log.get("hooktape.reconciler")
WHO = "reconciler"
T = TypeVar("T")


@dataclass(slots=True)
class Turn:
    """One shop's pass. `epoch`: of its lease; None in a dry run, which writes nothing. `owner`: as whom it holds that.

    `writer`: opened when something is first to be recorded; from then on no other process records anything of the shop.
    `late_after`: by family, webhooks that came after their synthetic event. `lane`: of its lease; turns of two lanes record different
    things and don't fence each other. `lost`: that the lease is another's by now. `progress` gets (family, events) when so many
    were recorded.
    """

    shop: str
    options: Options
    epoch: int | None
    owner: str = ""
    writer: Writer | None = None
    marks: dict[str, int] = field(default_factory=dict)
    late_after: dict[str, int] = field(default_factory=dict)
    lane: str = "states"
    lost: Fenced | None = None
    progress: Callable[[str, int], None] = lambda family, events: None

    @property
    def dry(self) -> bool:
        return self.epoch is None


@dataclass(frozen=True, slots=True)
class Run:
    """One look at one family within a turn."""

    turn: Turn
    family: Family
    look: Look
    client: AdminClient
    gate: api.Gate
    renew: Callable[[Turn], Awaitable[None]]
    lister: Lister

    @property
    def cursor(self) -> str:
        """The cursor's name in the ledger: deletions have one of their own."""
        return cursor_of(self.family, self.look)

    @property
    def backfill(self) -> bool:
        return self.look is Look.BACKFILL

    @property
    def notes(self) -> str:
        """Under which name the ledger has its intents: a pass in another lane settles its own only."""
        return self.cursor if self.backfill else self.family.name


def cursor_of(family: Family, look: Look) -> str:
    """Under which name the ledger keeps how far a look at a family has come."""
    return family.name if look is Look.STATES else f"{family.name}/{look}"


def back_of(family: Family, look: Look) -> str:
    """The same of look-backs, which have a cursor of their own."""
    return f"{cursor_of(family, look)}/lookback"


class Performer:
    """The outside world of a run. Made on a running loop; `close` it. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], float], http: httpx.AsyncClient) -> None:
        self._http = http
        self.settings, self.ledger, self.clock = settings, ledger, clock
        self.provisioned = frozenset(shopify.expand(settings.topics))
        self.tape, self._reading = TapeView(settings), asyncio.Lock()
        self._names = Names(settings.topic_prefix)
        self._wire = Wire(settings)

    async def close(self) -> None:
        """Ends the clients."""
        await asyncio.to_thread(self.tape.close)

    def lister(self, turn: Turn, look: Look) -> Lister:
        """Of one run, which closes it: however it ends, none of its files stays open. What a dry run begins is its own affair, as what is
        under way is none of its."""
        lanes = [*([str(look)] if look is Look.BACKFILL else []), *(["dry"] if turn.dry else [])]
        return Lister(self.ledger, self._http, clock=self.clock, lane="/".join(lanes))

    async def perform(self, action: Action, run: Run) -> Input | None:
        """What the action found; None for the ledger's and the fence, which find nothing. Raises Fenced once the lease is lost."""
        turn = run.turn
        if turn.lost is not None:
            raise turn.lost
        match action:
            case Count() | List() | Fetch():
                return await self._ask(action, run)
            case ReadTape():
                return await self._read(action, run)
            case Record() if turn.dry:
                return Recorded(frozenset(item.row.resource for item in action.items))
            case Record():
                # Whoever took over the lease meanwhile decides by a newer look at the tape than this one.
                await run.renew(turn)
                began = time.monotonic()
                recorded = await asyncio.to_thread(self._record, action.items, run)
                turn.progress(run.family.name, len(recorded.now))
                if rate := turn.options.rate:
                    # Afterwards: between the last look at the tape and the record nothing may be waited for.
                    await asyncio.sleep(max(0.0, began + len(recorded.now) / rate - time.monotonic()))
                return recorded
            case _ if not turn.dry:
                await asyncio.to_thread(self._write, action, run)
        return None

    async def _ask(self, action: Count | List | Fetch, run: Run) -> Counted | Listed | Fetched:
        client, family = run.client, run.family
        match action:
            case Count(query, True):
                return await api.count_deletions(client, query)
            case Count(query):
                return await api.count(client, family, query)
            case List(query, after, Look.DELETIONS):
                found: Listed | Fetched = await api.deletions(client, family, query, after)
            case List(query, after, _, window):
                found = await run.lister.page(client, family, query, after, window)
                if found.incomplete:
                    _log.warning("a list isn't whole", shop=client.shop, family=family.name, why=found.incomplete)
            case Fetch(gids, False):
                found = await api.existing(client, family, gids)
            case Fetch(gids):
                found = await api.fetch(client, family, gids, run.gate.scopes)
        crash.point("reconcile-listed" if isinstance(found, Listed) else "reconcile-confirmed")
        return found

    def _write(self, action: Action, run: Run) -> None:
        memory, turn = self.ledger.reconcile, run.turn
        match action:
            case Fence():
                self._fence(turn)
            case Remember():
                memory.put_pending(action.rows, action.propose)
                crash.point("reconcile-pending")
            case Forget():
                memory.remove_pending(action.rows)
                crash.point("reconcile-settled")
            case Advance():
                memory.advance(turn.shop, run.cursor, action.position, self.clock(), action.steps_from)
                crash.point("reconcile-advanced")

    def _fence(self, turn: Turn) -> None:
        if turn.writer is None:
            lane = "" if turn.lane == "states" else f".{turn.lane}"
            turn.writer = Writer.open(self.settings, f"reconcile.{turn.shop}{lane}")
            crash.point("reconcile-fenced")

    async def beginning(self, shop: str, family: Family) -> int | None:
        """When the tape of the family begins for the shop, as `TapeView.beginning`."""
        return await self._taped(lambda: self.tape.beginning(shop, family))

    async def _taped(self, read: Callable[[], T]) -> T:
        # One thread reads. If each pass waited in a thread of its own for its turn, none would be left to renew the passes' leases.
        async with self._reading:
            return await asyncio.to_thread(read)

    async def _read(self, action: ReadTape, run: Run) -> Taped:
        turn, family = run.turn, run.family

        def read() -> Taped:
            memory = self.ledger.reconcile
            intents = memory.intents(turn.shop, run.notes)
            if intents and not turn.dry:
                # A pass died over these: from here on they are on the tape, or never will be.
                self._fence(turn)
            watched = [*intents, *memory.intents(turn.shop, run.notes, "recorded")]
            coverage = self.tape.coverage(turn.shop, family, action.since, action.wanted, intents, watched, action.beyond)
            crash.point("reconcile-compared")
            turn.marks = dict(coverage.marks)
            if not turn.dry:
                self._settle(run, intents, coverage.synthetic, coverage.twins)
            return Taped(coverage)

        return await self._taped(read)

    def _settle(self, run: Run, intents: list[Intent], seen: set[str], twins: set[str]) -> None:
        """What a killed pass left open and the tape shows is recorded; whose webhook came after all has a twin."""
        shop, family, memory = run.turn.shop, run.notes, self.ledger.reconcile
        if done := sorted(seen.intersection(intent.id for intent in intents)):
            _log.info("an earlier pass had recorded these and couldn't note it", shop=shop, events=len(done))
            memory.recorded(shop, family, done, self.clock())
        memory.undone(shop, family, [intent.id for intent in intents if intent.id not in seen])
        # A webhook whose synthetic event was intended and never written has no twin.
        real = twins.difference({intent.id for intent in intents} - seen)
        if late := memory.twinned(shop, family, sorted(real), self.clock()):
            metrics.RECONCILE_LATE_AFTER.labels(run.family.update).inc(late)
            run.turn.late_after[run.family.name] = run.turn.late_after.get(run.family.name, 0) + late

    def _record(self, items: tuple[Missing, ...], run: Run) -> Recorded:
        """Intent → transaction → mark. A kill between any two ends in "it's on the tape" or "it isn't: record it", never in two.

        The fence came before the tape was read to its end, and none of these was there: an intent that is still open is that
        of a pass that died before its transaction was committed.
        """
        turn, family, memory = run.turn, run.family, self.ledger.reconcile
        now = self.clock()
        version, home = run.client.version, run.gate.home
        built = [(item, synthetic.build(turn.shop, family, item, version, round(now * 1_000_000), home, run.backfill)) for item in items]
        states = memory.intend(turn.shop, run.notes, [
            Intent(event.webhook_id, item.row.resource, _version(item), turn.marks)
            for item, event in built], now)  # fmt: skip
        crash.point("reconcile-intended")
        todo = [(item, event) for item, event in built if states[event.webhook_id] in ("new", "intended")]
        known = frozenset(item.row.resource for item, event in built if states[event.webhook_id] not in ("new", "intended"))
        if known:
            _log.warning("the ledger has them as recorded and the tape doesn't show them", shop=turn.shop, events=len(known))
        assert turn.writer is not None
        turn.writer.write([
            Outgoing(synthetic.kafka_topic(self._names, self.provisioned, event.topic), event.lane, self._wire.encode(event),
                     headers.of_event(event))
            for _, event in todo])  # fmt: skip
        crash.point("reconcile-committed")
        for item, event in todo:
            found = metrics.RECONCILE_DELETED if item.node is None else metrics.RECONCILE_MISSING
            (metrics.RECONCILE_BACKFILLED if run.backfill else found).labels(event.topic).inc()
            metrics.EVENTS_RECEIVED.labels(event.topic, event.source).inc()
        if todo:
            self._mark(todo, run)
        crash.point("reconcile-recorded")
        return Recorded(frozenset(item.row.resource for item, _ in todo), known)

    def _mark(self, done: list[tuple[Missing, Event]], run: Run) -> None:
        turn, family, ids = run.turn, run.family, [event.webhook_id for _, event in done]
        if run.backfill:
            # On the tape, which is where the next run looks: a million of them needn't be remembered for webhooks that were never due.
            self.ledger.reconcile.undone(turn.shop, run.notes, ids)
            return
        self.ledger.reconcile.recorded(turn.shop, run.notes, ids, self.clock())
        detail = {"family": family.name, "epoch": turn.epoch,
                  "events": {event.webhook_id: item.row.resource for item, event in done}}  # fmt: skip
        deletions = any(item.node is None for item, _ in done)
        why = "the Admin API denies it and the tape doesn't know" if deletions else "the Admin API shows it and the tape doesn't"
        self.ledger.audit.append(self.clock(), WHO, "reconcile.record", turn.shop, why, detail)


def _version(item: Missing) -> int:
    """The version that the webhook has which this one stands for, should it come after all."""
    if item.node is None:
        return DELETED
    return item.at if item.step else item.row.version
