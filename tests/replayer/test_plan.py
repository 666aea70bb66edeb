import json
import time
from collections import Counter
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger.checks import FINISHED, IN_RETRY, State
from hooktape.ledger.jobs import Job, JobState, Limits
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Clock, Selection
from hooktape.replayer import planning
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.deciding import Candidate, Decision, decide
from hooktape.replayer.planning import plan, planned
from hooktape.schemas import signature
from hooktape.settings import Settings
from tests.replayer.kit import GROUP, SECRET, T0, cli, event, record, settle
from tests.tape.kit import delete_before

versions = st.none() | st.integers(0, 5)
candidates = st.builds(Candidate, st.none() | st.sampled_from(State), st.booleans(), versions, versions, st.integers(0, 5),
                       st.booleans(), st.booleans())  # fmt: skip


@pytest.mark.parametrize(
    ("candidate", "decision", "forced"),
    [
        (Candidate(None, True), Decision.RUN, Decision.RUN),
        (Candidate(State.DEAD, True), Decision.RUN, Decision.RUN),
        (Candidate(State.SUCCEEDED, True), Decision.DONE, Decision.RUN),
        (Candidate(State.STALE, True), Decision.DONE, Decision.RUN),
        (Candidate(State.DISCARDED, True), Decision.DONE, Decision.RUN),
        (Candidate(State.WAITING, True), Decision.WAITING, Decision.WAITING),
        (Candidate(State.BEHIND, True), Decision.HELD, Decision.HELD),
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
        assert candidate.kept
        assert candidate.sound
        assert not candidate.refused
        assert candidate.state not in IN_RETRY
        assert forced or candidate.state not in FINISHED
        assert again or candidate.redrives < 3


def test_a_plan_says_what_would_happen_to_each_event_and_changes_nothing(tape: Settings, ledger: Ledger) -> None:
    events = [event(i, resource=i % 10, topic="orders/updated", version=100 + i) for i in range(40)]
    record(tape, events)
    settle(ledger, events[:5], State.SUCCEEDED)  # versions 100 to 104 of orders 0 to 4
    settle(ledger, events[5:7], State.WAITING)
    settle(ledger, events[7:9], State.DEAD)
    settle(ledger, [events[27]], State.SUCCEEDED)  # of order 7: supersedes 7 and 17, not 37
    with Cataloguer(tape, ledger) as cataloguer:
        made = plan(cataloguer, ledger, GROUP, Selection(topics=("orders/*",)), who="me", now=1.0, limits=Limits(rate=10.0))
    assert made.decisions == {"done": 6, "waiting": 2, "superseded": 2, "run": 30}
    assert made.selected == ledger.jobs.account(made.job.id).selected == 40
    assert made.seconds == 3.0
    job = ledger.jobs.get(made.job.id)
    assert job is not None
    assert (job.state, job.selected, job.note) == (JobState.PLANNED, 40, "")
    keys = {e.key: number for number, e in enumerate(events)}
    order = [keys[i.key] for i in ledger.jobs.items(made.job.id, limit=100)]
    # The resources that have failed go first, each whole and the oldest event of it before the others.
    assert {number % 10 for number in order[:16]} == {5, 6, 7, 8}
    for resource in range(10):
        assert [n for n in order if n % 10 == resource] == list(range(resource, 40, 10))
    superseded = ledger.jobs.items(made.job.id, decision="superseded")
    assert [i.key for i in superseded] == [events[7].key, events[17].key]
    assert ledger.outcomes.failures(GROUP) == {"orders/updated": {State.WAITING: 2, State.DEAD: 2}}


def test_another_topic_of_the_same_resource_supersedes_nothing(tape: Settings, ledger: Ledger) -> None:
    created, updated = event(1, resource=1, version=1), event(2, resource=1, version=9, topic="orders/updated")
    record(tape, [created, updated])
    settle(ledger, [created], State.DEAD)
    settle(ledger, [updated], State.SUCCEEDED)
    with Cataloguer(tape, ledger) as cataloguer:
        made = plan(cataloguer, ledger, GROUP, Selection(resources=("order/1",)), who="me", now=1.0)
    assert made.decisions == {"run": 1, "done": 1}


def test_an_event_beyond_retention_is_gone_and_the_end_is_frozen(tape: Settings, ledger: Ledger) -> None:
    record(tape, [event(i, resource=1) for i in range(10)])
    with Cataloguer(tape, ledger) as cataloguer:
        ends = cataloguer.catch_up()
        (partition,) = [p for p, end in ends.items() if end]
        delete_before(tape, *partition, 4)
        made = plan(cataloguer, ledger, GROUP, Selection(topics=("orders/create",)), who="me", now=1.0)
    assert made.decisions == {"gone": 4, "run": 6}


def test_an_empty_selection_is_refused_and_one_without_events_leaves_no_plan(tape: Settings, ledger: Ledger) -> None:
    with Cataloguer(tape, ledger) as cataloguer:
        with pytest.raises(UsageError, match="--since"):
            plan(cataloguer, ledger, GROUP, Selection(), who="me", now=1.0)
        with pytest.raises(NothingMatched):
            plan(cataloguer, ledger, GROUP, Selection(shops=("nobody",)), who="me", now=1.0)
    assert ledger.jobs.list() == []


def test_the_plan_command_prints_totals_and_an_id_and_its_exit_codes(tape: Settings, url: str) -> None:
    record(tape, [event(i) for i in range(3)])
    found = cli(tape, url, "replay", "plan", "--group", GROUP, "--topic", "orders/*", "--json")
    assert found.exit_code == 0
    made = json.loads(found.stdout)
    assert made["decisions"] == {"run": 3}
    shown = cli(tape, url, "replay", "plan", "--group", GROUP, "--topic", "orders/*", "--rate", "1")
    assert "will run" in shown.stdout
    assert "it takes 3s" in shown.stdout
    assert cli(tape, url, "replay", "plan", "--group", GROUP, "--shop", "nobody").exit_code == 3
    assert cli(tape, url, "replay", "plan", "--group", GROUP).exit_code == 2
    refused = cli(tape, url, "replay", "run", made["id"], "--reason", "test")
    assert refused.exit_code == 4
    assert cli(tape, url, "replay", "cancel", made["id"]).exit_code == 0
    assert cli(tape, url, "replay", "run", made["id"], "--reason", "test", "--yes").exit_code == 4


def test_a_plan_of_which_nothing_would_run_does_not_say_whom_it_reaches(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(0)])
    planned = ("replay", "plan", "--group", GROUP, "--topic", "orders/*")
    assert "no worker of it has started yet" in cli(tape, url, *planned).stdout
    settle(ledger, [event(0)], State.SUCCEEDED)
    shown = cli(tape, url, *planned).stdout
    assert "finished already" in shown
    assert "reaches" not in shown


def test_a_plan_that_comes_to_nothing_says_why_to_whoever_waits_for_it(tape: Settings, ledger: Ledger) -> None:
    begun: list[Job] = []
    with Cataloguer(tape, ledger) as cataloguer, pytest.raises(NothingMatched) as told:
        plan(cataloguer, ledger, GROUP, Selection(shops=("nobody.myshopify.com",)), who="me", now=time.time(), begun=begun.append)
    [job] = ledger.jobs.list()
    assert (job.id, job.state, job.note) == (begun[0].id, JobState.FAILED, str(told.value))


def test_the_ledger_gives_a_plan_back_as_it_was_made(tape: Settings, ledger: Ledger) -> None:
    record(tape, [event(n) for n in range(8)])
    settle(ledger, [event(n) for n in range(3)], State.SUCCEEDED)
    with Cataloguer(tape, ledger) as cataloguer:
        made = plan(cataloguer, ledger, GROUP, Selection(topics=("orders/*",)), who="me", now=time.time())
    again = planned(ledger, made.job)
    assert (again.decisions, again.handlers, again.seconds) == (made.decisions, made.handlers, made.seconds)
    assert {d: [i.webhook_id for i in items] for d, items in again.examples.items()} == {
        d: [i.webhook_id for i in items] for d, items in made.examples.items()}  # fmt: skip


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
@pytest.mark.parametrize("selection", [
    Selection(topics=("orders/*",)),
    Selection(since=T0 + 3_000_000, until=T0 + 50_000_000),
    Selection(since=T0, clock=Clock.TRIGGERED),
    Selection(shops=("acme.myshopify.com", "beta.myshopify.com")),
], ids=["topics", "time", "time triggered", "shops"])  # fmt: skip
def test_pages_that_the_ledger_copies_say_the_same_as_decisions_event_by_event(
        tape: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, database: str,
        selection: Selection) -> None:  # fmt: skip
    url = request.getfixturevalue("url" if database == "sqlite" else "postgres_schema")
    events = [event(i, topic=("orders/create", "orders/updated")[i % 2], resource=i % 7, triggered_us=T0 + (60 - i) * 1_000_000,
                    shop=("acme", "beta")[i % 3 == 0] + ".myshopify.com") for i in range(60)]  # fmt: skip
    events[31] = event(31, hmac=signature.sign(b"something else", SECRET))
    record(tape, events)
    with Ledger.open(url) as ledger, Cataloguer(tape, ledger) as cataloguer:
        ends = cataloguer.catch_up()
        delete_before(tape, *next(p for p, end in ends.items() if end), 4)
        plans = []
        for page in (1000, 6):
            monkeypatch.setattr(planning, "_PAGE", page)
            copy = Mock(wraps=ledger.jobs.copy_items)
            monkeypatch.setattr(ledger.jobs, "copy_items", copy)
            looks = Mock(wraps=ledger.catalogue.find)
            monkeypatch.setattr(ledger.catalogue, "find", looks)
            plans.append(made := plan(cataloguer, ledger, GROUP, selection, who="me", now=1.0))
            monkeypatch.undo()
            # Few pages were read here: the first, what isn't decided alike, and the end.
            assert copy.call_count > looks.call_count or page == 1000
        first, second = (ledger.jobs.items(made.job.id, limit=100) for made in plans)
        assert first == second
        assert len(first) == plans[0].selected == plans[1].selected == ledger.jobs.get(made.job.id).selected > 40
        assert plans[0].decisions == plans[1].decisions == Counter(i.decision for i in first)
        assert ledger.jobs.totals(plans[0].job.id, "shop") == ledger.jobs.totals(plans[1].job.id, "shop")
        assert ledger.jobs.account(made.job.id) == ledger.jobs.account(made.job.id, counted=True)
        settle(ledger, events[20:21], State.SUCCEEDED)
        again = plan(cataloguer, ledger, GROUP, selection, who="me", now=2.0)
        assert (again.selected, again.decisions["done"]) == (made.selected, 1)
