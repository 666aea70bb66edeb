"""Whoever plans or runs a replay dies at each named point: the totals are the plan's all the same."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from hooktape import crash
from hooktape.errors import NotAllowed
from hooktape.ledger.jobs import JobState, Limits
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer import adopting, control
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.planning import HEARD, PLANNING, plan
from hooktape.settings import Secret, Settings
from tests.replayer.kit import GROUP, SECRET, Group, event, record

RUNNING = [point for point in crash.REPLAY if point != "replay-planning"]


def _dies(tape: Settings, url: str, point: str, *words: str) -> None:
    environment = {**os.environ, "HOOKTAPE_KAFKA": tape.kafka, "HOOKTAPE_TOPIC_PREFIX": tape.topic_prefix, "HOOKTAPE_DATABASE_URL": url,
                   "HOOKTAPE_SHOPIFY_SECRETS": SECRET, "HOOKTAPE_TEST_MODE": "1", "HOOKTAPE_CRASH": point}  # fmt: skip
    command = [sys.executable, "-m", "hooktape", *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, (point, ended.stderr)


def _expire(ledger: Ledger, job_id: str) -> None:
    """As if the dead one's leases had run out."""
    names = [f"replay/{GROUP}/{topic}" for topic in ledger.jobs.topics_to_run(job_id)] + [f"replay/{job_id}"]
    held = ledger.leases.acquire_all(names, "test", time.time(), 1.0)
    assert held is not None
    assert ledger.leases.release_all(names, held[1]) == len(names)
    ledger.jobs.alive(job_id, 0.0)


def test_killed_at_every_point_a_job_ends_with_the_totals_of_its_plan(tape: Settings, ledger: Ledger, url: str) -> None:
    events = [event(i, resource=i % 50) for i in range(2600)]
    record(tape, events)
    with Cataloguer(tape, ledger) as cataloguer:
        made = plan(cataloguer, ledger, GROUP, Selection(topics=("orders/*",)), who="me", now=time.time(), forced=True,
                    limits=Limits(rate=None, outstanding=700))  # fmt: skip
    job_id = control.start(ledger, made.job.id, who="me", reason="r", now=time.time()).id
    with Group(tape, url) as group:
        for point in RUNNING:
            _dies(tape, url, point, "replay", "resume", job_id)
            assert not (before := ledger.jobs.account(job_id)).not_run
            assert before.adds_up
            _expire(ledger, job_id)
        # The last one is taken over by a service, as nobody resumes it.
        with adopted(replace(tape, database_url=Secret(url))):
            deadline = time.monotonic() + 60
            while ledger.jobs.get(job_id).state is not JobState.DONE:
                assert time.monotonic() < deadline, ledger.jobs.get(job_id)
                time.sleep(0.05)
    account = ledger.jobs.account(job_id)
    assert account == ledger.jobs.account(job_id, counted=True)
    assert (account.succeeded, account.planned, account.adds_up, account.skipped) == (2600, 2600, True, {})
    assert Counter(w for _, w in group.runs) == Counter(e.webhook_id for e in events)


class adopted:
    """`adopting.adopt` on a thread."""

    def __init__(self, settings: Settings) -> None:
        import threading

        self._stop = threading.Event()
        self._thread = threading.Thread(target=adopting.adopt, args=(settings, self._stop), kwargs={"every": 0.05, "patience": 20.0})

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_plan_whose_planner_died_is_never_run(tape: Settings, ledger: Ledger, url: str, tmp_path: Path) -> None:
    record(tape, [event(i) for i in range(10)])
    _dies(tape, url, "replay-planning", "replay", "plan", "--group", GROUP, "--topic", "orders/*")
    (job,) = ledger.jobs.list()
    assert (job.note, job.selected) == (PLANNING, 10)
    assert [control.state_of(job, at) for at in (job.created_at, job.created_at + HEARD)] == ["planning", "abandoned"]
    with pytest.raises(NotAllowed, match="isn't whole"):
        control.start(ledger, job.id, who="me", reason="r", now=1.0)
