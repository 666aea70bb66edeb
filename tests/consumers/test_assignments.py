"""What a consumer reads, against the client itself: an assignment that comes back is read on, whatever it was when it went."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from hooktape.consumers.assignments import Assignments
from hooktape.consumers.births import BEGINNING
from hooktape.consumers.deliveries import Plan
from hooktape.consumers.task import Home, Rank
from hooktape.settings import Settings
from hooktape.tape import clients
from tests.tape.mock_cluster import mock_cluster

TOPIC = "t"
PART = TopicPartition(TOPIC, 0)


class Reading:
    """A follower's consumer and its assignments, on a topic with three records."""

    def __init__(self, settings: Settings) -> None:
        self.consumer: Consumer = clients.consumer(settings, "g")
        self.assignments = Assignments(settings, Plan("g", {TOPIC: None}, Rank.RETRY, BEGINNING, 100, 100))

    def begin(self, held_back: bool = False) -> Home:
        (home,), _ = self.assignments.add(self.consumer, [PART])
        if held_back:
            self.assignments.hold_back([home])
        self.assignments.begin(self.consumer, [home])
        return home

    def end(self) -> None:
        self.assignments.end(self.consumer, [PART])

    def read(self, within: float = 10.0) -> list[int]:
        """The offsets of what comes, until three have come or time is up."""
        found: list[int] = []
        while len(found) < 3 and (message := self.consumer.poll(within)) is not None:
            found.append(message.offset())  # type: ignore[arg-type]
        return found


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    with mock_cluster() as cluster:
        cluster.create(TOPIC)
        settings = Settings(kafka=cluster.bootstrap, home=tmp_path)
        producer = clients.producer(settings)
        for number in range(3):
            producer.produce(TOPIC, str(number).encode(), partition=0)
        assert producer.flush(10) == 0
        found = Reading(settings)
        yield found
        found.consumer.close()


@pytest.mark.parametrize("how", ["for a wait", "held back", "with all others"])
def test_a_partition_that_went_while_it_was_paused_is_read_when_it_comes_back(reading: Reading, how: str) -> None:
    home = reading.begin()
    assert reading.read() == [0, 1, 2]
    if how == "for a wait":
        reading.assignments.pause(reading.consumer, [home])
    elif how == "held back":
        reading.assignments.hold(reading.consumer, [home], True)
    else:
        reading.assignments.pause_all(reading.consumer, True)
    assert reading.read(0.2) == []
    reading.end()
    assert reading.read(0.2) == []
    if how == "with all others":
        reading.assignments.pause_all(reading.consumer, False)
    reading.begin()
    assert reading.read() == [0, 1, 2]


def test_what_is_held_back_is_fetched_only_when_it_is_let_go(reading: Reading) -> None:
    home = reading.begin(held_back=True)
    assert reading.read(0.5) == []
    reading.assignments.hold(reading.consumer, [home], False)
    assert reading.read() == [0, 1, 2]


def test_while_all_are_paused_a_new_assignment_is_too(reading: Reading) -> None:
    reading.assignments.pause_all(reading.consumer, True)
    reading.begin()
    assert reading.read(0.5) == []
    reading.assignments.pause_all(reading.consumer, False)
    assert reading.read() == [0, 1, 2]


def test_a_former_assignment_of_the_same_partition_holds_nothing(reading: Reading) -> None:
    former = reading.begin()
    reading.end()
    home = reading.begin()
    reading.assignments.hold(reading.consumer, [former], True)
    assert home is not former
    assert reading.read() == [0, 1, 2]
