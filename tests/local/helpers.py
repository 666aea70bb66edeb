"""Processes that use a local server, and the truth about processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

_HOLD = """
import sys
from pathlib import Path
from importlib import import_module
server = import_module("hooktape.local." + sys.argv[1]).start(Path(sys.argv[2]), lifetime=sys.argv[3])
print(server.pid, flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass
class Holder:
    """Another process that starts (or joins) the server of `home` and uses it until it's told to leave, or killed."""

    process: subprocess.Popen[str]

    def server_pid(self) -> int:
        """Waits until the server is ready there."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the holder ended with {self.process.wait()}"
        return int(line)

    def leave(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def hold(what: str, home: Path, lifetime: str = "parent") -> Holder:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", _HOLD, what, str(home), lifetime]
    return Holder(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment))


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has collected yet doesn't."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Waits for a condition; a server ends within 0.5 s here, so `seconds` is only met when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
