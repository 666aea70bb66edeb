from collections.abc import Iterator
from pathlib import Path

import pytest

from hooktape.ledger.ledger import Ledger
from hooktape.settings import Settings
from tests.replayer.kit import narrowed


@pytest.fixture
def tape(settings: Settings) -> Settings:
    """Settings with two topics and one group, whose topics exist."""
    return narrowed(settings)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger.open(url) as opened:
        yield opened


@pytest.fixture
def postgres_schema(postgres_url: str, prefix: str) -> str:
    """A ledger on PostgreSQL in a schema of its own."""
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{prefix}"')
    return f"{postgres_url}{'&' if '?' in postgres_url else '?'}options=-csearch_path%3D{prefix}"
