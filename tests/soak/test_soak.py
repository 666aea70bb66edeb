"""The whole harness: real processes on a real Kafka, killed and frozen; the report says what was hit and what came of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hooktape.local.soak.checker import judge
from hooktape.local.soak.history import History
from hooktape.local.soak.operator import printed_by, totals
from hooktape.local.soak.watching import Effects

ROOT = Path(__file__).parents[2]


def soak(tmp_path: Path, *words: str) -> "tuple[subprocess.CompletedProcess[str], dict[str, object]]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOOKTAPE_")}
    env |= {"HOOKTAPE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "hooktape", "soak", "--json", str(report), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return done, json.loads(report.read_text()) if report.exists() else {}


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_ingest_is_killed_at_every_step_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    done, report = soak(tmp_path, "--rounds", "5", "--seed", "7", "--ledger", "sqlite", "--fault", "ingest", "--keep")
    assert report["never_hit"] == [], done.stderr
    assert sum(report["faults"].values()) >= 5  # type: ignore[attr-defined]
    counts = report["counts"]
    assert counts["acknowledged"] > 100  # type: ignore[index]
    assert (counts["lost"], counts["unexcused_repeats"], counts["committed_past_unfinished"]) == (0, 0, 0)  # type: ignore[index]
    assert not set(report["rules_broken"]) & {"lost-ack", "phantom", "altered", "refused-but-kept", "late-answer"}  # type: ignore[call-overload]
    (kept,) = report["histories"]  # type: ignore[misc]
    assert judge(History.read(Path(kept))).counts == counts


@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_48_rounds_of_everything_end_clean(tmp_path: Path) -> None:
    done, report = soak(tmp_path, "--rounds", "48", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (report["clean"], report["never_hit"]) == (True, [])
    counts = report["counts"]
    assert counts["replays"] >= 5  # type: ignore[index]
    assert counts["replayed_succeeded"] > 100  # type: ignore[index]


@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_a_replay_ends_with_its_plans_totals_whoever_is_killed_meanwhile(tmp_path: Path) -> None:
    done, report = soak(tmp_path, "--replay", "2000", "--faults", "8", "--seed", "2", "--fault", "worker-kill", "--fault", "replay-kill",
                        "--fault", "postgres-kill", "--fault", "broker-kill")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = report["counts"]
    assert (counts["replays"], counts["replayed"], counts["replayed_open"]) == (1, 2000, 0)  # type: ignore[index]
    ended = [counts[f"replayed_{how}"] for how in ("succeeded", "failed_again", "skipped")]  # type: ignore[index]
    assert sum(ended) == 2000
    assert {name.split("-")[0] for name in report["faults"]} == {"worker", "replay", "postgres", "broker"}  # type: ignore[attr-defined]


def test_an_unknown_fault_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done, _ = soak(tmp_path, "--fault", "worker-tickle")
    assert done.returncode == 2
    assert "worker-tickle" in done.stderr


def test_judging_a_kept_history_ends_with_1_when_a_rule_is_broken(tmp_path: Path) -> None:
    from tests.soak.histories import clean
    from tests.soak.test_checker import lost_ack

    history = clean(7, faults=False)
    history.write(tmp_path / "good.jsonl")
    lost_ack(history)
    history.write(tmp_path / "bad.jsonl")
    assert soak(tmp_path, "--judge", str(tmp_path / "good.jsonl"))[0].returncode == 0
    done, _ = soak(tmp_path, "--judge", str(tmp_path / "bad.jsonl"))
    assert done.returncode == 1
    assert "lost-ack" in done.stdout


def test_what_a_command_printed_is_found_among_its_progress(tmp_path: Path) -> None:
    log = tmp_path / "operator.log"
    account = {"selected": 9, "not_run": {"done": 2}, "succeeded": 4, "failed_again": 1, "skipped": {"held": 2}, "in_flight": 0,
               "not_sent": 0}  # fmt: skip
    log.write_text("running: 3 of 9\n" + json.dumps({"id": "j", "selected": 9, "account": account}, indent=2) + "\nhooktape: incomplete\n")
    printed = printed_by(log)
    assert printed["id"] == "j"
    told = {name: number for name, number in totals(printed).items() if number}
    assert told == {"succeeded": 4, "failed_again": 1, "not_run:done": 2, "skipped:held": 2}
    log.write_text('{\n  "id": "j",\n')  # killed while it printed
    assert printed_by(log) == {}
    assert totals({"decisions": {"run": 3}}) == {"run": 3}


def test_the_handlers_file_is_read_as_it_grows_half_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "effects.jsonl"
    effects = Effects(path)
    start = {"start": "1-0", "handler": "order", "wid": "w", "lane": "s/order/1", "resource": "order/1", "version": 5, "attempt": 1,
             "generation": "", "pid": 1, "t": 10.0}  # fmt: skip
    end = json.dumps({"end": "1-0", "t": 10.5, "ok": True}) + "\n"
    with path.open("a") as file:
        file.write(json.dumps(start) + "\n" + json.dumps(start | {"start": "1-1", "wid": "x"}) + "\n" + end[:9])
        file.flush()
        assert effects.look() == 2
        file.write(end[9:])
    done, died = effects.attempts()
    assert (done.wid, done.start, done.end, done.ok) == ("w", 10.0, 10.5, True)
    assert (died.wid, died.end, died.ok) == ("x", None, False)
    assert effects.pids == {1}
    effects.close()
