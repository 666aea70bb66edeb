"""`--forward URL`: delivers events over HTTP as Shopify did, so that an existing app in any language is a handler.

Body and Shopify headers are the original ones, so the app's own signature check passes. Beside them stand
`Hooktape-Attempt`, `Hooktape-Replay-Id` (on a replay) and `Hooktape-Source` (where Shopify never sent it).

    2xx handled · 410 dead at once · 429, or 503 with Retry-After: the endpoint cools · anything else is tried again
"""

import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import httpx

from hooktape import __version__
from hooktape.consumers.app import App
from hooktape.consumers.classify import Answered, retry_after
from hooktape.errors import UsageError
from hooktape.schemas.event import Event
from hooktape.schemas.signature import sign
from hooktape.settings import Settings
from hooktape.times import iso

# Shopify itself hangs up after 5 s; an app behind a queue may take longer, and gets what a handler gets.
_TIMEOUT = httpx.Timeout(25.0, connect=5.0)
# As much of an answer as an error shows. An endless one must not fill the memory.
_SHOWN, _READ = 300, 64 * 1024


class Forwarder:
    """A handler that posts to `url`. One client, made on first use, keeps connections alive; `close` it on the same loop.

    Redirects aren't followed and proxy variables aren't heeded: the target comes from the configuration alone. Raises
    UsageError for an address that isn't http(s).
    """

    __qualname__ = "forward"

    def __init__(self, url: str, settings: Settings, concurrency: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--forward {url!r}: write a whole address, as in http://localhost:3000/webhooks.")
        self._url, self._concurrency = url, concurrency
        self._secret = settings.shopify_secrets[0].reveal() if settings.shopify_secrets else None
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, event: Event) -> None:
        if self._client is None:
            limits = httpx.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
            self._client = httpx.AsyncClient(timeout=_TIMEOUT, limits=limits, follow_redirects=False, trust_env=False)
        async with self._client.stream("POST", self._url, content=event.payload, headers=headers_of(event, self._secret)) as answer:
            body = b""
            async for part in answer.aiter_raw():
                body += part
                if len(body) >= _READ:
                    break
            if not answer.is_success:
                text = body[:_SHOWN].decode(errors="replace")
                after = retry_after(answer.headers.get("retry-after"), time.time())
                raise Answered(f"the endpoint answered {answer.status_code}: {text}", answer.status_code, after)

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

