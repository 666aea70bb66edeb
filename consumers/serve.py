"""A worker as a process: signals, uvloop, metrics; and a supervisor for several of them."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from typing import Any

from hooktape import log, metrics
from hooktape.consumers import forward as forwarding
from hooktape.consumers.app import App, load
from hooktape.consumers.options import Options
from hooktape.consumers.worker import Worker
from hooktape.errors import HooktapeError
from hooktape.ledger.ledger import Ledger
from hooktape.settings import Settings
from hooktape.tape import topics
from hooktape.tape.publisher import Publisher

_log = log.get("hooktape.consumers")
# A worker that dies at once again and again must not spin; one that ran this long counts as sound.
_BACKOFF = (0.5, 1.0, 2.0, 5.0, 15.0)
_SOUND = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker process does; it can be sent to another process. `target` MODULE:APP, or `forward` an address."""

    settings: Settings
    options: Options
    target: str = ""
    group: str = ""
    forward: str = ""
    topics: tuple[str, ...] = ()
    concurrency: int = 16
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"

    def app(self) -> tuple[App, forwarding.Forwarder | None]:
        """The app to run. Raises UsageError, SettingsError."""
        if self.forward:
            forwarder = forwarding.Forwarder(self.forward, self.settings, self.concurrency)
            return forwarding.app(self.group, forwarder, self.topics or self.settings.topics, self.concurrency), forwarder
        app = load(self.target)
        if self.group and self.group != app.group:
            renamed = App(self.group)
            renamed.handlers, renamed.mapper = app.handlers, app.mapper
            app = renamed
        return app, None


def tune() -> None:
    """Settings of the whole process, for one that's a worker and nothing else."""
    # The ledger's thread gives the GIL away at each row and waits for it behind the busy loop, up to Python's 5 ms. Measured
    # with an empty handler on two busy cores, SQLite: 6,300 and 8,700 events/s with 5 ms, 12,200 and 12,500 with 1 ms.
    sys.setswitchinterval(0.001)
    # What's there now stays; and thousands of events in memory, looked through again at every 700 new objects, cost 1.3 µs of an event's 16
    # on the loop (measured without a broker). Events themselves hold no cycles.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run(job: Job, app: App, forwarder: forwarding.Forwarder | None = None) -> None:
    """Runs one worker until SIGTERM or SIGINT. Raises what ended it otherwise."""
    tune()
    if job.metrics_port is not None:
        port = metrics.serve(job.metrics_port, job.metrics_host)
        _log.info("metrics", address=f"http://127.0.0.1:{port}/metrics")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(job, app, forwarder))


async def _run(job: Job, app: App, forwarder: forwarding.Forwarder | None) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
            loop.add_signal_handler(number, stop.set)
    await asyncio.to_thread(topics.apply, job.settings, [app.group])
    ledger = await asyncio.to_thread(Ledger.open, job.settings.ledger_url)
    publisher = Publisher(job.settings)
    worker = Worker(app, job.settings, ledger, publisher, job.options)
    stopped = loop.create_task(stop.wait())
    try:
        await worker.start()
        _log.info("worker started", group=app.group, topics=len(app.handlers))
        ends: set[asyncio.Future[Any]] = {stopped, worker.failed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        _log.info("worker stopping", group=app.group)
    finally:
        stopped.cancel()
        await worker.stop()
        await publisher.close(2.0)
        if forwarder is not None:
            await forwarder.close()
        ledger.close()
    if worker.failed.done():
        worker.failed.result()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows has none
        return None
    return uvloop.new_event_loop


class Supervisor:
    """`workers` processes; one that dies is started again, later each time. SIGTERM and SIGINT end them all."""

    def __init__(self, job: Job, workers: int) -> None:
        self._job, self._spawn = job, multiprocessing.get_context("spawn")
        self._workers: list[BaseProcess | None] = [None] * workers
        self._deaths = [0] * workers
        self._born = [0.0] * workers
        self._due = [0.0] * workers
        self._stopping = threading.Event()

    def run(self) -> None:
        """Returns when all have ended after a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        while not self._stopping.is_set():
            for index in range(len(self._workers)):
                self._look(index)
            self._stopping.wait(0.2)
        for process in self._workers:
            if process is not None and process.is_alive():
                process.terminate()
        end = time.monotonic() + self._job.options.stop_within + 5
        for process in self._workers:
            if process is not None:
                process.join(max(end - time.monotonic(), 0.1))
                if process.is_alive():
                    process.kill()

    def _look(self, index: int) -> None:
        process, now = self._workers[index], time.monotonic()
        if process is not None and not process.is_alive():
            if now - self._born[index] > _SOUND:
                self._deaths[index] = 0
            pause = _BACKOFF[min(self._deaths[index], len(_BACKOFF) - 1)]
            _log.error("a worker died and is started again", worker=index, exit_code=process.exitcode, after=pause)
            self._deaths[index] += 1
            self._due[index], self._workers[index] = now + pause, None
        elif process is None and now >= self._due[index]:
            process = self._spawn.Process(target=_child, args=(self._job, index, os.getpid()), name=f"hooktape-worker-{index}")
            process.start()
            self._workers[index], self._born[index] = process, now


def _child(job: Job, index: int, parent: int) -> None:
    log.configure(job.settings.log_level, job.settings.log_format)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    if job.metrics_port:
        job = replace(job, metrics_port=job.metrics_port + index)
    try:
        app, forwarder = job.app()
        run(job, app, forwarder)
    except HooktapeError as error:
        print(f"hooktape: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _die_with(parent: int) -> None:
    """Stops this worker when its supervisor was killed: nobody would stop or restart it any more."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
