"""Consumer groups from outside: who is in one, what it has committed, how far behind it is, and moving its offsets."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from hooktape.errors import NotAllowed, TapeError, TapeUnavailable
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.reader import Partition

_TIMEOUT = 15.0
_LIVE = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP, KafkaError.REBALANCE_IN_PROGRESS}


@dataclass(frozen=True, slots=True)
class Member:
    """A live member of a group."""

    id: str
    client: str
    host: str
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A group as its coordinator sees it; `state` is Kafka's own word (`empty`, `stable`, `dead` for an unknown group)."""

    name: str
    state: str
    members: tuple[Member, ...]

    @property
    def live(self) -> bool:
        """Whether somebody consumes with it now."""
        return bool(self.members)


def describe(settings: Settings, group: str) -> Group:
    """The group now. Raises TapeUnavailable, TapeError."""
    client = clients.admin(settings)
    try:
        found = clients.patiently(lambda: client.describe_consumer_groups([group], request_timeout=_TIMEOUT)[group].result())
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return Group(group, "dead", ())
        raise _error(error, f"group {group} can't be looked at") from None
    members = tuple(
        Member(m.member_id, m.client_id, m.host.lstrip("/"),
               tuple((tp.topic, tp.partition) for tp in (m.assignment.topic_partitions if m.assignment else ())))
        for m in found.members
    )  # fmt: skip
    state = found.state if isinstance(found.state, ConsumerGroupState) else ConsumerGroupState.UNKNOWN
    return Group(group, state.name.lower(), members)


class Stored(NamedTuple):
    """A committed offset and what was committed with it."""

    offset: int
    metadata: str


def committed(settings: Settings, group: str, partitions: Iterable[Partition] | None = None) -> dict[Partition, int]:
    """Partition → committed offset, of `partitions` (None: of every topic) where the group ever committed. Raises as `stored`."""
    return {partition: found.offset for partition, found in stored(settings, group, partitions).items()}


def stored(settings: Settings, group: str, partitions: Iterable[Partition] | None = None) -> dict[Partition, Stored]:
    """Partition → what the broker keeps for the group, of `partitions` (None: of every topic) where it ever committed.

    Asked by a consumer that never joins: an admin client crashes the process when the group's coordinator has moved or is
    still loading, since librdkafka then looks for the consumer that an admin client hasn't got (librdkafka#5040, open).
    Raises TapeUnavailable, TapeError.
    """
    client = clients.consumer(settings, group)
    try:
        if partitions is None:
            known = client.list_topics(timeout=_TIMEOUT).topics
            partitions = [(topic, number) for topic in known if not topic.startswith("__") for number in known[topic].partitions]
        answer = committed_by(client, [TopicPartition(topic, number) for topic, number in partitions])
    except KafkaException as error:
        raise _error(error, f"the offsets of group {group} can't be read") from None
    finally:
        client.close()
    return {(tp.topic, tp.partition): Stored(tp.offset, tp.metadata or "") for tp in answer if tp.offset >= 0 and not tp.error}


def committed_by(consumer: Consumer, partitions: list[TopicPartition], patience: float = _TIMEOUT) -> list[TopicPartition]:
    """What the consumer's group committed, metadata included; a coordinator that has moved or is still loading is waited for.

    On the thread that owns the consumer. `patience`: seconds for which a broker that is away is waited for. Raises KafkaException.
    """
    deadline = time.monotonic() + patience
    while partitions:
        try:
            return clients.patiently(lambda: consumer.committed(partitions, timeout=_TIMEOUT), _TIMEOUT)
        except KafkaException as error:
            if not clients.is_away(error.args[0]) or time.monotonic() > deadline:
                raise
    return []


def alter(settings: Settings, group: str, offsets: Mapping[Partition, int]) -> None:
    """Sets committed offsets of a group that nobody uses; what had been committed with the old ones goes. Raises NotAllowed for a
    live group, TapeError."""
    client = clients.admin(settings)
    partitions = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
    request = [ConsumerGroupTopicPartitions(group, partitions)]

    def question() -> ConsumerGroupTopicPartitions:
        answer: ConsumerGroupTopicPartitions
        answer = client.alter_consumer_group_offsets(request, request_timeout=_TIMEOUT)[group].result()
        # The broker refuses partition by partition, also what concerns the whole group.
        for refused in answer.topic_partitions or ():
            if clients.is_passing(refused.error):
                raise KafkaException(refused.error)
        return answer

    try:
        answer = clients.patiently(question)
    except KafkaException as error:
        if error.args[0].code() in _LIVE:
            raise NotAllowed(f"group {group} is live: stop its workers first, then reset.") from None
        raise _error(error, f"the offsets of group {group} can't be changed") from None
    refused = [tp for tp in answer.topic_partitions or () if tp.error]
    if refused:
        if any(tp.error and tp.error.code() in _LIVE for tp in refused):
            raise NotAllowed(f"group {group} is live: stop its workers first, then reset.")
        raise TapeError(f"Kafka refused the offset of {refused[0].topic}/{refused[0].partition}: {refused[0].error}")


def groups_of(settings: Settings, names: Iterable[str]) -> list[str]:
    """The groups that have topics of ours (a DLQ names its group), from topic names; sorted."""
    from hooktape.tape.names import Kind, Names

    ours = Names(settings.topic_prefix)
    parsed = (ours.parse(name) for name in names)
    return sorted({p.group for p in parsed if p and p.kind is Kind.DLQ})


def _error(error: KafkaException, what: str) -> TapeError:
    cause = error.args[0]
    kind = TapeUnavailable if clients.is_passing(cause) or cause.code() < 0 else TapeError  # below 0: the client's own
    return kind(f"{what}: {cause.str()}")
