"""The guard: a small process between a local server and those who use it. It's run as a file, with nothing but the
standard library, so that it starts in 20 ms and doesn't depend on where `hooktape` is imported from.

It starts the server, writes its output to a log of bounded size, and stops it when nobody uses it any more. Every user
holds a shared lock on one file for as long as it lives; when the guard gets that lock for itself, the last one is gone,
however it ended. (A pipe to the parent would do for one user; a forked child that inherits its other end would keep the
server for ever.) Should the guard itself be killed, Linux ends the server with a signal; elsewhere the server stays, its
lock tells so, and the next start or stop finds it.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

LOG_BYTES = 4 * 1024 * 1024  # a start and stop log 170 KB; there are two of them, this run's newest and the one before
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class BoundedLog:
    """A log file and the one before it, `LOG_BYTES` each. A new run starts a new file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rotate()

    def _rotate(self) -> None:
        if self._path.exists():
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._path.open("wb", buffering=0)
        self._size = 0

    def write(self, line: bytes) -> None:
        # A full disk must not stop the server's output, and with it the server.
        with contextlib.suppress(OSError):
            if self._size + len(line) > LOG_BYTES:
                self._file.close()
                self._rotate()
            self._size += self._file.write(line)


class Guard:
    """`order` is what `supervise` wrote: see there for its keys."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._home = Path(order["home"])
        self._log = BoundedLog(Path(order["log"]))
        self._stopping = threading.Event()

    def run(self) -> None:
        mine = (self._home / "guard.lock").open("a")
        fcntl.flock(mine, fcntl.LOCK_EX)  # as long as this process lives; the server doesn't inherit it
        try:
            self._run()
        except Exception as error:
            self._log.write(f"the server couldn't be started: {error!r}\n".encode())
            raise

    def _run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._server = subprocess.Popen(
            self._order["argv"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=self._order["cwd"], user=self._order["user"], extra_groups=None if self._order["user"] is None else [],
            group=self._order["group"], pass_fds=[self._order["running_fd"]], preexec_fn=self._tie(), bufsize=0,
        )  # fmt: skip
        self._write_state()
        threading.Thread(target=self._wait_for_users, daemon=True).start()
        assert self._server.stdout is not None
        with os.fdopen(os.dup(self._server.stdout.fileno()), "rb") as output:
            for line in output:
                self._log.write(line)
        code = self._server.wait()
        self._log.write(f"ended with {_ending(code)}\n".encode())
        for leftover in self._order["leftovers"]:
            shutil.rmtree(leftover, ignore_errors=True)

    def stop(self) -> None:
        """Asks the server to end, and kills it if it hasn't after `stop_seconds`."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._server.send_signal(self._order["stop_signal"])
        killer = threading.Timer(self._order["stop_seconds"], self._server.kill)
        killer.daemon = True
        killer.start()

    def _tie(self) -> Any:
        if sys.platform != "linux":
            return None
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        guard, orphaned = os.getpid(), self._order["orphan_signal"]

        def tie() -> None:
            # Runs in the child, after it changed its user (that change would clear the setting).
            prctl(PR_SET_PDEATHSIG, orphaned, 0, 0, 0)
            if os.getppid() != guard:
                os.kill(os.getpid(), signal.SIGKILL)

        return tie

    def _write_state(self) -> None:
        state = {**self._order["state"], "pid": self._server.pid, "guard": os.getpid(), "started": time.time()}
        draft = self._home / "state.json.new"
        draft.write_text(json.dumps(state))
        draft.replace(self._home / "state.json")

    def _wait_for_users(self) -> None:
        with (self._home / "users.lock").open("a") as users, (self._home / "start.lock").open("a") as starting:
            while True:
                fcntl.flock(users, fcntl.LOCK_EX)  # waits as long as anyone uses the server
                fcntl.flock(users, fcntl.LOCK_UN)
                # Nobody may join between the decision and the end: whoever starts holds this.
                fcntl.flock(starting, fcntl.LOCK_EX)
                if self._is_detached():
                    return  # `supervise.stop` ends it
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    fcntl.flock(starting, fcntl.LOCK_UN)
                    continue
                self.stop()
                self._server.wait()
                return

    def _is_detached(self) -> bool:
        state: dict[str, Any] = json.loads((self._home / "state.json").read_text())
        return bool(state["lifetime"] == "detached")


def _ending(code: int) -> str:
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def main() -> None:
    order = json.load(sys.stdin)
    # Twice removed from who started it: no zombie is left there, and no signal of its terminal comes here.
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    Guard(order).run()


if __name__ == "__main__":
    main()
