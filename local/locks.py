"""Locks on files, as the kernel keeps them: a process that dies in any way, kill -9 included, lets go of all it held.

So whether a server runs, and who uses it, is asked of the kernel and never concluded from a process id in a file, which
may be another process's by now.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hooktape.errors import LocalStackError

POLL = 0.02  # seconds between two looks at a lock that someone holds: well below what a start or stop takes


def take(path: Path, *, shared: bool = False) -> int | None:
    """A file descriptor that holds the lock `path`, or None where it's held by someone else. Closing it lets go."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def is_free(path: Path) -> bool:
    """Whether nobody holds `path` exclusively."""
    if not path.exists():
        return True
    fd = take(path, shared=True)
    if fd is None:
        return False
    os.close(fd)
    return True


def wait_free(path: Path, seconds: float) -> bool:
    """Waits until nobody holds `path` exclusively; False when that took longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_free(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


@contextmanager
def held(path: Path, seconds: float, reason: str) -> Iterator[None]:
    """Holds `path` for the block. Raises LocalStackError with `reason` when it isn't to be had within `seconds`."""
    deadline = time.monotonic() + seconds
    while (fd := take(path)) is None:
        if time.monotonic() > deadline:
            raise LocalStackError(f"Waited {seconds:.0f} s: {reason}. Try again when it's done.")
        time.sleep(POLL)
    try:
        yield
    finally:
        os.close(fd)
