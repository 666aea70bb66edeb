"""`--forward`: over real HTTP."""

import asyncio
import hmac
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from hooktape.consumers.forward import Forwarder, app, headers_of
from hooktape.consumers.options import Options
from hooktape.consumers.running import running
from hooktape.errors import UsageError
from hooktape.schemas.event import Replay
from hooktape.schemas.signature import sign
from hooktape.settings import Secret, Settings
from hooktape.tape import headers

from .conftest import Tape, make_event

KEY = "an old app's secret"


class Endpoint(BaseHTTPRequestHandler):
    """An app as one finds them: it checks the signature itself."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[dict[str, list[tuple[int, dict[str, str]]]]] = {}
    seen: ClassVar[list[tuple[str, dict[str, str], bytes, float]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        wid = self.headers["x-shopify-webhook-id"]
        self.seen.append((wid, {k.lower(): v for k, v in self.headers.items()}, body, time.monotonic()))
        expected = b64encode(hmac.digest(KEY.encode(), body, "sha256")).decode()
        status, extra = (self.answers[wid].pop(0) if self.answers.get(wid) else (200, {}))
        status = status if hmac.compare_digest(expected, self.headers["x-shopify-hmac-sha256"] or "") else 401
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def endpoint() -> Iterator[str]:
    Endpoint.answers, Endpoint.seen = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/webhooks"
    finally:
        server.shutdown()
        server.server_close()


def signed(number: int, wid: str, **fields: object):  # type: ignore[no-untyped-def]
    event = make_event(number, webhook_id=wid, api_version="2026-04", event_id="e-1", **fields)
    event.hmac = sign(event.payload, KEY)
    event.headers = {"x-shopify-triggered-at": "2026-11-20T15:00:00.123456789Z", "x-shopify-sub-topic": "x"}
    return event


def test_an_existing_app_gets_what_shopify_sent_and_its_answers_are_understood(settings: Settings, tape: Tape, options: Options) -> None:
    settings = replace(settings, shopify_secrets=(Secret(KEY),))
    synthetic = make_event(4, webhook_id="synthetic", source="reconciler")
    events = [signed(1, "fine"), signed(2, "gone"), signed(3, "later"), synthetic, signed(5, "moved"), signed(6, "missing")]
    with endpoint() as url:
        Endpoint.answers = {
            "gone": [(410, {})], "later": [(429, {"Retry-After": "0.4"})], "moved": [(302, {"Location": url})], "missing": [(404, {})],
        }  # fmt: skip
        tape.record(events)

        async def main() -> None:
            forwarder = Forwarder(url, settings, 4)
            async with running(app("g", forwarder, ("orders/*",), 4), settings, options=options) as worker:
                await worker.idle()
            await forwarder.close()

        asyncio.run(main())
    by_id: dict[str, list[tuple[dict[str, str], bytes, float]]] = {}
    for wid, got, body, at in Endpoint.seen:
        by_id.setdefault(wid, []).append((got, body, at))
    [(got, body, _)] = by_id["fine"]
    assert body == events[0].payload
    assert got["x-shopify-triggered-at"] == "2026-11-20T15:00:00.123456789Z"
    assert (got["x-shopify-topic"], got["x-shopify-shop-domain"]) == ("orders/create", "a.myshopify.com")
    assert (got["x-shopify-event-id"], got["x-shopify-api-version"], got["x-shopify-sub-topic"]) == ("e-1", "2026-04", "x")
    assert got["hooktape-attempt"] == "1"
    assert "hooktape-source" not in got
    [(got, _, _)] = by_id["synthetic"]
    assert got["hooktape-source"] == "reconciler"
    assert [len(by_id[wid]) for wid in ("gone", "later", "moved", "missing")] == [1, 2, 2, 2]
    first, second = by_id["later"]
    assert second[2] - first[2] >= 0.4
    assert second[0]["hooktape-attempt"] == "2"
    [dead] = tape.dead("g")
    assert headers.read(dead.headers)[headers.WEBHOOK_ID] == "gone"
    assert headers.read(dead.headers)[headers.DISPOSITION] == "permanent"


def test_a_replay_shows_its_id() -> None:
    event = signed(1, "w")
    event.replay = Replay("r1")
    assert headers_of(event, None)["hooktape-replay-id"] == "r1"
    assert "x-shopify-hmac-sha256" not in headers_of(make_event(1), None)


@pytest.mark.parametrize("address", ["localhost:3000", "ftp://x/y", "", "http://"])
def test_an_address_that_isnt_http_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="whole address"):
        Forwarder(address, Settings(), 4)
