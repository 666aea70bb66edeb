"""`--forward URL`: delivers events over HTTP as Shopify did, so that an existing app in any language is a handler.

Body and Shopify headers are the original ones, so the app's own signature check passes. Beside them stand
`Hooktape-Attempt`, `Hooktape-Replay-Id` (on a replay) and `Hooktape-Source` (where Shopify never sent it).

    2xx handled · 410 dead at once · 429, or 503 with Retry-After: the endpoint cools · anything else is tried again
    no answer or 5xx to several events in a row: the circuit opens, events wait in their lanes, a probe looks now and then
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import httpx

from hooktape import __version__, log, metrics
from hooktape.consumers.app import App
from hooktape.consumers.circuit import Circuit
from hooktape.consumers.classify import Answered, Unanswered, retry_after
from hooktape.errors import UsageError
from hooktape.schemas.event import Event
from hooktape.schemas.signature import sign
from hooktape.settings import Settings
from hooktape.times import iso

_log = log.get("hooktape.consumers")
# Shopify itself hangs up after 5 s; an app behind a queue may take longer, and gets what a handler gets.
_TIMEOUT = httpx.Timeout(25.0, connect=5.0)
# As much of an answer as an error shows. An endless one must not fill the memory.
_SHOWN, _READ = 300, 64 * 1024
# The status has said it all; the rest is read so that the connection can be used again, which isn't worth waiting longer for.
_DRAIN = 1.0
# Errors in which the endpoint never saw the request.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Forwarder:
    """A handler that posts to `url`. One client, made on first use, keeps connections alive; `close` it on the same loop.

    Redirects aren't followed and proxy variables aren't heeded: the target comes from the configuration alone. `clock` gives
    seconds that don't run backwards. Raises UsageError for an address that isn't http(s).
    """

    __qualname__ = "forward"

    def __init__(self, url: str, settings: Settings, concurrency: int, circuit: Circuit | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--forward {url!r}: write a whole address, as in http://localhost:3000/webhooks.")
        self._url, self._concurrency = url, concurrency
        # For the log: an address may hold a password or a token.
        self._target = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
        self._secret = settings.shopify_secrets[0].reveal() if settings.shopify_secrets else None
        self._client: httpx.AsyncClient | None = None
        self._circuit, self._clock = circuit or Circuit(), clock

    async def __call__(self, event: Event) -> None:
        wait = self._circuit.enter(event.webhook_id, self._clock())
        if wait:
            raise Unanswered("the endpoint is down: nothing was sent", wait)
        try:
            refusal = await self._post(event)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError):
            self._circuit.abandoned(event.webhook_id)
            raise
        except httpx.TransportError as error:
            self._failed(event, error, None)
            raise
        except asyncio.CancelledError as error:
            if event.lapsed:  # the handler's time-out, and not the end of the worker
                with contextlib.suppress(Unanswered):
                    self._failed(event, error, None)
            raise
        except Exception:
            # A fault on this side, which tells nothing. Left as the probe, it would keep all others waiting though the endpoint is back.
            self._circuit.abandoned(event.webhook_id)
            raise
        if refusal is None or refusal.status < 500 or refusal.status == 501:
            self._answered()
        else:
            self._failed(event, refusal, refusal.after)
        if refusal is not None:
            raise refusal

    async def _post(self, event: Event) -> Answered | None:
        """None when the endpoint took it."""
        if self._client is None:
            limits = httpx.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
            self._client = httpx.AsyncClient(timeout=_TIMEOUT, limits=limits, follow_redirects=False, trust_env=False)
        # In the bytes in which they came: httpx takes a text for ASCII. White space at a value's end isn't its own (RFC 9110 §5.5).
        named = {name.encode(): value.strip(" \t").encode("latin-1", "replace") for name, value in headers_of(event, self._secret).items()}
        async with self._client.stream("POST", self._url, content=event.payload, headers=named) as answer:
            body = b""
            with contextlib.suppress(TimeoutError, httpx.TransportError):
                async with asyncio.timeout(_DRAIN):
                    async for part in answer.aiter_raw():
                        body += part
                        if len(body) >= _READ:
                            break
            if answer.is_success:
                return None
            text = body[:_SHOWN].decode(errors="replace")
            after = retry_after(answer.headers.get("retry-after"), time.time())
            return Answered(f"the endpoint answered {answer.status_code}: {text}", answer.status_code, after)

    def _answered(self) -> None:
        if self._circuit.open:
            _log.info("the endpoint answers again", target=self._target)
        self._circuit.answered()
        metrics.FORWARD_OPEN.set(0)

    def _failed(self, event: Event, error: BaseException, after: float | None) -> None:
        """Returns when the failure is the event's. Raises Unanswered when it's the endpoint's alone."""
        before = self._circuit.open
        wait = self._circuit.failed(event.webhook_id, not isinstance(error, _UNSENT), self._clock(), after)
        if self._circuit.open and not before:
            metrics.FORWARD_OPEN.set(1)
            _log.error("the endpoint is down: events wait in their lanes, one at a time looks whether it's back", target=self._target,
                       error=f"{type(error).__name__}: {error}"[:_SHOWN])  # fmt: skip
        if wait is not None:
            raise Unanswered(f"the endpoint is down: {type(error).__name__}", wait) from error

    async def close(self) -> None:
        """Ends the connections."""
        if self._client is not None:
            await self._client.aclose()


def headers_of(event: Event, secret: str | None) -> dict[str, str]:
    """The request's headers: Shopify's as they came, and ours.

    A synthetic event has no signature of Shopify's. With a secret it gets ours, so that the app's check passes, and
    `Hooktape-Source` says so.
    """
    named = {
        "x-shopify-topic": event.topic, "x-shopify-shop-domain": event.shop, "x-shopify-webhook-id": event.webhook_id,
        "x-shopify-event-id": event.event_id, "x-shopify-api-version": event.api_version,
        "x-shopify-triggered-at": iso(event.triggered_us) if event.triggered_us is not None else None,
        "x-shopify-hmac-sha256": event.hmac or (sign(event.payload, secret) if secret else None),
        "hooktape-attempt": str(event.attempt),
        "hooktape-replay-id": event.replay.id if event.replay else None,
        "hooktape-source": event.source if event.source != "webhook" else None,
    }  # fmt: skip
    found = {"content-type": "application/json", "user-agent": f"Hooktape/{__version__}"}
    return found | {name: value for name, value in named.items() if value is not None} | event.headers


def app(group: str, forwarder: Forwarder, topics: Iterable[str], concurrency: int) -> App:
    """An app whose only handler forwards `topics`. Raises SettingsError, UsageError."""
    made = App(group)
    # A little over the client's own time-outs, so that those speak first and say more.
    made.on(*topics, concurrency=concurrency, timeout=35.0)(forwarder)
    return made

