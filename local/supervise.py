"""Starts, finds and stops one server per folder, whoever asks and however they end.

In the folder: `start.lock` (who starts or decides to stop), `running.lock` (held by the guard and the server while they
live: it alone says whether the server runs), `users.lock` (shared by all who use it), `guard.lock`, `state.json` (address
and process ids, believed only while `running.lock` is held).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hooktape.errors import LocalStackError
from hooktape.local import guard
from hooktape.local.locks import POLL, held, is_free, take, wait_free

Lifetime = Literal["parent", "detached"]

STOP_SECONDS = 10.0  # a clean stop takes under 1 s; after this the server is killed
TAIL_LINES = 15  # enough for the cause of a Java stack trace, little enough to read


@dataclass(frozen=True)
class Launch:
    """What to run: prepared only when nothing runs yet."""

    argv: list[str]
    address: str
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    user: str | None = None
    group: int | None = None
    leftovers: list[str] = field(default_factory=list)
    """Folders to remove when the server has ended."""
    cwd: Path | None = None
    """Where it runs; None: in its home."""


@dataclass(frozen=True)
class State:
    """A server that runs. `started` is in seconds since the epoch."""

    pid: int
    guard: int
    address: str
    started: float
    lifetime: Lifetime


class EndedEarly(LocalStackError):
    """The server ended before it was ready. Do: see the log file that the message names."""


class Server:
    """The server of one folder, named `name` in messages, its output in `log`."""

    def __init__(self, home: Path, name: str, log: Path) -> None:
        self.home, self.name, self.log = home, name, log
        self._running = home / "running.lock"
        self._users = home / "users.lock"

    def state(self) -> State | None:
        """The running server, or None."""
        if is_free(self._running):
            return None
        try:
            raw = json.loads((self.home / "state.json").read_text())
            return State(**raw)
        except (FileNotFoundError, ValueError, TypeError):
            return None  # it's being started: nobody can use it yet

    def start(
        self, lifetime: Lifetime, launch: Callable[[], Launch], ready: Callable[[str, float], bool], seconds: float
    ) -> tuple[State, int | None]:
        """Starts the server, or joins the one that runs. Returns its state and, for `parent`, the lock to hold on to.

        `ready(address, deadline)` waits a little for the server, and says whether it answers. `seconds` is the time from the
        launch to ready. Raises EndedEarly, or LocalStackError when it isn't ready in time; both show the log's last lines.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        reason = f"another process is starting {self.name} in {self.home}"
        with held(self.home / "start.lock", 4 * seconds, reason):
            while True:
                using = self._use() if lifetime == "parent" else None
                try:
                    launched = self._launch(lifetime, launch)
                    state = self._wait_ready(ready, seconds, launched)
                except BaseException:
                    if using is not None:
                        os.close(using)
                    raise
                if state is not None:
                    break
                if using is not None:
                    os.close(using)
            if lifetime == "detached" and state.lifetime != "detached":
                state = self._pin(state)
            return state, using

    def leave(self, using: int, seconds: float) -> None:
        """Gives up a use. The last user (and nobody else) stops a server that wasn't started as detached."""
        with held(self.home / "start.lock", seconds, f"another process is starting {self.name} in {self.home}"):
            os.close(using)
            state = self.state()
            if state is None or state.lifetime == "detached" or (alone := self._alone()) is None:
                return
            os.close(alone)
            self._stop(state, seconds)

    def stop(self, seconds: float) -> bool:
        """Stops the server, whoever uses it. False when none ran. Raises LocalStackError when it's still there after that."""
        if not self.home.exists():
            return False
        with held(self.home / "start.lock", seconds, f"another process is starting {self.name} in {self.home}"):
            if (state := self.state()) is None:
                return False
            self._stop(state, seconds)
            return True

    def tail(self) -> str:
        """The last lines of this run's log, and where it is; for error messages."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if self.log.exists() else []
        return f"Its log {self.log} ends with:\n" + "\n".join(f"  {line[:300]}" for line in lines)

    def _use(self) -> int:
        # Nobody holds it exclusively but a guard or a leaver, for an instant.
        while (fd := take(self._users, shared=True)) is None:
            time.sleep(POLL)
        return fd

    def _alone(self) -> int | None:
        """The lock of the last user; None while there are others. To be called with start.lock held."""
        if (found := take(self._users)) is not None:
            return found
        # The guard takes it for an instant when the last user has let go, before it waits for start.lock: once it's free to be shared,
        # only a user can be in the way.
        os.close(self._use())
        return take(self._users)

    def _launch(self, lifetime: Lifetime, launch: Callable[[], Launch]) -> bool:
        running = take(self._running)
        if running is None:
            return False
        try:
            (self.home / "state.json").unlink(missing_ok=True)
            plan = launch()
            order: dict[str, Any] = {
                "home": str(self.home), "log": str(self.log), "argv": plan.argv, "cwd": str(plan.cwd or self.home),
                "user": plan.user, "group": plan.group, "running_fd": running, "leftovers": plan.leftovers,
                "stop_signal": int(plan.stop_signal), "orphan_signal": int(plan.orphan_signal),
                "stop_seconds": STOP_SECONDS, "state": {"address": plan.address, "lifetime": lifetime},
            }  # fmt: skip
            subprocess.run(
                [sys.executable, "-I", guard.__file__], input=json.dumps(order), text=True, pass_fds=[running],
                start_new_session=True, stdout=subprocess.DEVNULL, check=True,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise LocalStackError(f"Couldn't start {self.name}: its guard ended with {error.returncode}. {self.tail()}") from None
        finally:
            os.close(running)
        return True

    def _wait_ready(self, ready: Callable[[str, float], bool], seconds: float, launched: bool) -> State | None:
        """The server when it answers; None when one that was found running has gone, so that a new one must be started."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = self.state()
            if state is not None and ready(state.address, deadline):
                return state
            if is_free(self._running):
                if launched:
                    raise EndedEarly(f"{self.name} ended while it started. {self.tail()}")
                return None
            time.sleep(POLL)
        state = self.state()
        if launched and state is not None:
            self._stop(state, STOP_SECONDS + 5)
        raise LocalStackError(f"{self.name} didn't answer within {seconds:.0f} s. {self.tail()}")

    def _pin(self, state: State) -> State:
        pinned = State(state.pid, state.guard, state.address, state.started, "detached")
        draft = self.home / "state.json.new"
        draft.write_text(json.dumps(pinned.__dict__))
        draft.replace(self.home / "state.json")
        return pinned

    def _stop(self, state: State, seconds: float) -> None:
        guarded = not is_free(self.home / "guard.lock")
        # The locks were held an instant ago, so the process id isn't another process's; it may just have ended by itself.
        with suppress(ProcessLookupError):
            os.kill(state.guard if guarded else state.pid, signal.SIGTERM)
        if not wait_free(self._running, seconds):
            raise LocalStackError(f"{self.name} (process {state.pid}) doesn't stop. {self.tail()}")
