"""The worker on a real Kafka with a SQLite ledger."""

import asyncio
import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import Running, running
from hooktape.errors import Retry, SettingsError, TopicMissing
from hooktape.ledger.ledger import Ledger
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import clients, topics

from .conftest import Tape, make_event, run, states, until


def test_every_event_is_handled_once_and_recorded_and_committed(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), Counter[str]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        seen[event.webhook_id] += 1

    @app.on("products/update")
    def plain(event: Event) -> None:
        assert threading.current_thread().name.startswith("hooktape-")
        seen[event.webhook_id] += 1

    events = [make_event(i, topic=t) for i in range(100) for t in ("orders/create", "orders/updated", "products/update")]
    tape.record(events)
    run(app, settings, options)
    assert seen == Counter({e.webhook_id: 1 for e in events})
    assert states(settings, "g", events) == {"succeeded": 300}
    run(app, settings, options)
    assert sum(seen.values()) == 300


@pytest.mark.parametrize("workers", [1, 2])
def test_copies_at_the_same_instant_run_once(settings: Settings, tape: Tape, options: Options, workers: int) -> None:
    app, seen = App("g"), Counter[str]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        await asyncio.sleep(0.005)
        seen[event.webhook_id] += 1

    events = [make_event(i) for i in range(60)]
    copies = [events, events]
    if workers == 1:
        # Under another resource it lies in another partition, which no copy of Shopify's does. One worker tells even so.
        copies.append([replace_resource(e, make_event(1000 + i)) for i, e in enumerate(events)])

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            crew = [await stack.enter_async_context(running(app, settings, options=options)) for _ in range(workers)]
            await until(lambda: all(w._tenures.tenures() for w in crew) and sum(len(w._tenures.tenures()) for w in crew) == 2)
            tape.record(each for same in zip(*copies, strict=True) for each in same)
            await asyncio.gather(*(worker.idle() for worker in crew))

    asyncio.run(main())
    assert seen == Counter({e.webhook_id: 1 for e in events})


def replace_resource(original: Event, other: Event) -> Event:
    """The same webhook with another's body."""
    other.webhook_id, other.triggered_us = original.webhook_id, original.triggered_us
    return other


def test_a_failure_waits_in_its_topic_and_recovers(settings: Settings, tape: Tape, options: Options) -> None:
    app, attempts = App("g"), defaultdict[str, list[tuple[int, float]]](list)

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        attempts[event.webhook_id].append((event.attempt, time.time()))
        if event.attempt < 3:
            raise Retry(after=0.3) if event.attempt == 2 else ConnectionError("down")

    tape.record([event := make_event(1)])
    run(app, settings, options)
    (first, at1), (second, at2), (third, at3) = attempts[event.webhook_id]
    assert (first, second, third) == (1, 2, 3)
    assert at2 - at1 >= 0.2
    assert at3 - at2 >= 0.5
    assert states(settings, "g", [event]) == {"succeeded": 1}


def test_quick_tries_stay_in_the_lane(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), list[tuple[int, int]]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        seen.append((event.json()["n"], event.attempt))
        if event.json()["n"] == 0 and event.attempt < 3:
            raise Retry(after=0.01)

    tape.record([make_event(n, order=7) for n in range(3)])
    run(app, settings, replace(options, quick_tries=2))
    assert seen == [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1)]
    assert tape.read(tape.names.retry("g", 0.2)) == []


def test_events_of_one_resource_keep_their_order_while_others_run_beside(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen, running_now, together = App("g"), defaultdict[int, list[int]](list), set[int](), 0

    @app.on("orders/*", concurrency=8)
    async def handle(event: Event) -> None:
        nonlocal together
        body = event.json()
        assert body["id"] not in running_now
        running_now.add(body["id"])
        together = max(together, len(running_now))
        await asyncio.sleep(0.002)
        running_now.discard(body["id"])
        seen[body["id"]].append(body["n"])

    tape.record([make_event(n, order=n % 10) for n in range(200)])
    run(app, settings, options)
    assert together > 1
    assert all(order == sorted(order) for order in seen.values())
    assert sum(map(len, seen.values())) == 200


def test_a_topic_that_isnt_provisioned_is_read_from_the_log_of_others(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), list[str]()

    @app.on("app/uninstalled", "shiny/new")
    async def handle(event: Event) -> None:
        seen.append(event.topic)

    others = [make_event(i, topic=t) for i, t in enumerate(("app/uninstalled", "themes/publish", "shiny/new"))]
    tape.record(others, topic=tape.names.other)
    run(app, settings, options)
    assert sorted(seen) == ["app/uninstalled", "shiny/new"]


def test_an_older_version_is_skipped_as_stale(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), list[int]()

    @app.on("orders/updated", skip_stale=True)
    async def handle(event: Event) -> None:
        seen.append(event.json()["n"])

    newer = [make_event(n, topic="orders/updated", order=1, version=30 + n) for n in range(3)]
    older = [make_event(10 + n, topic="orders/updated", order=1, version=n) for n in range(3)]
    tape.record([*newer, *older])
    run(app, settings, options)
    tape.record([make_event(99, topic="orders/updated", order=1, version=5)])
    run(app, settings, options)
    assert seen == [0, 1, 2]
    assert states(settings, "g", [*newer, *older]) == {"succeeded": 3, "stale": 3}


def test_a_handler_that_takes_too_long_is_cancelled_and_retried(settings: Settings, tape: Tape, options: Options) -> None:
    app, ends, release = App("g"), list[str](), threading.Event()

    @app.on("orders/create", timeout=0.2)
    async def slow(event: Event) -> None:
        if event.attempt == 1:
            await asyncio.sleep(60)
        ends.append("async")

    @app.on("orders/updated", timeout=0.2)
    def stuck(event: Event) -> None:
        if event.attempt == 1:
            release.wait(30)
        ends.append(f"thread {event.attempt}")

    async def act(worker: Running) -> None:
        await worker.idle()
        assert sorted(ends) == ["async", "thread 2"]
        release.set()
        await until(lambda: not worker._flow.lanes.seized)

    tape.record([make_event(1), make_event(2, topic="orders/updated")])
    run(app, settings, options, act)
    assert sorted(ends) == ["async", "thread 1", "thread 2"]


def test_what_a_handler_binds_to_its_context_doesnt_reach_the_next_event(settings: Settings, tape: Tape, options: Options) -> None:
    from contextvars import ContextVar

    app, bound, seen = App("g"), ContextVar("bound", default=""), list[str]()

    @app.on("orders/create", concurrency=1)
    async def handle(event: Event) -> None:
        seen.append(bound.get())
        bound.set(event.webhook_id)

    tape.record([make_event(n) for n in range(5)])
    run(app, settings, options)
    assert seen == [""] * 5


def test_a_429_cools_its_shop_and_no_other(settings: Settings, tape: Tape, options: Options) -> None:
    app, times = App("g"), defaultdict[str, list[float]](list)
    # One for longer than any test takes: what runs meanwhile doesn't wait for it.
    after = {"hot.myshopify.com": "600", "warm.myshopify.com": "0.3"}

    class Throttled(Exception):
        def __init__(self, seconds: str) -> None:
            self.status, self.headers = 429, {"Retry-After": seconds}

    @app.on("orders/*", concurrency=1)
    async def handle(event: Event) -> None:
        times[event.shop].append(time.monotonic())
        if event.shop in after and len(times[event.shop]) == 1:
            raise Throttled(after[event.shop])

    async def act(worker: Running) -> None:
        await until(lambda: {shop: len(moments) for shop, moments in times.items()} == {
            "hot.myshopify.com": 1, "warm.myshopify.com": 4, "fine.myshopify.com": 3})  # fmt: skip

    tape.record([make_event(n, shop=shop) for n in range(3) for shop in (*after, "fine.myshopify.com")])
    run(app, settings, options, act)
    warm = times["warm.myshopify.com"]
    assert warm[1] - warm[0] >= 0.3
    assert len(times["hot.myshopify.com"]) == 1


def test_an_expired_range_is_noticed_recorded_and_passed(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), list[int]()

    @app.on("orders/create")
    async def handle(event: Event) -> None:
        seen.append(event.json()["n"])

    tape.record([make_event(0, order=1)])
    run(app, settings, options)
    tape.record([make_event(n, order=1) for n in range(1, 11)])
    log = tape.names.log("orders.create")
    [(partition, end)] = [(p, n) for p, n in ends(settings, log).items() if n]
    # As retention would: everything up to the last record.
    admin = clients.admin(settings)
    from confluent_kafka import TopicPartition

    [future] = admin.delete_records([TopicPartition(log, partition, end - 1)]).values()
    future.result()
    run(app, settings, options)
    assert seen == [0, 10]
    with Ledger.open(settings.ledger_url) as ledger:
        [entry] = [e for e in ledger.audit.list() if e.action == "lost_range"]
    assert (entry.target, entry.detail["from"], entry.detail["to"], entry.detail["records"]) == (log, 1, 10, 9)


def ends(settings: Settings, topic: str) -> dict[int, int]:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec

    asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(2)}  # type: ignore[no-untyped-call]
    admin = clients.admin(settings)
    return {tp.partition: future.result(10).offset for tp, future in admin.list_offsets(asked).items()}


def test_a_worker_says_which_of_its_topics_is_missing(settings: Settings, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("nobody")
    app.on("orders/create")(print)
    monkeypatch.setattr(topics, "apply", lambda *_: None)
    with pytest.raises(TopicMissing, match=r"retry\.nobody|dlq\.nobody"):
        run(app, settings, options)


@pytest.mark.parametrize("own", [1, 3])
def test_a_group_whose_topics_differ_in_partitions_is_refused_and_told_what_to_set(
        settings: Settings, options: Options, monkeypatch: pytest.MonkeyPatch, own: int) -> None:  # fmt: skip
    app = App("odd")
    app.on("orders/create")(print)
    topics.apply(replace(settings, partitions=own, topics=()), ["odd"])
    monkeypatch.setattr(topics, "apply", lambda *_: None)
    few, many = sorted((own, 2))
    with pytest.raises(SettingsError, match=rf"some have {many}, and .* has {few}.*set HOOKTAPE_PARTITIONS to {many} "):
        run(app, settings, options)


def test_a_new_group_can_begin_now_and_misses_nothing_from_then_on(settings: Settings, tape: Tape, options: Options) -> None:
    from hooktape.consumers.births import NOW

    app, seen = App("g"), list[int]()

    @app.on("orders/create")
    async def handle(event: Event) -> None:
        seen.append(event.json()["n"])

    tape.record([make_event(n) for n in range(5)])
    late = replace(options, start=NOW)
    run(app, settings, late)
    tape.record([make_event(n) for n in range(5, 10)])
    run(app, settings, late)
    assert sorted(seen) == [5, 6, 7, 8, 9]


def test_a_stuck_event_stops_its_partition_before_the_window_overflows_and_it_goes_on_after(
        settings: Settings, tape: Tape, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from hooktape.consumers import intake
    from hooktape.consumers.source import Source

    monkeypatch.setattr(intake, "REACH", 100)
    held, app, seen, gate = list[bool](), App("g"), set[int](), asyncio.Event()
    original = Source.hold
    monkeypatch.setattr(Source, "hold", lambda self, home, paused: (held.append(paused), original(self, home, paused))[1])

    @app.on("orders/create")
    async def handle(event: Event) -> None:
        if event.json()["n"] == 0:
            await gate.wait()
        seen.add(event.json()["n"])

    async def act(worker: Running) -> None:
        await until(lambda: True in held)
        assert worker._intake.incomplete >= 1
        gate.set()
        await worker.idle()

    tape.record([make_event(n, order=n) for n in range(400)])
    run(app, settings, options, act)
    assert seen == set(range(400))
    assert held[-1] is False
    assert held.count(True) >= 1


def test_a_full_buffer_stops_fetching_and_then_pauses_and_everything_is_handled_once(
        settings: Settings, tape: Tape, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from hooktape.consumers import source

    monkeypatch.setattr(source, "_FULL_BEFORE_PAUSE", 0.02)
    app, seen, most = App("g"), Counter[str](), 0

    class Counting:
        def __init__(self, consumer: Any) -> None:
            self._consumer = consumer

        def pause(self, partitions: Any) -> None:
            pauses.append(len(partitions))
            self._consumer.pause(partitions)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._consumer, name)

    pauses: list[int] = []

    @app.on("orders/create", concurrency=2)
    async def handle(event: Event) -> None:
        nonlocal most
        most = max(most, held())
        await asyncio.sleep(0.01)
        seen[event.webhook_id] += 1

    held: Callable[[], int] = int

    async def act(worker: Running) -> None:
        nonlocal held
        held = lambda: worker._intake.incomplete  # noqa: E731
        await worker.idle()

    events = [make_event(n) for n in range(150)]
    tape.record(events)
    run(app, settings, replace(options, buffer=20), act, make=lambda *w, **n: Counting(clients.consumer(*w, **n)))
    assert seen == Counter({e.webhook_id: 1 for e in events})
    assert most <= 21
    # Once for each time that it was full for long, never once per event.
    assert 0 < len(pauses) < 30


def test_a_worker_that_stops_over_a_thread_that_goes_on_leaves_its_partitions_to_its_lease(
    settings: Settings, tape: Tape, options: Options
) -> None:
    app, gate, begun = App("g"), threading.Event(), list[str]()

    @app.on("orders/*")
    def stubborn(event: Event) -> None:
        begun.append(event.webhook_id)
        gate.wait(30)

    tape.record([make_event(1)])

    async def main() -> None:
        async with running(app, settings, options=replace(options, stop_within=0.3)) as worker:
            await until(lambda: begun)
            own = {tenure.partition for tenure in worker._tenures.tenures()}
        with Ledger.open(settings.ledger_url) as ledger:
            assert set(ledger.ownership.owners("g")) == own == {0, 1}
        gate.set()

    asyncio.run(main())
