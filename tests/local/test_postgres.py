"""The local PostgreSQL against the ways that its users, it, or the machine end."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hooktape.local import postgres
from tests.local.helpers import alive, eventually, hold

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def shared_home(passable_folder: Path) -> Path:
    # Longer than any socket path may be: as on a machine with long user names.
    return passable_folder / ("long-" * 25)


@pytest.fixture
def home(shared_home: Path) -> Iterator[Path]:
    assert postgres.status(shared_home) is None
    yield shared_home
    postgres.stop(shared_home)


def test_the_servers_of_the_run_is_postgresql_18(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.info.server_version // 10_000 == 18


def test_two_starts_at_once_make_one_server(home: Path) -> None:
    holders = [hold("postgres", home), hold("postgres", home)]
    pids = {holder.server_pid() for holder in holders}
    assert len(pids) == 1
    holders[0].leave()
    assert postgres.status(home) is not None
    holders[1].leave()
    assert postgres.status(home) is None


def test_a_parent_killed_with_minus_9_leaves_neither_server_nor_socket(home: Path) -> None:
    holder = hold("postgres", home)
    pid = holder.server_pid()
    assert postgres.socket_folder(home).exists()
    holder.kill()
    assert eventually(lambda: not alive(pid))
    assert eventually(lambda: not postgres.socket_folder(home).exists())


def test_a_server_killed_with_minus_9_comes_back_with_what_was_committed(home: Path) -> None:
    first = postgres.start(home, lifetime="parent")
    with psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept (x int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    os.kill(first.pid, signal.SIGKILL)
    assert eventually(lambda: postgres.status(home) is None)
    first.stop()

    second = postgres.start(home, lifetime="parent")
    with psycopg.connect(second.url) as connection:
        assert connection.execute("SELECT x FROM kept").fetchone() == (42,)
    second.stop()


def test_an_open_session_does_not_hold_up_the_stop(home: Path) -> None:
    server = postgres.start(home, lifetime="parent")
    with psycopg.connect(server.url) as connection:
        connection.execute("SELECT 1")
        server.stop()
        assert not alive(server.pid)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert postgres.status(home) is None
