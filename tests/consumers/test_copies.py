"""Copies of one event in one worker: one at a time, and none is forgotten."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hooktape.consumers.copies import Copies
from hooktape.consumers.task import Task

from .conftest import make_event
from .test_lanes import H, task


def copy_of(name: str, days: int = 0) -> Task:
    made = make_event(1, webhook_id=name)
    assert made.triggered_us is not None
    made.triggered_us += days * 86_400_000_000
    found = task(1)
    found.event, found.key, found.handler = made, made.key, H
    return found


def test_a_lone_event_is_first_and_no_copy() -> None:
    copies, one, other = Copies(), copy_of("x"), copy_of("y")
    copies.enter(one)
    copies.enter(other)
    assert (one.copy, other.copy, copies.is_first(one), copies.is_first(other)) == (False, False, True, True)


def test_of_copies_stamped_on_different_days_the_first_goes_first() -> None:
    copies, one, two = Copies(), copy_of("x"), copy_of("x", days=1)
    copies.enter(one)
    copies.enter(two)
    assert (one.copy, two.copy) == (False, True)
    assert (copies.is_first(one), copies.is_first(two)) == (True, False)
    copies.leave(one)
    assert copies.is_first(two)
    copies.leave(two)
    assert len(copies) == 0


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.copies = Copies()
        self.inside: dict[str, list[Task]] = {"x": [], "y": []}
        self.gone = [copy_of("x"), copy_of("y")]

    @rule(name=st.sampled_from("xy"), days=st.integers(-1, 1))
    def enter(self, name: str, days: int) -> None:
        made = copy_of(name, days)
        self.copies.enter(made)
        assert made.copy is bool(self.inside[name])
        self.inside[name].append(made)

    @rule(name=st.sampled_from("xy"), which=st.integers(0, 5))
    def leave(self, name: str, which: int) -> None:
        """Any of them: what waits may be dropped when its partition goes."""
        if self.inside[name]:
            gone = self.inside[name].pop(which % len(self.inside[name]))
            self.copies.leave(gone)
            self.gone.append(gone)

    @rule(which=st.integers(0, 50))
    def leave_again(self, which: int) -> None:
        """Whoever has left can't push another one out."""
        self.copies.leave(self.gone[which % len(self.gone)])

    @invariant()
    def exactly_the_first_goes_first(self) -> None:
        for tasks in self.inside.values():
            assert [self.copies.is_first(t) for t in tasks] == [i == 0 for i in range(len(tasks))]
        assert len(self.copies) == sum(bool(tasks) for tasks in self.inside.values())


Model.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestCopiesFollowTheModel = Model.TestCase
