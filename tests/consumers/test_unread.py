"""Partitions that nobody reads: whose turn it is to join the group anew, and that a client which misses some is mended."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from hooktape import metrics
from hooktape.consumers import unread, vigil
from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import running
from hooktape.consumers.unread import Gap, Sight, Unread, describe
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import clients

from .conftest import Tape, make_event, until

ALL: frozenset[str] = frozenset()
NOBODYS: Gap = (1, ALL)


def sight(shares: dict[str, set[int]], *lacking: Gap, me: str = "me") -> Sight:
    return Sight(me, 4, shares, lacking)


def test_a_group_that_reads_everything_is_left_alone() -> None:
    watch = Unread(10)
    assert [watch.look(sight({"me": {0, 1}, "you": {2, 3}}), now) for now in (0, 100, 10_000)] == [[], [], []]


def test_who_owns_nothing_joins_anew_once_patience_is_over() -> None:
    watch, seen = Unread(10), sight({"me": set(), "you": {0, 2, 3}})
    assert [watch.look(seen, now) for now in (0, 9.9, 10)] == [[], [], [NOBODYS]]


def test_owners_take_turns_and_who_owns_least_is_first() -> None:
    shares = {"a": {0, 2}, "b": {3}, "spare": set()}
    turns = {name: sight(shares, me=name).turn for name in shares}
    assert turns == {"spare": 0, "b": 1, "a": 2}
    for name, turn in turns.items():
        watch, seen = Unread(10), sight(shares, me=name)
        assert watch.look(seen, 0) == []
        assert watch.look(seen, 10 * (turn + 1) - 0.1) == []
        assert watch.look(seen, 10 * (turn + 1)) == [NOBODYS]


def test_a_gap_that_closes_meanwhile_is_counted_anew() -> None:
    watch, gap, whole = Unread(10), sight({"me": set(), "you": {0, 2, 3}}), sight({"me": {1}, "you": {0, 2, 3}})
    assert [watch.look(seen, now) for seen, now in ((gap, 0), (whole, 9), (gap, 10), (gap, 19))] == [[]] * 4
    assert watch.look(gap, 20) == [NOBODYS]


def test_what_one_try_did_not_mend_is_tried_again_after_twice_as_long() -> None:
    watch, seen = Unread(10), sight({"me": set(), "you": {0, 2, 3}})
    assert [now for now in range(200) if watch.look(seen, now)] == [10, 30, 70, 150]


def test_topics_that_a_worker_lacks_of_its_own_number_are_its_own_affair() -> None:
    mine = (0, frozenset({"orders"}))
    watch, seen = Unread(10), sight({"me": {0, 1, 2}, "you": {3}}, mine)
    assert seen.turn == 2
    assert [watch.look(seen, now) for now in (0, 10)] == [[], [mine]]


def test_a_dead_workers_number_is_nobodys() -> None:
    assert sight({"me": {0, 2, 3}}).gaps == {NOBODYS}


shares_ = st.dictionaries(st.sampled_from("abcdef"), st.sets(st.integers(0, 7)), min_size=1)


@given(shares_)
def test_no_two_owners_have_the_same_turn_and_every_worker_has_one(shares: dict[str, set[int]]) -> None:
    turns = {name: Sight(name, 8, shares).turn for name in shares}
    owners = [turn for name, turn in turns.items() if shares[name]]
    assert sorted(owners) == list(range(1, len(owners) + 1))
    assert all(turn == 0 for name, turn in turns.items() if not shares[name])


def test_gaps_are_named_for_people() -> None:
    assert describe([(0, ALL), (3, frozenset({"b", "a"}))]) == "0, 3 of a and b"
    assert describe([(number, ALL) for number in range(12)], most=2) == "0, 1 and 10 more"


class Deaf:
    """A consumer that doesn't hear of some of what it's assigned: its first assignment comes without what `keeps` refuses.

    `held`: where Kafka will take them away again.
    """

    def __init__(self, consumer: Any, keeps: Callable[[TopicPartition], bool], held: bool = False) -> None:
        self._consumer, self._keeps, self._held = consumer, keeps, held

    def subscribe(self, topics: list[str], on_assign: Any, **callbacks: Any) -> None:
        def hear(_: Any, partitions: list[TopicPartition]) -> None:
            on_assign(self, [p for p in partitions if self._keeps(p)])
            if self._held and (unheard := [p for p in partitions if not self._keeps(p)]):
                # librdkafka takes away what is assigned only: the client holds them, and reads nothing of them.
                self._consumer.incremental_assign(unheard)
                self._consumer.pause(unheard)

        self._consumer.subscribe(topics, on_assign=hear, **callbacks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def rejoined(group: str) -> float:
    return metrics.REJOINS.labels(group, "unread")._value.get()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks every 0.3 s, with a patience of 2 s: above what a take-over takes here."""
    monkeypatch.setattr(vigil, "EVERY", 0.3)
    monkeypatch.setattr(unread, "PATIENCE", 2.0)


@pytest.fixture(params=["consumer", "classic"])
def spoken(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings with a group protocol of their own."""
    own = {"group.protocol": "classic", "session.timeout.ms": "6000"} if request.param == "classic" else {}
    return replace(settings, kafka_properties=own)


CUTS: dict[str, Callable[[TopicPartition], bool]] = {
    "a number": lambda p: p.partition != 1,
    "everything": lambda p: False,
    "one topic of a number": lambda p: not (p.partition == 1 and p.topic.endswith("orders.create")),
}


@pytest.mark.kafka
@pytest.mark.parametrize("cut", CUTS)
def test_a_client_that_misses_partitions_is_made_anew_and_reads_them(
        spoken: Settings, tape: Tape, options: Options, hasty: None, cut: str) -> None:  # fmt: skip
    app, seen, made = App("g"), Counter[str](), list[Any]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        seen[event.webhook_id] += 1

    def make(settings: Settings, group: str, **config: Any) -> Any:
        consumer = clients.consumer(settings, group, **config)
        if threading.current_thread().name != "hooktape-live":
            return consumer
        made.append(consumer)
        return Deaf(consumer, CUTS[cut]) if len(made) == 1 else consumer

    events = [make_event(i, order=i) for i in range(40)]
    tape.record(events)
    before = rejoined("g")

    async def main() -> None:
        async with running(app, spoken, options=options, make=make) as worker:
            await until(lambda: len(seen) == 40)
            await worker.idle()

    asyncio.run(main())
    assert seen == Counter({e.webhook_id: 1 for e in events})
    assert (len(made), rejoined("g") - before) == (2, 1)


@pytest.mark.kafka
def test_of_two_workers_the_one_that_was_left_without_joins_anew(
        settings: Settings, tape: Tape, options: Options, hasty: None) -> None:  # fmt: skip
    """A killed worker's partitions are the deaf one's, as Kafka sees it."""
    app, seen, made = App("g"), Counter[str](), dict[int, int]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        seen[event.webhook_id] += 1

    def maker(number: int, keeps: Callable[[TopicPartition], bool]) -> Callable[..., Any]:
        def make(settings: Settings, group: str, **config: Any) -> Any:
            consumer = clients.consumer(settings, group, **config)
            if threading.current_thread().name != "hooktape-live":
                return consumer
            made[number] = made.get(number, 0) + 1
            return Deaf(consumer, keeps, held=True) if made[number] == 1 else consumer

        return make

    events = [make_event(i, order=i) for i in range(40)]

    async def main() -> None:
        async with (running(app, settings, options=options, make=maker(1, lambda p: False)),
                    running(app, settings, options=options, make=maker(2, lambda p: True))):  # fmt: skip
            tape.record(events)
            await until(lambda: len(seen) == 40)

    asyncio.run(main())
    assert seen == Counter({e.webhook_id: 1 for e in events})
    assert made[1] == 2
