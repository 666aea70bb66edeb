"""What the tape holds of one shop's resources: folded from records, asked by the comparison. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hooktape.reconciler.family import SECOND, Family, same
from hooktape.reconciler.unverifiable import REASONS
from hooktape.schemas.event import Event

DELETED = -1
"""Stands for the version of a deletion, which has none."""


@dataclass(frozen=True, slots=True)
class Known:
    """A resource on the tape: its newest version (where bodies have none, when the newest record was triggered), and when the record of
    that version that came first was received (microseconds). `synthetic`: no real webhook of that version is there, only a
    reconciler's event. `digests`: of the bodies of that version; `topics`: of all of its records.

    `lived` and `died`: when the last change, and the last deletion, that the tape tells of was triggered; 0: it tells of none.
    """

    version: int | None = None
    received: int = 0
    synthetic: bool = False
    lived: int = 0
    died: int = 0
    digests: tuple[str, ...] = ()
    topics: frozenset[str] = frozenset()

    @property
    def deleted(self) -> bool:
        """Whether its deletion is the last thing that the tape tells of it. An id may come back: an inventory level does."""
        return self.died >= self.lived and self.died > 0


@dataclass(slots=True)
class Coverage:
    """The resources of one shop and of `family` that the tape holds, from the times read so far to the marks.

    `wanted`: only these are taken in; None: all. `watched`: (resource, version) → id of a synthetic event whose webhook may come
    after it yet.
    """

    family: Family
    known: dict[str, Known] = field(default_factory=dict)
    synthetic: set[str] = field(default_factory=set)
    """Ids of the reconciler's own events."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """"Kafka topic/partition" → offset up to which it was read."""
    wanted: frozenset[str] | None = None
    watched: Mapping[tuple[str, int], str] = field(default_factory=dict)
    twins: set[str] = field(default_factory=set)
    """Ids of synthetic events whose webhook came after all."""

    def fold(self, event: Event) -> None:
        """Takes one event in. The order of events doesn't matter."""
        if event.resource is None:
            return
        own = event.synthetic
        if own:
            self.synthetic.add(event.webhook_id)
        deletion = event.topic == self.family.delete
        twin = self.watched.get((event.resource, DELETED if deletion else _second(event.version_us) or 0))
        if twin is not None and not own:
            self.twins.add(twin)
        if self.wanted is not None and event.resource not in self.wanted:
            return
        if event.topic in REASONS and not self._tells(event):
            return
        # Not when it came, if anything else is known: a change that was delivered after the deletion didn't happen after it.
        at = next(us for us in (event.triggered_us, event.version_us, event.received_us) if us is not None)
        if deletion:
            after = Known(died=at, received=event.received_us, synthetic=own)
        else:
            version = _second(event.version_us) if self.family.versioned else at
            # A sweep takes all there is in, and asks only for what lives.
            digest = self.family.digest_of_payload(event.payload) if self.wanted is not None else None
            after = Known(version, event.received_us, own, lived=at, digests=() if digest is None else (digest,),
                          topics=same(frozenset((event.topic,))))  # fmt: skip
        before = self.known.get(event.resource)
        self.known[event.resource] = after if before is None else _together(before, after)

    def _tells(self, event: Event) -> bool:
        """Whether it tells of a state of its resource at all. Not all that a family's topics bear does: an order's edit is about the
        edit, what the law asks for comes after the customer's deletion too, and a move names two fulfillment orders beside each other."""
        if self.family.versioned:
            return event.version_us is not None
        return self.family.says_any(event.payload)

    def covering(self, resource: str, version: int, digest: str = "") -> Known | None:
        """What makes this state of the resource no news to the tape: the same or a newer one, or its deletion since.

        Versions are whole seconds: of two changes in one second the digest tells which is there. Where bodies have no version, the
        newest record must have the digest. "": any has.
        """
        found = self.known.get(resource)
        if found is None:
            return None
        same = not digest or digest in found.digests
        if found.deleted:
            # What has changed since lives again.
            return found if found.died >= version else None
        if not self.family.versioned:
            return found if found.version is not None and same else None
        newer = found.version is not None and (found.version > version or (found.version == version and same))
        return found if newer else None

    def deletion(self, resource: str) -> Known | None:
        """The resource, when the tape tells of its deletion, and of nothing after it."""
        found = self.known.get(resource)
        return found if found is not None and found.deleted else None

    def holds(self, resource: str, topic: str = "") -> bool:
        """Whether any record of the resource (and of that topic) is there, whatever its version."""
        found = self.known.get(resource)
        return found is not None and (not topic or topic in found.topics)

    def living(self, before: int) -> dict[str, int]:
        """Resource → when it last changed, of those that changed before `before` and weren't deleted as far as the tape knows."""
        return {name: known.lived for name, known in self.known.items() if known.lived < before and not known.deleted}


def _second(us: int | None) -> int | None:
    """The API's versions are whole seconds; some webhooks tell theirs to the millisecond."""
    return None if us is None else us // SECOND * SECOND


def _together(a: Known, b: Known) -> Known:
    lived, died, topics = max(a.lived, b.lived), max(a.died, b.died), same(a.topics | b.topics)
    versions = (-1 if a.version is None else a.version), (-1 if b.version is None else b.version)
    if versions[0] != versions[1]:
        newer = a if versions[0] > versions[1] else b
        return replace(newer, lived=lived, died=died, topics=topics)
    digests = tuple(sorted({*a.digests, *b.digests}))
    return Known(a.version, min(a.received, b.received), a.synthetic and b.synthetic, lived, died, digests, topics)
