"""The worker on a real Kafka with a SQLite ledger."""

import asyncio
from collections import Counter
from dataclasses import replace

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import running
from hooktape.schemas.event import Event
from hooktape.settings import Settings

from .conftest import Tape, make_event, until


def test_every_event_is_handled_once(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), Counter[str]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        seen[event.webhook_id] += 1

    events = [make_event(i) for i in range(300)]
    tape.record(events)

    async def main() -> None:
        async with running(app, settings, options=options) as worker:
            await worker.idle()

    asyncio.run(main())
    assert seen == Counter({e.webhook_id: 1 for e in events})
