"""Brokers refuse, or have a webhook and don't tell so: Shopify hears 503 and sends it again, and the handler sees it once."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import KafkaError

from hooktape.consumers.app import App
from hooktape.consumers.running import running
from hooktape.schemas.event import Event
from hooktape.settings import Secret, Settings
from hooktape.tape import clients, topics
from hooktape.tape.names import Names
from tests.tape.lost_acks import LostAcks
from tests.tape.mock_cluster import Api, MockCluster, mock_cluster

from .conftest import SECRET, Ingest, eventually, in_background

BODY = b'{"id":1}'


@pytest.fixture(scope="module")
def on_mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MockCluster, Ingest]]:
    """An ingest on a mock cluster that has one log and that of other topics."""
    with mock_cluster() as cluster, pytest.MonkeyPatch.context() as patch:
        settings = Settings(kafka=cluster.bootstrap, home=tmp_path_factory.mktemp("mock"), topics=("orders/create",),
                            shopify_secrets=(Secret(SECRET),))  # fmt: skip
        names = Names(settings.topic_prefix)
        logs = [names.log("orders.create"), names.other]
        cluster.create(*logs)
        # The mock doesn't answer DescribeConfigs.
        found, real = {name: topics.Found(1, 1, {}) for name in logs}, topics.look
        patch.setattr(topics, "look", lambda where, *names: found if where is settings else real(where, *names))
        with in_background(settings) as ingest:
            yield cluster, ingest


@contextmanager
def well_again(ingest: Ingest) -> Iterator[None]:
    """At its end webhooks are accepted, the breaker is closed and /readyz says ready."""
    yield
    eventually(lambda: ingest.post(BODY).status_code == 200, "webhooks are accepted")
    assert ingest.metric("hooktape_breaker_open") == 0
    eventually(lambda: ingest.client.get("/readyz").status_code == 200, "ready")


def test_an_error_that_passes_is_not_noticed_by_shopify(on_mock: tuple[MockCluster, Ingest]) -> None:
    cluster, ingest = on_mock
    for error in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.NOT_ENOUGH_REPLICAS, KafkaError._TRANSPORT):
        cluster.answer(Api.PRODUCE, (error, 0))
        assert ingest.post(BODY).status_code == 200
        assert cluster.unanswered(Api.PRODUCE) == 0


def test_a_fatal_producer_error_costs_503s_until_the_producer_is_rebuilt(on_mock: tuple[MockCluster, Ingest]) -> None:
    cluster, ingest = on_mock
    with well_again(ingest):
        cluster.answer(Api.PRODUCE, (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, 0))
        answers = [ingest.post(BODY, webhook_id=str(uuid.uuid4())) for _ in range(2)]
        assert [(answer.status_code, "retry-after" in answer.headers) for answer in answers] == [(503, True)] * 2


def test_a_refusal_of_each_webhook_opens_the_breaker_and_the_first_success_closes_it(on_mock: tuple[MockCluster, Ingest]) -> None:
    cluster, ingest = on_mock
    with well_again(ingest):
        cluster.answer(Api.PRODUCE, *[(KafkaError.CLUSTER_AUTHORIZATION_FAILED, 0)] * 5)
        assert [ingest.post(BODY).status_code for _ in range(5)] == [503] * 5
        assert ingest.metric("hooktape_breaker_open") == 1
        assert "breaker is open" in ingest.client.get("/readyz").text
        asked = cluster.requests[Api.PRODUCE]
        assert ingest.post(BODY).status_code == 503
        assert cluster.requests[Api.PRODUCE] == asked  # answered without Kafka


def test_records_that_are_too_large_for_kafka_say_nothing_about_kafka(on_mock: tuple[MockCluster, Ingest]) -> None:
    cluster, ingest = on_mock
    with well_again(ingest):
        cluster.answer(Api.PRODUCE, *[(KafkaError.MSG_SIZE_TOO_LARGE, 0)] * 6)
        assert [ingest.post(BODY).status_code for _ in range(6)] == [413] * 6
        assert ingest.metric("hooktape_breaker_open") == 0


def test_a_broker_that_goes_and_comes_back_is_found_again(on_mock: tuple[MockCluster, Ingest]) -> None:
    cluster, ingest = on_mock
    with well_again(ingest):
        cluster.down()
        assert ingest.post(BODY).status_code == 503
        cluster.up()


def test_a_webhook_whose_acknowledgement_is_lost_is_sent_again_recorded_twice_and_handled_once(
    provisioned: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    acks = LostAcks(1)
    with monkeypatch.context() as patch:
        patch.setattr(clients, "producer", acks)
        with in_background(provisioned) as ingest:
            webhook_id = str(uuid.uuid4())
            answer = ingest.post(BODY, webhook_id=webhook_id)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
            assert len(acks.lost) == 1
            assert ingest.post(BODY, webhook_id=webhook_id).status_code == 200  # Shopify's retry
            assert len(ingest.tape.records()) == 2

    app, seen = App("g"), list[str]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        seen.append(event.webhook_id)

    async def main() -> None:
        async with running(app, provisioned) as worker:
            await worker.idle()

    asyncio.run(main())
    assert seen == [webhook_id]
