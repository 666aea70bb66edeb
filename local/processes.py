"""The services as processes of their own, for `up`, `demo` and `soak`: started, waited for, stopped together."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from hooktape.errors import HooktapeError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# A worker finishes what runs within its own deadline (see `consume --help`); after this it's killed.
STOP_SECONDS = 20.0


class ServiceFailed(HooktapeError):
    """A service ended by itself or didn't get ready. Do: read the end of its log, which the message holds."""


class Service:
    """One `hooktape …` process; its output goes to `log`, line by line to `echo` as well."""

    def __init__(self, name: str, words: Sequence[str], env: Mapping[str, str], log: Path,
                 echo: Callable[[str, str], None] | None = None) -> None:  # fmt: skip
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._echo = echo
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hooktape", *words], env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", preexec_fn=_tied_to(os.getpid()),
            # Not in our group: a Ctrl-C reaches us alone, and we stop the services in order.
            start_new_session=True,
        )  # fmt: skip
        self._pump = threading.Thread(target=self._copy, daemon=True)
        self._pump.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def _copy(self) -> None:
        assert self._process.stdout is not None
        with self.log.open("a") as file:
            for line in self._process.stdout:
                file.write(line)
                file.flush()
                if self._echo:
                    self._echo(self.name, line.rstrip("\n"))

    def wait_for(self, url: str, seconds: float = 30.0) -> None:
        """Waits until `url` answers 200. Raises ServiceFailed when the process ends first or the time is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            try:
                if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise ServiceFailed(f"{self.name} wasn't ready after {seconds:g} s; its log {self.log} ends with:\n{self.tail()}")

    def check(self) -> None:
        """Raises ServiceFailed when the process has ended."""
        if self.code is not None:
            self._pump.join(timeout=2)
            raise ServiceFailed(f"{self.name} ended with status {self.code}; its log {self.log} ends with:\n{self.tail()}")

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def ask_to_stop(self) -> None:
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Asks it to stop and waits; kills it after `seconds`."""
        self.ask_to_stop()
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Waits for its end; kills it after `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pump.join(timeout=2)


def stop_all(services: Sequence[Service]) -> None:
    """Asks all at once, the last started first, then waits for each."""
    for service in reversed(services):
        service.ask_to_stop()
    for service in reversed(services):
        service.stop()


def _tied_to(parent: int) -> Callable[[], None] | None:
    """On Linux, a service ends when we do, kill -9 included; elsewhere only when we stop it."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return tie
