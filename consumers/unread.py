"""Which partitions of a group nobody reads, for how long, and whose turn it is to join the group anew because of it. Pure.

A client may never hear of partitions that its group has assigned to it (soaks with a broker killed and a worker killed close together saw
it, with KIP-848): Kafka believes that they're read, and no worker reads them. Only all workers together can tell, and where they agree
on who owns what is the ledger. Any member's coming and going makes the coordinator divide the partitions anew.

    unread ──PATIENCE──▶ workers that own nothing join anew ──PATIENCE──▶ the one that owns least ──PATIENCE──▶ the next …

One at a time, since a worker that leaves lets its own partitions stand still for a moment; and those first that most likely miss some.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

PATIENCE = 60.0
"""Seconds. A worker that died owns nothing in the ledger after its lease, but a broker only divides its partitions when its session is
over: 45 s by default (group.consumer.session.timeout.ms; the classic protocol's session.timeout.ms)."""

Gap = tuple[int, frozenset[str]]
"""A partition number, and the topics that the worker to which it's assigned hasn't been given of it: none if it's nobody's."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a worker sees of its group. `shares`: each living worker, and the partition numbers that it owns."""

    me: str
    numbers: int
    """How many partition numbers there are."""
    shares: Mapping[str, Collection[int]]
    lacking: Collection[Gap] = ()
    """Of what is assigned to this worker: an assignor gives all topics of a number to one."""

    @property
    def gaps(self) -> set[Gap]:
        """What nobody reads."""
        read = {number for share in self.shares.values() for number in share}
        return {(number, frozenset()) for number in range(self.numbers) if number not in read} | set(self.lacking)

    @property
    def turn(self) -> int:
        """After how many others this worker may leave for the sake of what is nobody's."""
        mine = self.shares.get(self.me, ())
        if not mine:
            return 0
        return 1 + sum(bool(share) and (len(share), name) < (len(mine), self.me) for name, share in self.shares.items())


@dataclass(slots=True)
class Unread:
    """What one worker has seen so far. `patience` in seconds."""

    patience: float
    _since: dict[Gap, tuple[float, float]] = field(default_factory=dict)
    """Gap → when it was first seen, or last acted on, and the patience with it: what a try didn't mend, the next may not either."""

    def look(self, sight: Sight, now: float) -> list[Gap]:
        """The gaps for which this worker is to join its group anew, now; mostly none."""
        self._since = {gap: self._since.get(gap, (now, self.patience)) for gap in sight.gaps}
        due = [gap for gap, (since, patience) in self._since.items()
               if now - since >= patience * (1 if gap[1] else 1 + sight.turn)]  # fmt: skip
        if due:
            # All of them: the next assignment is a new one as a whole.
            self._since = {gap: (now, 2 * patience) for gap, (_, patience) in self._since.items()}
        return sorted(due, key=lambda gap: (gap[0], sorted(gap[1])))


def describe(gaps: Collection[Gap], most: int = 10) -> str:
    """For people: `0, 3 of shop.orders.create`, at most so many."""
    said = [f"{number} of {' and '.join(sorted(topics))}" if topics else str(number) for number, topics in gaps]
    return ", ".join(said[:most]) + (f" and {len(said) - most} more" if len(said) > most else "")
