"""`Event`: one record of the tape, as handlers and every part of Hooktape see it."""

import hashlib
import re
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from hooktape.errors import NotOurs, UsageError
from hooktape.schemas.bound import Block, Bound
from hooktape.times import from_micros

_DAY = 86_400_000_000
# Shopify's clock is believed this far from ours: it warns of deliveries a day late, and retries for hours. Beyond that the
# header is wrong or forged (it isn't signed), and would scatter the ledger's days.
_BELIEVED = 7 * _DAY


RECONCILER = "reconciler"
"""`source` of the events that the reconciler records."""
BACKFILL = "Hooktape-Backfill"
"""Among a synthetic event's `headers`: no webhook was missed, it tells an integration that is new what there was before it."""
# Below what Kafka's own numbers hold: 31 and 63 bits.
_PLACE = re.compile(r"([A-Za-z0-9._-]{1,249})/([0-9]{1,9})@([0-9]{1,18})")


class Coordinates(NamedTuple):
    """Where a record lies on Kafka."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Coordinates | None":
        """`topic/partition@offset`, as it's shown; None for anything else."""
        found = _PLACE.fullmatch(text)
        return cls(found[1], int(found[2]), int(found[3])) if found else None


class Replay(msgspec.Struct, frozen=True):
    """Why a handler sees an event again: the replay's id, its reason, who asked, and whether finished events run too.

    `seq` is the event's place in the job, by which its outcome is told to the job; None for an offset reset, which has no account.
    """

    id: str
    reason: str = ""
    who: str = ""
    forced: bool = False
    seq: int | None = None


class EventKey(NamedTuple):
    """The ledger's key of an event: its day (days since 1970-01-01) and 16 bytes of BLAKE2b over shop and webhook id."""

    day: int
    id: bytes


def event_id16(shop: str, webhook_id: str) -> bytes:
    """The 16 bytes that stand for (shop, webhook id) in the ledger."""
    return encoded_id16(shop.encode(), webhook_id.encode())


def encoded_id16(shop: bytes, webhook_id: bytes) -> bytes:
    """The same of both in UTF-8, as a record's headers hold them."""
    return hashlib.blake2b(b"%b\0%b" % (shop, webhook_id), digest_size=16).digest()


class Event(msgspec.Struct, kw_only=True):
    """A webhook on the tape. `payload` is Shopify's body byte for byte; `.json()` parses it.

    `*_us` are microseconds since the epoch; `triggered_at`, `received_at` and `resource_version` give them as UTC datetimes.
    `attempt`, `replay`, `at` and what follows them are the worker's and aren't stored in the record.
    """

    webhook_id: str
    shop: str
    topic: str
    payload: bytes
    received_us: int
    event_id: str | None = None
    api_version: str | None = None
    resource: str | None = None
    resource_root: str | None = None
    version_us: int | None = None
    triggered_us: int | None = None
    hmac: str | None = None
    secret_id: str | None = None
    headers: dict[str, str] = {}
    source: str = "webhook"

    attempt: int = 1
    """This try's number, from 1."""
    replay: Replay | None = None
    """Set when an operator sent this event again."""
    at: Coordinates | None = None
    """Where the event lies on the tape."""
    beating: bool = False
    """Set by `heartbeat`; the worker clears it when it has moved the deadline."""
    lapsed: bool = False
    """Set by the worker when this try's time has run out."""
    costs: list[Any] | None = None
    """What `note_cost` was told, for the worker to read when the handler has ended."""
    _bound: Any = None
    """What the worker lends to this try: a `Bound`."""

    @property
    def synthetic(self) -> bool:
        """Whether the reconciler recorded it: its webhook never came, or (`backfilled`) there was none to come."""
        return self.source == RECONCILER

    @property
    def backfilled(self) -> bool:
        """Whether a backfill recorded it: the present state of what changed last before recording began."""
        return self.synthetic and BACKFILL in self.headers

    def json(self) -> Any:
        """The body, parsed. Raises NotOurs that names the event when it isn't JSON."""
        try:
            return msgspec.json.decode(self.payload)
        except (msgspec.DecodeError, RecursionError) as error:
            raise NotOurs(f"the body of {self} isn't JSON that can be read: {error}") from None

    def heartbeat(self) -> None:
        """Says that the handler is still at work: its `timeout` begins anew. Cheap; from any thread of the worker's process.

        Raises TimeoutError when the time had run out already: the event is to be tried again and this try counts no more, so a
        plain function, whose thread can't be cancelled, should end there. Where no worker runs the handler it does nothing.
        """
        if self.lapsed:
            raise TimeoutError(f"the time for {self} had run out before this heartbeat; this try counts no more")
        # A mark, read a few times a second: a call into the worker would have to be safe from any thread.
        self.beating = True

    def transaction(self) -> Block:
        """A transaction in the ledger's PostgreSQL that commits the handler's writes and the event's success together, or neither.

            async with event.transaction() as connection:    # in an `async def`: a psycopg.AsyncConnection
            with event.transaction() as connection:          # in a plain function: a psycopg.Connection

        An error inside the block rolls it back and is the handler's failure, as ever. Once the block has ended without one, the event
        has succeeded, whatever the handler does afterwards. One block per try. Raises SettingsError where the ledger isn't on
        PostgreSQL, UsageError for a second block or outside a worker; the block's end raises TransactionRefused when the event
        isn't this worker's any more, and LedgerUnavailable when the commit wasn't answered (it's looked up then, and never run twice).
        """
        bound: Bound | None = self._bound
        if bound is None:
            raise UsageError(f"event.transaction() was called on {self} outside a worker. In a test: TestApp(app, transaction="
                             "lambda: psycopg.connect(…)) lends it a connection.")  # fmt: skip
        return bound.transaction()

    def note_cost(self, cost: Any) -> None:
        """Tells what a GraphQL call cost: the answer's `extensions["cost"]`, as Shopify sent it. For handlers with `admin_cost`.

        Workers learn the shop's real limits from its `throttleStatus`, and get back what the handler didn't need.
        """
        self.costs = [*(self.costs or ()), cost]

    @property
    def triggered_at(self) -> datetime | None:
        """When Shopify triggered the delivery, by its clock and an unsigned header."""
        return None if self.triggered_us is None else from_micros(self.triggered_us)

    @property
    def received_at(self) -> datetime:
        """When the request arrived here."""
        return from_micros(self.received_us)

    @property
    def resource_version(self) -> datetime | None:
        """The resource's `updated_at`, from the body."""
        return None if self.version_us is None else from_micros(self.version_us)

    @property
    def lane(self) -> str:
        """The Kafka key, and what is handled in order: the shop and the resource's root, or the shop."""
        return f"{self.shop}/{self.resource_root}" if self.resource_root else self.shop

    @property
    def key(self) -> EventKey:
        """The ledger's key. The day is Shopify's, which a webhook's copies share, unless it can't be right."""
        moment = self.triggered_us
        if moment is None or abs(moment - self.received_us) > _BELIEVED:
            moment = self.received_us
        return EventKey(moment // _DAY, event_id16(self.shop, self.webhook_id))

    def __str__(self) -> str:
        return f"{self.topic} {self.webhook_id} of {self.shop}"
