"""What ingest is measured beside, each served by uvicorn with httptools and uvloop:

- `noop` answers; the most that this server and this machine can do,
- `verify` reads the body and checks its signature, and records nothing,
- `plain` is the FastAPI app with a Producer that one writes first: it waits for Kafka's acknowledgement too.

Reads HOOKTAPE_BENCH_SECRET, HOOKTAPE_BENCH_KAFKA and HOOKTAPE_BENCH_TOPIC.
"""

import asyncio
import hashlib
import hmac
import os
import threading
from base64 import b64encode
from contextlib import asynccontextmanager

from confluent_kafka import Producer
from fastapi import FastAPI, Request, Response

_SECRET = os.environ["HOOKTAPE_BENCH_SECRET"].encode()
_EMPTY = [(b"content-length", b"0")]


def _signed(body: bytes, signature: bytes) -> bool:
    return hmac.compare_digest(b64encode(hmac.digest(_SECRET, body, hashlib.sha256)), signature)


async def noop(scope, receive, send):
    """Answers 200 to anything."""
    await send({"type": "http.response.start", "status": 200, "headers": _EMPTY})
    await send({"type": "http.response.body"})


async def verify(scope, receive, send):
    """Reads, verifies, forgets."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    given = dict(scope["headers"]).get(b"x-shopify-hmac-sha256", b"")
    await send({"type": "http.response.start", "status": 200 if _signed(body, given) else 401, "headers": _EMPTY})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def _with_producer(app: FastAPI):
    producer = Producer({"bootstrap.servers": os.environ["HOOKTAPE_BENCH_KAFKA"], "acks": "all", "linger.ms": 2})
    ended = threading.Event()

    def poll() -> None:
        while not ended.is_set():
            producer.poll(0.1)

    thread = threading.Thread(target=poll)
    thread.start()
    app.state.producer = producer
    yield
    ended.set()
    thread.join()


plain = FastAPI(lifespan=_with_producer)


@plain.post("/webhooks")
async def take(request: Request) -> Response:
    """Verifies, produces, waits for the delivery report."""
    body = await request.body()
    if not _signed(body, request.headers.get("x-shopify-hmac-sha256", "").encode()):
        return Response(status_code=401)
    loop = asyncio.get_running_loop()
    reported = loop.create_future()
    request.app.state.producer.produce(
        os.environ["HOOKTAPE_BENCH_TOPIC"], body, request.headers["x-shopify-shop-domain"],
        on_delivery=lambda error, _: loop.call_soon_threadsafe(reported.set_result, error),
    )  # fmt: skip
    return Response(status_code=503 if await reported else 200)
