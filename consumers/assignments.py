"""What one consumer reads at the moment: its assignments, how far each has come, and which are paused.

To be used on the thread that owns the consumer, and nowhere else.
"""

from collections.abc import Iterable

from confluent_kafka import Consumer, TopicPartition

from hooktape.consumers import births
from hooktape.consumers.deliveries import Plan
from hooktape.consumers.task import Home
from hooktape.settings import Settings
from hooktape.tape import groups

Key = tuple[str, int]
# A broker may go away just after it has assigned. As long as this, in seconds, that's no reason to end a worker; after five minutes
# without a poll the client would leave its group (max.poll.interval.ms).
_PATIENCE = 240.0


class Assignments:
    """`eager`: the classic protocol's range assignor knows only whole assignments."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self.homes: dict[Key, Home] = {}
        self.positions: dict[Key, int] = {}
        """The next offset to come."""
        self.eager = False
        self._settings, self._plan = settings, plan
        self._held_back: set[Home] = set()
        self._all_paused = False
        self._epoch = 0

    def add(self, consumer: Consumer, partitions: list[TopicPartition]) -> tuple[list[Home], list[Home]]:
        """New assignments from what the group has committed, and those of them that it never has: they begin at `plan.start`.

        Raises KafkaException.
        """
        committed = groups.committed_by(consumer, partitions, _PATIENCE)
        unborn = [p for p in committed if p.offset < 0]
        starts = births.resolve(self._settings, unborn, self._plan.start) if unborn else {}
        homes = []
        for p in committed:
            self._epoch += 1
            base = starts.get((p.topic, p.partition), p.offset)
            metadata = getattr(p, "metadata", None) or ""
            homes.append(Home(p.topic, p.partition, self._epoch, base, metadata, self._plan.rank, self._plan.topics.get(p.topic)))
        self.homes |= {home.key: home for home in homes}
        self.positions |= {home.key: home.base for home in homes}
        return homes, [home for home in homes if home.key in starts]

    def begin(self, consumer: Consumer, homes: Iterable[Home]) -> None:
        """Fetches from where each is; what is held back is paused before the first request."""
        homes = list(self.homes.values()) if self.eager else list(homes)
        places = [TopicPartition(*home.key, self.positions[home.key]) for home in homes]
        if self.eager:
            consumer.assign(places)
        else:
            consumer.incremental_assign(places)
        paused = homes if self._all_paused else [home for home in homes if home in self._held_back]
        self.pause(consumer, paused)
        # The client remembers a pause for as long as it lives: a partition that went while it was paused would come back so, and never be
        # read again (a soak found that: retry partitions are paused most of the time).
        self._resume(consumer, [home for home in homes if home not in paused])

    def end(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[Home]:
        """They're gone; which they were."""
        gone = [home for p in partitions if (home := self.homes.pop((p.topic, p.partition), None)) is not None]
        self._held_back.difference_update(gone)
        for home in gone:
            self.positions.pop(home.key, None)
        if not self.eager:
            consumer.incremental_unassign(partitions)
        elif self.homes:
            self.begin(consumer, ())
        else:
            consumer.unassign()
        return gone

    def clear(self) -> list[Home]:
        """The consumer is closed; what it had all the same."""
        left = list(self.homes.values())
        self.homes.clear()
        self.positions.clear()
        self._held_back.clear()
        return left

    def skip(self, consumer: Consumer, home: Home, offset: int) -> None:
        """Goes on at `offset`, after the error that what was asked for is gone from the topic."""
        self.positions[home.key] = offset
        # Not seek: after that error the partition isn't being fetched, and seek refuses.
        if not self.eager:
            consumer.incremental_unassign([TopicPartition(*home.key)])
        self.begin(consumer, [home])

    def hold_back(self, homes: Iterable[Home]) -> None:
        """They aren't to be fetched when they begin; `hold(…, False)` ends it."""
        self._held_back.update(homes)

    def hold(self, consumer: Consumer, homes: list[Home], paused: bool) -> None:
        """Holds back, or no longer."""
        (self._held_back.update if paused else self._held_back.difference_update)(homes)
        if not self._all_paused:
            (self.pause if paused else self._resume)(consumer, homes)

    def pause(self, consumer: Consumer, homes: Iterable[Home]) -> None:
        """For a while; `resume` ends it."""
        if owned := self._owned(homes):
            consumer.pause(owned)

    def resume(self, consumer: Consumer, homes: list[Home]) -> None:
        """Not what is held back, nor while all are paused."""
        if not self._all_paused:
            self._resume(consumer, [home for home in homes if home not in self._held_back])

    def pause_all(self, consumer: Consumer, paused: bool) -> None:
        """Pauses everything, or resumes what isn't held back."""
        self._all_paused = paused
        if paused:
            self.pause(consumer, self.homes.values())
        else:
            self.resume(consumer, list(self.homes.values()))

    def holds(self, home: Home) -> bool:
        """Whether it's still this worker's: another consumer's assignment for as long as the worker doesn't know better."""
        return not home.revoked and (home.rank is not self._plan.rank or self.homes.get(home.key) is home)

    def may_say(self, home: Home) -> bool:
        """Whether a last commit for it may still be made: until its partition has gone, `lost` included, or the next owner's would be
        overwritten. What another consumer read goes with the partition number."""
        if home.rank is self._plan.rank:
            return self.homes.get(home.key) is home
        return any(partition == home.partition for _, partition in self.homes)

    def _resume(self, consumer: Consumer, homes: Iterable[Home]) -> None:
        if owned := self._owned(homes):
            consumer.resume(owned)

    def _owned(self, homes: Iterable[Home]) -> list[TopicPartition]:
        return [TopicPartition(*home.key) for home in homes if self.homes.get(home.key) is home]
