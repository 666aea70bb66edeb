"""`Reconciler`: passes over shops, one by one or on a schedule.

One lease per shop and lane lets one reconciler work on it, and a fence makes sure that none writes after it has lost the lease. A
pass killed at any point is taken up by the next: pending rows and open intents are in the ledger, what was published is on
the tape, and the tape is read to its end before anything is decided.
"""

import asyncio
import contextlib
import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from hooktape import crash, log
from hooktape.errors import AdminApiError, Fenced, HooktapeError, LedgerError, TapeError
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler import api, core, protected, schedule
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.measuring import Figures
from hooktape.reconciler.moves import Input, Look, Options
from hooktape.reconciler.pacing import Pace
from hooktape.reconciler.performing import WHO, Performer, Run, Turn, back_of, cursor_of
from hooktape.reconciler.report import Report
from hooktape.reconciler.schedule import Pass
from hooktape.reconciler.standing import SECOND, Standing, State
from hooktape.settings import Settings

_log = log.get("hooktape.reconciler")
_LEASE_POLL = 0.25
# A twentieth of the time at most: of 5,000 shops the figures take 0.3 s, and seventeen passes a second end.
_MEASURING = 20.0
T = TypeVar("T")


class Reconciler:
    """Compares shops with the tape: `async with Reconciler(settings, ledger) as r: reports = await r.pass_(shop)`.

    `families`: None for all that have a topic among HOOKTAPE_TOPICS. `clock` gives epoch seconds and serves grace periods and leases;
    windows go by Shopify's own clock. Made on a running loop; may raise TapeUnavailable, and SettingsError where it isn't said which
    shops there are. The ledger, and `http` where given, stay the
    caller's to close.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        clock: Callable[[], float] = time.time,
        http: httpx.AsyncClient | None = None,
        families: Iterable[Family] | None = None,
        lease_ttl: float | None = None,
    ) -> None:
        self._settings, self._ledger, self.clock = settings, ledger, clock
        self._http = http or httpx.AsyncClient()
        self.access = Access(settings, self._http, clock=clock)
        self._world = Performer(settings, ledger, clock, self._http)
        self._owns_http = http is None
        self._families = tuple(self._wanted() if families is None else families)
        self._figures = Figures(settings, ledger, clock, self._families)
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        # A pass renews it three times within; after a kill the shop waits this long for the next one.
        self._ttl = settings.reconcile_lease if lease_ttl is None else lease_ttl
        self._measured_again = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the clients."""
        await self._world.close()
        if self._owns_http:
            await self._http.aclose()

    def _wanted(self) -> list[Family]:
        """The families whose topics have logs: of the others' webhooks nothing says that they are subscribed to."""
        return [family for family in FAMILIES.values() if self._world.provisioned.intersection(family.topics) - family.unchecked.keys()]

    async def round(self, shops: Sequence[str] = (), **options: Any) -> list[Report]:
        """One pass over each of `shops` (all that have a token), with the options of `pass_`. A shop's fault is in its reports.

        Raises SettingsError for one that has none, AdminApiError when nobody can tell which have.
        """
        slots = asyncio.Semaphore(self._settings.reconcile_at_once)

        async def one(shop: str) -> list[Report]:
            async with slots:
                return await self.pass_(shop, **options)

        found = await asyncio.gather(*(one(shop) for shop in await self.access.shops(shops)))
        await self.measure()
        return sorted((report for reports in found for report in reports), key=lambda r: (r.shop, r.family))

    async def pass_(
        self,
        shop: str,
        *,
        kind: Pass = Pass.FAST,
        families: Sequence[Family] = (),
        since: int | None = None,
        until: int | None = None,
        now: bool = False,
        dry_run: bool = False,
        accept: bool = False,
        wait: bool = False,
        rate: float | None = None,
        progress: Callable[[str, int], None] = lambda family, events: None,
        due: Callable[[], bool] = lambda: True,
    ) -> list[Report]:
        """One pass over the families of one shop; a report for each. Errors are in the reports, none is raised.

        `since` and `until` (microseconds) set the window by hand; `now` does without the grace period, for after a known
        outage; `dry_run` compares and confirms alike and writes nothing; `accept` records the deletions that are held; `wait` waits
        for another reconciler's lease. `rate`: events recorded a second, at most; `progress` gets (family, events) as they are. `due` is
        asked under the lease: another reconciler may have made the pass meanwhile, and then nothing is done or reported.
        """
        chosen = tuple(families) or self._families
        settings = self._settings
        options = Options(
            settings.reconcile_overlap, settings.reconcile_lag, 0.0 if now else settings.reconcile_grace, settings.retention_days * 86400.0,
            since, until, reach=settings.reconcile_lookback if kind is Pass.LOOKBACK else None, apart=settings.reconcile_apart,
            suspect=settings.reconcile_suspect, accept=accept, rate=rate,
        )  # fmt: skip
        blank = [Report(shop, family.name, kind=kind, dry_run=dry_run) for family in chosen]
        try:
            if dry_run:
                return await self._shop(Turn(shop, options, None), chosen, kind)
            name = _lease(shop, kind)
            # The pass's, not the process's: a look back that the doctor asks for and a pass on schedule may meet in one.
            owner = f"{self._process}:{uuid.uuid4().hex[:8]}"
            epoch = await self._acquire(name, owner, wait)
            if epoch is None:
                held = f"another reconciler works on {shop}; its lease ends {self._ttl:g} s after its last sign of life"
                return [replace(report, reason="busy", error=held) for report in blank]
            return await self._held(Turn(shop, options, epoch, owner, lane=kind.lane, progress=progress), name, chosen, kind, due)
        except HooktapeError as error:
            _log.warning("a shop wasn't reconciled", shop=shop, reason=_reason(error), error=str(error))
            failed = [replace(report, reason=_reason(error), error=str(error)) for report in blank]
            if not dry_run:
                with contextlib.suppress(LedgerError):
                    await self._park(shop, error)
                    await self._ask(lambda: self._keep(failed))
            return failed
        except Exception as error:  # noqa: BLE001 - whatever one shop's answers provoke must not stop the others
            _log.error("a shop's pass failed", shop=shop, exc=error)
            said = f"{type(error).__name__} in the pass over {shop}: see the log"
            failed = [replace(report, reason="bug", error=said) for report in blank]
            if not dry_run:
                with contextlib.suppress(LedgerError):
                    await self._ask(lambda: self._keep(failed))
            return failed

    async def look_back(self, shop: str, families: Sequence[Family], since: int | None) -> None:
        """Compares again what changed since `since` (microseconds; None: as far as a look-back goes), for after a known fault. What looks
        missing waits out its grace period as ever. Waits for another pass's lease, and leaves it to the next look-back where that takes
        longer than the lease of one that was killed."""
        chosen = [family for family in families if family in self._families]
        kind = Pass.LOOKBACK if since is None else Pass.FAST
        if chosen and any(report.reason == "busy" for report in await self.pass_(shop, kind=kind, families=chosen, since=since, wait=True)):
            _log.warning("another pass works on the shop; what was missed is left to the next look-back", shop=shop)

    async def _park(self, shop: str, error: HooktapeError) -> None:
        """Notes that the shop's API is closed, and when it's tried again."""
        if (reason := _reason(error)) not in schedule.PARKING:
            return
        now = self.clock()

        def note() -> None:
            earlier = self._ledger.timetable.parked().get(shop)
            self._ledger.timetable.park(shop, reason, now, schedule.probe(earlier.since if earlier else now, now))

        await self._ask(note)

    async def _acquire(self, name: str, owner: str, wait: bool) -> int | None:
        deadline = time.monotonic() + self._ttl + _LEASE_POLL
        while True:
            epoch = await self._ask(lambda: self._ledger.leases.acquire(name, owner, self.clock(), self._ttl))
            if epoch is not None or not wait or time.monotonic() > deadline:
                return epoch
            await asyncio.sleep(_LEASE_POLL)

    async def _held(self, turn: Turn, name: str, families: Sequence[Family], kind: Pass, due: Callable[[], bool]) -> list[Report]:
        beat = asyncio.create_task(self._heartbeat(turn, name))
        try:
            return await self._shop(turn, families, kind) if await self._ask(due) else []
        finally:
            beat.cancel()
            if turn.writer is not None:
                await asyncio.to_thread(turn.writer.close)
            try:
                await self._ask(lambda: self._ledger.leases.release(name, turn.owner))
            except LedgerError as error:
                # What the pass has done is done, and the lease ends by itself.
                _log.warning("a lease wasn't given back", shop=turn.shop, error=str(error))

    async def _heartbeat(self, turn: Turn, name: str) -> None:
        while True:
            await asyncio.sleep(self._ttl / 3)
            try:
                await self._renew(turn, name)
            except Fenced as error:
                # For good. The pass ends at its next step: one that goes on to the fence stops whoever has the shop by now.
                turn.lost = error
                return
            except LedgerError as error:
                # Recording asks again.
                _log.warning("a lease wasn't renewed", shop=turn.shop, error=str(error))

    async def _renew(self, turn: Turn, name: str) -> None:
        if not await self._ask(lambda: self._ledger.leases.renew(name, turn.owner, self.clock(), self._ttl)):
            # Not the one family's affair: all that this pass would still do is another's now.
            raise Fenced(f"the lease of {turn.shop} is lost: this pass was held up for over {self._ttl:g} s")

    async def _shop(self, turn: Turn, families: Sequence[Family], kind: Pass) -> list[Report]:
        client = AdminClient(self._settings, turn.shop, self._http, self.access, pace=Pace(self._ledger.budgets, turn.shop))
        gate = await api.gate(client)
        crash.point("reconcile-gated")
        if not turn.dry and await self._ask(lambda: self._ledger.timetable.unpark(turn.shop)):
            _log.info("a shop's Admin API is open again", shop=turn.shop)
        reports = []
        for family in families:
            report = await self._family(turn, client, gate, family, kind)
            reports.append(report)
            if not turn.dry:
                await self._ask(lambda r=report: self._keep([r]))  # type: ignore[misc]
        if kind is Pass.LOOKBACK and not turn.dry:
            kept = self.clock() - turn.options.retention
            await self._ask(lambda: self._ledger.reconcile.forget_intents(kept))
        return reports

    async def _family(self, turn: Turn, client: AdminClient, gate: api.Gate, family: Family, kind: Pass) -> Report:
        wanted = [topic for topic in family.topics if topic in self._world.provisioned]
        unchecked = {topic: family.unchecked[topic] for topic in wanted if topic in family.unchecked}
        report = Report(turn.shop, family.name, kind=kind, unverifiable=unchecked, dry_run=turn.dry, epoch=turn.epoch, complete=True)
        if not wanted:
            why = f"none of {family.name}/* is among HOOKTAPE_TOPICS, so that no webhook of it is expected"
            return replace(report, reason="unwanted", error=why, complete=False)
        if not family.readable(gate.scopes):
            missing = "the app has no scope " + " or ".join(f"read_{scope}" for scope in family.scopes or (family.name,))
            return replace(report, reason="scope", error=missing, unverifiable=dict.fromkeys(wanted, missing), complete=False)
        deletes, blind = family.delete in wanted, self._horizon(gate, family)
        if blind is not None and deletes:
            hides = f"without the scope {family.horizon[0]} the API hides what is there" if family.horizon else ""
            report = replace(report, unverifiable={**unchecked, family.delete: hides})
        spent = client.spent
        try:
            for look in looks(kind, family, deletes):
                with contextlib.closing(self._world.lister(turn, look)) as lister:
                    run = Run(turn, family, look, client, gate, lambda turn: self._renew(turn, _lease(turn.shop, kind)), lister)
                    report = await self._run(run, report, frozenset(wanted))
        except Fenced:
            raise
        except HooktapeError as error:
            _log.warning("a window stays open", shop=turn.shop, family=family.name, reason=_reason(error), error=str(error))
            report = replace(report, reason=_reason(error), error=str(error), complete=False)
            if report.reason == protected.REASON:
                report = replace(report, unverifiable=dict.fromkeys(wanted, str(error)))
            if isinstance(error, TapeError) and turn.writer is not None:
                # What became of its last transaction isn't known: the next one that is opened settles it.
                await asyncio.to_thread(turn.writer.close)
                turn.writer = None
        except Exception as error:  # noqa: BLE001 - whatever one family's answers provoke must not stop the others
            _log.error("a family's pass failed", shop=turn.shop, family=family.name, exc=error)
            said = f"{type(error).__name__} in the pass over {family.name}: see the log"
            report = replace(report, reason="bug", error=said, complete=False)
        late_after = turn.late_after.pop(family.name, 0)
        return replace(report, points=client.spent - spent, tally=replace(report.tally, late_after=late_after))

    async def _run(self, run: Run, report: Report, topics: frozenset[str]) -> Report:
        """One look at a family; the report with what it found."""
        standing = await self._standing(run, topics)
        if run.look is Look.STATES and (window := await self._left_open(run)):
            standing = replace(standing, options=replace(standing.options, since=window[0], until=window[1]))
        state, actions = core.begin(standing, run.look, self._horizon(run.gate, run.family))
        asked = state.window
        if run.backfill:
            await self._audit(run, "begins", {"window": [asked.start, asked.end], "rate": standing.options.rate})
        while actions:
            found: Input | None = None
            for action in actions:
                found = await self._world.perform(action, run)
            if found is None:
                break
            state, actions = core.step(state, found)
        await self._looked_back(run, state)
        if run.backfill:
            await self._audit(run, "ended", {"complete": state.complete, "recorded": core.tally(state).recorded})
        part = state.window.end < asked.end
        # The next pass begins where the cursor is, and so goes on with the rest: not where it didn't move, nor of a look back or by hand.
        follows = part and state.advances and standing.options.since is None and standing.options.reach is None
        report = replace(report, tally=report.tally.plus(core.tally(state)), missing=report.missing + state.missing,
                         complete=report.complete and state.complete and (follows or not part),
                         behind=report.behind or (follows and state.window.end > (standing.cursor.position or 0)))  # fmt: skip
        if not run.look.of_states:
            return report
        counts = core.counts(state)
        return replace(report, window=(state.window.start, state.window.end), exact=state.exact and counts,
                       counted=state.counted if counts and not state.window.empty else None)  # fmt: skip

    async def _audit(self, run: Run, what: str, detail: Mapping[str, Any]) -> None:
        """A backfill's beginning and end; each of its events needn't be told of by itself."""
        if not run.turn.dry:
            told = {"family": run.family.name, "epoch": run.turn.epoch, **detail}
            await self._ask(lambda: self._ledger.audit.append(self.clock(), WHO, "reconcile.backfill", run.turn.shop, what, told))

    async def _left_open(self, run: Run) -> tuple[int, int] | None:
        """The window of a bulk operation that an earlier process began, where nobody has named another by hand."""
        options = run.turn.options
        if run.turn.dry or options.since is not None or options.until is not None:
            return None
        return await run.lister.resumable(run.turn.shop, run.family)

    @staticmethod
    def _horizon(gate: api.Gate, family: Family) -> int | None:
        """How many days back the API shows the family; None: it shows all."""
        return family.horizon[1] if family.horizon and family.horizon[0] not in gate.scopes else None

    async def _standing(self, run: Run, topics: frozenset[str]) -> Standing:
        memory, turn, family = self._ledger.reconcile, run.turn, run.family
        begun = (await self._ask(lambda: memory.cursor(turn.shop, family.name))).coverage_from
        if begun is None:
            begun = await self._coverage_from(turn, run.gate, family)
        cursor = await self._ask(lambda: memory.cursor(turn.shop, cursor_of(family, run.look)))
        back = (await self._ask(lambda: memory.cursor(turn.shop, back_of(family, run.look)))).position
        # As much over as there is between two that come in time.
        over = max(0.0, self._settings.reconcile_lookback - self._settings.reconcile_lookback_interval)
        pending = await self._ask(lambda: memory.pending(turn.shop, family.name))
        return Standing(turn.shop, family, cursor, begun, turn.options, self.clock(), run.gate.shop_now, pending, topics,
                        None if back is None else back - round(over * SECOND))  # fmt: skip

    async def _looked_back(self, run: Run, state: State) -> None:
        """Notes how far look-backs have come. The first pass of all looks at all there is, and so is one."""
        standing, options = state.standing, state.standing.options
        back = standing.looked_back is None or options.reach is not None
        if back and state.agreed and not state.window.empty and options.since is None and not run.turn.dry and not run.backfill:
            name = back_of(run.family, run.look)
            await self._ask(lambda: self._ledger.reconcile.advance(run.turn.shop, name, state.window.end, self.clock()))

    async def _coverage_from(self, turn: Turn, gate: api.Gate, family: Family) -> int:
        """When recording began: with the tape's oldest record of the shop, or now. Nothing older is ever missing."""
        oldest = await self._world.beginning(turn.shop, family)
        begun = (gate.shop_now if oldest is None else min(oldest, gate.shop_now)) // SECOND * SECOND
        if turn.dry:
            return begun
        return await self._ask(lambda: self._ledger.reconcile.cover_from(turn.shop, family.name, begun))

    def _keep(self, reports: Sequence[Report]) -> None:
        now = self.clock()
        # A backfill's findings are no missed webhooks.
        for report in (each for each in reports if each.kind != Pass.BACKFILL):
            self._figures.ended(report)
            self._ledger.reports.add(report.kept(now))

    async def measure(self) -> None:
        """Sets the gauges from the ledger; not while that would take more than a small part of the time. Raises LedgerError."""
        began = time.monotonic()
        if began < self._measured_again:
            return
        self._measured_again = math.inf
        try:
            await self._ask(lambda: self._figures.measure(self.access.listed))
        finally:
            self._measured_again = began + _MEASURING * (time.monotonic() - began)

    async def _ask(self, question: Callable[[], T]) -> T:
        """The ledger answers from a thread: a lock there must not stop the loop."""
        return await asyncio.to_thread(question)


def _lease(shop: str, kind: Pass) -> str:
    return f"reconcile/{shop}/{kind.lane}"


def looks(kind: Pass, family: Family, deletes: bool) -> tuple[Look, ...]:
    """What a pass looks at of a family, in this order; `deletes`: its deletions are wanted on the tape."""
    if kind is Pass.BACKFILL:
        return (Look.BACKFILL,)
    if kind is Pass.SWEEP:
        return (Look.SWEEP,) if deletes and family.swept else ()
    return (Look.STATES, Look.DELETIONS) if deletes else (Look.STATES,)


def _reason(error: HooktapeError) -> str:
    if isinstance(error, AdminApiError):
        return error.reason
    if isinstance(error, Fenced):
        return "lease_lost"
    return "tape" if isinstance(error, TapeError) else "ledger" if isinstance(error, LedgerError) else "failed"
