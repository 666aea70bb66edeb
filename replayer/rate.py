"""A token bucket: pure, on the clock that it's given."""


class Bucket:
    """Lets `rate` a second through, and after a quiet time at once what a tenth of a second holds (at least one)."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate / 10)
        self._tokens = self._most
        self._at = now

    def take(self, now: float) -> float:
        """0.0 when one may pass now (it's taken), else the seconds to wait before asking again."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate
