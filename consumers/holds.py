"""Which resources wait for a retry, and who goes first when it's over. Pure.

    free ──an event fails for now──▶ held: [e1] ──later ones come──▶ held: [e1, e2, e3] ──e1 ends──▶ held: [e2, e3] ──▶ … ──▶ free

The first event of a lane is its head; only the head may run. What comes behind it goes, untried, to the retry topic where
the head waits, and keeps its place here: records of one lane lie in one partition, so they come back in about this order,
and whoever comes back too early goes round once more. The ledger's `waiting` table is the truth; this is its copy for the
partitions that the worker owns, loaded before the first event of a partition starts and dropped before it's given up.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

from hooktape.ledger.checks import Waiting
from hooktape.schemas.event import EventKey


def lane16(lane: str) -> bytes:
    """The 16 bytes that stand for a lane in the ledger: lanes are as long as a shop's name likes."""
    return blake2b(lane.encode(), digest_size=16).digest()


@dataclass(slots=True)
class Held:
    """One event that waits. `delay` in seconds names its retry topic; `due` in epoch seconds."""

    seq: int
    delay: float
    due: float


@dataclass(frozen=True, slots=True)
class Head:
    """The event that a lane waits for; `due` in epoch seconds."""

    lane: bytes
    key: EventKey
    due: float


@dataclass(slots=True)
class _Lane:
    partition: int
    events: dict[EventKey, Held] = field(default_factory=dict)


class Holds:
    """The lanes that are held, for the partitions that this worker owns."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, _Lane] = {}
        self._last = 0

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __len__(self) -> int:
        """Events that wait, heads included."""
        return sum(len(lane.events) for lane in self._lanes.values())

    @property
    def lanes(self) -> int:
        """Resources that are held."""
        return len(self._lanes)

    def load(self, partition: int, waiting: Iterable[Waiting]) -> None:
        """What the ledger says of a partition that has just become this worker's. Events without a lane hold nobody."""
        for w in sorted(waiting, key=lambda w: w.seq):
            if w.lane is not None:
                self._lanes.setdefault(w.lane, _Lane(partition)).events[w.key] = Held(w.seq, w.delay, w.due)
                self._last = max(self._last, w.seq)

    def drop(self, partition: int) -> None:
        """The partition is about to be given up."""
        self._lanes = {lane: held for lane, held in self._lanes.items() if held.partition != partition}

    def ahead(self, lane: bytes, key: EventKey) -> Held | None:
        """The head of the lane where that is another event, which has to end first; None: this event may run."""
        found = self._lanes.get(lane)
        if found is None:
            return None
        head = next(iter(found.events))
        return None if head == key else found.events[head]

    def enter(self, lane: bytes, partition: int, key: EventKey, delay: float, due: float, now: float) -> Held:
        """The event waits, from now until `due` at least (both epoch seconds). One that waited before keeps its place."""
        found = self._lanes.setdefault(lane, _Lane(partition))
        held = found.events.get(key)
        if held is None:
            # Ascending also over restarts, and beside what another owner wrote a moment ago.
            self._last = max(self._last + 1, int(now * 1e6))
            held = found.events[key] = Held(self._last, delay, due)
        else:
            held.delay, held.due = delay, due
        return held

    def renew(self, lane: bytes, key: EventKey, delay: float, due: float) -> None:
        """Its record was written again, to the retry topic of `delay`."""
        found = self._lanes.get(lane)
        if found is not None and (held := found.events.get(key)) is not None:
            held.delay, held.due = delay, due

    def due(self, lane: bytes, key: EventKey) -> float | None:
        """When an event that waits is due (epoch seconds); None: it doesn't wait."""
        found = self._lanes.get(lane)
        held = found.events.get(key) if found else None
        return held.due if held else None

    def heads(self, partition: int, before: float) -> list["Head"]:
        """The heads of a partition's lanes that were due before `before` (epoch seconds)."""
        firsts = [(lane, *next(iter(held.events.items()))) for lane, held in self._lanes.items() if held.partition == partition]
        return [Head(lane, key, held.due) for lane, key, held in firsts if held.due < before]

    def leave(self, lane: bytes, key: EventKey) -> None:
        """The event has ended, whichever way: the next of its lane is the head now."""
        found = self._lanes.get(lane)
        if found is not None and found.events.pop(key, None) is not None and not found.events:
            del self._lanes[lane]
