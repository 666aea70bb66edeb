"""The flood breaker's decisions: when it opens, what it keeps, how it closes; properties over random votes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape.consumers.breaker import (
    ENOUGH_SHOPS,
    ENOUGH_TRIES,
    FIRST_INTERVAL,
    JITTER,
    LONGEST_INTERVAL,
    MOST_CAUSES,
    MOST_SHOPS,
    MOST_VOTES,
    WINDOW_SECONDS,
    Breaker,
    Closed,
    Force,
    Open,
    Override,
    Probe,
    State,
    Turn,
)

T, BUG, SHOP = "orders/create", "bug", "a.myshopify.com"


def made() -> Breaker:
    return Breaker(lambda: 0.0)


def fail(breaker: Breaker, times: int, now: float = 0.0, group: str = BUG, shop: str = SHOP) -> list[Turn]:
    return [turn for _ in range(times) if (turn := breaker.record(T, group, shop, now)) is not None]


def opened() -> Breaker:
    breaker = made()
    assert fail(breaker, ENOUGH_TRIES) == [Turn.OPENED]
    return breaker


def probe(breaker: Breaker, now: float, group: str | None) -> Turn | None:
    assert breaker.take_probe(T, now)
    return breaker.record(T, group, SHOP, now, probe=True)


def test_twenty_failures_of_one_cause_open_it_and_nineteen_do_not() -> None:
    breaker = made()
    assert fail(breaker, ENOUGH_TRIES - 1) == []
    assert breaker.may_leave(T, BUG, 0.0)
    assert fail(breaker, 1) == [Turn.OPENED]
    assert not breaker.may_leave(T, BUG, 0.0)
    assert breaker.verdict(T, 0.0) == Open(FIRST_INTERVAL)
    assert breaker.wake_at(0.0) == FIRST_INTERVAL


def test_what_fails_with_another_cause_leaves_and_other_topics_go_on() -> None:
    breaker = opened()
    assert breaker.may_leave(T, "other", 0.0)
    assert breaker.may_leave("orders/updated", BUG, 0.0)
    assert breaker.verdict("orders/updated", 0.0) == Closed()


def test_half_is_not_most() -> None:
    breaker = made()
    for _ in range(200):
        breaker.record(T, None, SHOP, 0.0)
        breaker.record(T, BUG, SHOP, 0.0)
    assert breaker.verdict(T, 0.0) == Closed()


def test_failures_of_many_causes_are_no_flood_of_one() -> None:
    breaker = made()
    for n in range(300):
        breaker.record(T, f"cause {n % 3}", SHOP, 0.0)
    assert breaker.verdict(T, 0.0) == Closed()


def test_twenty_failures_that_took_longer_than_a_minute_are_no_flood() -> None:
    breaker = made()
    for n in range(100):
        breaker.record(T, BUG, SHOP, n * 3.2)
    assert breaker.shut(1e6) == []


def test_a_quiet_topic_opens_when_eight_shops_are_hit() -> None:
    breaker = made()
    turns = [breaker.record(T, BUG, f"{n}.myshopify.com", 0.0) for n in range(ENOUGH_SHOPS)]
    assert turns == [None] * (ENOUGH_SHOPS - 1) + [Turn.OPENED]


def test_one_shop_whose_every_event_fails_does_not_stop_the_others() -> None:
    breaker = made()
    for n in range(3):
        breaker.record(T, None, f"well {n}.myshopify.com", 0.0)
    assert fail(breaker, 1000) == []
    assert breaker.may_leave(T, BUG, 0.0)


def test_however_busy_a_topic_was_a_hundred_failures_stop_it() -> None:
    breaker = made()
    for n in range(5000):
        breaker.record(T, None, f"{n}.myshopify.com", n / 1000)
    left = 0
    for n in range(5000):
        breaker.record(T, BUG, f"{n}.myshopify.com", 5 + n / 1000)
        left += breaker.may_leave(T, BUG, 5 + n / 1000)
    assert left <= MOST_VOTES


def test_after_its_time_one_probe_starts_and_its_success_closes_the_topic() -> None:
    breaker = opened()
    assert not breaker.take_probe(T, FIRST_INTERVAL - 0.1)
    assert breaker.verdict(T, FIRST_INTERVAL) == Probe()
    assert breaker.wake_at(FIRST_INTERVAL + 1) == FIRST_INTERVAL + 1
    assert breaker.take_probe(T, FIRST_INTERVAL)
    assert not breaker.take_probe(T, FIRST_INTERVAL)
    assert breaker.trips()[0].state is State.HALF_OPEN
    assert not breaker.may_leave(T, BUG, FIRST_INTERVAL)
    assert breaker.record(T, None, SHOP, 31.0, probe=True) is Turn.CLOSED
    assert (breaker.verdict(T, 31.0), breaker.trips(), breaker.wake_at(31.0)) == (Closed(), [], None)


def test_each_failed_probe_doubles_the_interval_up_to_five_minutes() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(6):
        verdict = breaker.verdict(T, now)
        assert isinstance(verdict, Open)
        waits.append(verdict.until - now)
        now = verdict.until
        assert probe(breaker, now, BUG) is Turn.REOPENED
    assert waits == [30, 60, 120, 240, LONGEST_INTERVAL, LONGEST_INTERVAL]


def test_chance_sets_the_probes_of_several_workers_apart() -> None:
    breaker = Breaker(lambda: 0.5)
    fail(breaker, ENOUGH_TRIES)
    assert breaker.verdict(T, 0.0) == Open(FIRST_INTERVAL * (1 + JITTER / 2))


def test_a_probe_that_meets_another_cause_has_proved_nothing_and_is_kept_too() -> None:
    breaker = opened()
    assert probe(breaker, 30.0, "other") is Turn.REOPENED
    assert not breaker.may_leave(T, "other", 30.0)
    assert {trip.group for trip in breaker.trips()} == {BUG, "other"}


def test_a_lost_probe_is_replaced_at_once_and_a_throttled_one_later() -> None:
    breaker = opened()
    assert breaker.take_probe(T, 30.0)
    breaker.lose_probe(T, 31.0)
    assert breaker.take_probe(T, 31.0)
    breaker.lose_probe(T, 32.0, wait=True)
    assert breaker.verdict(T, 32.0) == Open(62.0)


def test_a_lucky_probe_lets_out_four_events_and_no_flood() -> None:
    breaker, now, left = opened(), 0.0, []
    for _ in range(10):
        now = breaker.wake_at(now) or now
        assert probe(breaker, now, None) is Turn.CLOSED
        out = 0
        while isinstance(breaker.verdict(T, now), Closed):
            breaker.record(T, BUG, SHOP, now)
            out += breaker.may_leave(T, BUG, now)
        left.append(out)
    assert left == [4] * 10
    verdict = breaker.verdict(T, now)
    assert isinstance(verdict, Open)
    assert verdict.until - now == LONGEST_INTERVAL


def test_a_trial_ends_after_a_minute_and_then_the_first_interval_counts_again() -> None:
    breaker = opened()
    assert probe(breaker, 30.0, BUG) is Turn.REOPENED
    assert probe(breaker, 90.0, None) is Turn.CLOSED
    now = 90.0 + WINDOW_SECONDS
    assert fail(breaker, ENOUGH_TRIES - 1, now) == []
    assert fail(breaker, 1, now) == [Turn.OPENED]
    assert breaker.verdict(T, now) == Open(now + FIRST_INTERVAL)


def test_what_had_started_before_is_counted_and_opens_and_closes_nothing() -> None:
    breaker = opened()
    assert fail(breaker, 5, 1.0) == []
    assert breaker.record(T, None, SHOP, 1.0) is None
    [trip] = breaker.trips()
    assert (trip.failures, trip.shops, trip.since, trip.until) == (ENOUGH_TRIES + 5, 1, 0.0, FIRST_INTERVAL)


def test_an_operator_lets_a_topic_through_until_a_time() -> None:
    breaker = opened()
    breaker.override(T, Override(Force.CLOSED, 100.0))
    assert breaker.verdict(T, 1.0) == Closed()
    assert fail(breaker, 200, 99.0) == []
    assert breaker.may_leave(T, BUG, 99.0)
    assert breaker.wake_at(99.0) == 100.0
    assert fail(breaker, 1, 100.0) == [Turn.OPENED]


def test_an_operator_holds_a_topic_that_is_well() -> None:
    breaker = made()
    breaker.override(T, Override(Force.OPEN))
    assert isinstance(breaker.verdict(T, 0.0), Open)
    assert not breaker.take_probe(T, 1e9)
    assert not breaker.may_leave(T, BUG, 0.0)
    assert breaker.wake_at(0.0) is None
    breaker.override(T, None)
    assert breaker.verdict(T, 0.0) == Closed()


votes = st.tuples(st.sampled_from([None, BUG, "other", "third"]), st.integers(0, 5), st.sampled_from([0.0, 0.01, 0.5, 5.0, 40.0]))


@given(st.lists(votes, max_size=150))
@settings(max_examples=200)
def test_it_never_opens_below_the_threshold(seen: list[tuple[str | None, int, float]]) -> None:
    """Against the rule written out naively, over the whole history."""
    breaker, now = made(), 0.0
    history: list[tuple[float, str | None, str]] = []
    for group, shop, wait in seen:
        now += wait
        history.append((now, group, f"{shop}"))
        turn = breaker.record(T, group, f"{shop}", now)
        recent = [vote for vote in history[-MOST_VOTES:] if vote[0] > now - WINDOW_SECONDS]
        news = {of: cause for at, cause, of in history if at > now - WINDOW_SECONDS}
        failed, sick = sum(vote[1] == group for vote in recent), sum(cause == group for cause in news.values())
        enough = len(recent) >= ENOUGH_TRIES or sick >= ENOUGH_SHOPS
        guilty = group is not None and enough and 2 * failed > len(recent) and 2 * sick >= len(news)
        assert (turn is Turn.OPENED) == guilty
        if guilty:
            return


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.floats(0, 30)), max_size=200))
@settings(max_examples=100)
def test_a_fault_that_hits_less_than_half_never_opens_it(rounds: list[tuple[int, int, float]]) -> None:
    """Of each five events two fail, wherever among them, whatever the shop and the pace."""
    breaker, now = made(), 0.0
    for shift, shop, wait in rounds:
        now += wait
        for n in range(5):
            failed = n in (shift, shift + 2)
            assert breaker.record(T, BUG if failed else None, f"{(shop + n) % 10}", now) is None
    assert breaker.shut(now) == []


steps = st.tuples(st.sampled_from(["well", "bug", "other", "probe well", "probe bug", "probe other", "lose", "throttled", "later", "let",
                                   "stop", "auto"]), st.integers(0, 400))  # fmt: skip


@given(st.lists(steps, max_size=300), st.floats(0, 0.999))
@settings(max_examples=200)
def test_whatever_happens_there_is_one_probe_at_most_and_after_recovery_it_closes(walk: list[tuple[str, int]], chance: float) -> None:
    breaker, now, out = Breaker(lambda: chance), 0.0, 0
    for what, n in walk:
        word = what.rpartition(" ")[2]
        group = None if word == "well" else word
        if what.startswith("probe"):
            if out:
                breaker.record(T, group, f"{n}", now, probe=True)
                out = 0
        elif what in ("lose", "throttled"):
            if out:
                breaker.lose_probe(T, now, what == "throttled")
                out = 0
        elif what == "later":
            now += n
        elif what in ("let", "stop"):
            breaker.override(T, Override(Force.CLOSED if what == "let" else Force.OPEN, now + n))
        elif what == "auto":
            breaker.override(T, None)
        else:
            for i in range(1 + n // 10):
                breaker.record(T, group, f"{n + i}", now)
        if isinstance(breaker.verdict(T, now), Probe):
            # A probe whose topic an operator let through meanwhile is an event like any other.
            assert out == 0 or breaker.trips()[0].state is not State.HALF_OPEN
            out = int(breaker.take_probe(T, now))
        assert not breaker.take_probe(T, now)
    breaker.override(T, None)
    for _ in range(3):
        if out:
            breaker.record(T, None, SHOP, now, probe=True)
        now = breaker.wake_at(now) or now
        out = int(breaker.take_probe(T, now))
    assert breaker.verdict(T, now) == Closed()
    assert breaker.record(T, None, SHOP, now) is None


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=1, max_size=3000))
@settings(max_examples=20)
def test_memory_is_bounded_whatever_the_shops_and_causes(seen: list[tuple[int, int]]) -> None:
    breaker = made()
    for group, shop in seen:
        breaker.record(T, f"{group}", f"{shop}", 0.0)
    machine = breaker._topics[T]
    assert len(machine.window._votes) <= MOST_VOTES
    assert len(machine.window._shops) <= MOST_SHOPS
    assert len(machine.window._failed) <= MOST_VOTES
    assert len(machine.window._sick) <= MOST_SHOPS
    breaker = opened()
    now = 0.0
    for group, _ in seen:
        now = breaker.wake_at(now) or now
        probe(breaker, now, f"{group}")
    assert len(breaker.trips()) <= MOST_CAUSES
