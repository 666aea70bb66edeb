"""uvicorn's httptools protocol with the bounds that it lacks: size, number and time of headers, time of bodies.

Measured on it without them: a megabyte of headers, 20,000 headers and requests that stay half sent are all taken
(research: reliability §6). Nothing here costs a request that arrives in one piece: the timers exist only while the rest of one
is awaited.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hooktape.ingest.outcome import Outcome

HEADER_BYTES = 32 * 1024  # four times what large proxies add up to; Shopify's are under 2 KiB
HEADER_COUNT = 100
HEADER_SECONDS = 5.0  # Shopify's own limit for a whole request
LATE = "hooktape.late"
"""Set in a request's scope when its body is late; the application is woken by an (often empty) message, and answers."""
BODY_SECONDS = 1.5  # with 3 s for Kafka, the whole stays below Shopify's 5 s


class BoundedProtocol(HttpToolsProtocol):
    """One connection. What it refuses by itself goes to `refused`, so that it's counted like everything else."""

    refused: Callable[[Outcome], None] = staticmethod(lambda outcome: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._head = True  # headers are awaited or under way
        self._begun = False  # a request is under way
        self._head_bytes = 0
        self._chunk = 0  # bytes of the read that's being parsed
        self._tail = 0  # at most so many bytes of the head came in one read with the request before it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEADER_SECONDS, self._headers_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._chunk = len(data)
        if self._head:
            self._head_bytes += self._chunk
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(Outcome.MALFORMED)
            return
        except httptools.HttpParserUpgrade:
            pass  # nothing is ever upgraded: the request is answered like any other
        if not self._begun:
            self._tail = self._head_bytes = 0
            if self._timer is not None:
                self._disarm()
        elif self._head:
            if self._head_bytes > HEADER_BYTES:
                self._refuse(Outcome.HEADERS_TOO_LARGE)
            elif self._timer is None:
                self._timer = self.loop.call_later(HEADER_SECONDS, self._headers_late)
        elif self._timer is None:
            self._timer = self.loop.call_later(BODY_SECONDS, self._body_late)

    def on_message_begin(self) -> None:
        self._begun = self._head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # After the head these are a chunked body's trailers: they may not pose as headers, nor pile up.
        if self._head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head = False
        self._disarm()
        size, self._head_bytes = self._head_bytes + self._tail, 0
        # That counts all bytes read so far, the body's and the last request's too; only when it's too large the head is measured.
        if len(self.headers) > HEADER_COUNT or (
            size > HEADER_BYTES and len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers) > HEADER_BYTES
        ):
            self._refuse(Outcome.HEADERS_TOO_LARGE)
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._begun, self._head, self._tail = False, True, self._chunk
        if not self.transport.is_closing():
            super().on_message_complete()

    def _headers_late(self) -> None:
        self._timer = None
        if self._begun:
            self._refuse(Outcome.SLOW_HEADERS)
        else:
            self.transport.close()  # connected and never said a word

    def _body_late(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            # Answered before the body ended (413, 401): the rest was read and dropped, so that the client could see the answer.
            self.transport.close()
        else:
            self.cycle.scope[LATE] = True  # type: ignore[literal-required]
            self.cycle.message_event.set()

    def _refuse(self, outcome: Outcome) -> None:
        self._disarm()
        if not self.transport.is_closing():
            self.refused(outcome)
            self.transport.write(outcome.raw())
            self.transport.close()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
