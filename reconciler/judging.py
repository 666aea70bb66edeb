"""What becomes of a finding: covered, pending, late, gone, held, or to be recorded. Pure; `core` asks step by step."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hooktape.ledger.reconcile import Pending
from hooktape.reconciler.coverage import Coverage, Known
from hooktape.reconciler.family import NODES_AT_ONCE
from hooktape.reconciler.moves import (
    DELETE,
    STATE,
    Action,
    Fence,
    Fetch,
    Forget,
    Look,
    Missing,
    ReadTape,
    Record,
    Recorded,
    Remember,
    Row,
)
from hooktape.reconciler.report import Tally
from hooktape.reconciler.standing import MARGIN, SECOND, State, in_window, steps_only

CHUNK = 100
"""Confirmed and recorded at once: bounds the memory that bodies take, and what a crash leaves to look up."""
FREE_DELETIONS, SHARE_OF_DELETIONS = 10, 100
"""Deletions that one pass may record: ten, or one in a hundred of the family's resources. A fault of ours or of Shopify's looks like
many deletions; a merchant who deletes many can say so."""
_PATIENCE = 4
"""Grace periods for which a resource may change again and again before its newest state is recorded without one of its own."""

Steps = tuple[tuple[str, int], ...]
Judged = tuple[State, tuple[Action, ...]]


# ── compared with the tape ──────────────────────────────────────────────────────────────────────────────────────────
def compared(state: State, coverage: Coverage) -> Judged:
    """The listed rows and what is pending against the tape: what came is forgotten, what lacks is pending, what is due is next."""
    return _states(state, coverage) if state.look is Look.STATES else _deletions(state, coverage)


def since(state: State) -> int:
    """From when on the tape says whether the listed rows, and what is pending, are covered."""
    wanted = state.wanted
    rows = in_window(state).values()
    steps = (at for row in rows for topic, at in row.stamps if topic in wanted and at >= state.low)
    versions = (row.version for row in rows)
    pending = (at for entry in state.pending.values() for at in (entry.version or 0, *(at for _, at in entry.steps)))
    known = _known_from(state) if state.looks_back and (state.pending or any(_told(state, row) for row in rows)) else []
    return min([state.window.start, *steps, *versions, *pending, *known]) - MARGIN


def _known_from(state: State) -> list[int]:
    """Where a state is compared with whatever the tape knew of its resource: from when on."""
    return [state.standing.coverage_from] if state.standing.family.by_difference else []


def _told(state: State, row: Row) -> bool:
    """Whether a webhook that is wanted says this state: otherwise none was missed."""
    return state.standing.family.update in state.wanted if row.topics is None else not state.wanted.isdisjoint(row.topics)


def _steps(state: State, row: Row, coverage: Coverage, noted: Steps = (), before: float = math.inf) -> Steps:
    """The steps that the tape lacks, of those that were taken lately (and `before` an instant), or are `noted`."""
    if coverage.deletion(row.resource):
        return ()
    wanted = state.wanted
    return tuple(step for step in row.stamps if step[0] in wanted and (state.low <= step[1] < before or step in noted)
                 and not coverage.holds(row.resource, step[0]))  # fmt: skip


def sifted(state: State, coverage: Coverage) -> State:
    """Without the rows that the tape has already; what it lacks is looked for again once all is listed."""
    kept: list[Row] = []
    outcomes: Counter[str] = Counter()
    for resource, row in in_window(state).items():
        outcome = "" if resource in state.pending else _settled(state, row, coverage)
        if outcome:
            outcomes.update(_counted(state, row, outcome))
        else:
            kept.append(row)
    return state.but(pages=(tuple(kept),), unsifted=0, tally=state.tally.plus(Tally(**outcomes)))


def _settled(state: State, row: Row, coverage: Coverage) -> str:
    """The outcome of a row that isn't missing, by its name in the tally; "": it's missing as far as this coverage goes."""
    if _steps(state, row, coverage, before=state.window.end) or _lacks(state, row, coverage):
        return ""
    return "covered" if (_told(state, row) or row.stamps) and _judged(state, row, coverage) else "untold"


def _lacks(state: State, row: Row, coverage: Coverage) -> bool:
    """Whether the tape lacks its state, as far as that is to be judged."""
    return not steps_only(state, row) and _told(state, row) and _news(state, row, coverage)


def _news(state: State, row: Row, coverage: Coverage) -> bool:
    """Whether the tape has nothing that makes the state no news to it, and can have nothing else to say about it."""
    return _judged(state, row, coverage) and coverage.covering(row.resource, row.version, row.digest) is None


def _judged(state: State, row: Row, coverage: Coverage) -> bool:
    """Whether the tape is known to lack a state that it hasn't got: otherwise perhaps no webhook told of it."""
    return not state.standing.family.by_difference or coverage.holds(row.resource)


def _counted(state: State, row: Row, outcome: str) -> tuple[str, ...]:
    """Where the tally counts such a row: also as counted anew, unless an earlier pass has looked as far as that."""
    if steps_only(state, row):
        return ()
    reached = state.standing.cursor.position
    return (outcome, f"{outcome}_anew") if reached is None or row.version >= reached else (outcome,)


def _came_at_last(entry: Pending, coverage: Coverage) -> bool:
    if coverage.deletion(entry.resource) and coverage.covering(entry.resource, entry.version or 0):
        return True
    stated = not entry.topic or coverage.covering(entry.resource, entry.version or 0, entry.digest)
    return bool(stated) and all(coverage.holds(entry.resource, topic) for topic, _ in entry.steps)


def _states(state: State, coverage: Coverage) -> Judged:
    rows, standing = in_window(state), state.standing
    pending, tally = dict(state.pending), state.tally
    came: list[Pending] = []
    arrived = {resource for resource, entry in state.pending.items() if _came_at_last(entry, coverage)}
    for resource in arrived:
        entry = pending.pop(resource)
        came.append(entry)
        tally = _came(tally, coverage.known[resource], entry.version or 0) if coverage.holds(resource) else tally
    fresh: list[Pending] = []
    outcomes: Counter[str] = Counter()
    for resource, row in rows.items():
        earlier = pending.get(resource)
        # What was noted as lacking does so still, though the window has moved on from it and the resource has changed since.
        steps = _steps(state, row, coverage, earlier.steps if earlier else (), state.window.end)
        lacks = _lacks(state, row, coverage)
        if earlier is None and (outcome := _settled(state, row, coverage)):
            # What was pending and came is one outcome.
            outcomes.update(_counted(state, row, outcome) if resource not in arrived else ())
        elif earlier is not None and steps_only(state, row):
            if steps != earlier.steps:
                pending[resource] = replace(earlier, steps=steps)
                fresh.append(pending[resource])
        elif earlier is None or (row.version, row.digest, steps) != (earlier.version, earlier.digest, earlier.steps):
            if earlier is not None and row.version < (earlier.version or 0):
                # Confirmed by id, it was newer already: the list lags.
                continue
            entry = Pending(standing.shop, standing.family.name, resource, row.version, STATE, standing.family.update if lacks else "",
                            earlier.first_seen if earlier else standing.now, coverage.marks, gid=row.gid, digest=row.digest,
                            steps=steps)  # fmt: skip
            pending[resource] = entry
            fresh.append(entry)
    due = sorted((p for p in pending.values() if p.first_seen <= standing.now - standing.options.grace), key=lambda p: p.first_seen)
    tally = tally.plus(Tally(**outcomes))
    if not state.advances:
        # The next pass looks at all of it again, and counts it.
        tally = replace(tally, covered_anew=0, untold_anew=0)
    state = state.but(pending=pending, tally=tally, due=tuple(due), pages=())
    return state, tuple(_ledger(came, fresh))


def _deletions(state: State, coverage: Coverage) -> Judged:
    standing, pending = state.standing, dict(state.pending)
    came = [pending.pop(resource) for resource in state.pending if coverage.deletion(resource)]
    fresh = [
        Pending(standing.shop, standing.family.name, resource, row.version, DELETE, standing.family.delete, standing.now, coverage.marks,
                gid=row.gid)
        for resource, row in in_window(state).items()
        if resource not in state.pending and not coverage.deletion(resource)
    ]
    pending |= {entry.resource: entry for entry in fresh}
    # The first look by id comes at once: it clears up most of what a list has wrongly left out.
    due = () if state.blind else tuple(entry for entry in pending.values() if entry.nulled_at is None or _ripe(state, entry))
    # Only proposed: of what lives after all a state may be pending, which outlives this.
    return state.but(pending=pending, due=due, pages=()), tuple(_ledger(came, fresh, propose=True))


def _ripe(state: State, entry: Pending) -> bool:
    """Whether a deletion has waited long enough for its webhook, and between two looks by id.

    From the first denial on: it was deleted by then, while what was first seen missing may have been a state of it, long before.
    """
    now, options = state.standing.now, state.standing.options
    return entry.nulled_at is not None and now - entry.nulled_at >= max(options.apart, options.grace)


def proposed(state: State) -> tuple[Pending, ...]:
    """What a whole sweep lacks of what lives on the tape, as pending deletions."""
    standing, shown = state.standing, frozenset().union(*state.shown)
    # Their webhooks would have been on the tape when the sweep began; what comes later is looked for from then on.
    since = standing.shop_now - round(standing.options.overlap * SECOND)
    return tuple(
        Pending(standing.shop, standing.family.name, resource, since, DELETE, standing.family.delete, standing.now, {},
                gid=standing.family.gid(resource))
        for resource in state.living if resource not in shown and resource not in state.pending)  # fmt: skip


# ── confirmed by id ─────────────────────────────────────────────────────────────────────────────────────────────────
def chunk(state: State) -> int:
    """How many are asked for at once: no more than are recorded within a second, where there's a rate."""
    if not state.look.of_states:
        return NODES_AT_ONCE
    rate = state.standing.options.rate
    return CHUNK if rate is None else max(1, min(CHUNK, int(rate)))


def fetch(state: State) -> Fetch:
    """The next of the due ones, to be asked for by id."""
    asked = state.due[state.asked : state.asked + chunk(state)]
    return Fetch(tuple(_gid(state, entry) for entry in asked), state.look.of_states)


def _gid(state: State, entry: Pending) -> str:
    return entry.gid or state.standing.family.gid(entry.resource)


def recheck(state: State) -> tuple[Fence, ReadTape]:
    """Nobody else may write for the shop from here on; then the tape is read to its end once more."""
    asked = state.due[: state.asked]
    # From the creation on, too: whether any record of it is there decides between `create` and `update`.
    # Where bodies have no version, whatever was told of it last counts, and that may be as old as anything that's kept.
    kept, lasts = state.standing.kept_from, not state.standing.family.versioned
    created = [max(entry[0].created, kept) for entry in state.fetched.values() if entry and (entry[0].created >= kept or lasts)]
    steps = [at for entry in asked for _, at in entry.steps]
    steps += [at for found in state.fetched.values() if found for _, at in found[0].stamps if at >= state.low]
    oldest = min([entry.version or 0 for entry in asked] + (created + steps + _known_from(state) if state.look is Look.STATES else []))
    return Fence(), ReadTape(oldest - MARGIN, frozenset(entry.resource for entry in asked))


def rechecked(state: State, coverage: Coverage) -> tuple[State, tuple[Action, ...], bool]:
    """Decides each that was asked for; True: so many deletions that they have to be weighed first."""
    if state.look is Look.STATES:
        return (*_rechecked_states(state, coverage), False)
    return _rechecked_deletions(state, coverage)


def _rechecked_states(state: State, coverage: Coverage) -> Judged:
    """It came meanwhile, it's gone, it changed again too lately to judge, or it's missing."""
    standing, family = state.standing, state.standing.family
    pending, tally = dict(state.pending), state.tally
    settled: list[Pending] = []
    newer: list[Pending] = []
    missing: list[Missing] = []
    for entry in state.due[: state.asked]:
        gid = _gid(state, entry)
        if gid not in state.fetched:
            continue
        found = state.fetched[gid]
        if found is None:
            pending.pop(entry.resource)
            tally = replace(tally, gone=tally.gone + 1)
            if standing.deletes and coverage.deletion(entry.resource) is None:
                # Perhaps deleted: that is another finding, believed on other terms.
                newer.append(replace(entry, kind=DELETE, topic=family.delete, nulled_at=None, held=False))
            else:
                settled.append(entry)
            continue
        row, node = found
        topic, steps = _missed(state, row, node, entry, coverage)
        if not topic and not steps:
            settled.append(pending.pop(entry.resource))
            known = coverage.known.get(entry.resource) if coverage.covering(entry.resource, row.version, row.digest) else None
            tally = (_came(tally, known, row.version) if known
                     else replace(tally, untold=tally.untold + 1, untold_anew=tally.untold_anew + 1))  # fmt: skip
        elif _moving(state, entry, row):
            # It was first seen long enough ago, but has changed again since: this state's webhook may be on its way.
            moved = replace(entry, version=row.version, digest=row.digest, steps=steps, topic=topic and family.update)
            if moved != entry:
                pending[entry.resource] = replace(moved, high_water=coverage.marks)
                newer.append(pending[entry.resource])
        else:
            missing += [Missing(row, node, told, entry, at, step=True) for told, at in steps]
            if topic and topic not in dict(steps):
                # Where a body has no version, records follow each other by when they were triggered: not before the pass began.
                missing.append(Missing(row, node, topic, entry, row.version if family.versioned else standing.shop_now))
    state = state.but(pending=pending, tally=tally, due=state.due[state.asked :], asked=0, fetched={}, recording=tuple(missing))
    return state, tuple(_ledger(settled, newer))


def _moving(state: State, entry: Pending, row: Row) -> bool:
    grace, standing = state.standing.options.grace, state.standing
    return standing.shop_now - row.version < grace * SECOND and standing.now - entry.first_seen < _PATIENCE * grace


def _missed(state: State, row: Row, node: Mapping[str, Any], entry: Pending, coverage: Coverage) -> tuple[str, Steps]:
    """As which topic the newest state is missing, "" if it isn't; and the steps that are."""
    standing = state.standing
    # What was taken more lately may be on its way.
    settled = standing.shop_now - standing.options.grace * SECOND
    steps = tuple(step for step in _steps(state, row, coverage, entry.steps) if step in entry.steps or step[1] <= settled)
    if not _told(state, row) or not _news(state, row, coverage):
        return "", steps
    # Whatever was created before all that the tape still has may have been told of.
    first = row.created >= standing.kept_from and not coverage.holds(row.resource)
    topic = standing.family.told_as(node, first, state.wanted)
    if first and not topic and row.version > row.created and standing.family.create != standing.family.update:
        # Creations aren't wanted. It has changed since, which is.
        topic = standing.family.told_as(node, False, state.wanted)
    return topic, steps


def _rechecked_deletions(state: State, coverage: Coverage) -> tuple[State, tuple[Action, ...], bool]:
    """Its webhook came meanwhile, the API shows it after all, or denies it for the first time, or long enough."""
    standing, family = state.standing, state.standing.family
    pending, tally = dict(state.pending), state.tally
    settled: list[Pending] = []
    nulled: list[Pending] = []
    missing: list[Missing] = []
    for entry in state.due[: state.asked]:
        gid = _gid(state, entry)
        if coverage.deletion(entry.resource):
            settled.append(pending.pop(entry.resource))
        elif gid not in state.fetched:
            continue
        elif state.fetched[gid] is not None:
            settled.append(pending.pop(entry.resource))
            tally = replace(tally, alive=tally.alive + 1)
        elif entry.nulled_at is None:
            pending[entry.resource] = replace(entry, nulled_at=standing.now)
            nulled.append(pending[entry.resource])
        else:
            row = Row(entry.resource, gid, entry.version or 0, 0)
            missing.append(Missing(row, None, family.delete, entry, row.version))
    state = state.but(pending=pending, tally=tally, due=(), asked=0, fetched={}, recording=tuple(missing))
    weigh = len(missing) > FREE_DELETIONS and not standing.options.accept and bool(family.count_query)
    if len(missing) > FREE_DELETIONS and not standing.options.accept and not weigh:
        state, held = weighed(state, 0)
        return state, (*_ledger(settled, nulled), *held), False
    return state, tuple(_ledger(settled, nulled)), weigh


def weighed(state: State, count: int) -> Judged:
    """Holds all of them where there are more than a pass may record, of `count` resources."""
    if len(state.recording) <= max(FREE_DELETIONS, count // SHARE_OF_DELETIONS):
        return state, ()
    held = [replace(item.pending, held=True) for item in state.recording]
    pending = {**state.pending, **{entry.resource: entry for entry in held}}
    return state.but(pending=pending, recording=()), tuple(_ledger([], held))


# ── recorded ────────────────────────────────────────────────────────────────────────────────────────────────────────
def next_record(state: State) -> Record | None:
    """What is recorded next; None: all of it is."""
    return Record(state.recording[:CHUNK]) if state.recording else None


def recorded(state: State, done: Recorded) -> Judged:
    """Settles what was recorded, now or by an earlier pass."""
    part, rest = state.recording[:CHUNK], state.recording[CHUNK:]
    both, later = done.now | done.before, {item.row.resource for item in rest}
    # Several steps of a resource may be told one by one: it's settled with the last.
    settled = {item.row.resource: item for item in part if item.row.resource in both and item.row.resource not in later}
    pending = dict(state.pending)
    for name in settled:
        pending.pop(name, None)
    now = [name for name in settled if name in done.now]
    tally = replace(state.tally, recorded_before=state.tally.recorded_before + len(settled) - len(now))
    if state.look.of_states:
        tally = replace(tally, recorded=tally.recorded + len(now))
    else:
        tally = replace(tally, deleted=tally.deleted + len(now), recorded_before=state.tally.recorded_before)
    state = state.but(pending=pending, tally=tally, recording=rest, missing=state.missing + tuple(now))
    # A backfill's findings aren't in the ledger.
    return state, () if state.look is Look.BACKFILL else tuple(_ledger([item.pending for item in settled.values()], []))


def tally(state: State) -> Tally:
    """What became of the changes looked at so far; also of a run that was cut short."""
    if not state.look.of_states:
        held = sum(entry.held for entry in state.pending.values())
        return replace(state.tally, doubted=len(state.pending) - held + state.proposed, held=held)
    standing = state.standing
    if state.look is Look.BACKFILL:
        return replace(state.tally, pending=len(state.pending))
    suspected = sum(standing.now - entry.first_seen >= standing.options.suspect for entry in state.pending.values())
    return replace(state.tally, pending=len(state.pending), suspected=suspected)


def _ledger(forget: Sequence[Pending], remember: Sequence[Pending], propose: bool = False) -> list[Action]:
    actions: list[Action] = []
    if forget:
        actions.append(Forget(tuple(forget)))
    if remember:
        actions.append(Remember(tuple(remember), propose))
    return actions


def _came(tally: Tally, known: Known, version: int) -> Tally:
    if known.synthetic:
        # A pass that was killed after publishing, before it could note so.
        return replace(tally, recorded_before=tally.recorded_before + 1)
    delay = max(0, known.received - version)
    return replace(tally, late=tally.late + 1, late_us_total=tally.late_us_total + delay,
                   late_us_max=max(tally.late_us_max, delay))  # fmt: skip
