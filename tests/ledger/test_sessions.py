"""An end written inside somebody else's transaction: what it writes, what it refuses, and who waits for whom."""

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.rows import dict_row

from hooktape.errors import LedgerUnavailable, SettingsError
from hooktape.ledger.checks import Applied, Check, Finish, Row, State, Waiting
from hooktape.ledger.jobs import Job, Kind
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.ledger.sessions import Refusal, Sessions
from hooktape.schemas.event import Coordinates

from .conftest import DAY, key

OWNER, NOW = "worker-a", 1000.0
END = Finish(key("a"), State.SUCCEEDED, 1, 0, 1, "orders/create")


@pytest.fixture
def url(postgres_url: str) -> Iterator[str]:
    """A schema of its own."""
    schema = f"ledger_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        yield f"{postgres_url}&options=-csearch_path%3D{schema}"
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """Partition 0 of the groups `batch` and `own` is the worker's, in epoch 1."""
    with Ledger.open(url) as opened:
        for group in ("batch", "own"):
            opened.ownership.heartbeat(group, OWNER, NOW, 30)
            assert opened.ownership.take(group, OWNER, [0], NOW).epochs == {0: 1}
        yield opened


@pytest.fixture
def sessions(ledger: Ledger) -> Iterator[Sessions]:
    made = ledger.sessions(30.0)
    yield made
    asyncio.run(made.close())


def record(sessions: Sessions, end: Finish, group: str = "own", idle: float = 5.0) -> Refusal | None:
    """In a transaction of its own, committed unless refused."""
    transaction = sessions.begin(end.key.day)
    try:
        with _entered(transaction) as connection:
            refusal = sessions.record(connection, group, OWNER, end, NOW, idle)
            if refusal is not None:
                raise psycopg.Rollback
    finally:
        sessions.give_back(transaction.connection)
    return refusal


class _entered:
    """What was begun, to its end."""

    def __init__(self, transaction: psycopg.Transaction) -> None:
        self._transaction = transaction

    def __enter__(self) -> psycopg.Connection[Any]:
        return self._transaction.connection

    def __exit__(self, *error: Any) -> bool:
        return self._transaction.__exit__(*error)


def tables(url: str, group: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that an end may touch."""
    with psycopg.connect(url) as connection:
        found = {name: connection.execute(f"SELECT * FROM {name} WHERE grp = %s ORDER BY 2, 3, 4", [group]).fetchall()
                 for name in ("outcomes", "waiting", "applied")}  # type: ignore[arg-type]  # fmt: skip
        items = connection.execute("SELECT i.seq, i.outcome, i.error FROM replay_items i JOIN jobs j ON j.number = i.job WHERE j.id = %s",
                                   [f"job-{group}"]).fetchall()  # fmt: skip
    found["items"] = items
    return {name: [tuple(value for value in row if value not in (group, f"job-{group}")) for row in rows] for name, rows in found.items()}


def waiting(ledger: Ledger, group: str) -> Row:
    """The event has failed once, and waits."""
    wait = Waiting(key("a"), b"l" * 16, 1, 30.0, NOW + 30, Coordinates("t", 0, 5))
    failed = replace(END, state=State.WAITING, error_type="E", error_group="g", error_message="m", shop="s", waiting=wait)
    assert ledger.outcomes.finish(group, OWNER, [failed], NOW) == [True]
    return seen(ledger, group, retry=True, attempt=1)


def seen(ledger: Ledger, group: str, **how: Any) -> Row:
    [answer] = ledger.outcomes.check(group, [Check(key("a"), **how)])
    assert answer.seen is not None
    return answer.seen


CASES = ["new", "waited", "version", "older version", "replayed"]


@pytest.mark.parametrize("case", CASES)
def test_it_writes_what_a_batch_would(case: str, ledger: Ledger, sessions: Sessions, url: str) -> None:
    for group in ("batch", "own"):
        end = END
        if case == "waited":
            end = replace(END, seen=waiting(ledger, group), attempts=2, version=Applied("h", "s", "order/1", 7))
        if "version" in case:
            if case == "older version":
                first = replace(END, key=key("b"), version=Applied("h", "s", "order/1", 9))
                assert ledger.outcomes.finish(group, OWNER, [first], NOW) == [True]
            end = replace(END, version=Applied("h", "s", "order/1", 7))
        if case == "replayed":
            assert ledger.outcomes.finish(group, OWNER, [END], NOW) == [True]
            job = ledger.jobs.create(Job(f"job-{group}", group, Kind.REPLAY, Selection(ids=("a",)), "why", "ada", NOW))
            ledger.jobs.add_items(job, [(job.number, 1, *key("a"), "t", 0, 5, 9, 1, 0, "run")], [])
            end = replace(END, seen=seen(ledger, group), generation=f"job-{group}")
        if group == "batch":
            assert ledger.outcomes.finish(group, OWNER, [end], NOW) == [True]
        else:
            assert record(sessions, end) is None
    assert tables(url, "own") == tables(url, "batch")
    assert tables(url, "own")["outcomes"]


def test_an_end_that_was_recorded_before_is_refused_even_if_it_says_the_same(ledger: Ledger, sessions: Sessions) -> None:
    assert record(sessions, END) is None
    # A batch may be sent twice, and is told yes. Here the yes would commit a handler's writes a second time.
    assert ledger.outcomes.finish("own", OWNER, [END], NOW) == [True]
    assert record(sessions, END) is Refusal.ENDED


def test_what_was_checked_must_still_stand(ledger: Ledger, sessions: Sessions) -> None:
    before = waiting(ledger, "own")
    assert record(sessions, replace(END, seen=before, attempts=2)) is None
    assert record(sessions, replace(END, seen=before, attempts=3)) is Refusal.ENDED


@pytest.mark.parametrize("how", ["given up", "taken over", "another partition"])
def test_an_end_of_a_partition_that_is_anothers_is_refused(how: str, ledger: Ledger, sessions: Sessions) -> None:
    end = replace(END, partition=1) if how == "another partition" else END
    if how != "another partition":
        ledger.ownership.give_up("own", OWNER, [0])
    if how == "taken over":
        ledger.ownership.heartbeat("own", "worker-b", NOW, 30)
        ledger.ownership.take("own", "worker-b", [0], NOW)
        ledger.ownership.give_up("own", "worker-b", [0])
        # Its own again, in a later epoch: what began in the first one is still another's to run.
        ledger.ownership.take("own", OWNER, [0], NOW)
    assert record(sessions, end) is Refusal.NOT_OWNED
    assert ledger.outcomes.states("own", [END.key]) == {}


def test_a_take_over_waits_for_a_transaction_that_has_recorded_its_end(ledger: Ledger, sessions: Sessions, url: str) -> None:
    transaction = sessions.begin(DAY)
    taken = threading.Event()

    def take() -> None:
        with Ledger.open(url) as other:
            other.ownership.heartbeat("own", "worker-b", NOW + 60, 30)
            assert other.ownership.take("own", "worker-b", [0], NOW + 60).epochs == {0: 2}
            taken.set()
            assert other.outcomes.states("own", [END.key]) == {END.key: State.SUCCEEDED}

    with ThreadPoolExecutor(1) as pool:
        with _entered(transaction) as connection:
            assert sessions.record(connection, "own", OWNER, END, NOW, 5.0) is None
            other = pool.submit(take)
            assert not taken.wait(0.3)
        other.result(10)
    sessions.give_back(transaction.connection)


def test_a_worker_that_stands_still_before_its_commit_loses_its_locks(ledger: Ledger, sessions: Sessions, url: str) -> None:
    transaction = sessions.begin(DAY)
    assert sessions.record(transaction.connection, "own", OWNER, END, NOW, 0.2) is None
    began = time.monotonic()
    with Ledger.open(url) as other:
        other.ownership.heartbeat("own", "worker-b", NOW + 60, 30)
        assert other.ownership.take("own", "worker-b", [0], NOW + 60).epochs == {0: 2}
    assert time.monotonic() - began < 5
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        transaction.__exit__(None, None, None)
    sessions.give_back(transaction.connection)
    assert ledger.outcomes.states("own", [END.key]) == {}


def test_two_transactions_of_one_event_are_one_after_the_other_and_one_is_kept(sessions: Sessions) -> None:
    first = sessions.begin(DAY)
    with ThreadPoolExecutor(1) as pool:
        with _entered(first) as connection:
            assert sessions.record(connection, "own", OWNER, END, NOW, 5.0) is None
            second = pool.submit(record, sessions, END)
            with pytest.raises(TimeoutError):
                second.result(0.3)
        assert second.result(10) is Refusal.ENDED
    sessions.give_back(connection)


def test_what_a_handler_sets_in_its_transaction_doesnt_touch_the_record(sessions: Sessions, ledger: Ledger) -> None:
    transaction = sessions.begin(DAY)
    with _entered(transaction) as connection:
        connection.row_factory = dict_row
        connection.execute("SET LOCAL search_path TO pg_catalog")
        connection.execute("SET LOCAL synchronous_commit TO off")
        connection.execute("SET LOCAL ROLE pg_read_all_data")
        assert sessions.record(connection, "own", OWNER, END, NOW, 5.0) is None
        assert connection.execute("SHOW synchronous_commit").fetchone() == {"synchronous_commit": "on"}
    sessions.give_back(connection)
    assert ledger.outcomes.states("own", [END.key]) == {END.key: State.SUCCEEDED}
    again = sessions.begin(DAY)
    assert again.connection is connection
    assert again.connection.execute("SELECT 1").fetchone() == (1,)
    again.__exit__(None, None, None)
    sessions.give_back(connection)


def test_a_connection_that_died_while_it_lay_idle_is_replaced(sessions: Sessions, url: str) -> None:
    assert record(sessions, END) is None
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                              WHERE application_name = 'hooktape' AND state = 'idle' AND query = 'COMMIT'""")
    assert record(sessions, replace(END, key=key("b"))) is None


def test_a_connection_that_comes_back_inside_a_transaction_isnt_lent_again(sessions: Sessions) -> None:
    transaction = sessions.begin(DAY)
    sessions.give_back(transaction.connection)
    assert transaction.connection.closed


def test_what_comes_back_after_the_end_is_closed(sessions: Sessions) -> None:
    transaction = sessions.begin(DAY)
    transaction.__exit__(None, None, None)
    asyncio.run(sessions.close())
    sessions.give_back(transaction.connection)
    assert transaction.connection.closed


def test_a_server_that_isnt_there_is_said_to_be_away_without_its_password(tmp_path: Any) -> None:
    sessions = Sessions(f"postgresql://me:secret@/db?host={tmp_path}", lambda _: None, 1.0)
    for begin in (lambda: sessions.begin(DAY), lambda: asyncio.run(sessions.begin_async(DAY))):
        with pytest.raises(LedgerUnavailable) as told:
            begin()
        assert "secret" not in str(told.value)


def test_sqlite_has_none(tmp_path: Any) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger, pytest.raises(SettingsError, match="HOOKTAPE_DATABASE_URL=postgresql"):
        ledger.sessions(1.0)
