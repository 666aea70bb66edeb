"""Checks and finishes, on both databases."""

from collections.abc import Callable

import pytest

from hooktape.ledger.checks import IN_RETRY, Applied, Check, Finish, State, Verdict, Waiting
from hooktape.ledger.items import Ending
from hooktape.ledger.jobs import Job, Kind
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.schemas.event import Coordinates

from .conftest import DAY, Owner, key

G = "fulfilment"
RUN, DONE, ELSEWHERE = Verdict.RUN, Verdict.DONE, Verdict.ELSEWHERE
ORIGIN = Coordinates("hooktape.log.orders.create", 1, 99)


@pytest.fixture
def me(ledger: Ledger) -> Owner:
    return Owner(ledger, "worker-a", G, 1)


def wait(name: str, seq: int = 1, *, delay: float = 30.0, due: float = 40.0, lane: bytes | None = b"L" * 16, day: int = DAY) -> Waiting:
    return Waiting(key(name, day), lane, seq, delay, due, ORIGIN)


def test_a_new_event_runs_and_when_it_has_succeeded_it_is_done(me: Owner) -> None:
    assert me.check("a").verdict is RUN
    assert me.check("a").seen is None
    assert me.finish("a", State.SUCCEEDED)
    again = me.check("a")
    assert again.verdict is DONE
    assert again.seen is not None
    assert (again.seen.state, again.seen.epoch) == (State.SUCCEEDED, me.epoch)


def test_a_check_writes_nothing_so_an_event_whose_worker_died_just_runs_again(me: Owner) -> None:
    assert [me.check("a").verdict for _ in range(2)] == [RUN, RUN]
    assert me.ledger.outcomes.states(G, [key("a")]) == {}


def test_groups_know_nothing_of_one_another(ledger: Ledger, me: Owner) -> None:
    me.finish("a", State.SUCCEEDED)
    assert Owner(ledger, group="mail").check("a").verdict is RUN


@pytest.mark.parametrize("day", [DAY - 1, DAY + 1])
def test_a_copy_that_is_stamped_a_day_away_is_the_same_event(me: Owner, day: int) -> None:
    me.finish("a", State.SUCCEEDED)
    other = me.check("a", day)
    assert other.verdict is DONE
    assert other.seen is not None
    assert other.seen.key == key("a")
    assert me.ledger.outcomes.states(G, [key("a", day)]) == {key("a", day): State.SUCCEEDED}


def test_a_copy_two_days_away_is_another_event(me: Owner) -> None:
    me.finish("a", State.SUCCEEDED)
    assert me.check("a", DAY + 2).verdict is RUN


def test_a_finish_under_the_neighbouring_day_ends_the_row_that_is_there(me: Owner) -> None:
    me.finish("a", State.WAITING, wait=wait("a"))
    assert me.finish("a", State.SUCCEEDED, 2, day=DAY + 1)
    assert me.check("a").verdict is DONE
    assert me.ledger.outcomes.waiting(G, 1) == []


# ── the fence ───────────────────────────────────────────────────────────────────────────────────────────────────────
def everything(ledger: Ledger, names: str) -> tuple[object, ...]:
    outcomes = ledger.outcomes
    return (outcomes.states(G, [key(n) for n in names]), outcomes.waiting(G, 1), outcomes.dead(G),
            outcomes.applied(G, "sync", [("s.myshopify.com", "order/1")]))  # fmt: skip


def ends(me: Owner) -> list[Finish]:
    return [
        me.end("a", State.SUCCEEDED, version=Applied("sync", "s.myshopify.com", "order/1", 7)),
        me.end("b", State.WAITING, wait=wait("b")), me.end("c", State.DEAD, error_type="KeyError"),
        me.end("d", State.BEHIND, 0, wait=wait("d", 2)),
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["taken over", "given up", "released", "never taken", "taken back"])
def test_an_end_of_a_partition_that_is_the_owners_no_more_is_refused_and_records_nothing(ledger: Ledger, me: Owner, how: str) -> None:
    late = ends(me)
    if how == "taken over":
        assert Owner(ledger, "worker-b", G, 1, now=61).epoch == me.epoch + 1
    elif how == "given up":
        ledger.ownership.give_up(G, me.name, [1])
    elif how == "released":
        ledger.ownership.release(G, me.name)
    elif how == "never taken":
        late = [Finish(f.key, f.state, f.attempts, 2, f.epoch, f.topic) for f in late]
    else:
        # The same worker again, but the event may have run elsewhere in between.
        ledger.ownership.give_up(G, me.name, [1])
        assert me.take(1)
    before = everything(ledger, "abcd")
    assert me.record(late) == [False] * 4
    assert everything(ledger, "abcd") == before == ({}, [], [], {})
    if how in ("given up", "taken back"):
        assert me.take(1)
        assert me.record(ends(me)) == [True] * 4


def test_an_owner_whose_lease_ran_out_still_records_while_nobody_has_taken_over(me: Owner) -> None:
    assert me.record([me.end("a", State.SUCCEEDED)], now=10_000) == [True]


def test_in_a_batch_of_finishes_only_those_of_lost_partitions_are_refused(ledger: Ledger, me: Owner) -> None:
    taken = ledger.ownership.take(G, me.name, [2], 1)
    ledger.ownership.give_up(G, me.name, [1])
    batch = [Finish(key(n), State.SUCCEEDED, 1, p, {1: me.epoch, 2: taken.epochs[2]}[p], "t") for n, p in (("c", 2), ("b", 1), ("a", 2))]
    assert me.record(batch) == [True, False, True]
    assert set(ledger.outcomes.states(G, [key(n) for n in "abc"])) == {key("a"), key("c")}


def test_an_end_that_is_sent_again_is_accepted_and_changes_nothing(ledger: Ledger, me: Owner) -> None:
    batch = ends(me)
    assert me.record(batch) == [True] * 4
    before = everything(ledger, "abcd")
    assert me.record(batch, now=9) == [True] * 4
    assert everything(ledger, "abcd") == before


def test_an_end_that_follows_another_sent_again_is_accepted_too(me: Owner) -> None:
    me.record([me.end("a", State.WAITING, wait=wait("a"))])
    last = me.end("a", State.SUCCEEDED, 2, seen=me.check("a", attempt=1, retry=True).seen)
    assert me.record([last]) == me.record([last]) == [True]
    assert me.ledger.outcomes.waiting(G, 1) == []


@pytest.mark.parametrize("other", [State.SUCCEEDED, State.DEAD, State.WAITING, State.BEHIND])
def test_when_a_second_copy_has_ended_meanwhile_an_end_is_refused(me: Owner, other: State) -> None:
    checked = me.check("a")
    first = me.end("a", other, 1, seen=checked.seen, wait=wait("a", 7) if other in IN_RETRY else None)
    assert me.record([first]) == [True]
    before = everything(me.ledger, "a")
    late = [me.end("a", state, 2, seen=checked.seen, wait=wait("a", 8) if state in IN_RETRY else None)
            for state in (State.SUCCEEDED, State.DEAD, State.WAITING, State.BEHIND)]  # fmt: skip
    for end in late:
        assert me.record([end]) == [False]
    assert everything(me.ledger, "a") == before


def test_a_retry_that_was_checked_before_its_row_moved_on_is_refused(me: Owner) -> None:
    me.finish("a", State.WAITING, 1, wait=wait("a"))
    seen = me.check("a", attempt=1, retry=True).seen
    assert me.record([me.end("a", State.WAITING, 2, seen=seen, wait=wait("a", due=99))]) == [True]
    assert me.record([me.end("a", State.DEAD, 2, seen=seen)]) == [False]
    assert me.ledger.outcomes.states(G, [key("a")]) == {key("a"): State.WAITING}


# ── waiting for a retry ─────────────────────────────────────────────────────────────────────────────────────────────
def test_a_waiting_event_runs_only_for_its_retry_record(me: Owner) -> None:
    assert me.finish("a", State.WAITING, now=2, error_type="Timeout", wait=wait("a"))
    assert me.check("a").verdict is ELSEWHERE
    assert me.check("a", generation="job", forced=True).verdict is ELSEWHERE
    assert me.check("a", attempt=1).verdict is ELSEWHERE
    retried = me.check("a", attempt=1, retry=True)
    assert (retried.verdict, retried.attempts, retried.first_failed_at) == (RUN, 1, 2)
    me.finish("a", State.WAITING, 2, now=9, wait=wait("a"))
    assert me.check("a", attempt=1, retry=True).verdict is ELSEWHERE
    assert me.check("a", attempt=2, retry=True).first_failed_at == 2


def test_an_event_behind_another_runs_only_for_its_retry_record_and_has_not_failed(me: Owner) -> None:
    assert me.finish("b", State.BEHIND, 0, wait=wait("b"))
    assert me.check("b").verdict is ELSEWHERE
    back = me.check("b", attempt=0, retry=True)
    assert (back.verdict, back.attempts, back.first_failed_at) == (RUN, 0, None)
    assert me.ledger.outcomes.failures(G) == {}
    assert me.finish("b", State.SUCCEEDED)
    assert me.check("b", retry=True).verdict is DONE


def test_a_retry_record_of_another_generation_is_a_copy_of_an_earlier_hop(me: Owner) -> None:
    me.finish("a", State.DEAD)
    me.finish("a", State.WAITING, 1, generation="job-1", wait=wait("a"))
    assert me.check("a", attempt=1, retry=True).verdict is ELSEWHERE
    assert me.check("a", attempt=1, retry=True, generation="job-1").verdict is RUN


def test_a_retry_record_that_is_ahead_of_the_ledger_runs_so_that_the_event_is_not_lost(me: Owner) -> None:
    me.finish("a", State.WAITING, wait=wait("a"))
    answer = me.check("a", attempt=3, retry=True)
    assert (answer.verdict, answer.attempts) == (RUN, 3)


def test_a_retry_record_whose_producer_died_before_it_recorded_the_failure_runs(me: Owner) -> None:
    answer = me.check("a", attempt=1, retry=True)
    assert (answer.verdict, answer.attempts, answer.seen) == (RUN, 1, None)


def test_what_waits_is_listed_in_its_order_with_where_it_lies_on_the_tape(me: Owner) -> None:
    one, two, three = wait("a", 30), wait("b", 10, lane=None), wait("c", 20, delay=120.0, due=700.5)
    me.record([me.end("a", State.WAITING, wait=one), me.end("b", State.WAITING, wait=two), me.end("c", State.BEHIND, 0, wait=three)])
    assert me.ledger.outcomes.waiting(G, 1) == [two, three, one]
    assert me.ledger.outcomes.waiting(G, 0) == me.ledger.outcomes.waiting("mail", 1) == []


def test_a_further_failure_moves_the_wait_and_an_end_takes_it_away(me: Owner) -> None:
    me.record([me.end("a", State.BEHIND, 0, wait=wait("a", 5))])
    assert me.finish("a", State.WAITING, 1, wait=wait("a", 5, delay=120.0, due=170.0))
    assert me.ledger.outcomes.waiting(G, 1) == [wait("a", 5, delay=120.0, due=170.0)]
    assert me.finish("a", State.BEHIND, 1, wait=wait("a", 5, due=300.0))
    assert [w.due for w in me.ledger.outcomes.waiting(G, 1)] == [300.0]
    assert me.finish("a", State.SUCCEEDED, 2)
    assert me.ledger.outcomes.waiting(G, 1) == []


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.STALE, State.DEAD, State.DISCARDED])
def test_every_end_takes_the_wait_away_and_leaves_those_of_others(me: Owner, state: State) -> None:
    me.record([me.end(n, State.WAITING, wait=wait(n, i)) for i, n in enumerate("ab")])
    assert me.finish("a", state, 2)
    assert [w.key for w in me.ledger.outcomes.waiting(G, 1)] == [key("b")]


# ── dead, finished, and run again ───────────────────────────────────────────────────────────────────────────────────
def test_a_dead_event_runs_again_only_for_a_new_generation(me: Owner) -> None:
    me.finish("a", State.DEAD, 12)
    assert me.check("a").verdict is ELSEWHERE
    redriven = me.check("a", generation="job-1")
    assert (redriven.verdict, redriven.attempts, redriven.generation) == (RUN, 0, "job-1")
    me.finish("a", State.DEAD, 1, generation="job-1")
    assert me.check("a", generation="job-1").verdict is ELSEWHERE
    assert me.check("a", generation="job-2").verdict is RUN


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.STALE, State.DISCARDED])
def test_a_finished_event_runs_again_only_when_forced_and_once_in_a_generation(me: Owner, state: State) -> None:
    me.finish("a", state)
    assert me.check("a", generation="job-1").verdict is DONE
    assert me.check("a", generation="job-1", forced=True).verdict is RUN
    me.finish("a", State.SUCCEEDED, generation="job-1")
    assert me.check("a", generation="job-1", forced=True).verdict is DONE


def test_a_new_generation_counts_its_failures_from_the_beginning(me: Owner) -> None:
    me.finish("a", State.DEAD, 12, now=5)
    me.finish("a", State.WAITING, 1, now=50, generation="job-1", wait=wait("a"))
    assert me.check("a", attempt=1, retry=True, generation="job-1").first_failed_at == 50


# ── what hangs on an end ────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def job(ledger: Ledger) -> Callable[[], dict[int, tuple[str | None, str | None]]]:
    """A job of three events, and what its items say."""
    made = ledger.jobs.create(Job("job-1", G, Kind.REPLAY, Selection(topics=("orders/*",)), "why", "ada", 10.0))
    ledger.jobs.add_items(made, [(made.number, n, *key(f"e{n}"), "log", 1, n, 9, 1, 0, "run") for n in (1, 2, 3)], [])
    return lambda: {i.seq: (i.outcome, i.error) for i in ledger.jobs.items("job-1")}


def test_the_end_of_a_jobs_event_settles_its_item_and_a_wait_does_not(me: Owner, job: Callable[[], object]) -> None:
    me.record([
        me.end("e1", State.SUCCEEDED, generation="job-1"), me.end("e2", State.DEAD, error_message="no size", generation="job-1"),
        me.end("e3", State.WAITING, generation="job-1", wait=wait("e3")),
    ])  # fmt: skip
    assert job() == {1: ("succeeded", None), 2: ("failed_again", "no size"), 3: (None, None)}
    me.finish("e3", State.STALE, 2, generation="job-1")
    assert job() == {1: ("succeeded", None), 2: ("failed_again", "no size"), 3: ("superseded", None)}


def test_an_end_that_is_refused_settles_nothing(me: Owner, job: Callable[[], object]) -> None:
    me.ledger.ownership.give_up(G, me.name, [1])
    assert me.record([me.end("e1", State.SUCCEEDED, generation="job-1")]) == [False]
    assert job() == {n: (None, None) for n in (1, 2, 3)}


def test_a_replayed_record_that_was_not_run_is_noted_and_the_first_outcome_stays(me: Owner, job: Callable[[], object]) -> None:
    me.record([me.end("e1", State.SUCCEEDED, generation="job-1")])
    me.ledger.outcomes.note_skips(G, [
        Ending("job-1", key("e1"), "already_done"), Ending("job-1", key("e2"), "superseded", "a newer one", 2),
        Ending("job-9", key("e3"), "dead"), Ending("job-1", key("e3"), "of another place", "", 2)])  # fmt: skip
    assert job() == {1: ("succeeded", None), 2: ("superseded", "a newer one"), 3: (None, None)}
    me.ledger.outcomes.note_skips(G, [])


def test_the_highest_applied_version_is_kept_per_handler_and_resource(me: Owner) -> None:
    def apply(*versions: tuple[str, str, int]) -> None:
        assert all(me.record([
            me.end(f"{handler}{resource}{version}", State.SUCCEEDED, version=Applied(handler, "s.myshopify.com", resource, version))
            for handler, resource, version in versions]))  # fmt: skip

    apply(("sync", "order/1", 20), ("sync", "order/1", 10), ("sync", "order/2", 5), ("mail", "order/1", 7))
    apply(("sync", "order/1", 15), ("sync", "order/2", 6))
    of = [("s.myshopify.com", "order/1"), ("s.myshopify.com", "order/2"), ("s.myshopify.com", "order/3")]
    assert me.ledger.outcomes.applied(G, "sync", of) == {of[0]: 20, of[1]: 6}
    assert me.ledger.outcomes.applied(G, "mail", of) == {of[0]: 7}


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_batch_of_five_hundred_over_several_days_is_answered_in_order(ledger: Ledger, me: Owner) -> None:
    checks = [Check(key(f"e{i}", DAY + i % 5)) for i in range(500)]
    ends = [Finish(c.key, State.SUCCEEDED, 1, 1, me.epoch, "orders/create") for c in checks]
    assert me.record(ends[::2]) == [True] * 250
    answers = ledger.outcomes.check(G, checks)
    assert [a.verdict for a in answers] == [DONE, RUN] * 250
    assert [a.key for a in answers] == [c.key for c in checks]
    other = [Finish(f.key, State.DEAD, 3, 1, me.epoch, "orders/create") for f in ends]
    assert me.record(other) == [False, True] * 250


def test_empty_batches_are_answered_with_nothing(ledger: Ledger, me: Owner) -> None:
    assert ledger.outcomes.check(G, []) == []
    assert me.record([]) == []
    assert ledger.outcomes.states(G, []) == {}
    assert ledger.outcomes.applied(G, "h", []) == {}


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_failures_are_listed_counted_and_grouped_by_cause(ledger: Ledger, me: Owner) -> None:
    def fail(name: str, topic: str, state: State, cause: str, shop: str, now: float) -> None:
        assert me.finish(name, state, 3, now=now, topic=topic, error_type=cause, error_group=f"group-{cause}",
                         error_message=f"{cause} in {name}", shop=shop)  # fmt: skip

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


def test_an_event_that_recovers_is_no_failure_any_more(ledger: Ledger, me: Owner) -> None:
    me.finish("a", State.DEAD)
    assert len(ledger.outcomes.dead(G)) == 1
    me.finish("a", State.SUCCEEDED, generation="job")
    assert (ledger.outcomes.failures(G), ledger.outcomes.dead(G)) == ({}, [])


def test_discarding_gives_up_dead_events_and_is_audited(ledger: Ledger, me: Owner) -> None:
    for name, state in (("a", State.DEAD), ("b", State.WAITING), ("c", State.DEAD)):
        me.finish(name, state)
    gone = ledger.outcomes.discard(G, [key("a"), key("b"), key("unknown")], "ada", "test orders", 9).done
    assert gone == (key("a"),)
    assert ledger.outcomes.states(G, [key("a"), key("b")]) == {key("a"): State.DISCARDED, key("b"): State.WAITING}
    assert me.check("a", generation="job").verdict is DONE
    (entry,) = ledger.audit.list()
    assert (entry.who, entry.target, entry.reason, entry.detail["count"]) == ("ada", G, "test orders", 1)


def test_texts_that_a_database_refuses_are_made_fit_and_cut(ledger: Ledger, me: Owner) -> None:
    assert me.finish("a", State.DEAD, error_type="E\0", error_message="\ud800\0é" + "ü" * 2000)
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


def test_two_processes_share_one_memory(me: Owner, opened: Callable[[], Ledger]) -> None:
    other = opened()
    me.finish("a", State.SUCCEEDED)
    assert other.outcomes.check(G, [Check(key("a"))])[0].verdict is DONE


def test_keys_sort_and_compare_as_pairs() -> None:
    assert EventKey(1, b"b") < EventKey(2, b"a")
