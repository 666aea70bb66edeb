"""librdkafka clients with the settings that the guarantees lean on, each with its reason."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from hooktape import log
from hooktape.errors import SettingsError, TapeUnavailable
from hooktape.settings import MIB, Settings

MAX_RECORD = 8 * MIB
"""Largest record in bytes: `max.message.bytes` of every topic and the producer's bound. Shopify's bodies exceed Kafka's 1 MB."""

_log = log.get("hooktape.tape")
T = TypeVar("T")


def _common(settings: Settings) -> dict[str, Any]:
    bootstrap = settings.require("kafka", "it names the brokers to connect to")
    return {
        "bootstrap.servers": bootstrap,
        "client.id": "hooktape",
        "error_cb": _note,
        # Its own log goes past ours to standard error, twenty lines a second while a broker is away; `error_cb` tells us.
        "log_level": 2,
        # A broker that comes back is found within a second, not after librdkafka's default of ten.
        "reconnect.backoff.max.ms": 1000,
        **settings.kafka_properties,
    }


def _note(error: Any) -> None:
    _log.warning("Kafka client", error=error.str(), code=error.name())


def _made(kind: Callable[[dict[str, Any]], T], config: dict[str, Any]) -> T:
    """A client, or SettingsError for a property that librdkafka doesn't take."""
    try:
        return kind(config)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._INVALID_ARG:
            raise
        raise SettingsError(
            f"librdkafka refuses a property of the Kafka client: {error.args[0].str()}. Look at HOOKTAPE_KAFKA_* in the environment "
            "and [kafka_properties] in hooktape.toml."
        ) from None


def producer(settings: Settings, **overrides: Any) -> Producer:
    """A producer whose acknowledgement means all in-sync replicas, and which answers within 3 s whatever Kafka does."""
    config = {
        "acks": "all",
        "enable.idempotence": True,
        # librdkafka looks for expired records once a second: 2 s fires by 3 s, within Shopify's 5 s with the body's 1.5 s.
        "delivery.timeout.ms": 2000,
        "request.timeout.ms": 1500,
        # One request to a broker at a time: what comes meanwhile gathers and goes as the next one, so that a slow broker gets few
        # large requests. With more, librdkafka's idempotent producer sends many small ones and spins over what waits behind five.
        "max.in.flight": 1,
        # A lone record pays it whole. At 64 connections 2 ms took 8,500 records/s where 1 ms took 7,600 (benchmarks/ingest.py).
        "linger.ms": 2,
        # Bounded by bytes and records: with a dead broker the defaults would take 1 GiB before they refuse.
        "queue.buffering.max.kbytes": 65536,
        "queue.buffering.max.messages": 20000,
        "message.max.bytes": MAX_RECORD,
        "compression.type": "lz4",
        # Java's partitioner, so that Streams, ksqlDB and Connect agree on where a key lives.
        "partitioner": "murmur2_random",
        "allow.auto.create.topics": False,
    }
    return _made(Producer, {**config, **_common(settings), **overrides})


def consumer(settings: Settings, group: str, **overrides: Any) -> Consumer:
    """A consumer that commits and resets nothing on its own: both are our decisions."""
    config = {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # A lost range is noticed, recorded and alarmed, never silently skipped or read again.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": False,
        # The defaults prefetch 100,000 records a partition: far more than handlers take, and all of it in memory.
        "queued.min.messages": 2000,
        "queued.max.messages.kbytes": 32768,
        "fetch.queue.backoff.ms": 20,
        "fetch.wait.max.ms": 100,
        "fetch.message.max.bytes": MAX_RECORD,
        "allow.auto.create.topics": False,
    }
    return _made(Consumer, {**config, **_common(settings), **overrides})


def admin(settings: Settings) -> AdminClient:
    """An admin client. Keep it named while a request runs: collecting it cancels the request."""
    return _made(AdminClient, _common(settings))


STATISTICS_MS = 2000
"""How often a client that lives long tells of itself: four seconds alone are noticed, and what it tells is cheap to make and to read."""


class _Broker(msgspec.Struct):
    source: str


class _Statistics(msgspec.Struct):
    brokers: dict[str, _Broker]


_read = msgspec.json.Decoder(_Statistics).decode


class Solitude:
    """Notices a client that has no broker left, from its statistics: only another client helps.

    librdkafka drops each broker that an answer about the cluster doesn't list, those of `bootstrap.servers` too. A broker that has just
    come back, or that was too slow for its controller, lists none for a moment; then nobody is left to be asked (librdkafka#5301, open).

    It's for clients that may well hear nothing for long and are polled all the time: what isn't polled would only gather statistics. Who
    asks and gets no answer in time needn't know why, and makes another client for the next question.
    """

    def __init__(self) -> None:
        self.lasts = False
        """It has been alone for two looks in a row: one may fall between two lists of brokers."""
        self._alone = False

    def properties(self) -> dict[str, Any]:
        """With these a client tells of itself here."""
        return {"statistics.interval.ms": STATISTICS_MS, "stats_cb": self.hear}

    def hear(self, statistics: str) -> None:
        """What `stats_cb` was called with (STATISTICS.md of librdkafka)."""
        alone = not any(broker.source in ("learned", "configured") for broker in _read(statistics).brokers.values())
        self.lasts, self._alone = alone and self._alone, alone


# A new topic, a leader or a coordinator that is moving: known in a moment. `KafkaError.retriable()` isn't asked, since
# librdkafka sets it for transactions only.
_PASSING = frozenset({
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.REPLICA_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.STALE_MEMBER_EPOCH,
    KafkaError._WAIT_COORD,
    # No partition asked for has a leader, and librdkafka will say so of them for minutes: another client must ask.
    KafkaError._NOENT,
})  # fmt: skip
# Timed out "in queue": the connection had gone before the question could be sent.
_AWAY = frozenset({KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN,
                   KafkaError._RESOLVE, KafkaError.REQUEST_TIMED_OUT})  # fmt: skip
# Between two tries; an election takes tens of milliseconds.
_MOMENT = 0.05


def is_passing(error: KafkaError | None) -> bool:
    """Whether the same question will be answered in a moment."""
    return error is not None and error.code() in _PASSING


def is_away(error: KafkaError | None) -> bool:
    """Whether nobody answered, or none who can: a broker that is down, or on its way up."""
    return error is not None and (error.code() in _AWAY or error.code() in _PASSING)


def patiently(question: Callable[[], T], timeout: float = 10.0) -> T:
    """The answer to an admin request, asked again for at most `timeout` seconds while a leader or coordinator is moving.

    Raises KafkaException.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return question()
        except KafkaException as error:
            if not is_passing(error.args[0]) or time.monotonic() > deadline:
                raise
        time.sleep(_MOMENT)


def check_reachable(settings: Settings, timeout: float = 5.0) -> None:
    """Raises TapeUnavailable when no broker answers within `timeout` seconds."""
    client = admin(settings)
    try:
        client.list_topics(timeout=timeout)
    except KafkaException as error:
        where = settings.origin("kafka")
        raise TapeUnavailable(f"no Kafka answers at {settings.kafka} ({where}): {error.args[0].str()}") from None
