"""Budgets that processes share, on both databases."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from hooktape.ledger.bucket import STANDARD_RATE, STANDARD_SIZE
from hooktape.ledger.budgets import Cooling, Status, Want, admin_scope
from hooktape.ledger.ledger import Ledger

SCOPE = admin_scope("a.myshopify.com")
OTHER = admin_scope("b.myshopify.com")
# A bucket of 100, 50 a second: 50 are kept off the 150 that Shopify has.
SAID = Status(SCOPE, 1e9, 50.0, 150.0)


def test_a_new_shop_has_the_smallest_plans_bucket(ledger: Ledger) -> None:
    [grant] = ledger.budgets.take([Want(SCOPE, 1e6)], 0.0, now=10.0)
    assert (grant.tokens, grant.rate) == (STANDARD_SIZE - STANDARD_RATE, STANDARD_RATE)


def test_takers_are_served_in_turn_and_each_shop_has_its_own_bucket(ledger: Ledger) -> None:
    ledger.budgets.report([SAID], now=0.0)
    first, other, second = ledger.budgets.take([Want(SCOPE, 90), Want(OTHER, 90), Want(SCOPE, 60)], 2.0, now=0.0)
    assert [g.wait(g.tokens) for g in (first, other, second)] == [0, 0, 1.0]
    [back] = ledger.budgets.take([Want(SCOPE, 10, back=60)], 2.0, now=0.0)
    assert (back.tokens, back.wait(10)) == (10, 0)


def test_what_a_clock_wrote_that_was_a_day_ahead_stops_nobody_for_a_day(ledger: Ledger) -> None:
    day = 86_400.0
    ledger.budgets.report([SAID], now=day)
    ledger.budgets.drain(SCOPE, 2.0, now=day)
    ledger.budgets.cool("g", [Cooling("h", "a.myshopify.com", 60.0), Cooling("h", "b.myshopify.com", 5.0)], now=day)
    # The clock is right again.
    [grant] = ledger.budgets.take([Want(SCOPE, 10)], 2.0, now=0.0)
    assert grant.wait(10) == pytest.approx(10 / 50)
    assert ledger.budgets.cooling("g", now=0.0) == []
    ledger.budgets.cool("g", [Cooling("h", "a.myshopify.com", 3.0)], now=0.0)
    assert ledger.budgets.cooling("g", now=0.0) == [Cooling("h", "a.myshopify.com", 3.0)]


def test_what_shopify_refused_or_said_counts_for_the_next_taker(ledger: Ledger) -> None:
    ledger.budgets.report([SAID, Status(SCOPE, 5.0, 50.0, 150.0)], now=0.0)
    assert ledger.budgets.take([Want(SCOPE, 10)], 1.0, now=0.0)[0].wait(10) == pytest.approx(0.1)
    ledger.budgets.drain(SCOPE, 2.0, now=0.0)
    assert ledger.budgets.take([Want(SCOPE, 10)], 1.0, now=0.0)[0].tokens == 0
    assert ledger.budgets.take([Want(SCOPE, 10)], 5.0, now=0.0)[0].wait(10) == pytest.approx(2.3)
    assert ledger.budgets.buckets([SCOPE, OTHER]).keys() == {SCOPE}


def test_what_cools_is_seen_by_the_group_until_it_ends(opened: Callable[[], Ledger]) -> None:
    one, two = opened(), opened()
    one.budgets.cool("g", [Cooling("h", "a.myshopify.com", 5.0), Cooling("h", "", 2.0)], now=100.0)
    one.budgets.cool("g", [Cooling("h", "a.myshopify.com", 1.0)], now=100.0)
    one.budgets.cool("other", [Cooling("h", "a.myshopify.com", 50.0)], now=100.0)
    assert {(c.shop, c.seconds) for c in two.budgets.cooling("g", now=101.0)} == {("a.myshopify.com", 4.0), ("", 1.0)}
    assert two.budgets.cooling("g", now=105.0) == []


def test_the_clock_that_all_share_runs_like_ours(ledger: Ledger) -> None:
    ledger.budgets.cool("g", [Cooling("h", "", 30.0)])
    [cooling] = ledger.budgets.cooling("g")
    assert 0 < cooling.seconds <= 30.0
    ledger.budgets.report([SAID])
    ledger.budgets.take([Want(SCOPE, 100)], 0.0)
    [grant] = ledger.budgets.take([Want(SCOPE, 100)], 10.0)
    assert 0 < grant.wait(100) <= 2.0


def takes(address: str, together: Any, rounds: int) -> list[tuple[float, float]]:
    """(moment due, tokens) of what one process was promised; it asks for the two shops in its own order."""
    due = []
    with Ledger.open(address) as ledger:
        together.wait(60)
        for n in range(rounds):
            wants = [Want(SCOPE, 7), Want(OTHER, 1)]
            before = time.time()
            grants = ledger.budgets.take(wants if n % 2 else wants[::-1], 1.0)
            grant = grants[0 if n % 2 else 1]
            # As early as the promise can have meant.
            due += [(before + grant.wait(k), 1.0) for k in range(1, int(grant.tokens) + 1)]
    return due


def test_processes_together_are_promised_no_more_than_one_bucket(url: str) -> None:
    with Ledger.open(url) as ledger:
        ledger.budgets.report([SAID])
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(3, spawn) as pool:
        parts = list(pool.map(takes, [url] * 3, [manager.Barrier(3)] * 3, [60] * 3))
    due = sorted(moment for part in parts for moment, _ in part)
    assert len(due) > 100
    assert len(due) <= 100 + 50 * (due[-1] - due[0] + 1.0) + 1
    # In any second: the bucket, what comes back, and how long a call may have taken between our clock and the lock.
    for i, first in enumerate(due):
        within = sum(1 for moment in due[i:] if moment <= first + 1.0)
        assert within <= 100 + 50 * 2.0 + 1


def test_threads_that_take_and_put_back_at_once_lose_and_invent_nothing(opened: Callable[[], Ledger]) -> None:
    barrier = Barrier(4)
    opened().budgets.report([SAID], now=0.0)

    def work(number: int) -> float:
        ledger, taken = opened(), 0.0
        barrier.wait(30)
        for n in range(50):
            back = 1.0 if n % 5 == 4 else 0.0
            [grant] = ledger.budgets.take([Want(SCOPE, 1.0, back)], 0.0, now=0.0)
            taken += grant.tokens - back
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = sum(pool.map(work, range(4)))
    left = opened().budgets.buckets([SCOPE])[SCOPE].level
    assert taken + left == pytest.approx(100.0)
    assert 0 <= left <= 100
