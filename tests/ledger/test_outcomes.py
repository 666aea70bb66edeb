"""Claims and finishes, on both databases."""

from collections.abc import Callable

import pytest

from hooktape.errors import LedgerError
from hooktape.ledger.checks import Applied, Claim, Claimed, Finish, State, Verdict
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger

from .conftest import DAY, key

G, ME, YOU = "fulfilment", "worker-a", "worker-b"
LEASE = 30.0
RUN, DONE, ELSEWHERE, BUSY = Verdict.RUN, Verdict.DONE, Verdict.ELSEWHERE, Verdict.BUSY


@pytest.fixture(autouse=True)
def both_alive(ledger: Ledger) -> None:
    for owner in (ME, YOU):
        ledger.outcomes.heartbeat(G, owner, 0, LEASE)


def claim(ledger: Ledger, name: str, owner: str = ME, now: float = 1, **how: object) -> Claimed:
    (answer,) = ledger.outcomes.claim(G, owner, [Claim(key(name), "orders/create", **how)], now)  # type: ignore[arg-type]
    return answer


def finish(ledger: Ledger, name: str, state: State, attempts: int = 1, owner: str = ME, now: float = 2, **how: object) -> bool:
    (accepted,) = ledger.outcomes.finish(G, owner, [Finish(key(name), state, attempts, **how)], now)  # type: ignore[arg-type]
    return accepted


def test_a_new_event_runs_and_when_it_has_succeeded_it_is_done(ledger: Ledger) -> None:
    assert claim(ledger, "a").verdict is RUN
    assert finish(ledger, "a", State.SUCCEEDED)
    assert claim(ledger, "a").verdict is DONE
    assert claim(ledger, "a", YOU).state is State.SUCCEEDED


def test_groups_know_nothing_of_one_another(ledger: Ledger) -> None:
    claim(ledger, "a")
    finish(ledger, "a", State.SUCCEEDED)
    ledger.outcomes.heartbeat("mail", ME, 0, LEASE)
    assert ledger.outcomes.claim("mail", ME, [Claim(key("a"), "orders/create")], 1)[0].verdict is RUN


def test_of_two_copies_in_one_batch_the_first_runs_and_the_second_is_busy(ledger: Ledger) -> None:
    answers = ledger.outcomes.claim(G, ME, [Claim(key("a"), "orders/create")] * 2, 1)
    assert [a.verdict for a in answers] == [RUN, BUSY]
    assert answers[1].mine


def test_a_running_event_is_busy_for_its_owner_and_for_others(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert (claim(ledger, "a").verdict, claim(ledger, "a").mine) == (BUSY, True)
    assert (claim(ledger, "a", YOU).verdict, claim(ledger, "a", YOU).mine) == (BUSY, False)


@pytest.mark.parametrize("day", [DAY - 1, DAY + 1])
def test_a_copy_that_is_stamped_a_day_away_is_the_same_event(ledger: Ledger, day: int) -> None:
    claim(ledger, "a")
    other = Claim(key("a", day), "orders/create")
    assert ledger.outcomes.claim(G, YOU, [other], 1)[0].verdict is BUSY
    finish(ledger, "a", State.SUCCEEDED)
    assert ledger.outcomes.claim(G, YOU, [other], 1)[0].verdict is DONE
    assert ledger.outcomes.states(G, [other.key]) == {other.key: State.SUCCEEDED}


def test_a_copy_two_days_away_is_another_event(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert ledger.outcomes.claim(G, YOU, [Claim(key("a", DAY + 2), "orders/create")], 1)[0].verdict is RUN


def test_copies_of_neighbouring_days_in_one_batch_run_once(ledger: Ledger) -> None:
    claims = [Claim(key("a", day), "orders/create") for day in (DAY, DAY + 1)]
    assert [a.verdict for a in ledger.outcomes.claim(G, ME, claims, 1)] == [RUN, BUSY]


def test_a_finish_under_the_neighbouring_day_ends_the_row_that_is_there(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert ledger.outcomes.finish(G, ME, [Finish(key("a", DAY + 1), State.SUCCEEDED, 1)], 2) == [True]
    assert claim(ledger, "a").verdict is DONE


def test_an_event_whose_owner_has_died_is_taken_over_and_the_dead_owner_can_not_finish_it(ledger: Ledger) -> None:
    claim(ledger, "a", ME, now=1)
    ledger.outcomes.heartbeat(G, YOU, LEASE, LEASE)
    assert claim(ledger, "a", YOU, now=LEASE - 1).verdict is BUSY
    assert claim(ledger, "a", YOU, now=LEASE + 1).verdict is RUN
    assert not finish(ledger, "a", State.SUCCEEDED, owner=ME)
    assert finish(ledger, "a", State.SUCCEEDED, owner=YOU)


def test_what_a_released_owner_was_running_can_be_claimed_at_once(ledger: Ledger) -> None:
    claim(ledger, "a", ME)
    ledger.outcomes.release(G, ME)
    assert claim(ledger, "a", YOU).verdict is RUN


def test_a_claim_renews_the_lease_of_its_owner(ledger: Ledger) -> None:
    claim(ledger, "a", ME, now=LEASE - 1)
    assert claim(ledger, "a", YOU, now=LEASE + 1).verdict is BUSY


def test_a_worker_without_a_lease_can_not_claim(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="heartbeat first"):
        claim(ledger, "a", "stranger")


def test_a_waiting_event_runs_only_for_its_retry_record(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert finish(ledger, "a", State.WAITING, attempts=1, now=2, error_type="Timeout")
    assert claim(ledger, "a").verdict is ELSEWHERE
    assert claim(ledger, "a", generation="job", forced=True).verdict is ELSEWHERE
    retried = claim(ledger, "a", YOU, attempt=1)
    assert (retried.verdict, retried.attempts, retried.first_failed_at) == (RUN, 1, 2)
    finish(ledger, "a", State.WAITING, attempts=2, owner=YOU, now=9)
    assert claim(ledger, "a", attempt=1).verdict is ELSEWHERE
    assert claim(ledger, "a", attempt=2).first_failed_at == 2


def test_a_retry_record_that_is_ahead_of_the_ledger_runs_so_that_the_event_is_not_lost(ledger: Ledger) -> None:
    claim(ledger, "a")
    finish(ledger, "a", State.WAITING, attempts=1)
    answer = claim(ledger, "a", attempt=3)
    assert (answer.verdict, answer.attempts) == (RUN, 3)


def test_a_retry_record_whose_producer_died_before_it_recorded_the_failure_takes_the_event_over(ledger: Ledger) -> None:
    claim(ledger, "a", ME)
    ledger.outcomes.release(G, ME)
    answer = claim(ledger, "a", YOU, attempt=1)
    assert (answer.verdict, answer.attempts) == (RUN, 1)


def test_a_dead_event_runs_again_only_for_a_new_generation(ledger: Ledger) -> None:
    claim(ledger, "a")
    finish(ledger, "a", State.DEAD, attempts=12)
    assert claim(ledger, "a").verdict is ELSEWHERE
    redriven = claim(ledger, "a", generation="job-1")
    assert (redriven.verdict, redriven.attempts, redriven.generation) == (RUN, 0, "job-1")
    finish(ledger, "a", State.DEAD, attempts=1, generation="job-1")
    assert claim(ledger, "a", generation="job-1").verdict is ELSEWHERE
    assert claim(ledger, "a", generation="job-2").verdict is RUN


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.STALE, State.DISCARDED])
def test_a_finished_event_runs_again_only_when_forced_and_once_in_a_generation(ledger: Ledger, state: State) -> None:
    claim(ledger, "a")
    finish(ledger, "a", state)
    assert claim(ledger, "a", generation="job-1").verdict is DONE
    assert claim(ledger, "a", generation="job-1", forced=True).verdict is RUN
    assert claim(ledger, "a", YOU, generation="job-1", forced=True).verdict is BUSY
    finish(ledger, "a", State.SUCCEEDED, generation="job-1")
    assert claim(ledger, "a", generation="job-1", forced=True).verdict is DONE


def test_a_finish_that_is_sent_again_is_accepted_and_changes_nothing(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert finish(ledger, "a", State.SUCCEEDED)
    assert finish(ledger, "a", State.SUCCEEDED)
    assert not finish(ledger, "a", State.DEAD)
    assert ledger.outcomes.states(G, [key("a")]) == {key("a"): State.SUCCEEDED}


def test_in_a_batch_of_finishes_only_the_lost_ones_are_refused(ledger: Ledger) -> None:
    for name in ("a", "b", "c"):
        claim(ledger, name)
    ledger.outcomes.release(G, ME)
    claim(ledger, "b", YOU)
    ends = [Finish(key(name), State.SUCCEEDED, 1) for name in ("c", "b", "a", "never claimed")]
    assert ledger.outcomes.finish(G, ME, ends, 3) == [True, False, True, False]
    assert ledger.outcomes.states(G, [key("b")]) == {key("b"): State.RUNNING}


def test_an_event_can_not_be_finished_as_running(ledger: Ledger) -> None:
    claim(ledger, "a")
    with pytest.raises(LedgerError, match="can't be finished as running"):
        finish(ledger, "a", State.RUNNING)


def test_a_batch_of_five_hundred_over_several_days_is_answered_in_order(ledger: Ledger) -> None:
    claims = [Claim(key(f"e{i}", DAY + i % 5), "orders/create") for i in range(500)]
    assert {a.verdict for a in ledger.outcomes.claim(G, ME, claims[::2], 1)} == {RUN}
    answers = ledger.outcomes.claim(G, YOU, claims, 1)
    assert [a.verdict for a in answers] == [BUSY, RUN] * 250
    assert [a.key for a in answers] == [c.key for c in claims]
    ends = [Finish(c.key, State.SUCCEEDED, 1) for c in claims]
    assert ledger.outcomes.finish(G, YOU, ends, 2) == [False, True] * 250


def test_empty_batches_are_answered_with_nothing(ledger: Ledger) -> None:
    assert ledger.outcomes.claim(G, ME, [], 1) == []
    assert ledger.outcomes.finish(G, ME, [], 1) == []
    assert ledger.outcomes.states(G, []) == {}
    assert ledger.outcomes.applied(G, "h", []) == {}


def test_the_highest_applied_version_is_kept_per_handler_and_resource(ledger: Ledger) -> None:
    def apply(*versions: tuple[str, str, int]) -> None:
        names = [f"{handler}{resource}{version}" for handler, resource, version in versions]
        ledger.outcomes.claim(G, ME, [Claim(key(n), "orders/updated") for n in names], 1)
        assert all(ledger.outcomes.finish(G, ME, [
            Finish(key(n), State.SUCCEEDED, 1, version=Applied(handler, "s.myshopify.com", resource, version))
            for n, (handler, resource, version) in zip(names, versions, strict=True)], 2))  # fmt: skip

    apply(("sync", "order/1", 20), ("sync", "order/1", 10), ("sync", "order/2", 5), ("mail", "order/1", 7))
    apply(("sync", "order/1", 15), ("sync", "order/2", 6))
    of = [("s.myshopify.com", "order/1"), ("s.myshopify.com", "order/2"), ("s.myshopify.com", "order/3")]
    assert ledger.outcomes.applied(G, "sync", of) == {of[0]: 20, of[1]: 6}
    assert ledger.outcomes.applied(G, "mail", of) == {of[0]: 7}


def test_failures_are_listed_counted_and_grouped_by_cause(ledger: Ledger) -> None:
    def fail(name: str, topic: str, state: State, cause: str, shop: str, now: float) -> None:
        ledger.outcomes.claim(G, ME, [Claim(key(name), topic)], now)
        end = Finish(key(name), state, 3, cause, f"group-{cause}", f"{cause} in {name}", shop=shop)
        ledger.outcomes.finish(G, ME, [end], now)

    fail("a", "orders/create", State.DEAD, "KeyError", "one", 5)
    fail("b", "orders/create", State.DEAD, "KeyError", "two", 6)
    fail("c", "products/update", State.DEAD, "Timeout", "one", 7)
    fail("d", "orders/create", State.WAITING, "Timeout", "one", 8)
    assert ledger.outcomes.failures(G) == {
        "orders/create": {State.DEAD: 2, State.WAITING: 1}, "products/update": {State.DEAD: 1}}  # fmt: skip
    dead = ledger.outcomes.dead(G)
    assert [f.key for f in dead] == [key("c"), key("b"), key("a")]
    assert (dead[2].shop, dead[2].error_message, dead[2].attempts, dead[2].failed_at) == ("one", "KeyError in a", 3, 5)
    assert [f.key for f in ledger.outcomes.dead(G, topic="orders/create", shop="one")] == [key("a")]
    assert [f.key for f in ledger.outcomes.dead(G, error_group="group-KeyError", since=6)] == [key("b")]
    assert [f.key for f in ledger.outcomes.dead(G, limit=1)] == [key("c")]
    first, second = ledger.outcomes.error_groups(G)
    assert (first.error_group, first.count, first.shops, first.example) == ("group-KeyError", 2, 2, key("b"))
    assert (first.first, first.last, first.topics) == (5, 6, ("orders/create",))
    assert (second.error_type, second.count) == ("Timeout", 1)


def test_an_event_that_recovers_is_no_failure_any_more(ledger: Ledger) -> None:
    claim(ledger, "a")
    finish(ledger, "a", State.DEAD)
    claim(ledger, "a", generation="job")
    assert ledger.outcomes.failures(G) == {}
    finish(ledger, "a", State.SUCCEEDED, generation="job")
    assert ledger.outcomes.dead(G) == []


def test_discarding_gives_up_dead_events_and_is_audited(ledger: Ledger) -> None:
    for name, state in (("a", State.DEAD), ("b", State.WAITING), ("c", State.DEAD)):
        claim(ledger, name)
        finish(ledger, name, state)
    gone = ledger.outcomes.discard(G, [key("a"), key("b"), key("unknown")], "ada", "test orders", 9)
    assert gone == [key("a")]
    assert ledger.outcomes.states(G, [key("a"), key("b")]) == {key("a"): State.DISCARDED, key("b"): State.WAITING}
    assert claim(ledger, "a", generation="job").verdict is DONE
    (entry,) = ledger.audit.list()
    assert (entry.who, entry.target, entry.reason, entry.detail["count"]) == ("ada", G, "test orders", 1)


def test_texts_that_a_database_refuses_are_made_fit_and_cut(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert finish(ledger, "a", State.DEAD, error_type="E\0", error_message="\ud800\0é" + "ü" * 2000)
    (failure,) = ledger.outcomes.dead(G)
    assert failure.error_type == "E"
    assert failure.error_message.startswith("?éü")
    assert 1022 <= len(failure.error_message.encode()) <= 1024


def test_reprocess_windows_are_kept_per_group_and_hold_their_offsets(ledger: Ledger) -> None:
    log = "hooktape.log.orders.create"
    ledger.outcomes.add_reprocess(G, "reset-1", [(log, 0, 10, 20), (log, 1, 0, 5)])
    ledger.outcomes.add_reprocess("mail", "reset-2", [(log, 0, 0, 1)])
    first, second = ledger.outcomes.reprocess(G)
    assert (first.generation, first.partition, second.partition) == ("reset-1", 0, 1)
    assert [first.holds(log, 0, offset) for offset in (9, 10, 19, 20)] == [False, True, True, False]
    assert not first.holds(log, 1, 10)


def test_two_processes_share_one_memory(ledger: Ledger, opened: Callable[[], Ledger]) -> None:
    other = opened()
    claim(ledger, "a")
    assert claim(other, "a", YOU).verdict is BUSY
    finish(ledger, "a", State.SUCCEEDED)
    assert claim(other, "a", YOU).verdict is DONE


def test_keys_sort_and_compare_as_pairs() -> None:
    assert EventKey(1, b"b") < EventKey(2, b"a")
