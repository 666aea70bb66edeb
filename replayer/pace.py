"""How fast events are handed over, and when that must stop: pure, on the clock that they're given.

Live traffic wins: the rate is halved while live events wait for more than half of what they may, is nothing while they wait for longer,
and grows again by itself, a little with each look (additive increase, multiplicative decrease, as TCP shares a line).
"""

from collections import deque

# The share of the full rate that comes back with each look at live traffic; looks are a second apart, so the whole of it takes ten.
_STEP = 0.1
# Below this share it's as good as stopped, and takes as long to come back.
_LEAST = 0.05
_WINDOW = 100


class Pace:
    """Lets `rate` a second through (None: no bound), less while live events wait; after a quiet time at once what a tenth of a second
    holds. `max_wait`: seconds that live events may wait (None: they aren't heeded)."""

    def __init__(self, rate: float | None, max_wait: float | None, now: float) -> None:
        self._rate, self._max_wait = rate, max_wait
        self._share = 1.0
        self._stopped = False
        self._at, self._tokens = now, 0.0
        self._add(0.0)

    @property
    def stopped(self) -> bool:
        """Whether nothing passes for the sake of live traffic."""
        return self._stopped

    @property
    def share(self) -> float:
        """How much of the full rate passes now: 0 to 1."""
        return 0.0 if self._stopped else self._share

    def heed(self, wait: float) -> None:
        """Live events wait for so many seconds now. To be told about once a second."""
        if self._max_wait is None:
            return
        if wait >= self._max_wait:
            self._stopped, self._share = True, _LEAST
        elif wait >= self._max_wait / 2:
            # Once stopped it goes on only when they wait for less than half of it: else it would stop and go with every look.
            self._share = max(_LEAST, self._share / 2)
        else:
            self._stopped, self._share = False, min(1.0, self._share + _STEP)

    def allow(self, now: float, most: int) -> int:
        """How many of `most` may pass now; they're taken."""
        if self._stopped:
            self._at = now
            return 0
        if self._rate is None and self._share >= 1:
            self._at = now
            return most
        self._add(max(0.0, now - self._at))
        self._at = now
        passing = min(most, int(self._tokens))
        self._tokens -= passing
        return passing

    def _add(self, seconds: float) -> None:
        # Without a rate of its own, a share of what a busy lane takes: some thousands a second.
        full = self._rate if self._rate is not None else 5000.0
        rate = full * self._share
        self._tokens = min(max(1.0, rate / 10), self._tokens + seconds * rate)


class Failing:
    """Says when too many of the last hundred outcomes are failures. `bound` is a share; None: never."""

    def __init__(self, bound: float | None, ended: int = 0, failed: int = 0) -> None:
        self._bound = bound
        self._seen = deque([(ended, failed)])

    def note(self, ended: int, failed: int) -> bool:
        """So many have an outcome by now, and so many of them failed. True: more than the bound of a hundred, among the last hundred (or
        among as many as there are: that many failures aren't waited for)."""
        self._seen.append((ended, failed))
        # The last one at or before the window's beginning stays: what came between two looks counts as one.
        while len(self._seen) > 2 and self._seen[1][0] <= ended - _WINDOW:
            self._seen.popleft()
        before, failed_before = self._seen[0]
        looked_at = max(_WINDOW, ended - before)
        return self._bound is not None and failed - failed_before > self._bound * looked_at
