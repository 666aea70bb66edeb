"""Provisioning: the topics that the settings ask for, made or mended; what is right already is left alone."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from hooktape.errors import TapeError, TapeUnavailable, TopicMissing
from hooktape.schemas import topics as shopify
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.names import Kind, Names, check_group

_DAY_MS = 86_400_000
_TIMEOUT = 15.0
# Clients that ask for configurations, one after the other, in that time.
_TRIES = 3
_PAUSE = 0.05  # between two looks at what a broker knows: it lags the controller by about that
# Days. Retry: over twice the longest delay with a weekend between. DLQ: a quarter, with an alarm before the first is lost.
_RETENTION = {Kind.RETRY: 14, Kind.DLQ: 90, Kind.REPLAY: 7}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do so that the broker agrees with the settings."""

    create: dict[str, dict[str, str]] = field(default_factory=dict)
    alter: dict[str, dict[str, str]] = field(default_factory=dict)
    grow: dict[str, int] = field(default_factory=dict)
    too_many: dict[str, int] = field(default_factory=dict)
    """Topics with more partitions than the settings say: Kafka can't take any away, so this is said and left."""
    right: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it."""

    partitions: int
    replicas: int
    config: dict[str, str]


def wanted(settings: Settings, groups: Iterable[str] = ()) -> dict[str, dict[str, str]]:
    """Topic → configuration of every topic that these settings and consumer groups need."""
    names = Names(settings.topic_prefix)
    logs = [names.log(shopify.table()[topic].kafka_name) for topic in shopify.expand(settings.topics)] + [names.other]
    kinds = dict.fromkeys(logs, Kind.LOG)
    for group in groups:
        kinds |= of_group(settings, group)
    return {name: _config(kind, settings) for name, kind in kinds.items()}


def of_group(settings: Settings, group: str) -> dict[str, Kind]:
    """The topics of one consumer group: its retries, its dead letters, its replay lane. Raises SettingsError."""
    names, group = Names(settings.topic_prefix), check_group(group)
    retries = {names.retry(group, delay): Kind.RETRY for delay in settings.retry_delays}
    return {**retries, names.dlq(group): Kind.DLQ, names.replay(group): Kind.REPLAY}


def _config(kind: Kind, settings: Settings) -> dict[str, str]:
    days = settings.retention_days if kind is Kind.LOG else _RETENTION[kind]
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(days * _DAY_MS),
        # The broker's clock: a wrong one elsewhere can neither delete records early nor cut a replay short.
        "message.timestamp.type": "LogAppendTime",
        # A record lives retention + segment: with Kafka's 7 days, 30 would become 37.
        "segment.ms": str(_DAY_MS),
        "max.message.bytes": str(clients.MAX_RECORD),
    }


def plan(desired: Mapping[str, dict[str, str]], found: Mapping[str, Found], partitions: int) -> Plan:
    """Compares; pure."""
    result = Plan()
    right = []
    for name, config in desired.items():
        here = found.get(name)
        if here is None:
            result.create[name] = config
            continue
        changes = {key: value for key, value in config.items() if here.config.get(key) != value}
        if changes:
            result.alter[name] = changes
        if here.partitions < partitions:
            result.grow[name] = partitions
        elif here.partitions > partitions:
            result.too_many[name] = here.partitions
        if not changes and here.partitions == partitions:
            right.append(name)
    return Plan(result.create, result.alter, result.grow, result.too_many, tuple(right))


def look(settings: Settings, names: Iterable[str] | None = None) -> dict[str, Found]:
    """The topics under our prefix (or just `names`), as the broker has them. Raises TapeUnavailable."""
    client = clients.admin(settings)
    ours = Names(settings.topic_prefix)
    metadata = _metadata(client, settings)
    chosen = None if names is None else set(names)
    picked = {name: topic for name, topic in metadata.items() if (ours.parse(name) if chosen is None else name in chosen)}
    configs = _configs(settings, list(picked))
    replicas = {name: max((len(p.replicas) for p in topic.partitions.values()), default=0) for name, topic in picked.items()}
    return {name: Found(len(topic.partitions), replicas[name], configs[name]) for name, topic in picked.items()}


def apply(settings: Settings, groups: Iterable[str] = ()) -> Plan:
    """Makes the broker agree with the settings and says what it did. Raises TapeUnavailable, TapeError, SettingsError."""
    desired = wanted(settings, groups)
    todo = plan(desired, look(settings, desired), settings.partitions)
    client = clients.admin(settings)
    new = [NewTopic(name, settings.partitions, settings.replication, config=config) for name, config in todo.create.items()]
    if new:
        _settle(client.create_topics(new, request_timeout=_TIMEOUT), "create", {KafkaError.TOPIC_ALREADY_EXISTS})
        _await_leaders(client, settings, todo.create)
    if todo.grow:
        grown = [NewPartitions(name, count) for name, count in todo.grow.items()]
        _settle(client.create_partitions(grown, request_timeout=_TIMEOUT), "add partitions to", set())
    for name, changes in todo.alter.items():
        entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in changes.items()]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        _settle({name: next(iter(client.incremental_alter_configs([resource]).values()))}, "configure", set())
    return todo


def remove(settings: Settings) -> list[str]:
    """Deletes every topic under our prefix, records and all, and says which. For what was made for a while, as a demo's."""
    names = sorted(look(settings))
    client = clients.admin(settings)
    if names:
        _settle(client.delete_topics(names, request_timeout=_TIMEOUT), "delete", {KafkaError.UNKNOWN_TOPIC_OR_PART})
    return names


def odd_partitions(found: Mapping[str, int]) -> tuple[int, dict[str, int]]:
    """The highest number of partitions among topics that must have the same, and those topics that have fewer. Pure.

    `found`: topic → its partitions. Kafka can add partitions and take none away, so the highest is what all can come to.
    """
    most = max(found.values(), default=0)
    return most, {name: number for name, number in sorted(found.items()) if number < most}


def require(settings: Settings, names: Iterable[str]) -> None:
    """Raises TopicMissing that names those of `names` which don't exist, and how to make them."""
    client = clients.admin(settings)
    existing = _metadata(client, settings)
    missing = sorted(set(names) - set(existing))
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise TopicMissing(f"Kafka has no topic {shown}. Run `hooktape topics apply` (with --group for a group's topics).")


def durability(settings: Settings, name: str) -> tuple[int, int]:
    """(replicas, least in-sync replicas that acknowledge) of a topic: 2 and 2 or better survive a broker's loss."""
    found = look(settings, [name])
    if name not in found:
        raise TopicMissing(f"Kafka has no topic {name}. Run `hooktape topics apply`.")
    return found[name].replicas, int(found[name].config.get("min.insync.replicas", "1"))


def _metadata(client: AdminClient, settings: Settings):  # type: ignore[no-untyped-def]
    try:
        return client.list_topics(timeout=_TIMEOUT).topics
    except KafkaException as error:
        raise TapeUnavailable(f"no Kafka answers at {settings.kafka}: {error.args[0].str()}") from None


def _await_leaders(client: AdminClient, settings: Settings, names: Iterable[str]) -> None:
    """Waits until brokers know the topics that the controller made: a service started right after would call them missing."""
    until = time.monotonic() + _TIMEOUT
    while True:
        known = _metadata(client, settings)
        waiting = [name for name in names
                   if name not in known or any(p.leader < 0 for p in known[name].partitions.values())]  # fmt: skip
        if not waiting:
            return
        if time.monotonic() > until:
            raise TapeUnavailable(f"{waiting[0]} was made, but no broker leads it after {_TIMEOUT:g} s. Look at the brokers.")
        time.sleep(_PAUSE)


def _configs(settings: Settings, names: list[str]) -> dict[str, dict[str, str]]:
    """Topic → what is set on the topic itself, and its min.insync.replicas wherever that comes from."""
    for left in reversed(range(_TRIES)):
        try:
            return _ask_configs(clients.admin(settings), names) if names else {}
        except KafkaException as error:
            # Seen several times on a busy machine, with the broker well: a client never finds the controller. The next one does.
            if error.args[0].code() != KafkaError._TIMED_OUT:
                raise TapeError(f"the configuration of the topics can't be read: {error.args[0].str()}") from None
            if not left:
                raise TapeUnavailable(f"Kafka at {settings.kafka} doesn't tell the topics' configuration: {error.args[0].str()}") from None
    raise AssertionError


def _ask_configs(client: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = client.describe_configs(resources, request_timeout=_TIMEOUT / _TRIES)
    configs: dict[str, dict[str, str]] = {}
    for resource, future in answers.items():
        entries = future.result()
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        configs[resource.name] = {key: entry.value for key, entry in entries.items() if entry.source == own or key == "min.insync.replicas"}
    return configs


def _settle(futures, verb: str, fine: set[int]) -> None:  # type: ignore[no-untyped-def]
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() not in fine:
                raise TapeError(f"Kafka refused to {verb} {name}: {error.args[0].str()}") from None
