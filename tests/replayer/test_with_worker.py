"""The replayer and a real worker, each a process of its own: what the operator types, and what becomes of it."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.settings import Settings
from hooktape.tape import groups
from hooktape.tape.names import Kind, Names
from hooktape.tape.reader import Partition
from tests.replayer.kit import GROUP, cli, event, record

APP = """
from pathlib import Path
from hooktape import App, Event, Reject

app = App(group="g")
here = Path(__file__).parent

@app.on("orders/updated", replay=False)
async def once(event: Event) -> None:
    await handle(event)

@app.on("orders/create")
async def handle(event: Event) -> None:
    if event.json()["id"] % 5 == 0 and not (here / "fixed").exists():
        raise Reject("the bug")
    with (here / "handled").open("a") as file:
        file.write(f"{event.webhook_id} {event.replay.id if event.replay else '-'}\\n")
"""


@contextmanager
def worker(tape: Settings, url: str, folder: Path) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """`hooktape consume` as a process; gives a way to wait for something that it does."""
    (folder / "shopapp.py").write_text(APP)
    environment = {**os.environ, "HOOKTAPE_KAFKA": tape.kafka, "HOOKTAPE_TOPIC_PREFIX": tape.topic_prefix,
                   "HOOKTAPE_DATABASE_URL": url, "HOOKTAPE_TOPICS": ",".join(tape.topics)}  # fmt: skip
    environment["PYTHONPATH"] = f"{environment.get('PYTHONPATH', '')}{os.pathsep}{folder}"
    command = [sys.executable, "-m", "hooktape", "consume", "shopapp:app", "--group", GROUP]
    with (folder / "worker.log").open("a") as output:
        process = subprocess.Popen(command, env=environment, stderr=output, stdout=output, cwd=folder)

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert process.poll() is None, (folder / "worker.log").read_text()
            assert time.monotonic() < deadline, (folder / "worker.log").read_text()
            time.sleep(0.05)

    try:
        yield until
    finally:
        process.terminate()
        process.wait(20)


def handled(folder: Path) -> list[tuple[str, str]]:
    """(webhook id, replay's id or -) of each run."""
    file = folder / "handled"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(webhook, replay) for webhook, replay in map(str.split, lines)]


def test_what_died_of_a_bug_is_redriven_and_a_range_replayed_by_a_real_worker(
    tape: Settings, ledger: Ledger, url: str, tmp_path: Path
) -> None:
    events = [event(i) for i in range(1, 51)]
    record(tape, events)
    with worker(tape, url, tmp_path) as until:
        keys = [e.key for e in events]
        until(lambda: Counter(ledger.outcomes.states(GROUP, keys).values()) == {State.SUCCEEDED: 40, State.DEAD: 10})
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
    runs = handled(tmp_path)
    assert sorted(w for w, replay in runs if replay == plan["id"]) == [e.webhook_id for e in events]
    assert sorted(w for w, replay in runs if replay != plan["id"]) == [e.webhook_id for e in events]


def test_one_group_holds_all_offsets_and_a_reset_moves_the_logs_alone(tape: Settings, ledger: Ledger, url: str, tmp_path: Path) -> None:
    (tmp_path / "fixed").touch()
    events, names = [event(i) for i in range(1, 21)], Names(tape.topic_prefix)
    record(tape, events)
    with worker(tape, url, tmp_path) as until:
        until(lambda: len(handled(tmp_path)) == 20)
        plan = json.loads(cli(tape, url, "replay", "plan", "--group", GROUP, "--topic", "orders/create", "--force", "--json").stdout)
        assert cli(tape, url, "replay", "run", plan["id"], "--reason", "again", "--yes").exit_code == 0
        (member,) = groups.describe(tape, GROUP).members
        # The broker knows of the log alone; what the worker's other consumers read follows from it.
        assert {names.parse(topic).kind for topic, _ in member.partitions if names.parse(topic)} == {Kind.LOG}  # type: ignore[union-attr]
    assert not groups.describe(tape, GROUP).live
    before = _committed(tape)
    assert sum(offset for (topic, _), offset in before.items() if topic == names.replay(GROUP)) == 20
    reset = cli(tape, url, "reset", "--group", GROUP, "--all-topics", "--to-earliest", "--reprocess", "--execute", "--reason", "r",
                "--yes", "--json")
    assert reset.exit_code == 0, reset.exception
    log = names.log("orders.create")
    assert _committed(tape) == {place: offset for place, offset in before.items() if place[0] != log}
    with worker(tape, url, tmp_path) as until:
        until(lambda: len(handled(tmp_path)) == 60)
    mark = json.loads(reset.stdout)["reprocess"]
    assert Counter(replay for _, replay in handled(tmp_path)) == {"-": 20, plan["id"]: 20, mark: 20}
    assert _committed(tape) == before


def _committed(tape: Settings) -> dict[Partition, int]:
    """The group's offsets under this test's prefix, where it has read anything."""
    return {p: offset for p, offset in groups.committed(tape, GROUP).items() if p[0].startswith(tape.topic_prefix) and offset}


def test_a_handler_that_takes_no_replays_refuses_them_in_the_plan_and_in_the_lane(
    tape: Settings, ledger: Ledger, url: str, tmp_path: Path
) -> None:
    (tmp_path / "fixed").touch()
    events = [event(i, topic="orders/updated") for i in range(1, 6)]
    record(tape, events)
    words = ("replay", "plan", "--group", GROUP, "--topic", "orders/updated", "--force", "--json")
    # Before any worker has told what handlers there are.
    early = json.loads(cli(tape, url, *words).stdout)
    assert (early["decisions"], early["handlers"]) == ({"run": 5}, [])
    with worker(tape, url, tmp_path) as until:
        until(lambda: len(handled(tmp_path)) == 5)
        late = json.loads(cli(tape, url, *words).stdout)
        assert (late["decisions"], late["handlers"]) == ({"refused": 5}, [])
        done = json.loads(cli(tape, url, "replay", "run", early["id"], "--reason", "r", "--yes", "--json").stdout)
    assert (done["state"], done["account"]["skipped"]) == ("done", {"refused": 5})
    assert len(handled(tmp_path)) == 5
