"""Consumer groups from outside: who is in one, what it has committed, how far behind it is, and moving its offsets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

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


def committed(settings: Settings, group: str) -> dict[Partition, int]:
    """Partition → committed offset, of every partition that the group ever committed."""
    client = clients.admin(settings)
    asked = [ConsumerGroupTopicPartitions(group)]
    try:
        answer = clients.patiently(lambda: client.list_consumer_group_offsets(asked, request_timeout=_TIMEOUT)[group].result())
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return {}
        raise _error(error, f"the offsets of group {group} can't be read") from None
    return {(tp.topic, tp.partition): tp.offset for tp in answer.topic_partitions or () if tp.offset >= 0 and not tp.error}


def alter(settings: Settings, group: str, offsets: Mapping[Partition, int]) -> None:
    """Sets committed offsets of a group that nobody uses. Raises NotAllowed for a live group, TapeError."""
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
