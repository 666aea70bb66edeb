"""`Ledger`: the one door to the database."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hooktape.errors import SettingsError
from hooktape.ledger.audit import Audit
from hooktape.ledger.breakers import Breakers
from hooktape.ledger.budgets import Budgets
from hooktape.ledger.bulk import Bulk
from hooktape.ledger.catalogue import Catalogue
from hooktape.ledger.database import Database
from hooktape.ledger.doctor import Doctor
from hooktape.ledger.handled import Handled
from hooktape.ledger.handlers import Handlers
from hooktape.ledger.jobs import Jobs
from hooktape.ledger.leases import Leases
from hooktape.ledger.letters import Letters
from hooktape.ledger.lookups import Lookups
from hooktape.ledger.migrations import migrate
from hooktape.ledger.outcomes import Outcomes
from hooktape.ledger.ownership import Ownership
from hooktape.ledger.reconcile import Reconcile
from hooktape.ledger.reports import Reports
from hooktape.ledger.resets import Resets
from hooktape.ledger.sqlite import SqliteDatabase
from hooktape.ledger.stranded import Stranded
from hooktape.ledger.tallies import Tallies
from hooktape.ledger.timetable import Timetable
from hooktape.ledger.tokens import Tokens

if TYPE_CHECKING:
    from hooktape.ledger.sessions import Sessions


class Ledger:
    """The relational store. Every method of its parts is one transaction; threads take turns.

    Any of them may raise LedgerUnavailable (the database can't be reached or is locked: safe to call again, the
    connection is made anew) or LedgerError (the database refused). `now` is always epoch seconds.
    """

    outcomes: Outcomes
    stranded: Stranded
    tallies: Tallies
    ownership: Ownership
    catalogue: Catalogue
    letters: Letters
    lookups: Lookups
    jobs: Jobs
    reconcile: Reconcile
    reports: Reports
    audit: Audit
    leases: Leases
    breakers: Breakers
    budgets: Budgets
    bulk: Bulk
    timetable: Timetable
    doctor: Doctor
    handlers: Handlers
    resets: Resets
    handled: Handled
    tokens: Tokens

    def __init__(self, database: Database) -> None:
        self._database = database
        self.outcomes = Outcomes(database)
        self.stranded = Stranded(database)
        self.tallies = Tallies(database)
        self.ownership = Ownership(database)
        self.catalogue = Catalogue(database)
        self.letters = Letters(database)
        self.lookups = Lookups(database)
        self.jobs = Jobs(database)
        self.reconcile = Reconcile(database)
        self.reports = Reports(database)
        self.audit = Audit(database)
        self.leases = Leases(database)
        self.breakers = Breakers(database)
        self.budgets = Budgets(database)
        self.bulk = Bulk(database)
        self.timetable = Timetable(database)
        self.doctor = Doctor(database)
        self.handlers = Handlers(database)
        self.resets = Resets(database)
        self.handled = Handled(database)
        self.tokens = Tokens(database)

    @classmethod
    def open(cls, url: str) -> "Ledger":
        """Connects to `sqlite:////absolute/path` or `postgresql://…` and brings its schema up to date.

        Raises SettingsError for any other address, LedgerError when a newer Hooktape wrote it, LedgerUnavailable.
        """
        database = _database(url)
        try:
            migrate(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._database.dialect

    def sessions(self, idle: float) -> "Sessions":
        """Connections for transactions that hold a handler's writes and the record of its success; `idle` as in `Sessions`.

        Raises SettingsError where the ledger isn't on PostgreSQL.
        """
        sessions: Callable[[float], Sessions] | None = getattr(self._database, "sessions", None)
        if sessions is None:
            raise SettingsError("event.transaction() needs the ledger on PostgreSQL, and this worker's is on SQLite, one file with one "
                                "writer: set HOOKTAPE_DATABASE_URL=postgresql://USER@HOST/NAME to the database that the handler "
                                "writes to.")  # fmt: skip
        return sessions(idle)

    def prune(self, before_day: int) -> int:
        """Forgets the events and outcomes of all days before `before_day`, and the replays that ended before it; the number of days that
        held any."""
        while self.jobs.prune(before_day * 86_400):
            pass  # a hundred at a time: others write in between
        return self._database.drop_days(before_day)

    def close(self) -> None:
        """Ends the connection."""
        self._database.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _database(url: str) -> Database:
    scheme, found, _ = url.partition("://")
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite://")
        # `sqlite:////abs` is the common spelling of an absolute path; `sqlite:///abs` is what ours has always meant.
        return SqliteDatabase(Path("/" + path.lstrip("/")))
    if found and scheme in ("postgresql", "postgres"):
        # psycopg takes 50 ms to import; a ledger on SQLite needn't pay.
        from hooktape.ledger.postgres import PostgresDatabase

        return PostgresDatabase(url)
    start = f"starts with {scheme}://" if found else "has no scheme"
    raise SettingsError(f"HOOKTAPE_DATABASE_URL {start}: the ledger lives at sqlite:///ABSOLUTE/PATH or "
                        "postgresql://USER@HOST/NAME.")  # fmt: skip
