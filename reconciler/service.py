"""`Reconciler`: passes over shops, one by one or on a schedule.

One lease per shop lets one reconciler work on it. A pass killed at any point is taken up by the next: pending rows and open
intents are in the ledger, what was published is on the tape, and the tape is read to its end before anything is decided.
"""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from hooktape import log, metrics
from hooktape.errors import AdminApiError, HooktapeError, Incomplete, LedgerError, TapeError
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler import api, core
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import Input, Options
from hooktape.reconciler.performing import Performer, Turn
from hooktape.reconciler.report import Report
from hooktape.settings import Settings

_log = log.get("hooktape.reconciler")
# Shops looked at together: a slow or throttled one holds up a place, not the round.
_TOGETHER = 8
# Longer than the longest wait for an acknowledgement (2 s, tape.clients) many times over: a killed holder's last record is on
# the tape by then, or never will be.
_LEASE_TTL = 30.0
_LEASE_POLL = 0.25
T = TypeVar("T")


class Reconciler:
    """Compares shops with the tape: `async with Reconciler(settings, ledger) as r: reports = await r.pass_(shop)`.

    `clock` gives epoch seconds and serves grace periods and leases; windows go by Shopify's own clock. Made on a running
    loop; may raise TapeUnavailable. The ledger, and `http` where given, stay the caller's to close.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        clock: Callable[[], float] = time.time,
        http: httpx.AsyncClient | None = None,
        families: Iterable[Family] = (FAMILIES["orders"], FAMILIES["products"], FAMILIES["customers"]),
        lease_ttl: float = _LEASE_TTL,
    ) -> None:
        self._settings, self._ledger, self._clock = settings, ledger, clock
        self._families = tuple(families)
        self._world = Performer(settings, ledger, clock)
        self._http = http or httpx.AsyncClient()
        self._owns_http = http is None
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._ttl = lease_ttl
        self._beginnings: dict[str, tuple[frozenset[str], dict[str, int]]] = {}
        self._beginning = asyncio.Lock()
        self._rounds = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the clients."""
        await self._world.close()
        if self._owns_http:
            await self._http.aclose()

    async def run(self, stop: asyncio.Event, shops: Sequence[str] = (), **options: Any) -> None:
        """A round every `reconcile_interval` seconds until `stop` is set; a round that has begun is finished."""
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self.round(shops, **options)
            except (TapeError, LedgerError) as error:
                _log.error("a round failed; the next one tries again", error=str(error))
            try:
                await asyncio.wait_for(stop.wait(), max(0.0, began + self._settings.reconcile_interval - time.monotonic()))
            except TimeoutError:
                continue

    async def round(self, shops: Sequence[str] = (), **options: Any) -> list[Report]:
        """One pass over each of `shops` (all that have a token), with the options of `pass_`. A shop's fault is in its reports.

        Raises SettingsError when no shop has a token.
        """
        names = sorted(shops or self._settings.require("shop_tokens", "it names the shops to reconcile and their tokens"))
        # Round robin: each round begins with another shop, so that none is always last.
        turn = self._rounds % len(names)
        self._rounds += 1
        slots = asyncio.Semaphore(_TOGETHER)

        async def one(shop: str) -> list[Report]:
            async with slots:
                return await self.pass_(shop, **options)

        found = await asyncio.gather(*(one(shop) for shop in names[turn:] + names[:turn]))
        await self._ask(self._measure)
        return sorted((report for reports in found for report in reports), key=lambda r: (r.shop, r.family))

    async def pass_(
        self,
        shop: str,
        *,
        families: Sequence[Family] = (),
        since: int | None = None,
        until: int | None = None,
        now: bool = False,
        dry_run: bool = False,
        wait: bool = False,
    ) -> list[Report]:
        """One pass over the families of one shop; a report for each. Errors are in the reports, none is raised.

        `since` and `until` (microseconds) set the window by hand; `now` does without the grace period, for after a known
        outage; `dry_run` compares and confirms alike and writes nothing; `wait` waits for another reconciler's lease.
        """
        chosen = tuple(families) or self._families
        settings = self._settings
        options = Options(settings.reconcile_overlap, settings.reconcile_lag, 0.0 if now else settings.reconcile_grace,
                          settings.retention_days * 86400.0, since, until)  # fmt: skip
        blank = [Report(shop, family.name, dry_run=dry_run) for family in chosen]
        try:
            if dry_run:
                return await self._shop(Turn(shop, options, None), chosen)
            epoch = await self._acquire(shop, wait)
            if epoch is None:
                held = f"another reconciler works on {shop}; its lease ends {self._ttl:g} s after its last sign of life"
                return [replace(report, reason="busy", error=held) for report in blank]
            return await self._held(Turn(shop, options, epoch), chosen)
        except HooktapeError as error:
            _log.warning("a shop wasn't reconciled", shop=shop, reason=_reason(error), error=str(error))
            return [replace(report, reason=_reason(error), error=str(error)) for report in blank]
        except Exception as error:  # noqa: BLE001 - whatever one shop's answers provoke must not stop the others
            _log.error("a shop's pass failed", shop=shop, exc=error)
            failed = f"{type(error).__name__} in the pass over {shop}: see the log"
            return [replace(report, reason="bug", error=failed) for report in blank]

    async def _acquire(self, shop: str, wait: bool) -> int | None:
        deadline = time.monotonic() + self._ttl + _LEASE_POLL
        while True:
            epoch = await self._ask(lambda: self._ledger.leases.acquire(_lease(shop), self._owner, self._clock(), self._ttl))
            if epoch is not None or not wait or time.monotonic() > deadline:
                return epoch
            await asyncio.sleep(_LEASE_POLL)

    async def _held(self, turn: Turn, families: Sequence[Family]) -> list[Report]:
        beat = asyncio.create_task(self._heartbeat(turn))
        try:
            return await self._shop(turn, families)
        finally:
            beat.cancel()
            # With a record's fate unknown the lease runs out by itself: by then it is on the tape, or never will be.
            if not turn.unsettled:
                await self._ask(lambda: self._ledger.leases.release(_lease(turn.shop), self._owner))

    async def _heartbeat(self, turn: Turn) -> None:
        while True:
            await asyncio.sleep(self._ttl / 3)
            try:
                await self._renew(turn)
            except (Incomplete, LedgerError) as error:
                # Recording asks again, and stops the pass if the lease is gone.
                _log.warning("a lease wasn't renewed", shop=turn.shop, error=str(error))

    async def _renew(self, turn: Turn) -> None:
        if not await self._ask(lambda: self._ledger.leases.renew(_lease(turn.shop), self._owner, self._clock(), self._ttl)):
            raise Incomplete(f"the lease of {turn.shop} is lost: this pass was held up for over {self._ttl:g} s")

    async def _shop(self, turn: Turn, families: Sequence[Family]) -> list[Report]:
        client = AdminClient(self._settings, turn.shop, self._http)
        gate = await api.gate(client)
        reports = []
        for family in families:
            report = await self._family(turn, client, gate, family)
            reports.append(report)
            if not turn.dry:
                await self._ask(lambda r=report, f=family: self._keep(r, f))  # type: ignore[misc]
        return reports

    async def _family(self, turn: Turn, client: AdminClient, gate: api.Gate, family: Family) -> Report:
        wanted = [topic for topic in family.topics if topic in self._world.provisioned]
        unchecked = {topic: family.unchecked[topic] for topic in wanted if topic in family.unchecked}
        report = Report(turn.shop, family.name, unverifiable=unchecked, dry_run=turn.dry, epoch=turn.epoch)
        if not family.readable(gate.scopes):
            missing = f"the app has no scope read_{family.name}"
            return replace(report, reason="scope", error=missing, unverifiable=dict.fromkeys(wanted, missing))
        spent, state = client.spent, None
        try:
            state, actions = await self._begin(turn, gate, family)
            while actions:
                found: Input | None = None
                for action in actions:
                    found = await self._world.perform(action, turn, family, client, gate, self._renew)
                if found is None:
                    break
                state, actions = core.step(state, found)
        except HooktapeError as error:
            _log.warning("a window stays open", shop=turn.shop, family=family.name, reason=_reason(error), error=str(error))
            report = replace(report, reason=_reason(error), error=str(error))
        if state is None:
            return report
        counted = None if state.window.empty else state.counted
        return replace(report, window=(state.window.start, state.window.end), counted=counted, tally=core.tally(state),
                       complete=state.complete, points=client.spent - spent, missing=state.missing)  # fmt: skip

    async def _begin(self, turn: Turn, gate: api.Gate, family: Family) -> core.Step:
        memory = self._ledger.reconcile
        cursor = await self._ask(lambda: memory.cursor(turn.shop, family.name))
        begun = await self._coverage_from(turn, gate, family) if cursor.coverage_from is None else cursor.coverage_from
        pending = await self._ask(lambda: memory.pending(turn.shop, family.name))
        shown = family.horizon[1] if family.horizon and family.horizon[0] not in gate.scopes else None
        return core.begin(turn.shop, family, cursor, begun, pending, turn.options, now=self._clock(), shop_now=gate.shop_now,
                          horizon_days=shown)  # fmt: skip

    async def _coverage_from(self, turn: Turn, gate: api.Gate, family: Family) -> int:
        """When recording began: with the tape's oldest record of the shop, or now. Nothing older is ever missing."""
        oldest = await self._oldest(turn.shop, family)
        begun = (gate.shop_now if oldest is None else min(oldest, gate.shop_now)) // core.SECOND * core.SECOND
        if turn.dry:
            return begun
        return await self._ask(lambda: self._ledger.reconcile.cover_from(turn.shop, family.name, begun))

    async def _oldest(self, shop: str, family: Family) -> int | None:
        """When the tape's oldest record of the shop was appended. One scan answers for all shops that have a token."""
        async with self._beginning:
            scanned, found = self._beginnings.get(family.name, (frozenset(), {}))
            if shop not in scanned:
                scanned = frozenset({shop, *self._settings.shop_tokens})
                found = dict(await asyncio.to_thread(self._world.tape.beginnings, scanned, family))
                self._beginnings[family.name] = scanned, found
        return found.get(shop)

    def _keep(self, report: Report, family: Family) -> None:
        metrics.RECONCILE_COMPARED.labels(family.update).inc(report.tally.shown)
        metrics.RECONCILE_LATE.labels(family.update).inc(report.tally.late)
        self._ledger.reconcile.add_report(self._clock(), report.shop, report.family, report.as_json())

    def _measure(self) -> None:
        metrics.RECONCILE_PENDING.set(len(self._ledger.reconcile.pending()))
        for shop, moment in self._ledger.reconcile.last_success().items():
            metrics.RECONCILE_LAST_SUCCESS.labels(shop).set(moment)

    async def _ask(self, question: Callable[[], T]) -> T:
        """The ledger answers from a thread: a lock there must not stop the loop."""
        return await asyncio.to_thread(question)


def _lease(shop: str) -> str:
    return f"reconcile/{shop}"


def _reason(error: HooktapeError) -> str:
    if isinstance(error, AdminApiError):
        return error.reason
    if isinstance(error, Incomplete):
        return "lease_lost"
    return "tape" if isinstance(error, TapeError) else "ledger" if isinstance(error, LedgerError) else "failed"
