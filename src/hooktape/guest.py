"""uvicorn inside of a program that has its own signals and its own end."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn


class Guest(uvicorn.Server):
    """uvicorn's own server installs signal handlers, and raises the signals again at its end: here they belong to the program around it.

    `accepting` is set once it takes connections.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
