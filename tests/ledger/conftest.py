"""The same tests on both databases: `ledger` and `url` are parametrised over SQLite and PostgreSQL."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import psycopg
import pytest

from hooktape.ledger.checks import Check, Checked, Finish, Row, State, Waiting
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger

DAY = 20_000


def key(name: str, day: int = DAY) -> EventKey:
    return EventKey(day, blake2b(name.encode(), digest_size=16).digest())


class Owner:
    """A worker as the ledger sees it: alive, owner of partitions, asking and recording. Everything is of partition `part`."""

    def __init__(self, ledger: Ledger, name: str = "w", group: str = "g", part: int = 0, now: float = 0, lease: float = 60) -> None:
        self.ledger, self.name, self.group, self.part, self.lease = ledger, name, group, part, lease
        self.epoch = -1
        self.beat(now)
        self.take(now)

    def beat(self, now: float) -> dict[int, int]:
        return self.ledger.ownership.heartbeat(self.group, self.name, now, self.lease)

    def take(self, now: float) -> bool:
        """Whether the partition is this owner's now."""
        taken = self.ledger.ownership.take(self.group, self.name, [self.part], now)
        self.epoch = taken.epochs.get(self.part, self.epoch)
        return self.part in taken.epochs

    def check(self, name: str, day: int = DAY, **how: object) -> Checked:
        (answer,) = self.ledger.outcomes.check(self.group, [Check(key(name, day), **how)])  # type: ignore[arg-type]
        return answer

    def end(self, name: str, state: State, attempts: int = 1, *, day: int = DAY, topic: str = "orders/create", seen: Row | None = None,
            wait: Waiting | None = None, **how: object) -> Finish:  # fmt: skip
        """An end as a worker would write it. `seen` None: it was checked before its event had a row."""
        return Finish(key(name, day), state, attempts, self.part, self.epoch, topic, seen, waiting=wait, **how)  # type: ignore[arg-type]

    def record(self, ends: Sequence[Finish], now: float = 2) -> list[bool]:
        return self.ledger.outcomes.finish(self.group, self.name, ends, now)

    def finish(self, name: str, state: State, attempts: int = 1, *, now: float = 2, day: int = DAY, **how: object) -> bool:
        """Records an end that is based on what the ledger says now."""
        seen = self.check(name, day).seen
        (accepted,) = self.record([self.end(name, state, attempts, day=day, seen=seen, **how)], now)  # type: ignore[arg-type]
        return accepted


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
