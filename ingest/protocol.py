"""uvicorn's httptools protocol with webhooks taken out of it, and with the bounds that it lacks: size, number and time of headers,
time of bodies.

Measured on it without them: a megabyte of headers, 20,000 headers and requests that stay half sent are all taken. Nothing here
costs a request that arrives in one piece: the timers exist only while the rest of one is awaited.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hooktape.ingest.exchange import Exchange
from hooktape.ingest.outcome import Outcome
from hooktape.ingest.receiver import Receiver

_PATH = b"/webhooks"

HEADER_BYTES = 32 * 1024  # four times what large proxies add up to; Shopify's are under 2 KiB
HEADER_COUNT = 100
HEADER_SECONDS = 5.0  # Shopify's own limit for a whole request
BODY_SECONDS = 1.5  # with 3 s for Kafka, the whole stays below Shopify's 5 s


_HEADS = {outcome: outcome.head() for outcome in Outcome}
_TEXTS = {outcome: outcome.text.encode() for outcome in Outcome}


class WebhookProtocol(HttpToolsProtocol):
    """One connection. Webhooks go to the `receiver` of the class that `for_receiver` makes, all else to the ASGI application."""

    receiver: Receiver

    @classmethod
    def for_receiver(cls, receiver: Receiver) -> type["WebhookProtocol"]:
        """The protocol class of one server, as uvicorn takes it."""
        return type(cls.__name__, (cls,), {"receiver": receiver})

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
        cycle: object = self.cycle
        if isinstance(cycle, Exchange):
            cycle.lost()
        # Their turn never comes: what they hold of bodies would count for ever.
        for waiting, _ in self.pipeline:
            pending: object = waiting
            if isinstance(pending, Exchange):
                pending.lost()
        self.pipeline.clear()
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
        # As sent: `/%77ebhooks` is no address that anyone was given.
        if self.url.startswith(_PATH) and self.url[len(_PATH) : len(_PATH) + 1] in (b"", b"/", b"?"):
            self._take_webhook()
        else:
            super().on_headers_complete()

    def _take_webhook(self) -> None:
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        exchange = Exchange(self, self.receiver, self.parser.get_method(), self.headers, keep_alive, self.expect_100_continue)
        before = self.cycle
        self.cycle = exchange  # type: ignore[assignment]
        if before is None or before.response_complete:
            exchange.begin()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            # Not here: this is called from within the answer before it, and thousands of refused requests may wait in a row.
            self.loop.call_soon(self._begin, cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _begin(self, exchange: Exchange) -> None:
        if self.transport.is_closing():
            exchange.lost()
        else:
            exchange.begin()

    def on_body(self, body: bytes) -> None:
        cycle: object = self.cycle
        if isinstance(cycle, Exchange):
            cycle.take(body)
        elif not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._begun, self._head, self._tail = False, True, self._chunk
        cycle: object = self.cycle
        if isinstance(cycle, Exchange):
            cycle.end()
        elif not self.transport.is_closing():
            super().on_message_complete()

    def answer(self, outcome: Outcome, exchange: Exchange) -> None:
        """Writes an exchange's answer, and goes on with the connection or closes it."""
        if self.transport.is_closing():
            return
        if outcome.closes:
            exchange.keep_alive = False
        parts = [_HEADS[outcome]]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if exchange.keep_alive else b"connection: close\r\n\r\n")
        if not exchange.head_only:
            parts.append(_TEXTS[outcome])
        self.transport.write(b"".join(parts))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _headers_late(self) -> None:
        self._timer = None
        if self._begun:
            self._refuse(Outcome.SLOW_HEADERS)
        else:
            self.transport.close()  # connected and never said a word

    def _body_late(self) -> None:
        self._timer = None
        cycle: object = self.cycle
        if isinstance(cycle, Exchange) and not cycle.response_complete:
            cycle.late()
        else:
            # Answered before the body ended (413, 401): the rest was read and dropped, so that the client could see the answer.
            self.transport.close()

    def _refuse(self, outcome: Outcome) -> None:
        self._disarm()
        if not self.transport.is_closing():
            self.receiver.count(outcome)
            self.transport.write(b"".join((_HEADS[outcome], b"connection: close\r\n\r\n", _TEXTS[outcome])))
            self.transport.close()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
