"""What of a record goes into the replay lane: the value as it lies, its key, foreign headers as they were, and the replay's mark. Pure."""

from collections.abc import Mapping

from hooktape.errors import NotOurs
from hooktape.ledger.items import ToSend
from hooktape.replayer.deciding import Decision
from hooktape.replayer.verify import FINE, examine
from hooktape.schemas.event import Replay, encoded_id16, event_id16
from hooktape.schemas.signature import Verifier, secret_id
from hooktape.settings import MIB, Settings
from hooktape.tape import headers
from hooktape.tape.bulk import Outgoing
from hooktape.tape.wire import Wire

# What of a record's own headers stays on a replayed one; where a dead letter's event lies on the tape, only the letter knows.
_TAPE = frozenset({headers.SHOP, headers.TOPIC, headers.WEBHOOK_ID, headers.SOURCE, headers.RELABELLED})
_KEPT = _TAPE | {headers.ORIGIN_TOPIC, headers.ORIGIN_PARTITION, headers.ORIGIN_OFFSET}

_Own = Mapping[str, str | bytes | None]

# Of bodies at once: held three times (read ahead, being sent, in the producer's queue).
_BYTES = 8 * MIB


class Copier:
    """Checks records and turns them into those of one job. Raises TapeUnavailable where a schema registry is needed and silent.

    A record that the cataloguer has verified is known again by its headers: a record never changes, but its topic may be made anew. Of any
    other the signature is verified, where there are secrets to do it with, and one that isn't the planned event or can't be decoded is
    refused anyway.
    """

    def __init__(self, settings: Settings, mark: Replay) -> None:
        secrets = [secret.reveal() for secret in settings.shopify_secrets]
        self._verifier = Verifier(secrets) if secrets else None
        self._known = frozenset(secret_id(secret) for secret in secrets)
        self._wire = Wire(settings)
        self._mark = headers.pack(headers.of_replay(mark))

    def copy(self, item: ToSend, key: bytes | None, value: bytes | None, raw: headers.Packed) -> Outgoing | tuple[str, str]:
        """The record to send, or (outcome, error) when it mustn't be."""
        own = dict(raw)
        if value is None or not item.proven or _id(own) != item.id:
            try:
                event = self._wire.decode(value)
            except NotOurs as error:
                return Decision.UNVERIFIED.value, str(error)
            if event_id16(event.shop, event.webhook_id) != item.id:
                return Decision.GONE.value, "another record lies where the plan found the event"
            if self._verifier is not None and (finding := examine(event, self._verifier, self._known)) not in FINE:
                return Decision.UNVERIFIED.value, f"its signature: {finding.value.replace('_', ' ')}"
            assert value is not None  # decoded above
        return value, key, self._headers(item, raw, own)

    def _headers(self, item: ToSend, raw: headers.Packed, own: _Own) -> headers.Packed:
        # Most records bear what ingest wrote and nothing else.
        plain = own.keys() <= _TAPE
        made = [*raw] if plain else [pair for pair in raw if pair[0] in _KEPT or not pair[0].startswith("hooktape-")]
        if plain or headers.ORIGIN_TOPIC not in own:
            made += ((headers.ORIGIN_TOPIC, item.kafka_topic), (headers.ORIGIN_PARTITION, str(item.partition)),
                     (headers.ORIGIN_OFFSET, str(item.offset)))  # fmt: skip
        made += self._mark
        made.append((headers.REPLAY_SEQ, str(item.seq)))
        if item.redrives:
            made.append((headers.REDRIVES, str(item.redrives)))
        return made


def _id(own: _Own) -> bytes | None:
    """The event's id by the record's headers: enough to know a record again that was verified when it was catalogued."""
    shop, webhook_id = own.get(headers.SHOP), own.get(headers.WEBHOOK_ID)
    return encoded_id16(shop, webhook_id) if isinstance(shop, bytes) and isinstance(webhook_id, bytes) else None


def light(items: list[ToSend]) -> list[ToSend]:
    """As many of the first as aren't too heavy to hold; at least one."""
    weight = 0
    for index, item in enumerate(items):
        weight += item.size
        if weight > _BYTES and index:
            return items[:index]
    return items
