import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger.checks import FINISHED, State
from hooktape.ledger.items import Item
from hooktape.ledger.jobs import Job, JobState, Kind
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.plan import Candidate, Decision, Plan, decide, plan_replay
from hooktape.replayer.rate import Bucket
from hooktape.schemas.event import EventKey
from hooktape.settings import Settings
from tests.replayer.kit import GROUP, cli, event, record, settle
from tests.tape.kit import delete_before

versions = st.none() | st.integers(0, 5)
candidates = st.builds(Candidate, st.none() | st.sampled_from(State), st.booleans(), versions, versions, st.integers(0, 5))


@pytest.mark.parametrize(
    ("candidate", "decision", "forced"),
    [
        (Candidate(None, True), Decision.RUN, Decision.RUN),
        (Candidate(State.DEAD, True), Decision.RUN, Decision.RUN),
        (Candidate(State.SUCCEEDED, True), Decision.DONE, Decision.RUN),
        (Candidate(State.STALE, True), Decision.DONE, Decision.RUN),
        (Candidate(State.DISCARDED, True), Decision.DONE, Decision.RUN),
        (Candidate(State.WAITING, True), Decision.WAITING, Decision.WAITING),
        (Candidate(State.BEHIND, True), Decision.WAITING, Decision.WAITING),
        (Candidate(State.DEAD, False), Decision.GONE, Decision.GONE),
        (Candidate(State.DEAD, True, version=1, newest=2), Decision.SUPERSEDED, Decision.RUN),
        (Candidate(State.DEAD, True, version=2, newest=2), Decision.RUN, Decision.RUN),
        (Candidate(State.DEAD, True, version=None, newest=2), Decision.RUN, Decision.RUN),
        (Candidate(State.DEAD, True, redrives=3), Decision.AGAIN, Decision.AGAIN),
    ],
)
def test_each_event_gets_its_decision(candidate: Candidate, decision: Decision, forced: Decision) -> None:
    assert decide(candidate) is decision
    assert decide(candidate, forced=True) is forced


@given(candidates, st.booleans(), st.booleans())
def test_nothing_runs_that_is_gone_or_waits_and_nothing_finished_runs_unforced(candidate: Candidate, forced: bool, again: bool) -> None:
    if decide(candidate, forced=forced, again=again) is Decision.RUN:
        assert candidate.on_tape
        assert candidate.state is not State.WAITING
        assert forced or candidate.state not in FINISHED
        assert again or candidate.redrives < 3


@given(st.lists(st.tuples(candidates, st.sampled_from("ab"), st.sampled_from("xyz"))))
def test_the_totals_of_a_plan_add_up_by_decision_topic_and_shop(events: list[tuple[Candidate, str, str]]) -> None:
    plan = Plan(Job("1", GROUP, Kind.REPLAY, Selection(), "", "me", 0.0, rate=2.0))
    for seq, (candidate, topic, shop) in enumerate(events, 1):
        plan.add(Item(seq, EventKey(1, b"x"), "k", 0, seq, topic, shop, "", decide(candidate).value))
    assert plan.selected == len(events)
    for split in (plan.topics, plan.shops):
        assert sum(c.total() for c in split.values()) == len(events)
        assert sum(c["run"] for c in split.values()) == plan.decisions["run"]
    assert plan.seconds == plan.decisions["run"] / 2


@given(st.floats(0.5, 5000), st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_a_bucket_never_lets_more_through_than_its_rate(rate: float, pauses: list[float]) -> None:
    now, passed, bucket = 0.0, 0, Bucket(rate, 0.0)
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        passed += wait == 0
        assert wait <= 1 / rate + 1e-9
    assert passed <= rate * now + max(1.0, rate / 10) + 1e-6


def test_a_plan_says_what_would_happen_to_each_event_and_changes_nothing(tape: Settings, ledger: Ledger) -> None:
    events = [event(i, resource=i % 10, topic="orders/updated", version=100 + i) for i in range(40)]
    record(tape, events)
    settle(ledger, events[:5], State.SUCCEEDED)  # versions 100 to 104 of orders 0 to 4
    settle(ledger, events[5:7], State.WAITING)
    settle(ledger, events[7:9], State.DEAD)
    settle(ledger, [events[27]], State.SUCCEEDED)  # of order 7: supersedes 7 and 17, not 37
    with Cataloguer(tape, ledger) as cataloguer:
        made = plan_replay(cataloguer, ledger, GROUP, Selection(topics=("orders/*",)), who="me", now=1.0, rate=10)
    assert made.decisions == {"done": 6, "waiting": 2, "superseded": 2, "run": 30}
    assert made.selected == ledger.jobs.account(made.job.id).selected == 40
    assert made.seconds == 3.0
    job = ledger.jobs.get(made.job.id)
    assert job is not None
    assert (job.state, job.selected, job.note) == (JobState.PLANNED, 40, "")
    assert [i.seq for i in ledger.jobs.items(made.job.id, limit=100)] == list(range(1, 41))
    superseded = ledger.jobs.items(made.job.id, decision="superseded")
    assert [i.key for i in superseded] == [events[7].key, events[17].key]
    assert ledger.outcomes.failures(GROUP) == {"orders/updated": {State.WAITING: 2, State.DEAD: 2}}


def test_another_topic_of_the_same_resource_supersedes_nothing(tape: Settings, ledger: Ledger) -> None:
    created, updated = event(1, resource=1, version=1), event(2, resource=1, version=9, topic="orders/updated")
    record(tape, [created, updated])
    settle(ledger, [created], State.DEAD)
    settle(ledger, [updated], State.SUCCEEDED)
    with Cataloguer(tape, ledger) as cataloguer:
        made = plan_replay(cataloguer, ledger, GROUP, Selection(resources=("order/1",)), who="me", now=1.0)
    assert made.decisions == {"run": 1, "done": 1}


def test_an_event_beyond_retention_is_gone_and_the_end_is_frozen(tape: Settings, ledger: Ledger) -> None:
    record(tape, [event(i, resource=1) for i in range(10)])
    with Cataloguer(tape, ledger) as cataloguer:
        ends = cataloguer.catch_up()
        (partition,) = [p for p, end in ends.items() if end]
        delete_before(tape, *partition, 4)
        made = plan_replay(cataloguer, ledger, GROUP, Selection(topics=("orders/create",)), who="me", now=1.0)
    assert made.decisions == {"gone": 4, "run": 6}


def test_an_empty_selection_is_refused_and_one_without_events_leaves_no_plan(tape: Settings, ledger: Ledger) -> None:
    with Cataloguer(tape, ledger) as cataloguer:
        with pytest.raises(UsageError, match="--since"):
            plan_replay(cataloguer, ledger, GROUP, Selection(), who="me", now=1.0)
        with pytest.raises(NothingMatched):
            plan_replay(cataloguer, ledger, GROUP, Selection(shops=("nobody",)), who="me", now=1.0)
    assert ledger.jobs.list() == []


def test_the_plan_command_prints_totals_and_an_id_and_its_exit_codes(tape: Settings, url: str) -> None:
    record(tape, [event(i) for i in range(3)])
    found = cli(tape, url, "replay", "plan", "--group", GROUP, "--topic", "orders/*", "--json")
    assert found.exit_code == 0
    plan = json.loads(found.stdout)
    assert plan["decisions"] == {"run": 3}
    shown = cli(tape, url, "replay", "plan", "--group", GROUP, "--topic", "orders/*", "--rate", "1")
    assert "will run" in shown.stdout
    assert "it takes 3s" in shown.stdout
    assert cli(tape, url, "replay", "plan", "--group", GROUP, "--shop", "nobody").exit_code == 3
    assert cli(tape, url, "replay", "plan", "--group", GROUP).exit_code == 2
    refused = cli(tape, url, "replay", "run", plan["id"], "--reason", "test")
    assert refused.exit_code == 4
    assert cli(tape, url, "replay", "cancel", plan["id"]).exit_code == 0
    assert cli(tape, url, "replay", "run", plan["id"], "--reason", "test", "--yes").exit_code == 4
