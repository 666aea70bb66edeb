"""When passes are due: nothing repeated, nothing skipped, nobody last for ever."""

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
    assert schedule.ready(dues, {"c": 200.0, "a": 100.0}, shops, {("d", "states")}, 100.0) == [
        Task("b", Pass.LOOKBACK), Task("a", Pass.FAST), Task("b", Pass.SWEEP)]  # fmt: skip


def test_a_closed_shop_is_tried_hourly_for_a_day_and_daily_after() -> None:
    tries, now = [], 0.0
    while now < 3 * DAY:
        now = schedule.probe(0.0, now)
        tries.append(now)
    assert tries == [*(HOUR * n for n in range(1, 25)), 2 * DAY, 3 * DAY]


def test_a_long_pass_that_came_to_no_end_is_made_again_within_the_hour() -> None:
    assert schedule.again(EVERY[Pass.SWEEP], 100.0) == 100 + HOUR
    assert schedule.again(60.0, 100.0) == 160.0
