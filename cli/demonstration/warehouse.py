"""The system downstream of the handlers: it applies effects, remembers every one of them, and can be down for a while."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import uvicorn

from hooktape.guest import Guest


class Effect(msgspec.Struct, frozen=True):
    """What a handler did here: for which webhook, to which resource, at which version (microseconds)."""

    webhook_id: str
    resource: str
    version: int | None
    source: str


@dataclass(slots=True)
class Warehouse:
    """Effects in the order in which they were applied; `refused` counts those that came while it was down."""

    effects: list[Effect] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    down: frozenset[str] = frozenset()
    """Kinds of resource that are refused now, as in an outage of one department."""
    url: str = ""

    async def app(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        effect = msgspec.json.decode(body, type=Effect)
        headers = [(b"content-length", b"0")]
        if effect.resource.partition("/")[0] in self.down:
            self.refused[effect.webhook_id] += 1
            status = 503
            headers.append((b"retry-after", b"1"))
        else:
            self.effects.append(effect)
            status = 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    @property
    def recovered(self) -> int:
        """Webhooks that were refused at least once and applied later."""
        return len(self.refused.keys() & {effect.webhook_id for effect in self.effects})


@asynccontextmanager
async def running() -> AsyncIterator[Warehouse]:
    """A warehouse that answers on a free loopback port."""
    warehouse = Warehouse()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    warehouse.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = Guest(uvicorn.Config(warehouse.app, interface="asgi3", http="httptools", lifespan="off", log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield warehouse
    finally:
        server.should_exit = True
        await serving
