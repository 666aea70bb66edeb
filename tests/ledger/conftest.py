"""The same tests on both databases: `ledger` and `url` are parametrised over SQLite and PostgreSQL."""

import uuid
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import psycopg
import pytest

from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger

DAY = 20_000


def key(name: str, day: int = DAY) -> EventKey:
    return EventKey(day, blake2b(name.encode(), digest_size=16).digest())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty ledger's address: a file, or a schema of its own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    server = request.getfixturevalue("postgres_url")
    schema = f"ledger_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        yield f"{server}{'&' if '?' in server else '?'}options=-csearch_path%3D{schema}"
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], Ledger]]:
    """Opens the ledger as one more process would: a connection of its own."""
    ledgers: list[Ledger] = []

    def one() -> Ledger:
        ledgers.append(Ledger.open(url))
        return ledgers[-1]

    yield one
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened: Callable[[], Ledger]) -> Ledger:
    return opened()
