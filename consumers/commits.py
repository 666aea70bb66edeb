"""Committing offsets, as the group's member and for all consumers of its worker. On the thread that owns the member."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from hooktape import log
from hooktape.consumers.assignments import Assignments, Key
from hooktape.consumers.deliveries import Commits
from hooktape.consumers.task import Home
from hooktape.consumers.tracker import Position

_log = log.get("hooktape.consumers")
# Between tries of a commit that the coordinator refused, in seconds: about what a rebalance takes.
_AGAIN = 0.5
DISOWNED_SECONDS = 30.0
"""A group that has forgotten a member for so long won't hear of it again by itself: a client that is well joins anew with its next
heartbeat (a soak saw one that didn't, for minutes, after its coordinator had moved). Above any session that's sensible for a worker."""


class Committer:
    """What was committed last, and what has to be committed again because the coordinator refused it."""

    def __init__(self, group: str, assignments: Assignments) -> None:
        self._group, self._assignments = group, assignments
        self._sent: dict[Key, tuple[Home, Position]] = {}
        self._unsaved: Commits = {}
        self._again = 0.0
        self._unknown_since: float | None = None

    def commit(self, consumer: Consumer, commits: Commits, *, wait: bool, going: bool = False) -> None:
        """Commits what is still this member's to commit. `going`: for the last time, since the partitions are being taken away.

        A failure is said and borne: the next commit carries the same and more, and what this one would have saved, the ledger knows.
        """
        commits, self._unsaved = self._unsaved | commits, {}
        may = self._assignments.may_say if going else self._assignments.holds
        kept = {home: position for home, position in commits.items() if may(home)}
        if not kept:
            return
        self._sent |= {home.key: (home, position) for home, position in kept.items()}
        offsets = [_place(home, position) for home, position in kept.items()]
        try:
            if wait:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            _log.warning("a commit failed", group=self._group, error=error.args[0].str())

    def again(self, consumer: Consumer) -> None:
        """Repeats what was refused, after a pause."""
        if self._unsaved and time.monotonic() > self._again:
            self.commit(consumer, {}, wait=False)

    def is_disowned(self) -> bool:
        """Whether the group has refused every commit for long because it doesn't know this member. Once told, it's counted anew."""
        if self._unknown_since is None or time.monotonic() - self._unknown_since < DISOWNED_SECONDS:
            return False
        self._unknown_since = None
        return True

    def on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """The client's answer. Nothing new may come on a quiet partition, and its lag would be told for ever."""
        refused = [(p, error or p.error) for p in partitions if error or p.error]
        if not any(why and why.code() == KafkaError.UNKNOWN_MEMBER_ID for _, why in refused):
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = time.monotonic()
        for p, _ in refused:
            if (sent := self._sent.get((p.topic, p.partition))) is not None:
                # Not what was refused: a later commit may have gone out since, and an offset never moves back.
                self._unsaved[sent[0]] = sent[1]
        if refused:
            self._again = time.monotonic() + _AGAIN
            _log.warning("a commit was refused and is made again", group=self._group, error=str(refused[0][1]))


def _place(home: Home, position: Position) -> TopicPartition:
    # With the leader's epoch a broker that lost records can tell the next reader so, instead of handing it other ones (KIP-320).
    epoch = home.leader_at(position.offset)
    if epoch is None:
        return TopicPartition(home.topic, home.partition, position.offset, position.metadata)
    return TopicPartition(home.topic, home.partition, position.offset, position.metadata, leader_epoch=epoch)
