"""What the worker holds of one record: a `Task`, and the assignment that it came by, its `Home`. Plain values."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

import msgspec

from hooktape.ledger.checks import Row
from hooktape.schemas.event import Coordinates, Event, EventKey, Replay


class Rank(IntEnum):
    """Which lane into the group a record came by; a lower number goes first."""

    LIVE = 0
    RETRY = 1
    REPLAY = 2


class Bounds(Protocol):
    """What lanes must know of a handler."""

    @property
    def name(self) -> str: ...
    @property
    def concurrency(self) -> int: ...


@dataclass(slots=True, eq=False)
class Tenure:
    """A partition number in this worker's hands, from the ledger's yes until it's given up or lost.

    It holds for the log's partitions of that number, and for those of the retry topics and the replay lane.
    """

    partition: int
    epoch: int
    """The ledger's, and the fencing token of everything that is recorded for the partition."""
    homes: "list[Home]" = field(default_factory=list)
    ending: bool = False
    """Kafka has taken the partition away: what runs is finished, nothing starts."""
    lost: bool = False
    """The ledger has given it to another worker: nothing that ends now is recorded."""

    @property
    def busy(self) -> bool:
        """Whether something of it runs or is being recorded."""
        return any(home.taken for home in self.homes)


@dataclass(slots=True, eq=False)
class Home:
    """One partition in one assignment. A partition that comes back gets a new one, so that old results can't touch it."""

    topic: str
    partition: int
    epoch: int
    base: int
    """The committed offset it began at."""
    metadata: str = ""
    """What the commit carried: the finished offsets above `base`."""
    rank: Rank = Rank.LIVE
    delay: float | None = None
    """A retry topic's delay in seconds."""
    tenure: Tenure | None = None
    """Set before the first record of it is fetched."""
    revoked: bool = False
    taken: int = 0
    """Events of it that run, are on their way elsewhere, or are being recorded."""

    leaders: list[tuple[int, int]] = field(default_factory=list)
    """(offset, leader epoch), for each record whose leader wasn't the one before's."""

    @property
    def key(self) -> tuple[str, int]:
        return self.topic, self.partition

    def leader_at(self, offset: int) -> int | None:
        """The leader epoch of the record before `offset`, or None where nobody said."""
        return next((epoch for first, epoch in reversed(self.leaders) if first < offset), None)


class Task(msgspec.Struct, eq=False, gc=False):
    """One event on its way through the worker. A struct, since there's one for each event: a dataclass takes three times as long."""

    home: Home
    offset: int
    event: Event
    key: EventKey
    """The ledger's; kept, since the event works it out anew each time."""
    handler: Bounds
    lane: Hashable | None
    """None: no order asked for, so it waits for nobody."""
    rank: Rank = Rank.LIVE
    message: Any = None
    """The client's message: value, key and headers as they were fetched, for a retry or dead-letter record."""
    seen: Row | None = None
    """Its row in the ledger when it was checked."""
    copy: bool = False
    """Another copy of the event was here when this one was checked."""
    queued: bool = False
    """It's in the lanes."""
    taken: bool = False
    """It runs, is on its way elsewhere, or is being recorded: this worker ends it, whoever gets its partition."""
    attempts: int = 0
    """Tries that have ended."""
    quick: int = 0
    """Tries in the lane since the record was fetched."""
    waits: int = 0
    """Waits for an earlier copy in a row."""
    versioned: "tuple[str, str, str] | None" = None
    """(handler, shop, resource) whose version counts for `skip_stale`; None where the handler doesn't care or the body has none."""
    first_failed: float | None = None
    generation: str = ""
    forced: bool = False
    replay: Replay | None = None
    origin: Coordinates | None = None
    doubt: BaseException | None = None
    """The commit of its transaction wasn't answered: the ledger is asked, and if there's no success, this is the try's error."""

    def __repr__(self) -> str:
        return f"<Task {self.event}>"  # not the body

    @property
    def seq(self) -> int | None:
        """Its place in the job that sent it again."""
        return self.replay.seq if self.replay is not None else None

    @property
    def abandoned(self) -> bool:
        """Its partition goes to another worker, and the event hasn't begun here: theirs to run."""
        return self.home.revoked and not self.taken
