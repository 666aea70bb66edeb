"""Time as a worker sees it. The module `time` is one; a simulation's moves only when it's told to."""

from typing import Protocol


class Clock(Protocol):
    """Both in seconds."""

    def time(self) -> float:
        """Since the epoch; it may jump."""

    def monotonic(self) -> float:
        """Since some moment; it never runs backwards."""
