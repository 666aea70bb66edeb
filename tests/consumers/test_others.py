"""Events of a topic that has a log of its own, in the log of others: ingest hadn't heard of theirs yet, or heard that it was gone."""

import asyncio
from collections import Counter

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import Running
from hooktape.errors import Retry
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.figures import figures
from hooktape.schemas.event import Event
from hooktape.settings import Settings

from .conftest import Tape, make_event, run, states, until


def test_what_came_before_its_topic_had_a_log_is_handled_once(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), Counter[str]()

    @app.on("orders/create")
    async def handle(event: Event) -> None:
        seen[event.webhook_id] += 1

    async def act(worker: Running) -> None:
        await worker.idle()
        tape.record(late, topic=tape.names.other)
        await worker.idle()
        with Ledger.open(settings.ledger_url) as ledger:
            found = await asyncio.to_thread(figures, settings, ledger, 0.0)
        assert {topic: lag.events for topic, lag in found.groups[0].lag.items()} == {"orders/create": 0, "other": 0}

    early, late = [make_event(n) for n in range(5)], [make_event(n) for n in range(5, 10)]
    strange = [make_event(n, topic="themes/publish") for n in range(5)]
    tape.record([*early, *strange], topic=tape.names.other)
    # Shopify sends again what it had no answer to, and by now ingest knows the log.
    tape.record([*early[:2], *(own := [make_event(n) for n in range(10, 15)])])
    run(app, settings, options, act)
    run(app, settings, options)
    assert seen == Counter(event.webhook_id for event in (*early, *late, *own))
    assert states(settings, "g", [*early, *late, *own, *strange]) == {"succeeded": 15}


def test_a_resource_keeps_its_order_when_its_events_move_to_a_log_of_their_own(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen, begun, go = App("g"), list[tuple[int, int]](), asyncio.Event(), asyncio.Event()

    @app.on("orders/create")
    async def handle(event: Event) -> None:
        number = event.json()["n"]
        seen.append((number, event.attempt))
        if event.attempt == 1 and number == 0:
            begun.set()
            await go.wait()
            raise Retry(after=0.2)

    async def act(worker: Running) -> None:
        await until(begun.is_set)
        tape.record([make_event(1, order=7)])
        await until(lambda: worker._intake.incomplete == 2)
        go.set()
        await worker.idle()

    tape.record([make_event(0, order=7)], topic=tape.names.other)
    run(app, settings, options, act)
    assert seen == [(0, 1), (0, 2), (1, 1)]
