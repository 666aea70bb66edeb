"""The breaker: after several failures in a row, requests are answered at once instead of each waiting for Kafka in vain.

    closed ──`threshold` failures in a row──▶ open ──`pause` over──▶ half open: one request tries
       ▲                                        ▲                         │
       └───────────── it succeeded ─────────────┼─────────────────────────┤
                                                └──────── it failed ──────┘
"""

from enum import Enum


class State(Enum):
    """See the drawing."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Permit(Enum):
    """What a request may do with Kafka; handed back with its verdict."""

    REQUEST = "request"
    PROBE = "probe"


class Breaker:
    """Pure: times are seconds of any one clock, handed in. Every permit is followed by one verdict."""

    def __init__(self, threshold: int, pause: float) -> None:
        self._threshold = threshold
        self._pause = pause
        self._failures = 0
        self._since = 0.0
        self.state = State.CLOSED

    def ask(self, now: float) -> Permit | None:
        """Whether a request may go to Kafka now. While open, the first one after the pause is the probe, and the only one."""
        if self.state is State.CLOSED:
            return Permit.REQUEST
        if self.state is State.OPEN and now - self._since >= self._pause:
            self.state = State.HALF_OPEN
            return Permit.PROBE
        return None

    def succeeded(self) -> None:
        """A record was acknowledged: Kafka is there, whoever asked."""
        self._failures = 0
        self.state = State.CLOSED

    def failed(self, permit: Permit, now: float) -> None:
        """A record wasn't acknowledged. What was under way when it opened tells nothing new while the probe is out."""
        self._failures += 1
        if permit is Permit.PROBE or (self.state is State.CLOSED and self._failures >= self._threshold):
            self.state = State.OPEN
            self._since = now

    def abandoned(self, permit: Permit) -> None:
        """A request told nothing about Kafka (its record was too large, say): a probe is given back."""
        if permit is Permit.PROBE and self.state is State.HALF_OPEN:
            self.state = State.OPEN
