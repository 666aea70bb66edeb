"""Replays and redrives as jobs, on both databases."""

import pytest

from hooktape.errors import LedgerError, UsageError
from hooktape.ledger.checks import State, Verdict
from hooktape.ledger.items import Account, Item
from hooktape.ledger.jobs import ENDED, MOVES, Job, JobState, Kind
from hooktape.ledger.keys import new_id
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, Status

from .conftest import Owner, key

JOB = Job("job-1", "g", Kind.REPLAY, Selection(topics=("orders/*",), statuses=(Status.DEAD,)), "size mapping fixed", "ada", 10.0,
          rate=50.0)  # fmt: skip


def item(seq: int, decision: str = "run") -> Item:
    return Item(seq, key(f"e{seq}"), "hooktape.log.orders.create", 1, 100 + seq, "orders/create", "s", f"order/{seq}", decision)


@pytest.fixture(autouse=True)
def planned(ledger: Ledger) -> None:
    ledger.jobs.create(JOB)


def test_a_job_is_kept_as_it_was_given_and_its_id_is_used_once(ledger: Ledger) -> None:
    assert ledger.jobs.get("job-1") == JOB
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
    items = [item(1), item(2, "done"), item(3), item(4)]
    assert ledger.jobs.add_items("job-1", items) == 4
    assert ledger.jobs.add_items("job-1", items[2:]) == 0
    assert ledger.jobs.next_items("job-1", 0, 2) == [items[0], items[2]]
    assert ledger.jobs.next_items("job-1", 3, 10) == [items[3]]
    assert ledger.jobs.items("job-1", decision="done") == [items[1]]
    job = ledger.jobs.get("job-1")
    assert job is not None
    assert job.selected == 4


def test_nothing_can_be_added_to_a_job_that_runs_or_is_not_there(ledger: Ledger) -> None:
    ledger.jobs.move("job-1", [JobState.PLANNED], JobState.RUNNING, 11.0)
    for job_id in ("job-1", "no such job"):
        with pytest.raises(LedgerError, match="isn't being planned"):
            ledger.jobs.add_items(job_id, [item(1)])
    assert ledger.jobs.items("no such job") == []


def test_every_selected_event_stands_in_exactly_one_place_of_the_account(ledger: Ledger) -> None:
    ledger.jobs.add_items("job-1", [item(1), item(2), item(3), item(4), item(5), item(6), item(7, "done"), item(8, "superseded")])
    account = ledger.jobs.account("job-1")
    assert account == Account(8, {"done": 1, "superseded": 1}, not_sent=6)
    ledger.jobs.published("job-1", 5)
    ledger.jobs.published("job-1", 2)
    me = Owner(ledger)
    ends = [
        me.end("e1", State.SUCCEEDED, generation="job-1"),
        me.end("e2", State.DEAD, generation="job-1", error_type="KeyError", error_group="c", error_message="no size"),
        me.end("e3", State.WAITING, generation="job-1"),
    ]
    assert me.record(ends) == [True] * 3
    ledger.outcomes.note_skips("g", [("job-1", key("e4"), "stale", "newer 12:00 was applied")])
    account = ledger.jobs.account("job-1")
    assert account == Account(8, {"done": 1, "superseded": 1}, 1, 1, {"stale": 1}, in_flight=2, not_sent=1)
    assert (account.adds_up, account.is_settled, account.planned) == (True, False, 6)
    (failed,) = ledger.jobs.items("job-1", outcome="failed_again")
    assert (failed.seq, failed.error) == (2, "no size")
    assert [i.seq for i in ledger.jobs.items("job-1", outcome="", decision="run")] == [3, 5, 6]


def test_the_first_outcome_of_an_item_stays(ledger: Ledger) -> None:
    ledger.jobs.add_items("job-1", [item(1)])
    assert ledger.jobs.settle("job-1", [(key("e1"), "gone", "out of retention")]) == 1
    assert ledger.jobs.settle("job-1", [(key("e1"), "succeeded", "")]) == 0
    assert ledger.jobs.items("job-1")[0].outcome == "gone"


def test_a_record_of_an_older_job_delivered_again_does_not_run_again(ledger: Ledger) -> None:
    ledger.jobs.add_items("job-1", [item(1)])
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
