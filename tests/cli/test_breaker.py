"""`hooktape breaker`: what it shows, what it writes, and what it refuses."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hooktape.cli import breaker, common
from hooktape.cli.status import summary
from hooktape.errors import NothingMatched, SettingsError, UsageError
from hooktape.ledger.breakers import Report
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.figures import Figures, GroupFigures
from hooktape.settings import Settings

T = "orders/create"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    settings = Settings(home=tmp_path)
    monkeypatch.setattr(common, "load", lambda: settings)
    with Ledger.open(settings.ledger_url) as opened:
        yield opened


def run(*words: str) -> Result:
    result = CliRunner().invoke(breaker.command, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def trip(ledger: Ledger, group: str = "g") -> float:
    now = time.time()
    ledger.breakers.say(group, "w1", [Report(T, "c0ffee", "open", now - 60, now + 25, 1021, 12, "KeyError", "'customer'\nx")], now)
    return now


def test_list_shows_what_is_held_and_why(ledger: Ledger) -> None:
    trip(ledger)
    line = run("list", "--group", "g").stdout.splitlines()[1].split()
    assert line[:3] == ["g", T, "open"]
    assert line[4:] == ["1", "1021", "12", "KeyError", "'customer'"]
    [row] = json.loads(run("list", "--json").stdout)
    assert (row["open"], row["causes"][0]["error_group"], row["override"]) == (True, "c0ffee", None)
    assert row["in_words"].startswith("1,021 failed with KeyError, for 6")


def test_list_of_nothing_says_so(ledger: Ledger) -> None:
    result = run("list", "--group", "g")
    assert (result.stdout, result.exit_code) == ("", 0)
    assert "no topic is held" in result.stderr
    assert json.loads(run("list", "--json").stdout) == []


def test_a_word_is_written_audited_shown_and_taken_back(ledger: Ledger) -> None:
    now = trip(ledger)
    done = json.loads(run("close", "--group", "g", T, "--for", "30m", "--reason", "known", "--json").stdout)
    assert (done["override"], done["topic"]) == ("closed", T)
    word = ledger.breakers.overrides("g", now)[T]
    assert word.until == pytest.approx(now + 1800, abs=60)
    [row] = json.loads(run("list", "--json").stdout)
    assert (row["open"], row["override"]["reason"]) == (False, "known")
    assert "let through by" in run("list").stdout
    run("open", "--group", "g", T, "--reason", "wait")
    assert ledger.breakers.overrides("g", now)[T].state == "open"
    assert "held by" in run("list").stdout
    run("auto", "--group", "g", T, "--reason", "over")
    assert ledger.breakers.overrides("g", now) == {}
    assert [entry.action for entry in ledger.audit.list()] == ["breaker auto", "breaker open", "breaker closed"]


def test_a_word_that_nobody_has_said_can_not_be_taken_back(ledger: Ledger) -> None:
    with pytest.raises(NothingMatched, match="its breaker decides already"):
        run("auto", "--group", "g", T, "--reason", "over")
    assert ledger.audit.list() == []


@pytest.mark.parametrize(("words", "error"), [
    (["open", "--group", "g", "order", "--reason", "x"], UsageError),
    (["open", "--group", "g", "orders/*", "--reason", "x"], UsageError),
    (["open", "--group", "g", T, "--reason", " "], UsageError),
    (["open", "--group", "a b", T, "--reason", "x"], SettingsError),
    (["close", "--group", "g", T, "--reason", "x", "--for", "soon"], UsageError),
    (["close", "--group", "g", T, "--reason", "x", "--for", "0s"], UsageError),
])  # fmt: skip
def test_wrong_usage_changes_nothing(ledger: Ledger, words: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        run(*words)
    assert ledger.breakers.list(time.time()) == []


def test_a_topic_newer_than_the_table_is_taken(ledger: Ledger) -> None:
    run("open", "--group", "g", "droids/awake", "--reason", "x")
    assert set(ledger.breakers.overrides("g", time.time())) == {"droids/awake"}


def test_status_shows_what_is_held(ledger: Ledger) -> None:
    now = trip(ledger)
    found = Figures(now, (GroupFigures("g", "stable", 1, held=tuple(ledger.breakers.list(now, "g"))),), 0)
    [row] = summary(found, 0, {}, now)["held"]
    assert row == {"group": "g", "topic": T, "open": True, "state": "1,021 failed with KeyError, for 60s; a probe in 25s"}
    ledger.breakers.set_override("g", T, "closed", now + 90, who="ada", reason="known", now=now)
    found = Figures(now, (GroupFigures("g", "stable", 1, held=tuple(ledger.breakers.list(now, "g"))),), 0)
    [row] = summary(found, 0, {}, now)["held"]
    assert (row["open"], row["state"]) == (False, "let through for 90s by ada: known")
