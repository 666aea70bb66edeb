"""One replay of all that is on the tape, with whoever takes part killed in turn."""

from pathlib import Path

import pytest

from tests.soak.running import soak


@pytest.mark.long
@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_a_replay_ends_with_its_plans_totals_whoever_is_killed_meanwhile(tmp_path: Path) -> None:
    done, report = soak(tmp_path, "--replay", "1000", "--faults", "6", "--seed", "2", "--fault", "worker-kill", "--fault", "replay-kill",
                        "--fault", "postgres-kill")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = report["counts"]
    assert (counts["replays"], counts["replayed"], counts["replayed_open"]) == (1, 1000, 0)  # type: ignore[index]
    ended = [counts[f"replayed_{how}"] for how in ("succeeded", "failed_again", "skipped")]  # type: ignore[index]
    assert sum(ended) == 1000
    assert {name.split("-")[0] for name in report["faults"]} == {"worker", "replay", "postgres"}  # type: ignore[attr-defined]
