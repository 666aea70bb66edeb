"""How fast, and when to stop: decided on a clock that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.errors import UsageError
from hooktape.ledger.jobs import Limits
from hooktape.ledger.selection import Selection
from hooktape.replayer.control import Ask, confirmation
from hooktape.replayer.deciding import urgency
from hooktape.replayer.pace import Failing, Pace


@given(st.floats(1, 5000), st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 20)), min_size=1, max_size=200))
def test_a_pace_never_lets_more_through_than_its_rate_whatever_live_traffic_does(rate: float, steps: list[tuple[float, float]]) -> None:
    now, passed, pace = 0.0, 0, Pace(rate, 5.0, 0.0)
    for pause, wait in steps:
        now += pause
        pace.heed(wait)
        passing = pace.allow(now, 500)
        assert not (pace.stopped and passing)
        passed += passing
    assert passed <= rate * now + max(1.0, rate / 10) + 1e-6


@given(st.lists(st.floats(0, 20), max_size=30))
def test_whatever_live_traffic_did_the_full_rate_comes_back_by_itself(waits: list[float]) -> None:
    pace = Pace(100.0, 5.0, 0.0)
    for wait in waits:
        pace.heed(wait)
    for _ in range(10):
        pace.heed(0.0)
    assert pace.share == 1.0


def test_it_slows_stops_and_stays_stopped_until_live_events_wait_for_half_as_long() -> None:
    pace = Pace(100.0, 5.0, 0.0)
    pace.heed(2.6)
    assert pace.share == 0.5
    pace.heed(5.0)
    assert pace.stopped
    pace.heed(4.0)
    assert pace.stopped
    assert pace.allow(100.0, 10) == 0
    pace.heed(2.4)
    assert not pace.stopped


def test_without_bounds_everything_passes() -> None:
    pace = Pace(None, None, 0.0)
    pace.heed(1000.0)
    assert pace.allow(0.0, 500) == 500


def test_more_failures_than_the_share_of_a_hundred_stop_it_however_few_have_ended() -> None:
    failing = Failing(0.2)
    assert not failing.note(20, 20)
    assert failing.note(21, 21)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=60))
def test_it_stops_exactly_when_the_last_hundred_hold_too_many_failures(steps: list[tuple[int, int]]) -> None:
    failing, ended, failed = Failing(0.2), 0, 0
    seen = [(0, 0)]
    for fine, bad in steps:
        ended, failed = ended + fine + bad, failed + bad
        seen.append((ended, failed))
        before, bad_before = max((s for s in seen if s[0] <= ended - 100), default=(0, 0))
        assert failing.note(ended, failed) == (failed - bad_before > 0.2 * max(100, ended - before))


@pytest.mark.parametrize("bad", [{"rate": 0.0}, {"outstanding": 0}, {"max_lag": 0.0}, {"max_failures": 1.0}, {"max_failures": -0.1}])
def test_limits_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Limits(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("selection", "to_run", "forced", "ask"),
    [
        (Selection(ids=("a",)), 1, False, Ask.YES),
        (Selection(ids=("a",)), 1, True, Ask.YES),
        (Selection(ids=("a", "b")), 2, False, Ask.COUNT),
        (Selection(since=1, shops=("s",)), 100, False, Ask.COUNT),
        (Selection(since=1, shops=("s",)), 101, False, Ask.TYPE),
        (Selection(since=1, shops=("s",)), 5, True, Ask.TYPE),
        (Selection(since=1), 5, False, Ask.TYPE),
        (Selection(shops=("s",)), 5, False, Ask.TYPE),
    ],
)
def test_the_wider_a_run_reaches_the_more_firmly_it_is_confirmed(selection: Selection, to_run: int, forced: bool, ask: Ask) -> None:
    assert confirmation(selection, to_run, forced=forced) is ask


@given(st.lists(st.sampled_from("abcdef")), st.lists(st.sampled_from("abcdefgh"), max_size=50))
def test_urgent_resources_go_first_whole_and_within_each_the_oldest_event(failures: list[str], events: list[str]) -> None:
    ranks = urgency(failures)
    order = [number for _, number in sorted((number + ranks.get(lane, 0), number) for number, lane in enumerate(events, 1))]
    lanes = [events[number - 1] for number in order]
    for lane in set(events):
        mine = [number for number in order if events[number - 1] == lane]
        assert mine == sorted(mine)
    urgent = [lane for lane in dict.fromkeys(failures) if lane in events]
    assert list(dict.fromkeys(lanes))[: len(urgent)] == urgent
    assert [number for number in order if events[number - 1] not in ranks] == sorted(n for n in order if events[n - 1] not in ranks)
