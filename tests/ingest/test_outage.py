"""Kafka dies or freezes under a running ingest: Shopify still gets its answer in time, and nothing is called recorded that isn't."""

import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hooktape.errors import SettingsError, TapeUnavailable, TopicMissing
from hooktape.ingest import receiver
from hooktape.local import kafka as local
from hooktape.settings import Settings
from hooktape.tape import headers as kafka_headers
from hooktape.tape import topics

from .conftest import Ingest, base, eventually, in_background

BODY = b'{"id":1}'
ANSWER_SECONDS = 4.5  # guarantee 2


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[local.LocalKafka]:
    """A broker that this test may freeze."""
    found = local.start(tmp_path / "kafka", lifetime="parent")
    yield found
    os.kill(found.pid, signal.SIGCONT)
    found.stop()


def timed_post(ingest: Ingest, webhook_id: str) -> tuple[int, float]:
    start = time.monotonic()
    return ingest.post(BODY, webhook_id=webhook_id).status_code, time.monotonic() - start


def test_a_frozen_kafka_costs_a_few_slow_503s_then_fast_ones_and_all_is_well_when_it_thaws(
    broker: local.LocalKafka, tmp_path: Path
) -> None:
    with in_background(base(broker.bootstrap, tmp_path)) as ingest:
        assert timed_post(ingest, str(uuid.uuid4()))[0] == 200
        os.kill(broker.pid, signal.SIGSTOP)
        stopped = time.time()

        with ThreadPoolExecutor(8) as pool:
            slow = list(pool.map(lambda _: timed_post(ingest, str(uuid.uuid4())), range(8)))
        assert [status for status, _ in slow] == [503] * 8
        assert max(seconds for _, seconds in slow) < ANSWER_SECONDS
        assert ingest.metric("hooktape_breaker_open") == 1

        eventually(lambda: timed_post(ingest, str(uuid.uuid4()))[1] > 1, "a probe is sent")  # and failed: a second until the next
        fast = sorted(timed_post(ingest, str(uuid.uuid4())) for _ in range(9))
        assert [status for status, _ in fast] == [503] * 9
        assert sorted(seconds for _, seconds in fast)[4] < 0.5  # without Kafka; a probe takes seconds

        assert ingest.client.get("/livez").status_code == 200
        start = time.monotonic()
        ready = ingest.client.get("/readyz")
        assert ready.status_code == 503
        assert "breaker is open" in ready.text
        assert broker.bootstrap in ready.text
        assert time.monotonic() - start < 2

        os.kill(broker.pid, signal.SIGCONT)
        accepted = str(uuid.uuid4())
        eventually(lambda: timed_post(ingest, accepted)[0] == 200, "Kafka acknowledges again")
        assert ingest.metric("hooktape_breaker_open") == 0
        eventually(lambda: ingest.client.get("/readyz").status_code == 200, "ready again")
        assert accepted in ingest.tape.events()
        since = kafka_headers.refused_since_us(kafka_headers.read(ingest.recorded(accepted)[1].headers))
        assert since is not None
        assert stopped <= since / 1e6 <= stopped + ANSWER_SECONDS
        after = str(uuid.uuid4())
        assert timed_post(ingest, after)[0] == 200
        assert kafka_headers.REFUSED_SINCE not in kafka_headers.read(ingest.recorded(after)[1].headers)


def test_more_than_fits_is_refused_with_503_and_retry_after(provisioned: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "MOST_HELD", 1000)
    with in_background(provisioned) as ingest:
        answer = ingest.post(b"1" * 1001)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "in flight" in answer.text
        assert ingest.post(b"1" * 1000).status_code == 200


def test_ingest_does_not_start_without_the_topics_that_its_settings_name(provisioned: Settings) -> None:
    wanting = replace(provisioned, topics=("orders/*", "refunds/create"))
    with pytest.raises(TopicMissing, match=r"log\.refunds\.create.*hooktape topics apply"), in_background(wanting):
        pass


def test_ingest_does_not_start_without_a_secret(provisioned: Settings) -> None:
    with pytest.raises(SettingsError, match="HOOKTAPE_SHOPIFY_SECRETS"), in_background(replace(provisioned, shopify_secrets=())):
        pass


def test_ingest_does_not_start_where_no_kafka_answers(provisioned: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_TIMEOUT", 0.5)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(TapeUnavailable, match=nowhere), in_background(replace(provisioned, kafka=nowhere)):
            pass


def test_a_shop_that_is_not_allowed_is_refused_with_401(provisioned: Settings) -> None:
    with in_background(replace(provisioned, allowed_shops=("A-Shop.myshopify.com",))) as ingest:
        assert ingest.post(BODY).status_code == 200
        assert ingest.post(BODY, shop_domain="another.myshopify.com").status_code == 401


def test_a_topic_that_is_provisioned_later_is_used_without_a_restart(
    provisioned: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hooktape.ingest import watch

    monkeypatch.setattr(watch, "REFRESH_SECONDS", 0.1)
    with in_background(provisioned) as ingest:
        webhook_id = str(uuid.uuid4())
        assert ingest.post(BODY, topic="refunds/create", webhook_id=webhook_id).status_code == 200
        assert ingest.recorded(webhook_id)[1].at.topic.endswith(".log.other")
        topics.apply(replace(provisioned, topics=("refunds/create",)))

        def in_its_own_log() -> bool:
            webhook_id = str(uuid.uuid4())
            assert ingest.post(BODY, topic="refunds/create", webhook_id=webhook_id).status_code == 200
            return ingest.recorded(webhook_id)[1].at.topic.endswith(".log.refunds.create")

        eventually(in_its_own_log, "the new log is used")
