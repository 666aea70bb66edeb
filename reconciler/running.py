"""The reconciler as a service: passes and the doctor's looks on a schedule that the ledger keeps, several shops at once, each in its
turn."""

import asyncio
from collections.abc import Sequence

from hooktape import log
from hooktape.errors import AdminApiError, LedgerError
from hooktape.ledger.timetable import Timetable
from hooktape.reconciler import schedule
from hooktape.reconciler.doctor.visiting import Doctor
from hooktape.reconciler.family import Family
from hooktape.reconciler.report import Report
from hooktape.reconciler.schedule import Pass, Task
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings

_log = log.get("hooktape.reconciler")
# Between two looks at the timetable at most, in seconds.
_LOOK = 1.0
# Docker kills 10 s after it has asked to stop.
_LEAVING = 5.0
# Between two questions at a start which shops there are.
_UNLISTED = 10.0
# By which a clock is set back when it's set right, in seconds; less only holds passes up by as much.
_SET_BACK = 60.0
# Of a lease: when a shop is looked at again at which another reconciler was found at work, or something failed.
_BUSY = 1 / 6


class Service:
    """Runs passes and the doctor until told to stop. `clock` gives epoch seconds, as the reconciler's."""

    def __init__(self, reconciler: Reconciler, doctor: Doctor, settings: Settings, timetable: Timetable, shops: Sequence[str] = (),
                 families: Sequence[Family] = ()) -> None:  # fmt: skip
        self._reconciler, self._doctor, self._timetable = reconciler, doctor, timetable
        self._clock = reconciler.clock
        self._chosen, self._families = frozenset(shops), tuple(families)
        self._begun: frozenset[str] = frozenset()
        self._untried: set[str] | None = None
        self._every = schedule.intervals(settings)
        # A slow or throttled shop takes one of them, and the others go on.
        self._places = settings.reconcile_at_once
        self._busy = settings.reconcile_lease * _BUSY
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._not_before: dict[tuple[str, str], float] = {}
        self._looked = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Passes as they fall due, until `stop` is set; what has begun is finished if that takes seconds, and else left to the next start.
        Shops may come and go meanwhile."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                wait = _LOOK
                try:
                    wait = await self._begin()
                except LedgerError as error:
                    _log.error("the timetable can't be read; the next look tries again", error=str(error))
                except AdminApiError as error:
                    wait = _UNLISTED
                    _log.error("nobody says yet which shops there are", error=str(error), again_in=wait)
                await asyncio.wait([stopped, *self._tasks.values()], timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if any(task.done() for task in self._tasks.values()):
                    self._tasks = {key: task for key, task in self._tasks.items() if not task.done()}
        finally:
            stopped.cancel()
            await self._leave()

    async def _leave(self) -> None:
        """Lets what runs come to its end, or gives it up: a pass may wait for a bulk operation for hours, and can be ended at any point."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks.values(), timeout=_LEAVING)
        for task in late:
            task.cancel()
        # Each gives its lease back, so that nobody has to wait for its end.
        await asyncio.gather(*late, return_exceptions=True)

    async def _begin(self) -> float:
        """Begins what is due, as far as there are places; the seconds until the next look."""
        now = self._clock()
        if now < self._looked - _SET_BACK:
            # Whatever was noted for later may have been by the wrong time: as at a start.
            self._begun, self._untried, self._not_before = frozenset(), None, {}
        self._looked = now
        shops = frozenset(await self._reconciler.access.shops())
        shops = shops & self._chosen if self._chosen else shops
        if new := shops - self._begun:
            # What is due later was noted by another interval, or another clock.
            latest = {name: now + every for name, every in self._every.items()}
            await asyncio.to_thread(self._timetable.begin, schedule.first(new, self._every, now), latest)
        self._begun = shops
        (dues, following), parked = await asyncio.to_thread(lambda: (self._timetable.due_by(now), self._timetable.parked()))
        busy = {*self._tasks, *(key for key, until in self._not_before.items() if until > now)}
        if self._untried is None:
            # Who starts the service has most often just set what was wrong.
            self._untried = set(parked)
        probes = {shop: entry.probe_at for shop, entry in parked.items() if shop not in self._untried}
        for task in schedule.ready(dues, probes, shops, busy, now, self._places)[: self._places - len(self._tasks)]:
            if task.name != schedule.DOCTOR:
                self._untried.discard(task.shop)
            self._tasks[task.shop, task.lane] = asyncio.create_task(self._do(task, dues[task.shop, task.name]))
        return _LOOK if following is None else max(0.01, min(_LOOK, following - now))

    async def _do(self, task: Task, due: float) -> None:
        try:
            following = await self._done(task, due)
            if following is not None:
                await asyncio.to_thread(self._timetable.set, {(task.shop, task.name): following})
        except LedgerError as error:
            # At once it would fail again, as fast as that goes.
            self._put_off(task)
            _log.error("what was done can't be noted in the timetable; it's done again", shop=task.shop, what=task.name, error=str(error))

    async def _done(self, task: Task, due: float) -> float | None:
        """When it's due again; None: it's another reconciler's. Raises LedgerError."""
        try:
            return await (self._look(task, due) if task.name == schedule.DOCTOR else self._pass(task, due))
        except LedgerError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one shop's answers provoke must not stop the others
            _log.error("a pass or a look of the doctor failed", shop=task.shop, what=task.name, exc=error)
            return schedule.again(self._every[task.name], self._clock())

    async def _pass(self, task: Task, due: float) -> float | None:
        """When it's due again; None: another reconciler works on the shop, or has just done so."""
        kind = Pass(task.name)
        reports = await self._reconciler.pass_(task.shop, kind=kind, families=self._families, due=lambda: self._is_due(task))
        await self._reconciler.measure()
        if any(report.reason == "busy" for report in reports):
            self._put_off(task)
            return None
        if not reports and not await asyncio.to_thread(self._is_due, task):
            return None
        # Without reports, too: where no topic is wanted that can be checked, there's nothing to compare.
        return self._next(kind, due, reports, self._clock())

    async def _look(self, task: Task, due: float) -> float | None:
        """The same of the doctor."""
        look = await self._doctor.look(task.shop, due=lambda: self._is_due(task))
        if look is None:
            self._put_off(task)
            return None
        return schedule.following(due, self._every[task.name], self._clock())

    def _put_off(self, task: Task) -> None:
        self._not_before[task.shop, task.lane] = self._clock() + self._busy

    def _is_due(self, task: Task) -> bool:
        return self._timetable.due(task.shop).get((task.shop, task.name), 0.0) <= self._clock()

    def _next(self, kind: Pass, due: float, reports: Sequence[Report], now: float) -> float:
        every = self._every[kind]
        if any(report.behind for report in reports):
            return now
        # A fast pass goes over an open window again as a matter of course.
        if kind is Pass.FAST or all(report.complete for report in reports):
            return schedule.following(due, every, now)
        return schedule.again(every, now)
