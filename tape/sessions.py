"""How fast a dead worker's partitions move on: with KIP-848 that's a setting of the group, which the broker keeps and bounds."""

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from hooktape.settings import Settings
from hooktape.tape import clients

_TIMEOUT = 15.0
_SESSION, _HEARTBEAT = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
# Milliseconds. As low as Kafka lets classic members go (group.min.session.timeout.ms), and six heartbeats in it; KIP-848's own
# defaults are 45 s and 5 s. librdkafka sends heartbeats from a thread of its own: a slow handler isn't taken for dead.
_WANTED = {_SESSION: 6000, _HEARTBEAT: 1000}


@dataclass(frozen=True, slots=True)
class Session:
    """`seconds` after a worker's sudden death its partitions move on; None: the broker doesn't say. `note`: why it isn't less."""

    seconds: float | None
    note: str = ""


def lower(settings: Settings, groups: Iterable[str]) -> dict[str, Session]:
    """Group → its session time-out, lowered to 6 s or as far as the broker permits; never raised. Raises nothing of Kafka's."""
    client = clients.admin(settings)
    return {group: _lower(client, group) for group in groups}


def of_groups(settings: Settings, groups: Iterable[str]) -> dict[str, Session]:
    """Group → its session time-out as it is."""
    client = clients.admin(settings)
    return {group: _found(client, group)[0] for group in groups}


def _found(client: AdminClient, group: str) -> tuple[Session, dict[str, int]]:
    try:
        now = _numbers(client, ConfigResource(ResourceType.GROUP, group))
    except KafkaException as error:
        return Session(None, f"the broker doesn't tell the group's settings: {error.args[0].str()}"), {}
    if _SESSION not in now:
        return Session(None, "the broker has no KIP-848 groups: it's session.timeout.ms of the workers, 45 s by default"), {}
    return Session(now[_SESSION] / 1000), now


def _lower(client: AdminClient, group: str) -> Session:
    session, now = _found(client, group)
    if session.seconds is None or now[_SESSION] <= _WANTED[_SESSION]:
        return session
    least = _least(client)
    changes = {key: value for key, wanted in _WANTED.items() if (value := max(wanted, least.get(key, 0))) < now.get(key, 0)}
    if _SESSION not in changes:
        return Session(session.seconds, "the broker permits no less: lower its group.consumer.min.session.timeout.ms and "
                                        "group.consumer.min.heartbeat.interval.ms, then apply again")  # fmt: skip
    entries = [ConfigEntry(key, str(value), incremental_operation=AlterConfigOpType.SET) for key, value in changes.items()]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    try:
        next(iter(client.incremental_alter_configs([resource], request_timeout=_TIMEOUT).values())).result()
    except KafkaException as error:
        return Session(session.seconds, f"the broker refused to lower it: {error.args[0].str()}")
    return Session(changes[_SESSION] / 1000)


def _least(client: AdminClient) -> dict[str, int]:
    """The broker's lower bounds, as far as we may see them."""
    try:
        broker = next(iter(client.list_topics(timeout=_TIMEOUT).brokers))
        found = _numbers(client, ConfigResource(ResourceType.BROKER, str(broker)))
    except (KafkaException, StopIteration):
        return {}
    return {key: found.get("group." + key.replace("consumer.", "consumer.min."), 0) for key in _WANTED}


def _numbers(client: AdminClient, resource: ConfigResource) -> dict[str, int]:
    entries = next(iter(client.describe_configs([resource], request_timeout=_TIMEOUT).values())).result()
    return {name: int(entry.value) for name, entry in entries.items() if entry.value is not None and entry.value.isdigit()}
