"""One webhook request and its answer, driven by the HTTP parser's callbacks: no task, no coroutine, no scope.

It stands where uvicorn keeps its `RequestResponseCycle`. An ASGI callable in that place was written first and measured: what
uvicorn and asyncio build for each request cost a fifth of the whole. Everything but webhooks is still ASGI.

    begin ──▶ reading ──whole body──▶ recording ──acknowledged or not──▶ answered
      └── refused by its headers ────────┴── too large, late, cut short ───▲
"""

import time
from asyncio import Future
from typing import TYPE_CHECKING

from hooktape import crash, metrics
from hooktape.ingest.headers import Claims, Raw
from hooktape.ingest.outcome import Outcome
from hooktape.schemas.event import Coordinates

if TYPE_CHECKING:
    from hooktape.ingest.protocol import WebhookProtocol
    from hooktape.ingest.receiver import Receiver, Recording


class _Nobody:
    """uvicorn wakes its cycle's task with this event; here there's none to wake."""

    def set(self) -> None:
        pass


class Exchange:
    """Made when a request's headers are complete; `begin` is called when its turn on the connection has come."""

    __slots__ = ("_body", "_claims", "_ended", "_held", "_post", "_raw", "_receiver", "_signature", "_started", "_wire",
                 "disconnected", "expects", "head_only", "keep_alive", "response_complete", "start")  # fmt: skip
    message_event = _Nobody()

    def __init__(self, wire: "WebhookProtocol", receiver: "Receiver", method: bytes, raw: Raw, keep_alive: bool, expects: bool) -> None:
        self._wire = wire
        self._receiver = receiver
        self._raw = raw
        self._post = method == b"POST"
        self.head_only = method == b"HEAD"
        self.keep_alive = keep_alive
        self.expects = expects
        self.response_complete = False
        self.disconnected = False
        self.start = time.perf_counter()
        self._started = False
        self._ended = False
        self._body: bytes | bytearray = b""
        self._held = 0
        self._claims: Claims | None = None
        self._signature = b""

    def begin(self) -> None:
        """Judges the headers; asks for the body, or takes what came of it while an earlier request was answered."""
        self._started = True
        admitted = self._receiver.admit(self._post, self._raw)
        if isinstance(admitted, Outcome):
            self._answer(admitted)
            return
        self._claims, self._signature = admitted
        if self.expects:
            self._wire.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._body:
            self._check()
        if self._ended and not self.response_complete:
            self._record()

    def take(self, part: bytes) -> None:
        """A part of the body."""
        if self.response_complete:
            return
        self._held += len(part)
        self._receiver.hold(len(part))
        if not self._body:
            self._body = part
        elif isinstance(self._body, bytearray):
            self._body += part
        else:
            self._body = bytearray(self._body + part)
        if self._started:
            self._check()

    def end(self) -> None:
        """The body is whole."""
        self._ended = True
        if self._started and not self.response_complete:
            self._record()

    def late(self) -> None:
        """The body's time is up."""
        self._answer(Outcome.SLOW_BODY)

    def lost(self) -> None:
        """The connection has ended. What is on its way to the tape goes on; there's just nobody to tell. What isn't is let go, a whole
        body whose turn hadn't come included."""
        if not (self._started and self._ended) and not self.response_complete:
            self._answer(Outcome.INCOMPLETE)

    def _check(self) -> None:
        refusal = self._receiver.bounds(self._held)
        if refusal is not None:
            self._answer(refusal)

    def _record(self) -> None:
        assert self._claims is not None
        crash.point("body-read")
        body = self._body if isinstance(self._body, bytes) else bytes(self._body)
        found = self._receiver.record(body, self._signature, self._claims)
        if isinstance(found, Outcome):
            self._answer(found)
        else:
            found.published.add_done_callback(lambda future: self._acknowledged(found, future))

    def _acknowledged(self, recording: "Recording", future: "Future[Coordinates]") -> None:
        outcome = self._receiver.verdict(recording, future)
        if outcome is Outcome.ACCEPTED:
            crash.point("acked-not-answered")
        self._answer(outcome)

    def _answer(self, outcome: Outcome) -> None:
        self.response_complete = True
        if self._held:
            self._receiver.hold(-self._held)
        self._body = b""
        self._receiver.count(outcome)
        metrics.REQUEST_SECONDS.observe(time.perf_counter() - self.start)
        self._wire.answer(outcome, self)
