"""Who owns a partition, on both databases."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Thread

import psycopg
import pytest

from hooktape.ledger.checks import State
from hooktape.ledger.database import Transaction
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.outcomes import finish_in
from hooktape.ledger.ownership import Ownership

from .conftest import Owner, key

G, LEASE, ROUNDS = "g", 30.0, 100


@pytest.fixture
def ownership(ledger: Ledger) -> Ownership:
    for owner in ("a", "b"):
        ledger.ownership.heartbeat(G, owner, 0, LEASE)
    return ledger.ownership


def test_what_is_free_is_taken_and_asked_for_again_it_stays(ownership: Ownership) -> None:
    first = ownership.take(G, "a", [0, 3], 1)
    assert (set(first.epochs), first.held) == ({0, 3}, {})
    assert ownership.take(G, "a", [3, 0], 2) == first
    assert ownership.owners(G) == {p: ("a", epoch) for p, epoch in first.epochs.items()}


def test_what_a_live_owner_has_is_held_and_the_rest_is_given(ownership: Ownership) -> None:
    ownership.take(G, "a", [0, 1], 1)
    taken = ownership.take(G, "b", [0, 1, 2], 2)
    assert (set(taken.epochs), taken.held) == ({2}, {0: "a", 1: "a"})
    assert ownership.take(G, "b", [], 2).epochs == {}


def test_groups_own_apart(ownership: Ownership) -> None:
    ownership.take(G, "a", [0], 1)
    ownership.heartbeat("mail", "b", 0, LEASE)
    assert set(ownership.take("mail", "b", [0], 1).epochs) == {0}


def test_when_the_lease_has_run_out_another_takes_over_and_the_old_owner_hears_of_it(ownership: Ownership) -> None:
    mine = ownership.take(G, "a", [0, 1], 1).epochs
    assert ownership.take(G, "b", [0], LEASE - 0.001).held == {0: "a"}
    ownership.heartbeat(G, "b", LEASE, LEASE)
    theirs = ownership.take(G, "b", [0], LEASE)
    assert theirs.epochs == {0: mine[0] + 1}
    assert ownership.heartbeat(G, "a", LEASE + 1, LEASE) == {1: mine[1]}
    assert ownership.take(G, "a", [0], LEASE + 2).epochs == {}


def test_a_worker_that_died_with_its_clock_a_day_ahead_holds_nothing_for_a_day(ownership: Ownership) -> None:
    day = 86_400.0
    ownership.heartbeat(G, "a", day, LEASE)
    [epoch] = ownership.take(G, "a", [0], day).epochs.values()
    # The clock is right again, and `a` has no second heartbeat.
    assert set(ownership.living(G, 5)) == {"b"}
    assert ownership.take(G, "b", [0], 5).epochs == {0: epoch + 1}
    # Of two clocks a moment apart neither is taken for that.
    ownership.heartbeat(G, "a", 5 + 10 * LEASE, LEASE)
    assert set(ownership.living(G, 5)) == {"a", "b"}
    ownership.take(G, "a", [1], 5)
    assert ownership.take(G, "b", [1], 5).held == {1: "a"}


def test_a_heartbeat_renews_the_lease_and_says_what_is_owned(ownership: Ownership) -> None:
    mine = ownership.take(G, "a", [0], 1).epochs
    assert ownership.heartbeat(G, "a", 20, LEASE) == mine
    assert ownership.take(G, "b", [0], LEASE + 1).held == {0: "a"}


def test_an_owner_that_never_said_it_was_alive_keeps_nothing_from_others(ownership: Ownership) -> None:
    ownership.take(G, "silent", [0], 1)
    assert set(ownership.take(G, "a", [0], 1).epochs) == {0}


def test_what_is_given_up_is_free_at_once_and_that_of_others_is_left_alone(ownership: Ownership) -> None:
    mine = ownership.take(G, "a", [0, 1], 1).epochs
    ownership.take(G, "b", [2], 1)
    ownership.give_up(G, "a", [0, 2, 9])
    ownership.give_up(G, "a", [])
    assert ownership.owners(G) == {1: ("a", mine[1]), 2: ("b", 1)}
    assert ownership.take(G, "b", [0], 1).epochs == {0: mine[0] + 1}
    ownership.give_up(G, "a", [0])
    assert ownership.owners(G)[0] == ("b", mine[0] + 1)


def test_a_release_frees_everything_and_forgets_the_lease(ownership: Ownership) -> None:
    ownership.take(G, "a", [0, 1], 1)
    ownership.take(G, "b", [2], 1)
    ownership.release(G, "a")
    assert set(ownership.owners(G)) == {2}
    assert ownership.take(G, "b", [0, 1], 1).held == {}
    assert ownership.heartbeat(G, "a", 2, LEASE) == {}


def test_epochs_grow_with_every_hand_over_also_to_oneself(ownership: Ownership) -> None:
    epochs = []
    for turn in range(6):
        owner = "ab"[turn // 2 % 2]
        epochs.append(ownership.take(G, owner, [0], 1).epochs[0])
        ownership.give_up(G, owner, [0])
    assert epochs == sorted(set(epochs))


def test_workers_that_died_long_ago_are_forgotten(ledger: Ledger, ownership: Ownership) -> None:
    ownership.heartbeat(G, "b", 200_000, LEASE)
    names = ledger._database.read(lambda t: t.rows("SELECT owner FROM owners"))
    assert names == [("b",)]


# ── at the same instant ─────────────────────────────────────────────────────────────────────────────────────────────
def test_of_two_processes_that_ask_for_a_partition_at_once_exactly_one_gets_it(opened: Callable[[], Ledger]) -> None:
    barrier = Barrier(2)

    def work(number: int) -> list[set[int]]:
        ledger, owner = opened(), f"w{number}"
        ledger.ownership.heartbeat(G, owner, 0, LEASE)
        got = []
        for turn in range(ROUNDS):
            parts = [3 * turn + i for i in range(3)]
            barrier.wait(30)
            got.append(set(ledger.ownership.take(G, owner, parts, 1).epochs))
        return got

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    for turn, (one, other) in enumerate(zip(first, second, strict=True)):
        assert not one & other
        assert one | other == {3 * turn + i for i in range(3)}


def test_a_partition_whose_owner_died_is_taken_over_by_exactly_one_under_a_new_epoch(opened: Callable[[], Ledger]) -> None:
    dead = opened()
    dead.ownership.heartbeat(G, "dead", 0, LEASE)
    before = dead.ownership.take(G, "dead", range(ROUNDS), 0).epochs
    barrier = Barrier(2)

    def work(number: int) -> dict[int, int]:
        ledger, owner, got = opened(), f"w{number}", dict[int, int]()
        ledger.ownership.heartbeat(G, owner, 100, LEASE)
        for partition in range(ROUNDS):
            barrier.wait(30)
            got |= ledger.ownership.take(G, owner, [partition], 100).epochs
        return got

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert not first.keys() & second.keys()
    assert first | second == {p: epoch + 1 for p, epoch in before.items()}


def test_an_owner_that_wakes_up_while_another_takes_over_either_keeps_the_partition_or_hears_that_it_has_not(
        opened: Callable[[], Ledger]) -> None:  # fmt: skip
    """Both believing that they own it would run its events side by side until the next heartbeat."""
    barrier = Barrier(2)

    def sleeper(ledger: Ledger) -> list[bool]:
        keeps = []
        for turn in range(ROUNDS):
            ledger.ownership.heartbeat(G, f"old{turn}", 0, 10)
            ledger.ownership.take(G, f"old{turn}", [turn], 1)
            barrier.wait(30)
            keeps.append(turn in ledger.ownership.heartbeat(G, f"old{turn}", 99, 10))
            barrier.wait(30)
        return keeps

    def heir(ledger: Ledger) -> list[bool]:
        took = []
        for turn in range(ROUNDS):
            ledger.ownership.heartbeat(G, "new", 99, 10)
            barrier.wait(30)
            took.append(turn in ledger.ownership.take(G, "new", [turn], 99).epochs)
            barrier.wait(30)
        return took

    with ThreadPoolExecutor(2) as pool:
        kept, taken = pool.submit(sleeper, opened()), pool.submit(heir, opened())
        assert [k != t for k, t in zip(kept.result(), taken.result(), strict=True)] == [True] * ROUNDS


def test_an_end_that_races_a_take_over_is_either_recorded_before_it_or_refused(opened: Callable[[], Ledger]) -> None:
    barrier = Barrier(2)

    def late(ledger: Ledger) -> list[bool]:
        accepted = []
        for turn in range(ROUNDS):
            old = Owner(ledger, f"old{turn}", part=turn, lease=10)
            barrier.wait(30)
            accepted += old.record([old.end(str(turn), State.SUCCEEDED)], 99)
            barrier.wait(30)
        return accepted

    def thief(ledger: Ledger) -> list[bool]:
        done = []
        for turn in range(ROUNDS):
            barrier.wait(30)
            new = Owner(ledger, "new", part=turn, now=99)
            assert new.epoch > 0
            # What it sees after it owns the partition is what stays.
            done.append(new.check(str(turn)).seen is not None)
            barrier.wait(30)
        return done

    with ThreadPoolExecutor(2) as pool:
        accepted, seen = pool.submit(late, opened()), pool.submit(thief, opened())
        assert accepted.result() == seen.result()


@pytest.mark.parametrize("how", ["committed", "rolled back"])
def test_a_take_over_waits_for_a_transaction_that_is_recording_an_end(url: str, opened: Callable[[], Ledger], how: str) -> None:
    """Also where a handler's own writes are in that transaction, and however long it lasts."""
    old = Owner(opened(), "old", lease=10)
    heir, waits, taken = opened(), Event(), list[dict[int, int]]()
    heir.ownership.heartbeat(G, "new", 99, 10)
    taking = Thread(target=lambda: taken.append(heir.ownership.take(G, "new", [0], 99).epochs))

    class Undone(Exception):
        pass

    def work(t: Transaction) -> list[bool]:
        answers = finish_in(t, G, "old", [old.end("a", State.SUCCEEDED)], 99)
        if not waits.is_set():
            waits.set()
            taking.start()
            _wait_for_a_lock(url, old.ledger.dialect, taking)
        assert taken == []
        if how == "rolled back":
            raise Undone
        return answers

    try:
        assert old.ledger._database.write(work, days=[key("a").day]) == [True]
    except Undone:
        assert how == "rolled back"
    taking.join(30)
    assert taken == [{0: old.epoch + 1}]
    found = heir.outcomes.states(G, [key("a")])
    assert found == ({key("a"): State.SUCCEEDED} if how == "committed" else {})
    assert old.record([old.end("b", State.SUCCEEDED)]) == [False]


def _wait_for_a_lock(url: str, dialect: str, thread: Thread) -> None:
    if dialect == "sqlite":
        # It can't be looked at from outside; that the file takes one writer at a time is SQLite's word.
        thread.join(0.1)
        return
    with psycopg.connect(url, autocommit=True) as other:
        while not (other.execute("SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%ownership%'")
                   .fetchone() or (0,))[0]:  # fmt: skip
            assert thread.is_alive(), "the take-over didn't wait"
