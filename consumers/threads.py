"""Threads for plain handlers. One wake-up of the loop brings all results that have gathered.

Not `ThreadPoolExecutor` with `wrap_future`: two futures, two locks and a wake-up for each call cost the loop more than the rest of an
event's way (benchmarks/parallel.py), and the interpreter waits for its threads at exit, a stuck handler's included.
"""

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Call:
    """One call: `future` ends on the loop. `give_up` when nobody waits for it any more."""

    __slots__ = ("argument", "begun", "freed", "function", "future", "unwanted")

    def __init__(self, function: Callable[[Any], object], argument: Any, future: "asyncio.Future[None]") -> None:
        self.function, self.argument, self.future = function, argument, future
        self.begun = self.unwanted = False
        self.freed: Callable[[], None] | None = None

    def give_up(self, freed: Callable[[], None]) -> bool:
        """True: it has begun, and nobody can stop it; `freed` is called on the loop when it has ended by itself."""
        self.unwanted = True
        if self.begun:
            self.freed = freed
        return self.begun


class Threads:
    """Up to `most` threads, made as they're needed. To be used on the running loop."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._ended: deque[tuple[Call, BaseException | None]] = deque()
        self._told = False
        self._threads = 0
        self._under_way = 0

    def call(self, function: Callable[[Any], object], argument: Any) -> Call:
        """Runs `function(argument)` in a thread, in a context of its own: what it binds there doesn't colour the next call."""
        call = Call(function, argument, self._loop.create_future())
        self._under_way += 1
        if self._under_way > self._threads and self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._serve, name=f"hooktape-{self._name}-{self._threads}", daemon=True).start()
        self._calls.put(call)
        return call

    def close(self) -> None:
        """Threads end after what they're at; nothing is waited for."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call.begun = True
            error: BaseException | None = None
            if not call.unwanted:
                try:
                    contextvars.Context().run(call.function, call.argument)
                except BaseException as fault:  # noqa: BLE001 - whatever a handler raises is a result
                    # A future doesn't take the first of these, and the second would end the loop, though nobody has interrupted that.
                    ours = isinstance(fault, StopIteration | KeyboardInterrupt)
                    error = RuntimeError(f"the handler raised {fault!r}") if ours else fault
            self._ended.append((call, error))
            if not self._told:
                self._told = True
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        # Before the look: what ends from here on sends a wake-up of its own.
        self._told = False
        while self._ended:
            call, error = self._ended.popleft()
            self._under_way -= 1
            if call.freed is not None:
                call.freed()
            elif not call.future.done():
                if error is None:
                    call.future.set_result(None)
                else:
                    call.future.set_exception(error)
