"""Times as people write them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.errors import UsageError
from hooktape.times import format_duration, from_micros, micros, parse_duration, parse_time

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("2m", 120), ("1h30m", 5400), ("250ms", 0.25), ("3d", 259200), ("1.5h", 5400),
                                               ("PT1H", 3600), ("P2D", 172800), ("P1DT12H", 129600), ("pt1m0.5s", 60.5)])  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "-3s", "3 s", "3x", "1h30", "P", "PT", "P1H", "1H", "PT1H30", "-PT1H"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError):
        parse_duration(text)


@given(st.integers(1, 10_000_000))
def test_a_formatted_duration_is_read_back(milliseconds):
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(("text", "moment"), [
    ("2h", NOW - timedelta(hours=2)), ("now", NOW), ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
    ("2026-11-20T03:00Z", datetime(2026, 11, 20, 3, tzinfo=UTC)),
    ("2026-11-20T03:00:00-05:00", datetime(2026, 11, 20, 8, tzinfo=UTC)),
    ("2024-08-07T22:57:57.290670248Z", datetime(2024, 8, 7, 22, 57, 57, 290670, tzinfo=UTC)),
])  # fmt: skip
def test_times(text, moment):
    assert parse_time(text, NOW) == moment


def test_what_is_no_time_is_refused_with_an_example():
    with pytest.raises(UsageError, match="2026-11-20T03:00Z"):
        parse_time("yesterday")


@given(st.integers(0, 4_000_000_000_000_000))
def test_microseconds_are_exact(value):
    assert micros(from_micros(value)) == value
