"""Shops in the lanes: turns, limits, and what a flood of one leaves to the others."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape import App
from hooktape.consumers.lanes import Lanes
from hooktape.consumers.shops import share
from hooktape.consumers.task import Rank, Task
from hooktape.errors import UsageError

from .test_lanes import Bound, drain, task

FLOOD, OTHER = "flood.myshopify.com", "other.myshopify.com"


def flooded(lanes: Lanes, handler: Bound, events: int = 100) -> None:
    for n in range(events):
        lanes.add(task(n, handler=handler, shop=FLOOD))


def test_a_shop_with_a_limit_of_its_own_never_runs_more_at_once() -> None:
    lanes, handler = Lanes(100), Bound(per_shop=3)
    flooded(lanes, handler)
    started = drain(lanes)
    assert len(started) == 3
    lanes.end(started[0])
    assert len(drain(lanes)) == 1


def test_the_only_shop_takes_every_slot_and_with_a_second_one_a_quarter_is_kept_free() -> None:
    lanes, handler = Lanes(100), Bound(concurrency=16)
    flooded(lanes, handler)
    running = drain(lanes)
    assert len(running) == 16
    lanes.add(task(1000, handler=handler, shop=OTHER))
    lanes.end(running.pop())
    lanes.end(running.pop())
    running += drain(lanes)
    assert [t.event.shop for t in running[-2:]] == [FLOOD, OTHER]
    while running:
        lanes.end(running.pop())
    assert len(drain(lanes)) == share(16) == 12
    late = [task(2000 + n, handler=handler, shop=OTHER) for n in range(5)]
    for each in late:
        lanes.add(each)
    assert drain(lanes) == late[:4]


def test_shops_take_turns_so_that_nobody_waits_behind_a_backlog() -> None:
    lanes, handler = Lanes(100), Bound(concurrency=1)
    flooded(lanes, handler)
    late = [task(1000 + n, handler=handler, shop=OTHER) for n in range(3)]
    for each in late:
        lanes.add(each)
    order = []
    for _ in range(6):
        [started] = drain(lanes)
        order.append(started.event.shop)
        lanes.end(started)
    assert Counter(order) == {FLOOD: 3, OTHER: 3}


def test_a_shops_live_events_share_its_places_with_its_retries_and_replays() -> None:
    lanes, handler, seen = Lanes(100), Bound(per_shop=1), Counter[Rank]()
    for rank in Rank:
        for n in range(200):
            lanes.add(task(n, rank=rank, handler=handler, shop=FLOOD))
    for _ in range(105):
        [started] = drain(lanes)
        seen[started.rank] += 1
        lanes.end(started)
    assert seen == {Rank.LIVE: 80, Rank.RETRY: 20, Rank.REPLAY: 5}


def test_a_postponed_event_gives_its_shops_place_to_another() -> None:
    lanes, handler = Lanes(100), Bound(per_shop=1)
    flooded(lanes, handler, 2)
    [first] = drain(lanes)
    lanes.postpone(first, 5.0)
    [second] = drain(lanes, 1.0)
    assert drain(lanes, 6.0) == []
    lanes.end(second)
    assert drain(lanes, 6.0) == [first]


def test_dropping_what_another_worker_owns_leaves_a_full_shop_in_order() -> None:
    lanes, handler = Lanes(100), Bound(per_shop=1)
    flooded(lanes, handler, 3)
    waiting = task(9, handler=handler, shop=FLOOD)
    waiting.home.revoked = True
    lanes.add(waiting)
    [first] = drain(lanes)
    lanes.drop_abandoned()
    lanes.end(first)
    for _ in range(2):
        [started] = drain(lanes)
        assert started is not waiting
        lanes.end(started)
    assert len(lanes) == lanes.ready == 0


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12), (100, 75)])
def test_the_share_is_three_quarters_and_at_least_one(concurrency: int, most: int) -> None:
    assert share(concurrency) == most


@pytest.mark.parametrize("options", [{"per_shop": 0}, {"admin_cost": -1}, {"admin_cost": 5000}])
def test_limits_that_make_no_sense_are_said(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="per_shop must be above zero"):
        App("g").on("orders/create", **options)  # type: ignore[arg-type]


Step = tuple[str, int, int]
KINDS = st.sampled_from(["add", "start", "end", "postpone", "later"])
STEPS = st.lists(st.tuples(KINDS, st.integers(0, 3), st.integers(0, 2)), max_size=150)


@given(STEPS, st.integers(1, 6), st.none() | st.integers(1, 4), st.booleans())
@settings(max_examples=200)
def test_whatever_happens_no_shop_exceeds_its_limit_no_slot_idles_for_nothing_and_everything_runs(
    steps: list[Step], concurrency: int, per_shop: int | None, ordered: bool
) -> None:
    lanes, handler, now, number = Lanes(5), Bound("h", concurrency, per_shop), 0.0, 0
    running: list[Task] = []
    ready = Counter[str]()
    met: set[str] = set()
    most = concurrency
    for what, shop, rank in steps:
        if what == "add":
            name = f"s{shop}"
            lanes.add(task(number, f"{name}/{number}" if ordered else None, Rank(rank), handler, name))
            ready[name] += 1
            number += 1
        elif what == "start":
            counts = Counter(t.event.shop for t in running)
            found = lanes.start(now)
            if found is not None:
                running.append(found)
                ready[found.event.shop] -= 1
                met.add(found.event.shop)
                most = per_shop or (share(concurrency) if len(met) > 1 else concurrency)
                assert counts[found.event.shop] < most
            elif len(running) < min(5, concurrency) and lanes.wake_at() is None:
                # Nothing started: whoever is ready belongs to a shop that is full.
                assert all(counts[name] >= (per_shop or share(concurrency)) for name, left in ready.items() if left)
        elif what in ("end", "postpone") and running:
            t = running.pop(rank % len(running))
            if what == "end":
                lanes.end(t)
            else:
                lanes.postpone(t, now + rank)
                ready[t.event.shop] += 1
        elif what == "later":
            now += rank
        assert len(running) == lanes.running
    rounds = 0
    while running or len(lanes):
        for t in running:
            lanes.end(t)
        now += 10
        running = drain(lanes, now)
        rounds += 1
        assert rounds <= number + 1
