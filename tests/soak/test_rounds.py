"""Real processes on a real Kafka, killed and frozen, in rounds; the report says what was hit and what came of it."""

from pathlib import Path

import pytest

from hooktape.local.soak.checker import judge
from hooktape.local.soak.history import History
from tests.soak.running import soak


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_48_rounds_of_everything_end_clean(tmp_path: Path) -> None:
    done, report = soak(tmp_path, "--rounds", "48", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (report["clean"], report["never_hit"]) == (True, [])
    counts = report["counts"]
    assert counts["replays"] >= 5  # type: ignore[index]
    assert counts["replayed_succeeded"] > 100  # type: ignore[index]
