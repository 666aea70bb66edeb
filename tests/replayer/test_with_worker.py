"""The replayer and a real worker, each a process of its own: what the operator types, and what becomes of it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.settings import Settings
from tests.replayer.kit import GROUP, cli, event, record

APP = """
from pathlib import Path
from hooktape import App, Event, Reject

app = App(group="g")
here = Path(__file__).parent

@app.on("orders/create", "orders/updated")
async def handle(event: Event) -> None:
    if event.json()["id"] % 5 == 0 and not (here / "fixed").exists():
        raise Reject("the bug")
    with (here / "handled").open("a") as file:
        file.write(f"{event.webhook_id} {event.replay.id if event.replay else '-'}\\n")
"""


def test_what_died_of_a_bug_is_redriven_and_a_range_replayed_by_a_real_worker(
    tape: Settings, ledger: Ledger, url: str, tmp_path: Path
) -> None:
    (tmp_path / "shopapp.py").write_text(APP)
    events = [event(i) for i in range(1, 51)]
    record(tape, events)
    environment = {**os.environ, "HOOKTAPE_KAFKA": tape.kafka, "HOOKTAPE_TOPIC_PREFIX": tape.topic_prefix,
                   "HOOKTAPE_DATABASE_URL": url, "HOOKTAPE_TOPICS": ",".join(tape.topics)}  # fmt: skip
    environment["PYTHONPATH"] = f"{environment.get('PYTHONPATH', '')}{os.pathsep}{tmp_path}"
    command = [sys.executable, "-m", "hooktape", "consume", "shopapp:app", "--group", GROUP]
    with (tmp_path / "worker.log").open("w") as output:
        worker = subprocess.Popen(command, env=environment, stderr=output, stdout=output, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while sum(ledger.outcomes.states(GROUP, [e.key for e in events]).get(e.key) in (State.SUCCEEDED, State.DEAD) for e in events) < 50:
            assert worker.poll() is None, (tmp_path / "worker.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
            time.sleep(0.05)
        assert ledger.outcomes.failures(GROUP) == {"orders/create": {State.DEAD: 10}}
        assert len(json.loads(cli(tape, url, "dlq", "list", "--group", GROUP, "--json").stdout)) == 10
        refused = cli(tape, url, "reset", "--group", GROUP, "--all-topics", "--to-earliest", "--execute", "--reason", "r", "--yes")
        assert refused.exit_code == 4
        (tmp_path / "fixed").touch()
        redriven = cli(tape, url, "dlq", "redrive", "--group", GROUP, "--status", "dead", "--reason", "fixed", "--yes", "--json")
        assert redriven.exit_code == 0, redriven.exception
        assert json.loads(redriven.stdout)["account"]["succeeded"] == 10
        plan = json.loads(cli(tape, url, "replay", "plan", "--group", GROUP, "--topic", "orders/create", "--force", "--json").stdout)
        replayed = cli(tape, url, "replay", "run", plan["id"], "--reason", "again", "--yes", "--json")
        assert replayed.exit_code == 0, replayed.exception
        assert json.loads(replayed.stdout)["account"]["succeeded"] == 50
    finally:
        worker.terminate()
        worker.wait(20)
    handled = [line.split() for line in (tmp_path / "handled").read_text().splitlines()]
    assert sorted(w for w, replay in handled if replay == plan["id"]) == [e.webhook_id for e in events]
    assert sorted(w for w, replay in handled if replay != plan["id"]) == [e.webhook_id for e in events]
