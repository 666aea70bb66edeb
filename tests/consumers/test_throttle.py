"""The shared limits on a real ledger: several processes keep to one bucket, and one worker's 429 cools the shop for all."""

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from hooktape import App, Event
from hooktape.consumers.classify import Cause, Disposition
from hooktape.consumers.lanes import Lanes
from hooktape.consumers.task import Home, Task
from hooktape.consumers.throttle import Throttle
from hooktape.errors import LedgerUnavailable
from hooktape.ledger.bucket import KEEP
from hooktape.ledger.budgets import Status, Want, admin_scope
from hooktape.ledger.ledger import Ledger

from ..ledger.conftest import opened, url  # noqa: F401
from .conftest import make_event, until

SHOP = "a.myshopify.com"
SCOPE = admin_scope(SHOP)
# What Shopify has: 150, 50 a second. Ours is a second's worth smaller.
SAID = Status(SCOPE, 1e9, 50.0, 150.0)
COST = 5.0


async def handle(event: Event) -> None: ...


class Mini:
    """A worker's lanes and shared limits, wired as a worker wires them, and handlers that take no time."""

    def __init__(self, ledger: Ledger, cost: float = COST) -> None:
        self.app = App("g")
        self.app.on("orders/create", admin_cost=cost, concurrency=100)(handle)
        self.handler = self.app.handlers["orders/create"]
        self.lanes, self.ledger = Lanes(100), ledger
        self.down = False
        self.started: list[tuple[float, Task]] = []
        self.throttle = Throttle(self.app, self.lanes, self._ask)

    async def _ask(self, question: Callable[[Ledger], Any]) -> Any:
        if self.down:
            raise LedgerUnavailable("down")
        return await asyncio.to_thread(question, self.ledger)

    def add(self, number: int) -> Task:
        event = make_event(number, shop=SHOP)
        task = Task(Home("t", 0, 1, 0), number, event, event.key, self.handler, event.lane)
        self.lanes.add(task)
        return task

    def pump(self) -> None:
        now = time.monotonic()
        while (task := self.lanes.start(now)) is not None:
            wait = self.throttle.wait(task, now)
            if wait:
                self.lanes.postpone(task, now + wait)
            else:
                self.started.append((time.time(), task))
                self.lanes.end(task)
        self.throttle.tick(now)

    async def run(self, condition: Callable[[], object], within: float = 30.0) -> None:
        def step() -> object:
            self.pump()
            return condition()

        await until(step, within)


def work(address: str, together: Any, seconds: float) -> list[float]:
    """When one process started its events, `seconds` long from the moment when all were ready."""

    async def main() -> list[float]:
        with Ledger.open(address) as ledger:
            mini = Mini(ledger)
            for n in range(200):
                mini.add(n)
            together.wait(60)
            end = time.monotonic() + seconds
            await mini.run(lambda: time.monotonic() > end)
            await mini.throttle.close()
            return [moment for moment, _ in mini.started]

    return asyncio.run(main())


def test_processes_together_keep_to_one_limit_and_use_it(url: str) -> None:  # noqa: F811
    with Ledger.open(url) as ledger:
        ledger.budgets.report([SAID])
    spawn, seconds = multiprocessing.get_context("spawn"), 4.0
    with spawn.Manager() as manager, ProcessPoolExecutor(3, spawn) as pool:
        parts = list(pool.map(work, [url] * 3, [manager.Barrier(3)] * 3, [seconds] * 3))
    moments = sorted(moment for part in parts for moment in part)
    level, last = 150.0, moments[0]
    for moment in moments:
        level = min(150.0, level + (moment - last) * 50.0) - COST
        last = moment
        # One event's grace: the moment is stamped by the process, a little after its tokens were spent.
        assert level >= -COST
    used = COST * sum(map(len, parts))
    assert used >= 100 + 50 * (seconds - KEEP) * 0.5
    assert used <= 150 + 50 * (seconds + 1.0)


@pytest.mark.parametrize("cost", [0.0, COST], ids=["a handler without a budget", "with one"])
def test_a_pause_that_one_worker_is_asked_for_stops_the_shop_at_all_workers(opened: Callable[[], Ledger], cost: float) -> None:  # noqa: F811
    async def main() -> None:
        one, two = Mini(opened(), cost), Mini(opened(), cost)
        met = one.add(1)
        await one.run(lambda: one.started)
        one.throttle.throttled(met, Cause(Disposition.THROTTLED, after=30.0))
        await one.throttle.close()
        if cost:
            assert one.ledger.budgets.take([Want(SCOPE, 1.0)], 5.0)[0].tokens == 0
        told = time.monotonic()
        await two.run(lambda: two.lanes._cooling)
        assert time.monotonic() - told < 10  # a look a second; the rest is a busy machine's
        two.add(2)
        two.pump()
        assert two.started == []
        assert two.lanes.wake_at() > time.monotonic() + 10  # type: ignore[operator]
        for mini in (one, two):
            await mini.throttle.close()

    asyncio.run(main())


def test_what_shopify_charged_and_said_reaches_the_shared_bucket(opened: Callable[[], Ledger]) -> None:  # noqa: F811
    async def main() -> None:
        mini = Mini(opened(), cost=100.0)
        task = mini.add(1)
        await mini.run(lambda: mini.started)
        task.event.note_cost({"requestedQueryCost": 80, "actualQueryCost": 30, "throttleStatus": {
            "maximumAvailable": 4000.0, "currentlyAvailable": 3000, "restoreRate": 200.0}})  # fmt: skip
        mini.throttle.ended(task)
        assert task.event.costs is None
        await mini.run(lambda: mini.ledger.budgets.buckets([SCOPE])[SCOPE].rate == 200.0)
        await mini.throttle.close()
        bucket = mini.ledger.budgets.buckets([SCOPE])[SCOPE]
        assert bucket.size == 3800.0
        assert 1870 - 100 < bucket.held(bucket.at) <= 3000.0

    asyncio.run(main())


def test_while_the_ledger_is_away_events_wait_and_then_they_start(opened: Callable[[], Ledger]) -> None:  # noqa: F811
    async def main() -> None:
        mini = Mini(opened())
        mini.down = True
        for n in range(3):
            mini.add(n)
        for _ in range(10):
            mini.pump()
            await asyncio.sleep(0)
        assert mini.started == []
        mini.down = False
        await mini.run(lambda: len(mini.started) == 3)
        await mini.throttle.close()

    asyncio.run(main())
