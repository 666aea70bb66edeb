"""An API on a real socket, over a real tape and ledger."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from hooktape.replayer.api.desk import Shops
from hooktape.replayer.api.server import running
from hooktape.settings import Settings


class Served(threading.Thread):
    """The server in a thread, as a process of its own would run it."""

    def __init__(self, settings: Settings, host: str = "127.0.0.1", shops: Shops | None = None) -> None:
        super().__init__(daemon=True)
        self._settings, self._host, self._shops = settings, host, shops
        self._up = threading.Event()
        self._end: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self.url = ""
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - whoever started it raises it
            self.error = error
        finally:
            self._up.set()

    async def _serve(self) -> None:
        stop = asyncio.Event()
        async with running(self._settings, self._host, shops=self._shops) as url:
            self.url, self._end = url, (asyncio.get_running_loop(), stop)
            self._up.set()
            await stop.wait()

    def __enter__(self) -> "Served":
        self.start()
        assert self._up.wait(30)
        if self.error:
            raise self.error
        return self

    def __exit__(self, *_: object) -> None:
        assert self._end
        self._end[0].call_soon_threadsafe(self._end[1].set)
        self.join(30)
        assert not self.is_alive()

    @property
    def origin(self) -> str:
        return self.url.removesuffix("/api/v1")


@contextmanager
def served(settings: Settings, host: str = "127.0.0.1", shops: Shops | None = None) -> Iterator[httpx.Client]:
    """A client of an API that serves within the block."""
    with Served(settings, host, shops) as server, httpx.Client(base_url=server.url.replace("0.0.0.0", "127.0.0.1"), timeout=40) as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Callable[..., httpx.Client]]:
    """Starts an API and gives a client of it; all end with the test."""
    with ExitStack() as stack:
        yield lambda settings, host="127.0.0.1", shops=None: stack.enter_context(served(settings, host, shops))
