"""Verifies what lies on the tape again: every record decodes, and every webhook's body still bears Shopify's signature."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from hooktape.errors import NotOurs
from hooktape.schemas.event import Coordinates, Event
from hooktape.schemas.signature import Verifier, secret_id
from hooktape.settings import Settings
from hooktape.tape.reader import Partition, Reader, Span
from hooktape.tape.wire import Wire


class Finding(StrEnum):
    """What a record turned out to be."""

    OK = "ok"
    SYNTHETIC = "synthetic"
    """Recorded by the reconciler or imported: it has no signature, the Admin API's token vouches for it."""
    UNSIGNED = "unsigned"
    """Says that it's a webhook and bears no signature."""
    WRONG = "wrong_signature"
    UNKNOWN = "unknown_secret"
    """Its secret isn't among HOOKTAPE_SHOPIFY_SECRETS: nothing can be said until it is."""
    ALIEN = "not_decodable"


FINE = frozenset({Finding.OK, Finding.SYNTHETIC})


def examine(event: Event, verifier: Verifier, known: frozenset[str]) -> Finding:
    """Pure. A record names its secret itself, so a forged one could name any: only a signature that holds is ok."""
    if event.hmac is None:
        return Finding.UNSIGNED if event.source == "webhook" else Finding.SYNTHETIC
    if verifier.verify(event.payload, event.hmac.encode("ascii", "replace")) is not None:
        return Finding.OK
    return Finding.WRONG if event.secret_id is None or event.secret_id in known else Finding.UNKNOWN


@dataclass(slots=True)
class Result:
    """Totals, and the coordinates of the first records of each kind that isn't fine, with what is known of them."""

    totals: Counter[str] = field(default_factory=Counter)
    found: dict[str, list[tuple[Coordinates, str]]] = field(default_factory=dict)
    read: int = 0

    @property
    def is_clean(self) -> bool:
        return not set(self.totals) - FINE

    def add(self, finding: Finding, at: Coordinates, what: str, examples: int = 100) -> None:
        self.totals[finding] += 1
        if finding not in FINE and len(self.found.setdefault(finding, [])) < examples:
            self.found[finding].append((at, what))


def verify(settings: Settings, reader: Reader, spans: dict[Partition, Span]) -> Iterator[Result]:
    """The result so far, after each batch; the last one is the whole. Raises SettingsError without secrets, TapeUnavailable."""
    secrets = [s.reveal() for s in settings.require("shopify_secrets", "signatures are verified with them")]
    verifier, known, wire = Verifier(secrets), frozenset(secret_id(s) for s in secrets), Wire(settings)
    result = Result()
    for records in reader.scan(spans):
        for record in records:
            try:
                event = wire.decode(record.value)
            except NotOurs as error:
                result.add(Finding.ALIEN, record.at, str(error))
            else:
                result.add(examine(event, verifier, known), record.at, str(event))
        result.read += len(records)
        yield result
    if not result.read:
        yield result
