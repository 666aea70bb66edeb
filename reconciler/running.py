"""The reconciler as a service: passes on a schedule that the ledger keeps, several shops at once, each in its turn."""

import asyncio
from collections.abc import Sequence

from hooktape import log
from hooktape.errors import LedgerError
from hooktape.ledger.timetable import Timetable
from hooktape.reconciler import schedule
from hooktape.reconciler.family import Family
from hooktape.reconciler.report import Report
from hooktape.reconciler.schedule import Pass, Task
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings

_log = log.get("hooktape.reconciler")
# Passes at once: a slow or throttled shop takes one of the places, and the others go on.
_TOGETHER = 8
# Between two looks at the timetable at most, in seconds.
_LOOK = 1.0
# Of a lease: when a shop is looked at again at which another reconciler was found at work.
_BUSY = 1 / 6


class Service:
    """Runs passes until told to stop. `clock` gives epoch seconds, as the reconciler's."""

    def __init__(self, reconciler: Reconciler, settings: Settings, timetable: Timetable, shops: Sequence[str] = (),
                 families: Sequence[Family] = ()) -> None:  # fmt: skip
        self._reconciler, self._timetable = reconciler, timetable
        self._clock = reconciler.clock
        self._shops, self._families = reconciler.shops(shops), tuple(families)
        self._every = schedule.intervals(settings)
        self._busy = settings.reconcile_lease * _BUSY
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._elsewhere: dict[tuple[str, str], float] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Passes as they fall due, until `stop` is set; what has begun is finished. Raises SettingsError when no shop has a token."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                wait = _LOOK
                try:
                    wait = await self._begin()
                except LedgerError as error:
                    _log.error("the timetable can't be read; the next look tries again", error=str(error))
                await asyncio.wait([stopped, *self._tasks.values()], timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if any(task.done() for task in self._tasks.values()):
                    self._tasks = {key: task for key, task in self._tasks.items() if not task.done()}
        finally:
            stopped.cancel()
            await asyncio.gather(*self._tasks.values())

    async def _begin(self) -> float:
        """Begins what is due, as far as there are places; the seconds until the next look."""
        now = self._clock()
        await asyncio.to_thread(self._timetable.begin, schedule.first(self._shops, self._every, now))
        dues, parked = await asyncio.to_thread(lambda: (self._timetable.due(), self._timetable.parked()))
        busy = {*self._tasks, *(key for key, until in self._elsewhere.items() if until > now)}
        probes = {shop: entry.probe_at for shop, entry in parked.items()}
        for task in schedule.ready(dues, probes, self._shops, busy, now)[: _TOGETHER - len(self._tasks)]:
            self._tasks[task.shop, task.kind.lane] = asyncio.create_task(self._pass(task, dues[task.shop, task.kind]))
        ahead = [due - now for due in dues.values() if due > now]
        return max(0.01, min([_LOOK, *ahead]))

    async def _pass(self, task: Task, due: float) -> None:
        try:
            reports = await self._reconciler.pass_(task.shop, kind=task.kind, families=self._families,
                                                   due=lambda: self._is_due(task))  # fmt: skip
            now = self._clock()
            if any(report.reason == "busy" for report in reports):
                self._elsewhere[task.shop, task.kind.lane] = now + self._busy
            elif reports:
                await asyncio.to_thread(self._timetable.set, {(task.shop, task.kind): self._next(task, due, reports, now)})
            await self._reconciler.measure()
        except LedgerError as error:
            _log.error("a pass can't be noted in the timetable; it's made again", shop=task.shop, error=str(error))

    def _is_due(self, task: Task) -> bool:
        return self._timetable.due().get((task.shop, task.kind), 0.0) <= self._clock()

    def _next(self, task: Task, due: float, reports: Sequence[Report], now: float) -> float:
        every = self._every[task.kind]
        if any(report.behind for report in reports):
            return now
        # A fast pass goes over an open window again as a matter of course.
        if task.kind is Pass.FAST or all(report.complete for report in reports):
            return schedule.following(due, every, now)
        return schedule.again(every, now)
