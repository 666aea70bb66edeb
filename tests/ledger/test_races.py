"""Several connections at the same instant, on both databases. Those over ownership are in `test_ownership.py`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger

from .conftest import DAY, Owner, key

ROUNDS = 150


@pytest.mark.parametrize("seen", [False, True], ids=["a new event", "one that waited"])
def test_of_two_ends_of_one_event_at_the_same_instant_one_is_recorded(opened: Callable[[], Ledger], seen: bool) -> None:
    """Two partitions of two workers: a webhook that came under two resources. Order of the batches: crosswise."""
    barrier = Barrier(2)

    def work(number: int) -> list[list[bool]]:
        me = Owner(opened(), f"w{number}", part=number)
        answers = []
        for turn in range(ROUNDS):
            names = [f"{turn}-{i}" for i in range(5)]
            if seen and number == 0:
                me.record([me.end(n, State.WAITING) for n in names])
            barrier.wait(30)
            ends = [me.end(n, State.SUCCEEDED, 2 + number, seen=me.check(n).seen) for n in names]
            barrier.wait(30)
            found = dict(zip(names if number else names[::-1], me.record(ends if number else ends[::-1]), strict=True))
            answers.append([found[n] for n in names])
        return answers

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert all(one != other for a, b in zip(first, second, strict=True) for one, other in zip(a, b, strict=True))


def test_two_processes_may_open_a_new_ledger_at_once(url: str) -> None:
    barrier = Barrier(4)

    def work(number: int) -> int | None:
        barrier.wait(30)
        with Ledger.open(url) as ledger:
            return ledger.leases.acquire("x", str(number), 1, 60)

    with ThreadPoolExecutor(4) as pool:
        epochs = list(pool.map(work, range(4)))
    assert sorted(epoch is None for epoch in epochs) == [False, True, True, True]


def test_workers_that_write_a_new_day_at_once_all_succeed(opened: Callable[[], Ledger]) -> None:
    barrier = Barrier(3)

    def work(number: int) -> list[bool]:
        me = Owner(opened(), f"w{number}", part=number)
        found = []
        for day in range(DAY, DAY + 10):
            barrier.wait(30)
            found += me.record([me.end(f"{number}-{i}-{day}", State.SUCCEEDED, day=day) for i in range(20)])
        return found

    with ThreadPoolExecutor(3) as pool:
        assert [ok for answers in pool.map(work, range(3)) for ok in answers] == [True] * 600
    assert len(opened().outcomes.states("g", [key(f"0-{i}-{DAY}") for i in range(20)])) == 20
