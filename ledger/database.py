"""One way to speak SQL to SQLite and PostgreSQL: named parameters, one transaction per call, errors of our own.

Statements are written once, as `:name` parameters. `IN :names` takes a list: SQLite gets one placeholder for each value,
PostgreSQL an array. Nothing else differs between the two but what a driver does for itself (`sqlite.py`, `postgres.py`).
"""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, TypeVar

from hooktape.errors import LedgerError

T = TypeVar("T")
Params = Mapping[str, Any]

# How often a transaction is run again after losing to another writer. A loss needs that writer to have won between our
# read and our write, so each further one is rarer; twenty in a row means something is wrong.
_TRIES = 20


class Raced(Exception):
    """Raised inside a transaction: another writer changed what it had read. It is rolled back and run again."""


class Transaction(ABC):
    """What a method of the ledger does its work with. Rows are plain tuples."""

    lateral: ClassVar[bool]
    """Whether a query in FROM may refer to what stands before it there."""
    stepwise_join: ClassVar[str]
    """An inner join that is walked from left to right, whatever the planner thinks of the tables' sizes."""
    share_lock: ClassVar[str]
    """What makes a query keep its rows as they are until the transaction ends."""

    @abstractmethod
    def rows(self, sql: str, params: Params | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""

    @abstractmethod
    def run(self, sql: str, params: Params | None = None) -> int:
        """The number of rows that a statement changed."""

    @abstractmethod
    def insert(self, head: str, types: Sequence[str], rows: Sequence[tuple[Any, ...]], tail: str) -> int:
        """`head` (INSERT INTO t (columns)), the rows, `tail` (ON CONFLICT …), as fast as it can; the number of new rows.

        `types` are PostgreSQL's names of the columns' types, `bytes` where the migrations say so.
        """

    @abstractmethod
    def many(self, sql: str, params: Sequence[Params]) -> int:
        """A statement for each of `params`, in one round trip; the number of rows changed by all of them."""

    @abstractmethod
    def empty(self, table: str) -> None:
        """Deletes all rows of a table, as fast as that goes."""

    @abstractmethod
    def step_by_index(self) -> None:
        """Until the transaction ends, queries walk indexes in order and look rows up one by one, whatever the planner prefers."""

    @abstractmethod
    def one_snapshot(self) -> None:
        """All statements of the transaction see the same rows. To be called before the first of them."""

    def row(self, sql: str, params: Params | None = None) -> tuple[Any, ...] | None:
        """The first row, or None."""
        found = self.rows(sql, params)
        return found[0] if found else None


class Database(ABC):
    """A connection that comes back by itself. One thread at a time; others wait."""

    dialect: str
    """`sqlite` or `postgresql`."""
    words: ClassVar[Mapping[str, str]]
    """What the tokens of the migrations stand for."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def write(self, work: Callable[[Transaction], T], *, durable: bool = True, days: Collection[int] = ()) -> T:
        """Runs `work` in a transaction that may write, and again when it lost a race; what it returns.

        `durable=False` lets the commit return before it's on disk: it's atomic, survives our death, and may be lost in a
        power cut. `days` are the days that rows are written for: their partitions are made first. `work` may run several times.

        Raises LedgerUnavailable (nothing was done, or it was and can't be known: safe to repeat) and LedgerError.
        """

        def begun() -> AbstractContextManager[Transaction]:
            self._prepare_days(days)
            return self._begun(write=True, durable=durable)

        return self._tried(begun, work)

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on one snapshot of the database, and again when that was lost. Raises as `write` does."""
        return self._tried(lambda: self._begun(write=False, durable=False), work)

    def _tried(self, begun: Callable[[], AbstractContextManager[Transaction]], work: Callable[[Transaction], T]) -> T:
        with self._lock:
            for _ in range(_TRIES):
                try:
                    with begun() as transaction:
                        return work(transaction)
                except Raced:
                    continue
            raise LedgerError("The ledger's rows kept changing under a transaction: too many writers for the same events.")

    @contextmanager
    def _begun(self, *, write: bool, durable: bool) -> Iterator[Transaction]:
        with self._errors():
            transaction = self._begin(write, durable)
            try:
                yield transaction
            except BaseException:
                self._rollback()
                raise
            self._commit()

    @abstractmethod
    def _prepare_days(self, days: Collection[int]) -> None:
        """Makes the partitions of `days` where there are such things."""

    @abstractmethod
    def _begin(self, write: bool, durable: bool) -> Transaction: ...

    @abstractmethod
    def _commit(self) -> None: ...

    @abstractmethod
    def _rollback(self) -> None: ...

    @abstractmethod
    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the driver's errors into ours, and forgets a connection that is broken."""

    @abstractmethod
    @contextmanager
    def migrating(self) -> Iterator[Transaction]:
        """A transaction that no other process can be in at the same time. Raises as `write` does."""

    @abstractmethod
    def drop_days(self, before: int) -> int:
        """Deletes the events and outcomes of all days before `before`; the number of days. Raises as `write` does."""

    @abstractmethod
    def close(self) -> None:
        """Ends the connection. The next call would open another."""


_LIST = re.compile(r"\bIN :(\w+)")
_NAME = re.compile(r"(?<![:\w]):(\w+)")


def list_parameters(sql: str) -> list[str]:
    """The names of the parameters that take a list."""
    return _LIST.findall(sql)


def expand_lists(sql: str, sizes: Mapping[str, int]) -> str:
    """For SQLite: `IN :ids` → `IN (:ids_0, :ids_1)`."""
    return _LIST.sub(lambda m: f"IN ({', '.join(f':{m[1]}_{i}' for i in range(sizes[m[1]]))})", sql)


def for_psycopg(sql: str) -> str:
    """For psycopg: `:day` → `%(day)s`, `IN :ids` → `= ANY(%(ids)s)`, `%` → `%%`."""
    return _NAME.sub(r"%(\1)s", _LIST.sub(r"= ANY(:\1)", sql.replace("%", "%%")))
