"""Dead letters, and what comes back from them: replays and reset windows, on a real Kafka."""

import asyncio
import time
from dataclasses import replace
from typing import Any

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import Running, running
from hooktape.errors import Reject, TapeUnavailable
from hooktape.ledger.ledger import Ledger
from hooktape.schemas import codec
from hooktape.schemas.event import Coordinates, Event
from hooktape.settings import Settings
from hooktape.tape import groups, headers
from hooktape.tape.publisher import Publisher

from .conftest import Tape, make_event, run, states, until


def test_a_rejected_event_is_dead_lettered_untouched_with_all_that_happened(settings: Settings, tape: Tape, options: Options) -> None:
    app = App("g")

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        raise Reject("no such warehouse")

    event = make_event(1)
    tape.record([event], extra={headers.RELABELLED: "1"})
    run(app, settings, options)
    [dead] = tape.dead("g")
    assert dead.value == codec.encode(event)
    assert dead.key == event.lane.encode()
    read = headers.read(dead.headers)
    failure = headers.failure(read)
    assert failure is not None
    assert (failure.attempts, failure.disposition, failure.message) == (1, "rejected", "no such warehouse")
    assert failure.error_type == "hooktape.errors.Reject"
    assert "no such warehouse" in failure.stack
    assert failure.first_failed_us <= failure.last_failed_us
    origin = headers.origin(read, Coordinates("", 0, 0))
    assert tape.names.parse(origin.topic) is not None
    assert read[headers.RELABELLED] == "1"
    assert {name: read[name] for name in headers.of_event(event)} == headers.of_event(event)
    with Ledger.open(settings.ledger_url) as ledger:
        [row] = ledger.outcomes.dead("g")
        assert row.error_group == failure.group


def test_an_event_that_keeps_failing_is_exhausted_after_its_maximum(settings: Settings, tape: Tape, options: Options) -> None:
    app, attempts = App("g"), list[int]()

    @app.on("orders/*", max_attempts=3)
    async def handle(event: Event) -> None:
        attempts.append(event.attempt)
        raise KeyError("bug")

    tape.record([make_event(1)])
    run(app, settings, options)
    assert attempts == [1, 2, 3]
    failure = headers.failure(headers.read(tape.dead("g")[0].headers))
    assert failure is not None
    assert (failure.attempts, failure.disposition) == (3, "exhausted")


def test_a_record_that_isnt_ours_is_dead_lettered_and_the_worker_lives(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), list[str]()

    @app.on("orders/*", "app/uninstalled")
    async def handle(event: Event) -> None:
        seen.append(event.webhook_id)

    log = tape.names.log("orders.create")
    tape.write(log, b"\x00\xffnot avro", b"\xfe\xffkey", [("foreign", b"kept")])
    tape.write(log, None, None)
    tape.record([event := make_event(1)])
    tape.write(tape.names.other, b"who wrote this")
    run(app, settings, options)
    assert seen == [event.webhook_id]
    dead = tape.dead("g")
    assert sorted((d.key, d.value) for d in dead if d.value and d.key) == [(b"\xfe\xffkey", b"\x00\xffnot avro")]
    assert len(dead) == 3
    assert all(headers.read(d.headers)[headers.DISPOSITION] == "poison" for d in dead)
    assert any(("foreign", b"kept") in d.headers for d in dead)


class Failing(Publisher):
    """Fails so many times: even before the record is taken, odd after Kafka has it."""

    failures = 4

    def publish(self, *words: Any, **named: Any) -> Any:
        if self.failures <= 0:
            return super().publish(*words, **named)
        self.failures -= 1
        if self.failures % 2:
            super().publish(*words, **named)
        future = asyncio.get_running_loop().create_future()
        future.set_exception(TapeUnavailable("a test"))
        return future


def test_a_dead_letter_that_cant_be_produced_loses_nothing(settings: Settings, tape: Tape, options: Options) -> None:
    app, runs = App("g"), 0

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        nonlocal runs
        runs += 1
        raise Reject("no")

    tape.record([event := make_event(1)])

    async def main() -> None:
        publisher = Failing(settings)
        async with running(app, settings, options=options, publisher=publisher) as worker:
            await worker.idle()
        await publisher.close()

    asyncio.run(main())
    assert runs == 1
    # Twice Kafka had it before the error: a dead letter may be there more than once, never not at all.
    assert 1 <= len(tape.dead("g")) <= 3
    assert states(settings, "g", [event]) == {"dead": 1}


def test_an_event_whose_letter_never_arrived_runs_again_in_the_next_worker(settings: Settings, tape: Tape, options: Options) -> None:
    app, runs = App("g"), 0

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise Reject("no")

    tape.record([event := make_event(1)])

    async def main() -> None:
        publisher = Failing(settings)
        publisher.failures = 10**6
        async with running(app, settings, options=replace(options, stop_within=1.0), publisher=publisher) as worker:
            await until(lambda: runs == 1 and len(worker._flow.handover) == 1)
        publisher.failures = 0
        await publisher.close()

    asyncio.run(main())
    run(app, settings, options)
    assert runs == 2
    assert states(settings, "g", [event]) == {"succeeded": 1}


def republish(tape: Tape, event: Event, group: str, replay: str, forced: bool) -> None:
    extra = {headers.REPLAY_ID: replay, headers.REPLAY_REASON: "a test", headers.REPLAY_WHO: "me", headers.REPLAY_FORCED: str(int(forced))}
    tape.record([event], topic=tape.names.replay(group), extra=extra | headers.of_origin(Coordinates("log", 1, 2)))


def test_a_replay_skips_what_is_done_unless_forced_and_is_seen_by_the_handler(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), list[tuple[str | None, bool, str]]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        seen.append((event.replay and event.replay.id, bool(event.replay and event.replay.forced), str(event.at)))

    tape.record([event := make_event(1)])
    run(app, settings, options)
    republish(tape, event, "g", "r1", forced=False)
    republish(tape, event, "g", "r2", forced=True)
    republish(tape, event, "g", "r2", forced=True)
    run(app, settings, options)
    assert [entry[:2] for entry in seen[:2]] == [(None, False), ("r2", True)]
    assert seen[1][2] == "log/1@2"


def test_a_replayed_event_that_fails_keeps_its_mark_on_the_way_to_the_dlq(settings: Settings, tape: Tape, options: Options) -> None:
    app = App("g")

    @app.on("orders/*", max_attempts=2)
    async def handle(event: Event) -> None:
        raise KeyError("bug")

    republish(tape, make_event(1), "g", "r1", forced=True)
    run(app, settings, options)
    [dead] = tape.dead("g")
    replay = headers.replay(headers.read(dead.headers))
    assert replay is not None
    assert (replay.id, replay.forced) == ("r1", True)


def test_a_reset_window_runs_again_what_is_done(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), list[str | None]()

    @app.on("orders/create")
    async def handle(event: Event) -> None:
        seen.append(event.replay and event.replay.id)

    tape.record([make_event(n) for n in range(4)])
    run(app, settings, options)
    log = tape.names.log("orders.create")
    done = {p: offset for p, offset in groups.committed(settings, "g").items() if p[0] == log}
    with Ledger.open(settings.ledger_url) as ledger:
        ledger.outcomes.add_reprocess("g", "reset-1", [(log, p, 0, offset) for (_, p), offset in done.items()])
    groups.alter(settings, "g", dict.fromkeys(done, 0))
    run(app, settings, options)
    assert seen == [None] * 4 + ["reset-1"] * 4


def test_an_event_in_a_retry_topic_whose_handler_has_gone_is_dead_lettered(settings: Settings, tape: Tape, options: Options) -> None:
    app = App("g")

    @app.on("products/update")
    async def handle(event: Event) -> None:
        raise AssertionError

    republish(tape, make_event(1), "g", "r1", forced=False)
    run(app, settings, options)
    [dead] = tape.dead("g")
    assert headers.read(dead.headers)[headers.DISPOSITION] == "rejected"


def test_a_retry_written_by_a_clock_that_was_a_day_ahead_holds_nothing_up_for_a_day(
    settings: Settings, tape: Tape, options: Options
) -> None:
    app, seen = App("g"), list[str]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        seen.append(event.webhook_id)

    events = [make_event(order=1, webhook_id=name) for name in ("ahead", "behind it")]
    told = {headers.ATTEMPTS: "1", headers.DUE: str((time.time_ns() // 1000) + 86_400_000_000)}
    retry = tape.names.retry("g", settings.retry_delays[0])
    tape.record(events[:1], retry, told)
    tape.record(events[1:], retry, told | {headers.DUE: "0"})

    async def act(worker: Running) -> None:
        await until(lambda: len(seen) == 2, 10)

    run(app, settings, options, act)
    assert seen == ["ahead", "behind it"]
