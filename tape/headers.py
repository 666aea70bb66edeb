"""Every Kafka header of ours: its name, its meaning, and who writes it. They are replaced at each hop, never appended.

Values are text in UTF-8; times are microseconds since the epoch, UTC. What a filter needs is here, so that it needn't
decode the record.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hooktape.schemas.event import Coordinates, Event, Replay

# ── on every record ─────────────────────────────────────────────────────────────────────────────────────────────────
SHOP = "hooktape-shop"
"""The shop's domain. Written by ingest and the reconciler; do: filter on it."""
TOPIC = "hooktape-topic"
"""Shopify's topic. It tells the topics apart in the log of others and in retry, DLQ and replay topics."""
WEBHOOK_ID = "hooktape-webhook-id"
"""X-Shopify-Webhook-Id; with the shop, what a consumer deduplicates on."""
SOURCE = "hooktape-source"
"""webhook, reconciler or import."""
RELABELLED = "hooktape-relabelled"
"""`1` when the same body and signature came before under another shop or topic. Do: confirm with the Admin API before acting."""
REFUSED_SINCE = "hooktape-refused-since"
"""On the first record after an outage: since when (the time of its receipt) the ingest process answered every webhook with 503."""

# ── on retry, DLQ and replay records: where the event lies on the tape ──────────────────────────────────────────────
ORIGIN_TOPIC = "hooktape-origin-topic"
"""The log topic that holds the event. With the next two: where to look for the untouched record."""
ORIGIN_PARTITION = "hooktape-origin-partition"
"""Its partition."""
ORIGIN_OFFSET = "hooktape-origin-offset"
"""Its offset."""

# ── on retry and DLQ records: what happened so far ──────────────────────────────────────────────────────────────────
ATTEMPTS = "hooktape-attempts"
"""Tries that have ended, all of them failed."""
DUE = "hooktape-due"
"""Not before this time; retry records only."""
FIRST_FAILED = "hooktape-first-failed-at"
"""When its first try failed. Do: compare with your deployments."""
LAST_FAILED = "hooktape-last-failed-at"
"""When its last try failed."""
DISPOSITION = "hooktape-disposition"
"""Why it's here: transient, throttled, permanent, poison, bug, exhausted, rejected; behind for what only waits for another."""
ERROR_TYPE = "hooktape-error-type"
"""The exception's class, with its module."""
ERROR_MESSAGE = "hooktape-error-message"
"""At most 1 KB."""
ERROR_STACK = "hooktape-error-stack"
"""At most 4 KB."""
ERROR_GROUP = "hooktape-error-group"
"""A hash of the error's type and normalised frames: what `hooktape dlq groups` groups by."""

# ── on replay records, and kept on the retry and DLQ records that come of them ──────────────────────────────────────
REPLAY_ID = "hooktape-replay-id"
"""The job, or the reset, that sent it again: `hooktape replay show` accounts for it."""
REPLAY_REASON = "hooktape-replay-reason"
"""Why, in the operator's words; handlers see it as `event.replay.reason`."""
REPLAY_WHO = "hooktape-replay-who"
"""Who asked for it."""
REPLAY_FORCED = "hooktape-replay-forced"
"""`1`: runs even where the ledger says it succeeded."""
REPLAY_SEQ = "hooktape-replay-seq"
"""Its place in the job, where its outcome is entered; a reset has none."""
REDRIVES = "hooktape-redrives"
"""How often it was redriven from the DLQ."""

Headers = dict[str, str]
"""Ours, read."""
Packed = list[tuple[str, str | bytes | None]]
"""As the client takes and gives them."""
_PREFIX = "hooktape-"
# As many digits as 63 bits always hold: a database takes no more, and Python refuses to read thousands.
_NUMBER = re.compile(r"-?[0-9]{1,18}")


def of_event(event: Event) -> Headers:
    """The headers of a record on the log."""
    return {SHOP: event.shop, TOPIC: event.topic, WEBHOOK_ID: event.webhook_id, SOURCE: event.source}


def read(raw: Iterable[tuple[str, str | bytes | None]] | None) -> Headers:
    """Ours among a record's headers, as text; the last of a name counts, undecodable bytes are replaced."""
    found: Headers = {}
    for name, value in raw or ():
        if name.startswith(_PREFIX) and value is not None:
            found[name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return found


def replaced(raw: Iterable[tuple[str, str | bytes | None]] | None, new: Mapping[str, str]) -> Packed:
    """A record's headers for its next hop: foreign ones untouched, ours as in `new` and no others."""
    return [(name, value) for name, value in raw or () if not name.startswith(_PREFIX)] + pack(new)


def pack(headers: Mapping[str, str]) -> Packed:
    """Headers as the producer takes them."""
    return [(name, value.encode()) for name, value in headers.items()]


def origin(headers: Headers, here: Coordinates) -> Coordinates:
    """Where the event lies on the tape: the origin headers, or `here` for a record of the log itself."""
    if ORIGIN_TOPIC not in headers:
        return here
    return Coordinates(headers[ORIGIN_TOPIC], _number(headers, ORIGIN_PARTITION), _number(headers, ORIGIN_OFFSET))


def of_origin(at: Coordinates) -> Headers:
    """The origin headers of a record that lies at `at` on the tape."""
    return {ORIGIN_TOPIC: at.topic, ORIGIN_PARTITION: str(at.partition), ORIGIN_OFFSET: str(at.offset)}


def replay(headers: Headers) -> Replay | None:
    """The replay that a record belongs to, or None."""
    if REPLAY_ID not in headers:
        return None
    return Replay(headers[REPLAY_ID], headers.get(REPLAY_REASON, ""), headers.get(REPLAY_WHO, ""),
                  headers.get(REPLAY_FORCED) == "1", _number(headers, REPLAY_SEQ) if REPLAY_SEQ in headers else None)  # fmt: skip


def of_replay(mark: Replay) -> Headers:
    """The headers that mark a record as replayed."""
    read = {REPLAY_ID: mark.id, REPLAY_REASON: mark.reason, REPLAY_WHO: mark.who, REPLAY_FORCED: "1" if mark.forced else "0"}
    return read if mark.seq is None else read | {REPLAY_SEQ: str(mark.seq)}


@dataclass(frozen=True, slots=True)
class Failure:
    """What a retry or DLQ record tells of the tries so far. Times in microseconds since the epoch."""

    attempts: int
    first_failed_us: int
    last_failed_us: int
    disposition: str
    error_type: str = ""
    message: str = ""
    stack: str = ""
    group: str = ""

    def headers(self) -> Headers:
        """As headers, cut to their limits: a stack trace must not push a record over the topic's size."""
        return {
            ATTEMPTS: str(self.attempts),
            FIRST_FAILED: str(self.first_failed_us),
            LAST_FAILED: str(self.last_failed_us),
            DISPOSITION: self.disposition,
            ERROR_TYPE: self.error_type,
            ERROR_MESSAGE: _cut(self.message, 1024),
            ERROR_STACK: _cut(self.stack, 4096),
            ERROR_GROUP: self.group,
        }


def failure(headers: Headers) -> Failure | None:
    """The failure that a record carries, or None for one that never failed."""
    if ATTEMPTS not in headers:
        return None
    return Failure(
        _number(headers, ATTEMPTS), _number(headers, FIRST_FAILED), _number(headers, LAST_FAILED),
        headers.get(DISPOSITION, ""), headers.get(ERROR_TYPE, ""), headers.get(ERROR_MESSAGE, ""),
        headers.get(ERROR_STACK, ""), headers.get(ERROR_GROUP, ""),
    )  # fmt: skip


def due_us(headers: Headers) -> int:
    """When a retry record may run; 0 (at once) where the header is missing or no number."""
    return _number(headers, DUE)


def refused_since_us(headers: Headers) -> int | None:
    """Since when ingest had refused everything before it took this record; None: it hadn't, or the header is no number."""
    return _number(headers, REFUSED_SINCE) or None


def redrives(headers: Headers) -> int:
    """How often the event was redriven from the DLQ."""
    return _number(headers, REDRIVES)


def _number(headers: Headers, name: str) -> int:
    # A foreign or damaged header must not stop a worker: what isn't a number counts as 0.
    text = headers.get(name, "")
    return int(text) if _NUMBER.fullmatch(text) else 0


def _cut(text: str, size: int) -> str:
    """The end is what tells a stack's cause, the beginning what tells a message's: keep both, lose the middle."""
    if len(text.encode()) <= size:
        return text
    half = (size - 8) // 2
    raw = text.encode()
    return raw[:half].decode(errors="ignore") + " … " + raw[-half:].decode(errors="ignore")
