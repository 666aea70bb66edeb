"""Two workers of a group and one shop's budget."""

import asyncio
import time

from hooktape import App, Event
from hooktape.consumers.options import Options
from hooktape.consumers.running import running
from hooktape.ledger.budgets import Status, admin_scope
from hooktape.ledger.ledger import Ledger
from hooktape.settings import Settings

from .conftest import Tape, make_event, states, until

POOR, RICH = "a.myshopify.com", "b.myshopify.com"


def test_workers_share_a_shops_points_and_other_shops_dont_wait(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), list[tuple[str, float]]()

    @app.on("orders/create", admin_cost=10)
    async def handle(event: Event) -> None:
        seen.append((event.shop, time.monotonic()))

    with Ledger.open(settings.ledger_url) as ledger:
        ledger.budgets.report([Status(admin_scope(POOR), 1e9, 50.0, 150.0)])
    events = [make_event(n, shop=shop) for shop in (POOR, RICH) for n in range(30)]

    async def main() -> None:
        async with running(app, settings, options=options) as one, running(app, settings, options=options) as two:
            # Each has its partition: no shop waits for a rebalance.
            await until(lambda: [len(worker._tenures.tenures()) for worker in (one, two)] == [1, 1])
            tape.record(events)
            await one.idle()
            await two.idle()

    asyncio.run(main())
    poor = sorted(moment for shop, moment in seen if shop == POOR)
    level, last = 150.0, poor[0]
    for moment in poor:
        level, last = min(150.0, level + (moment - last) * 50.0) - 10, moment
        assert level >= -10  # the moment is the handler's, a little after its points were spent
    assert poor[-1] - poor[0] > 2.0
    assert max(moment for shop, moment in seen if shop == RICH) < poor[-1]
    assert states(settings, "g", events) == {"succeeded": 60}
