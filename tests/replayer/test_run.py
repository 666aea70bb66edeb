import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from hooktape.errors import NotAllowed, TopicMissing
from hooktape.ledger.checks import State
from hooktape.ledger.jobs import JobState, Limits
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer import control, runner
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.planning import Plan, plan
from hooktape.schemas import codec, signature
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Names
from tests.replayer.kit import GROUP, SECRET, Group, cli, event, in_lane, record, settle
from tests.tape.kit import delete_before

FAST = Limits(rate=None)
EVERY = Selection(topics=("orders/*",))


def _plan(tape: Settings, ledger: Ledger, selection: Selection = EVERY, **more) -> Plan:
    with Cataloguer(tape, ledger) as cataloguer:
        return plan(cataloguer, ledger, GROUP, selection, who="me", now=time.time(), **{"limits": FAST, **more})


def _start(ledger: Ledger, made: Plan) -> str:
    return control.start(ledger, made.job.id, who="me@here", reason="a bad deploy", now=time.time()).id


def _run(tape: Settings, ledger: Ledger, job_id: str, patience: float = 20):
    return runner.run(tape, ledger, job_id, patience=patience)


def test_a_run_accounts_for_every_event_and_hands_over_the_bytes_as_they_were(tape: Settings, ledger: Ledger, url: str) -> None:
    events = [event(i, resource=i % 20, topic="orders/updated" if i % 3 else "orders/create") for i in range(1300)]
    record(tape, events, extra=lambda _: {"x-foreign": "stays", headers.RELABELLED: "1"})
    settle(ledger, events[:100], State.SUCCEEDED)
    settle(ledger, events[100:150], State.DEAD)
    settle(ledger, events[150:160], State.WAITING)
    job_id = _start(ledger, _plan(tape, ledger))
    with Group(tape, url) as group:
        job, account = _run(tape, ledger, job_id)
    assert job.state is JobState.DONE
    assert account.adds_up
    assert (account.succeeded, account.not_run) == (1190, {"done": 100, "waiting": 10})
    assert Counter(w for _, w in group.runs) == Counter(e.webhook_id for e in [*events[100:150], *events[160:]])
    by_id = {e.webhook_id: e for e in events}
    newest: dict[tuple[int, str], str] = {}
    for each in in_lane(tape, Names(tape.topic_prefix).replay(GROUP)):
        found = codec.decode(each.value)
        original = by_id[found.webhook_id]
        assert (each.value, each.key) == (codec.encode(original), original.lane.encode())
        ours = headers.read(each.headers)
        mark = headers.replay(ours)
        assert mark is not None
        assert (mark.id, mark.reason, mark.who, mark.forced) == (job_id, "a bad deploy", "me@here", False)
        origin = headers.origin(ours, each.at)
        assert origin.topic == Names(tape.topic_prefix).log("orders.updated" if original.topic == "orders/updated" else "orders.create")
        assert (ours[headers.RELABELLED], ("x-foreign", b"stays") in each.headers) == ("1", True)
        # Oldest first within a resource, across topics.
        assert newest.get((each.at.partition, original.lane), "") < found.webhook_id
        newest[each.at.partition, original.lane] = found.webhook_id
    entries = ledger.audit.list()
    assert [(e.action, e.target, e.reason, e.who) for e in entries] == [("replay run", job_id, "a bad deploy", "me@here")]


def test_what_fails_again_makes_the_job_incomplete_and_is_listed(tape: Settings, ledger: Ledger, url: str) -> None:
    events = [event(i) for i in range(20)]
    record(tape, events)
    settle(ledger, events, State.DEAD)
    plan = json.loads(cli(tape, url, "replay", "plan", "--group", GROUP, "--status", "dead", "--json").stdout)
    with Group(tape, url, lambda e: e.webhook_id != "w000007"):
        result = cli(tape, url, "replay", "run", plan["id"], "--reason", "fixed", "--yes")
    assert result.exit_code == 5
    assert "19  succeeded" in result.stdout
    assert "1  failed again" in result.stdout
    shown = json.loads(cli(tape, url, "replay", "show", plan["id"][:12], "--json").stdout)
    assert (shown["state"], shown["account"]["adds_up"]) == ("incomplete", True)
    assert [(e["resource"], e["outcome"], e["error"]) for e in shown["events"]] == [("order/7", "failed_again", "again")]
    rerun = json.loads(cli(tape, url, "replay", "plan", "--group", GROUP, "--status", "dead", "--json").stdout)
    with Group(tape, url):
        done = cli(tape, url, "replay", "run", rerun["id"], "--reason", "fixed for real", "--yes", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["account"]["succeeded"] == 1
    assert [row["state"] for row in json.loads(cli(tape, url, "replay", "list", "--json").stdout)] == ["done", "incomplete"]


def test_a_forced_replay_runs_what_had_succeeded_and_an_unforced_one_skips_it(tape: Settings, ledger: Ledger, url: str) -> None:
    events = [event(i) for i in range(10)]
    record(tape, events)
    plain, forced = _plan(tape, ledger), _plan(tape, ledger, forced=True)
    settle(ledger, events, State.SUCCEEDED)  # after both plans were made
    with Group(tape, url) as group:
        _, first = _run(tape, ledger, _start(ledger, plain))
        assert (first.succeeded, first.skipped, group.runs) == (0, {"done": 10}, [])
        _, second = _run(tape, ledger, _start(ledger, forced))
    assert (second.succeeded, len(group.runs)) == (10, 10)


def test_without_a_worker_the_job_says_what_is_missing(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(i) for i in range(5)])
    job, account = _run(tape, ledger, _start(ledger, _plan(tape, ledger)), patience=0.5)
    assert job.state is JobState.INCOMPLETE
    assert "5 have no outcome yet" in job.note
    assert (account.in_flight, account.adds_up) == (5, True)


def test_an_event_that_retention_removed_after_the_plan_is_settled_as_gone(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(i, resource=1) for i in range(10)])
    made = _plan(tape, ledger)
    place = made.examples["run"][0]
    delete_before(tape, place.kafka_topic, place.partition, 3)
    with Group(tape, url):
        job, account = _run(tape, ledger, _start(ledger, made))
    assert (job.state, account.succeeded, account.skipped) == (JobState.DONE, 7, {"gone": 3})


def test_a_killed_runner_is_resumed_and_each_event_has_one_outcome(tape: Settings, ledger: Ledger, url: str) -> None:
    events, killed = [event(i, resource=i % 50) for i in range(3000)], threading.Event()
    record(tape, events)
    # It waits for outcomes with a thousand of them on their way: nobody gives any before it's dead.
    job_id = _start(ledger, _plan(tape, ledger, limits=Limits(rate=None, outstanding=1000)))
    environment = {**os.environ, "HOOKTAPE_KAFKA": tape.kafka, "HOOKTAPE_TOPIC_PREFIX": tape.topic_prefix, "HOOKTAPE_DATABASE_URL": url}
    command = [sys.executable, "-m", "hooktape", "replay", "resume", job_id]
    with Group(tape, url, lambda _: killed.wait(60)) as group:
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not 0 < ledger.jobs.get(job_id).sent < 3000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed.set()
        assert ledger.jobs.get(job_id).state is JobState.RUNNING
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert finished.returncode == 0, finished.stderr
        account = ledger.jobs.account(job_id)
    assert ledger.jobs.get(job_id).state is JobState.DONE
    assert (account.succeeded, account.adds_up, account.skipped) == (3000, True, {})
    assert Counter(w for _, w in group.runs) == Counter(e.webhook_id for e in events)


def test_a_job_is_paused_resumed_and_cancelled_from_elsewhere(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(i) for i in range(2000)])
    # Nobody gives outcomes: it's held up with three hundred on their way, until its limits change.
    job_id = _start(ledger, _plan(tape, ledger, limits=Limits(rate=None, outstanding=300)))
    ended: list[object] = []

    def work() -> None:
        with Ledger.open(url) as mine:
            ended.append(_run(tape, mine, job_id))

    def until(condition) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: ledger.jobs.get(job_id).sent > 0)
    with pytest.raises(runner.RunElsewhere):
        _run(tape, ledger, job_id)
    assert cli(tape, url, "replay", "pause", job_id).exit_code == 0
    thread.join()  # a paused job has no runner
    assert len(in_lane(tape, Names(tape.topic_prefix).replay(GROUP))) == ledger.jobs.get(job_id).sent < 2000
    ledger.jobs.amend(job_id, limits=Limits(rate=None, outstanding=None))
    control.resume(ledger, job_id, who="me", now=time.time())
    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: ledger.jobs.get(job_id).state is JobState.VERIFYING)
    assert cli(tape, url, "replay", "cancel", job_id, "--yes").exit_code == 0
    thread.join()
    (paused, _), (job, account) = ended
    assert paused.state is JobState.PAUSED
    assert (job.state, account.in_flight, account.adds_up) == (JobState.CANCELLED, 2000, True)
    assert [e.action for e in ledger.audit.of(job_id)] == ["replay cancelled", "replay running", "replay paused", "replay run"]
    assert cli(tape, url, "replay", "resume", job_id).exit_code == 4


def test_a_plan_that_is_not_whole_or_has_no_lane_is_not_run(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(1)])
    made = _plan(tape, ledger)
    ledger.jobs.amend(made.job.id, note="planning")
    with pytest.raises(NotAllowed, match="isn't whole"):
        control.start(ledger, control.find_job(ledger, made.job.id).id, who="me", reason="r", now=1.0)
    with Cataloguer(tape, ledger) as cataloguer:
        other = plan(cataloguer, ledger, "other", EVERY, who="me", now=time.time())
    with pytest.raises(TopicMissing, match=r"replay\.other"):
        _run(tape, ledger, _start(ledger, other))


def test_a_replay_on_postgresql_accounts_for_every_event_too(tape: Settings, postgres_schema: str) -> None:
    events = [event(i) for i in range(300)]
    record(tape, events)
    with Ledger.open(postgres_schema) as ledger:
        settle(ledger, events[:50], State.SUCCEEDED)
        job_id = _start(ledger, _plan(tape, ledger))
        with Group(tape, postgres_schema):
            job, account = _run(tape, ledger, job_id)
    assert (job.state, account.succeeded, account.not_run) == (JobState.DONE, 250, {"done": 50})


def test_a_trial_hands_over_so_many_shows_what_became_of_them_and_pauses(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(i) for i in range(30)])
    made = json.loads(cli(tape, url, "replay", "plan", "--group", GROUP, "--topic", "orders/*", "--rate", "off", "--json").stdout)
    with Group(tape, url, lambda e: e.webhook_id != "w000003") as group:
        tried = cli(tape, url, "replay", "run", made["id"], "--reason", "try", "--first", "10", "--yes")
        assert tried.exit_code == 0
        assert "after a trial of 10: 9 succeeded, 1 failed again" in tried.stdout
        assert "is paused" in tried.stdout
        assert len(group.runs) == 10
        rest = cli(tape, url, "replay", "run", made["id"], "--reason", "rest", "--yes")
    assert (rest.exit_code, len(group.runs)) == (5, 30)
    shown = json.loads(cli(tape, url, "replay", "show", made["id"], "--json").stdout)
    assert (shown["account"]["succeeded"], shown["account"]["failed_again"], shown["sent"]) == (29, 1, 30)
    assert [(d["action"], d["reason"]) for d in shown["audit"]] == [("replay run", "try"), ("replay running", "rest")]


def test_a_job_of_which_too_much_fails_pauses_itself_and_goes_on_after_a_fix(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(i) for i in range(400)])
    job_id = _start(ledger, _plan(tape, ledger, limits=Limits(rate=None, outstanding=40)))
    fixed: list[bool] = []
    with Group(tape, url, lambda _: bool(fixed)):
        job, account = _run(tape, ledger, job_id)
        assert job.state is JobState.PAUSED
        assert "more than 20% of the last 100 failed again" in job.note
        assert 20 < account.failed_again + account.in_flight <= 80
        fixed.append(True)
        control.resume(ledger, job_id, who="me", now=time.time())
        job, account = _run(tape, ledger, job_id)
    assert (job.state, account.adds_up, account.in_flight, account.not_sent) == (JobState.INCOMPLETE, True, 0, 0)
    assert account.succeeded + account.failed_again == 400


def test_what_fails_verification_never_runs_whether_the_plan_or_the_runner_notices(tape: Settings, ledger: Ledger, url: str) -> None:
    forged = event(2, hmac=signature.sign(b"something else", SECRET))
    record(tape, [event(1), forged, event(3)])
    known = _plan(tape, ledger, forced=True)
    assert known.decisions == {"run": 2, "unverified": 1}
    # A cataloguer without the secrets believes what ingest has verified; the runner has them.
    ledger.catalogue.reset()
    trusting = _plan(replace(tape, shopify_secrets=()), ledger, forced=True)
    assert trusting.decisions == {"run": 3}
    with Group(tape, url) as group:
        job, account = _run(tape, ledger, _start(ledger, trusting))
    assert (job.state, account.succeeded, account.skipped) == (JobState.DONE, 2, {"unverified": 1})
    assert sorted(w for _, w in group.runs) == ["w000001", "w000003"]


def test_jobs_of_the_same_topic_wait_for_each_other_and_say_for_which(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(1), event(2), event(3, topic="orders/updated")])
    topics = ("orders/*", "orders/create", "orders/updated")
    first, second, other = (_start(ledger, _plan(tape, ledger, Selection(topics=(t,)))) for t in topics)
    names = [f"replay/{GROUP}/orders/create", f"replay/{first}"]
    assert ledger.leases.acquire_all(names, f"{first} elsewhere", time.time(), 60.0) is None
    with pytest.raises(NotAllowed, match=f"must wait for job {first}"):
        _run(tape, ledger, second)
    with Group(tape, url):
        job, _ = _run(tape, ledger, other)
    assert job.state is JobState.DONE


def test_what_has_changed_since_an_old_plan_is_said_before_it_runs(tape: Settings, ledger: Ledger, url: str) -> None:
    events = [event(i) for i in range(10)]
    record(tape, events)
    with Cataloguer(tape, ledger) as cataloguer:
        made = plan(cataloguer, ledger, GROUP, EVERY, who="me", now=time.time() - 600, limits=FAST)
    settle(ledger, events[:3], State.SUCCEEDED)
    settle(ledger, events[3:4], State.WAITING)
    with Group(tape, url):
        result = cli(tape, url, "replay", "run", made.job.id, "--reason", "late", "--yes", "--patience", "0.3s")
    assert "10m old" in result.stderr
    assert "3  now: finished already" in result.stderr
    assert "1  now: in a retry topic" in result.stderr


def test_a_new_group_gets_the_past_and_is_told_from_when_the_tape_has_it(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(i) for i in range(20)])
    words = ("replay", "backfill", "--group", GROUP, "--topic", "orders/*", "--rate", "off", "--yes")
    with Group(tape, url) as group:
        done = cli(tape, url, *words, "--from", "beginning", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["kind"] == "backfill"
    assert "the tape doesn't reach back so far: it begins at 2026-" in done.stderr
    assert sorted(w for _, w in group.runs) == [f"w{i:06}" for i in range(20)]
    assert cli(tape, url, *words, "--from", "1d", "--since", "2d").exit_code == 2
