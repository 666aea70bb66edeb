"""PostgreSQL: many machines. Events, outcomes and lookups are partitioned by day."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from hooktape.errors import LedgerError, LedgerUnavailable, SettingsError
from hooktape.ledger.database import Database, Params, Raced, Transaction
from hooktape.ledger.sessions import LOCK_TIMEOUT, Sessions, brief, translated

# Any number that other programs in the same database are unlikely to use: "hook" in ASCII.
_LOCK = 0x686F6F6B
_MIGRATION, _PARTITIONS = 1, 2
_CONNECT_SECONDS = 5
_STEPS = "SELECT " + ", ".join(f"set_config('enable_{how}', 'off', true)" for how in ("hashjoin", "mergejoin", "seqscan", "sort"))
_STEPS += ", set_config('max_parallel_workers_per_gather', '0', true)"
_PARTITIONED = ("events", "outcomes", "lookups")


class PostgresTransaction(Transaction):
    lateral: ClassVar[bool] = True
    stepwise_join: ClassVar[str] = "JOIN"  # `step_by_index` sees to it
    share_lock: ClassVar[str] = " FOR SHARE"

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._cursor = connection.cursor()

    def rows(self, sql: str, params: Params | None = None) -> list[tuple[Any, ...]]:
        return self._cursor.execute(*_bound(sql, params)).fetchall()

    def run(self, sql: str, params: Params | None = None) -> int:
        return self._cursor.execute(*_bound(sql, params)).rowcount

    def insert(self, head: str, types: Sequence[str], rows: Sequence[tuple[Any, ...]], tail: str) -> int:
        if not rows:
            return 0
        arrays = ", ".join(f"%s::{'bytea' if kind == 'bytes' else kind}[]" for kind in types)
        # One statement for all: executemany's round of bind and execute for each row costs several times as much.
        columns = [list(column) for column in zip(*rows, strict=True)]
        return self._cursor.execute(f"{head} SELECT * FROM unnest({arrays}) {tail}", columns).rowcount

    def empty(self, table: str) -> None:
        self._cursor.execute(f"TRUNCATE {table}".encode())

    def step_by_index(self) -> None:
        # It underestimates joins over thirty partitions, and would rather read or sort all that matches than walk an index to the end
        # of a page: 250 ms instead of 7 with 300,000 events. What has no other way is still done, a sort of a page for instance.
        self._cursor.execute(_STEPS)

    def one_snapshot(self) -> None:
        self._cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    def many(self, sql: str, params: Sequence[Params]) -> int:
        if not params:
            return 0
        self._cursor.executemany(translated(sql), params)
        return self._cursor.rowcount


class PostgresDatabase(Database):
    dialect = "postgresql"
    words: ClassVar[Mapping[str, str]] = {
        "bytes": "BYTEA", "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "by_day": "PARTITION BY RANGE (day)", "clustered": "", "bytewise": ' COLLATE "C"'}  # fmt: skip

    def __init__(self, url: str) -> None:
        super().__init__()
        try:
            self._conninfo = make_conninfo(url, connect_timeout=_CONNECT_SECONDS, application_name="hooktape")
        except psycopg.Error:
            # The driver's own message may quote the address, password and all.
            raise SettingsError("HOOKTAPE_DATABASE_URL isn't an address that PostgreSQL's driver understands: write it like "
                                "postgresql://USER:PASSWORD@HOST:5432/NAME, special characters %-encoded.") from None  # fmt: skip
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._days: set[int] = set()

    def _begin(self, write: bool, durable: bool) -> Transaction:
        connection = self._connection or self._connect()
        begin = "BEGIN" if write else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        if write and not durable:
            begin += "; SET LOCAL synchronous_commit TO off"
        connection.execute(begin)
        return PostgresTransaction(connection)

    def _commit(self) -> None:
        if self._connection is not None:
            self._connection.execute("COMMIT")

    def _rollback(self) -> None:
        if self._connection is not None and not self._connection.broken:
            self._connection.execute("ROLLBACK")

    def sessions(self, idle: float) -> Sessions:
        """Connections for others' transactions; `idle` as in `Sessions`."""
        return Sessions(self._conninfo, lambda days: self.write(lambda _: None, days=days), idle)

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = psycopg.connect(self._conninfo, autocommit=True)
        connection.execute(LOCK_TIMEOUT)
        self._connection = connection
        return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (errors.DeadlockDetected, errors.SerializationFailure) as error:
            raise Raced from error
        except errors.CheckViolation as error:
            # The only checks are the partitions' bounds: another process has pruned one that we remember.
            self._days.clear()
            raise Raced from error
        except psycopg.Error as error:
            lost = self._connection is None or self._connection.broken or self._connection.closed
            self.close()
            state = error.sqlstate or ""
            # Connection, resources, operator's intervention, lock not available: all pass.
            if lost or state[:2] in ("08", "53", "57") or state == "55P03":
                message = f"The ledger's PostgreSQL can't be used now: {brief(error)}. It's safe to try again."
                raise LedgerUnavailable(message) from None
            raise LedgerError(f"The ledger's PostgreSQL refused a statement: {brief(error)}.") from error

    @contextmanager
    def migrating(self) -> Iterator[Transaction]:
        with self._lock, self._begun(write=True, durable=True) as transaction:
            transaction.rows("SELECT pg_advisory_xact_lock(:space, :name)", {"space": _LOCK - 1, "name": _MIGRATION})
            yield transaction

    def _prepare_days(self, days: Collection[int]) -> None:
        missing = sorted(set(days) - self._days)
        if not missing:
            return
        with self._begun(write=True, durable=True) as t:
            t.rows("SELECT pg_advisory_xact_lock(:space, :name)", {"space": _LOCK - 1, "name": _PARTITIONS})
            for day in missing:
                for table in _PARTITIONED:
                    name = _partition(table, day)
                    if t.row("SELECT to_regclass(:name)", {"name": name}) == (None,):
                        # Made apart and then attached: that locks out neither readers nor writers of the other days.
                        t.run(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
                        t.run(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({day}) TO ({day + 1})")
        self._days.update(missing)

    def drop_days(self, before: int) -> int:
        def work(t: Transaction) -> int:
            t.rows("SELECT pg_advisory_xact_lock(:space, :name)", {"space": _LOCK - 1, "name": _PARTITIONS})
            names = [(table, name, day) for table in _PARTITIONED for (name,) in t.rows(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST(:table AS regclass)", {"table": table})
                if (day := _day(name)) is not None and day < before]  # fmt: skip
            held = set()
            for _, name, day in names:
                if t.row(f"SELECT 1 FROM {name} LIMIT 1"):
                    held.add(day)
                t.run(f"DROP TABLE {name}")
            for table in ("waiting", "event_days"):
                t.run(f"DELETE FROM {table} WHERE day < :before", {"before": before})
            return len(held)

        dropped = self.write(work)
        self._days = {day for day in self._days if day >= before}
        return dropped

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _partition(table: str, day: int) -> str:
    return f"{table}_d{day}" if day >= 0 else f"{table}_m{-day}"


def _day(partition: str) -> int | None:
    found = re.search(r"_([dm])(\d+)$", partition.strip('"'))
    return None if found is None else int(found[2]) * (1 if found[1] == "d" else -1)


def _bound(sql: str, params: Params | None) -> tuple[Any, Params | None]:
    if params is None:
        return sql, None
    return translated(sql), {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}
