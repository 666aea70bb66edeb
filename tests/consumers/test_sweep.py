"""Events whose retry records are lost come back from the tape, in order and once; what is on no tape any more holds nobody."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from confluent_kafka import TopicPartition

from hooktape.consumers.app import App
from hooktape.consumers.holds import Holds, lane16
from hooktape.consumers.options import Options
from hooktape.consumers.running import Running, running
from hooktape.consumers.sweep import Found, Sweeper, Unsure, again, delay_for, is_gone, is_lost
from hooktape.errors import NotOurs
from hooktape.ledger.checks import Row, State, Waiting
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.stranded import Story
from hooktape.schemas import codec
from hooktape.schemas.event import Coordinates, Event, Replay
from hooktape.settings import Settings
from hooktape.tape import clients, headers, topics
from hooktape.tape.reader import Partition, Reader, Record

from .conftest import Tape, make_event, run, states, until

AT = Coordinates("hooktape.log.orders.create", 1, 7)


def story(event: Event, state: State = State.WAITING, attempts: int = 2, generation: str = "") -> Story:
    wait = Waiting(event.key, lane16(event.lane), 1, 30.0, 100.0, AT)
    row = Row(event.key, state, attempts, generation, 3, 50.0)
    return Story(wait, row, 70.0, 60.0, event.topic, event.shop, "KeyError", "group", "no such key")


def found(event: Event) -> Found:
    packed = [*headers.pack(headers.of_event(event)), ("theirs", b"x")]
    return Found(Record(AT, 1, event.lane.encode(), codec.encode(event), packed), event)


# ── decisions ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("read", "bounds", "lost"), [
    ({30.0: 7}, {30.0: 7}, True),
    ({30.0: 9}, {30.0: 7}, True),
    ({30.0: 6}, {30.0: 7}, False),  # behind: its record is still to come, however late
    ({30.0: None}, {30.0: 0}, False),  # not read here yet
    ({30.0: 7}, {}, False),  # the broker didn't say
    ({120.0: 7}, {}, True),  # the settings don't name the delay any more
])  # fmt: skip
def test_a_record_is_lost_when_its_retry_topic_was_read_past_it_or_is_read_by_nobody(read, bounds, lost) -> None:  # type: ignore[no-untyped-def]
    assert is_lost(30.0, read, bounds) is lost


def test_a_place_is_gone_only_where_the_broker_says_so() -> None:
    p = (AT.topic, AT.partition)
    assert is_gone(AT, {p: 8}, {p: 20})
    assert is_gone(AT, {p: 0}, {p: 7})  # the log was made anew
    assert not is_gone(AT, {p: 7}, {p: 8})
    assert not is_gone(AT, {}, {})


def test_a_delay_that_the_settings_dont_name_any_more_becomes_the_next_shorter_one() -> None:
    assert [delay_for(d, (30.0, 120.0)) for d in (30.0, 120.0, 600.0, 60.0, 5.0)] == [30.0, 120.0, 120.0, 30.0, 30.0]


def test_the_record_tells_what_the_ledger_remembers_and_keeps_key_value_and_foreign_headers() -> None:
    event = make_event(1)
    written = again("hooktape.retry.g.30s", story(event, generation="job"), found(event), Replay("job", "why", "ada", True, -7), 200.0)
    read = headers.read(written.headers)
    assert (written.topic, written.key, written.value) == ("hooktape.retry.g.30s", event.lane.encode(), codec.encode(event))
    assert ("theirs", b"x") in written.headers
    assert headers.due_us(read) == 200_000_000
    assert headers.origin(read, Coordinates("", 0, 0)) == AT
    assert headers.replay(read) == Replay("job", "why", "ada", True, -7)
    failure = headers.failure(read)
    assert failure is not None
    assert (failure.attempts, failure.first_failed_us, failure.last_failed_us) == (2, 50_000_000, 60_000_000)
    assert (failure.error_type, failure.message, failure.group) == ("KeyError", "no such key", "group")


def test_what_was_never_tried_comes_back_untried() -> None:
    event = make_event(1)
    read = headers.read(again("t", story(event, State.BEHIND, 0), found(event), None, 200.0).headers)
    assert headers.failure(read) is None
    assert read[headers.DISPOSITION] == "behind"


@pytest.mark.parametrize(("whose", "kept"), [(1, True), (2, False)])
def test_a_record_that_cant_be_read_now_is_kept_where_its_headers_say_that_its_the_event(whose: int, kept: bool) -> None:
    events = {number: make_event(number) for number in (1, 2)}

    class Shelf:
        """A reader of one record."""

        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> "Shelf":
            return self

        def __exit__(self, *_: object) -> None: ...
        def lows(self, _: object) -> dict[Partition, int]:
            return {(AT.topic, AT.partition): 0}

        def ends(self, _: object) -> dict[Partition, int]:
            return {(AT.topic, AT.partition): 20}

        def fetch_many(self, _: object) -> dict[Coordinates, Record]:
            return {AT: Record(AT, 1, b"k", b"of a newer schema", headers.pack(headers.of_event(events[whose])))}

    class Old:
        """A version that doesn't know the schema."""

        def decode(self, _: object) -> Event:
            raise NotOurs("the record names a schema that this version doesn't know")

    flow = SimpleNamespace(custody=None, holds=None)
    sweeper = Sweeper(Settings(), "g", flow, None, None, time, 600.0, lambda _: None, Shelf)  # type: ignore[arg-type]
    answer = sweeper._fetch([story(events[1])], Old())  # type: ignore[arg-type]
    assert answer == ({events[1].key: Unsure()} if kept else {})


def test_only_heads_that_are_overdue_are_looked_at_and_a_renewed_one_isnt_any_more() -> None:
    holds, first, second = Holds(), make_event(1).key, make_event(2).key
    holds.enter(b"a", 0, first, 30.0, 100.0, 1.0)
    holds.enter(b"a", 0, second, 30.0, 50.0, 2.0)
    holds.enter(b"b", 1, make_event(3).key, 30.0, 10.0, 3.0)
    assert [(head.lane, head.key, head.due) for head in holds.heads(0, 101.0)] == [(b"a", first, 100.0)]
    assert holds.heads(0, 100.0) == []
    holds.renew(b"a", first, 120.0, 300.0)
    holds.renew(b"c", first, 120.0, 300.0)
    assert (holds.heads(0, 101.0), holds.due(b"a", first), holds.due(b"c", first)) == ([], 300.0, None)
    ahead = holds.ahead(b"a", second)
    assert ahead is not None
    assert ahead.delay == 120.0


# ── on a real Kafka ─────────────────────────────────────────────────────────────────────────────────────────────────
def expire(settings: Settings, before: dict[Partition, int]) -> None:
    """What lies below an offset is gone, as if by retention."""
    client = clients.admin(settings)
    for future in client.delete_records([TopicPartition(*p, offset) for p, offset in before.items()]).values():
        future.result()


def empty(settings: Settings, names: list[str]) -> None:
    """Everything that lies on topics now is gone."""
    with Reader(settings) as reader:
        ends = reader.ends(names)
    assert sum(ends.values()) >= 10
    expire(settings, ends)


def retry_topics(tape: Tape) -> list[str]:
    return [tape.names.retry("g", delay) for delay in tape.settings.retry_delays]


class Shop:
    """Orders whose first event fails until it's mended."""

    def __init__(self) -> None:
        self.app, self.broken, self.runs, self.done = App("g"), True, list[int](), list[int]()

        @self.app.on("orders/*")
        async def handle(event: Event) -> None:
            number = event.json()["n"]
            self.runs.append(number)
            if self.broken and number % 5 == 0:
                raise KeyError("not yet")
            self.done.append(number)


def strand(shop: Shop, settings: Settings, options: Options, events: list[Event]) -> None:
    """Until two heads wait for a retry and the others behind them, with no worker."""

    async def act(worker: Running) -> None:
        await until(lambda: states(settings, "g", events) == {"waiting": 2, "behind": 8})
        worker.commit()

    run(shop.app, settings, options, act)


@pytest.fixture
def slow(settings: Settings) -> Settings:
    """A retry that isn't due while a test sets the stage, and is soon after."""
    made = replace(settings, retry_delays=(2.0,), max_attempts=50)
    topics.apply(made, ["g"])
    return made


def two_orders() -> list[Event]:
    return [make_event(n, order=n // 5) for n in range(10)]


def test_what_a_retry_topic_has_lost_comes_back_from_the_tape_in_order_and_runs_once(slow: Settings, options: Options) -> None:
    tape, shop, events = Tape(slow), Shop(), two_orders()
    tape.record(events)
    strand(shop, slow, options, events)
    empty(slow, retry_topics(tape))
    shop.broken = False

    async def act(worker: Running) -> None:
        await until(lambda: states(slow, "g", events) == {"succeeded": 10})
        await worker.idle()

    run(shop.app, slow, replace(options, sweep_after=0.5), act)
    assert sorted(shop.done) == [*range(10)]
    assert [n for n in shop.done if n < 5] == [0, 1, 2, 3, 4]
    assert [n for n in shop.done if n >= 5] == [5, 6, 7, 8, 9]
    with Ledger.open(slow.ledger_url) as ledger:
        assert [ledger.outcomes.waiting("g", p) for p in range(slow.partitions)] == [[], []]


def test_what_waits_for_a_delay_that_the_settings_dont_name_any_more_is_taken_over_by_another(slow: Settings, options: Options) -> None:
    tape, shop, events = Tape(slow), Shop(), two_orders()
    tape.record(events)
    strand(shop, slow, options, events)
    shop.broken = False
    changed = replace(slow, retry_delays=(0.2,))

    async def act(worker: Running) -> None:
        await until(lambda: states(slow, "g", events) == {"succeeded": 10})
        await worker.idle()

    run(shop.app, changed, replace(options, sweep_after=0.5), act)
    assert [n for n in shop.done if n < 5] == [0, 1, 2, 3, 4]
    assert sorted(shop.done) == [*range(10)]


def test_a_head_that_is_on_no_tape_any_more_is_given_up_and_what_came_behind_it_runs(slow: Settings, options: Options) -> None:
    tape, shop, events = Tape(slow), Shop(), two_orders()
    log = tape.names.log("orders.create")
    tape.record(events)
    strand(shop, slow, options, events)
    empty(slow, retry_topics(tape))
    with Reader(slow) as reader:
        first = {record.at.partition: record.at.offset for batch in reader.scan(reader.bounds([log])) for record in reversed(batch)
                 if codec.decode(record.value or b"").key == events[0].key}  # fmt: skip
    [(partition, offset)] = first.items()
    expire(slow, {(log, partition): offset + 1})
    shop.broken = False

    async def act(worker: Running) -> None:
        await until(lambda: states(slow, "g", events) == {"discarded": 1, "succeeded": 9})
        await worker.idle()

    run(shop.app, slow, replace(options, sweep_after=0.5), act)
    assert [n for n in shop.done if n < 5] == [1, 2, 3, 4]
    assert [n for n in shop.done if n >= 5] == [5, 6, 7, 8, 9]
    with Ledger.open(slow.ledger_url) as ledger:
        [entry] = [entry for entry in ledger.audit.list() if entry.action == "discard lost"]
    assert (entry.who, entry.target, entry.detail["count"]) == ("worker", "g", 1)
    assert events[0].key.id.hex() in entry.detail["events"][0]


def test_copies_of_retry_records_that_werent_lost_change_nothing(settings: Settings, tape: Tape, options: Options) -> None:
    """A sweeper that is wrong writes a second record of each wait."""
    shop, events = Shop(), two_orders()
    shop.broken = True
    tape.record(events)

    async def main() -> None:
        async with running(shop.app, replace(settings, max_attempts=50), options=options) as worker:
            await until(lambda: states(settings, "g", events) == {"waiting": 2, "behind": 8})
            copies = [record for topic in retry_topics(tape) for record in await asyncio.to_thread(tape.read, topic)]
            for record in copies:
                place = record.at.topic
                await asyncio.to_thread(tape.write, place, record.value, record.key, record.headers)
            shop.broken = False
            await worker.idle()

    asyncio.run(main())
    assert states(settings, "g", events) == {"succeeded": 10}
    assert [n for n in shop.done if n < 5] == [0, 1, 2, 3, 4]
    assert [n for n in shop.done if n >= 5] == [5, 6, 7, 8, 9]


def test_a_backlog_of_retries_is_never_swept_however_late_it_is(slow: Settings, options: Options) -> None:
    tape, shop, events = Tape(slow), Shop(), two_orders()
    tape.record(events)
    strand(shop, slow, options, events)
    before = sum(len(tape.read(topic)) for topic in retry_topics(tape))
    time.sleep(3.0)  # all of them due for longer than the sweep waits, and nobody reads
    shop.broken = False
    run(shop.app, slow, replace(options, sweep_after=0.2))
    after = sum(len(tape.read(topic)) for topic in retry_topics(tape))
    assert sorted(shop.done) == [*range(10)]
    assert after - before <= 8  # who came back before its head went round once more, and nothing was written twice


def test_a_hold_that_the_ledger_knows_nothing_of_ends(slow: Settings, options: Options) -> None:
    """A ledger that came back from a backup under a running worker."""
    shop, late = Shop(), make_event(1, order=7)
    shop.broken = False

    async def act(worker: Running) -> None:
        await until(lambda: worker._tenures.tenures())
        partition = worker._tenures.tenures()[0].partition
        worker._flow.holds.enter(lane16(late.lane), partition, make_event(9).key, 2.0, time.time() - 60, time.time())
        Tape(slow).record([late])
        await until(lambda: states(slow, "g", [late]) == {"succeeded": 1})

    run(shop.app, slow, replace(options, sweep_after=0.5), act)
    assert shop.done == [1]
