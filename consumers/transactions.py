"""`event.transaction()`: the handler's writes and the record of its success, in one PostgreSQL transaction.

    unused ──begin──▶ open ──block ends──▶ ending ──its end is in, COMMIT is asked for──▶ committing ──answered──▶ committed
                       │ error               │ fence refuses, error                        │ connection dies, cancelled
                       ▼                     ▼                                             ▼
                     undone           refused, undone                                   unknown

Why the effects happen exactly once: the end is written by a statement that changes a row only as the check saw it (no row, or the
same state, attempts and generation), in the transaction of the effects. Of any number of transactions for one event, whoever runs them
and whenever they arrive, PostgreSQL commits one, and makes the others wait for it. The fence on the partition's owner keeps a
worker that has been replaced from being that one. What is unknown is asked for: the event is checked again, as after a crash.

A try is over when its handler has ended or its time has run out. A thread can't be stopped, so it may end its block after that: refused.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from hooktape import crash
from hooktape.consumers.app import App
from hooktape.consumers.clock import Clock
from hooktape.consumers.failing import finish
from hooktape.consumers.task import Task
from hooktape.errors import LedgerUnavailable, TransactionRefused, UsageError
from hooktape.ledger.checks import Applied, Finish, State
from hooktape.ledger.ledger import Ledger

if TYPE_CHECKING:
    import psycopg

    from hooktape.ledger.sessions import Refusal, Sessions

    Sync = psycopg.Connection[tuple[Any, ...]]
    Async = psycopg.AsyncConnection[tuple[Any, ...]]


class Stage(Enum):
    """How far a try's transaction has come."""

    UNUSED = "unused"
    OPEN = "open"
    ENDING = "ending"
    COMMITTING = "committing"
    COMMITTED = "committed"
    UNDONE = "undone"
    NOT_OWNED = "not owned"
    UNKNOWN = "unknown"


class Verdict(Enum):
    """What a try's transaction means for the event, once the try is over."""

    NONE = "none"
    """Nothing was committed and nothing will be: the handler's own end counts."""
    SUCCEEDED = "succeeded"
    """The event's success is recorded, with the handler's writes."""
    NOT_OURS = "not ours"
    """Another worker has its partition."""
    ASK = "ask"
    """Only the ledger can tell."""


_VERDICTS = {Stage.UNUSED: Verdict.NONE, Stage.OPEN: Verdict.NONE, Stage.UNDONE: Verdict.NONE, Stage.COMMITTED: Verdict.SUCCEEDED,
             Stage.NOT_OWNED: Verdict.NOT_OURS, Stage.ENDING: Verdict.ASK, Stage.COMMITTING: Verdict.ASK,
             Stage.UNKNOWN: Verdict.ASK}  # fmt: skip


class Store(Protocol):
    """Where transactions come from: the ledger's database, or in tests any."""

    def check(self) -> None:
        """Raises SettingsError when there's no database for them."""

    def begin(self, task: Task) -> "psycopg.Transaction": ...
    def record(self, connection: "Sync", task: Task) -> "Refusal | None": ...
    def give_back(self, connection: "Sync") -> None: ...
    async def begin_async(self, task: Task) -> "psycopg.AsyncTransaction": ...
    async def record_async(self, connection: "Async", task: Task) -> "Refusal | None": ...
    async def give_back_async(self, connection: "Async") -> None: ...


class Try:
    """One try of one event, as far as its transaction goes: used by the handler, maybe in a thread, and by the worker's loop."""

    __slots__ = ("_over", "_stage", "_store", "_task")

    def __init__(self, store: Store, task: Task) -> None:
        self._store, self._task = store, task
        self._stage = Stage.UNUSED
        self._over = False

    def close(self) -> Verdict:
        """The try is over: a block that hasn't asked for its commit yet is refused."""
        with _lock:
            self._over = True
            return _VERDICTS[self._stage]

    def transaction(self) -> "Block":
        """For `with` and `async with`. Raises SettingsError."""
        self._store.check()
        return Block(self)

    @contextmanager
    def block(self) -> "Iterator[Sync]":
        """The block of a plain handler."""
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            raise UsageError("an asynchronous handler writes `async with event.transaction()`: a plain `with` would block the loop.")
        self._move(Stage.UNUSED, Stage.OPEN)
        with self._told_of_failure():
            transaction = self._store.begin(self._task)
        connection: Sync = transaction.connection
        try:
            with self._told_of_failure(connection):
                with ExitStack() as stack:
                    stack.push(transaction)
                    crash.point("transaction-begun")
                    yield connection
                    crash.point("in-transaction")
                    self._end(connection)
                    self._judge(self._store.record(connection, self._task))
                    crash.point("transaction-recorded")
                    self._move(Stage.ENDING, Stage.COMMITTING)
                self._conclude(transaction.status.value)
        finally:
            self._store.give_back(connection)

    @asynccontextmanager
    async def block_async(self) -> "AsyncIterator[Async]":
        """The block of an asynchronous handler: the same with await."""
        self._move(Stage.UNUSED, Stage.OPEN)
        with self._told_of_failure():
            transaction = await self._store.begin_async(self._task)
        connection: Async = transaction.connection
        try:
            with self._told_of_failure(connection):
                async with AsyncExitStack() as stack:
                    stack.push_async_exit(transaction)
                    crash.point("transaction-begun")
                    yield connection
                    crash.point("in-transaction")
                    self._end(connection)
                    self._judge(await self._store.record_async(connection, self._task))
                    crash.point("transaction-recorded")
                    self._move(Stage.ENDING, Stage.COMMITTING)
                self._conclude(transaction.status.value)
        finally:
            await self._store.give_back_async(connection)

    def _move(self, before: Stage, after: Stage) -> None:
        with _lock:
            if self._over:
                raise TransactionRefused(f"event.transaction() of {self._task.event} comes too late: the handler has ended, or its time "
                                         "has run out. Nothing of the block is kept.")  # fmt: skip
            if self._stage is not before:
                raise UsageError(f"event.transaction() was entered a second time for {self._task.event}: one block holds everything that "
                                 "is to be written; inside it, connection.transaction() makes savepoints.")  # fmt: skip
            self._stage = after

    def _end(self, connection: "Sync | Async") -> None:
        status = connection.info.transaction_status.name
        if status == "INERROR":
            raise UsageError(f"a statement failed in event.transaction() of {self._task.event} and the handler went on: PostgreSQL keeps "
                             "nothing after that. Put a statement that may fail into `connection.transaction()`, a savepoint.")  # fmt: skip
        if status == "IDLE":
            raise UsageError(f"the handler ended event.transaction() of {self._task.event} by a COMMIT or ROLLBACK of its own: leave that "
                             "to the block's end, or what is written may be written again.")  # fmt: skip
        self._move(Stage.OPEN, Stage.ENDING)

    def _judge(self, refusal: "Refusal | None") -> None:
        if refusal is None:
            return
        with _lock:
            # Ended otherwise: by another copy, or by an earlier try whose commit came through late. The ledger says which.
            self._stage = Stage.NOT_OWNED if refusal.name == "NOT_OWNED" else Stage.UNKNOWN
        raise TransactionRefused(f"event.transaction() of {self._task.event} isn't kept: {refusal.value}. Nothing of the block is written, "
                                 "and it doesn't count as a failure.")  # fmt: skip

    def _conclude(self, status: str) -> None:
        with _lock:
            if self._stage is not Stage.COMMITTING:
                self._stage = Stage.UNDONE  # psycopg.Rollback, which passes nothing on
                return
            # psycopg leaves a transaction without a word when its connection was known to be dead before the commit.
            if status == "committed":
                self._stage = Stage.COMMITTED
        if status != "committed":
            raise ConnectionError("the connection was lost")
        crash.point("transaction-committed")

    @contextmanager
    def _told_of_failure(self, connection: "Sync | Async | None" = None) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            # An answer to the commit leaves the connection outside any transaction. A FATAL isn't one: it may come after the deed.
            answered = isinstance(error, Exception) and connection is not None and connection.info.transaction_status.name == "IDLE"
            with _lock:
                unanswered = self._stage is Stage.COMMITTING and not answered
                if unanswered:
                    self._stage = Stage.UNKNOWN
                elif self._stage in (Stage.OPEN, Stage.ENDING, Stage.COMMITTING):
                    self._stage = Stage.UNDONE
            if unanswered and isinstance(error, Exception):
                raise LedgerUnavailable(f"PostgreSQL was asked to commit event.transaction() of {self._task.event} and didn't answer: the "
                                        "ledger is asked whether it did, and the event runs again only if not.") from error  # fmt: skip
            raise


# One for all tries: it's held for the time of a comparison.
_lock = threading.Lock()


class _Over:
    """What an event is bound to when its try has ended: the try itself would keep the worker's task alive, in a circle."""

    def transaction(self) -> "Block":
        raise TransactionRefused("event.transaction() comes too late: the handler of the event has ended.")


OVER = _Over()


class Block:
    """A context manager of both kinds, for one block."""

    __slots__ = ("_async", "_sync", "_try")

    def __init__(self, of: Try) -> None:
        self._try = of
        self._sync: AbstractContextManager[Sync] | None = None
        self._async: AbstractAsyncContextManager[Async] | None = None

    def __enter__(self) -> "Sync":
        self._sync = self._try.block()
        return self._sync.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        assert self._sync is not None
        return self._sync.__exit__(kind, error, trace)

    async def __aenter__(self) -> "Async":
        self._async = self._try.block_async()
        return await self._async.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        assert self._async is not None
        return await self._async.__aexit__(kind, error, trace)


class Transactions:
    """A worker's: on the ledger's own database. `owner` and `lease` (in seconds) are the worker's."""

    def __init__(self, ledger: Ledger, app: App, owner: str, clock: Clock, lease: float) -> None:
        self._ledger, self._group, self._owner, self._clock = ledger, app.group, owner, clock
        # Between the record and the commit a worker does nothing. One that stands still for its lease there counts as dead.
        self._lease = lease
        # Between statements of its own a handler may do other things, for as long as it may take at all.
        self._longest = max(lease, *(handler.timeout for handler in app.handlers.values()))
        self._loop = asyncio.get_running_loop()
        self._opened: Sessions | None = None

    def check(self) -> None:
        """Raises SettingsError where the ledger is on SQLite."""
        with _lock:
            if self._opened is None:
                self._opened = self._ledger.sessions(self._longest)

    def begin(self, task: Task) -> "psycopg.Transaction":
        return self._sessions.begin(task.key.day)

    def record(self, connection: "Sync", task: Task) -> "Refusal | None":
        return self._sessions.record(connection, self._group, self._owner, _success(task), self._clock.time(), self._lease)

    def give_back(self, connection: "Sync") -> None:
        self._sessions.give_back(connection)

    async def begin_async(self, task: Task) -> "psycopg.AsyncTransaction":
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError("`async with event.transaction()` belongs to asynchronous handlers, on the worker's event loop; a plain one "
                             "writes `with`.")  # fmt: skip
        return await self._sessions.begin_async(task.key.day)

    async def record_async(self, connection: "Async", task: Task) -> "Refusal | None":
        return await self._sessions.record_async(connection, self._group, self._owner, _success(task), self._clock.time(), self._lease)

    async def give_back_async(self, connection: "Async") -> None:
        await self._sessions.give_back_async(connection)

    async def close(self) -> None:
        """Closes the connections, those in use as soon as they come back."""
        if self._opened is not None:
            await self._opened.close()

    @property
    def _sessions(self) -> "Sessions":
        assert self._opened is not None
        return self._opened


def version_of(task: Task) -> Applied | None:
    """The version that a success of this event applies, where its handler wants to know."""
    of, version = task.versioned, task.event.version_us
    # A synthetic event counts a microsecond more than its version (real ones are whole seconds apart), so that the webhook of
    # that version is stale if it comes after all.
    return None if of is None or version is None else Applied(*of, version + task.event.synthetic)


def _success(task: Task) -> Finish:
    # The try that is running isn't counted yet.
    return msgspec.structs.replace(finish(task, State.SUCCEEDED, version=version_of(task)), attempts=task.attempts + 1)
