"""The bucket's arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from hooktape.ledger.bucket import KEEP, Bucket

BUCKET = Bucket(10.0, 0.0, size=10.0, rate=2.0)


def test_tokens_that_are_there_cost_no_wait_and_those_that_arent_are_promised_in_turn() -> None:
    left, first = BUCKET.take(8, 0.0, 5.0)
    assert (first.tokens, first.wait(8)) == (8, 0)
    left, second = left.take(4, 0.0, 5.0)
    assert (second.tokens, second.wait(2), second.wait(4)) == (4, 0, 1.0)
    _, third = left.take(2, 0.5, 5.0)
    assert (third.wait(1), third.wait(2)) == (1.0, 1.5)


def test_nothing_is_promised_beyond_the_horizon_and_it_says_when_to_ask_again() -> None:
    left, grant = BUCKET.take(100, 0.0, 2.0)
    assert (grant.tokens, grant.wait(grant.tokens), grant.again) == (14, 2.0, 1.0)
    _, none = left.take(1, 0.0, 2.0)
    assert (none.tokens, none.again) == (0, 1.0)


def test_the_bucket_never_holds_more_than_its_size_and_a_clock_set_back_gives_nothing() -> None:
    assert BUCKET.held(1e9) == 10
    left, _ = BUCKET.take(10, 100.0, 0.0)
    assert left.held(50.0) == 0
    assert left.held(101.0) == 2


def test_what_shopify_says_lowers_the_level_and_never_raises_it() -> None:
    said = BUCKET.report(3.0, 4.0, 40.0, 0.0)
    assert (said.level, said.rate, said.size) == (3.0, 4.0, 40.0 - 4.0 * KEEP)
    assert said.report(30.0, 4.0, 40.0, 0.0).level == 3.0
    assert BUCKET.report(5.0, 0.0, 0.0, 0.0) == Bucket(5.0, 0.0, 10.0, 2.0)


def test_a_drained_bucket_gives_nothing_before_the_pause_is_over_and_then_at_its_rate() -> None:
    drained = BUCKET.drain(3.0, 0.0)
    _, grant = drained.take(4, 1.0, 4.0)
    assert (grant.wait(0), grant.wait(1), grant.wait(4)) == (2.0, 2.5, 4.0)
    assert drained.take(4, 1.0, 1.0)[1].tokens == 0
    assert drained.drain(1.0, 0.0).at == 3.0


def test_what_comes_back_is_there_again() -> None:
    left, _ = BUCKET.take(10, 0.0, 0.0)
    assert left.settle(4.0, 0.0).held(0.0) == 4
    assert left.settle(400.0, 0.0).held(0.0) == 10
    assert left.settle(-4.0, 1.0).held(1.0) == -2


Take = tuple[float, int, int]
TAKES = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 20), st.integers(0, 5)), max_size=25)


@given(TAKES, st.integers(1, 30), st.integers(1, 10))
def test_in_any_span_at_most_the_size_and_what_came_back_falls_due(takes: list[Take], size: int, rate: int) -> None:
    bucket, now, due = Bucket(float(size), 0.0, float(size), float(rate)), 0.0, list[float]()
    for step, tokens, within in takes:
        now += step
        bucket, grant = bucket.take(tokens, now, within)
        assert grant.tokens == 0 or grant.wait(grant.tokens) <= within + 1e-9
        whole = int(grant.tokens + 1e-9)
        due += [now + grant.wait(k) for k in range(1, whole + 1)]
    due.sort()
    for i, first in enumerate(due):
        for j in range(i, len(due)):
            assert j - i + 1 <= size + rate * (due[j] - first) + 1 + 1e-6  # 1: fractions of tokens of two grants


@given(TAKES)
def test_all_that_is_promised_was_there_or_comes_back(takes: list[Take]) -> None:
    bucket, now, given, horizon = BUCKET, 0.0, 0.0, 0.0
    for step, tokens, within in takes:
        now += step
        bucket, grant = bucket.take(tokens, now, within)
        given, horizon = given + grant.tokens, max(horizon, now + within)
        assert bucket.held(now) <= 10.0
        assert given <= 10.0 + 2.0 * horizon + 1e-6
        assert grant.again == 0 or grant.tokens < tokens
