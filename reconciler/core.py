"""One run over one family of one shop, as a pure machine: (state, input) → (state, actions). No I/O, no clock.

    counting ─▶ listing ─▶ recounting ─▶ comparing ─▶ confirming ─▶ rechecking ─▶ (weighing) ─▶ recording ─▶ done
        ▲                      │ counts differ,              ▲                                      │
        └───── half the window ┘                             └──────────── more is due ─────────────┘

A long list is sifted while it's listed: what the tape has already needn't be kept.

Search proposes: what a list shows and the tape lacks is only pending. `nodes` disposes: after the grace period it is
fetched by id, the tape is read again to its end *after* that fetch, and only what is missing still is recorded
(docs/reconciliation.md). Four looks share it (`moves.Look`): newest states, deletions, the sweep, which compares first, lists
everything, and only proposes deletions, and the backfill, which goes from a portion of the list to recording and back to the list. Each
action but the ledger's and the fence ends with exactly one input.

What is decided about a finding stands in `judging` and `filling`; here is the order of the steps.
"""

from hooktape.reconciler import filling, judging
from hooktape.reconciler.moves import (
    DELETE,
    STATE,
    Action,
    Advance,
    Count,
    Counted,
    Fetched,
    Input,
    List,
    Listed,
    Look,
    ReadTape,
    Recorded,
    Remember,
    Taped,
    Window,
)
from hooktape.reconciler.report import Tally
from hooktape.reconciler.standing import BEYOND, DAY, SECOND, Phase, Standing, State, Step, floor, in_window
from hooktape.times import from_micros

SIFTED = 100_000
"""Listed rows at a time that the tape is searched for, before the next are listed: about 140 MB with what the tape tells of them. Each
search reads the window's tape."""
DELETIONS_LIMIT = 20_000
"""Deletions of one list before the window is halved: Shopify pages through 25,000 objects at most
(shopify.dev/docs/api/usage/limits), and has no bulk operation for its events."""
_HALVINGS = 3
"""Tries with a smaller window when the counts differ, or a list says itself that it may be cut; after that the index is behind, and the
next pass asks again."""
_INEXACT = 0.995
"""Share of an estimated count that a list must have: Shopify calls such counts estimates, and gives no bound of their error."""


def window(standing: Standing, horizon_days: int | None, look: Look = Look.STATES) -> Window:
    """The window of a run: from the last one's end less the overlap to now less the lag, in whole seconds.

    Nothing is looked at that is older than the coverage, than what the tape keeps, or than what the API shows.
    """
    options, shop_now, position = standing.options, standing.shop_now, standing.cursor.position
    oldest = _oldest(standing, horizon_days)
    if look is Look.BACKFILL:
        # What the other passes don't look at: one ends where the others begin.
        return Window(floor(options.since or 0), floor(min(oldest, options.until if options.until is not None else oldest)))
    end = options.until if options.until is not None else shop_now - round(options.lag * SECOND)
    # A wrong date in an answer may have moved the cursor beyond any end, and it never goes back.
    start = standing.coverage_from if position is None else min(position, end) - round(options.overlap * SECOND)
    if options.reach is not None:
        # Further where it's late: the passes between were as late, or none.
        start = min(shop_now - round(options.reach * SECOND), shop_now if standing.looked_back is None else standing.looked_back)
    if options.since is not None:
        start = options.since
    return Window(floor(max(start, oldest)), floor(min(end, shop_now)))


def _oldest(standing: Standing, horizon_days: int | None) -> int:
    shown_from = standing.kept_from if horizon_days is None else standing.shop_now - horizon_days * DAY
    return max(standing.kept_from, shown_from)


def begin(standing: Standing, look: Look = Look.STATES, horizon_days: int | None = None) -> Step:
    """Starts a run; the gate is behind it (scopes, status, version). `horizon_days`: nothing older is shown by the API."""
    kind = {Look.STATES: STATE, Look.BACKFILL: filling.BACKFILL}.get(look, DELETE)
    pending = {entry.resource: entry for entry in standing.pending if entry.kind == kind}
    looked = window(standing, horizon_days, look)
    # Without a scope the API hides what is older: a null proves nothing then, and a list isn't whole.
    reach = standing.family.reach if look is Look.STATES else 0
    unseen = looked.start if standing.cursor.steps_from is None else min(looked.start, standing.cursor.steps_from)
    low = max(unseen - reach, min(looked.start, floor(_oldest(standing, horizon_days))))
    state = State(standing, look, looked, low, standing.wanted, pending=pending, blind=horizon_days is not None and not look.of_states)
    if look is Look.SWEEP:
        return (_done(state) if state.blind else (_at(state, Phase.COMPARING), (ReadTape(0),)))
    if look is Look.DELETIONS and not standing.family.subject:
        state = state.but(window=Window(looked.end, looked.end))
    if state.window.empty:
        return _compare(state.but(agreed=True))
    return _list_anew(state)


def search(state: State) -> str:
    """The filter for the state's window, in Shopify's search syntax. Times quoted and in UTC: unquoted, their time is ignored."""
    start, end, family = state.window.start, state.window.end, state.standing.family
    if state.look is Look.SWEEP:
        return ""
    if state.look is Look.BACKFILL and family.parent:
        # An old part may belong to an order that changed lately.
        end = state.standing.shop_now
    if state.look is Look.DELETIONS:
        return f"subject_type:{family.subject} action:destroy created_at:>='{_utc(start)}' created_at:<'{_utc(end)}'"
    if state.look is Look.STATES:
        # What was made within the window and has changed since is listed beyond its end; the next window may begin after it was made.
        end += BEYOND
    return family.search(start, end)


def step(state: State, found: Input) -> Step:
    """Takes what an action found; the next state and what to do. Raises TypeError for an input that nothing asked for."""
    match state.phase, found:
        case Phase.COUNTING, Counted():
            return _list(state.but(counted=found.count, exact=found.exact))
        case Phase.LISTING, Listed():
            return _listed(state, found)
        case Phase.SIFTING, Taped():
            state = judging.sifted(state, found.coverage)
            return _more(_at(state, Phase.LISTING), state.after)
        case Phase.RECOUNTING, Counted():
            return _recounted(state, found)
        case Phase.COMPARING, Taped() if state.look is Look.SWEEP:
            return _living(state, found)
        case Phase.COMPARING, Taped() if state.look is Look.BACKFILL:
            return _confirm(filling.compared(state, found.coverage), ())
        case Phase.COMPARING, Taped():
            return _confirm(*judging.compared(state, found.coverage))
        case Phase.CONFIRMING, Fetched():
            return _confirmed(state, found)
        case Phase.RECHECKING, Taped() if state.look is Look.BACKFILL:
            return _record(filling.rechecked(state, found.coverage), ())
        case Phase.RECHECKING, Taped():
            state, before, limited = judging.rechecked(state, found.coverage)
            if limited:
                return _at(state, Phase.WEIGHING), (*before, Count(""))
            return _record(state, before)
        case Phase.WEIGHING, Counted():
            return _record(*judging.weighed(state, found.count))
        case Phase.RECORDING, Recorded():
            state, before = judging.recorded(state, found)
            return _record(state, before)
    raise TypeError(f"{type(found).__name__} while {state.phase}")


def tally(state: State) -> Tally:
    """What became of the changes looked at so far; also of a run that was cut short."""
    return judging.tally(state)


# ── the list, and whether it's whole ────────────────────────────────────────────────────────────────────────────────
def counts(state: State) -> bool:
    """Whether Shopify's own count tells if the list is whole."""
    return state.look is Look.DELETIONS or state.standing.family.counts(search(state))


def _list_anew(state: State) -> Step:
    state = _forgotten(state)
    if counts(state):
        return _at(state, Phase.COUNTING), (Count(search(state), state.look is Look.DELETIONS),)
    return _list(state)


def _list(state: State) -> Step:
    return _more(_at(state, Phase.LISTING), None)


def _more(state: State, after: str | None) -> Step:
    noted = (state.window.start, state.window.end) if state.look.of_states else None
    return state, (List(search(state), after, state.look, noted),)


def _forgotten(state: State) -> State:
    """As before anything was listed."""
    return state.but(pages=(), unsifted=0, after=None, listed=0, doubt="", shown=(), tally=Tally())


def _listed(state: State, page: Listed) -> Step:
    state = _forgotten(state) if page.anew else state
    roots = len(page.rows) if page.roots is None else page.roots
    state = state.but(listed=state.listed + roots, doubt=state.doubt or page.incomplete)
    if state.look is Look.SWEEP:
        shown = frozenset(row.resource for row in page.rows if row.resource in state.living)
        state = state.but(shown=(*state.shown, shown))
    else:
        state = state.but(pages=(*state.pages, page.rows), unsifted=state.unsifted + len(page.rows))
    if page.after is None:
        if not counts(state):
            state = state.but(agreed=not state.doubt, exact=False)
            return _smaller(state) or _whole(state)
        return _at(state, Phase.RECOUNTING), (Count(search(state), state.look is Look.DELETIONS),)
    if state.look is Look.DELETIONS and state.listed >= DELETIONS_LIMIT:
        smaller = _half(state)
        return smaller if smaller else _compare(state)
    if state.look is Look.BACKFILL and state.unsifted >= SIFTED:
        return _compare(state.but(after=page.after))
    if state.look is Look.STATES and state.unsifted >= SIFTED:
        wanted = frozenset(in_window(state)) - state.pending.keys()
        return _at(state.but(after=page.after), Phase.SIFTING), (ReadTape(judging.since(state), wanted),)
    return _more(state, page.after)


def _recounted(state: State, count: Counted) -> Step:
    # Rows leave an ordinary window while it's listed (an edit moves them past its end) and enter one of whole days that reaches
    # into the future: the smaller of the counts before and after is what a complete list can't fall short of.
    least = min(state.counted, count.count)
    exact = state.exact and count.exact
    agreed = not state.doubt and state.listed >= (least if exact else least * _INEXACT)
    state = state.but(counted=max(state.counted, count.count), exact=exact, agreed=agreed)
    return _smaller(state) or _whole(state)


def _whole(state: State) -> Step:
    if state.look is not Look.SWEEP:
        return _compare(state)
    rows = judging.proposed(state) if state.agreed else ()
    state, actions = _done(state.but(proposed=len(rows)))
    return state, (*((Remember(rows, propose=True),) if rows else ()), *actions)


def _smaller(state: State) -> Step | None:
    """The first half of a window whose list wasn't whole; None where it was, or has been halved often enough."""
    halved = not state.agreed and state.look in (Look.STATES, Look.DELETIONS) and state.halvings < _HALVINGS
    return _half(state) if halved else None


def _half(state: State) -> Step | None:
    """The same from the start, over the window's first half; None where it can't get smaller."""
    start = state.window.start
    middle = floor(start + (state.window.end - start) // 2)
    if middle <= start:
        return None
    return _list_anew(state.but(window=Window(start, middle), halvings=state.halvings + 1))


def _living(state: State, taped: Taped) -> Step:
    """A sweep begins with what lives on the tape, and strikes out what the lists show."""
    options = state.standing.options
    living = taped.coverage.living(state.standing.shop_now - round(options.overlap * SECOND))
    state = state.but(living=living)
    return _list_anew(state) if living else _done(state.but(agreed=True))


# ── comparing, confirming, recording ────────────────────────────────────────────────────────────────────────────────
def _compare(state: State) -> Step:
    """The tape's end is taken after the last page: what came while paging counts as come."""
    wanted = frozenset({*in_window(state), *state.pending})
    if not wanted:
        return _finish(state, ())
    since = 0 if state.look is Look.BACKFILL else judging.since(state)
    return _at(state, Phase.COMPARING), (ReadTape(since, wanted),)


def _confirm(state: State, before: tuple[Action, ...]) -> Step:
    if not state.due:
        return _finish(state, before)
    return _at(state, Phase.CONFIRMING), (*before, judging.fetch(state))


def _confirmed(state: State, found: Fetched) -> Step:
    state = state.but(fetched={**state.fetched, **found.found}, asked=state.asked + judging.chunk(state))
    if state.look is Look.DELETIONS and state.asked < len(state.due):
        return state, (judging.fetch(state),)
    fence, read = filling.recheck(state) if state.look is Look.BACKFILL else judging.recheck(state)
    return _at(state, Phase.RECHECKING), (fence, read)


def _record(state: State, before: tuple[Action, ...]) -> Step:
    if record := judging.next_record(state):
        return _at(state, Phase.RECORDING), (*before, record)
    return _confirm(state, before)


def _finish(state: State, before: tuple[Action, ...]) -> Step:
    if state.look is Look.BACKFILL:
        if state.after is not None:
            return _more(_at(state.but(after=None), Phase.LISTING), state.after)
        return _done(state)
    state = _at(state, Phase.DONE).but(complete=state.agreed)
    return state, (*before, Advance(state.window.end, state.steps_from)) if state.advances else before


def _done(state: State) -> Step:
    return _at(state, Phase.DONE).but(complete=state.agreed), ()


def _at(state: State, phase: Phase) -> State:
    return state.but(phase=phase)


def _utc(us: int) -> str:
    return from_micros(us).strftime("%Y-%m-%dT%H:%M:%SZ")
