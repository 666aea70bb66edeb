"""Letters that Kafka refuses, or has and doesn't tell so: nothing is lost, nothing handled twice. On a real Kafka."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import running
from hooktape.errors import Reject, TapeUnavailable
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import clients, groups
from hooktape.tape.publisher import Publisher
from tests.tape.lost_acks import LostAcks

from .conftest import Tape, make_event, run, states, until


class Refusing(Publisher):
    """Kafka takes no dead letters until the test says so."""

    refusing = True
    refused = 0

    def publish(self, topic: str, *words: Any, **named: Any) -> Any:
        if not (self.refusing and ".dlq." in topic):
            return super().publish(topic, *words, **named)
        self.refused += 1
        future = asyncio.get_running_loop().create_future()
        future.set_exception(TapeUnavailable("a test"))
        return future


def test_an_event_whose_dead_letter_isnt_taken_stays_unfinished_and_uncommitted_then_arrives_once(
    settings: Settings, tape: Tape, options: Options
) -> None:
    app, runs = App("g"), list[int]()

    @app.on("orders/*", order="none")
    async def handle(event: Event) -> None:
        runs.append(number := event.json()["n"])
        if number == 1:
            raise Reject("no")

    before, bad, *after = events = [make_event(n, order=7) for n in range(4)]  # one order: one partition
    tape.record(events)
    log = tape.names.log("orders.create")

    def committed() -> int:
        return max((o for (topic, _), o in groups.committed(settings, "g").items() if topic == log), default=0)

    async def main() -> None:
        publisher = Refusing(settings)
        async with running(app, settings, options=options, publisher=publisher) as worker:
            await until(lambda: publisher.refused >= 3)
            await until(lambda: states(settings, "g", [before, *after]) == {"succeeded": 3})
            worker.commit()
            assert await asyncio.to_thread(committed) <= 1
            assert states(settings, "g", [bad])["dead"] == 0
            publisher.refusing = False
            await worker.idle()
        await publisher.close()

    asyncio.run(main())
    assert len(tape.dead("g")) == 1
    assert sorted(runs) == [0, 1, 2, 3]
    assert states(settings, "g", [bad]) == {"dead": 1}
    assert committed() == 4


def test_a_dead_letter_whose_acknowledgement_is_lost_is_produced_again_and_handled_no_second_time(
    settings: Settings, tape: Tape, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, runs = App("g"), 0

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        nonlocal runs
        runs += 1
        raise Reject("no")

    tape.record([event := make_event(1)])
    acks = LostAcks(2, lambda topic: ".dlq." in topic)
    monkeypatch.setattr(clients, "producer", acks)
    run(app, settings, options)
    assert acks.left == 0
    assert runs == 1
    assert len({(letter.key, letter.value) for letter in tape.dead("g")}) == 1
    assert len(tape.dead("g")) == 3  # a person sees copies of one letter, never none
    assert states(settings, "g", [event]) == {"dead": 1}


@pytest.mark.parametrize("order", ["key", "none"])
def test_a_retry_letter_whose_acknowledgement_is_lost_is_produced_again_and_each_attempt_runs_once(
    settings: Settings, tape: Tape, options: Options, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    app, attempts = App("g"), list[int]()

    @app.on("orders/*", order=order)
    async def handle(event: Event) -> None:
        attempts.append(event.attempt)
        if len(attempts) < 3:
            raise KeyError("not yet")

    tape.record([event := make_event(1)])
    acks = LostAcks(4, lambda topic: ".retry." in topic)
    monkeypatch.setattr(clients, "producer", acks)
    run(app, settings, options)
    assert acks.left == 0
    assert attempts == [1, 2, 3]
    assert states(settings, "g", [event]) == {"succeeded": 1}


def test_a_letter_that_was_written_when_the_worker_stopped_costs_one_more_run_at_most(
    settings: Settings, tape: Tape, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker knows nothing of its arrival: the event is unfinished, and the next worker takes it up."""
    app, runs = App("g"), 0

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        nonlocal runs
        runs += 1
        raise Reject("no")

    tape.record([event := make_event(1)])

    async def main() -> None:
        async with running(app, settings, options=replace(options, stop_within=1.0)):
            await until(lambda: acks.lost)

    with monkeypatch.context() as patch:
        acks = LostAcks(10**6, lambda topic: ".dlq." in topic)
        patch.setattr(clients, "producer", acks)
        asyncio.run(main())
    run(app, settings, options)
    assert runs == 2
    assert len(tape.dead("g")) >= 2
    assert states(settings, "g", [event]) == {"dead": 1}
