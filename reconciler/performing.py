"""Performs the actions of a pure pass: asks the API, reads the tape, writes the ledger, records what is missing."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hooktape import log, metrics
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler import api, synthetic
from hooktape.reconciler.bodies.values import Home
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import (
    Action,
    Advance,
    Count,
    Fetch,
    Forget,
    Input,
    List,
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
from hooktape.tape.publisher import Publisher
from hooktape.tape.wire import Wire

_log = log.get("hooktape.reconciler")
WHO = "reconciler"


@dataclass(slots=True)
class Turn:
    """One shop's pass. `epoch`: of its lease; None in a dry run, which writes nothing.

    `unsettled`: something was handed to Kafka and its fate isn't known.
    """

    shop: str
    options: Options
    epoch: int | None
    unsettled: bool = False

    @property
    def dry(self) -> bool:
        return self.epoch is None


class Performer:
    """The outside world of a pass. Made on a running loop; `close` it. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], float]) -> None:
        self.settings, self.ledger, self.clock = settings, ledger, clock
        self.provisioned = frozenset(shopify.expand(settings.topics))
        self.tape = TapeView(settings)
        self._names = Names(settings.topic_prefix)
        self._wire = Wire(settings)
        self._publisher: Publisher | None = None

    async def close(self) -> None:
        """Ends the clients."""
        if self._publisher is not None:
            await self._publisher.close()
        await asyncio.to_thread(self.tape.close)

    async def perform(self, action: Action, turn: Turn, family: Family, client: AdminClient, gate: api.Gate,
                      renew: Callable[[Turn], Awaitable[None]]) -> Input | None:  # fmt: skip
        """What the action found; None for the ledger's, which find nothing."""
        match action:
            case Count():
                return await api.count(client, family, action.query)
            case List():
                return await api.page(client, family, action.query, action.after)
            case Fetch():
                return await api.fetch(client, family, action.gids, gate.scopes)
            case ReadTape():
                return await self._read(action, turn, family)
            case Record() if turn.dry:
                return Recorded(frozenset(item.row.resource for item in action.items))
            case Record():
                # Whoever took over the lease meanwhile decides by a newer look at the tape than this one.
                await renew(turn)
                return await self._record(action.items, turn, family, client.version, gate.home)
            case _ if not turn.dry:
                await asyncio.to_thread(self._write, action, turn, family)
        return None

    def _write(self, action: Remember | Forget | Advance, turn: Turn, family: Family) -> None:
        match action:
            case Remember():
                self.ledger.reconcile.put_pending(action.rows)
            case Forget():
                self.ledger.reconcile.remove_pending(action.rows)
            case Advance():
                self.ledger.reconcile.advance(turn.shop, family.name, action.position, self.clock())

    async def _read(self, action: ReadTape, turn: Turn, family: Family) -> Taped:
        coverage = await asyncio.to_thread(self.tape.coverage, turn.shop, family, action.since)
        if not turn.dry and coverage.synthetic:
            await asyncio.to_thread(self._settle, coverage.synthetic)
        return Taped(coverage)

    def _settle(self, seen: set[str]) -> None:
        """What a killed pass left open and the tape shows is recorded."""
        done = sorted(seen.intersection(self.ledger.reconcile.intents()))
        if done:
            _log.info("an earlier pass had recorded these and couldn't note it", events=len(done))
            self.ledger.reconcile.recorded(done, self.clock())

    async def _record(self, items: tuple[Missing, ...], turn: Turn, family: Family, version: str, home: Home) -> Recorded:
        """Intent → tape → mark. A kill between any two ends in "it's on the tape" or "it isn't: record it", never in two.

        The caller has read the tape to its end under the lease, and none of these was there: an intent that is still open
        then is that of a pass that died before it published.
        """
        built = [(item, synthetic.build(turn.shop, family, item, version, round(self.clock() * 1_000_000), home)) for item in items]
        states = await asyncio.to_thread(lambda: [self.ledger.reconcile.intend(e.webhook_id, self.clock()) for _, e in built])
        todo = [pair for pair, state in zip(built, states, strict=True) if state != "recorded"]
        known = frozenset(item.row.resource for (item, _), state in zip(built, states, strict=True) if state == "recorded")
        if known:
            _log.warning("the ledger has them as recorded and the tape doesn't show them", shop=turn.shop, events=len(known))
        if self._publisher is None:
            self._publisher = Publisher(self.settings)
        turn.unsettled = True
        await asyncio.gather(*(
            self._publisher.publish(synthetic.kafka_topic(self._names, self.provisioned, event.topic), self._wire.encode(event),
                                    key=event.lane, extra=headers.of_event(event))
            for _, event in todo))  # fmt: skip
        turn.unsettled = False
        for _, event in todo:
            metrics.RECONCILE_MISSING.labels(event.topic).inc()
            metrics.EVENTS_RECEIVED.labels(event.topic, event.source).inc()
        if todo:
            await asyncio.to_thread(self._mark, todo, turn, family)
        return Recorded(frozenset(item.row.resource for item, _ in todo), known)

    def _mark(self, done: list[tuple[Missing, Event]], turn: Turn, family: Family) -> None:
        self.ledger.reconcile.recorded([event.webhook_id for _, event in done], self.clock())
        detail = {"family": family.name, "epoch": turn.epoch,
                  "events": {event.webhook_id: item.row.resource for item, event in done}}  # fmt: skip
        why = "the Admin API shows it and the tape doesn't"
        self.ledger.audit.append(self.clock(), WHO, "reconcile.record", turn.shop, why, detail)
