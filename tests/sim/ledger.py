"""The real ledger on SQLite in memory, with a database that fails as real ones do: before its work, or after it."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from hooktape.errors import LedgerUnavailable
from hooktape.ledger.database import Transaction
from hooktape.ledger.migrations import migrate
from hooktape.ledger.sqlite import SqliteDatabase

T = TypeVar("T")


class SimDatabase(SqliteDatabase):
    """`fails` is asked before and after each transaction. `changed` hears of every owner after each write."""

    def __init__(self, fails: Callable[[], bool], changed: Callable[[dict[int, tuple[str, int]]], None]) -> None:
        super().__init__(Path(":memory:"))
        self._fails, self._changed = fails, changed
        self._quiet = True
        self._undo: list[tuple[Any, ...]] | None = None
        migrate(self)
        self._quiet = False

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """For the judge: never fails."""
        assert self._connection is not None
        return self._connection.execute(sql, values).fetchall()

    def cut_power(self) -> None:
        """What wasn't durable is gone: the heartbeats since the last durable write."""
        if self._undo is not None:
            assert self._connection is not None
            self._connection.execute("DELETE FROM owners")
            self._connection.executemany("INSERT INTO owners (grp, owner, lease, alive_until) VALUES (?, ?, ?, ?)", self._undo)
            self._undo = None

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True, days: Collection[int] = ()) -> T:
        if self._quiet:
            return super().write(work, durable=durable, days=days)
        self._trouble("before")
        if durable:
            self._undo = None
        elif self._undo is None:
            self._undo = self.query("SELECT grp, owner, lease, alive_until FROM owners")
        done = super().write(work, durable=True, days=days)
        self._changed({part: (owner, epoch) for part, owner, epoch in self.query("SELECT part, owner, epoch FROM ownership")})
        self._trouble("after")
        return done

    def read(self, work: Callable[[Transaction], T]) -> T:
        if self._quiet:
            return super().read(work)
        self._trouble("before")
        found = super().read(work)
        self._trouble("after")
        return found

    def _trouble(self, when: str) -> None:
        if self._fails():
            raise LedgerUnavailable(f"the simulated database failed {when} its work")
