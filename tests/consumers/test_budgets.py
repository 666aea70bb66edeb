"""Tokens in a process: nobody overspends, nobody starves, the ledger isn't asked for each event."""

import heapq
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape.consumers.budgets import WITHIN, Purses, Spent, spent
from hooktape.ledger.bucket import KEEP, Bucket

SHOP = "a.myshopify.com"


class Model:
    """Workers on one bucket in virtual time; the ledger answers after `delay`. Events start as soon as they're let."""

    def __init__(self, workers: int, size: float, rate: float, delay: float) -> None:
        self.bucket = Bucket(size, 0.0, size, rate)
        self.workers = [Purses() for _ in range(workers)]
        self.delay = delay
        self.asks = 0
        self.started: list[tuple[float, float, str]] = []
        self._steps: list[tuple[float, int, Any]] = []
        self._number = 0

    def at(self, moment: float, step: Any) -> None:
        self._number += 1
        heapq.heappush(self._steps, (moment, self._number, step))

    def event(self, moment: float, worker: int, name: str, cost: float) -> None:
        self.at(moment, lambda now: self._try(now, worker, name, cost))

    def run(self, until: float) -> None:
        while self._steps and self._steps[0][0] <= until:
            now, _, step = heapq.heappop(self._steps)
            step(now)

    def _try(self, now: float, worker: int, name: str, cost: float) -> None:
        wait = self.workers[worker].wait(name, SHOP, cost, now)
        if wait:
            self.event(now + wait, worker, name, cost)
            self._kick(now, worker)
        else:
            self.started.append((now, cost, name))

    def _kick(self, now: float, worker: int) -> None:
        for ask in self.workers[worker].asks(now):
            self.asks += 1

            def answer(then: float, ask: Any = ask) -> None:
                self.bucket, grant = self.bucket.settle(ask.back, then).take(ask.tokens, then, WITHIN, ask.least)
                self.workers[worker].granted(ask, grant, then + self.delay / 2)

            self.at(now + self.delay / 2, answer)

    def lowest(self, size: float) -> float:
        """How low all that was started would have brought a bucket of `size` on the other side."""
        level, last, lowest = size, 0.0, size
        for moment, cost, _ in sorted(self.started):
            level = min(size, level + (moment - last) * self.bucket.rate) - cost
            last, lowest = moment, min(lowest, level)
        return lowest


def test_fifty_workers_start_no_more_than_one_bucket_allows_and_use_it_up() -> None:
    model = Model(workers=50, size=100, rate=50, delay=0.01)
    for worker in range(50):
        for n in range(20):
            model.event(0.001 * worker, worker, f"{worker}/{n}", 5)
    model.run(21.0)
    assert model.lowest(100 + 50 * KEEP) >= 0
    used = sum(cost for _, cost, _ in model.started)
    assert used >= 0.9 * (100 + 50 * 20)


def test_every_event_starts_the_dear_ones_too() -> None:
    model = Model(workers=3, size=100, rate=50, delay=0.01)
    for worker in range(3):
        model.event(0.0, worker, f"dear/{worker}", 400)
        for n in range(100):
            model.event(0.05 * n, worker, f"{worker}/{n}", 5)
    model.run(80.0)
    assert len(model.started) == 303
    assert max(moment for moment, _, name in model.started if name.startswith("dear")) < 60


def test_a_steady_stream_asks_the_ledger_a_few_times_a_second_and_waits_for_nothing() -> None:
    model = Model(workers=1, size=1000, rate=100, delay=0.005)
    for n in range(500):
        model.event(0.02 * n, 0, str(n), 1)
    model.run(20.0)
    assert len(model.started) == 500
    assert model.asks <= 500 / 8
    late = sorted(moment - 0.02 * int(name) for moment, _, name in model.started)
    assert late[250] == 0
    assert late[-1] < 0.1


def test_tokens_that_nobody_spends_go_back() -> None:
    model = Model(workers=1, size=1000, rate=50, delay=0.01)
    model.bucket = Bucket(500, 0.0, 1000, 50)
    for n in range(9):
        model.event(0.03 * n, 0, str(n), 5)
    model.run(1.0)
    assert model.bucket.held(1.0) < 505  # 45 were spent and 50 have come back; what's missing is held by the worker
    model.workers[0].sweep(10.0)
    [ask] = model.workers[0].asks(10.0)
    assert ask.tokens == 0
    assert model.bucket.settle(ask.back, 1.0).held(1.0) == pytest.approx(505)


def test_an_event_that_got_no_slot_in_time_takes_its_tokens_anew() -> None:
    purses = Purses()
    assert purses.wait("a", SHOP, 5, 0.0) > 0
    [ask] = purses.asks(0.0)
    _, grant = Bucket(0.0, 0.0, 100, 50).take(ask.tokens, 0.0, WITHIN, ask.least)
    purses.granted(ask, grant, 0.0)
    assert purses.wait("a", SHOP, 5, 0.05) == pytest.approx(0.05)
    assert purses.wait("a", SHOP, 5, 0.1 + KEEP + 0.1) > 0
    [again] = purses.asks(2.0)
    assert (again.tokens, again.back) == (5, 5)


def test_while_the_ledger_cant_be_reached_events_ask_less_often_and_nothing_is_lost() -> None:
    purses = Purses()
    purses.settle(SHOP, 3)
    waits = [purses.wait("a", SHOP, 5, 0.0)]
    [ask] = purses.asks(0.0)
    for now in (0.02, 0.1, 10.0):
        waits.append(purses.wait("a", SHOP, 5, now))
    assert waits == sorted(waits)
    assert waits[-1] <= KEEP / 2
    assert purses.asks(10.0) == []
    purses.refused(ask)
    [again] = purses.asks(10.0)
    assert (again.tokens, again.back) == (5, 3)


@given(
    st.lists(st.tuples(st.floats(0, 6), st.integers(0, 3), st.integers(1, 60)), max_size=30),
    st.integers(1, 200), st.integers(1, 100), st.floats(0.001, 0.5),
)  # fmt: skip
@settings(max_examples=60)
def test_whatever_comes_the_limit_holds_and_everything_starts(
    events: list[tuple[float, int, int]], size: int, rate: int, delay: float
) -> None:
    model = Model(4, float(size), float(rate), delay)
    for n, (moment, worker, cost) in enumerate(events):
        model.event(moment, worker, str(n), min(cost, size))
    model.run(10_000.0)
    assert len(model.started) == len(events)
    # The other side's bucket is larger by what may be kept; a grant's clock begins half a delay after the ledger's.
    assert model.lowest(size + rate * (KEEP + delay)) >= -1e-3


COST = {"requestedQueryCost": 101, "actualQueryCost": 46,
        "throttleStatus": {"maximumAvailable": 1000.0, "currentlyAvailable": 954, "restoreRate": 50.0}}  # fmt: skip


def test_what_shopify_says_of_costs_is_read_and_what_cant_be_read_is_passed_over() -> None:
    assert spent([COST, {"requestedQueryCost": 4, "actualQueryCost": None}]) == Spent(50, (954, 50, 1000))
    assert spent([None, "x", {}, {"actualQueryCost": "many"}]) is None
    assert spent([{"actualQueryCost": 3, "throttleStatus": {"restoreRate": 1}}]) == Spent(3, None)
    for odd in ("nan", float("inf"), -5, 10**400):
        assert spent([{"actualQueryCost": odd}]) is None
        status = {"currentlyAvailable": odd, "restoreRate": 50, "maximumAvailable": 1000}
        assert spent([{"actualQueryCost": 3, "throttleStatus": status}]) == Spent(3, None)
