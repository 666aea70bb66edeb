"""What goes in and out of the pure pass: its actions, what they find, and the values that both are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
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


Found = tuple[Row, Mapping[str, Any]]
"""A resource fetched by id: its row, and the API's node."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a pass looks. Seconds; `since` and `until` in microseconds, for a pass by hand."""

    overlap: float
    lag: float
    grace: float
    retention: float
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """To be recorded: the API's node, as which topic."""

    row: Row
    node: Mapping[str, Any]
    topic: str
    pending: Pending


# ── actions ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Count:
    query: str


@dataclass(frozen=True, slots=True)
class List:
    query: str
    after: str | None


@dataclass(frozen=True, slots=True)
class ReadTape:
    """Read the tape from `since` (microseconds) to its end as it is now."""

    since: int


@dataclass(frozen=True, slots=True)
class Fetch:
    gids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    items: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class Remember:
    rows: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    rows: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class Advance:
    position: int


Action = Count | List | ReadTape | Fetch | Record | Remember | Forget | Advance


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
