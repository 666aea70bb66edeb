"""How fast the Admin API is asked: by the buckets in the ledger, which every process of the app shares.

Two buckets a shop. One is Shopify's own, from which handlers and the reconciler take alike. The other is the reconciler's share of
it: half of what comes back, and a tenth while Shopify's bucket is less than half full, since then somebody else needs it.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from hooktape.ledger.budgets import Budgets, Status, Want, admin_scope

SHARE, SHARE_WHEN_LOW, LOW = 0.5, 0.1, 0.5
# How far ahead tokens are promised: whoever is killed takes this many seconds of the pace along (consumers do the same).
_WITHIN = 2.0
# Between two questions to the ledger while others have been promised everything.
_SOON = 0.05
T = TypeVar("T")


def share_scope(shop: str) -> str:
    """The bucket of the reconciler's share, for all of its processes."""
    return f"{admin_scope(shop)}/reconciler"


def share(throttle: Mapping[str, Any]) -> tuple[float, float]:
    """(size, rate) of the reconciler's share by what Shopify says of its bucket. Pure."""
    size, level, rate = (float(throttle.get(name) or 0) for name in ("maximumAvailable", "currentlyAvailable", "restoreRate"))
    return size * SHARE, rate * (SHARE if level >= size * LOW else SHARE_WHEN_LOW)


class Pace:
    """One shop's pace: `await take(points)` before a query, `await answered(…)` after it."""

    def __init__(self, budgets: Budgets, shop: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
                 clock: Callable[[], float] | None = None) -> None:  # fmt: skip
        self._budgets, self._scope, self._share = budgets, admin_scope(shop), share_scope(shop)
        self._sleep, self._clock = sleep, clock

    async def take(self, points: float) -> None:
        """Waits until `points` may be spent. Raises LedgerUnavailable."""
        for scope in (self._share, self._scope):
            await self._take(scope, points)

    async def _take(self, scope: str, points: float) -> None:
        back = 0.0
        while True:
            want = Want(scope, points, back, points)
            grant = (await self._ask(lambda now, want=want: self._budgets.take([want], _WITHIN, now)))[0]  # type: ignore[misc]
            if grant.tokens >= points - 1e-6:
                if (wait := grant.wait(points)) > 0:
                    await self._sleep(wait)
                return
            back = grant.tokens
            await self._sleep(max(_SOON, grant.again))

    async def answered(self, points: float, actual: float, throttle: Mapping[str, Any] | None) -> None:
        """A query for which `points` were taken has cost `actual` (0: Shopify doesn't say, so that the estimate stands)."""
        back = points - actual if actual > 0 else 0.0

        def note(now: float | None) -> None:
            self._budgets.take([Want(self._scope, 0.0, back), Want(self._share, 0.0, back)], 0.0, now)
            if throttle:
                size, level, rate = (float(throttle.get(name) or 0) for name in ("maximumAvailable", "currentlyAvailable", "restoreRate"))
                part, pace = share(throttle)
                self._budgets.report([Status(self._scope, level, rate, size), Status(self._share, math.inf, pace, part)], now)

        await self._ask(note)

    async def unasked(self, points: float) -> None:
        """A query for which `points` were taken was never put."""
        await self._ask(lambda now: self._budgets.take([Want(self._scope, 0.0, points), Want(self._share, 0.0, points)], 0.0, now))

    async def throttled(self, seconds: float) -> None:
        """Shopify refused for want of points, which will be there after `seconds`."""
        await self._ask(lambda now: self._budgets.drain(self._scope, seconds, now))

    async def _ask(self, question: Callable[[float | None], T]) -> T:
        now = self._clock() if self._clock else None
        return await asyncio.to_thread(question, now)

