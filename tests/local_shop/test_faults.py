from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape.errors import UsageError
from hooktape.local.shop.faults import Fate, Faults, plan

ALL = Faults(dropped=0.05, doubled=0.03, late=0.05, out_of_order=0.03)


def test_the_same_seed_gives_the_same_fates() -> None:
    assert plan(ALL, Random(4), 2000, 600) == plan(ALL, Random(4), 2000, 600)
    assert plan(ALL, Random(4), 2000, 600) != plan(ALL, Random(5), 2000, 600)


def test_the_shares_come_out_as_asked() -> None:
    fates = Counter(verdict.fate for verdict in plan(ALL, Random(1), 20_000, 600))
    for fate, share in ALL.shares:
        assert fates[fate] / 20_000 == pytest.approx(share, abs=0.006), fate


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(1, 80), st.floats(0, 1))
def test_every_change_out_of_order_has_one_that_overtakes_it_on_time_and_far_enough_on(
    seed: int, changes: int, gap: int, share: float
) -> None:
    verdicts = plan(Faults(out_of_order=share), Random(seed), changes, gap)
    overtaken = {place - verdict.swaps_with for place, verdict in enumerate(verdicts) if verdict.swaps_with}
    assert overtaken == {place for place, verdict in enumerate(verdicts) if verdict.fate is Fate.OUT_OF_ORDER}
    assert all(verdict.fate is Fate.ON_TIME and verdict.swaps_with >= gap for verdict in verdicts if verdict.swaps_with)


def test_a_late_one_is_late_within_the_range() -> None:
    late = [v.delay for v in plan(Faults(late=1, late_by=(2, 3)), Random(1), 100, 1)]
    assert all(2 <= delay <= 3 for delay in late)


@pytest.mark.parametrize("wrong", [{"dropped": -0.1}, {"dropped": 0.7, "late": 0.7}, {"late_by": (3.0, 1.0)}])
def test_shares_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Faults(**wrong)  # type: ignore[arg-type]
