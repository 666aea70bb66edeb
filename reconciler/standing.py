"""Where a run of the pure machine stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from hooktape.ledger.reconcile import Cursor, Pending
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import Action, Found, Look, Missing, Options, Row, Window
from hooktape.reconciler.report import Tally

SECOND = 1_000_000
DAY = 86_400 * SECOND
MARGIN = 300 * SECOND
"""The tape is read from this long before a change on: Kafka's clock dates records, Shopify's dates changes."""

BEYOND = DAY
"""How far a list of states goes beyond its window's end."""


class Phase(StrEnum):
    COUNTING = "counting"
    LISTING = "listing"
    SIFTING = "sifting"
    RECOUNTING = "recounting"
    COMPARING = "comparing"
    CONFIRMING = "confirming"
    RECHECKING = "rechecking"
    WEIGHING = "weighing"
    RECORDING = "recording"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a run begins with. `now` is our clock (epoch seconds), `shop_now` Shopify's (microseconds).

    `topics`: those of the family that are wanted on the tape; None: all. `looked_back`: where a look-back has to begin at the latest, so
    that nothing lies between it and the one before (microseconds; None: there was none).
    """

    shop: str
    family: Family
    cursor: Cursor
    coverage_from: int
    options: Options
    now: float
    shop_now: int
    pending: Sequence[Pending] = ()
    topics: frozenset[str] | None = None
    looked_back: int | None = None

    @property
    def wanted(self) -> frozenset[str]:
        """The topics whose webhooks can be missed: those that are wanted and can be checked."""
        topics = frozenset(self.family.topics) if self.topics is None else self.topics
        return topics - self.family.unchecked.keys()

    @property
    def kept_from(self) -> int:
        """From when on the tape has whatever came, microseconds. A day less than retention: what is about to expire would look missing
        halfway through the pass."""
        return max(self.coverage_from, self.shop_now - round(self.options.retention * SECOND) + DAY)

    @property
    def deletes(self) -> bool:
        """Whether deletions are among them."""
        return self.family.delete in self.wanted


@dataclass(frozen=True, slots=True)
class State:
    """A run on its way. `low`: nothing older is judged, microseconds; `blind`: what the API doesn't show may still be there."""

    standing: Standing
    look: Look
    window: Window
    low: int
    wanted: frozenset[str]
    """As the standing's; worked out once, not for each row."""
    blind: bool = False
    phase: Phase = Phase.COUNTING
    pages: tuple[tuple[Row, ...], ...] = ()
    """The listed rows but for those that have been found on the tape already."""
    unsifted: int = 0
    """How many of them haven't been looked for yet."""
    after: str | None = None
    """Where the list goes on once they have been."""
    listed: int = 0
    doubt: str = ""
    """Why the list itself says that it proves nothing about what it doesn't show."""
    counted: int = 0
    exact: bool = True
    halvings: int = 0
    agreed: bool = False
    pending: Mapping[str, Pending] = field(default_factory=dict)
    living: Mapping[str, int] = field(default_factory=dict)
    """What lives on the tape as a sweep begins: resource → when it last changed."""
    shown: tuple[frozenset[str], ...] = ()
    """What of it the lists of a sweep have shown, page by page."""
    due: tuple[Pending, ...] = ()
    asked: int = 0
    """How many of the due ones were asked for."""
    fetched: Mapping[str, Found | None] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    """A backfill's: up to where it has read the tape."""
    recording: tuple[Missing, ...] = ()
    missing: tuple[str, ...] = ()
    proposed: int = 0
    tally: Tally = field(default_factory=Tally)
    complete: bool = False

    @property
    def advances(self) -> bool:
        """Whether the cursor moves to the window's end: everything before it has been looked at then."""
        if not self.agreed or self.window.empty:
            return False
        # A window by hand, or a look back, that begins later would leave a gap that nobody has looked at.
        standing, options = self.standing, self.standing.options
        reached = standing.coverage_from if standing.cursor.position is None else standing.cursor.position
        return (options.since is None and options.reach is None) or self.window.start <= reached

    @property
    def steps_from(self) -> int | None:
        """Since when steps may not have been seen yet once the cursor has moved to the window's end; None: all before it have.

        A list ends soon after its window: of a backlog that's looked through in parts, what changed in a later one shows there only. That
        the list reaches as far as now leaves half of what it goes beyond the window for the time that listing takes.
        """
        cursor, end = self.standing.cursor, self.window.end
        if not self.look.of_states or end + BEYOND // 2 >= self.standing.shop_now:
            return None
        if cursor.position is not None and end <= cursor.position:
            return cursor.steps_from
        return self.window.start if cursor.steps_from is None else min(cursor.steps_from, self.window.start)

    @property
    def looks_back(self) -> bool:
        """Whether states of a family `by_difference` are judged, for which all of the tape is read: not every few minutes, but in a
        look-back, in a window by hand, and in one that begins so long ago that a look-back may not reach there."""
        options = self.standing.options
        return options.reach is not None or options.since is not None or self.window.start <= self.standing.shop_now - DAY

    def but(self, **changes: Any) -> "State":
        """The same but for these."""
        return replace(self, **changes)


Step = tuple[State, tuple[Action, ...]]


def floor(us: int) -> int:
    """The whole second that an instant lies in."""
    return us // SECOND * SECOND


def in_window(state: State) -> dict[str, Row]:
    """The listed rows that are to be judged: the API's filter may be wider than it says (PostHog/posthog#39687)."""
    rows: dict[str, Row] = {}
    for page in state.pages:
        for row in page:
            if state.low <= row.version and (not steps_only(state, row) or (state.look is Look.STATES and _stepped(state, row))):
                rows[row.resource] = row
    return rows


def steps_only(state: State, row: Row) -> bool:
    """Whether only its steps within the window are judged. Its state is a later pass's affair: it has changed since the window's end,
    or takes a look back."""
    return row.version >= state.window.end or (state.standing.family.by_difference and state.look is Look.STATES and not state.looks_back)


def _stepped(state: State, row: Row) -> bool:
    return any(topic in state.wanted and state.low <= at < state.window.end for topic, at in row.stamps)
