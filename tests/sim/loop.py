"""Virtual time: processes with an event loop each, on one schedule that a `choose` function decides.

    ready callbacks of all processes ──choose(n)──▶ one runs; none ready ──▶ time moves to the next timer

Nothing waits for a real clock, a thread or a socket, so the same choices give the same run. A process can be killed (its callbacks
never run again, mid-flight as they are) and frozen (they wait). A choice of 0 is always the plain one (first come, no delay, no
fault): what Hypothesis shrinks towards.
"""

import asyncio
import contextvars
import heapq
import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from random import Random
from typing import Any

from hooktape.errors import HooktapeError

Choose = Callable[[int], int]
"""A number in [0, n)."""
# A day and hour that any process might have; the ledger's rows lead with the day.
EPOCH = 1_790_000_000.0


def seeded(seed: int) -> Choose:
    """Choices of a seed. `randrange` would cost three times as much."""
    draw = Random(seed).random
    return lambda n: int(draw() * n)


class Stuck(Exception):
    """Nothing is ready and no timer runs, or a run took more steps than it may."""


class Simulation:
    """The schedule. `now` in virtual seconds since the start."""

    def __init__(self, choose: Choose, most_steps: int = 5_000_000) -> None:
        self.choose = choose
        self.now = 0.0
        self.steps = 0
        self.current: Process | None = None
        self.faults: list[str] = []
        """Exceptions that nobody caught, in any process that lives."""
        self._most = most_steps
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = 0
        self.outside = Process(self, "outside")

    def chance(self, share: float) -> bool:
        """True in this share of the cases; never for a choice of 0."""
        return share > 0 and self.choose(1000) >= 1000 * (1 - share)

    def delay(self, least: float, most: float) -> float:
        """Seconds between the two, the least for a choice of 0."""
        return least + (most - least) * self.choose(64) / 64

    def ready(self, handle: asyncio.Handle) -> None:
        self._ready.append(handle)

    def at(self, when: float, handle: asyncio.TimerHandle) -> None:
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, handle))

    def run(self, until: Callable[[], bool]) -> None:
        """Runs callbacks until `until()` says so. Raises Stuck."""
        ready, timers, choose = self._ready, self._timers, self.choose
        while not until():
            while timers and timers[0][0] <= self.now:
                handle: asyncio.Handle = heapq.heappop(timers)[2]
                if not handle.cancelled():
                    ready.append(handle)
            if not ready:
                if not timers:
                    raise Stuck("nothing will ever happen again")
                self.now = max(self.now, timers[0][0])
                continue
            handle = ready.pop(choose(len(ready)) if len(ready) > 1 else 0)
            process: Process = handle._loop  # type: ignore[attr-defined]
            if handle.cancelled() or process.dead:
                continue
            if process.frozen:
                process.parked.append(handle)
                continue
            self.steps += 1
            if self.steps > self._most:
                raise Stuck(f"more than {self._most} steps")
            self.current = process
            asyncio._set_running_loop(process)
            try:
                handle._run()
            finally:
                asyncio._set_running_loop(None)
                self.current = None


class Process(asyncio.AbstractEventLoop):
    """One simulated process: an event loop of its own, and threads that do their work in one instant after a virtual delay."""

    def __init__(self, sim: Simulation, name: str, skew: float = 0.0) -> None:
        self.sim, self.name, self.skew = sim, name, skew
        self.dead = False
        self.frozen = False
        self.thawed = -1.0
        """When it last woke from a freeze."""
        self.parked: list[asyncio.Handle] = []
        self.thread_delay: Callable[[], float] = lambda: sim.delay(0.0, 0.004)
        self._threads: dict[Executor, deque[Callable[[], None]]] = {}
        # Kept to the end: a coroutine that is collected runs its `finally`, and the dead do nothing.
        self._tasks: list[asyncio.Task[Any]] = []

    # ── life and death ──────────────────────────────────────────────────────────────────────────────────────────────
    def kill(self) -> None:
        """As SIGKILL: nothing of it ever runs again."""
        self.dead = True
        self.parked.clear()

    def freeze(self, frozen: bool) -> None:
        """As SIGSTOP and SIGCONT."""
        self.frozen = frozen
        if not frozen:
            self.thawed = self.sim.now
            parked, self.parked = self.parked, []
            for handle in parked:
                self.sim.ready(handle)

    def bury(self) -> None:
        """At the run's end: what never began is closed, so that nobody complains of it."""
        self.kill()
        for task in self._tasks:
            coro = task.get_coro()
            if inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
                coro.close()

    def unheard(self) -> list[str]:
        """Errors of tasks that nobody has asked for."""
        return [repr(task.exception()) for task in self._tasks
                if task.done() and not task.cancelled() and getattr(task, "_log_traceback", False) and task.exception()]  # fmt: skip

    # ── what a worker sees as its clock ─────────────────────────────────────────────────────────────────────────────
    def monotonic(self) -> float:
        return self.sim.now

    def wall(self) -> float:
        return EPOCH + self.sim.now + self.skew

    # ── asyncio ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def time(self) -> float:
        return self.sim.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.sim.current is self

    def is_closed(self) -> bool:
        return self.dead

    def call_soon(self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.dead:
            self.sim.ready(handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any,
                             context: contextvars.Context | None = None) -> asyncio.Handle:  # fmt: skip
        return self.call_soon(callback, *args, context=context)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any,
                   context: contextvars.Context | None = None) -> asyncio.TimerHandle:  # fmt: skip
        return self.call_at(self.sim.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any,
                context: contextvars.Context | None = None) -> asyncio.TimerHandle:  # fmt: skip
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.dead:
            self.sim.at(when, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # the schedule passes it over

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None,
                    context: contextvars.Context | None = None) -> "asyncio.Task[Any]":  # fmt: skip
        task = asyncio.Task(coro, loop=self, name=name or "", context=context)
        self._tasks.append(task)
        if self.dead:
            coro.close()
        return task

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        """Done in one instant, `thread_delay` after it was asked for, and answered as long again after that.

        Calls to one executor take turns: those that the worker has of its own have one thread.
        """
        future = self.create_future()

        def work() -> None:
            try:
                result, error = func(*args), None
            except (HooktapeError, ArithmeticError, LookupError, TypeError, ValueError, AssertionError) as fault:
                result, error = None, fault
            self.call_later(self.thread_delay(), answer, result, error)

        def answer(result: object, error: Exception | None) -> None:
            if not future.done():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(result)
            if executor is not None:
                queue = self._threads[executor]
                queue.popleft()
                if queue:
                    self.call_later(self.thread_delay(), queue[0])

        if executor is None:
            self.call_later(self.thread_delay(), work)
            return future
        if getattr(executor, "_shutdown", False):
            raise RuntimeError("cannot schedule new futures after shutdown")
        queue = self._threads.setdefault(executor, deque())
        queue.append(work)
        if len(queue) == 1:
            self.call_later(self.thread_delay(), work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead and "destroyed" not in context["message"]:
            self.sim.faults.append(f"{self.name}: {context['message']}: {context.get('exception')!r}")
