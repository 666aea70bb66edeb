"""One pass over one family of one shop, as a pure machine: (state, input) → (state, actions). No I/O, no clock.

    counting ─▶ listing ─▶ recounting ─▶ comparing ─▶ confirming ─▶ rechecking ─▶ recording ─▶ done
        ▲                      │ counts differ,              ▲                          │
        └───── half the window ┘ too many                    └─────── more is due ──────┘

Search proposes: what a list shows and the tape lacks is only pending. `nodes` disposes: after the grace period it is
fetched by id, the tape is read again to its end *after* that fetch, and only what is missing still is recorded
(docs/reconciliation.md). Each action but the ledger's ends with exactly one input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from hooktape.ledger.reconcile import Cursor, Pending
from hooktape.reconciler.coverage import Coverage, Known
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import (
    Action,
    Advance,
    Count,
    Counted,
    Fetch,
    Fetched,
    Forget,
    Found,
    Input,
    List,
    Listed,
    Missing,
    Options,
    ReadTape,
    Record,
    Recorded,
    Remember,
    Row,
    Taped,
    Window,
)
from hooktape.reconciler.report import Tally

SECOND = 1_000_000
DAY = 86_400 * SECOND
MARGIN = 300 * SECOND
"""The tape is read from this long before a change on: Kafka's clock dates records, Shopify's dates changes."""
LIST_LIMIT = 20_000
"""Rows of one list before the window is halved: Shopify pages through 25,000 objects at most (shopify.dev/docs/api/usage/limits)."""
CHUNK = 100
"""Confirmed and recorded at once: bounds the memory that bodies take, and what a crash leaves to look up."""
_HALVINGS = 3
"""Tries with a smaller window when the counts differ; after that the index is behind, and the next pass asks again."""


class Phase(StrEnum):
    COUNTING = "counting"
    LISTING = "listing"
    RECOUNTING = "recounting"
    COMPARING = "comparing"
    CONFIRMING = "confirming"
    RECHECKING = "rechecking"
    RECORDING = "recording"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class State:
    """Where a pass stands. `now` is our clock (epoch seconds), `shop_now` Shopify's (microseconds)."""

    shop: str
    family: Family
    window: Window
    cursor: Cursor
    coverage_from: int
    options: Options
    now: float
    shop_now: int
    phase: Phase = Phase.COUNTING
    pages: tuple[tuple[Row, ...], ...] = ()
    listed: int = 0
    counted: int = 0
    exact: bool = True
    halvings: int = 0
    agreed: bool = False
    pending: Mapping[str, Pending] = field(default_factory=dict)
    due: tuple[Pending, ...] = ()
    fetched: Mapping[str, Found | None] = field(default_factory=dict)
    recording: tuple[Missing, ...] = ()
    missing: tuple[str, ...] = ()
    tally: Tally = field(default_factory=Tally)
    complete: bool = False


Step = tuple[State, tuple[Action, ...]]


def window(cursor: Cursor, coverage_from: int, options: Options, shop_now: int, horizon_days: int | None) -> Window:
    """The window of a pass: from the last one's end less the overlap to now less the lag, in whole seconds.

    Nothing is looked at that is older than the coverage, than what the tape keeps, or than what the API shows.
    """
    end = options.until if options.until is not None else shop_now - round(options.lag * SECOND)
    begun = coverage_from if cursor.position is None else cursor.position - round(options.overlap * SECOND)
    start = options.since if options.since is not None else begun
    # A day before retention ends: what is about to expire would look missing halfway through the pass.
    oldest = [coverage_from, shop_now - round(options.retention * SECOND) + DAY]
    if horizon_days is not None:
        oldest.append(shop_now - horizon_days * DAY)
    return Window(_floor(max(start, *oldest)), _floor(min(end, shop_now)))


def begin(shop: str, family: Family, cursor: Cursor, coverage_from: int, pending: Sequence[Pending], options: Options, *,
          now: float, shop_now: int, horizon_days: int | None = None) -> Step:  # fmt: skip
    """Starts a pass; the gate is behind it (scopes, status, version)."""
    looked = window(cursor, coverage_from, options, shop_now, horizon_days)
    state = State(shop, family, looked, cursor, coverage_from, options, now, shop_now, pending={p.resource: p for p in pending})
    if looked.empty:
        return _compare(replace(state, agreed=True))
    return state, (Count(search(state)),)


def search(state: State) -> str:
    """The filter for the state's window, in Shopify's search syntax."""
    return state.family.search(state.window.start, state.window.end)


def step(state: State, found: Input) -> Step:
    """Takes what an action found; the next state and what to do. Raises TypeError for an input that nothing asked for."""
    match state.phase, found:
        case Phase.COUNTING, Counted():
            counted = replace(state, phase=Phase.LISTING, counted=found.count, exact=found.exact)
            return counted, (List(search(state), None),)
        case Phase.LISTING, Listed():
            return _listed(state, found)
        case Phase.RECOUNTING, Counted():
            return _recounted(state, found)
        case Phase.COMPARING, Taped():
            return _compared(state, found.coverage)
        case Phase.CONFIRMING, Fetched():
            # From the creation on, too: whether any record of it is there decides between `create` and `update`.
            created = [entry[0].created for entry in found.found.values() if entry and entry[0].created >= state.coverage_from]
            since = min([p.version or 0 for p in state.due[:CHUNK]] + created) - MARGIN
            return replace(state, phase=Phase.RECHECKING, fetched=found.found), (ReadTape(since),)
        case Phase.RECHECKING, Taped():
            return _rechecked(state, found.coverage)
        case Phase.RECORDING, Recorded():
            return _recorded(state, found)
    raise TypeError(f"{type(found).__name__} while {state.phase}")


def _listed(state: State, page: Listed) -> Step:
    state = replace(state, pages=(*state.pages, page.rows), listed=state.listed + (len(page.rows) if page.roots is None else page.roots))
    if page.after is None:
        return replace(state, phase=Phase.RECOUNTING), (Count(search(state)),)
    if state.listed >= LIST_LIMIT:
        smaller = _half(state)
        return smaller if smaller else _compare(state)
    return state, (List(search(state), page.after),)


def _recounted(state: State, count: Counted) -> Step:
    # Rows leave an ordinary window while it's listed (an edit moves them past its end) and enter one of whole days that reaches
    # into the future: the smaller of the counts before and after is what a complete list can't fall short of.
    agreed = state.listed >= min(state.counted, count.count) and state.exact and count.exact
    state = replace(state, counted=max(state.counted, count.count), agreed=agreed)
    if not agreed and state.halvings < _HALVINGS and (smaller := _half(state)):
        return smaller
    return _compare(state)


def _half(state: State) -> Step | None:
    """The same from the start, over the window's first half; None where it can't get smaller."""
    start = state.window.start
    middle = _floor(start + (state.window.end - start) // 2)
    if middle <= start:
        return None
    smaller = replace(state, phase=Phase.COUNTING, window=Window(start, middle), halvings=state.halvings + 1, pages=(), listed=0)
    return smaller, (Count(search(smaller)),)


def _compare(state: State) -> Step:
    """The tape's end is taken after the last page: what came while paging counts as come."""
    oldest = min([state.window.start, *(p.version or 0 for p in state.pending.values())])
    if state.window.empty and not state.pending:
        return _finish(state, ())
    return replace(state, phase=Phase.COMPARING), (ReadTape(oldest - MARGIN),)


def _compared(state: State, coverage: Coverage) -> Step:
    rows = _in_window(state)
    pending, tally = dict(state.pending), state.tally
    came: list[Pending] = []
    for resource, entry in state.pending.items():
        if known := coverage.covering(resource, entry.version or 0):
            came.append(pending.pop(resource))
            tally = _came(tally, known, entry.version or 0)
            # A change since then is a finding of its own, with a grace period of its own.
            if resource in rows and coverage.covering(resource, rows[resource].version):
                del rows[resource]
    fresh: list[Pending] = []
    for resource, row in rows.items():
        earlier = pending.get(resource)
        if earlier is None and coverage.covering(resource, row.version):
            tally = replace(tally, covered=tally.covered + 1)
        elif earlier is None or row.version > (earlier.version or 0):
            entry = Pending(state.shop, state.family.name, resource, row.version, "state", state.family.update,
                            earlier.first_seen if earlier else state.now, coverage.marks)  # fmt: skip
            pending[resource] = entry
            fresh.append(entry)
    due = sorted((p for p in pending.values() if p.first_seen <= state.now - state.options.grace), key=lambda p: p.first_seen)
    state = replace(state, pending=pending, tally=tally, due=tuple(due), pages=())
    return _confirm(state, tuple(_ledger(came, fresh)))


def _confirm(state: State, before: tuple[Action, ...]) -> Step:
    if not state.due:
        return _finish(state, before)
    gids = tuple(state.family.gid(p.resource) for p in state.due[:CHUNK])
    return replace(state, phase=Phase.CONFIRMING), (*before, Fetch(gids))


def _rechecked(state: State, coverage: Coverage) -> Step:
    """Decides each of a chunk: it came meanwhile, it's gone, it changed again too lately to judge, or it's missing."""
    pending, tally = dict(state.pending), state.tally
    settled: list[Pending] = []
    newer: list[Pending] = []
    missing: list[Missing] = []
    for entry in state.due[:CHUNK]:
        gid = state.family.gid(entry.resource)
        if gid not in state.fetched:
            continue
        found = state.fetched[gid]
        if found is None:
            settled.append(pending.pop(entry.resource))
            tally = replace(tally, gone=tally.gone + 1)
            continue
        row, node = found
        if known := coverage.covering(entry.resource, row.version):
            settled.append(pending.pop(entry.resource))
            tally = _came(tally, known, row.version)
        elif state.shop_now - row.version < state.options.grace * SECOND:
            # It was first seen long enough ago, but has changed again since: this state's webhook may be on its way.
            if row.version != entry.version:
                newer.append(replace(entry, version=row.version, high_water=coverage.marks))
        else:
            missing.append(Missing(row, node, _topic(state, row, coverage), entry))
    pending |= {entry.resource: entry for entry in newer}
    state = replace(state, pending=pending, tally=tally, due=state.due[CHUNK:], fetched={}, recording=tuple(missing))
    before = tuple(_ledger(settled, newer))
    if not missing:
        return _confirm(state, before)
    return replace(state, phase=Phase.RECORDING), (*before, Record(tuple(missing)))


def _topic(state: State, row: Row, coverage: Coverage) -> str:
    first = row.created >= state.coverage_from and not coverage.holds(row.resource)
    return state.family.create if first else state.family.update


def _recorded(state: State, done: Recorded) -> Step:
    settled = [item for item in state.recording if item.row.resource in done.now | done.before]
    pending = {name: entry for name, entry in state.pending.items() if name not in done.now | done.before}
    tally = replace(state.tally, recorded=state.tally.recorded + len(done.now),
                    recorded_before=state.tally.recorded_before + len(done.before))  # fmt: skip
    names = tuple(item.row.resource for item in settled if item.row.resource in done.now)
    state = replace(state, pending=pending, tally=tally, recording=(), missing=state.missing + names)
    return _confirm(state, tuple(_ledger([item.pending for item in settled], [])))


def _finish(state: State, before: tuple[Action, ...]) -> Step:
    state = replace(state, phase=Phase.DONE, complete=state.agreed)
    if not state.agreed or state.window.empty:
        return state, before
    # A window by hand that begins later would leave a gap that nobody has looked at.
    reached = state.coverage_from if state.cursor.position is None else state.cursor.position
    if state.options.since is None or state.window.start <= reached:
        return state, (*before, Advance(state.window.end))
    return state, before


def _ledger(forget: Sequence[Pending], remember: Sequence[Pending]) -> list[Action]:
    actions: list[Action] = []
    if forget:
        actions.append(Forget(tuple(forget)))
    if remember:
        actions.append(Remember(tuple(remember)))
    return actions


def tally(state: State) -> Tally:
    """What became of the changes looked at so far; also of a pass that was cut short."""
    return replace(state.tally, pending=len(state.pending))


def _in_window(state: State) -> dict[str, Row]:
    """The listed rows that are in the window: the API's filter may be wider than it says (PostHog/posthog#39687)."""
    rows: dict[str, Row] = {}
    for page in state.pages:
        for row in page:
            if state.window.start <= row.version < state.window.end:
                rows[row.resource] = row
    return rows


def _came(tally: Tally, known: Known, version: int) -> Tally:
    if known.synthetic:
        # A pass that was killed after publishing, before it could note so.
        return replace(tally, recorded_before=tally.recorded_before + 1)
    delay = max(0, known.received - version)
    return replace(tally, late=tally.late + 1, late_us_total=tally.late_us_total + delay,
                   late_us_max=max(tally.late_us_max, delay))  # fmt: skip


def _floor(us: int) -> int:
    return us // SECOND * SECOND
