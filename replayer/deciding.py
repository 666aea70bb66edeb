"""What will become of a selected event, and which resources go first. Pure."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from hooktape.ledger.checks import FINISHED, State
from hooktape.ledger.items import RUN

REDRIVES = 3
"""An event that died so often after being sent again won't recover by itself: a person has to insist."""
URGENT = 10_000
"""So many resources with the newest failures go first. The others follow in the tape's order: reading it in another one costs a seek an
event, and a plan remembers the urgent ones."""
# What separates one urgent resource's `seq`s from the next one's: above any job's number of events, and ten thousand of it below 2**53,
# which JSON keeps.
_ROOM = 1 << 36


class Decision(StrEnum):
    """What will become of a selected event."""

    RUN = RUN
    DONE = "done"
    """The group has finished it: succeeded, or skipped it as stale, or a person discarded it. `--force` runs it again."""
    SUPERSEDED = "superseded"
    """A newer version of its resource, by the same topic, has succeeded already. `--force` runs it nevertheless."""
    HELD = "held"
    """It waits behind an earlier event of its resource that is in retry, and runs by itself after that."""
    WAITING = "waiting"
    """In a retry topic: it'll run by itself."""
    GONE = "gone"
    """Retention has removed it from the tape, and no dead letter holds it."""
    UNVERIFIED = "unverified"
    """Its body doesn't bear Shopify's signature: it never runs, forced or not."""
    AGAIN = "needs_again"
    """Died after three redrives: `--again` redrives it once more."""
    REFUSED = "refused"
    """Its handler takes no replays (`App.on(…, replay=False)`)."""


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """What the decision on one event depends on. `kept`: its body can still be had. `newest` is the newest version of its resource that
    has succeeded, `refused` says that its topic's handler takes no replays, `sound` that nothing speaks against its signature."""

    state: State | None
    kept: bool
    version: int | None = None
    newest: int | None = None
    redrives: int = 0
    refused: bool = False
    sound: bool = True


def decide(event: Candidate, *, forced: bool = False, again: bool = False) -> Decision:
    """Pure. An event that runs just now counts as not finished: its worker skips the second record once it has ended."""
    if not event.sound:
        return Decision.UNVERIFIED
    if not event.kept:
        return Decision.GONE
    if event.state is State.WAITING:
        return Decision.WAITING
    if event.state is State.BEHIND:
        return Decision.HELD
    if event.refused:
        return Decision.REFUSED
    if event.redrives >= REDRIVES and not again:
        return Decision.AGAIN
    if forced:
        return Decision.RUN
    if event.state in FINISHED:
        return Decision.DONE
    if event.version is not None and event.newest is not None and event.newest > event.version:
        return Decision.SUPERSEDED
    return Decision.RUN


def urgency(lanes: Iterable[str]) -> dict[str, int]:
    """Lane → what is added to its events' place in time, given the lanes of failures, the newest failure first.

    One number for all events of a lane, so that within it the oldest goes first whatever the ranks are; below zero, so that the lane
    goes before all that have no rank. A lane counts by its newest failure.
    """
    ranks = dict.fromkeys(lanes)
    return {lane: (rank - len(ranks)) * _ROOM for rank, lane in enumerate(ranks)}
