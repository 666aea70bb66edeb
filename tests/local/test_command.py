"""`hooktape kafka`, as typed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hooktape.cli.kafka import command
from hooktape.errors import UsageError
from hooktape.local import kafka


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(env={"HOOKTAPE_HOME": str(tmp_path), "HOOKTAPE_KAFKA": None, "HOOKTAPE_LOCAL_KAFKA": None})

    def invoke(*words: str, **env: str):  # type: ignore[no-untyped-def]
        return runner.invoke(command, words, env=env)

    yield invoke
    kafka.stop(tmp_path / "kafka")


@pytest.mark.kafka
def test_start_status_stop(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    started = run("start")
    assert started.exit_code == 0, started.output
    bootstrap = started.stdout.strip()  # nothing else there: it's made for $(hooktape kafka start)
    again = run("start")
    assert again.stdout.strip() == bootstrap
    status = run("status", "--json")
    assert status.exit_code == 0
    told = json.loads(status.stdout)
    assert (told["running"], told["answers"], told["bootstrap"]) == (True, True, bootstrap)
    assert told["lifetime"] == "detached"
    assert Path(told["log"]).exists()
    assert bootstrap in run("status").stdout
    assert run("stop").exit_code == 0
    assert run("status", "--json").exit_code == 3


def test_status_and_stop_without_a_broker(run) -> None:  # type: ignore[no-untyped-def]
    status = run("status", "--json")
    assert (status.exit_code, json.loads(status.stdout)) == (3, {"running": False, "answers": False})
    assert "hooktape kafka start" in run("status").stdout
    stopped = run("stop")
    assert stopped.exit_code == 0
    assert "No local Kafka runs" in stopped.stderr


def test_a_container_cannot_be_started_to_stay(run) -> None:  # type: ignore[no-untyped-def]
    result = run("start", HOOKTAPE_LOCAL_KAFKA="container")
    assert isinstance(result.exception, UsageError)
    assert "docker compose" in str(result.exception)


@pytest.mark.parametrize("words", [(), ("start",), ("stop",), ("status",)])
def test_every_help_has_an_example(run, words: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Example:\n" in result.stdout
