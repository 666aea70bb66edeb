"""Named points at which a process can be made to kill itself, so that a test dies exactly between two steps.

    HOOKTAPE_TEST_MODE=1 HOOKTAPE_CRASH=recorded-not-committed:3 hooktape consume shop.handlers:app

The process sends itself SIGKILL at its third passage of that point: nothing is flushed, no `finally` runs, as when the kernel
kills it. With `recorded-not-committed:3:stop` it's SIGSTOP: it stands still there until somebody sends it SIGCONT. A passage
costs one comparison while nothing is armed (measured: 27 ns). Outside test mode HOOKTAPE_CRASH is refused: a variable left
behind must not kill a shop's worker.
"""

import os
import signal
from collections.abc import Callable, Mapping

from hooktape.errors import SettingsError

# What has happened when a process passes the point; the only list of them.
POINTS = {
    # ingest
    "body-read": "A request's body is whole and nothing has been published.",
    "acked-not-answered": "Kafka has acknowledged the record; Shopify hasn't got its 200.",
    # consumers, in the order of an event's way
    "owned-not-started": "A partition is owned in the ledger; none of its events has been started.",
    "fetched": "Records have come from Kafka; none has been checked against the ledger.",
    "checked": "The ledger has said that an event may run; its handler hasn't been called.",
    "effect-not-recorded": "The handler has returned; its success hasn't been handed to the ledger.",
    "transaction-begun": "The handler's own transaction has begun; nothing is written in it.",
    "in-transaction": "The handler has written what it wanted in its own transaction; the success isn't in it.",
    "transaction-recorded": "The success is in the handler's transaction too; its commit wasn't asked for.",
    "transaction-committed": "The handler's transaction, success included, is committed; the handler doesn't know yet.",
    "transaction-returned": "A handler whose transaction is committed has returned; the worker has drawn no conclusion.",
    "recorded-not-committed": "The ledger holds the outcome; the offset isn't committed.",
    "before-letter": "A try has failed; nothing has gone to a retry or dead-letter topic.",
    "letter-acked-not-recorded": "Kafka has acknowledged the record in the retry topic; the ledger knows nothing of it.",
    "hold-letter-acked-not-recorded": "Kafka has the record of an event that waits behind another; the ledger knows nothing of it.",
    "dead-letter-acked-not-recorded": "Kafka has acknowledged the dead letter; the ledger knows nothing of it.",
    "in-revoke": "Partitions are being taken away; what they leave behind isn't committed.",
    # reconciler, in the order of a pass
    "reconcile-gated": "A shop's gate is passed and its lease held; nothing has been asked for.",
    "reconcile-listed": "A page of a list has come; nothing has been compared.",
    "reconcile-compared": "The tape has been read to its end; what it lacks isn't noted as pending.",
    "reconcile-pending": "What looks missing is pending in the ledger.",
    "reconcile-confirmed": "It has been fetched by id and is still missing; the tape hasn't been read again.",
    "reconcile-fenced": "Earlier writers for the shop can write no more; the tape hasn't been read again.",
    "reconcile-intended": "The intent to record it is in the ledger; nothing has gone to Kafka.",
    "reconcile-in-transaction": "Its records are on Kafka in an open transaction.",
    "reconcile-committed": "The transaction is committed; the ledger doesn't know.",
    "reconcile-recorded": "The ledger knows it as recorded; it's pending still.",
    "reconcile-settled": "It isn't pending any more; the cursor hasn't moved.",
    "reconcile-advanced": "The cursor has moved; the report isn't kept.",
    # replayer
    "replay-planning": "A page of a plan is in the ledger; the plan isn't whole.",
    "replay-batch-read": "Events of a job have been read from the ledger and the tape; none of them has been handed over.",
    "replay-half-published": "Some of a job's events have been given to Kafka; others haven't, and none is known to be there.",
    "replay-acked-not-recorded": "Kafka has acknowledged events of a job; the job's cursor doesn't know.",
    "replay-recorded": "The job's cursor has moved; what follows hasn't been handed over.",
    "replay-verifying": "All of a job's events are handed over; outcomes are waited for.",
}

REPLAY = tuple(name for name in POINTS if name.startswith("replay-"))
"""Those of whoever plans and runs a replay."""
RECONCILE = tuple(name for name in POINTS if name.startswith("reconcile-"))
"""Those of a reconciler's pass."""

_VARIABLE, _TEST_MODE = "HOOKTAPE_CRASH", "HOOKTAPE_TEST_MODE"


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


class _Fuse:
    """Counts the passages of one point; acts at the last."""

    def __init__(self, name: str, passages: int, act: Callable[[], None]) -> None:
        self.name, self.left, self.act = name, passages, act

    def passed(self, name: str) -> None:
        _known(name)
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                self.act()


_fuse: _Fuse | None = None


def point(name: str) -> None:
    """Marks a passage of the point `name`. Raises SettingsError for a name that isn't listed, when any point is armed."""
    if _fuse is not None:
        _fuse.passed(name)


def arm(spec: str, act: Callable[[], None] = _kill) -> None:
    """From now on, `act` at the n-th passage of a point: `name:n`, `name` for the first; `name:n:stop` stops the process instead; an
    empty `spec` disarms.

    Raises SettingsError when `spec` can't be read or names no point.
    """
    global _fuse
    name, *rest = spec.split(":")
    number, how = rest[0] if rest else "1", rest[1:]
    if not spec:
        _fuse = None
        return
    _known(name)
    if not (number.isascii() and number.isdigit() and int(number) > 0) or how not in ([], ["stop"]):
        raise SettingsError(f"{_VARIABLE}={spec} can't be used: write it as name:n or name:n:stop, n being 1 or more.")
    _fuse = _Fuse(name, int(number), _stop if how else act)


def _known(name: str) -> None:
    if name not in POINTS:
        raise SettingsError(f"{name!r} is no crash point. The list: {', '.join(POINTS)}.")


def _arm_from(environ: Mapping[str, str]) -> None:
    spec = environ.get(_VARIABLE, "")
    if spec and environ.get(_TEST_MODE) != "1":
        raise SettingsError(f"{_VARIABLE} is set: it kills this process, and is for tests only. Unset it, or set {_TEST_MODE}=1 as well.")
    arm(spec)


# On import: a process started by `spawn` has no command of its own that could call this.
_arm_from(os.environ)
