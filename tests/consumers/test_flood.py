"""The flood breaker in a worker's lanes, with a ledger and a clock that the test moves."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from confluent_kafka import Message

from hooktape import metrics
from hooktape.consumers.app import App
from hooktape.consumers.breaker import ENOUGH_TRIES, FIRST_INTERVAL, Breaker
from hooktape.consumers.classify import Cause, Disposition
from hooktape.consumers.deliveries import Fetched
from hooktape.consumers.flood import Flood
from hooktape.consumers.intake import Intake
from hooktape.consumers.lanes import Lanes
from hooktape.consumers.letters import failure_of
from hooktape.consumers.options import Options
from hooktape.consumers.task import Home, Rank, Task
from hooktape.errors import LedgerUnavailable, NotOurs
from hooktape.ledger.breakers import STALE_SECONDS
from hooktape.ledger.ledger import Ledger
from hooktape.settings import Settings
from hooktape.tape import headers

from .conftest import make_event
from .test_lanes import Bound

V = TypeVar("V")
T, LOG = "orders/create", "hooktape.log.orders.create"
H = Bound(concurrency=1000)
EPOCH = 1_800_000_000.0


class Clock:
    now = 0.0

    def time(self) -> float:
        return EPOCH + self.now

    def monotonic(self) -> float:
        return self.now


class Bench:
    """A worker's lanes and its flood breaker; a handler that fails as told."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.clock, self.lanes = ledger, Clock(), Lanes(1000)
        self.buried: list[Fetched] = []
        self.kept_unreadable = 0
        self.reachable = True
        self.flood = Flood("g", "w1", self.lanes, Breaker(lambda: 0.0), self.ask, self.clock, {LOG: T}, self.bury)
        self.number = 0

    async def ask(self, question: Callable[[Ledger], V], /) -> V:
        if not self.reachable:
            raise LedgerUnavailable("away")
        return question(self.ledger)

    def sync(self) -> None:
        asyncio.run(self.flood.sync())

    def bury(self, record: Fetched, error: NotOurs) -> None:
        if self.flood.keeps_unreadable(record, error, T, "a.myshopify.com"):
            self.kept_unreadable += 1
        else:
            self.buried.append(record)

    def add(self, count: int, lane: str | None = None, topic: str = T, rank: Rank = Rank.LIVE) -> list[Task]:
        made = []
        for _ in range(count):
            self.number += 1
            event = make_event(self.number, topic=topic)
            made.append(Task(Home(LOG, 0, 1, 0), self.number, event, event.key, H, lane, rank))
            self.lanes.add(made[-1])
        return made

    def run(self, fails: str | None = None, disposition: Disposition = Disposition.BUG) -> tuple[int, int, int]:
        """Starts and ends whatever may start; how many succeeded, left for a letter and were kept."""
        self.flood.tend()
        well = left = kept = 0
        while (task := self.lanes.start(self.clock.now)) is not None:
            task.attempts += 1
            if fails is None:
                self.flood.succeeded(task)
                self.lanes.end(task)
                well += 1
            elif self.flood.keeps(task, Cause(disposition), failure_of(ValueError(fails), disposition, task.attempts, None, 0.0)):
                kept += 1
            else:
                self.lanes.hold(task)
                self.lanes.release(task)
                left += 1
        return well, left, kept

    def later(self, seconds: float) -> None:
        self.clock.now += seconds

    def stop(self) -> None:
        """Makes everything fail until the topic is held."""
        self.add(ENOUGH_TRIES)
        assert self.run("down") == (0, ENOUGH_TRIES - 1, 1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        yield Bench(ledger)


def test_a_flood_of_failures_stays_and_runs_when_the_cause_is_mended(bench: Bench) -> None:
    before = metrics.FLOOD_OPENINGS.labels("g", T)._value.get()
    tasks = bench.add(1000)
    assert bench.run("down") == (0, ENOUGH_TRIES - 1, 1)
    assert bench.run("down") == (0, 0, 0)
    assert len(bench.lanes) == 1000 - (ENOUGH_TRIES - 1)
    bench.add(3, topic="orders/updated")
    assert bench.run() == (3, 0, 0)
    bench.later(FIRST_INTERVAL)
    assert bench.run("down") == (0, 0, 1)
    bench.later(2 * FIRST_INTERVAL)
    assert bench.run() == (1000 - (ENOUGH_TRIES - 1), 0, 0)
    assert len(bench.lanes) == 0
    assert metrics.FLOOD_OPENINGS.labels("g", T)._value.get() == before + 1
    # The tries that were the topic's fault don't count.
    assert {task.attempts for task in tasks} == {1}


def test_a_kept_event_keeps_its_lane(bench: Bench) -> None:
    bench.stop()
    bench.add(1, "k")
    [behind] = bench.add(1, "k", topic="orders/updated")
    assert bench.run() == (0, 0, 0)
    bench.later(FIRST_INTERVAL)
    assert bench.run() == (3, 0, 0)
    assert behind.attempts == 1


def test_rejects_count_and_throttled_ones_do_not(bench: Bench) -> None:
    bench.add(200)
    assert bench.run("slow down", Disposition.THROTTLED) == (0, 200, 0)
    bench.add(200)
    assert bench.run("no such column", Disposition.REJECTED) == (0, ENOUGH_TRIES - 1, 1)


def test_what_comes_back_from_a_retry_or_a_replay_obeys_and_does_not_vote(bench: Bench) -> None:
    for task in bench.add(100, rank=Rank.RETRY):
        task.attempts = 1
    bench.add(100, rank=Rank.REPLAY)
    assert bench.run("down") == (0, 200, 0)
    bench.stop()
    bench.add(1, rank=Rank.REPLAY)
    assert bench.run() == (0, 0, 0)


def test_a_throttled_probe_is_no_answer(bench: Bench) -> None:
    bench.stop()
    bench.later(FIRST_INTERVAL)
    assert bench.run("down", Disposition.THROTTLED) == (0, 0, 1)
    bench.later(FIRST_INTERVAL)
    assert bench.run() == (1, 0, 0)
    assert not bench.flood.paused(LOG)


def test_a_probe_that_goes_with_its_partition_is_replaced(bench: Bench) -> None:
    bench.stop()
    bench.add(2)
    bench.later(FIRST_INTERVAL)
    bench.flood.tend()
    probe = bench.lanes.start(bench.clock.now)
    assert probe is not None
    assert bench.lanes.start(bench.clock.now) is None
    bench.lanes.end(probe)
    bench.flood.tend()
    assert bench.run() == (2, 0, 0)


def test_a_kept_event_whose_partition_goes_is_let_go(bench: Bench) -> None:
    bench.stop()
    [task] = bench.add(1, "k")
    bench.later(FIRST_INTERVAL)
    task.home.revoked = True
    bench.run("down")
    bench.later(2 * FIRST_INTERVAL)
    bench.run("down")
    assert bench.lanes.running == 0
    assert len(bench.lanes) == 1


def test_the_log_of_a_held_topic_pauses_once_a_probe_is_there(bench: Bench) -> None:
    assert not bench.flood.paused(LOG)
    bench.stop()
    assert bench.flood.paused(LOG)
    assert not bench.flood.paused("hooktape.log.other")
    home = bench.add(1)[0].home
    home.revoked = True
    for task in bench.lanes._aside[T]:
        task.home.revoked = True
    bench.lanes.drop_abandoned()
    bench.run()
    assert not bench.flood.paused(LOG)
    bench.add(1)
    bench.run()
    assert bench.flood.paused(LOG)


def test_a_probe_whose_partition_goes_before_it_has_a_slot_is_followed_by_another(bench: Bench) -> None:
    bench.stop()
    bench.add(1)
    assert bench.run() == (0, 0, 0)
    before = list(bench.lanes._aside[T])
    assert len(before) == 2
    bench.later(FIRST_INTERVAL)
    bench.lanes.limit = 0  # its handler is busy with other topics
    bench.flood.tend()
    [chosen] = [task for task in before if task not in bench.lanes._aside[T]]
    chosen.home.revoked = True
    assert bench.lanes.drop_abandoned() == [chosen]
    bench.lanes.limit = 1000
    assert bench.flood.paused(LOG)  # nothing new comes
    assert [bench.run() for _ in range(2)][-1] == (1, 0, 0)
    assert not bench.flood.paused(LOG)


def test_a_probe_that_is_awaited_is_taken_from_what_fails_meanwhile(bench: Bench) -> None:
    [early] = bench.add(1)
    assert bench.lanes.start(bench.clock.now) is early
    bench.stop()
    for task in bench.lanes._aside[T]:
        task.home.revoked = True
    bench.lanes.drop_abandoned()
    bench.later(FIRST_INTERVAL)
    bench.flood.tend()
    assert bench.lanes.awaits_probe(T)
    early.attempts += 1
    assert bench.flood.keeps(early, Cause(Disposition.BUG), failure_of(ValueError("down"), Disposition.BUG, 1, None, 0.0))
    assert bench.flood.paused(LOG)  # nothing new comes
    assert [bench.run() for _ in range(3)][-1] == (0, 0, 0)
    assert not bench.flood.paused(LOG)
    assert early.attempts == 1


def test_unreadable_records_count_and_are_kept_and_buried_when_the_topic_opens(bench: Bench) -> None:
    home = Home(LOG, 0, 1, 0)
    for offset in range(50):
        bench.bury(Fetched(home, offset, Message(), None), NotOurs(f"no schema {offset}"))
    assert (len(bench.buried), bench.kept_unreadable) == (ENOUGH_TRIES - 1, 50 - ENOUGH_TRIES + 1)
    assert bench.flood.paused(LOG)
    bench.later(FIRST_INTERVAL)
    bench.flood.tend()
    assert not bench.flood.paused(LOG)
    bench.bury(Fetched(home, 51, Message(), None), NotOurs("no schema 51"))
    assert bench.flood.paused(LOG)
    bench.ledger.breakers.set_override("g", T, "closed", None, who="ada", reason="known junk", now=bench.clock.time())
    bench.sync()
    assert len(bench.buried) == 51


def test_unreadable_records_of_no_topic_are_buried_however_many_come(bench: Bench) -> None:
    home = Home("hooktape.log.other", 0, 1, 0)
    for offset in range(3 * ENOUGH_TRIES):
        error = NotOurs("the record has no value")
        assert not bench.flood.keeps_unreadable(Fetched(home, offset, Message(), None), error, "", "")
    bench.flood.tend()
    assert bench.flood.wake_at() is None


@pytest.mark.parametrize(("kafka_topic", "header", "topic"), [
    ("hooktape.log.orders.create", None, T), ("hooktape.log.orders.create", "somebody/elses", T), ("hooktape.log.other", T, T),
    ("hooktape.log.other", "somebody/elses", ""), ("hooktape.retry.g.30s", None, ""),
])  # fmt: skip
def test_an_unreadable_record_counts_for_a_topic_of_the_app_or_for_none(kafka_topic: str, header: str | None, topic: str) -> None:
    app = App("g")
    app.on(T)(print)
    made = Intake(app, Settings(), Options())
    message = Message(headers=headers.pack({headers.TOPIC: header} if header else {}))
    assert made.labels(Fetched(Home(kafka_topic, 0, 1, 0), 0, message, None)) == (topic, "")


def test_the_ledger_knows_what_is_held_and_why_until_it_is_over(bench: Bench) -> None:
    bench.stop()
    assert bench.flood.sync_due()
    bench.sync()
    assert not bench.flood.sync_due()
    [status] = bench.ledger.breakers.list(bench.clock.time(), "g")
    assert (status.topic, status.workers, status.since, status.probe_at) == (T, 1, EPOCH, EPOCH + FIRST_INTERVAL)
    assert (status.causes[0].error_type, status.causes[0].error_message, status.causes[0].failures) == ("ValueError", "down", ENOUGH_TRIES)
    bench.later(STALE_SECONDS - 1)
    bench.sync()
    bench.later(2)
    bench.run()
    assert bench.flood.sync_due()
    bench.sync()
    assert bench.ledger.breakers.list(bench.clock.time(), "g") == []


def test_a_worker_that_stops_takes_its_reports_back(bench: Bench) -> None:
    bench.stop()
    bench.sync()
    asyncio.run(bench.flood.close())
    assert bench.ledger.breakers.list(bench.clock.time(), "g") == []


def test_an_operator_lets_a_topic_through_until_a_time_and_takes_the_word_back(bench: Bench) -> None:
    bench.stop()
    word: dict[str, Any] = {"who": "ada", "reason": "why", "now": bench.clock.time()}
    bench.sync()
    bench.ledger.breakers.set_override("g", T, "closed", EPOCH + 50, **word)
    bench.sync()
    assert bench.flood.sync_due()
    bench.sync()
    assert [status.workers for status in bench.ledger.breakers.list(bench.clock.time())] == [0]
    bench.add(100)
    assert bench.run("down") == (0, 101, 0)
    bench.later(50)
    bench.add(100)
    assert bench.run("down") == (0, 0, 1)
    bench.ledger.breakers.set_override("g", T, "open", None, **word)
    bench.sync()
    bench.later(3600)
    assert bench.run() == (0, 0, 0)
    bench.ledger.breakers.set_override("g", T, None, None, **word)
    bench.sync()
    assert bench.run() == (100, 0, 0)
    assert len(bench.lanes) == 0


def test_without_a_ledger_the_breaker_goes_on(bench: Bench) -> None:
    bench.reachable = False
    bench.stop()
    bench.sync()
    bench.later(FIRST_INTERVAL)
    assert bench.run() == (1, 0, 0)
    bench.reachable = True
    bench.sync()
    assert bench.ledger.breakers.list(bench.clock.time()) == []
