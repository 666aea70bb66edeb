"""The HTTP server of the API.

    async with running(settings) as url: …                 # inside another program or a test
    await serve(settings, host, port, stop=event)          # a process of its own
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn

from hooktape import log
from hooktape.errors import SettingsError
from hooktape.guest import Guest
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.api import access
from hooktape.replayer.api.app import create_app
from hooktape.replayer.api.desk import Shops
from hooktape.replayer.api.routes import PREFIX
from hooktape.settings import Settings

HOST, PORT = "127.0.0.1", 8010
# Longer than the 60 s for which load balancers keep their side: the one that closes first must not be the one that answers.
_KEEP_ALIVE = 75
# Requests in flight end; streams of progress are told to come back.
_DRAIN_SECONDS = 5
_log = log.get("hooktape.api")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Raises SettingsError when the address can't be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(f"The API can't listen on {host} port {port}: {error.strerror}. Choose another --host or --port.") from None
    # Inherited by its connections. asyncio leaves it out on sockets that it hasn't made, and each answer would take 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextlib.asynccontextmanager
async def running(settings: Settings, host: str = HOST, port: int = 0, *, shops: Shops | None = None) -> AsyncIterator[str]:
    """An API that serves within the block; gives its address (`http://127.0.0.1:54321/api/v1`), and stops gracefully at its end. `shops`
    as in `create_app`.

    Raises SettingsError (no Kafka is named, others could connect and there's no token, no httptools, the address is taken),
    LedgerUnavailable.
    """
    settings.require("kafka", "the API reads and replays what's there")
    try:
        from hooktape.replayer.api.protocol import BoundedProtocol
    except ImportError as error:
        raise SettingsError(f"The API needs httptools, and it can't be imported ({error}): uvicorn's other parser lets smuggled requests "
                            "through. Run `pip install httptools`.") from None  # fmt: skip
    with Ledger.open(settings.ledger_url) as ledger:
        access.check_address(settings, ledger, host)
    listener = listen(host, port)
    app = create_app(settings, local=access.is_loopback(host), shops=shops)
    server = Guest(uvicorn.Config(
        app, http=BoundedProtocol, ws="none", lifespan="on", log_config=None, access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE, timeout_graceful_shutdown=_DRAIN_SECONDS,
    ))  # fmt: skip
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    name, number = listener.getsockname()[:2]
    url = f"http://{f'[{name}]' if ':' in name else name}:{number}{PREFIX}"
    try:
        await server.accepting.wait()
        _log.info("listening", url=url, tokens=not access.is_loopback(host))
        yield url
    finally:
        app.state.desk.stopping = True
        server.should_exit = True
        await serving
        _log.info("stopped listening", url=url)


async def serve(settings: Settings, host: str = HOST, port: int = PORT, *, shops: Shops | None = None,
                stop: asyncio.Event | None = None) -> None:  # fmt: skip
    """Serves until `stop` is set, or for ever; then answers what is in flight, and leaves jobs to be resumed. Raises as `running`."""
    async with running(settings, host, port, shops=shops):
        await (stop or asyncio.Event()).wait()
