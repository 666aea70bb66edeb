"""Offsets: what may be committed, and the map of finished ones, against a naive set."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hooktape.consumers.task import Home
from hooktape.consumers.tracker import WINDOW, Offsets, Tracker, decode_finished, encode_finished


def test_the_position_is_the_lowest_incomplete_offset() -> None:
    offsets = Offsets(10)
    for offset in (10, 11, 12, 15):
        assert offsets.add(offset)
    offsets.finish(11)
    offsets.finish(15)
    assert offsets.position == 10
    offsets.finish(10)
    assert offsets.position == 12
    offsets.finish(12)
    # 13 and 14 were never fetched: a transaction marker, say.
    assert offsets.position == 16


def test_a_restart_skips_what_the_map_says_is_finished() -> None:
    offsets = Offsets(0)
    for offset in range(6):
        offsets.add(offset)
    for offset in (1, 3, 4):
        offsets.finish(offset)
    said = offsets.snapshot()
    again = Offsets(said.offset, decode_finished(said.offset, said.metadata))
    assert [offset for offset in range(6) if again.add(offset)] == [0, 2, 5]


def test_a_commit_before_the_map_was_read_again_keeps_it() -> None:
    offsets = Offsets(0, {5, 9})
    offsets.add(0)
    said = offsets.snapshot()
    assert decode_finished(said.offset, said.metadata) == {5, 9}


def test_a_record_that_comes_twice_in_an_assignment_is_taken_once() -> None:
    offsets = Offsets(0)
    assert offsets.add(0)
    assert not offsets.add(0)


@given(st.integers(0, 2**40), st.sets(st.integers(1, WINDOW), max_size=300))
def test_the_map_comes_back_as_it_was_written(position: int, above: set[int]) -> None:
    finished = {position + gap for gap in above}
    assert decode_finished(position, encode_finished(position, finished)) == finished


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_the_map_of_a_full_window_fits_into_a_commit(share: float) -> None:
    # Nothing compresses worse than chance.
    chosen = [offset for offset in range(1, WINDOW + 1) if Random(offset).random() < share]
    assert len(encode_finished(0, chosen)) <= 4096


@pytest.mark.parametrize("foreign", ["x", "ht9:AAAA", "ht1:%%", "ht1:AAAA", "AQAB", "ht1:" + "A" * 4000])
def test_foreign_or_damaged_metadata_is_done_without_and_told(foreign: str) -> None:
    tracker, home = Tracker(), Home("t", 0, 1, 5, foreign)
    assert not tracker.open(home)
    assert tracker.add(home, 5)


def test_results_of_an_old_assignment_are_ignored() -> None:
    tracker, old = Tracker(), Home("t", 0, 1, 0)
    tracker.open(old)
    tracker.add(old, 0)
    tracker.close(old)
    new = Home("t", 0, 2, 0)
    tracker.open(new)
    tracker.add(new, 0)
    tracker.finish(old, 0)
    assert tracker.incomplete == 1
    assert tracker.snapshot([new])[new].offset == 0


def test_a_lost_range_moves_the_position_past_it() -> None:
    tracker, home = Tracker(), Home("t", 0, 1, 3)
    tracker.open(home)
    tracker.jump(home, 100)
    assert tracker.snapshot([home])[home].offset == 100


class AgainstANaiveSet(RuleBasedStateMachine):
    """Two sets and `min` say what the clever structure must say, over crashes and revocations."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker, self.epoch, self.end = Tracker(), 0, 0
        self.fetched: set[int] = set()
        self.finished: set[int] = set()
        self.handled: set[int] = set()
        self.next = self.base = 0
        self.home = self.assign(0, "")

    def assign(self, base: int, metadata: str) -> Home:
        self.epoch += 1
        home = Home("t", 0, self.epoch, base, metadata)
        self.tracker.open(home)
        self.next = self.base = base
        self.fetched = set()
        return home

    def expected(self) -> int:
        return min(self.fetched - self.finished, default=self.next)

    @rule(gap=st.integers(0, 3))
    def fetch(self, gap: int) -> None:
        offset = self.next + gap
        taken = self.tracker.add(self.home, offset)
        # What was finished before a crash is passed over only as far as the commit told of it; never the other way round.
        assert taken or offset in self.finished
        self.fetched.add(offset)
        if taken:
            self.finished.discard(offset)
        self.next = offset + 1

    @precondition(lambda self: self.fetched - self.finished)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.fetched - self.finished)))
        self.tracker.finish(self.home, offset)
        self.finished.add(offset)

    @rule()
    def revoked_and_back(self) -> None:
        position = self.tracker.snapshot([self.home])[self.home]
        known = {offset for offset in self.finished if offset > position.offset}
        self.tracker.close(self.home)
        self.tracker.finish(self.home, position.offset)
        assert decode_finished(position.offset, position.metadata) <= known
        self.home = self.assign(position.offset, position.metadata)

    @invariant()
    def the_position_is_never_past_an_unfinished_event(self) -> None:
        assert self.tracker.snapshot([self.home])[self.home].offset == self.expected()

    @invariant()
    def the_count_is_what_is_open(self) -> None:
        assert self.tracker.incomplete == len(self.fetched - self.finished)


TestAgainstANaiveSet = AgainstANaiveSet.TestCase
TestAgainstANaiveSet.settings = settings(max_examples=60, stateful_step_count=40)
