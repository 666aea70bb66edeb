"""The circuit breaker's decisions."""

from hypothesis import given
from hypothesis import strategies as st

from hooktape.consumers.circuit import Circuit


def opened(at: float = 0.0) -> Circuit:
    circuit = Circuit(failures=3, first_pause=1.0, longest_pause=8.0)
    for n in range(3):
        assert circuit.enter(f"e{n}", at) == 0
        assert circuit.failed(f"e{n}", True, at) is None
    return circuit


def test_several_events_in_a_row_open_it_and_one_answer_between_them_doesnt() -> None:
    assert opened().open
    circuit = Circuit(failures=3)
    for n in range(10):
        circuit.failed(f"e{n}", False, 0.0)
        if n % 2:
            circuit.answered()
    assert not circuit.open


def test_one_event_that_fails_again_and_again_opens_nothing() -> None:
    circuit = Circuit(failures=3)
    for _ in range(50):
        assert circuit.failed("poison", True, 0.0) is None
    assert not circuit.open


def test_an_open_one_lets_a_single_probe_through_after_its_pause() -> None:
    circuit = opened()
    assert circuit.enter("a", 0.4) == 0.6
    assert circuit.enter("a", 1.0) == 0
    assert circuit.enter("b", 1.0) > 0
    circuit.answered()
    assert circuit.enter("b", 1.0) == circuit.enter("c", 1.0) == 0


def test_each_failed_probe_doubles_the_pause_up_to_its_bound_and_an_answer_resets_it() -> None:
    circuit, now, pauses = opened(), 1.0, []
    for n in range(5):
        assert circuit.enter(f"p{n}", now) == 0
        wait = circuit.failed(f"p{n}", False, now)
        assert wait is not None
        pauses.append(wait)
        now += wait
    assert pauses == [2, 4, 8, 8, 8]
    circuit.answered()
    again = opened()
    assert again.enter("x", 0.0) == 1.0


def test_a_probe_that_was_sent_counts_so_that_an_event_the_endpoint_chokes_on_ends_some_day() -> None:
    circuit = opened()
    circuit.enter("a", 1.0)
    assert circuit.failed("a", True, 1.0) is None
    assert circuit.enter("b", 1.0) == 2.0


def test_what_was_under_way_when_it_opened_isnt_held_against_its_events() -> None:
    circuit = opened()
    assert circuit.failed("late", True, 0.25) == 0.75


def test_the_pause_that_the_endpoint_asks_for_is_kept() -> None:
    circuit = Circuit(failures=1, longest_pause=30.0)
    circuit.failed("a", True, 0.0, after=12.0)
    assert circuit.enter("b", 0.0) == 12.0


@given(st.lists(st.tuples(st.sampled_from(["enter", "ok", "sent", "unsent", "later"]), st.integers(0, 5)), max_size=200))
def test_whatever_happens_there_is_at_most_one_probe_and_it_never_stays_shut(steps: list[tuple[str, int]]) -> None:
    circuit, now = Circuit(failures=2, first_pause=1.0, longest_pause=4.0), 0.0
    probes: set[str] = set()
    for what, n in steps:
        name = f"e{n}"
        if what == "later":
            now += n
        elif what == "enter":
            was_open = circuit.open
            if circuit.enter(name, now) == 0 and was_open:
                probes.add(name)
                assert len(probes) == 1
        elif what == "ok":
            circuit.answered()
            probes.clear()
        elif not circuit.open or name in probes:
            circuit.failed(name, what == "sent", now)
            probes.discard(name)
    for probe in probes:
        circuit.failed(probe, False, now)
    assert circuit.enter("last", now + 5) == 0
