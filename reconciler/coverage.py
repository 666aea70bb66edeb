"""What the tape holds of one shop's resources: folded from records, asked by the comparison. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hooktape.schemas.event import Event

DELETED = -1
"""Stands for the version of a deletion, which has none."""


@dataclass(frozen=True, slots=True)
class Known:
    """A resource on the tape: its newest version, and when the record of that version that came first was received
    (microseconds). `synthetic`: no real webhook of that version is there, only a reconciler's event.

    `lived` and `died`: when the last change, and the last deletion, that the tape tells of was triggered; 0: it tells of none.
    """

    version: int | None = None
    received: int = 0
    synthetic: bool = False
    lived: int = 0
    died: int = 0

    @property
    def deleted(self) -> bool:
        """Whether its deletion is the last thing that the tape tells of it. An id may come back: an inventory level does."""
        return self.died >= self.lived and self.died > 0


@dataclass(slots=True)
class Coverage:
    """The resources of one shop and family that the tape holds, from the times read so far to the marks.

    `wanted`: only these are taken in; None: all. `watched`: (resource, version) → id of a synthetic event whose webhook may come
    after it yet.
    """

    known: dict[str, Known] = field(default_factory=dict)
    synthetic: set[str] = field(default_factory=set)
    """Ids of the reconciler's own events."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """"Kafka topic/partition" → offset up to which it was read."""
    wanted: frozenset[str] | None = None
    watched: Mapping[tuple[str, int], str] = field(default_factory=dict)
    twins: set[str] = field(default_factory=set)
    """Ids of synthetic events whose webhook came after all."""

    def fold(self, event: Event, deletes: str) -> None:
        """Takes one event in; `deletes` is the family's deletion topic. The order of events doesn't matter."""
        if event.resource is None:
            return
        own = event.synthetic
        if own:
            self.synthetic.add(event.webhook_id)
        deletion = event.topic == deletes
        twin = self.watched.get((event.resource, DELETED if deletion else event.version_us or 0))
        if twin is not None and not own:
            self.twins.add(twin)
        if self.wanted is not None and event.resource not in self.wanted:
            return
        # Not when it came: a change that was delivered after the deletion didn't happen after it.
        at = event.triggered_us if event.triggered_us is not None else event.received_us
        after = Known(died=at, received=event.received_us, synthetic=own) if deletion else (
            Known(event.version_us, event.received_us, own, lived=at))  # fmt: skip
        before = self.known.get(event.resource)
        self.known[event.resource] = after if before is None else _together(before, after)

    def covering(self, resource: str, version: int) -> Known | None:
        """What makes `version` of the resource no news to the tape: that state or a newer one, or its deletion."""
        found = self.known.get(resource)
        if found is None:
            return None
        return found if found.deleted or (found.version is not None and found.version >= version) else None

    def deletion(self, resource: str) -> Known | None:
        """The resource, when the tape tells of its deletion, and of nothing after it."""
        found = self.known.get(resource)
        return found if found is not None and found.deleted else None

    def holds(self, resource: str) -> bool:
        """Whether any record of the resource is there, whatever its version."""
        return resource in self.known

    def living(self, before: int) -> dict[str, int]:
        """Resource → when it last changed, of those that changed before `before` and weren't deleted as far as the tape knows."""
        return {name: known.lived for name, known in self.known.items() if known.lived < before and not known.deleted}


def _together(a: Known, b: Known) -> Known:
    lived, died = max(a.lived, b.lived), max(a.died, b.died)
    versions = (-1 if a.version is None else a.version), (-1 if b.version is None else b.version)
    if versions[0] != versions[1]:
        newer = a if versions[0] > versions[1] else b
        return Known(newer.version, newer.received, newer.synthetic, lived, died)
    return Known(a.version, min(a.received, b.received), a.synthetic and b.synthetic, lived, died)
