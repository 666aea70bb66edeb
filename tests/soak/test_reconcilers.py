"""Reconcilers on a real Kafka, killed and frozen while a shop's webhooks get lost; the report says what came of it."""

from pathlib import Path

import pytest

from tests.soak.running import soak


@pytest.mark.long
@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_what_a_shop_lost_is_recorded_once_however_often_its_reconcilers_are_killed(tmp_path: Path) -> None:
    done, report = soak(tmp_path, "--reconcile", "--rounds", "4", "--seed", "3", "--ledger", "sqlite", "--fault", "reconciler-kill",
                        "--fault", "reconciler-crash:reconcile-intended", "--fault", "reconciler-crash:reconcile-committed",
                        "--fault", "reconciler-hold:reconcile-intended")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = report["reconciler"]
    assert found["dropped"] > 5  # type: ignore[index]
    assert found["synthetic"] > 5  # type: ignore[index]
    assert [found[name] for name in ("missed", "false", "recorded_twice")] == [0, 0, 0]  # type: ignore[index]
    assert min(found["killed_at"].values()) >= 1  # type: ignore[index]
    assert found["frozen_at"]["reconcile-intended"] >= 1  # type: ignore[index]


def test_it_makes_rounds_or_a_replay_and_not_both(tmp_path: Path) -> None:
    done, _ = soak(tmp_path, "--reconcile", "--replay", "1000")
    assert done.returncode == 2
    assert "--reconcile" in done.stderr
