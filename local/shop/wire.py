"""HTTP/1.1 POSTs over kept-alive connections, on asyncio and httptools.

Not httpx: with 5 KB bodies and 32 at once it took 2.5 ms of CPU a request here (its core alone, without the client around
it, 2.5 ms too), and a shop at 500 webhooks a second shares two cores with all that it is there to exercise.
"""

import asyncio
import ssl
from typing import cast
from urllib.parse import urlsplit

import httptools

from hooktape.errors import UsageError


class _Connection(asyncio.Protocol):
    """One connection: one request at a time, its status as a future."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] | None = None
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have asyncio.Transport's methods without being one.
        self._transport, self.open = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(ConnectionError(f"the answer isn't HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionResetError("the connection was closed before the answer"))

    def on_message_complete(self) -> None:
        status, answer = self._parser.get_status_code(), self.answer
        if not self._parser.should_keep_alive():
            self.close()
        self._parser = httptools.HttpResponseParser(self)
        if answer is not None and not answer.done():
            answer.set_result(status)

    async def post(self, head: bytes, body: bytes) -> int:
        assert self._transport is not None
        self.answer = asyncio.get_running_loop().create_future()
        # One write, so that head and body leave in one segment where they fit.
        self._transport.write(head + body)
        return await self.answer

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def _end(self, error: Exception) -> None:
        self.close()
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)


class Poster:
    """Posts to one address. `connect` and `total` are time-outs in seconds (Shopify's: 1 and 5).

    https verifies the certificate. Raises UsageError for an address that is neither http nor https.
    """

    def __init__(self, url: str, connect: float = 1.0, total: float = 5.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no address to post to. Write it like http://127.0.0.1:8000/webhooks.")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
        self._connect, self._total = connect, total
        self._idle: list[_Connection] = []

    async def post(self, headers: str, body: bytes) -> int:
        """The status that `body` got; redirects aren't followed. `headers` are lines that end in CR LF.

        Raises OSError (TimeoutError among them) when no answer came in time or the connection broke.
        """
        head = f"{self._head}{headers}Content-Length: {len(body)}\r\n\r\n".encode("latin-1")
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._total):
                connection = self._kept() or await self._opened()
                status = await connection.post(head, body)
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        if connection.open:
            self._idle.append(connection)
        return status

    def close(self) -> None:
        """Closes the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> _Connection | None:
        while self._idle:
            # The last one used is the least likely to have been closed by the other side.
            if (connection := self._idle.pop()).open:
                return connection
        return None

    async def _opened(self) -> _Connection:
        async with asyncio.timeout(self._connect):
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._ssl)
        return connection
