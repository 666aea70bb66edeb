"""Holds: who waits behind whom, against a naive list of rows."""

from dataclasses import dataclass
from hashlib import blake2b

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hooktape.consumers.holds import Holds, lane16
from hooktape.ledger.checks import Waiting
from hooktape.schemas.event import Coordinates, EventKey

LANES = {name: (lane16(name), number) for number, name in enumerate(("a.myshopify.com/order/1", "a.myshopify.com/order/2", "b"))}
# The last two share a partition.
PARTITION = {name: min(number, 1) for name, (_, number) in LANES.items()}
NAMES, EVENTS = st.sampled_from(list(LANES)), st.integers(0, 4)
ORIGIN = Coordinates("log", 0, 1)


def key(number: int) -> EventKey:
    return EventKey(20_000, blake2b(b"%d" % number, digest_size=16).digest())


def row(name: str, number: int, seq: int, delay: float = 30.0, due: float = 1.0) -> Waiting:
    return Waiting(key(number), lane16(name), seq, delay, due, ORIGIN)


def test_a_lane_is_free_until_an_event_of_it_waits_and_when_that_has_ended() -> None:
    holds, lane = Holds(), lane16("x")
    assert holds.ahead(lane, key(1)) is None
    assert not holds
    holds.enter(lane, 0, key(1), 30.0, 130.0, 100.0)
    assert holds.ahead(lane, key(1)) is None
    head = holds.ahead(lane, key(2))
    assert head is not None
    assert (head.delay, head.due) == (30.0, 130.0)
    assert holds.ahead(lane16("y"), key(2)) is None
    holds.leave(lane, key(1))
    assert holds.ahead(lane, key(2)) is None
    assert (len(holds), holds.lanes, bool(holds)) == (0, 0, False)


def test_a_head_that_fails_again_keeps_its_place_and_moves_its_due_time() -> None:
    holds, lane = Holds(), lane16("x")
    first = holds.enter(lane, 0, key(1), 30.0, 130.0, 100.0).seq
    holds.enter(lane, 0, key(2), 30.0, 131.0, 101.0)
    again = holds.enter(lane, 0, key(1), 120.0, 260.0, 140.0)
    assert (again.seq, again.delay, again.due) == (first, 120.0, 260.0)
    head = holds.ahead(lane, key(2))
    assert head is not None
    assert head.due == 260.0


def test_an_event_without_a_lane_waits_and_holds_nobody() -> None:
    holds = Holds()
    holds.load(0, [Waiting(key(1), None, 5, 30.0, 1.0, ORIGIN)])
    assert (len(holds), bool(holds)) == (0, False)


def test_places_grow_beside_what_is_loaded_even_when_the_clock_stands_behind() -> None:
    holds = Holds()
    holds.load(0, [row("x", 1, 9_000_000)])
    assert holds.enter(lane16("x"), 0, key(2), 30.0, 1.0, now=1.0).seq == 9_000_001
    assert holds.enter(lane16("y"), 0, key(3), 30.0, 1.0, now=1.0).seq == 9_000_002


def test_what_stands_for_a_lane_has_sixteen_bytes_however_long_it_is() -> None:
    assert len(lane16("x" * 500)) == len(lane16("")) == 16
    assert lane16("a/order/1") != lane16("a/order/2")


@dataclass
class Kept:
    """A row of the ledger: the truth that survives a restart."""

    name: str
    number: int
    seq: int
    delay: float
    due: float


class Model(RuleBasedStateMachine):
    """Owned partitions come and go; the rows stay. The model's order is that of `enter`, never of `seq`."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = Holds()
        self.owned = {0, 1}
        self.rows: list[Kept] = []
        self.now = 1_000.0

    def of(self, name: str) -> list[Kept]:
        return [row for row in self.rows if row.name == name]

    @rule(name=NAMES, number=EVENTS, delay=st.sampled_from([30.0, 120.0]), passes=st.sampled_from([0.0, 1.0, -5.0]))
    def an_event_waits(self, name: str, number: int, delay: float, passes: float) -> None:
        self.now += passes
        if PARTITION[name] not in self.owned:
            return
        held = self.holds.enter(lane16(name), PARTITION[name], key(number), delay, self.now + delay, self.now)
        for kept in self.of(name):
            if kept.number == number:
                assert kept.seq == held.seq
                kept.delay, kept.due = delay, self.now + delay
                return
        self.rows.append(Kept(name, number, held.seq, delay, self.now + delay))

    @rule(name=NAMES, number=EVENTS)
    def an_event_ends(self, name: str, number: int) -> None:
        if PARTITION[name] in self.owned:
            self.holds.leave(lane16(name), key(number))
            self.rows = [row for row in self.rows if (row.name, row.number) != (name, number)]

    @precondition(lambda self: self.owned)
    @rule(number=st.integers(0, 1))
    def a_partition_goes(self, number: int) -> None:
        self.holds.drop(number)
        self.owned.discard(number)

    @rule(number=st.integers(0, 1), reverse=st.booleans())
    def a_partition_comes(self, number: int, reverse: bool) -> None:
        if number not in self.owned:
            self.owned.add(number)
            rows = [row(k.name, k.number, k.seq, k.delay, k.due) for k in self.rows if PARTITION[k.name] == number]
            self.holds.load(number, rows[::-1] if reverse else rows)

    @rule()
    def a_restart(self) -> None:
        self.holds = Holds()
        self.owned = set()
        for number in (0, 1):
            self.a_partition_comes(number, False)

    @invariant()
    def only_the_head_may_run_and_the_rest_wait_for_it(self) -> None:
        for name in LANES:
            kept = self.of(name) if PARTITION[name] in self.owned else []
            for number in range(6):
                head = self.holds.ahead(lane16(name), key(number))
                if not kept or kept[0].number == number:
                    assert head is None
                else:
                    assert head is not None
                    assert (head.seq, head.delay, head.due) == (kept[0].seq, kept[0].delay, kept[0].due)
        owned = [row for row in self.rows if PARTITION[row.name] in self.owned]
        assert (len(self.holds), self.holds.lanes) == (len(owned), len({row.name for row in owned}))

    @invariant()
    def places_in_a_lane_ascend(self) -> None:
        for name in LANES:
            seqs = [row.seq for row in self.of(name)]
            assert seqs == sorted(set(seqs))


Model.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestHoldsFollowTheModel = Model.TestCase
