"""What is decided and done about a webhook: admitted by its headers, verified, published, judged by Kafka's answer.

The body is never parsed to accept it. The order of the checks: method, size, signature's presence, body, signature, headers,
shop, capacity, Kafka; so an unsigned request costs no memory and learns nothing.
"""

import asyncio
import time
from collections import deque
from functools import cache, lru_cache
from typing import NamedTuple

from prometheus_client import Counter

from hooktape import log, metrics
from hooktape.errors import RecordTooLarge, TapeError, TapeFull, TopicMissing
from hooktape.ingest import headers
from hooktape.ingest.breaker import Breaker, Permit, State
from hooktape.ingest.outcome import Outcome
from hooktape.ingest.relabelled import Relabelled
from hooktape.ingest.routes import Routes, label
from hooktape.schemas import resources
from hooktape.schemas.event import Coordinates, Event
from hooktape.schemas.signature import Verifier
from hooktape.settings import MIB, Settings
from hooktape.tape import headers as kafka_headers
from hooktape.tape.publisher import Publisher
from hooktape.tape.wire import Wire

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
_REQUESTS = {outcome: metrics.REQUESTS.labels(outcome.label) for outcome in Outcome}
_WEBHOOK = (kafka_headers.SOURCE, b"webhook")
_RELABELLED = (kafka_headers.RELABELLED, b"1")
# What Shopify counts towards the removal of a subscription, and Kafka is the cause of.
_NOT_TAKEN = frozenset({Outcome.NOT_DURABLE, Outcome.OVERLOADED})


class Recording(NamedTuple):
    """A record on its way, and what its verdict needs."""

    published: asyncio.Future[Coordinates]
    permit: Permit
    kafka_topic: str
    topic: str
    secret_id: str
    received_us: int
    triggered_us: int | None


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
        self._refused_since: int | None = None
        self.stopping = False
        metrics.BREAKER_OPEN.set(0)

    @property
    def failing(self) -> bool:
        """Whether the breaker keeps requests from Kafka."""
        return self._breaker.state is not State.CLOSED

    def count(self, outcome: Outcome) -> None:
        """Counts a request, here or by the protocol; the log gets one line a tick of each kind that wasn't accepted."""
        _REQUESTS[outcome].inc()
        if outcome is Outcome.ACCEPTED:
            self._refused_since = None
            return
        self._refused[outcome] = self._refused.get(outcome, 0) + 1
        if outcome in _NOT_TAKEN and self._refused_since is None:
            self._refused_since = time.time_ns() // 1000

    def admit(self, post: bool, raw: headers.Raw) -> tuple[headers.Claims, bytes] | Outcome:
        """Judges a request by its headers alone: what they claim and the signature, or why its body isn't wanted."""
        if not post:
            return Outcome.METHOD_NOT_ALLOWED
        if self.stopping:
            return Outcome.SHUTTING_DOWN
        claims = headers.collect(raw)
        if claims.content_length > self._limit:
            return Outcome.TOO_LARGE
        signature = headers.signature(claims)
        return signature if isinstance(signature, Outcome) else (claims, signature)

    def hold(self, size: int) -> None:
        """Counts bytes of bodies that are kept in memory; negative when they aren't any more."""
        self._held += size

    def bounds(self, size: int) -> Outcome | None:
        """Whether a body of which `size` bytes have come goes beyond its limit, or all bodies beyond theirs."""
        if size > self._limit:
            return Outcome.TOO_LARGE
        return Outcome.OVERLOADED if self._held > MOST_HELD else None

    def record(self, body: bytes, signature: bytes, claims: headers.Claims) -> Recording | Outcome:
        """Verifies a whole body and hands it to Kafka, or says why not."""
        received_us = time.time_ns() // 1000
        if not body:
            return Outcome.EMPTY_BODY
        secret = self._verifier.verify(body, signature)
        if secret is None:
            return Outcome.BAD_SIGNATURE
        delivery = headers.identify(claims)
        if isinstance(delivery, Outcome):
            return delivery
        if self._shops and delivery.shop not in self._shops:
            return Outcome.SHOP_NOT_ALLOWED
        permit = self._breaker.ask(time.monotonic())
        if permit is None:
            return Outcome.NOT_DURABLE
        try:
            return self._publish(body, signature, secret, delivery, received_us, permit)
        except Exception as error:  # noqa: BLE001 - the parser, which called us, would take it for a malformed request, and say nothing
            self._breaker.abandoned(permit)
            _log.error("a bug: the webhook couldn't be handed to Kafka", exc=error)
            return Outcome.NOT_DURABLE

    def _publish(self, body: bytes, signature: bytes, secret: str, delivery: headers.Delivery, received_us: int,
                 permit: Permit) -> Recording:  # fmt: skip
        shop, topic, webhook_id = delivery.shop, delivery.topic, delivery.webhook_id
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
            _WEBHOOK,
        ]
        if self._relabelled.seen(body, signature, shop, topic):
            metrics.RELABELLED.inc()
            extra.append(_RELABELLED)
        if self._refused_since is not None:
            # While Kafka is away nobody can be told; the first record after it is what the doctor hears of the outage by.
            extra.append((kafka_headers.REFUSED_SINCE, str(self._refused_since).encode()))
        kafka_topic = self._routes.of(topic)
        published = self._publisher.publish(kafka_topic, self._wire.encode(event), key=event.lane, extra=extra)
        self._deadlines.append((time.monotonic() + PUBLISH_SECONDS, published))
        return Recording(published, permit, kafka_topic, topic, secret, received_us, delivery.triggered_us)

    def verdict(self, recording: Recording, future: asyncio.Future[Coordinates]) -> Outcome:
        """What became of a record whose future is done."""
        if future.cancelled():
            self._breaker.abandoned(recording.permit)
            return Outcome.NOT_DURABLE
        error = future.exception()
        if error is not None:
            return self._not_recorded(recording, error)
        if self._breaker.state is not State.CLOSED:
            _log.info("Kafka acknowledges again: the breaker is closed")
            metrics.BREAKER_OPEN.set(0)
        self._breaker.succeeded()
        _secret_in_use(recording.secret_id).inc()
        _received(recording.topic).inc()
        if recording.triggered_us is not None:
            # Shopify's clock may run ahead of ours: that's no delay.
            metrics.SHOPIFY_DELAY.observe(max(0.0, (recording.received_us - recording.triggered_us) / 1e6))
        return Outcome.ACCEPTED

    def _not_recorded(self, recording: Recording, error: BaseException) -> Outcome:
        if isinstance(error, TapeFull | RecordTooLarge | TopicMissing):
            # That's about this record, or our own bound: it tells nothing about Kafka.
            self._breaker.abandoned(recording.permit)
            if isinstance(error, TopicMissing):
                known = self._routes.forget(recording.kafka_topic)
                _log.error("a log has gone from Kafka: its events go to the log of others" if known else
                           "the log of others has gone from Kafka: what goes there is refused. Run `hooktape topics apply`",
                           topic=recording.kafka_topic)  # fmt: skip
                return Outcome.NOT_DURABLE
            if isinstance(error, RecordTooLarge):
                _log.error("a webhook within HOOKTAPE_BODY_LIMIT is larger than its topic takes: `hooktape topics apply` mends the topic's "
                           "max.message.bytes", shopify_topic=recording.topic, error=str(error))  # fmt: skip
            return Outcome.OVERLOADED if isinstance(error, TapeFull) else Outcome.TOO_LARGE
        if not isinstance(error, TapeError | TimeoutError):
            _log.error("a bug: the record couldn't be published", exc=error)
        self._failed(recording.permit, error)
        return Outcome.NOT_DURABLE

    def _failed(self, permit: Permit, error: BaseException) -> None:
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
