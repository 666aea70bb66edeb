"""Retry records that aren't due: kept per partition in the order of the topic, which is the order of their due times. Pure.

Pausing a partition throws its prefetch away, so a partition is paused once per wait and resumed when it has run empty,
never per record. A short wait isn't worth a pause.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from hooktape.consumers.task import Home

T = TypeVar("T")
# Prefetching on through a wait shorter than this costs less than fetching again.
_SHORT = 1.0
# Records kept per partition before it's paused all the same.
_MOST = 500


class Waits(Generic[T]):
    """What waits in each assignment; `now` and due times in seconds of any one clock."""

    def __init__(self) -> None:
        self._queues: dict[Home, deque[tuple[float, T]]] = {}
        self._paused: set[Home] = set()

    def add(self, home: Home, due: float, record: T) -> None:
        """A record was fetched."""
        self._queues.setdefault(home, deque()).append((due, record))

    def take(self, now: float) -> Iterator[T]:
        """The records that are due, in order; a record behind one that isn't waits with it."""
        for queue in self._queues.values():
            while queue and queue[0][0] <= now:
                yield queue.popleft()[1]

    def to_pause(self, now: float) -> list[Home]:
        """Assignments to stop fetching from now."""
        found = [home for home, queue in self._queues.items()
                 if home not in self._paused and queue and (queue[0][0] - now > _SHORT or len(queue) >= _MOST)]  # fmt: skip
        self._paused.update(found)
        return found

    def to_resume(self) -> list[Home]:
        """Assignments to fetch from again now."""
        found = [home for home in self._paused if not self._queues.get(home)]
        self._paused.difference_update(found)
        return found

    def wake_at(self) -> float | None:
        """When the next record is due; None: nothing waits."""
        return min((queue[0][0] for queue in self._queues.values() if queue), default=None)

    def drop(self, homes: Iterable[Home]) -> None:
        """Forgets assignments that have ended."""
        for home in homes:
            self._queues.pop(home, None)
            self._paused.discard(home)
