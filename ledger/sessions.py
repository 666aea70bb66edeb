"""PostgreSQL connections for transactions that hold a handler's own writes and the record of its success.

A connection is used by one event at a time and then lies idle for the next: as many are open as have ever been in use at
once. No pool of a library's: with one connection per running handler nobody ever waits for one, so all that's needed is a list.
"""

import asyncio
import threading
from collections.abc import Callable, Collection
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from hooktape.errors import LedgerUnavailable
from hooktape.ledger.checks import Finish
from hooktape.ledger.database import Params, for_psycopg
from hooktape.ledger.outcomes import Statement, statements

# A statement of ours takes milliseconds; behind a lock for this long, something else holds the table.
LOCK_TIMEOUT = "SET lock_timeout TO '10s'"
# What a handler may change inside its transaction and the ledger's statements need as it was. Without synchronous_commit the
# offset could be committed before the success is on disk.
_OURS = ("search_path", "role", "synchronous_commit")
_IDLE = "idle_in_transaction_session_timeout"
_READ = "SELECT " + ", ".join(f"current_setting('{name}')" for name in _OURS)
_RESTORE = "SELECT " + ", ".join(f"set_config('{name}', %s, true)" for name in (*_OURS, _IDLE))
# Held to the transaction's end: whoever wants to take the partition over waits for that, and whoever has is seen here.
_FENCE = """
    SELECT 1 FROM ownership WHERE grp = :grp AND part = :part AND owner = :owner AND epoch = :epoch FOR SHARE"""

Sync = psycopg.Connection[tuple[Any, ...]]
Async = psycopg.AsyncConnection[tuple[Any, ...]]
_C = TypeVar("_C", Sync, Async)

translated = lru_cache(maxsize=512)(for_psycopg)


class Refusal(Enum):
    """Why an end wasn't recorded."""

    NOT_OWNED = "its partition is another worker's now"
    ENDED = "another record of it was finished in the meantime"


def brief(error: psycopg.Error) -> str:
    """The first line of what the server said; the driver's own lines never hold the password."""
    return (error.diag.message_primary or str(error)).strip().split("\n")[0].rstrip(".")


class Sessions:
    """Opens, lends and keeps connections. Any thread may ask for one; asynchronous ones belong to one event loop.

    `prepare` makes the partitions of days. `idle` in seconds: how long a transaction may lie between two statements before
    PostgreSQL ends it; a worker that stands still mustn't keep its locks from the one that takes its place.
    """

    def __init__(self, conninfo: str, prepare: Callable[[Collection[int]], None], idle: float) -> None:
        self._conninfo, self._prepare_days = conninfo, prepare
        self._set_up = f"{LOCK_TIMEOUT}; SET {_IDLE} TO {int(idle * 1000)}"
        self._settings: tuple[str, ...] | None = None
        self._days: set[int] = set()
        self._lock = threading.Lock()
        self._idle: list[Sync] = []
        self._idle_async: list[Async] = []
        self._closed = False

    # ── for threads ─────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, day: int) -> psycopg.Transaction:
        """A transaction, begun, in which `record` can write an end of that day. Raises LedgerUnavailable, LedgerError."""
        if day not in self._days:
            self._prepare(day)
        while (connection := self._pop(self._idle)) is not None:
            try:
                return _entered(connection)
            except psycopg.OperationalError:
                connection.close()  # it died while it lay idle, and nothing has been done on it
        try:
            connection = psycopg.connect(self._conninfo, autocommit=True)
            connection.execute(self._set_up)
            if self._settings is None:
                self._settings = connection.execute(_READ).fetchone()
            return _entered(connection)
        except psycopg.OperationalError as error:
            raise _unavailable(error) from None

    def record(self, connection: Sync, group: str, owner: str, finish: Finish, now: float, idle: float) -> Refusal | None:
        """Writes an end into the transaction on `connection`; None when it's in. Whoever asked commits, or rolls back a refusal.

        `now` in epoch seconds. `idle` in seconds: how long the commit may be waited for. Raises what psycopg does, LedgerUnavailable.
        """
        cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        cursor.execute(_RESTORE, self._restored(idle))
        if cursor.execute(*_bound(_fence(group, owner, finish))).fetchone() is None:
            return Refusal.NOT_OWNED
        first, *rest = statements(group, finish, now)
        try:
            if cursor.execute(*_bound(first)).rowcount != 1:
                return Refusal.ENDED
        except errors.CheckViolation as error:
            raise self._pruned(finish) from error
        for statement in rest:
            cursor.execute(*_bound(statement))
        return None

    def give_back(self, connection: Sync) -> None:
        """Its transaction has ended. A connection in any other state is closed."""
        if not self._keep(connection, self._idle):
            connection.close()

    # ── for the event loop: the same with await ─────────────────────────────────────────────────────────────────────
    async def begin_async(self, day: int) -> psycopg.AsyncTransaction:
        """As `begin`."""
        if day not in self._days:
            await asyncio.to_thread(self._prepare, day)
        while (connection := self._pop(self._idle_async)) is not None:
            try:
                return await _entered_async(connection)
            except psycopg.OperationalError:
                await connection.close()
        try:
            connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
            await connection.execute(self._set_up)
            if self._settings is None:
                self._settings = await (await connection.execute(_READ)).fetchone()
            return await _entered_async(connection)
        except psycopg.OperationalError as error:
            raise _unavailable(error) from None

    async def record_async(self, connection: Async, group: str, owner: str, finish: Finish, now: float, idle: float) -> Refusal | None:
        """As `record`."""
        cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
        await cursor.execute(_RESTORE, self._restored(idle))
        if await (await cursor.execute(*_bound(_fence(group, owner, finish)))).fetchone() is None:
            return Refusal.NOT_OWNED
        first, *rest = statements(group, finish, now)
        try:
            if (await cursor.execute(*_bound(first))).rowcount != 1:
                return Refusal.ENDED
        except errors.CheckViolation as error:
            raise self._pruned(finish) from error
        for statement in rest:
            await cursor.execute(*_bound(statement))
        return None

    async def give_back_async(self, connection: Async) -> None:
        """As `give_back`."""
        if not self._keep(connection, self._idle_async):
            await connection.close()

    async def close(self) -> None:
        """Closes what is idle; what is in use is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle, idle_async = [*self._idle], [*self._idle_async]
            self._idle.clear()
            self._idle_async.clear()
        for connection in idle:
            connection.close()
        for each in idle_async:
            await each.close()

    # ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _prepare(self, day: int) -> None:
        self._prepare_days([day])
        self._days.add(day)

    def _pruned(self, finish: Finish) -> LedgerUnavailable:
        self._days.discard(finish.key.day)
        return LedgerUnavailable(f"The ledger's day {finish.key.day} was pruned while an event of it ran. It's safe to try again.")

    def _restored(self, idle: float) -> list[str]:
        assert self._settings is not None
        return [*self._settings, str(int(idle * 1000))]

    def _pop(self, idle: list[_C]) -> _C | None:
        with self._lock:
            return idle.pop() if idle else None

    def _keep(self, connection: _C, idle: list[_C]) -> bool:
        if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
            return False
        # The last handler's taste in rows and statements isn't the next one's.
        connection.row_factory = tuple_row
        with self._lock:
            if not self._closed:
                idle.append(connection)
            return not self._closed


def _entered(connection: Sync) -> psycopg.Transaction:
    transaction = psycopg.Transaction(connection)
    transaction.__enter__()
    return transaction


async def _entered_async(connection: Async) -> psycopg.AsyncTransaction:
    transaction = psycopg.AsyncTransaction(connection)
    await transaction.__aenter__()
    return transaction


def _fence(group: str, owner: str, finish: Finish) -> Statement:
    return _FENCE, {"grp": group, "part": finish.partition, "owner": owner, "epoch": finish.epoch}


def _bound(statement: Statement) -> tuple[Any, Params]:
    sql, params = statement
    return translated(sql), params


def _unavailable(error: psycopg.Error) -> LedgerUnavailable:
    return LedgerUnavailable(f"The ledger's PostgreSQL gave no connection for event.transaction(): {brief(error)}. It's safe to try again.")
