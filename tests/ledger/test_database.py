"""Opening, migrating, losing and pruning the database."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from hooktape.errors import LedgerError, LedgerUnavailable, SettingsError
from hooktape.ledger import migrations, sqlite
from hooktape.ledger.checks import State, Waiting
from hooktape.ledger.database import Transaction, for_psycopg
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.schemas.event import Coordinates

from .conftest import DAY, Owner, key
from .test_catalogue import entry, record


@pytest.mark.parametrize("url", ["mysql://u:hunter2@host/x", "ledger.db", "", "sqlite:ledger.db", "sqlite://ledger.db"])
def test_an_address_of_another_kind_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match="HOOKTAPE_DATABASE_URL") as caught:
        Ledger.open(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("url", "error"), [
    ("postgresql://u:hunter2@127.0.0.1:1/x", LedgerUnavailable),
    ("postgresql://u:hunter2@127.0.0.1:port/x", LedgerUnavailable),
    ("postgresql://u:hunter2@[broken/x?nonsense=hunter2", SettingsError),
])  # fmt: skip
def test_no_error_shows_the_password(url: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        Ledger.open(url)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/a/b/ledger.db"):
        assert (tmp_path / "a/b/ledger.db").exists()


def test_a_folder_that_can_not_be_made_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable, match="can't be made"):
        Ledger.open(f"sqlite:///{tmp_path}/file/ledger.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database" * 500)
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        Ledger.open(f"sqlite:///{tmp_path}/ledger.db")


def test_opening_again_keeps_everything(opened: Callable[[], Ledger]) -> None:
    first = opened()
    record(first, entry(1))
    first.close()
    assert opened().catalogue.find(Selection()) == [entry(1)]


def test_a_ledger_that_a_newer_version_wrote_is_refused_and_left_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = migrations.steps()
    newer = max(real) + 1
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "steps", lambda: {**real, newer: "CREATE TABLE later (x INTEGER); -- a comment\n"})
        Ledger.open(url).close()
    with pytest.raises(LedgerError, match=f"step {newer}; this Hooktape knows {max(real)}.*upgrade this one"):
        Ledger.open(url)


def test_a_step_that_fails_leaves_nothing_of_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = migrations.steps()
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "steps", lambda: {**real, 9000: "CREATE TABLE half (x INTEGER); " * 2})
        with pytest.raises(LedgerError, match="half"):
            Ledger.open(url)
    with Ledger.open(url) as ledger:
        assert ledger.audit.list() == []


def test_steps_are_numbered_without_gaps() -> None:
    assert list(migrations.steps()) == list(range(1, len(migrations.steps()) + 1))


def test_a_lost_connection_is_reported_once_and_made_anew(url: str, opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    if ledger.dialect == "sqlite":
        pytest.skip("a file has no connection to lose")
    record(ledger, entry(1))
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hooktape'")
    with pytest.raises(LedgerUnavailable, match="safe to try again"):
        ledger.catalogue.positions()
    assert ledger.catalogue.find(Selection()) == [entry(1)]


def test_a_file_that_stays_locked_is_unavailable_and_works_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.05)
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked"):
            ledger.audit.append(1.0, "ada", "x", "y", "z")
        assert ledger.audit.list() == []
        other.execute("ROLLBACK")
        other.close()
        ledger.audit.append(1.0, "ada", "x", "y", "z")
        assert len(ledger.audit.list()) == 1


def test_an_end_is_synced_and_a_sign_of_life_is_not(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        me = Owner(ledger)

        def level(t: Transaction) -> int:
            return int(t.rows("PRAGMA synchronous")[0][0])

        assert ledger._database.write(level, durable=False) == 1
        assert ledger._database.write(level) == 2
        me.beat(1)
        assert ledger._database.read(level) == 1
        assert me.finish("a", State.SUCCEEDED)
        assert ledger._database.read(level) == 2


def test_what_was_finished_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    script = """
import os, sys
from hooktape.ledger.checks import Finish, State
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
ledger = Ledger.open(sys.argv[1])
ledger.ownership.heartbeat("g", "w", 0, 60)
epoch = ledger.ownership.take("g", "w", [0], 0).epochs[0]
for number in range(10_000):
    key = EventKey(20_000, number.to_bytes(16, "big"))
    assert ledger.outcomes.finish("g", "w", [Finish(key, State.SUCCEEDED, 1, 0, epoch, "t")], 1) == [True]
    os.write(1, b"%d\\n" % number)
"""
    url = f"sqlite:///{tmp_path}/ledger.db"
    with subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, env={**os.environ}) as child:
        assert child.stdout is not None
        said = [int(child.stdout.readline()) for _ in range(50)]
        os.kill(child.pid, signal.SIGKILL)
        said += [int(line) for line in child.stdout if line.endswith(b"\n")]
    from hooktape.ledger.keys import EventKey

    with Ledger.open(url) as ledger:
        keys = [EventKey(20_000, number.to_bytes(16, "big")) for number in said]
        assert set(ledger.outcomes.states("g", keys).values()) == {State.SUCCEEDED}
        assert len(ledger.outcomes.states("g", keys)) == len(said) >= 50


def test_pruning_forgets_old_days_and_they_can_be_written_again(opened: Callable[[], Ledger]) -> None:
    ledger, other = opened(), opened()
    keys = [key("a", day) for day in (DAY - 10, DAY - 5, DAY)]
    me, you = Owner(ledger), Owner(other, "you", part=1)
    assert all(me.finish("a", State.SUCCEEDED, day=k.day) for k in keys)
    record(other, entry(1, key=key("b", DAY - 10)), entry(2, key=key("b", DAY)))
    assert ledger.prune(DAY - 5) == 1
    assert set(ledger.outcomes.states("g", keys)) == set(keys[1:])
    assert [e.key.day for e in ledger.catalogue.find(Selection())] == [DAY]
    # The other process remembers partitions that are gone.
    assert you.finish("a", State.SUCCEEDED, day=keys[0].day)
    assert ledger.prune(DAY + 1) == 3
    assert other.outcomes.states("g", keys) == {}


def test_what_waits_for_longer_than_retention_holds_nobody_for_ever(ledger: Ledger) -> None:
    me = Owner(ledger)
    for day in (DAY - 10, DAY):
        wait = Waiting(key("a", day), b"l" * 16, day, 30.0, 40.0, Coordinates("log", 0, 1))
        assert me.record([me.end("a", State.WAITING, day=day, wait=wait)]) == [True]
    ledger.prune(DAY)
    assert [w.key for w in ledger.outcomes.waiting("g", 0)] == [key("a", DAY)]


def test_days_before_1970_have_their_place_too(ledger: Ledger) -> None:
    me = Owner(ledger)
    assert me.record([me.end("a", State.SUCCEEDED, day=day) for day in (-3, 0)]) == [True, True]
    assert ledger.prune(0) == 1


def test_statements_are_translated_for_psycopg() -> None:
    assert for_psycopg("SELECT '100%', x::text FROM t WHERE a = :a AND b IN :names") == (
        "SELECT '100%%', x::text FROM t WHERE a = %(a)s AND b = ANY(%(names)s)")  # fmt: skip
