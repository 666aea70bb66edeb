"""The webhook path: a raw ASGI callable. It reads, verifies, publishes, and answers when Kafka has acknowledged.

The body is never parsed to accept it. The order of the checks: method, size, signature's presence, body, signature, headers,
shop, capacity, Kafka; so an unsigned request costs no memory and learns nothing.
"""

import asyncio
import time
from collections import deque
from functools import cache, lru_cache

from prometheus_client import Counter
from starlette.types import Message, Receive, Scope, Send

from hooktape import log, metrics
from hooktape.errors import RecordTooLarge, TapeError, TapeFull, TopicMissing
from hooktape.ingest import headers
from hooktape.ingest.breaker import Breaker, Permit, State
from hooktape.ingest.outcome import Outcome
from hooktape.ingest.protocol import LATE
from hooktape.ingest.relabelled import Relabelled
from hooktape.ingest.routes import Routes, label
from hooktape.schemas import resources
from hooktape.schemas.event import Coordinates, Event
from hooktape.schemas.signature import Verifier
from hooktape.settings import MIB, Settings
from hooktape.tape import headers as kafka_headers
from hooktape.tape.publisher import Publisher
from hooktape.tape.wire import Wire

PATH = "/webhooks"
# With the body's 1.5 s and one tick: an answer within 4.5 s of the headers, whatever Kafka does. Shopify hangs up at 5 s.
PUBLISH_SECONDS = 2.9
TICK_SECONDS = 0.1
# Bodies held at once, in bytes: as many as the producer's own queue takes (tape.clients). Ten of the largest, 16,000 of 4 KiB.
MOST_HELD = 64 * MIB
# A single lost leader fails a handful of requests; five in a row with none acknowledged between is Kafka.
BREAKER_FAILURES = 5
# One request a second finds out whether Kafka is back.
BREAKER_PAUSE = 1.0

_log = log.get("hooktape.ingest")
_START: dict[Outcome, Message] = {
    outcome: {"type": "http.response.start", "status": outcome.status, "headers": outcome.headers} for outcome in Outcome
}
_BODY: dict[Outcome, Message] = {outcome: {"type": "http.response.body", "body": outcome.text.encode()} for outcome in Outcome}
_REQUESTS = {outcome: metrics.REQUESTS.labels(outcome.label) for outcome in Outcome}
_WEBHOOK = [(kafka_headers.SOURCE, b"webhook")]
_RELABELLED = (kafka_headers.RELABELLED, b"1")


class Receiver:
    """Takes the webhooks of one process. `run` it beside the server; set `stopping` before the server stops."""

    def __init__(self, settings: Settings, publisher: Publisher, wire: Wire, routes: Routes) -> None:
        self._publisher = publisher
        self._wire = wire
        self._routes = routes
        self._verifier = Verifier([secret.reveal() for secret in settings.shopify_secrets])
        self._limit = settings.body_limit
        self._shops = frozenset(shop.lower() for shop in settings.allowed_shops)
        self._breaker = Breaker(BREAKER_FAILURES, BREAKER_PAUSE)
        self._relabelled = Relabelled()
        self._held = 0
        self._deadlines: deque[tuple[float, asyncio.Future[Coordinates]]] = deque()
        self._refused: dict[Outcome, int] = {}
        self.stopping = False
        metrics.BREAKER_OPEN.set(0)

    @property
    def failing(self) -> bool:
        """Whether the breaker keeps requests from Kafka."""
        return self._breaker.state is not State.CLOSED

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        outcome = await self._take(scope, receive)
        if outcome is Outcome.ACCEPTED:
            _REQUESTS[outcome].inc()
        else:
            self.count(outcome)
        await send(_START[outcome])
        await send(_BODY[outcome])
        metrics.REQUEST_SECONDS.observe(time.perf_counter() - start)

    def count(self, outcome: Outcome) -> None:
        """Counts a request that wasn't accepted, here or by the protocol; the log gets one line a second of each kind."""
        _REQUESTS[outcome].inc()
        self._refused[outcome] = self._refused.get(outcome, 0) + 1

    async def _take(self, scope: Scope, receive: Receive) -> Outcome:
        if scope["method"] != "POST":
            return Outcome.METHOD_NOT_ALLOWED
        if self.stopping:
            return Outcome.SHUTTING_DOWN
        received_us = time.time_ns() // 1000
        claims = headers.collect(scope["headers"])
        if claims.content_length > self._limit:
            return Outcome.TOO_LARGE
        signature = headers.signature(claims)
        if isinstance(signature, Outcome):
            return signature
        held = 0
        try:
            message = await receive()
            body: bytes = message.get("body", b"")
            held = len(body)
            self._held += held
            if message.get("more_body") or message["type"] != "http.request" or held > self._limit:
                parts = bytearray(body)
                while True:
                    if message["type"] != "http.request":
                        return Outcome.INCOMPLETE
                    if len(parts) > self._limit:
                        return Outcome.TOO_LARGE
                    if self._held > MOST_HELD:
                        return Outcome.OVERLOADED
                    if not message.get("more_body"):
                        break
                    if LATE in scope:
                        return Outcome.SLOW_BODY
                    message = await receive()
                    more = message.get("body", b"")
                    parts += more
                    held += len(more)
                    self._held += len(more)
                body = bytes(parts)
            elif self._held > MOST_HELD:
                return Outcome.OVERLOADED
            if not body:
                return Outcome.EMPTY_BODY
            return await self._record(body, signature, claims, received_us)
        finally:
            self._held -= held

    async def _record(self, body: bytes, signature: bytes, claims: headers.Claims, received_us: int) -> Outcome:
        secret = self._verifier.verify(body, signature)
        if secret is None:
            return Outcome.BAD_SIGNATURE
        delivery = headers.identify(claims)
        if isinstance(delivery, Outcome):
            return delivery
        shop, topic, webhook_id = delivery.shop, delivery.topic, delivery.webhook_id
        if self._shops and shop not in self._shops:
            return Outcome.SHOP_NOT_ALLOWED
        permit = self._breaker.ask(time.monotonic())
        if permit is None:
            return Outcome.NOT_DURABLE
        found = resources.find(topic, body)
        event = Event(
            webhook_id=webhook_id, shop=shop, topic=topic, payload=body, received_us=received_us, event_id=delivery.event_id,
            api_version=delivery.api_version, resource=found.name, resource_root=found.root, version_us=found.version,
            triggered_us=delivery.triggered_us, hmac=signature.decode("latin-1"), secret_id=secret, headers=delivery.headers,
        )  # fmt: skip
        extra: kafka_headers.Packed = [
            (kafka_headers.SHOP, shop.encode()),
            (kafka_headers.TOPIC, topic.encode()),
            (kafka_headers.WEBHOOK_ID, webhook_id.encode()),
            *_WEBHOOK,
        ]
        if self._relabelled.seen(body, signature, shop, topic):
            metrics.RELABELLED.inc()
            extra.append(_RELABELLED)
        kafka_topic = self._routes.of(topic)
        outcome = await self._publish(kafka_topic, self._wire.encode(event), event.lane, extra, permit)
        if outcome is Outcome.ACCEPTED:
            _secret_in_use(secret).inc()
            _received(topic).inc()
            if event.triggered_us is not None:
                # Shopify's clock may run ahead of ours: that's no delay.
                metrics.SHOPIFY_DELAY.observe(max(0.0, (received_us - event.triggered_us) / 1e6))
        return outcome

    async def _publish(self, topic: str, value: bytes, key: str, extra: kafka_headers.Packed, permit: Permit) -> Outcome:
        future = self._publisher.publish(topic, value, key=key, extra=extra)
        self._deadlines.append((time.monotonic() + PUBLISH_SECONDS, future))
        try:
            await future
        except (TapeFull, RecordTooLarge, TopicMissing) as error:
            self._breaker.abandoned(permit)
            if isinstance(error, TopicMissing):
                self._routes.forget(topic)
                _log.error("a log has gone from Kafka: its events go to the log of others", topic=topic)
                return Outcome.NOT_DURABLE
            return Outcome.OVERLOADED if isinstance(error, TapeFull) else Outcome.TOO_LARGE
        except (TapeError, TimeoutError) as error:
            self._failed(permit, error)
            return Outcome.NOT_DURABLE
        except asyncio.CancelledError:
            self._breaker.abandoned(permit)
            raise
        if self._breaker.state is not State.CLOSED:
            _log.info("Kafka acknowledges again: the breaker is closed")
            metrics.BREAKER_OPEN.set(0)
        self._breaker.succeeded()
        return Outcome.ACCEPTED

    def _failed(self, permit: Permit, error: Exception) -> None:
        was = self._breaker.state
        self._breaker.failed(permit, time.monotonic())
        if was is State.CLOSED and self._breaker.state is State.OPEN:
            _log.error("Kafka doesn't acknowledge: answering 503 at once, one request a second tries", error=str(error))
            metrics.BREAKER_OPEN.set(1)

    async def run(self) -> None:
        """Keeps the deadlines, the gauges and the log of refusals, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """One look at the clock: what waits for Kafka beyond its deadline is given up (it may still reach the tape)."""
        # In order of their deadlines, since all have the same time. One sweep costs less than a timer for every request.
        while self._deadlines and (self._deadlines[0][1].done() or self._deadlines[0][0] <= now):
            _, future = self._deadlines.popleft()
            if not future.done():
                future.set_exception(TimeoutError(f"no acknowledgement within {PUBLISH_SECONDS:g} s"))
        metrics.IN_FLIGHT_BYTES.set(self._held)
        for outcome, number in self._refused.items():
            _log.warning("webhooks refused", outcome=outcome.label, status=outcome.status, number=number, why=outcome.text)
        self._refused.clear()


@cache
def _secret_in_use(secret_id: str) -> Counter:
    return metrics.SECRET_IN_USE.labels(secret_id)


@lru_cache(maxsize=512)  # all of Shopify's topics; an attacker's inventions push each other out
def _received(topic: str) -> Counter:
    return metrics.EVENTS_RECEIVED.labels(label(topic), "webhook")
