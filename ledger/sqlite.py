"""SQLite: one file, many processes on one machine."""

import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from hooktape.errors import LedgerError, LedgerUnavailable, SettingsError
from hooktape.ledger.database import Database, Params, Transaction, expand_lists, list_parameters

# RETURNING and 32,766 parameters in a statement.
_OLDEST = (3, 35, 0)
# Writers queue here behind one another; a batch takes milliseconds, so this is hundreds of them.
_BUSY_SECONDS = 10.0
# Pages in the log before it's copied back. Scattered ids touch most pages of a day again and again: four times the default's 1,000
# copies each of them back less often (with ten million rows, 40 to 44 µs an event instead of 47 to 52).
_CHECKPOINT_PAGES = 4000
# 32 MB for the pages of the day's rows: beyond the default 2 MB they'd come from the file again and again. 64 MB were no faster with
# 300,000 rows, and a third of what a replay may weigh.
_CACHE_KIB = 32 * 1024
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
                      sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL})  # fmt: skip


class SqliteTransaction(Transaction):
    lateral: ClassVar[bool] = False
    stepwise_join: ClassVar[str] = "CROSS JOIN"
    share_lock: ClassVar[str] = ""  # one writer at a time in the whole file

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, params: Params | None = None) -> list[tuple[Any, ...]]:
        return self._connection.execute(*_bound(sql, params)).fetchall()

    def run(self, sql: str, params: Params | None = None) -> int:
        return self._connection.execute(*_bound(sql, params)).rowcount

    def insert(self, head: str, types: Sequence[str], rows: Sequence[tuple[Any, ...]], tail: str) -> int:
        if not rows:
            return 0
        return self._connection.executemany(f"{head} VALUES ({', '.join('?' * len(types))}) {tail}", rows).rowcount

    def empty(self, table: str) -> None:
        self._connection.execute(f"DELETE FROM {table}")  # without WHERE it drops the pages whole

    def step_by_index(self) -> None:
        pass  # it knows no other joins

    def one_snapshot(self) -> None:
        pass  # nobody else writes meanwhile

    def many(self, sql: str, params: Sequence[Params]) -> int:
        return self._connection.executemany(sql, params).rowcount if params else 0


class SqliteDatabase(Database):
    """`synchronous=FULL` with WAL: one fsync a transaction, so a batch costs what a row costs (NORMAL lost 811 commits in
    a power cut). A write that needn't be durable leaves out that fsync; the next durable one covers it.
    """

    dialect = "sqlite"
    words: ClassVar[Mapping[str, str]] = {
        "bytes": "BLOB", "serial": "INTEGER PRIMARY KEY", "by_day": "", "clustered": "WITHOUT ROWID", "bytewise": ""}  # fmt: skip

    def __init__(self, path: Path) -> None:
        super().__init__()
        if sqlite3.sqlite_version_info < _OLDEST:
            raise SettingsError(f"Python's SQLite is {sqlite3.sqlite_version}; the ledger needs 3.35 or newer. "
                                "Use a newer Python build, or PostgreSQL in HOOKTAPE_DATABASE_URL.")  # fmt: skip
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._durable = True

    def _begin(self, write: bool, durable: bool) -> Transaction:
        connection = self._connection or self._connect()
        if write and durable is not self._durable:
            # Only outside a transaction does this setting take.
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        return SqliteTransaction(connection)

    def _prepare_days(self, days: Collection[int]) -> None:
        pass  # one table for all days

    def _commit(self) -> None:
        if self._connection is not None:
            self._connection.execute("COMMIT")

    def _rollback(self) -> None:
        # SQLite may have rolled back by itself (a full disk, an I/O error).
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerUnavailable(f"The ledger's folder {self._path.parent} can't be made: {error.strerror}.") from error
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            # Else it may index a whole table for one query, where it thinks little of an index that's there.
            connection.execute("PRAGMA automatic_index=OFF")
        except BaseException:
            connection.close()
            raise
        self._connection, self._durable = connection, True
        return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest its detail
            if code in _PASSING:
                raise LedgerUnavailable(f"The ledger {self._path} can't be used now: {error}. It's safe to try again.") from error
            raise LedgerError(f"The ledger {self._path} refused a statement: {error}.") from error

    @contextmanager
    def migrating(self) -> Iterator[Transaction]:
        with self._lock, self._begun(write=True, durable=True) as transaction:
            yield transaction

    def drop_days(self, before: int) -> int:
        def work(transaction: Transaction) -> int:
            found = {day for table in ("events", "outcomes")
                     for (day,) in transaction.rows(f"SELECT DISTINCT day FROM {table} WHERE day < :before", {"before": before})}
            for table in ("events", "outcomes", "lookups", "waiting", "event_days"):
                transaction.run(f"DELETE FROM {table} WHERE day < :before", {"before": before})
            return len(found)

        return self.write(work)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turns the file to WAL. Of processes that do so at once all but one are told "locked" at once, busy timeout or not."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # the other one needs a few milliseconds


@lru_cache(maxsize=256)
def _lists(sql: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(list_parameters(sql)))


def _bound(sql: str, params: Params | None) -> tuple[str, Params]:
    if params is None:
        return sql, {}
    names = _lists(sql)
    if not names:
        return sql, params
    values = dict(params)
    sizes = {}
    for name in names:
        items = list(values.pop(name))
        sizes[name] = len(items)
        values |= {f"{name}_{i}": item for i, item in enumerate(items)}
    return expand_lists(sql, sizes), values
