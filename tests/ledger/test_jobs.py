"""Replays and redrives as jobs, on both databases."""

from dataclasses import replace

import pytest

from hooktape.errors import LedgerError, UsageError
from hooktape.ledger.checks import State, Verdict
from hooktape.ledger.handlers import Known
from hooktape.ledger.items import START, Account, Ending, Row, Total
from hooktape.ledger.jobs import ENDED, MOVES, Job, JobState, Kind, Limits
from hooktape.ledger.keys import new_id
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, Status
from hooktape.schemas.event import Coordinates

from .conftest import Owner, key

JOB = Job("job-1", "g", Kind.REPLAY, Selection(topics=("orders/*",), statuses=(Status.DEAD,)), "size mapping fixed", "ada", 10.0,
          limits=Limits(rate=50.0))  # fmt: skip


def row(job: Job, seq: int, decision: str = "run") -> Row:
    return job.number, seq, *key(f"e{seq}"), "hooktape.log.orders.create", 1, 100 + seq, 500, 0, 0, decision


def add(ledger: Ledger, *planned: int | tuple[int, str]) -> int:
    """Adds items: a seq that is to run, or (seq, decision)."""
    job = ledger.jobs.get("job-1")
    assert job is not None
    pairs = [(each, "run") if isinstance(each, int) else each for each in planned]
    totals = [Total(decision, "orders/create", "s", 1) for _, decision in pairs]
    return ledger.jobs.add_items(job, [row(job, *pair) for pair in pairs], totals)


def job_1(ledger: Ledger) -> Job:
    job = ledger.jobs.get("job-1")
    assert job is not None
    return job


@pytest.fixture(autouse=True)
def planned(ledger: Ledger) -> None:
    ledger.jobs.create(JOB)


def test_a_job_is_kept_as_it_was_given_and_its_id_is_used_once(ledger: Ledger) -> None:
    assert ledger.jobs.get("job-1") == replace(JOB, number=job_1(ledger).number)
    assert ledger.jobs.get("job-2") is None
    with pytest.raises(LedgerError, match="a job job-1 already"):
        ledger.jobs.create(JOB)


def test_jobs_are_listed_the_latest_first_and_narrowed(ledger: Ledger) -> None:
    ledger.jobs.create(Job("job-2", "mail", Kind.REDRIVE, Selection(), "r", "ada", 20.0))
    ledger.jobs.move("job-2", [JobState.PLANNED], JobState.RUNNING, 21.0)
    assert [j.id for j in ledger.jobs.list()] == ["job-2", "job-1"]
    assert [j.id for j in ledger.jobs.list(1)] == ["job-2"]
    assert [j.id for j in ledger.jobs.list(group="g")] == ["job-1"]
    assert [j.id for j in ledger.jobs.list(states=[JobState.RUNNING, JobState.PAUSED])] == ["job-2"]


def test_a_job_moves_only_from_where_it_is_and_keeps_its_times(ledger: Ledger) -> None:
    move = ledger.jobs.move
    assert move("job-1", [JobState.PLANNED], JobState.RUNNING, 11.0)
    assert not move("job-1", [JobState.PLANNED], JobState.RUNNING, 12.0)
    assert move("job-1", [JobState.RUNNING], JobState.PAUSED, 13.0, "by hand")
    assert move("job-1", [JobState.PAUSED], JobState.RUNNING, 14.0)
    assert move("job-1", [JobState.RUNNING], JobState.VERIFYING, 15.0)
    assert move("job-1", [JobState.VERIFYING], JobState.DONE, 16.0)
    job = ledger.jobs.get("job-1")
    assert job is not None
    assert (job.state, job.started_at, job.ended_at, job.note) == (JobState.DONE, 11.0, 16.0, "by hand")
    assert not move("no such job", [JobState.PLANNED], JobState.RUNNING, 11.0)


@pytest.mark.parametrize("to", list(JobState))
@pytest.mark.parametrize("start", list(JobState))
def test_only_the_moves_that_are_drawn_are_possible(start: JobState, to: JobState, request: pytest.FixtureRequest) -> None:
    ledger: Ledger = request.getfixturevalue("ledger")
    if to in MOVES[start]:
        assert not ledger.jobs.move("no such job", [start], to, 1.0)
    else:
        with pytest.raises(UsageError, match=f"that is {start} can't become {to}"):
            ledger.jobs.move("job-1", [start], to, 1.0)


def test_four_states_are_ends() -> None:
    assert sorted(ENDED) == [JobState.CANCELLED, JobState.DONE, JobState.FAILED, JobState.INCOMPLETE]


def test_items_are_read_in_order_and_adding_them_again_adds_nothing(ledger: Ledger) -> None:
    assert add(ledger, -7, (2, "done"), 3, 4) == 4
    job = job_1(ledger)
    assert ledger.jobs.add_items(job, [row(job, 3), row(job, 4)], []) == 0
    assert [i.seq for i in ledger.jobs.to_send(job, START, 2)] == [-7, 3]
    assert [i.seq for i in ledger.jobs.to_send(job, 3, 10)] == [4]
    assert [i.seq for i in ledger.jobs.items("job-1", decision="done")] == [2]
    assert job.selected == 4


def test_a_plan_is_counted_by_topic_and_shop_those_with_the_most_first(ledger: Ledger) -> None:
    job = job_1(ledger)
    ledger.jobs.add_items(job, [], [Total("run", "orders/create", "a", 2), Total("done", "orders/create", "b", 5)])
    ledger.jobs.add_items(job, [], [Total("run", "products/update", "b", 1), Total("run", "orders/create", "a", 1)])
    assert ledger.jobs.totals("job-1", "topic") == [("orders/create", {"run": 3, "done": 5}), ("products/update", {"run": 1})]
    assert ledger.jobs.totals("job-1", "shop", 1) == [("b", {"done": 5, "run": 1})]
    assert (ledger.jobs.shops("job-1"), ledger.jobs.topics_to_run("job-1")) == (2, ["orders/create", "products/update"])


def test_nothing_can_be_added_to_a_job_that_runs_or_is_not_there(ledger: Ledger) -> None:
    job = job_1(ledger)
    ledger.jobs.move("job-1", [JobState.PLANNED], JobState.RUNNING, 11.0)
    for each in (job, replace(job, number=99)):
        with pytest.raises(LedgerError, match="isn't being planned"):
            ledger.jobs.add_items(each, [row(each, 1)], [])
    assert ledger.jobs.items("no such job") == []


def test_every_selected_event_stands_in_exactly_one_place_of_the_account(ledger: Ledger) -> None:
    add(ledger, 1, 2, 3, 4, 5, 6, (7, "done"), (8, "superseded"))
    account = ledger.jobs.account("job-1")
    assert account == ledger.jobs.account("job-1", counted=True) == Account(8, {"done": 1, "superseded": 1}, not_sent=6)
    job = job_1(ledger)
    assert ledger.jobs.published(job, START, 5, 5)
    assert not ledger.jobs.published(job, START, 2, 2)
    me = Owner(ledger)
    ends = [
        me.end("e1", State.SUCCEEDED, generation="job-1"),
        me.end("e2", State.DEAD, generation="job-1", error_type="KeyError", error_group="c", error_message="no size"),
        me.end("e3", State.WAITING, generation="job-1"),
    ]
    assert me.record(ends) == [True] * 3
    ledger.outcomes.note_skips("g", [Ending("job-1", key("e4"), "stale", "newer 12:00 was applied", 4),
                                        Ending("job-1", key("e7"), "stale", "not to run", 7)])
    account = ledger.jobs.account("job-1")
    assert account == ledger.jobs.account("job-1", counted=True)
    assert account == Account(8, {"done": 1, "superseded": 1}, 1, 1, {"stale": 1}, in_flight=2, not_sent=1)
    assert (account.adds_up, account.is_settled, account.planned) == (True, False, 6)
    assert ledger.jobs.outstanding(job) == 2
    (failed,) = ledger.jobs.items("job-1", outcome="failed_again")
    assert (failed.seq, failed.error) == (2, "no size")
    assert [i.seq for i in ledger.jobs.items("job-1", outcome="", decision="run")] == [3, 5, 6]


def test_jobs_that_ended_long_ago_are_forgotten_with_their_items(ledger: Ledger) -> None:
    add(ledger, 1)
    ledger.jobs.move("job-1", [JobState.PLANNED], JobState.CANCELLED, 86_400.0 * 3)
    ledger.prune(3)
    assert ledger.jobs.items("job-1") != []
    ledger.prune(4)
    assert ledger.jobs.get("job-1") is None
    assert ledger.jobs.items("job-1") == ledger.jobs.list() == []


def test_what_handlers_a_group_has_is_what_its_last_worker_told(ledger: Ledger) -> None:
    ledger.handlers.record("g", [Known("old", ("orders/create",), True, True)], 1.0)
    told = [Known("mail", ("orders/create", "orders/paid"), True, False), Known("sync", ("products/update",), False, True)]
    ledger.handlers.record("g", told, 2.0)
    assert ledger.handlers.of("g") == told
    assert ledger.handlers.of("other") == []


def test_the_first_outcome_of_an_item_stays(ledger: Ledger) -> None:
    add(ledger, 1)
    assert ledger.jobs.settle([Ending("job-1", key("e1"), "gone", "out of retention")]) == 1
    assert ledger.jobs.settle([Ending("job-1", key("e1"), "succeeded")]) == 0
    assert ledger.jobs.items("job-1")[0].outcome == "gone"


def test_an_item_is_settled_by_its_place_in_the_job_only_for_the_event_that_is_planned_there(ledger: Ledger) -> None:
    add(ledger, -5, 1, 2)
    assert ledger.jobs.settle([Ending("job-1", key("e1"), "gone", "", 2), Ending("job-1", key("e1"), "gone", "", 7)]) == 0
    assert ledger.jobs.settle([Ending("job-1", key("e-5"), "gone", "", -5), Ending("job-1", key("e2"), "stale")]) == 2
    assert [(i.seq, i.outcome) for i in ledger.jobs.items("job-1")] == [(-5, "gone"), (1, None), (2, "stale")]


def test_a_jobs_item_of_an_event_is_found_at_any_of_its_records_places(ledger: Ledger) -> None:
    add(ledger, 1, 2)
    (item,) = ledger.jobs.items("job-1", limit=1)
    here, elsewhere = Coordinates(item.kafka_topic, item.partition, item.offset), Coordinates("dlq", 9, 999)
    assert ledger.jobs.of_event("job-1", item.key.id, [elsewhere, here]) == [item]
    assert ledger.jobs.of_event("job-1", item.key.id, [elsewhere]) == []
    assert ledger.jobs.of_event("job-1", key("another").id, [here]) == []


def test_a_record_of_an_older_job_delivered_again_does_not_run_again(ledger: Ledger) -> None:
    add(ledger, 1)
    me = Owner(ledger)

    def handle(generation: str) -> bool:
        runs = me.check("e1", generation=generation, forced=True).verdict is Verdict.RUN
        return runs and me.finish("e1", State.SUCCEEDED, generation=generation)

    assert handle("job-1")
    assert handle("job-2")
    assert not handle("job-1")


def test_an_account_that_lost_an_item_does_not_add_up() -> None:
    assert not Account(3, {"done": 1}, succeeded=1).adds_up


def test_an_account_is_asked_of_a_job_that_is_not_there(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no job job-9"):
        ledger.jobs.account("job-9")


def test_ids_sort_by_the_time_they_were_made() -> None:
    assert new_id(1000.0) < new_id(1000.002) < new_id(2e9)
