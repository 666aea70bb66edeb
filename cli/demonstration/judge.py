"""The verdict: the shop's own state against the effects in the warehouse. Pure, and deaf to the pipeline's counters."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hooktape.cli.demonstration.warehouse import Effect
from hooktape.local.shop.truth import Truth
from hooktape.schemas.event import Event


@dataclass(frozen=True, slots=True)
class Verdict:
    """The demo's last table, and what is behind each of its figures."""

    changed: int
    """Changes that the shop made."""
    acknowledged: int
    """Webhooks that were answered with 200."""
    recorded: int
    """Distinct webhooks on the tape."""
    reconciled: int
    """Synthetic events on the tape."""
    handled: int
    """Distinct events that had an effect."""
    superseded: int
    """Distinct events that had none because a newer state of their resource had been applied."""
    lost: tuple[str, ...]
    """Changes, as `webhook id (resource)`, that neither had an effect nor were followed by one of the same or a newer state."""
    unrecorded: tuple[str, ...]
    """Webhooks that were answered with 200 and aren't on the tape."""
    doubled: tuple[str, ...]
    """Events that had an effect twice."""
    missed: tuple[str, ...]
    """Resources whose newest state, or a step of which, was dropped and which the reconciler didn't find."""
    invented: tuple[str, ...]
    """Resources that the reconciler recorded although their newest state and their steps had arrived."""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled, missed or invented."""
        return not (self.lost or self.unrecorded or self.doubled or self.missed or self.invented)


def judge(truth: Truth, tape: Iterable[Event], effects: Iterable[Effect]) -> Verdict:
    """Compares."""
    applied = Counter(effect.webhook_id for effect in effects)
    newest: dict[str, int] = {}
    for effect in effects:
        newest[effect.resource] = max(newest.get(effect.resource, 0), effect.version or 0)
    events = {event.webhook_id: event for event in tape}
    recorded = {id_ for id_, event in events.items() if event.source == "webhook"}
    synthetic = {event.resource for event in events.values() if event.source == "reconciler"}
    lost = tuple(
        f"{change.webhook_id} ({change.resource})"
        for change in truth.deliveries
        if not applied[change.webhook_id] and newest.get(change.resource, -1) < (change.version or 0)
    )
    owed = truth.owed(recorded)
    return Verdict(
        changed=len(truth.deliveries),
        acknowledged=len(truth.accepted_ids()),
        recorded=len(recorded),
        reconciled=len(events) - len(recorded),
        handled=len(applied),
        superseded=len(events.keys() - applied.keys()),
        lost=lost,
        unrecorded=tuple(sorted(truth.accepted_ids() - recorded)),
        doubled=tuple(sorted(id_ for id_, times in applied.items() if times > 1)),
        missed=tuple(sorted(owed - synthetic)),
        # Of two states in one second the one that was dropped may differ in what tells them apart, or not.
        invented=tuple(sorted(name for name in synthetic - owed - truth.unseen().keys() if name)),
    )
