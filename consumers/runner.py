"""Runs handlers: async ones on the loop, plain ones in threads, each with its time-out.

Each slot is one asyncio task that runs event after event: making a task per event would cost more than everything else a
worker does for it. A sweeper cancels what is overdue; a timer per event would, again, cost too much. The sweeper also sees the
heartbeats: a handler leaves a mark on its event, and the deadline moves to a time-out after the sweep that found it.
"""

import asyncio
import contextvars
import copy
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hooktape import log
from hooktape.consumers.app import Handler
from hooktape.consumers.classify import HandlerTimeout
from hooktape.consumers.clock import Clock
from hooktape.consumers.task import Task
from hooktape.consumers.threads import Threads

_log = log.get("hooktape.consumers")
Ended = Callable[[Task, BaseException | None, float], None]
"""Called on the loop: the event, its error or None, seconds in the handler."""
# Events that a slot runs one after the other before the loop gets a turn: handlers that never wait would keep it from all else.
_STREAK = 4


@dataclass(slots=True, eq=False)
class _Slot:
    task: Task | None = None
    started: float = 0.0
    deadline: float = 0.0
    overdue: bool = False
    waiting: "asyncio.Future[None] | None" = None
    inbox: deque[Task] = field(default_factory=deque)
    runner: "asyncio.Task[None] | None" = None


class Runner:
    """Slots for one process. `ended` gets every result. `stuck`: a thread has timed out and goes on, so its slot isn't free
    before `freed` says so. `broken` gets a fault of the worker's own, met while it dealt with a result."""

    def __init__(self, ended: Ended, stuck: Callable[[Handler], None], freed: Callable[[Handler], None],
                 broken: Callable[[BaseException], None], clock: Clock = time) -> None:  # fmt: skip
        self._ended, self._stuck, self._freed, self._broken, self._clock = ended, stuck, freed, broken, clock
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Slot] = []
        self._slots: list[_Slot] = []
        self._threads: dict[Handler, Threads] = {}

    def run(self, task: Task) -> None:
        """Starts an event. The caller keeps to the handler's concurrency."""
        slot = self._idle.pop() if self._idle else self._new()
        slot.inbox.append(task)
        if slot.waiting is not None and not slot.waiting.done():
            slot.waiting.set_result(None)

    def sweep(self, now: float) -> None:
        """Ends what is overdue; `now` by the clock's monotonic(). To be called several times a second."""
        for slot in self._slots:
            task = slot.task
            if task is None or slot.overdue or slot.runner is None:
                continue
            # Looked at before the deadline: a beat that came in time counts, however late the loop gets here.
            if task.event.beating:
                task.event.beating = False
                slot.deadline = now + _timeout(task)
            elif now > slot.deadline:
                task.event.lapsed = slot.overdue = True
                slot.runner.cancel()

    async def close(self) -> None:
        """Cancels all that runs; nothing is reported for it."""
        runners = [slot.runner for slot in self._slots if slot.runner is not None]
        for slot in self._slots:
            slot.overdue = False
        for runner in runners:
            runner.cancel()
        if runners:
            await asyncio.wait(runners, timeout=1.0)
        for threads in self._threads.values():
            threads.close()

    def _new(self) -> _Slot:
        slot = _Slot()
        self._slots.append(slot)
        slot.runner = self._loop.create_task(self._serve(slot), context=contextvars.Context())
        slot.runner.add_done_callback(self._look)
        return slot

    def _look(self, runner: "asyncio.Task[None]") -> None:
        """A slot ends by itself when its context isn't clean. Any other end is a fault of ours, and its event would hang."""
        if not runner.cancelled() and (error := runner.exception()) is not None:
            self._broken(error)

    async def _serve(self, slot: _Slot) -> None:
        clean, streak = True, 0
        while clean:
            if not slot.inbox:
                slot.waiting = self._loop.create_future()
                await slot.waiting
                slot.waiting = None
                streak = 0
            elif streak == _STREAK:
                await asyncio.sleep(0)
                streak = 0
            task = slot.inbox.popleft()
            error = await self._one(slot, task)
            seconds = self._clock.monotonic() - slot.started
            slot.task, slot.overdue = None, False
            # The slot began with an empty context. What a handler has bound in it mustn't colour the next event: a new slot.
            clean = not contextvars.copy_context()
            if clean:
                # Before the result is told: the event that follows it can begin here, without a turn of the loop in between.
                self._idle.append(slot)
                streak += 1
            else:
                self._slots.remove(slot)
            self._ended(task, error, seconds)

    async def _one(self, slot: _Slot, task: Task) -> BaseException | None:
        handler = task.handler
        assert isinstance(handler, Handler)
        slot.started = self._clock.monotonic()
        slot.deadline = slot.started + handler.timeout
        task.event.beating = False
        slot.task = task
        try:
            if handler.is_async:
                await handler.function(task.event)
            else:
                await self._in_thread(handler, task)
        except asyncio.CancelledError as error:
            if not slot.overdue:
                if slot.runner is not None and slot.runner.cancelling():
                    raise
                return error  # the handler's own: a task that it awaited was cancelled
            # The next try gets an event of its own: the mark is for this one's code, a thread above all, which may go on.
            task.event = copy.copy(task.event)
            task.event.beating = task.event.lapsed = False
            return HandlerTimeout(f"{handler.name} took longer than its timeout of {handler.timeout:g} s, counted from its start or "
                                  "its last heartbeat")  # fmt: skip
        # A `sys.exit()` in a handler too: it would end the worker, and each next one that gets the event.
        except (Exception, SystemExit, BaseExceptionGroup) as error:  # noqa: BLE001 - whatever a handler raises is a result
            return error
        finally:
            if slot.overdue and slot.runner is not None:
                slot.runner.uncancel()
        return None

    async def _in_thread(self, handler: Handler, task: Task) -> None:
        threads = self._threads.get(handler)
        if threads is None:
            threads = self._threads[handler] = Threads(handler.concurrency, handler.name)
        call = threads.call(handler.function, task.event)
        try:
            await call.future
        except asyncio.CancelledError:
            # A thread can't be killed. It keeps its slot until it ends by itself.
            task.event.lapsed = True
            if call.give_up(lambda: self._freed(handler)):
                _log.error("a handler's thread outlives its time-out; its result will be ignored", handler=handler.name,
                           event=str(task.event))  # fmt: skip
                self._stuck(handler)
            raise


def _timeout(task: Task) -> float:
    assert isinstance(task.handler, Handler)
    return task.handler.timeout
