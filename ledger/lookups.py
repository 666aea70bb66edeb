"""What a person has in hand (`#1005`, a checkout's token) → the resource it names, as keyed hashes of what events' bodies say.

The name leads to the resource and not to the event that bore it: a refund or a fulfilment bears no name, and belongs to the order all
the same; and an order that is updated a hundred times a day is one row. Kept are names, numbers and tokens that identify one resource
and that somebody reads off a screen, a mail or an address: few for each event. Not kept are e-mails, names of people and addresses
(personal data), and SKUs (hundreds in one body). Numbers that are ids need no row: `resource` holds them.

It costs 10 µs of CPU an event (three in five an order of 6.7 KB, 2.4 rows an event, SQLite), 8 of them for looking into bodies.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.texts import clean
from hooktape.schemas.event import Event

Row = tuple[int, int, str, str]
"""Day, hash, shop, resource."""

# An id is at most this long in Shopify's headers and bodies; a longer text names nothing that anybody types.
_LONGEST = 128
# Without a shop, `#1001` may name an order of every shop: more than a person can look through.
_MOST = 1000
_SECRET = 32  # bytes; BLAKE2b takes up to 64, and a digest of 8 is no better than its key


class _Order(msgspec.Struct):
    name: str | None = None
    order_number: int | str | None = None
    confirmation_number: str | None = None
    token: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None


class _Named(msgspec.Struct):
    name: str | None = None


class _Checkout(msgspec.Struct):
    name: str | None = None
    token: str | None = None
    cart_token: str | None = None


class _Product(msgspec.Struct):
    handle: str | None = None


# First word of the topic → the typed decoder, which skips the rest of the body, and (member, what it's called).
_FAMILIES: dict[str, tuple[msgspec.json.Decoder[msgspec.Struct], tuple[tuple[str, str], ...]]] = {
    "orders": (msgspec.json.Decoder(_Order), (
        ("name", "order name"), ("order_number", "order name"), ("confirmation_number", "confirmation number"),
        ("token", "order token"), ("checkout_token", "checkout token"), ("cart_token", "cart token"))),
    "draft_orders": (msgspec.json.Decoder(_Named), (("name", "draft order name"),)),
    "checkouts": (msgspec.json.Decoder(_Checkout), (
        ("name", "checkout name"), ("token", "checkout token"), ("cart_token", "cart token"))),
    "products": (msgspec.json.Decoder(_Product), (("handle", "product handle"),)),
}  # fmt: skip
KINDS: tuple[str, ...] = tuple(dict.fromkeys(kind for _, members in _FAMILIES.values() for _, kind in members))
"""What names a resource, in the words of people."""


class Named(NamedTuple):
    """A resource and what it was found by."""

    kind: str
    shop: str
    resource: str


class Namer:
    """Makes rows and hashes with the install's secret."""

    def __init__(self, secret: bytes) -> None:
        # BLAKE2b with a key is a MAC by itself (RFC 7693): 0.4 µs a name, where HMAC-SHA256 takes 2.4.
        self._keyed = hashlib.blake2b(key=secret, digest_size=8)

    def hash(self, kind: str, text: str) -> int:
        """The hash of a name, as a signed number of 64 bits. `#1005` and `1005` are the same, and so are capitals and small letters."""
        keyed = self._keyed.copy()
        keyed.update(f"{kind}\0{_plain(text)}".encode("utf-8", "replace"))
        return int.from_bytes(keyed.digest(), "big", signed=True)

    def rows(self, event: Event) -> list[Row]:
        """What the event's resource is called, from its body: best effort, and nothing where the body isn't what it should be."""
        resource = event.resource_root or event.resource
        family = _FAMILIES.get(event.topic.partition("/")[0])
        if family is None or resource is None:
            return []
        decoder, members = family
        try:
            body = decoder.decode(event.payload)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return []
        day, shop, resource = event.key.day, clean(event.shop), clean(resource)
        named = {(kind, plain) for member, kind in members
                 if (text := getattr(body, member)) not in (None, "") and len(plain := _plain(str(text))) <= _LONGEST}  # fmt: skip
        return [(day, self.hash(kind, plain), shop, resource) for kind, plain in named]


def add(t: Transaction, rows: Iterable[Row]) -> None:
    """Writes rows, in the transaction that writes their events; one that is there stays as it is."""
    # In one order everywhere, so that two transactions can't wait for each other, and what is near lands together.
    t.insert("INSERT INTO lookups (day, hash, shop, resource)", ("integer", "bigint", "text", "text"), sorted(set(rows)),
             "ON CONFLICT (day, hash, shop, resource) DO NOTHING")  # fmt: skip


class Lookups:
    """Finds resources by their names."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._namer: Namer | None = None

    @property
    def namer(self) -> Namer:
        """With this ledger's secret, which is made with the first use and kept: without it no row is found again."""
        if self._namer is None:

            def work(t: Transaction) -> bytes:
                t.run("INSERT INTO lookup_key (one, secret) VALUES (1, :secret) ON CONFLICT (one) DO NOTHING",
                      {"secret": os.urandom(_SECRET)})  # fmt: skip
                row = t.row("SELECT secret FROM lookup_key")
                assert row is not None
                return bytes(row[0])

            self._namer = Namer(self._database.write(work))
        return self._namer

    def find(self, text: str, shop: str | None = None) -> list[Named]:
        """The resources that are called so, at most 1,000 of them; by the order of KINDS."""
        kinds = {self.namer.hash(kind, text): kind for kind in KINDS}

        def work(t: Transaction) -> Sequence[tuple[int, str, str]]:
            days = [day for (day,) in t.rows("SELECT day FROM event_days")]
            return t.rows(f"""SELECT DISTINCT hash, shop, resource FROM lookups
                              WHERE day IN :days AND hash IN :hashes {'' if shop is None else 'AND shop = :shop'} LIMIT {_MOST}""",
                          {"days": days, "hashes": list(kinds), "shop": shop}) if days else []  # fmt: skip

        found = [Named(kinds[hash_], of, resource) for hash_, of, resource in self._database.read(work)]
        return sorted(found, key=lambda named: (KINDS.index(named.kind), named))


def _plain(text: str) -> str:
    return text.strip().removeprefix("#").casefold()
