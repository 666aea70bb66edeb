"""Which broker, which Java, which jars: decided without starting any."""

import hashlib
import os
from pathlib import Path

import pytest

from hooktape.errors import LocalStackError
from hooktape.local import container, guard, jars, java, kafka, locks, postgres
from hooktape.settings import Settings


def test_a_broker_named_in_the_settings_is_taken_as_it_is(tmp_path: Path) -> None:
    with kafka.broker(Settings(kafka="example:9092", home=tmp_path)) as broker:
        assert broker.bootstrap == "example:9092"
    assert list(tmp_path.iterdir()) == []


def test_the_container_says_plainly_that_no_docker_engine_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with (
        pytest.raises(LocalStackError, match=r"No Docker engine answers.*Start Docker.*unset HOOKTAPE_LOCAL_KAFKA"),
        kafka.broker(Settings(local_kafka="container", home=tmp_path)),
    ):
        pass


def test_the_containers_broker_has_the_same_settings_and_advertises_the_hosts_port() -> None:
    environment = container.environment(29092)
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:29092"
    assert environment["KAFKA_LOG_FLUSH_INTERVAL_MESSAGES"] == "1"
    assert container.IMAGE == "apache/kafka:4.3.0"


def test_without_any_java_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "bundled_java", lambda: None)
    monkeypatch.setattr(java, "installed_javas", lambda: [])
    with pytest.raises(LocalStackError, match=r"Java 17 or newer.*hooktape\[local\].*JAVA_HOME.*HOOKTAPE_KAFKA"):
        java.find()


def test_an_old_java_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "bundled_java", lambda: None)
    monkeypatch.setattr(java, "installed_javas", lambda: [("JAVA_HOME", Path("/jdk/bin/java"))])
    monkeypatch.setattr(java, "version_of", lambda _: 11)
    with pytest.raises(LocalStackError, match="JAVA_HOME is /jdk/bin/java, Java 11"):
        java.find()


def test_java_home_goes_before_the_path_and_needs_java_17(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Path("/old/bin/java"), Path("/new/bin/java")
    monkeypatch.setattr(java, "bundled_java", lambda: None)
    monkeypatch.setattr(java, "installed_javas", lambda: [("JAVA_HOME", old), ("PATH", new)])
    monkeypatch.setattr(java, "version_of", {old: 11, new: 21}.get)
    assert java.find() == new


@pytest.mark.parametrize(
    ("says", "version"), [('openjdk version "17.0.15" 2025', 17), ('java version "1.8.0_292"', 8), ('openjdk version "25"', 25)]
)
def test_a_javas_version_is_read_in_both_its_old_and_new_form(says: str, version: int, tmp_path: Path) -> None:
    fake = tmp_path / "java"
    fake.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    fake.chmod(0o755)
    assert java.version_of(fake) == version


def test_a_java_that_only_says_to_install_one_has_no_version(tmp_path: Path) -> None:
    fake = tmp_path / "java"
    fake.write_text("#!/bin/sh\necho 'Unable to locate a Java Runtime' >&2\nexit 1\n")
    fake.chmod(0o755)
    assert java.version_of(fake) is None


def test_the_lock_holds_coordinates_and_sums_and_no_address() -> None:
    locked = jars.locked()
    assert len(locked) == len({jar.name for jar in locked}) == 46
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in locked)
    assert "://" not in jars.LOCK.read_text()
    assert jars.kafka_version() == "4.3.0"


def locked_as(monkeypatch: pytest.MonkeyPatch, content: bytes) -> jars.Jar:
    jar = jars.Jar("org.example", "part", "1.0", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(jars, "locked", lambda: [jar])
    monkeypatch.setattr(jars, "kafka_version", lambda: "1.0")
    return jar


def fetching(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    """Replaces the download by one that brings `content`; returns the list of what it was asked for."""
    asked: list[str] = []

    def downloader(scratch: Path):  # type: ignore[no-untyped-def]
        def download(jar: jars.Jar) -> Path:
            asked.append(jar.name)
            path = scratch / jar.name
            path.write_bytes(content)
            return path

        return download

    monkeypatch.setattr(jars, "downloader", downloader)
    return asked


def test_jars_are_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jar = locked_as(monkeypatch, b"right")
    asked = fetching(monkeypatch, b"right")
    said: list[str] = []
    for _ in range(2):
        assert jars.class_path(tmp_path / "cache", said.append) == [tmp_path / "cache" / jar.name]
    assert asked == [jar.name]
    assert said[-1] == "Fetching Apache Kafka 1.0: 1 of 1 jars"


def test_a_fetched_jar_that_is_not_what_the_lock_says_never_reaches_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locked_as(monkeypatch, b"right")
    fetching(monkeypatch, b"wrong")
    (tmp_path / "cache" / ".fetch-killed").mkdir(parents=True)
    with pytest.raises(LocalStackError, match=r"org\.example:part:1\.0"):
        jars.class_path(tmp_path / "cache", print)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fetch.lock"]


def test_a_jar_damaged_later_is_named_and_mended_by_deleting_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jar = locked_as(monkeypatch, b"right")
    fetching(monkeypatch, b"right")
    (path,) = jars.class_path(tmp_path, print)
    path.write_bytes(b"changed")
    with pytest.raises(LocalStackError, match="Delete it") as caught:
        jars.class_path(tmp_path, print)
    assert str(path) in str(caught.value)
    path.unlink()
    assert jars.class_path(tmp_path, print) == [tmp_path / jar.name]


def test_a_failing_download_says_what_it_was_and_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jar = locked_as(monkeypatch, b"right")
    from jgo.maven import Artifact

    tries: list[int] = []

    def resolve(self: Artifact) -> Path:
        tries.append(1)
        raise OSError("connection refused")

    monkeypatch.setattr(Artifact, "resolve", resolve)
    with pytest.raises(LocalStackError, match=r"org\.example:part:1\.0.*connection refused.*HOOKTAPE_KAFKA"):
        jars.downloader(tmp_path)(jar)
    assert len(tries) == jars.ATTEMPTS


def test_a_cluster_id_has_the_form_of_kafkas_own() -> None:
    for _ in range(200):
        text = kafka._cluster_id()
        assert len(text) == 22
        assert not text.startswith("-")


def test_the_log_and_the_one_before_it_are_all_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOG_BYTES", 100)
    log = guard.BoundedLog(tmp_path / "a.log")
    for number in range(50):
        log.write(b"line %02d\n" % number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1"]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert (tmp_path / "a.log").read_text().endswith("line 49\n")


def test_a_lock_is_for_one_and_let_go_by_closing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = locks.take(path)
    assert first is not None
    assert locks.take(path) is None
    assert not locks.is_free(path)
    with pytest.raises(LocalStackError, match="it is taken"), locks.held(path, 0, "it is taken"):
        pass
    os.close(first)
    assert locks.is_free(path)


def test_the_socket_of_postgres_fits_whatever_the_length_of_the_home(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30) / ("longer" * 30)
    socket = postgres.socket_folder(deep) / postgres.SOCKET_NAME
    assert len(os.fsencode(socket)) <= postgres.SOCKET_PATH_BYTES
    assert postgres.socket_folder(deep) != postgres.socket_folder(tmp_path)
