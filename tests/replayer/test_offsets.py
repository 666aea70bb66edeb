"""Where a reset goes, which partitions it means, and the files that Kafka's tool writes too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger.resets import Mix
from hooktape.replayer.offsets import Move, Places, Target, To, choose, decide, from_csv, to_csv
from hooktape.replayer.reset import foresee
from hooktape.tape.names import Names

P = ("t", 0)
NAMES = Names("hooktape")
CREATE, UPDATED, RETRY = NAMES.log("orders.create"), NAMES.log("orders.updated"), NAMES.retry("g", 30)
KNOWN = {(topic, number) for topic in (CREATE, UPDATED, RETRY, NAMES.other, "somebody.elses") for number in range(3)}


@pytest.mark.parametrize(
    ("target", "new"),
    [
        (Target(To.EARLIEST), 10),
        (Target(To.LATEST), 100),
        (Target(To.CURRENT), 50),
        (Target(To.TIME, 12345), 33),
        (Target(To.OFFSET, 40), 40),
        (Target(To.OFFSET, 5), 10),
        (Target(To.OFFSET, 500), 100),
        (Target(To.SHIFT, -20), 30),
        (Target(To.SHIFT, 5), 55),
        (Target(To.SHIFT, -1000), 10),
        (Target(To.PLACES, places={P: 77}), 77),
        (Target(To.PLACES, places={P: 3}), 10),
    ],
)
def test_each_target_becomes_an_offset_within_what_the_partition_has(target: Target, new: int) -> None:
    (move,) = decide(target, Places({P: 50}, {P: 10}, {P: 100}, {P: 33}))
    assert (move.current, move.new, move.again, move.skipped) == (50, new, max(0, 50 - new), max(0, new - 50))


@given(st.sampled_from(To), st.integers(-1000, 1000), st.none() | st.integers(0, 200), st.integers(0, 100), st.integers(0, 100))
def test_no_target_leaves_the_partition(to: To, value: int, current: int | None, low: int, length: int) -> None:
    places = Places({} if current is None else {P: current}, {P: low}, {P: low + length}, {P: low + length // 2})
    target = Target(to, value, {P: value})
    if to is To.SHIFT and current is None:
        with pytest.raises(UsageError, match="shift"):
            decide(target, places)
        return
    (move,) = decide(target, places)
    assert low <= move.new <= low + length
    assert not (move.again and move.skipped)
    assert move.again + move.skipped == move.between[1] - move.between[0]


def test_where_nothing_was_committed_what_lies_up_to_the_end_is_seen() -> None:
    (move,) = decide(Target(To.EARLIEST), Places({}, {P: 10}, {P: 100}))
    assert (move.current, move.again, move.skipped, move.between) == (None, 90, 0, (10, 100))
    (move,) = decide(Target(To.CURRENT), Places({}, {P: 10}, {P: 100}))
    assert (move.new, move.again) == (100, 0)


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (["orders/create"], {(CREATE, 0), (CREATE, 1), (CREATE, 2)}),
        ([CREATE], {(CREATE, 0), (CREATE, 1), (CREATE, 2)}),
        (["orders/create:0,2", f"{UPDATED}:1"], {(CREATE, 0), (CREATE, 2), (UPDATED, 1)}),
        (["orders/*:1"], {(CREATE, 1), (UPDATED, 1)}),
        ([f"{NAMES.other}:0"], {(NAMES.other, 0)}),
    ],
)
def test_topics_and_their_partitions_are_named_as_for_kafkas_tool(words: list[str], places: set[tuple[str, int]]) -> None:
    assert choose(NAMES, words, KNOWN) == places


@pytest.mark.parametrize(
    ("word", "error", "says"),
    [
        ("orders/creat", UsageError, "no Shopify topic"),
        ("orders/create:", UsageError, "names no partitions"),
        ("orders/create:0-2", UsageError, "names no partitions"),
        (RETRY, UsageError, "isn't a part of the tape"),
        ("somebody.elses:0", UsageError, "isn't a part of the tape"),
        ("no.such", NothingMatched, "has no topic"),
        ("products/create", NothingMatched, "hooktape.log.other"),
        ("orders/create:3", NothingMatched, "no partition 3"),
    ],
)
def test_what_is_not_the_tapes_is_refused_with_a_reason(word: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        choose(NAMES, [word], KNOWN)


_NAME = st.from_regex(r"[a-zA-Z0-9._-]{1,60}", fullmatch=True)
_OFFSETS = st.dictionaries(st.tuples(_NAME, st.integers(0, 500)), st.integers(0, 2**62), min_size=1)


@given(st.dictionaries(_NAME, _OFFSETS, min_size=1, max_size=3))
def test_what_is_exported_is_read_back_of_one_group_and_of_several(groups: dict[str, dict[tuple[str, int], int]]) -> None:
    text = to_csv({group: [Move(*p, None, offset, offset, offset) for p, offset in places.items()] for group, places in groups.items()})
    for group, places in groups.items():
        assert from_csv(text, group) == places


@pytest.mark.parametrize(
    ("text", "error"),
    [("", NothingMatched), ("h,t,0,1\n", NothingMatched), ("t,0\n", UsageError), ("t,0,x\n", UsageError), ("t,0,1\ng,t,1,1\n", UsageError),
     ("t,0,1\nt,0,2\n", UsageError)],
)  # fmt: skip
def test_a_file_that_says_nothing_of_the_group_is_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        from_csv(text, "g")


_MIX = st.builds(Mix, *[st.integers(0, 5)] * 4).flatmap(
    lambda m: st.builds(lambda marked: Mix(m.unhandled, m.finished, m.dead, m.in_retry, marked), st.integers(0, m.finished + m.dead)))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), _MIX), max_size=6), st.booleans())
def test_every_record_that_is_seen_again_is_told_of_once(rows: list[tuple[int, int, Mix]], reprocess: bool) -> None:
    moves, mixes = [], {}
    for number, (current, new, mix) in enumerate(rows):
        # A range holds at least its events; the rest are copies.
        span = max(abs(current - new), mix.events)
        new = current - span if new <= current else current + span
        moves.append(Move("t", number, current, new, new, 1000))
        mixes["t", number] = mix
    told = foresee(moves, mixes, reprocess=reprocess)
    if mixes:
        assert told.again == told.run + told.finished + told.dead + told.in_retry + told.other
        assert told.never <= told.skipped
    if reprocess:
        assert told.finished == told.dead == 0
