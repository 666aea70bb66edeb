"""What becomes of what a backfill finds: on the tape already, or recorded as it is now. Pure; `core` asks step by step.

It looks at the time before the one that the other passes judge, and records only resources of which the tape has nothing at all. There's
no grace period: nobody waits for webhooks of that time. So nothing of it is kept as pending between two runs; one that is killed is gone on
with by the next, to which the tape says what has been recorded.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hooktape.ledger.reconcile import Pending
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.moves import Fence, Missing, ReadTape
from hooktape.reconciler.standing import State, in_window

BACKFILL = "backfill"
"""The kind of these findings."""


def compared(state: State, coverage: Coverage) -> State:
    """The listed rows against the whole tape: that of which it has nothing is next."""
    standing = state.standing
    rows = in_window(state)
    absent = {
        resource: Pending(standing.shop, standing.family.name, resource, row.version, BACKFILL, standing.family.update, standing.now, {},
                          gid=row.gid, digest=row.digest)
        for resource, row in rows.items() if not coverage.holds(resource)
    }  # fmt: skip
    tally = replace(state.tally, covered=state.tally.covered + len(rows) - len(absent))
    return state.but(pending={**state.pending, **absent}, due=tuple(absent.values()), tally=tally, pages=(), unsifted=0,
                     marks=coverage.marks)  # fmt: skip


def recheck(state: State) -> tuple[Fence, ReadTape]:
    """Nobody else may fill in here from now on; then what the tape has got since it was last read. That says whether any of them came."""
    return Fence(), ReadTape(0, None, state.marks)


def rechecked(state: State, coverage: Coverage) -> State:
    """Decides each that was asked for: it came meanwhile, it's gone, it changed and is the other passes' business, or it's recorded."""
    pending, tally = dict(state.pending), state.tally
    came = [resource for resource in coverage.known if pending.pop(resource, None)]
    tally = replace(tally, covered=tally.covered + len(came))
    missing: list[Missing] = []
    for entry in state.due[: state.asked]:
        if entry.resource not in pending or entry.gid not in state.fetched:
            continue
        found = state.fetched[entry.gid]
        if found is None:
            pending.pop(entry.resource)
            tally = replace(tally, gone=tally.gone + 1)
            continue
        row, node = found
        if row.version >= state.window.end:
            continue
        if topic := _topic(state, node):
            # Where a body has no version, records follow each other by when they were triggered.
            at = row.version if state.standing.family.versioned else state.standing.shop_now
            missing.append(Missing(row, node, topic, entry, at))
        else:
            pending.pop(entry.resource)
            tally = replace(tally, untold=tally.untold + 1)
    return state.but(pending=pending, tally=tally, due=state.due[state.asked :], asked=0, fetched={}, recording=tuple(missing),
                     marks=coverage.marks)  # fmt: skip


def _topic(state: State, node: Mapping[str, Any]) -> str:
    """The topic that says "this is its state now"; that of its creation where only this is wanted; "": none is."""
    family = state.standing.family
    return family.told_as(node, False, state.wanted) or family.told_as(node, True, state.wanted)
