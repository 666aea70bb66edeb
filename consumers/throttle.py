"""What a group's workers share of their limits: the shops' Admin API budgets, and what cools after a `Retry-After`.

An adapter: the decisions are `budgets.py`'s, the state is the ledger's. It asks in the background, all that has gathered in one go,
and looks once a second what the group's other workers let cool. Everything is called on the worker's loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from hooktape import log
from hooktape.consumers.app import App, Handler
from hooktape.consumers.budgets import WITHIN, Ask, Purses, spent
from hooktape.consumers.classify import Cause, Disposition
from hooktape.consumers.lanes import LONGEST_COOLING, Lanes
from hooktape.consumers.task import Task
from hooktape.errors import LedgerUnavailable
from hooktape.ledger.bucket import Grant
from hooktape.ledger.budgets import Cooling, Status, Want, admin_scope
from hooktape.ledger.ledger import Ledger

_log = log.get("hooktape.consumers")
# What one worker met, all know after this, in seconds. A look costs one indexed row or none.
_LOOK_EVERY = 1.0
# The Admin API's pause where it names none (a GraphQL answer THROTTLED): a second restores a tenth of the dearest query.
_PAUSE = 1.0


class Question(Protocol):
    """Runs a question on the ledger's thread: `Custody.ask`."""

    def __call__(self, question: Callable[[Ledger], Any]) -> Awaitable[Any]: ...


class Throttle:
    """One worker's side of the shared limits. `clock` is the one of the lanes: seconds that don't run backwards."""

    def __init__(self, app: App, lanes: Lanes, ask: Question, clock: Callable[[], float] = time.monotonic) -> None:
        self._group, self._lanes, self._ask, self._clock = app.group, lanes, ask, clock
        self._handlers: dict[str, list[Handler]] = {}
        for handler in dict.fromkeys(app.handlers.values()):
            self._handlers.setdefault(handler.name, []).append(handler)
        self._purses = Purses()
        self._statuses: list[Status] = []
        self._coolings: list[Cooling] = []
        self._drains: dict[str, float] = {}
        self._looked = self._clock()
        self._busy: asyncio.Task[None] | None = None

    def wait(self, task: Task, now: float) -> float:
        """0.0: the event may start, and its tokens are spent. Otherwise the seconds to postpone it."""
        handler = task.handler
        if not isinstance(handler, Handler) or not handler.admin_cost:
            return 0.0
        wait = self._purses.wait(task.key, task.event.shop, handler.admin_cost, now)
        if wait:
            self.kick(now)
        return wait

    def ended(self, task: Task) -> None:
        """A handler has ended: what Shopify charged is reckoned with. For events whose `costs` are set."""
        costs, task.event.costs = task.event.costs or [], None
        found, handler = spent(costs), task.handler
        if found is None or not isinstance(handler, Handler):
            return
        self._purses.settle(task.event.shop, handler.admin_cost - found.points)
        if found.status is not None:
            self._statuses.append(Status(admin_scope(task.event.shop), *found.status))

    def throttled(self, task: Task, cause: Cause) -> None:
        """A try failed with `cause`: where the other side asked for a pause, the group's other workers hear of it."""
        handler, shop = task.handler, task.event.shop
        if cause.disposition is not Disposition.THROTTLED or cause.untried or not isinstance(handler, Handler):
            return
        if cause.after is not None:
            seconds = min(cause.after, LONGEST_COOLING)
            self._coolings.append(Cooling(handler.name, "" if cause.whole_destination else shop, seconds))
        if handler.admin_cost and not cause.whole_destination:
            pause = min(cause.after if cause.after is not None else _PAUSE, LONGEST_COOLING)
            self._drains[shop] = max(pause, self._drains.get(shop, 0.0))
        self.kick(self._clock())

    def tick(self, now: float) -> None:
        """To be called several times a second."""
        if now - self._looked >= _LOOK_EVERY:
            self._purses.sweep(now)
            self.kick(now, look=True)
        else:
            self.kick(now)

    def kick(self, now: float, *, look: bool = False) -> None:
        """Starts on what has gathered, unless the ledger is being asked already."""
        if self._busy is not None:
            return
        asks = self._purses.asks(now)
        if not (asks or look or self._statuses or self._coolings or self._drains):
            return
        self._busy = asyncio.get_running_loop().create_task(self._exchange(asks, look))

    async def close(self) -> None:
        """Waits for what is being asked. Tokens at hand come back by themselves: nobody spends them."""
        if self._busy is not None:
            await asyncio.wait([self._busy])

    async def _exchange(self, asks: list[Ask], look: bool) -> None:
        statuses, self._statuses = self._statuses, []
        coolings, self._coolings = self._coolings, []
        drains, self._drains = self._drains, {}
        answered = False

        def question(ledger: Ledger) -> tuple[list[Grant], list[Cooling]]:
            budgets = ledger.budgets
            budgets.cool(self._group, coolings)
            for shop, seconds in drains.items():
                budgets.drain(admin_scope(shop), seconds)
            budgets.report(statuses)
            grants = budgets.take([Want(admin_scope(a.shop), a.tokens, a.back, a.least) for a in asks], WITHIN)
            return grants, budgets.cooling(self._group) if look else []

        try:
            grants, cooling = await self._ask(question)
            answered = True
            now = self._clock()
            for each, grant in zip(asks, grants, strict=True):
                self._purses.granted(each, grant, now)
            for found in cooling:
                for handler in self._handlers.get(found.handler, ()):
                    self._lanes.cool(handler, found.shop, now, found.seconds)
            if look:
                self._looked = now
        except LedgerUnavailable as error:
            # Events wait and ask again; a cooling that went unsaid is met by the other workers themselves.
            _log.warning("the shared limits can't be asked for", error=str(error))
        finally:
            if not answered:
                for each in asks:
                    self._purses.refused(each)
            self._busy = None
