"""What passes between a source's thread and the event loop: plain values."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import msgspec
from confluent_kafka import Message

from hooktape.consumers.births import Start
from hooktape.consumers.task import Home, Rank, Tenure
from hooktape.consumers.tracker import Position
from hooktape.errors import HooktapeError, NotOurs
from hooktape.schemas.event import Event

Commits = dict[Home, Position]


class Fetched(msgspec.Struct, gc=False):
    """One record. `event` None: `error` says why it can't be read; both None: it's another app's, and only to be finished."""

    home: Home
    offset: int
    message: Message
    event: Event | None
    error: NotOurs | None = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """Partitions are ours; their records follow."""

    homes: list[Home]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Partitions go; `answer` takes what to commit, and the rebalance waits for it (bounded). None: they're lost already."""

    homes: list[Home]
    answer: "Future[Commits] | None"


@dataclass(frozen=True, slots=True)
class Lost:
    """Records [first, to) of a partition were gone before they were read."""

    home: Home
    first: int
    to: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The consumer can't go on."""

    error: HooktapeError


Delivery = Assigned | Revoked | Lost | Broken | list[Fetched]


@dataclass(frozen=True, slots=True)
class Commit:
    """To the member: offsets to commit in the background."""

    commits: Commits


@dataclass(frozen=True, slots=True)
class Hold:
    """Stop or resume fetching one assignment."""

    home: Home
    paused: bool


@dataclass(frozen=True, slots=True)
class Follow:
    """To a follower: read the tenure's partition number."""

    tenure: Tenure


@dataclass(frozen=True, slots=True)
class Leave:
    """To a follower: read it no more."""

    partition: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Commit these, leave the group and end."""

    commits: Commits


@dataclass(frozen=True, slots=True)
class Rejoin:
    """To the member: leave the group and join it anew. Void once there have been more than so many `rebalances`."""

    missing: str
    rebalances: int


@dataclass(frozen=True, slots=True)
class Wake:
    """What is held has become less."""


Command = Commit | Hold | Follow | Leave | Stop | Rejoin | Wake


@dataclass(frozen=True, slots=True)
class Plan:
    """What a source reads: group, topics → delay of a retry topic (None elsewhere), and how much it may hold.

    `member`: it joins the group and is assigned partitions; any other source reads the partition numbers that it's told to.
    `wants`: the Shopify topics that have a handler; in `other`, the log of topics without one of their own, the rest is
    passed over by its header. `prefetch` is librdkafka's `queued.min.messages`.
    """

    group: str
    topics: dict[str, float | None]
    rank: Rank
    start: Start
    most: int
    prefetch: int
    member: bool = False
    wants: frozenset[str] = frozenset()
    other: str = ""
    revoke_within: float = 10.0
    overrides: dict[str, Any] = field(default_factory=dict)
