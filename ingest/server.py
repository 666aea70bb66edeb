"""The HTTP server of ingest: webhooks by a protocol of their own, FastAPI for /livez, /readyz and /metrics beside it.

    async with running(settings) as url: …          # inside another program, a test, the demo
    await serve(settings, host, port, stop=event)   # a process of its own
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI, Response

from hooktape import log, metrics
from hooktape.errors import SettingsError
from hooktape.guest import Guest
from hooktape.ingest.receiver import Receiver
from hooktape.ingest.routes import Routes
from hooktape.ingest.watch import Watch
from hooktape.settings import Settings
from hooktape.tape.publisher import Publisher
from hooktape.tape.wire import Wire

if TYPE_CHECKING:
    from hooktape.ingest.protocol import WebhookProtocol

HOST, PORT = "127.0.0.1", 8000
# Longer than the 60 s for which load balancers keep their side: the one that closes first must not be the one that answers.
_KEEP_ALIVE = 75
# Over the longest request (4.5 s).
_DRAIN_SECONDS = 5
# librdkafka settles every record within 3 s.
_FLUSH_SECONDS = 3.0
_BACKLOG = 2048
_log = log.get("hooktape.ingest")


def _rest(receiver: Receiver, watch: Watch) -> FastAPI:
    api = FastAPI(title="Hooktape ingest", docs_url=None, redoc_url=None, openapi_url=None)

    @api.get("/livez")
    async def livez() -> Response:
        return Response("ok\n", media_type="text/plain")

    @api.get("/readyz")
    async def readyz() -> Response:
        found = await watch.readiness(receiver.failing, receiver.stopping)
        lines = ["ready" if found.ready else "not ready", *found.problems, *(f"warning: {text}" for text in found.warnings)]
        return Response("\n".join(lines) + "\n", 200 if found.ready else 503, media_type="text/plain")

    @api.get("/metrics")
    async def exposition() -> Response:
        body, content_type = metrics.exposition()
        return Response(body, headers={"content-type": content_type})

    return api


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Raises SettingsError when the address can't be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = f"ingest can't listen on {host} port {port}: {error.strerror}"
        raise SettingsError(f"{why}. Choose another --host or --port.") from None


def url_of(listener: socket.socket) -> str:
    """Where webhooks go."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.asynccontextmanager
async def running(
    settings: Settings, host: str = HOST, port: int = 0, *, listener: socket.socket | None = None
) -> AsyncIterator[str]:
    """An ingest that serves within the block; gives its address (`http://127.0.0.1:54321`), and stops gracefully at its end.

    Raises SettingsError (no secret, no httptools, the address is taken), TopicMissing, TapeUnavailable.
    """
    settings.require("shopify_secrets", "webhooks are verified with it")
    protocol = _protocol()
    publisher = Publisher(settings)
    try:
        routes = Routes(settings.topic_prefix)
        watch = Watch(settings, routes, publisher)
        await watch.load()
        receiver = Receiver(settings, publisher, Wire(settings), routes)
        listener = listener or listen(host, port)
        server = Guest(uvicorn.Config(
            _rest(receiver, watch), http=protocol.for_receiver(receiver), ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_DRAIN_SECONDS, backlog=_BACKLOG,
        ))  # fmt: skip
        chores = [asyncio.create_task(receiver.run()), asyncio.create_task(watch.run())]
        url = url_of(listener)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await server.accepting.wait()
            _log.info("listening for webhooks", url=f"{url}/webhooks")
            yield url
        finally:
            receiver.stopping = True
            server.should_exit = True
            await serving
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            watch.close()
            _log.info("stopped listening", url=f"{url}/webhooks")
    finally:
        await publisher.close(_FLUSH_SECONDS)


async def serve(
    settings: Settings, host: str = HOST, port: int = PORT, *,
    stop: asyncio.Event | None = None, listener: socket.socket | None = None,
) -> None:  # fmt: skip
    """Serves until `stop` is set, or for ever; then stops accepting, answers what is in flight, flushes. Raises as `running`."""
    async with running(settings, host, port, listener=listener):
        await (stop or asyncio.Event()).wait()


def _protocol() -> "type[WebhookProtocol]":
    try:
        from hooktape.ingest.protocol import WebhookProtocol
    except ImportError as error:
        raise SettingsError(
            f"ingest needs httptools, and it can't be imported ({error}): uvicorn's other parser lets smuggled requests "
            "through. Run `pip install httptools`."
        ) from None
    return WebhookProtocol
