"""A group's session time-out is lowered as far as the broker permits, and nothing fails where it doesn't."""

import uuid

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from hooktape.settings import Settings
from hooktape.tape import clients, sessions
from tests.tape.mock_cluster import mock_cluster


@pytest.fixture
def group() -> str:
    return f"g{uuid.uuid4().hex[:8]}"


def set_timeout(settings: Settings, group: str, **values: int) -> None:
    entries = [ConfigEntry(f"consumer.{key}", str(value), incremental_operation=AlterConfigOpType.SET) for key, value in values.items()]
    client = clients.admin(settings)
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    client.incremental_alter_configs([resource])[resource].result()
    while sessions.of_groups(settings, [group])[group].seconds != values["session.timeout.ms"] / 1000:
        pass  # the controller has it; the broker learns of it in a moment


def test_a_long_session_is_lowered_to_six_seconds_and_once_only(settings: Settings, group: str) -> None:
    set_timeout(settings, group, **{"session.timeout.ms": 45_000, "heartbeat.interval.ms": 5000})
    assert sessions.lower(settings, [group]) == {group: sessions.Session(6.0)}
    assert sessions.lower(settings, [group]) == {group: sessions.Session(6.0)}
    while sessions.of_groups(settings, [group])[group].seconds != 6.0:
        pass
    assert sessions._found(clients.admin(settings), group)[1]["consumer.heartbeat.interval.ms"] == 1000


def test_a_session_that_is_shorter_already_stays(settings: Settings, group: str) -> None:
    set_timeout(settings, group, **{"session.timeout.ms": 2000})
    assert sessions.lower(settings, [group]) == {group: sessions.Session(2.0)}


def test_a_brokers_lower_bound_is_kept_and_named(settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_timeout(settings, group, **{"session.timeout.ms": 45_000, "heartbeat.interval.ms": 5000})
    monkeypatch.setattr(sessions, "_least", lambda _: {"consumer.session.timeout.ms": 45_000, "consumer.heartbeat.interval.ms": 5000})
    found = sessions.lower(settings, [group])[group]
    assert found.seconds == 45.0
    assert "group.consumer.min.session.timeout.ms" in found.note


def test_a_refusal_is_a_note_and_no_failure(settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_timeout(settings, group, **{"session.timeout.ms": 45_000})
    monkeypatch.setattr(sessions, "_WANTED", {"consumer.session.timeout.ms": 10, "consumer.heartbeat.interval.ms": 5})
    monkeypatch.setattr(sessions, "_least", lambda _: {})
    found = sessions.lower(settings, [group])[group]
    assert found.seconds == 45.0
    assert "refused" in found.note


def test_a_broker_that_cant_tell_is_a_note_and_no_failure(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_TIMEOUT", 1.0)
    with mock_cluster() as cluster:
        found = sessions.lower(Settings(kafka=cluster.bootstrap, home=settings.home), ["g"])["g"]
    assert found.seconds is None
    assert found.note
