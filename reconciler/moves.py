"""What goes in and out of the pure pass: its actions, what they find, and the values that both are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hooktape.ledger.reconcile import Pending
from hooktape.reconciler.coverage import Coverage


@dataclass(frozen=True, slots=True)
class Window:
    """[start, end) in microseconds since the epoch, whole seconds of Shopify's clock."""

    start: int
    end: int

    @property
    def empty(self) -> bool:
        return self.start >= self.end


class Look(StrEnum):
    """What a run asks the API for, and compares the tape with."""

    STATES = "states"
    """The newest states of a window."""
    DELETIONS = "deletions"
    """The deletions of a window, where the API tells of them, and those that are pending."""
    SWEEP = "sweep"
    """The ids of everything there is: what lives on the tape and isn't among them may be deleted."""
    BACKFILL = "backfill"
    """The states before those that the others judge, of resources of which the tape has nothing."""

    @property
    def of_states(self) -> bool:
        """Whether what it finds is recorded as a state, with its body."""
        return self in (Look.STATES, Look.BACKFILL)


DELETE = "delete"
STATE = "state"
"""Kinds of pending findings."""


@dataclass(frozen=True, slots=True)
class Row:
    """A resource as the API shows it; `version` is its `updatedAt`."""

    resource: str
    gid: str
    version: int
    created: int
    """0 where the API doesn't say."""
    digest: str = ""
    """`Family.digest_of` of what the list says: the same for the same state on the tape."""
    stamps: tuple[tuple[str, int], ...] = ()
    """(topic, microseconds) of each step that the API gives a time for."""
    topics: frozenset[str] | None = None
    """Any of these may say this state; empty: Shopify has no topic for it. None: the family's update."""


Found = tuple[Row, Mapping[str, Any]]
"""A resource fetched by id: its row, and the API's node."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a pass looks. Seconds; `since` and `until` in microseconds, for a pass by hand.

    `reach`: how far before now the window begins, whatever the cursor (None: it goes on from the cursor). `apart`: between the two
    looks that a deletion is believed after. `accept`: an operator has agreed to all deletions that are held. `rate`: at most so many
    events a second are recorded (None: as fast as it goes).
    """

    overlap: float
    lag: float
    grace: float
    retention: float
    since: int | None = None
    until: int | None = None
    reach: float | None = None
    apart: float = 600.0
    suspect: float = 300.0
    accept: bool = False
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """To be recorded, as which topic: the API's node, or None for a deletion.

    `at`: when it was triggered (microseconds), as far as the API tells; `step`: it's a step of that instant, told by the newest state.
    """

    row: Row
    node: Mapping[str, Any] | None
    topic: str
    pending: Pending
    at: int
    step: bool = False


# ── actions ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Count:
    """How many match `query`; of the deletions, where `deletions` is set."""

    query: str
    deletions: bool = False


@dataclass(frozen=True, slots=True)
class List:
    """One page of what matches `query`; `look` says of what, `window` of when: a long list may outlive its process."""

    query: str
    after: str | None
    look: Look = Look.STATES
    window: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ReadTape:
    """Read the tape from `since` (microseconds), or where `beyond` is given from these offsets, to its end as it is now. `wanted`: only of
    these resources; None: of all."""

    since: int
    wanted: frozenset[str] | None = None
    beyond: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask for these by id; `bodies`: with all that an event of them needs."""

    gids: tuple[str, ...]
    bodies: bool = True


@dataclass(frozen=True, slots=True)
class Fence:
    """From here on no other process can record anything of this shop."""


@dataclass(frozen=True, slots=True)
class Record:
    items: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class Remember:
    """Note these as pending; `propose`: unless the resource is pending already."""

    rows: tuple[Pending, ...]
    propose: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    rows: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class Advance:
    """Everything before `position` has been looked at, but for steps since `steps_from`, where that's given (microseconds)."""

    position: int
    steps_from: int | None = None


Action = Count | List | ReadTape | Fetch | Fence | Record | Remember | Forget | Advance


# ── inputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Counted:
    count: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Listed:
    rows: tuple[Row, ...]
    after: str | None
    """Where the next page begins; None: this was the last one."""
    roots: int | None = None
    """How many the count is to be compared with, where rows are inside of them; None: as many as rows."""
    incomplete: str = ""
    """Why this list proves nothing about what it doesn't show; "": it's whole as far as it can tell."""
    anew: bool = False
    """This is the first portion of the whole list: what was listed before it's shown again."""


@dataclass(frozen=True, slots=True)
class Taped:
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class Fetched:
    """gid → (row, node), or None where the API knows no such resource. What couldn't be read whole is left out."""

    found: Mapping[str, Found | None]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Resources recorded now, and those that the ledger knew as recorded."""

    now: frozenset[str]
    before: frozenset[str] = frozenset()


Input = Counted | Listed | Taped | Fetched | Recorded
