"""Crash points: a process dies exactly there, and only in test mode."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooktape import crash
from hooktape.errors import SettingsError

ROOT = Path(__file__).parents[2]
_SCRIPT = """
from hooktape import crash
for n in range(1, 6):
    crash.point("fetched")
    crash.point("checked")
    print(n, flush=True)
"""


def run(*words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKTAPE_")}
    return subprocess.run([sys.executable, *words], env={**kept, "PYTHONPATH": "src", **env}, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    crash.arm("")


def test_a_process_is_killed_at_the_named_passage() -> None:
    ended = run("-c", _SCRIPT, HOOKTAPE_CRASH="checked:3", HOOKTAPE_TEST_MODE="1")
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == ["1", "2"]


def test_without_a_point_it_runs_to_its_end() -> None:
    ended = run("-c", _SCRIPT, HOOKTAPE_TEST_MODE="1")
    assert (ended.returncode, ended.stdout.split()) == (0, ["1", "2", "3", "4", "5"])


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="nothing tells that a child has stopped")
def test_a_process_stands_still_at_the_named_passage_until_it_is_woken() -> None:
    env = {**os.environ, "PYTHONPATH": "src", "HOOKTAPE_CRASH": "checked:2:stop", "HOOKTAPE_TEST_MODE": "1"}
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT], env=env, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED) is not None
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, said.split()) == (0, ["1", "2", "3", "4", "5"])


def test_outside_test_mode_the_command_refuses_to_start_and_says_why() -> None:
    ended = run("-m", "hooktape", "ingest", HOOKTAPE_CRASH="body-read", HOOKTAPE_SHOPIFY_SECRETS="x", HOOKTAPE_KAFKA="127.0.0.1:1")
    assert ended.returncode == 2
    assert "HOOKTAPE_TEST_MODE=1" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("spec", ["no-such-point", "fetched:0", "fetched:", "fetched:-1", "fetched:one", ":1", "fetched:1:halt"])
def test_a_point_that_is_not_listed_or_not_counted_is_an_error(spec: str) -> None:
    with pytest.raises(SettingsError):
        crash.arm(spec)


def test_passing_an_unlisted_point_is_an_error_once_any_is_armed() -> None:
    crash.arm("fetched:2", act=lambda: None)
    with pytest.raises(SettingsError, match="fetchd"):
        crash.point("fetchd")


def test_it_acts_once_and_never_for_another_point() -> None:
    acts: list[int] = []
    crash.arm("fetched:2", act=lambda: acts.append(1))
    for name in ("fetched", "checked", "checked", "fetched", "fetched"):
        crash.point(name)
    assert acts == [1]


def test_every_point_in_the_sources_is_listed() -> None:
    called = {
        name for folder in ("ingest", "consumers", "tape", "ledger") for file in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"crash\.point\(\s*[\"']([^\"']*)", file.read_text())
    }  # fmt: skip
    assert called <= set(crash.POINTS)
    assert {"body-read", "acked-not-answered"} <= called
