"""Giving dead events up and taking that back, beside jobs and workers that have them in their hands."""

import threading
from collections.abc import Callable

import pytest

from hooktape.ledger.checks import Check, Finish, State, Verdict
from hooktape.ledger.items import START, Ending, Total
from hooktape.ledger.jobs import Job, JobState, Kind
from hooktape.ledger.keys import EventKey, event_id16
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, Status
from tests.ledger.conftest import DAY, Owner
from tests.ledger.test_letters import DLQ, G, bury, end, entry, index, letter

NOW = 1_000.0


def job(ledger: Ledger, id_: str, *names: str, run: tuple[JobState, ...] = (JobState.RUNNING,), sent: int = 0, at: float = NOW) -> None:
    """A job of these events that has gone through these states; `sent` of its items are on Kafka."""
    made = ledger.jobs.create(Job(id_, G, Kind.REDRIVE, Selection(statuses=(Status.DEAD,)), "fixed", "ana", at))
    ledger.jobs.add_items(made, [(made.number, i, *entry(name).key, "t", 0, i, 9, 0, 1, "run") for i, name in enumerate(names, 1)],
                          [Total("run", "orders/create", "s", len(names))])  # fmt: skip
    state = JobState.PLANNED
    for after in run:
        assert ledger.jobs.move(id_, {state}, after, at)
        state = after
    assert not sent or ledger.jobs.published(made, START, sent, sent)


def dead(ledger: Ledger, *names: str) -> list[EventKey]:
    letters = [letter(name, i) for i, name in enumerate(names)]
    index(ledger, *letters)
    bury(ledger, *letters)
    return [x.key for x in letters]


def discard(ledger: Ledger, keys: list[EventKey], now: float = NOW) -> list[EventKey]:
    return list(ledger.outcomes.discard(G, keys, "ana", "test order", now).done)


def test_what_is_restored_is_dead_as_before_and_both_are_audited(ledger: Ledger) -> None:
    a, b = dead(ledger, "a", "b")
    before = ledger.letters.find(G, Selection())
    assert discard(ledger, [a, a, EventKey(DAY, b"?" * 16)]) == [a]
    assert [x.key for x in ledger.letters.find(G, Selection())] == [b]
    (given_up,) = ledger.letters.find(G, Selection(), State.DISCARDED)
    assert (given_up.key, given_up.entry.status, given_up.entry.error_type) == (a, Status.DISCARDED, "KeyError")
    changed = ledger.outcomes.restore(G, [a, b], "bo", "a real order", NOW + 1)
    assert (changed.done, changed.held, changed.lost) == ((a,), {}, ())
    assert {x.key: x.entry for x in ledger.letters.find(G, Selection())} == {x.key: x.entry for x in before}
    assert [(e.action, e.who, e.reason, e.detail["count"]) for e in ledger.audit.list()] == [
        ("dlq restore", "bo", "a real order", 1), ("dlq discard", "ana", "test order", 1)]  # fmt: skip
    assert ledger.outcomes.error_groups(G)[0].count == 2


def test_nothing_is_restored_whose_letter_retention_has_removed(ledger: Ledger) -> None:
    a, b = dead(ledger, "a", "b")
    discard(ledger, [a, b])
    ledger.letters.prune(DLQ, 0, 1)
    changed = ledger.outcomes.restore(G, [a, b], "ana", "oops", NOW)
    assert (changed.done, changed.lost) == ((b,), (a,))
    assert ledger.outcomes.states(G, [a, b]) == {a: State.DISCARDED, b: State.DEAD}


def test_an_event_that_came_with_no_error_of_its_own_gets_its_letters_back(ledger: Ledger) -> None:
    (a,) = dead(ledger, "a")
    end(ledger, entry("a"), State.DISCARDED, 300.0)  # as the sweep does when its retry record is lost
    assert ledger.outcomes.restore(G, [a], "ana", "again", NOW).done == (a,)
    (failure,) = ledger.outcomes.dead(G)
    assert (failure.error_group, failure.shop, failure.failed_at, failure.first_failed_at) == ("cause", "acme.myshopify.com", 100.0, 90.0)


@pytest.mark.parametrize(("run", "sent", "later", "held"), [
    ((), 0, 0.0, False),
    ((JobState.RUNNING,), 0, 0.0, True),
    ((JobState.RUNNING, JobState.PAUSED), 0, 90_000_000.0, True),
    ((JobState.RUNNING, JobState.VERIFYING), 1, 0.0, True),
    ((JobState.RUNNING, JobState.CANCELLED), 0, 61.0, False),
    ((JobState.RUNNING, JobState.CANCELLED), 0, 59.0, True),
    ((JobState.RUNNING, JobState.CANCELLED), 1, 61.0, True),
    ((JobState.RUNNING, JobState.VERIFYING, JobState.INCOMPLETE), 1, 86_400.0, True),
    ((JobState.RUNNING, JobState.VERIFYING, JobState.INCOMPLETE), 1, 8 * 86_400.0, False),
])  # fmt: skip
def test_what_is_in_a_jobs_hands_is_neither_discarded_nor_restored(
    ledger: Ledger, run: tuple[JobState, ...], sent: int, later: float, held: bool
) -> None:
    a, b, c = dead(ledger, "a", "b", "c")
    discard(ledger, [c])
    job(ledger, "j1", "a", "c", run=run, sent=2 * sent)
    changed = ledger.outcomes.discard(G, [a, b], "ana", "no", NOW + later)
    assert set(changed.done) == ({b} if held else {a, b})
    assert changed.held == ({a: "j1"} if held else {})
    assert ledger.outcomes.restore(G, [c], "ana", "no", NOW + later).held == ({c: "j1"} if held else {})


def test_an_event_whose_job_has_its_outcome_is_free(ledger: Ledger) -> None:
    a, b = dead(ledger, "a", "b")
    job(ledger, "j1", "a", "b", sent=2)
    ledger.jobs.settle([Ending("j1", a, "failed_again", "KeyError")])
    changed = ledger.outcomes.discard(G, [a, b], "ana", "no", NOW)
    assert (changed.done, changed.held) == ((a,), {b: "j1"})


def test_a_job_that_was_planned_before_a_discard_skips_what_was_discarded(ledger: Ledger) -> None:
    (a,) = dead(ledger, "a")
    job(ledger, "j1", "a", run=())
    assert discard(ledger, [a]) == [a]
    worker = Owner(ledger, now=400.0)
    assert [x.verdict for x in ledger.outcomes.check(G, [_check(a, "j1")])] == [Verdict.DONE]
    assert worker.epoch >= 0


def test_an_end_that_was_begun_before_a_discard_is_refused(ledger: Ledger) -> None:
    """An offset reset brings the event to a worker without any job: the person's word stands."""
    (a,) = dead(ledger, "a")
    worker = Owner(ledger, now=400.0)
    (answer,) = ledger.outcomes.check(G, [_check(a, "reset")])
    assert answer.verdict is Verdict.RUN
    assert discard(ledger, [a]) == [a]
    assert worker.record([Finish(a, State.SUCCEEDED, 1, 0, worker.epoch, "orders/create", answer.seen, "reset")], 401.0) == [False]
    assert ledger.outcomes.states(G, [a]) == {a: State.DISCARDED}


def test_of_a_discard_and_a_job_that_starts_at_once_exactly_one_has_the_event(opened: Callable[[], Ledger]) -> None:
    ledgers = opened(), opened()
    names = [f"e{i}" for i in range(20)]
    keys = dead(ledgers[0], *names)
    for i, name in enumerate(names):
        job(ledgers[0], f"j{i}", name, run=())
    both = threading.Barrier(2)

    def start() -> None:
        both.wait()
        for i in range(20):
            ledgers[1].jobs.move(f"j{i}", {JobState.PLANNED}, JobState.RUNNING, NOW)

    starter = threading.Thread(target=start)
    starter.start()
    both.wait()
    changed = [ledgers[0].outcomes.discard(G, [key], "ana", "no", NOW) for key in reversed(keys)]
    starter.join()
    states = ledgers[0].outcomes.states(G, keys)
    for key, each in zip(reversed(keys), changed, strict=True):
        assert (states[key] is State.DISCARDED) is (each.done == (key,)) is (not each.held)


def test_ids_of_different_events_are_told_apart_whatever_their_days(ledger: Ledger) -> None:
    (a,) = dead(ledger, "a")
    other = EventKey(DAY + 5, event_id16("acme.myshopify.com", "b"))
    assert discard(ledger, [EventKey(DAY + 5, a.id), other]) == []
    assert discard(ledger, [a, other]) == [a]


def _check(key: EventKey, generation: str) -> Check:
    return Check(key, generation=generation)
