"""A simulated Kafka: logs with offsets, and one group with its coordinator. `source.py` reads and writes it.

What it does as the real one: appends keep a producer's order per partition; an acknowledgement may be late or lost with the record
there; a partition goes to its next member only when the former one has let go of it or was expelled; an expelled member hears of
it late, and its commits are refused; offsets are committed by whoever is a member, for any partition; a fetch below the first offset
is told so. What it leaves out: brokers, replicas, leader epochs.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hooktape.tape.headers import Packed

from .loop import Simulation

if TYPE_CHECKING:
    from .source import SimSource

Key = tuple[str, int]
# A member that was expelled hears so at its next heartbeat.
_HEARTBEAT = 1.0


class Message:
    """A record, with the face of confluent-kafka's."""

    __slots__ = ("at", "k", "packed", "v")

    def __init__(self, at: tuple[str, int, int], key: bytes | None, value: bytes | None, packed: Packed) -> None:
        self.at, self.k, self.v, self.packed = at, key, value, packed

    def topic(self) -> str:
        return self.at[0]

    def partition(self) -> int:
        return self.at[1]

    def offset(self) -> int:
        return self.at[2]

    def key(self) -> bytes | None:
        return self.k

    def value(self) -> bytes | None:
        return self.v

    def headers(self) -> Packed:
        return self.packed

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


@dataclass
class Log:
    """One partition. `first` is the first offset that retention has left."""

    records: list[Message] = field(default_factory=list)
    first: int = 0

    @property
    def end(self) -> int:
        return len(self.records)


@dataclass(eq=False)
class Member:
    """As the coordinator sees it."""

    number: int
    source: "SimSource"
    owned: set[Key] = field(default_factory=set)
    leaving: set[Key] = field(default_factory=set)


class Broker:
    """`appended` and `committed_to` are called for the judge: before anything else sees them."""

    def __init__(self, sim: Simulation, partitions: int, topics: list[str], session: float, refuse: Callable[[], bool]) -> None:
        self.sim, self.partitions, self.session, self._refuse = sim, partitions, session, refuse
        self.logs = {(topic, p): Log() for topic in topics for p in range(partitions)}
        self.committed: dict[Key, tuple[int, str]] = {}
        self.members: list[Member] = []
        self.watchers: dict[Key, set[SimSource]] = {}
        self.sources = 0
        self.appended: Callable[[Message], None] = lambda message: None
        self.committed_to: Callable[[Key, int, str], None] = lambda key, offset, metadata: None
        self.note: Callable[..., None] = lambda *what: None
        self.lost: list[tuple[Key, int, int]] = []
        """Ranges that a reader has told its worker to be gone."""
        self._number = 0

    def net(self) -> float:
        """Seconds for a message one way: mostly next to nothing, now and then very long."""
        return self.sim.delay(0.05, 1.0) if self.sim.chance(0.02) else self.sim.delay(0.0, 0.01)

    # ── records ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def home_of(self, key: bytes | None) -> int:
        return zlib.crc32(key or b"") % self.partitions

    def append(self, topic: str, key: bytes | None, value: bytes | None, packed: Packed) -> Message:
        where = (topic, self.home_of(key))
        log = self.logs[where]
        message = Message((*where, log.end), key, value, packed)
        log.records.append(message)
        self.appended(message)
        for source in sorted(self.watchers.get(where, ()), key=lambda s: s.number):
            source.nudge()
        return message

    def cut(self, key: Key, first: int) -> None:
        """Retention removes what is before `first`."""
        self.logs[key].first = max(self.logs[key].first, min(first, self.logs[key].end))

    # ── the group ───────────────────────────────────────────────────────────────────────────────────────────────────
    def join(self, source: "SimSource") -> Member:
        self._number += 1
        member = Member(self._number, source)
        self.members.append(member)
        self.rebalance()
        return member

    def expel(self, member: Member) -> None:
        """Its session is over, or it has left."""
        if member in self.members:
            self.members.remove(member)
            member.owned.clear()
            self.rebalance()

    def target(self, member: Member) -> set[Key]:
        """Kafka's range assignor, topic by topic."""
        ranked = sorted(self.members, key=lambda m: m.number)
        index, count = ranked.index(member), len(ranked)
        share, extra = divmod(self.partitions, count)
        start = index * share + min(index, extra)
        return {(topic, p) for topic in member.source.plan.topics for p in range(start, start + share + (index < extra))}

    def rebalance(self) -> None:
        targets = {member: self.target(member) for member in self.members}
        for member, target in targets.items():
            going = member.owned - target - member.leaving
            if going:
                member.leaving |= going
                member.source.told(member, "revoke", going)
        taken: set[Key] = set().union(*(member.owned for member in self.members))
        for member, target in targets.items():
            coming = target - taken
            if coming:
                member.owned |= coming
                taken |= coming
                member.source.told(member, "assign", coming)

    def let_go(self, member: Member, keys: set[Key]) -> None:
        """The member has revoked them."""
        self.note(member.source._process.name, "lets go of", sorted(keys))
        if member in self.members:
            member.owned -= keys
            member.leaving -= keys
            self.rebalance()

    def commit(self, member: Member | None, offsets: dict[Key, tuple[int, str]]) -> bool:
        """False: refused; the member is none any more, or the coordinator is busy."""
        if member not in self.members or self._refuse():
            return False
        for key, (offset, metadata) in sorted(offsets.items()):
            self.committed_to(key, offset, metadata)
            self.committed[key] = offset, metadata
        return True
