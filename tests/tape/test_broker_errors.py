"""What brokers answer, and what the publisher makes of it: durable is said only of what is, and the next record goes through."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from hooktape.errors import RecordTooLarge, TapeError, TapeUnavailable, TopicMissing
from hooktape.schemas.event import Coordinates
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.publisher import Publisher
from hooktape.tape.reader import Reader
from tests.tape.lost_acks import LostAcks
from tests.tape.mock_cluster import Api, MockCluster, mock_cluster

TOPIC = "t"


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with mock_cluster() as found:
        found.create(TOPIC)
        yield found


@pytest.fixture
def settings(cluster: MockCluster, tmp_path: Path) -> Settings:
    return Settings(kafka=cluster.bootstrap, home=tmp_path)


Act = Callable[[Publisher], Awaitable[None]]


def run(settings: Settings, act: Act, first: bool = True) -> None:
    """A publisher that has written one record, `0`, so that the broker knows its producer id and the next has a number."""

    async def main() -> None:
        publisher = Publisher(settings)
        try:
            if first:
                assert (await put(publisher, b"0")).offset == 0
            await act(publisher)
        finally:
            await publisher.close(0.5)

    asyncio.run(main())


def put(publisher: Publisher, value: bytes) -> asyncio.Future[Coordinates]:
    return publisher.publish(TOPIC, value, key="k", extra={}, partition=0)


async def insist(publisher: Publisher, value: bytes, within: float = 10.0) -> Coordinates:
    """As ingest's callers do: again until it's durable."""
    end = time.monotonic() + within
    while True:
        try:
            return await put(publisher, value)
        except TapeUnavailable:
            assert time.monotonic() < end, "the publisher hasn't recovered"
            await asyncio.sleep(0.02)


def tape(settings: Settings) -> list[bytes | None]:
    with Reader(settings) as reader:
        return [record.value for batch in reader.scan(reader.bounds([TOPIC])) for record in batch]


@pytest.mark.parametrize(
    "error",
    [
        KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.REQUEST_TIMED_OUT, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.KAFKA_STORAGE_ERROR, KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError._TRANSPORT,
    ],
    ids=lambda code: KafkaError(code).name(),
)  # fmt: skip
def test_an_error_that_passes_costs_a_moment_and_no_record(cluster: MockCluster, settings: Settings, error: int) -> None:
    async def act(publisher: Publisher) -> None:
        cluster.answer(Api.PRODUCE, (error, 0))
        assert (await put(publisher, b"1")).offset == 1
        assert cluster.unanswered(Api.PRODUCE) == 0
        assert (await put(publisher, b"2")).offset == 2

    run(settings, act)
    assert tape(settings) == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, RecordTooLarge, "a record for t is larger than the topic takes"),
        (KafkaError.INVALID_PRODUCER_EPOCH, TapeUnavailable, "old epoch"),
        (KafkaError.DUPLICATE_SEQUENCE_NUMBER, TapeUnavailable, "has the record already, but not where"),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, TapeUnavailable, "record for t: .*Cluster authorization failed"),
        (KafkaError.INVALID_RECORD, TapeUnavailable, "failed to validate record"),
    ],
    ids=["too large", "old epoch", "duplicate", "not authorised", "invalid"],
)  # fmt: skip
def test_a_refusal_is_told_with_its_reason_and_the_next_record_goes_through(
    cluster: MockCluster, settings: Settings, error: int, raised: type[TapeError], words: str
) -> None:
    async def act(publisher: Publisher) -> None:
        cluster.answer(Api.PRODUCE, (error, 0))
        with pytest.raises(raised, match=words):
            await put(publisher, b"refused")
        assert (await put(publisher, b"1")).offset == 1

    run(settings, act)
    assert tape(settings) == [b"0", b"1"]


def test_a_topic_that_we_may_not_write_is_named_until_we_may(cluster: MockCluster, settings: Settings) -> None:
    async def act(publisher: Publisher) -> None:
        cluster.answer(Api.PRODUCE, (KafkaError.TOPIC_AUTHORIZATION_FAILED, 0))
        for _ in range(2):  # by the broker, then by librdkafka, which remembers it until it next asks about the topic
            with pytest.raises(TapeUnavailable, match=r"record for t: .*Topic authorization failed"):
                await put(publisher, b"refused")
        await insist(publisher, b"1")

    run(settings, act)
    assert tape(settings) == [b"0", b"1"]


def test_a_topic_that_is_missing_is_named(cluster: MockCluster, tmp_path: Path) -> None:
    # librdkafka hopes for half a minute that a topic which it has never seen is just being made.
    settings = Settings(kafka=cluster.bootstrap, home=tmp_path, kafka_properties={"topic.metadata.propagation.max.ms": "0"})

    async def act(publisher: Publisher) -> None:
        cluster.topic_error("gone", KafkaError.UNKNOWN_TOPIC_OR_PART)
        with pytest.raises(TopicMissing, match="no topic gone"):
            await publisher.publish("gone", b"x", key=None, extra={})

    run(settings, act, first=False)


def test_a_sequence_out_of_order_is_answered_as_not_durable_and_a_new_producer_writes_the_next(
    cluster: MockCluster, settings: Settings
) -> None:
    async def act(publisher: Publisher) -> None:
        ids = cluster.requests[Api.INIT_PRODUCER_ID]
        cluster.answer(Api.PRODUCE, (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, 0))
        with pytest.raises(TapeUnavailable, match="Whether the record is on the tape isn't known"):
            await put(publisher, b"unknown")
        start = time.perf_counter()
        with pytest.raises(TapeUnavailable, match="is being rebuilt"):
            await put(publisher, b"refused")
        assert time.perf_counter() - start < 1.0  # nobody waits for a producer that isn't there, nor for a delivery's time-out
        assert publisher.outstanding == 0
        await insist(publisher, b"1")
        assert cluster.requests[Api.INIT_PRODUCER_ID] > ids

    run(settings, act)
    assert tape(settings) == [b"0", b"1"]


def test_a_producer_that_fails_again_as_soon_as_it_is_rebuilt_is_rebuilt_again(cluster: MockCluster, settings: Settings) -> None:
    async def act(publisher: Publisher) -> None:
        cluster.answer(Api.PRODUCE, *[(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, 0)] * 2)
        await insist(publisher, b"1")
        assert cluster.unanswered(Api.PRODUCE) == 0

    run(settings, act)
    assert tape(settings) == [b"0", b"1"]


@pytest.mark.parametrize("error", [KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR],
                         ids=lambda code: KafkaError(code).name())  # fmt: skip
def test_a_producer_id_that_isnt_given_yet_is_waited_for(cluster: MockCluster, settings: Settings, error: int) -> None:
    async def act(publisher: Publisher) -> None:
        cluster.answer(Api.INIT_PRODUCER_ID, (error, 0))
        assert (await put(publisher, b"1")).offset == 0
        assert cluster.unanswered(Api.INIT_PRODUCER_ID) == 0

    run(settings, act, first=False)


def test_a_producer_id_that_is_refused_is_fatal_until_it_is_granted(cluster: MockCluster, settings: Settings) -> None:
    async def act(publisher: Publisher) -> None:
        cluster.answer(Api.INIT_PRODUCER_ID, (KafkaError.CLUSTER_AUTHORIZATION_FAILED, 0))
        with pytest.raises(TapeUnavailable, match="Cluster authorization failed"):
            await put(publisher, b"unknown")
        assert (await insist(publisher, b"1")).offset == 0

    run(settings, act, first=False)
    assert tape(settings) == [b"1"]


def test_warming_up_with_a_producer_that_fails_says_so(cluster: MockCluster, settings: Settings) -> None:
    async def act(publisher: Publisher) -> None:
        cluster.answer(Api.INIT_PRODUCER_ID, (KafkaError.CLUSTER_AUTHORIZATION_FAILED, 0))
        cluster.topic_error("late", KafkaError.UNKNOWN_TOPIC_OR_PART)  # waited for, as one that's just being made
        with pytest.raises(TapeUnavailable, match="Cluster authorization failed"):
            await publisher.warm_up(["late"], 5)

    run(settings, act, first=False)


def test_while_the_broker_is_away_nothing_is_durable_and_when_it_is_back_all_is_well(cluster: MockCluster, settings: Settings) -> None:
    async def act(publisher: Publisher) -> None:
        cluster.down()
        with pytest.raises(TapeUnavailable, match="timed out"):
            await put(publisher, b"unknown")
        cluster.up()
        await insist(publisher, b"1")

    run(settings, act)
    assert tape(settings) == [b"0", b"1"]


def test_an_acknowledgement_that_comes_too_late_is_no_acknowledgement_and_the_record_may_be_there(
    cluster: MockCluster, settings: Settings
) -> None:
    async def act(publisher: Publisher) -> None:
        start = time.perf_counter()
        cluster.answer(Api.PRODUCE, (KafkaError.NO_ERROR, 5000))  # written, and told after delivery.timeout.ms
        with pytest.raises(TapeUnavailable, match="timed out"):
            await put(publisher, b"unknown")
        assert time.perf_counter() - start < 3.5  # Shopify gets its 503 in time
        await insist(publisher, b"1")

    run(settings, act)
    found = tape(settings)
    assert found[0] == b"0"
    assert b"unknown" in found  # told as not durable, yet there: whoever sends it again makes a second copy
    assert found[-1] == b"1"


def test_a_leader_that_moves_to_another_broker_is_followed(tmp_path: Path) -> None:
    with mock_cluster(2) as cluster:
        cluster.create(TOPIC)
        cluster.lead(TOPIC, 0, 1)

        async def act(publisher: Publisher) -> None:
            cluster.lead(TOPIC, 0, 2)
            assert (await put(publisher, b"1")).offset == 1
            cluster.lead(TOPIC, 0, -1)
            homeless = put(publisher, b"2")
            await asyncio.sleep(0)
            cluster.lead(TOPIC, 0, 1)
            assert (await homeless).offset == 2

        run(Settings(kafka=cluster.bootstrap, home=tmp_path), act)


def test_what_was_acknowledged_in_the_moment_of_a_fatal_error_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One poll may bring both: reports first, the error raised at its end."""

    class Message:
        def topic(self) -> str:
            return TOPIC

        def partition(self) -> int:
            return 0

        def offset(self) -> int:
            return 7

    class Doomed:
        def __init__(self) -> None:
            self.told: list[Callable[[None, Message], None]] = []

        def produce(self, *_: object, on_delivery: Callable[[None, Message], None], **__: object) -> None:
            self.told.append(on_delivery)

        def poll(self, _: float) -> None:
            if len(self.told) == 2:
                self.told[0](None, Message())
                raise KafkaException(KafkaError(KafkaError._FATAL, "out of order sequence", fatal=True))

    monkeypatch.setattr(clients, "producer", lambda *_, **__: Doomed())

    async def main() -> None:
        publisher = Publisher(Settings(kafka="127.0.0.1:1", home=tmp_path))
        acknowledged, unknown = put(publisher, b"1"), put(publisher, b"2")
        assert await acknowledged == Coordinates(TOPIC, 0, 7)
        with pytest.raises(TapeUnavailable, match="isn't known"):
            await unknown
        await publisher.close()

    asyncio.run(main())


def test_a_record_whose_acknowledgement_was_lost_is_never_called_durable(
    cluster: MockCluster, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    acks = LostAcks(2)
    monkeypatch.setattr(clients, "producer", acks)

    async def act(publisher: Publisher) -> None:
        for _ in range(2):
            with pytest.raises(TapeUnavailable, match="timed out"):
                await put(publisher, b"1")
        assert (await put(publisher, b"1")).offset == 2

    run(settings, act, first=False)
    assert acks.lost == [TOPIC] * 2
    assert tape(settings) == [b"1"] * 3
