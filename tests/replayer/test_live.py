"""How long live events wait, as a replay with `--max-lag` looks at it."""

import time
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from hooktape.replayer import live
from hooktape.settings import Settings
from hooktape.tape import clients, groups
from hooktape.tape.names import Names
from tests.tape.kit import lose_first
from tests.tape.mock_cluster import mock_cluster

GROUP = "g"


def test_a_look_that_got_no_answer_is_followed_by_one_with_another_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_TIMEOUT", 1.0)  # a busy machine's answer comes within it, or a third client is made
    monkeypatch.setattr(live, "_EVERY", 0.05)
    with mock_cluster() as cluster:
        settings = Settings(kafka=cluster.bootstrap, home=tmp_path)
        topic = Names(settings.topic_prefix).other
        cluster.create(topic)
        producer = clients.producer(settings, **{"enable.idempotence": False})
        producer.produce(topic, b"", partition=0)
        assert producer.flush(10) == 0
        worker = clients.consumer(settings, GROUP)
        worker.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
        worker.close()

        made = lose_first(monkeypatch, "consumer")
        deadline = time.monotonic() + 15
        with live.LiveWait(settings, GROUP) as wait:
            while not wait.looks and time.monotonic() < deadline:
                time.sleep(0.01)
        assert wait.looks
        assert wait.seconds > 0
        assert len(made) == 3  # the lost one, the next one, and the reader's
