"""What the tape holds of one shop's resources: folded from records, asked by the comparison. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hooktape.schemas.event import Event

SOURCE = "reconciler"
"""`source` of the events that the reconciler records."""


@dataclass(frozen=True, slots=True)
class Known:
    """A resource on the tape: its newest version, and when the record of that version that came first was received
    (microseconds). `synthetic`: no real webhook of that version is there, only a reconciler's event."""

    version: int | None = None
    received: int = 0
    deleted: bool = False
    synthetic: bool = False


@dataclass(slots=True)
class Coverage:
    """The resources of one shop and family that the tape holds, from the times read so far to the marks."""

    known: dict[str, Known] = field(default_factory=dict)
    synthetic: set[str] = field(default_factory=set)
    """Ids of the reconciler's own events."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """"Kafka topic/partition" → offset up to which it was read."""

    def fold(self, event: Event, deletes: str) -> None:
        """Takes one event in; `deletes` is the family's deletion topic. The order of events doesn't matter."""
        if event.resource is None:
            return
        own = event.source == SOURCE
        if own:
            self.synthetic.add(event.webhook_id)
        before = self.known.get(event.resource)
        after = Known(event.version_us, event.received_us, event.topic == deletes, own)
        self.known[event.resource] = after if before is None else _newer(before, after)

    def covering(self, resource: str, version: int) -> Known | None:
        """What makes `version` of the resource no news to the tape: that state or a newer one, or its deletion."""
        found = self.known.get(resource)
        if found is None:
            return None
        return found if found.deleted or (found.version is not None and found.version >= version) else None

    def holds(self, resource: str) -> bool:
        """Whether any record of the resource is there, whatever its version."""
        return resource in self.known


def _newer(a: Known, b: Known) -> Known:
    deleted = a.deleted or b.deleted
    if (a.version or -1) != (b.version or -1):
        newer = a if (a.version or -1) > (b.version or -1) else b
        return Known(newer.version, newer.received, deleted, newer.synthetic)
    return Known(a.version or b.version, min(a.received, b.received), deleted, a.synthetic and b.synthetic)
