"""What all requests share: the settings, a few connections to the ledger, a bounded pool of threads, the jobs that run here."""

import asyncio
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from hooktape.ledger.ledger import Ledger
from hooktape.replayer.api.access import Identity
from hooktape.replayer.api.problems import Refused
from hooktape.replayer.api.work import Work
from hooktape.replayer.proof import Present
from hooktape.settings import Settings

T = TypeVar("T")
Shops = Callable[[], AbstractAsyncContextManager[Present]]
"""Opens what asks the shops for their present state; it comes from outside, since the Admin API is the reconciler's."""
# SQLite serves one writer, PostgreSQL a hundred connections for everybody: a few that read side by side are enough for people.
_LEDGERS = 6
# More than the ledgers, so that what waits for Kafka alone doesn't wait for a thread.
_THREADS = 12
# What waits beyond that would only time out: it's told so at once.
_QUEUE = 100
# Streams, each of which holds a connection; browsers open six to a server.
_STREAMS = 100
# Under the 60 s for which load balancers wait; Kafka's own requests end after 10.
_SECONDS = 30.0


class Ledgers:
    """Connections that requests borrow, opened when they're first needed."""

    def __init__(self, url: str, size: int = _LEDGERS) -> None:
        self._url = url
        self._slots: queue.LifoQueue[Ledger | None] = queue.LifoQueue()
        for _ in range(size):
            self._slots.put(None)
        self._size = size

    @contextmanager
    def borrowed(self, patience: float = _SECONDS / 2) -> Iterator[Ledger]:
        """One for a block. Raises LedgerUnavailable, Refused when all are in use for `patience` seconds."""
        try:
            ledger = self._slots.get(timeout=patience)
        except queue.Empty:
            raise Refused("busy", "All connections to the ledger are in use by slow requests.") from None
        try:
            ledger = ledger or Ledger.open(self._url)
            yield ledger
        finally:
            self._slots.put(ledger)

    def close(self) -> None:
        """Closes those that aren't in use; waits for none."""
        for _ in range(self._size):
            try:
                ledger = self._slots.get_nowait()
            except queue.Empty:
                return
            if ledger is not None:
                ledger.close()


class Desk:
    """One of it per application. `local`: only this machine can connect, so whoever sits at it needs no token. `shops` is None where
    no shop can be asked."""

    def __init__(self, settings: Settings, local: bool, shops: Shops | None = None) -> None:
        self.settings = settings
        self.local = local
        self.shops = shops
        self.ledgers = Ledgers(settings.ledger_url)
        self.work = Work(settings)
        self._threads = ThreadPoolExecutor(_THREADS, "hooktape-api")
        self._asked = 0
        self.streams = 0
        self.stopping = False

    async def do(self, work: Callable[[], T], seconds: float = _SECONDS) -> T:
        """Runs what blocks in a thread. Raises Refused when it takes too long (the thread ends by itself), or too many wait."""
        if self._asked >= _THREADS + _QUEUE:
            raise Refused("busy", "Too many requests wait already.")
        self._asked += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        running.add_done_callback(self._ended)
        try:
            return await asyncio.wait_for(asyncio.shield(running), seconds)
        except TimeoutError:
            raise Refused("timeout", f"It took longer than {seconds:g} s.") from None

    def begin_stream(self) -> None:
        """Counts a stream that begins; whoever ends it takes one off `streams`. Raises Refused for too many."""
        if self.streams >= _STREAMS:
            raise Refused("busy", f"{_STREAMS} streams are open already.")
        self.streams += 1

    def _ended(self, running: "asyncio.Future[T]") -> None:
        self._asked -= 1
        if not running.cancelled():
            running.exception()  # looked at: nobody may wait for it any more

    def close(self) -> None:
        """Ends what runs here; jobs stay in the ledger, and go on with whoever adopts them."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.ledgers.close()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as the functions of the routes see it."""

    desk: Desk
    by: Identity

    @property
    def settings(self) -> Settings:
        return self.desk.settings

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """A connection to the ledger. Raises LedgerUnavailable, Refused."""
        with self.desk.ledgers.borrowed() as ledger:
            yield ledger

    @property
    def now(self) -> float:
        return time.time()


async def _asked(request: Request) -> Asked:
    found: Asked = request.state.ask
    return found


Ask = Annotated[Asked, Depends(_asked)]
"""The request, in the signature of a route's function; who asks has been let in by then."""
