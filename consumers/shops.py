"""Whose turn it is: the shops of one handler take turns, and none takes all of its slots. Pure.

A shop that imports its catalogue sends tens of thousands of events; in one queue, every other shop's next order would wait
behind them. So ready events queue by shop and the shops take turns, as flows do in fair queueing (Nagle, RFC 970); and since
a handler that has started isn't stopped for a newcomer, a shop may hold only so many slots at once.
"""

from collections import deque
from collections.abc import Iterator

from hooktape.consumers.task import Bounds, Task


def share(concurrency: int) -> int:
    """How many of a handler's slots one shop may hold where `per_shop` doesn't say: all but a quarter, and at least one.

    The quarter is what other shops find free while one floods the handler. Keeping more back would slow down the flood's own
    shop, which often is the only one with work; keeping less would leave the usual 16 slots with too few for several others.
    """
    return max(1, concurrency - -(-concurrency // 4))


class Places:
    """How many events of a handler run, by shop, and which shops may start no more."""

    __slots__ = ("_first", "_limit", "_share", "full", "running", "shops")

    def __init__(self, handler: Bounds) -> None:
        # What says nothing of shops (`per_shop` is App.on's) gets the share. With one shop only there is nobody to keep slots for.
        said: int | None = getattr(handler, "per_shop", None)
        self._limit = said or handler.concurrency
        self._share = said or share(handler.concurrency)
        self._first: str | None = None
        self.running = 0
        self.shops: dict[str, int] = {}
        """Shop → its events that run; no shop without any."""
        self.full: set[str] = set()
        """Shops that hold all that they may."""

    def enter(self, shop: str) -> None:
        """An event starts."""
        self.running += 1
        count = self.shops[shop] = self.shops.get(shop, 0) + 1
        if self._limit != self._share and shop != self._first:
            self._meet(shop)
        if count >= self._limit:
            self.full.add(shop)

    def leave(self, shop: str) -> bool:
        """An event's slot is free; whether its shop was full and isn't any more."""
        self.running -= 1
        count = self.shops[shop] - 1
        if count:
            self.shops[shop] = count
        else:
            del self.shops[shop]
        if shop in self.full and count < self._limit:
            self.full.remove(shop)
            return True
        return False

    def _meet(self, shop: str) -> None:
        """A second shop has events here: from now on none takes everything."""
        if self._first is None:
            self._first = shop
        else:
            self._limit = self._share
            self.full.update(name for name, count in self.shops.items() if count >= self._limit)


class Turns:
    """Ready events of one handler and one rank, in order within each shop."""

    __slots__ = ("_aside", "_queues", "_row")

    def __init__(self) -> None:
        self._queues: dict[str, deque[Task]] = {}
        self._row: deque[str] = deque()
        self._aside: set[str] = set()

    def __iter__(self) -> Iterator[Task]:
        return (task for queue in self._queues.values() for task in queue)

    def add(self, task: Task) -> None:
        """An event is ready."""
        shop = task.event.shop
        queue = self._queues.get(shop)
        if queue is None:
            self._queues[shop] = deque((task,))
            if shop not in self._aside:
                self._row.append(shop)
        else:
            queue.append(task)

    def take(self, full: set[str]) -> Task | None:
        """The next event, of the shop whose turn it is; None when all that's ready is of shops in `full`."""
        row = self._row
        while row:
            shop = row[0]
            if shop in full:
                self._aside.add(row.popleft())
                continue
            queue = self._queues[shop]
            task = queue.popleft()
            if queue:
                row.rotate(-1)
            else:
                del self._queues[shop]
                row.popleft()
            return task
        return None

    def readmit(self, shop: str) -> None:
        """`shop` isn't full any more."""
        if shop in self._aside:
            self._aside.remove(shop)
            if shop in self._queues:
                self._row.append(shop)

    def remove(self, task: Task) -> None:
        """Takes out an event that is ready."""
        shop = task.event.shop
        queue = self._queues[shop]
        queue.remove(task)
        if not queue:
            del self._queues[shop]
            if shop not in self._aside:
                self._row.remove(shop)
