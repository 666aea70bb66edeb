"""Rule 13: what the shop lost on the way is on the tape once, and nothing else is there in a webhook's stead. Pure.

Judged by the shop's own truth and the committed tape; the reconciler's ledger, counters and reports aren't asked.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from hooktape.local.soak.history import Change, Record
from hooktape.local.soak.shopping import STEPS
from hooktape.local.soak.view import View, Violation
from hooktape.schemas.event import RECONCILER

WHOLE_SECONDS = 1.05
"""`updated_at` has whole seconds: a state may look so much older than it is, and the broker's clock is compared with ours."""
PATIENCE = 4
"""Grace periods after which a resource that changes again and again is recorded without another (docs/reconciliation.md)."""
DECIDED_SECONDS = 5.0
"""From the reconciler's last look at the tape to its record there: a second on a quiet machine. What comes in between nobody can know."""


@dataclass(slots=True)
class Reconciled:
    """The figures. `delays`: seconds from a change to the synthetic event that tells of it."""

    synthetic: int = 0
    false: int = 0
    twice: int = 0
    late_after: int = 0
    """Synthetic events whose webhook came after all, and later than its grace."""
    crossed: int = 0
    """Synthetic events that were decided on when such a webhook, or a newer one, came."""
    delays: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Told:
    """A record of the tape, as far as it tells of the shop. `version` None: of a deletion; `received`: the same for all that a
    reconciler recorded of a resource at once."""

    wid: str
    topic: str
    version: int | None
    at: float
    received: int


@dataclass(slots=True)
class _Resource:
    changes: list[Change] = field(default_factory=list)
    webhooks: list[_Told] = field(default_factory=list)
    synthetic: list[_Told] = field(default_factory=list)

    def shows(self, change: Change) -> bool:
        """Whether the tape has the state, a later one, or the deletion."""
        return any(told.topic == change.topic if change.version is None else told.version is not None and told.version >= change.version
                   for told in self.told)  # fmt: skip

    @property
    def told(self) -> list[_Told]:
        return [*self.webhooks, *self.synthetic]


def missed(view: View) -> Iterator[Violation]:
    """missed: the newest state of a resource, or its deletion, isn't on the tape. missed-step: a creation or a cancellation of one
    that lives isn't. What came and went and left no record was never there: no list shows it, and nobody ever handled it."""
    for name, found in _resources(view).items():
        if not found.changes:
            continue
        last = found.changes[-1]
        if not found.shows(last) and (last.version is not None or found.told):
            yield view.breach("missed", f"{last.topic} of {name} ({last.wid}, {last.fate}) isn't on the tape, nor anything later", last.at)
        told = {one.topic for one in found.told}
        for change in found.changes:
            if last.version is not None and change.topic in STEPS and change.topic not in told:
                yield view.breach("missed-step", f"{change.topic} of {name} ({change.wid}, {change.fate}) isn't on the tape", change.at)


def synthetic(view: View, count: Reconciled) -> Iterator[Violation]:
    """recorded-twice: a state, a step or a deletion has two synthetic events, or one event two records. invented: the shop never was
    so. too-soon: recorded within the grace of what it tells. false: the tape told of it already.

    A webhook that came later than its grace and then crossed the event on its way, or came after it, is counted and no fault: nobody
    could know of it. So is a newer state's that came between the reconciler's last look and its record.
    """
    for name, found in _resources(view).items():
        for what, times in Counter(map(_said, found.synthetic)).items():
            if times > 1:
                count.twice += times - 1
                at = max(told.at for told in found.synthetic if _said(told) == what)
                yield view.breach("recorded-twice", f"{' '.join(map(str, what))} of {name} has {times} synthetic events", at)
        for told in found.synthetic:
            count.synthetic += 1
            change = next((one for one in found.changes if _is(told, one)), None)
            if change is None:
                yield view.breach("invented", f"{name} never was as {told.wid} tells ({told.topic}, version {told.version})", told.at)
                continue
            count.delays.append(told.at - change.at)
            yield from _too_soon(view, name, found, told, change)
            yield from _false(view, name, found, told, change, count)


def _too_soon(view: View, name: str, found: _Resource, told: _Told, change: Change) -> Iterator[Violation]:
    grace = view.facts.grace
    # What it lacked, steps too, before its newest change: since when it has been waited for. A step that was recorded with it was
    # still lacking then.
    known = [one for one in found.told if one.at < told.at and one.received != told.received]
    covered, topics = max((one.version or 0 for one in known), default=-1), {one.topic for one in known}
    since = min((one.at for one in found.changes if one.at <= change.at and (
        one.topic not in topics if one.topic in STEPS else (one.version or 0) > covered)), default=change.at)  # fmt: skip
    if told.at - change.at < grace - WHOLE_SECONDS and told.at - since < PATIENCE * grace - WHOLE_SECONDS:
        what = f"{told.wid} tells of {name} {told.at - change.at:.2f} s after it happened, within the grace of {grace:g} s"
        yield view.breach("too-soon", what, told.at)


def _false(view: View, name: str, found: _Resource, told: _Told, change: Change, count: Reconciled) -> Iterator[Violation]:
    grace, decided = view.facts.grace, DECIDED_SECONDS + _frozen(view, told.at)
    twins = [one for one in found.webhooks if _covers(one, told)]
    if not twins:
        return
    first = min(twins, key=lambda one: one.at)
    # A newer one may have come at once: it was no webhook of this state.
    in_time = first.version == told.version and first.at - change.at < grace - WHOLE_SECONDS
    if first.at >= told.at:
        count.late_after += first.version == told.version
    elif in_time or told.at - first.at > decided:
        count.false += 1
        what = f"{told.wid} tells of {name} what the webhook {first.wid} had told {told.at - first.at:.2f} s before"
        yield view.breach("false", what, told.at)
    else:
        count.crossed += 1


def _frozen(view: View, at: float) -> float:
    """For how long a reconciler had stood still shortly before, or a server that it waits for: so much older its last look may be."""
    return max(((fault.healed or view.last) - fault.t for fault in view.history.faults
                if (fault.target in ("broker", "postgres") or (fault.target == "reconciler" and fault.kind == "stop")) and fault.t <= at
                and (fault.healed or view.last) >= at - DECIDED_SECONDS), default=0.0)  # fmt: skip


def _said(told: _Told) -> tuple[str, int | None]:
    """What there may be one synthetic event of: a step or a deletion of a resource, a state of a version."""
    return (told.topic, None) if told.topic in STEPS or told.version is None else ("state", told.version)


def _is(told: _Told, change: Change) -> bool:
    if told.version is None or told.topic in STEPS:
        return told.topic == change.topic
    return told.version == change.version


def _covers(webhook: _Told, told: _Told) -> bool:
    """Whether the webhook says what the synthetic event says, or more."""
    if told.version is None or told.topic in STEPS:
        return webhook.topic == told.topic
    return webhook.version is None or webhook.version >= told.version


def _resources(view: View) -> dict[str, _Resource]:
    found: dict[str, _Resource] = defaultdict(_Resource)
    changes = {change.wid: change for change in view.history.changes}
    for change in sorted(changes.values(), key=lambda one: one.at):
        found[change.resource].changes.append(change)
    if not changes:
        return found
    for wid, copies in view.copies.items():
        if copies[0].source == RECONCILER:
            # Each record counts: a reconciler's is there once.
            found[copies[0].resource].synthetic += map(_told_by, copies)
        elif change_ := changes.get(wid):
            found[change_.resource].webhooks.append(_first(copies, change_))
    return found


def _first(copies: list[Record], change: Change) -> _Told:
    first = min(copies, key=lambda copy: copy.at)
    return _Told(first.wid, change.topic, change.version, first.at, first.received)


def _told_by(record: Record) -> _Told:
    return _Told(record.wid, record.topic, None if record.topic.endswith("/delete") else record.version, record.at,
                 record.received)  # fmt: skip
