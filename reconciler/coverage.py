"""What the tape holds of one shop's resources: folded from records, asked by the comparison. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hooktape.schemas.event import Event


@dataclass(frozen=True, slots=True)
class Known:
    """A resource on the tape: its newest version, and when the record of it that came first was received (microseconds)."""

    version: int | None = None
    received: int = 0
    deleted: bool = False


@dataclass(slots=True)
class Coverage:
    """The resources of one shop and family that the tape holds, from the times read so far to the marks."""

    known: dict[str, Known] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    """"Kafka topic/partition" → offset up to which it was read."""

    def fold(self, event: Event, deletes: str) -> None:
        """Takes one event in; `deletes` is the family's deletion topic. The order of events doesn't matter."""
        if event.resource is None:
            return
        before = self.known.get(event.resource)
        after = Known(event.version_us, event.received_us, event.topic == deletes)
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
    if (a.version or -1) == (b.version or -1):
        first = min(a.received, b.received)
    else:
        first = a.received if (a.version or -1) > (b.version or -1) else b.received
    versions = [known.version for known in (a, b) if known.version is not None]
    return Known(max(versions, default=None), first, a.deleted or b.deleted)


def fold_all(events: Iterable[Event], deletes: str) -> Coverage:
    """The coverage of these events."""
    coverage = Coverage()
    for event in events:
        coverage.fold(event, deletes)
    return coverage
