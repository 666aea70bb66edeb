"""`hooktape ingest` as processes: one that serves, or several that share one socket and one /metrics.

Several: the parent listens, so that a connection that waits survives a worker's end; the workers accept. Each counts in files of
a temporary folder (prometheus_client's multiprocess mode), so that whichever worker is scraped answers for all.
"""

import asyncio
import gc
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from hooktape import log
from hooktape.errors import HooktapeError
from hooktape.settings import Settings

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# A worker's exit code for what a restart can't mend: a missing topic, no secret. EX_CONFIG of sysexits.h.
_SET_UP = 78
# A worker that ends again and again is started once a second, not in a tight loop.
_RESTART_PAUSE = 1.0
# The longest request, the flush and a second.
_STOP_SECONDS = 9.0
_log = log.get("hooktape.ingest")


def run(settings: Settings, host: str, port: int, workers: int = 1) -> None:
    """Serves until SIGTERM or SIGINT, then stops gracefully. Raises as `ingest.server.running`, and as `Supervisor.run`."""
    if workers == 1:
        _serve(settings, host, port, None)
    else:
        Supervisor(settings, host, port, workers).run()


def _serve(settings: Settings, host: str, port: int, listener: socket.socket | None) -> None:
    import uvloop

    from hooktape.ingest.server import serve

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        if parent := multiprocessing.parent_process():  # killed with -9, it must not leave workers on its port
            asyncio.get_running_loop().add_reader(parent.sentinel, stop.set)
        await serve(settings, host, port, stop=stop, listener=listener)

    # What is imported stays; requests leave hardly a cycle behind. With the default threshold of 700 the collector takes over 5 % of
    # the time at 256 connections.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    uvloop.run(main())


class Supervisor:
    """Keeps `workers` processes alive until told to stop."""

    def __init__(self, settings: Settings, host: str, port: int, workers: int) -> None:
        from hooktape.ingest.server import listen

        self._settings = settings
        self._listener = listen(host, port)
        self._workers = workers
        # Not fork: the client library's threads don't survive one.
        self._context = multiprocessing.get_context("spawn")
        self._stopping = False

    def run(self) -> None:
        """Blocks until SIGTERM or SIGINT. Raises HooktapeError when a worker finds that the set-up can't work."""
        folder = tempfile.mkdtemp(prefix="hooktape-metrics-")
        os.environ[METRICS_FOLDER] = folder  # read by prometheus_client when a worker imports it
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        processes: list[BaseProcess] = []
        started = time.monotonic()
        try:
            processes = [self._start() for _ in range(self._workers)]
            while not self._stopping:
                multiprocessing.connection.wait([process.sentinel for process in processes], timeout=0.2)
                for index, process in enumerate(processes):
                    if process.is_alive() or self._stopping:
                        continue
                    _forget(Path(folder), process.pid)
                    if process.exitcode == _SET_UP:
                        raise HooktapeError("a worker can't serve, as it said above; all workers are stopped.")
                    _log.error("a worker ended and is started again", pid=process.pid, exit_code=process.exitcode)
                    time.sleep(max(0.0, _RESTART_PAUSE - (time.monotonic() - started)))
                    started = time.monotonic()
                    processes[index] = self._start()
        finally:
            _end(processes)
            self._listener.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _start(self) -> BaseProcess:
        process = self._context.Process(target=_worker, args=(self._settings, self._listener), name="hooktape-ingest")
        process.start()
        return process


def _worker(settings: Settings, listener: socket.socket) -> None:
    log.configure(settings.log_level, settings.log_format)
    try:
        _serve(settings, "", 0, listener)
    except HooktapeError as error:
        print(f"hooktape: {error}", file=sys.stderr)
        sys.exit(_SET_UP)


def _end(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            _log.error("a worker didn't stop in time and is killed", pid=process.pid)
            process.kill()
            process.join()


def _forget(folder: Path, pid: int | None) -> None:
    """A dead worker's gauges stop counting; its counters stay, as they must."""
    for left in folder.glob(f"gauge_live*_{pid}.db"):
        left.unlink(missing_ok=True)
