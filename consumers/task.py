"""What the worker holds of one record: a `Task`, and the assignment that it came by, its `Home`. Plain values."""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

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
    revoked: bool = False
    taken: int = 0
    """Events of it that this worker has asked for or taken on, and not finished."""

    @property
    def key(self) -> tuple[str, int]:
        return self.topic, self.partition


@dataclass(slots=True, eq=False, repr=False)
class Task:
    """One event on its way through the worker. It has no `repr` of its own: it would show the body."""

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
    claimed: bool = False
    """The ledger gave it to this worker."""
    queued: bool = False
    """It's in the lanes."""
    attempts: int = 0
    """Tries that have ended."""
    quick: int = 0
    """Tries in the lane since the record was fetched."""
    busy: int = 0
    """Answers BUSY in a row."""
    first_failed: float | None = None
    generation: str = ""
    forced: bool = False
    replay: Replay | None = None
    origin: Coordinates | None = None

    @property
    def abandoned(self) -> bool:
        """Its partition is another worker's now, and the event isn't claimed: theirs to run."""
        return self.home.revoked and not self.claimed
