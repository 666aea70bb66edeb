"""When passes are due: nothing repeated, nothing skipped, nobody last for ever."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hooktape.reconciler import schedule
from hooktape.reconciler.schedule import DAY, HOUR, Pass, Task
from hooktape.settings import Settings

EVERY = schedule.intervals(Settings())


def test_the_first_fast_pass_is_due_at_once_and_the_longer_ones_at_moments_of_the_shops_own() -> None:
    dues = schedule.first([f"shop-{number}" for number in range(50)], EVERY, 1000.0)
    assert {due for (_, name), due in dues.items() if name == "fast"} == {1000.0}
    sweeps = [due for (_, name), due in dues.items() if name == "sweep"]
    assert len(set(sweeps)) == 50
    assert min(sweeps) >= 1000 + EVERY[Pass.SWEEP] / 2
    assert max(sweeps) <= 1000 + EVERY[Pass.SWEEP]
    assert dues == schedule.first([f"shop-{number}" for number in range(50)], EVERY, 1000.0)


@given(st.floats(0, 1e6), st.floats(1, 1e5), st.floats(0, 1e6))
def test_what_was_slept_through_is_made_up_for_once_and_the_beat_is_kept(due: float, every: float, late: float) -> None:
    following = schedule.following(due, every, due + late)
    assert due + late < following + 1e-3 <= due + late + every + 2e-3


def test_the_longest_overdue_shop_comes_first_and_a_closed_or_busy_one_not_at_all() -> None:
    dues = {("a", "fast"): 50.0, ("b", "fast"): 10.0, ("b", "lookback"): 5.0, ("b", "sweep"): 60.0, ("c", "fast"): 1.0, ("d", "fast"): 2.0,
            ("e", "fast"): 101.0, ("gone", "fast"): 1.0, ("a", "unknown"): 1.0}  # fmt: skip
    shops = {"a", "b", "c", "d", "e"}
    assert schedule.ready(dues, {"c": 200.0, "a": 100.0}, shops, {("d", "states")}, 100.0, 8) == [
        Task("b", Pass.LOOKBACK), Task("a", Pass.FAST), Task("b", Pass.SWEEP)]  # fmt: skip


def test_sweeps_of_hours_leave_places_for_the_passes_of_other_shops() -> None:
    shops = {f"shop-{number:02}" for number in range(20)}
    dues = {(shop, name): due for shop in shops for name, due in (("sweep", 1.0), ("fast", 50.0))}
    tasks = schedule.ready(dues, {}, shops, (), 100.0, 8)
    assert [task.name for task in tasks[:8]] == ["sweep"] * 4 + ["fast"] * 4
    assert len(tasks) == 4 + 20
    busy = {("shop-00", "sweep"), ("shop-01", "sweep"), ("shop-02", "sweep"), ("shop-03", "states")}
    tasks = schedule.ready(dues, {}, shops, busy, 100.0, 8)
    assert [task for task in tasks if task.name == "sweep"] == [Task("shop-03", Pass.SWEEP)]


def test_a_closed_shop_is_tried_hourly_for_a_day_and_daily_after() -> None:
    tries, now = [], 0.0
    while now < 3 * DAY:
        now = schedule.probe(0.0, now)
        tries.append(now)
    assert tries == [*(HOUR * n for n in range(1, 25)), 2 * DAY, 3 * DAY]


def test_a_long_pass_that_came_to_no_end_is_made_again_within_the_hour() -> None:
    assert schedule.again(EVERY[Pass.SWEEP], 100.0) == 100 + HOUR
    assert schedule.again(60.0, 100.0) == 160.0


def test_shops_whose_api_is_closed_hold_up_none_of_a_hundred() -> None:
    shops, closed, every = [f"shop-{number:02}" for number in range(100)], {f"shop-{number:02}" for number in range(5)}, EVERY[Pass.FAST]
    dues = schedule.first(shops, {Pass.FAST: every, Pass.LOOKBACK: 10 * DAY, Pass.SWEEP: 10 * DAY}, 0.0)
    probes: dict[str, float] = {}
    made: dict[str, list[float]] = {shop: [] for shop in shops}
    busy: dict[tuple[str, str], float] = {}
    for second in range(3 * 3600):
        now = float(second)
        busy = {key: until for key, until in busy.items() if until > now}
        # Eight at once, as the service has; a pass takes 10 s, and one that is refused is tried for half a minute.
        for task in schedule.ready(dues, probes, shops, busy, now, 8)[: 8 - len(busy)]:
            ended = now + (30.0 if task.shop in closed else 10.0)
            busy[task.shop, task.lane] = ended
            made[task.shop].append(now)
            dues[task.shop, task.name] = schedule.following(dues[task.shop, task.name], every, ended)
            if task.shop in closed:
                probes[task.shop] = schedule.probe(0.0, ended)
    for shop in shops:
        if shop in closed:
            assert len(made[shop]) == 3, "a closed shop is tried once an hour"
        else:
            assert all(later - earlier <= every + 60 for earlier, later in pairwise(made[shop]))
            assert len(made[shop]) == 3 * 3600 // every
