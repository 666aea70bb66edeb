"""The flood breaker in a real worker: a flood stays on the tape, other topics go on, and an operator's word is obeyed."""

import time
from dataclasses import replace

import pytest

from hooktape.consumers.app import App
from hooktape.consumers.breaker import ENOUGH_TRIES
from hooktape.consumers.options import Options
from hooktape.consumers.running import Running
from hooktape.errors import Reject
from hooktape.ledger.ledger import Ledger
from hooktape.schemas.event import Event
from hooktape.settings import Settings

from .conftest import Tape, make_event, run, states, until

pytestmark = pytest.mark.kafka


def test_a_deploy_that_rejects_everything_fills_no_dead_letters_and_stops_no_other_topic(
    settings: Settings, tape: Tape, options: Options
) -> None:
    app = App("g")
    broken, healthy = [make_event(n) for n in range(500)], [make_event(n, topic="products/update") for n in range(200)]
    tape.record([*broken, *healthy])
    seen: list[str] = []
    mended = False

    @app.on("orders/create")
    async def create(event: Event) -> None:
        if not mended:
            raise Reject("no such column")
        seen.append(event.webhook_id)

    @app.on("products/update")
    async def update(event: Event) -> None:
        pass

    async def act(worker: Running) -> None:
        nonlocal mended
        with Ledger.open(settings.ledger_url) as ledger:
            await until(lambda: states(settings, "g", healthy) == {"succeeded": 200})
            await until(lambda: ledger.breakers.list(time.time(), "g"))
            [status] = ledger.breakers.list(time.time(), "g")
            assert (status.topic, status.open, status.causes[0].error_type) == ("orders/create", True, "hooktape.errors.Reject")
            dead = ENOUGH_TRIES - 1
            await until(lambda: states(settings, "g", broken)["dead"] == dead)
            mended = True
            ledger.breakers.set_override("g", "orders/create", "closed", None, who="ada", reason="mended", now=time.time())
            await worker.idle()
            assert states(settings, "g", broken) == {"dead": dead, "succeeded": 500 - dead}
            await until(lambda: ledger.breakers.list(time.time(), "g")[0].workers == 0)
        assert len(tape.dead("g")) == dead
        assert len(seen) == len(set(seen)) == 500 - dead

    # A buffer that the held topic fills many times over.
    run(app, settings, replace(options, buffer=60), act)
