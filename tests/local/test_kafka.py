"""The local Kafka against the ways that its users, it, or the machine end."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from hooktape.errors import LocalStackError
from hooktape.local import jars, kafka
from hooktape.settings import Settings
from tests.local.helpers import Holder, alive, eventually, hold

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local-kafka")


@pytest.fixture
def home(shared_home: Path) -> Iterator[Path]:
    """A home for one test at a time: formatted once, with no broker before or after the test."""
    assert kafka.status(shared_home) is None
    yield shared_home
    kafka.stop(shared_home)


def write(bootstrap: str, topic: str, value: bytes) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(timeout=20)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(20) == 0


def read(bootstrap: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "any", "auto.offset.reset": "error"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(20)
    consumer.close()
    return None if message is None or message.error() else message.value()


def occupy(listener: socket.socket, port: int) -> bool:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError:
        return False
    return True


def test_a_client_finds_the_broker_of_the_run(kafka: str, settings: Settings) -> None:
    assert len(AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).brokers) == 1
    assert settings.kafka == kafka


def test_two_starts_at_once_make_one_broker_which_stays_until_both_have_left(home: Path) -> None:
    holders = [hold("kafka", home), hold("kafka", home)]
    pids = {holder.server_pid() for holder in holders}
    assert len(pids) == 1
    holders[0].leave()
    running = kafka.status(home)
    assert running is not None
    assert {running.pid} == pids
    holders[1].leave()
    assert kafka.status(home) is None
    assert not alive(pids.pop())
    # Kafka writes this file at the end of an orderly shutdown only.
    assert (home / "data" / ".kafka_cleanshutdown").exists()


def test_a_parent_killed_with_minus_9_leaves_no_broker(home: Path) -> None:
    holder = hold("kafka", home)
    pid = holder.server_pid()
    holder.kill()
    assert eventually(lambda: not alive(pid))
    assert eventually(lambda: kafka.status(home) is None)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the kernel ends the broker with its guard on Linux only")
def test_a_killed_guard_leaves_no_broker(home: Path) -> None:
    broker = kafka.start(home, lifetime="parent")
    guard = json.loads((home / "state.json").read_text())["guard"]
    os.kill(guard, signal.SIGKILL)
    assert eventually(lambda: not alive(broker.pid) and kafka.status(home) is None)
    broker.stop()


def test_a_broker_killed_with_minus_9_comes_back_on_its_port_with_its_data_and_without_jgo(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kafka.start(home, lifetime="parent")
    write(first.bootstrap, "kept", b"acknowledged")
    os.kill(first.pid, signal.SIGKILL)
    assert eventually(lambda: kafka.status(home) is None)
    first.stop()

    monkeypatch.setattr(jars, "downloader", lambda _: pytest.fail("a start with all jars there must not fetch any"))
    second = kafka.start(home, lifetime="parent")
    assert second.pid != first.pid
    assert second.bootstrap == first.bootstrap
    assert read(second.bootstrap, "kept") == b"acknowledged"
    second.stop()


def test_occupied_ports_are_avoided_and_the_data_stay(home: Path) -> None:
    first = kafka.start(home, lifetime="parent")
    write(first.bootstrap, "moved", b"still here")
    first.stop()
    with socket.socket() as standard, socket.socket() as remembered:
        occupy(standard, 9092)  # or it's a Kafka of the machine's own that does
        assert eventually(lambda: occupy(remembered, int(first.bootstrap.rpartition(":")[2])))
        second = kafka.start(home, lifetime="parent")
        assert second.bootstrap not in (first.bootstrap, "127.0.0.1:9092")
        assert read(second.bootstrap, "moved") == b"still here"
        second.stop()


def test_detached_outlives_its_starter_also_when_it_was_another_ones_before(home: Path) -> None:
    holder = hold("kafka", home)
    pid = holder.server_pid()
    detached: Holder = hold("kafka", home, "detached")
    assert detached.server_pid() == pid
    detached.leave()
    holder.kill()
    running = kafka.status(home)
    assert running is not None
    assert (running.pid, running.lifetime) == (pid, "detached")
    assert kafka.stop(home)
    assert not alive(pid)
    assert not kafka.stop(home)


def test_a_state_file_that_names_another_process_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(
        json.dumps({"pid": os.getpid(), "guard": os.getpid(), "address": "127.0.0.1:1", "started": 0, "lifetime": "detached"})
    )
    (tmp_path / "running.lock").touch()
    assert kafka.status(tmp_path) is None
    assert not kafka.stop(tmp_path)


def test_a_broker_that_ends_early_is_reported_with_its_last_lines_and_the_log_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = kafka.properties
    monkeypatch.setattr(kafka, "properties", lambda ports, data: good(ports, data) | {"num.io.threads": "0"})
    monkeypatch.setattr(kafka, "_format", lambda base, config: (tmp_path / "data.new").mkdir())
    with pytest.raises(LocalStackError, match=r"ended while it started") as caught:
        kafka.start(tmp_path, lifetime="parent")
    assert str(tmp_path / "kafka.log") in str(caught.value)
    assert "num.io.threads" in str(caught.value)
    assert kafka.status(tmp_path) is None


def test_a_tampered_jar_is_refused_and_named(tmp_path: Path) -> None:
    real = jars.class_path(jars.default_folder(), print)
    folder = tmp_path / "jars"
    folder.mkdir()
    for jar in real:
        os.symlink(jar, folder / jar.name)
    victim = folder / next(jar.name for jar in real if jar.name.startswith("kafka-clients"))
    victim.unlink()
    victim.write_bytes(b"not Kafka's")
    with pytest.raises(LocalStackError, match=r"isn't org\.apache\.kafka:kafka-clients") as caught:
        kafka.start(tmp_path / "home", lifetime="parent", jar_folder=folder)
    assert str(victim) in str(caught.value)
    assert kafka.status(tmp_path / "home") is None
