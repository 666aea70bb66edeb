"""Notices when the event loop stands still, and names the handler that holds it: every other event waits for that one."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterable

from hooktape import log, metrics
from hooktape.consumers.app import Handler

_log = log.get("hooktape.consumers")
_TICK = 0.1
# Standing still for less is a busy loop; from here on it's something that should have been awaited.
_BLOCKED = 1.0


class Watch:
    """Beats on the running loop and looks from a thread. `close` it on the loop."""

    def __init__(self, handlers: Iterable[Handler]) -> None:
        self._codes = {code: h.name for h in handlers if (code := getattr(h.function, "__code__", None)) is not None}
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat = time.monotonic()
        self._worst = 0.0
        self._closing = threading.Event()
        self._timer = self._loop.call_later(_TICK, self._tick)
        metrics.LOOP_GAP.set_function(self._take_worst)
        self._thread = threading.Thread(target=self._look, name="hooktape-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._timer.cancel()
        metrics.LOOP_GAP.set_function(lambda: 0.0)

    def _tick(self) -> None:
        now = time.monotonic()
        self._worst = max(self._worst, now - self._beat - _TICK)
        self._beat = now
        self._timer = self._loop.call_later(_TICK, self._tick)

    def _take_worst(self) -> float:
        worst, self._worst = self._worst, 0.0
        return max(worst, 0.0)

    def _look(self) -> None:
        said = 0.0
        while not self._closing.wait(_BLOCKED / 2):
            beat = self._beat
            if time.monotonic() - beat > _BLOCKED and beat != said:
                said = beat
                self._name_it(time.monotonic() - beat)

    def _name_it(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        frames = list(traceback.walk_stack(frame)) if frame is not None else []
        handler = next((self._codes[f.f_code] for f, _ in frames if f.f_code in self._codes), "none of the handlers")
        where = f"{frames[0][0].f_code.co_filename}:{frames[0][1]}" if frames else "?"
        _log.error("the event loop stands still: use await, or make the handler a plain function, which runs in a thread",
                   handler=handler, at=where, seconds=round(seconds, 1))  # fmt: skip
