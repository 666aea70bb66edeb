"""Lanes: one of a key at a time and in order, limits, shares, cooling; a model test over random schedules."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape.consumers.lanes import LONGEST_COOLING, Lanes
from hooktape.consumers.task import Home, Rank, Task

from .conftest import make_event


@dataclass(frozen=True)
class Bound:
    name: str = "h"
    concurrency: int = 16
    per_shop: int | None = None


H = Bound()


def task(number: int, lane: str | None = None, rank: Rank = Rank.LIVE, handler: Bound = H, shop: str = "a.myshopify.com",
         topic: str = "orders/create") -> Task:  # fmt: skip
    event = make_event(number, shop=shop, topic=topic)
    return Task(Home("t", 0, 1, 0), number, event, event.key, handler, lane, rank)


def drain(lanes: Lanes, now: float = 0.0) -> list[Task]:
    started = []
    while (found := lanes.start(now)) is not None:
        started.append(found)
    return started


def test_events_of_a_key_run_one_at_a_time_in_order() -> None:
    lanes = Lanes(10)
    first, second, other = task(1, "k"), task(2, "k"), task(3, "other")
    for added in (first, second, other):
        lanes.add(added)
    assert drain(lanes) == [first, other]
    lanes.end(first)
    assert drain(lanes) == [second]


def test_without_a_lane_nothing_waits() -> None:
    lanes = Lanes(10)
    tasks = [task(n) for n in range(5)]
    for added in tasks:
        lanes.add(added)
    assert drain(lanes) == tasks


def test_a_handler_never_runs_more_than_its_concurrency_nor_the_process_more_than_its_limit() -> None:
    few, many = Bound("few", 2), Bound("many", 100)
    lanes = Lanes(5)
    for n in range(10):
        lanes.add(task(n, handler=few))
        lanes.add(task(100 + n, handler=many))
    started = drain(lanes)
    assert len(started) == 5
    assert sum(t.handler is few for t in started) == 2


def test_live_goes_before_retry_and_replay_and_none_starves() -> None:
    lanes = Lanes(1)
    for rank in Rank:
        for n in range(200):
            lanes.add(task(n, rank=rank))
    seen = []
    for _ in range(105):
        started = lanes.start(0.0)
        assert started is not None
        seen.append(started.rank)
        lanes.end(started)
    assert seen[:16] == [Rank.LIVE] * 16
    assert (seen.count(Rank.LIVE), seen.count(Rank.RETRY), seen.count(Rank.REPLAY)) == (80, 20, 5)


def test_a_replay_alone_takes_everything() -> None:
    lanes = Lanes(100)
    for n in range(50):
        lanes.add(task(n, rank=Rank.REPLAY))
    assert len(drain(lanes)) == H.concurrency


def test_a_postponed_event_keeps_its_lane_and_frees_its_slot() -> None:
    lanes = Lanes(1)
    first, second, other = task(1, "k"), task(2, "k"), task(3, "other")
    for added in (first, second, other):
        lanes.add(added)
    assert lanes.start(0.0) is first
    lanes.postpone(first, 5.0)
    assert drain(lanes, 1.0) == [other]
    lanes.end(other)
    assert lanes.start(4.9) is None
    assert lanes.wake_at() == 5.0
    assert lanes.start(5.0) is first


def test_a_held_event_keeps_its_lane_until_it_has_arrived() -> None:
    lanes = Lanes(1)
    first, second = task(1, "k"), task(2, "k")
    lanes.add(first)
    lanes.add(second)
    assert lanes.start(0.0) is first
    lanes.hold(first)
    assert lanes.start(0.0) is None
    lanes.release(first)
    assert lanes.start(0.0) is second


def test_a_shop_that_cools_stops_that_shop_only_and_not_for_ever() -> None:
    lanes = Lanes(10)
    hot, fine = task(1, "hot", shop="hot.myshopify.com"), task(2, "fine", shop="fine.myshopify.com")
    lanes.cool(H, "hot.myshopify.com", 0.0, 3600.0)
    lanes.add(hot)
    lanes.add(fine)
    assert drain(lanes, 1.0) == [fine]
    assert drain(lanes, LONGEST_COOLING) == [hot]


def test_a_destination_that_cools_stops_all_of_the_handler() -> None:
    lanes, other = Lanes(10), Bound("other")
    lanes.cool(H, "", 0.0, 2.0)
    lanes.add(task(1, "a"))
    lanes.add(kept := task(2, "b", handler=other))
    assert drain(lanes, 1.0) == [kept]
    assert len(drain(lanes, 2.0)) == 1


def test_a_thread_that_outlives_its_timeout_keeps_its_slot() -> None:
    lanes, one = Lanes(10), Bound("one", 1)
    lanes.add(first := task(1, handler=one))
    lanes.add(second := task(2, handler=one))
    assert lanes.start(0.0) is first
    lanes.seize(one)
    lanes.end(first)
    assert lanes.start(0.0) is None
    lanes.give_back(one)
    assert lanes.start(0.0) is second


def test_events_of_a_partition_that_has_gone_are_dropped_unless_they_have_begun() -> None:
    lanes, home = Lanes(1), Home("t", 0, 1, 0)
    tasks = [task(n, lane) for n, lane in enumerate(["k", "k", "k", "m", None])]
    for t in tasks:
        t.home = home
        t.taken = t.offset == 1
        lanes.add(t)
    home.revoked = True
    lanes.drop_abandoned()
    assert drain(lanes) == [tasks[1]]
    lanes.end(tasks[1])
    assert len(lanes) == 0


def test_of_a_closed_topic_nothing_starts_and_everything_else_does() -> None:
    lanes = Lanes(10)
    lanes.close_topic("orders/create")
    kept, behind = task(1, "k"), task(2, "k", topic="orders/updated")
    free = task(3, "m", topic="orders/updated")
    for added in (kept, behind, free):
        lanes.add(added)
    assert drain(lanes) == [free]
    assert (lanes.aside("orders/create"), lanes.aside(), lanes.ready, len(lanes)) == (1, 1, 0, 3)
    lanes.open_topic("orders/create")
    assert drain(lanes) == [kept]
    lanes.end(kept)
    assert drain(lanes) == [behind]


def test_one_probe_at_a_time_is_let_through_a_closed_topic() -> None:
    lanes = Lanes(10)
    lanes.close_topic("orders/create")
    tasks = [task(n, rank=Rank.RETRY if n == 0 else Rank.LIVE) for n in range(4)]
    for added in tasks:
        lanes.add(added)
    assert drain(lanes) == []
    lanes.let_probe("orders/create")
    lanes.let_probe("orders/create")
    assert drain(lanes) == [tasks[1]]
    assert lanes.is_probe(tasks[1])
    lanes.let_probe("orders/create")
    assert drain(lanes) == []
    lanes.put_aside(tasks[1])
    assert not lanes.probing("orders/create")
    probes = []
    for _ in range(3):
        lanes.let_probe("orders/create")
        [probe] = drain(lanes)
        probes.append(probe)
        lanes.put_aside(probe)
    assert probes == [tasks[2], tasks[3], tasks[1]]


def test_with_nothing_put_aside_the_next_to_come_is_the_probe() -> None:
    lanes = Lanes(10)
    lanes.close_topic("orders/create")
    lanes.let_probe("orders/create")
    first, second = task(1), task(2)
    lanes.add(first)
    lanes.add(second)
    assert drain(lanes) == [first]
    lanes.end(first)
    assert not lanes.probing("orders/create")
    assert lanes.aside("orders/create") == 1


def test_a_probe_may_be_postponed_for_a_quick_try_and_cool_and_stays_the_probe() -> None:
    lanes = Lanes(10)
    lanes.close_topic("orders/create")
    lanes.let_probe("orders/create")
    lanes.add(probe := task(1))
    assert drain(lanes) == [probe]
    lanes.cool(H, "a.myshopify.com", 0.0, 3.0)
    lanes.postpone(probe, 1.0)
    assert drain(lanes, 1.0) == []
    assert drain(lanes, 3.0) == [probe]
    assert lanes.is_probe(probe)


def test_a_failed_event_that_is_put_aside_keeps_its_lane_and_frees_its_slot() -> None:
    lanes = Lanes(1)
    first, second, other = task(1, "k"), task(2, "k", topic="orders/updated"), task(3, topic="orders/updated")
    for added in (first, second):
        lanes.add(added)
    assert drain(lanes) == [first]
    lanes.close_topic("orders/create")
    lanes.put_aside(first)
    lanes.add(other)
    assert drain(lanes) == [other]
    lanes.end(other)
    lanes.open_topic("orders/create")
    assert drain(lanes) == [first]
    lanes.put_aside(first)
    assert drain(lanes) == [first]


def test_events_put_aside_go_with_their_partition_and_so_does_the_probe() -> None:
    lanes, home = Lanes(10), Home("t", 0, 1, 0)
    lanes.close_topic("orders/create")
    tasks = [task(n, lane) for n, lane in enumerate(["k", "k", "m"])]
    for t in tasks:
        t.home = home
        lanes.add(t)
    lanes.let_probe("orders/create")
    [probe] = drain(lanes)
    home.revoked = True
    lanes.drop_abandoned()
    lanes.end(probe)
    assert (len(lanes), lanes.probing("orders/create")) == (0, False)


@st.composite
def schedules(draw: st.DrawFn) -> list[tuple[str, int]]:
    words = ["add", "start", "end", "postpone", "hold", "release", "later", "close", "open", "probe", "aside"]
    step = st.tuples(st.sampled_from(words), st.integers(0, 5))
    return draw(st.lists(step, max_size=120))


@given(schedules())
@settings(max_examples=200)
def test_whatever_happens_a_key_runs_one_at_a_time_in_order_and_everything_runs(steps: list[tuple[str, int]]) -> None:
    lanes, now, number = Lanes(3), 0.0, 0
    running: list[Task] = []
    held: list[Task] = []
    begun: dict[str, list[int]] = {}
    added = 0
    busy: set[str] = set()
    closed = False

    def begin(t: Task) -> None:
        lane = str(t.lane)
        assert not closed or lanes.is_probe(t) or t.event.topic != "orders/create"
        assert not lanes.is_probe(t) or not any(lanes.is_probe(other) for other in running)
        if t.quick == 0:
            begun.setdefault(lane, []).append(t.offset)
        assert lane not in busy
        busy.add(lane)
        running.append(t)

    for what, n in steps:
        if what == "add":
            lanes.add(task(number, f"k{n % 3}", Rank(n % 3), topic=("orders/create", "orders/updated")[n % 2]))
            number, added = number + 1, added + 1
        elif what == "start" and (found := lanes.start(now)) is not None:
            begin(found)
        elif what in ("close", "open"):
            closed = what == "close"
            (lanes.close_topic if closed else lanes.open_topic)("orders/create")
        elif what == "probe":
            lanes.let_probe("orders/create")
        elif what in ("end", "postpone", "hold", "aside") and running:
            t = running.pop(n % len(running))
            busy.discard(str(t.lane))
            if what == "end":
                lanes.end(t)
            elif what == "postpone":
                t.quick += 1
                lanes.postpone(t, now + n)
            elif what == "aside":
                t.quick += 1
                lanes.put_aside(t)
            else:
                lanes.hold(t)
                held.append(t)
                busy.add(str(t.lane))
        elif what == "release" and held:
            t = held.pop(0)
            busy.discard(str(t.lane))
            lanes.release(t)
        elif what == "later":
            now += n
        assert len(running) == lanes.running <= 3
    closed = False
    lanes.open_topic("orders/create")
    for t in held:
        busy.discard(str(t.lane))
        lanes.release(t)
    while running or len(lanes):
        for t in running:
            busy.discard(str(t.lane))
            lanes.end(t)
        running.clear()
        now += 10
        for t in drain(lanes, now):
            begin(t)
    assert sum(map(len, begun.values())) == added
    assert all(order == sorted(order) for order in begun.values())
