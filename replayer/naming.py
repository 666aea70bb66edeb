"""`events find`: from what a person has in hand to the resource or the webhook that it names. Reading it is pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hooktape.errors import UsageError
from hooktape.ledger.catalogue import Entry
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, shop_domain
from hooktape.replayer.finding import Finder, Listing
from hooktape.schemas.resources import gid_number, singular

PREFIX = 8
"""The shortest beginning of a webhook id that is looked for: fewer characters are many events'."""
_WEBHOOK = re.compile(rf"[A-Za-z0-9_-]{{{PREFIX},255}}")
_RESOURCE = re.compile(r"[a-z_]+/[\w.-]{1,128}")
_GID = re.compile(r"gid://shopify/([A-Za-z]+)/[^/\s]+")
_ADMIN = re.compile(r"(?:https?://)?(?:admin\.shopify\.com/store/([a-z0-9-]+)|([a-z0-9.-]+)/admin)/(\S+)")
_PAIR = re.compile(r"([a-z_]+)/(\d+)")
# What the Admin API calls a type, where webhooks call it something else.
_KINDS = {"product_variant": "variant"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a text can be: `resources` and what says so, `number` (an id of any type), `name`, or a webhook id's beginning."""

    resource: str | None = None
    rule: str = ""
    number: str | None = None
    name: str | None = None
    webhook: str | None = None
    shop: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """What the text is, by `rule`: a resource, or webhooks. `shop` is None where no shop was named and none is known by the rule."""

    rule: str
    resource: str | None = None
    shop: str | None = None
    ids: tuple[str, ...] = ()

    def told(self, text: str) -> str:
        """`the order name #1005 is order/820982911946154508 of acme.myshopify.com`."""
        of = f" of {self.shop}" if self.shop else ""
        if self.resource is not None:
            return f"{self.rule} {text} is {self.resource}{of}"
        return f"{self.rule} {text}{of}: {len(self.ids)} webhook{'s' * (len(self.ids) != 1)}"

    @property
    def selection(self) -> Selection:
        """The events."""
        return Selection(ids=self.ids, resources=(self.resource,) if self.resource else (), shops=(self.shop,) if self.shop else ())


@dataclass(frozen=True, slots=True)
class Found:
    """A match with the newest of its events; `groups` has each of them again as a group knows it."""

    match: Match
    listing: Listing
    groups: Mapping[str, Mapping[EventKey, Entry]]


def read(text: str, shop: str | None = None) -> Asked:
    """What the text can be. Pure. Raises UsageError for nothing, or where the address is another shop's than `shop`."""
    text, shop = text.strip(), shop_domain(shop) if shop else None
    if not text:
        raise UsageError("Say what to look for: an order's name or number, an id, a token, a product's handle, or an address in the admin.")
    if admin := _ADMIN.match(text):
        of = shop_domain(admin[1] or admin[2])
        if shop not in (None, of):
            raise UsageError(f"The address is of {of}, and --shop says {shop}: leave one of them out.")
        pairs = _PAIR.findall(admin[3].partition("?")[0])
        if not pairs:
            raise UsageError("That address of the admin names no resource: open the order (or product, …), and take its address.")
        kind, number = pairs[-1]
        return Asked(f"{singular(kind)}/{number}", "the address in the admin", shop=of)
    if gid := _GID.fullmatch(text):
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", gid[1]).lower()
        return Asked(f"{_KINDS.get(kind, kind)}/{gid_number(text)}", "the global id", shop=shop)
    if _RESOURCE.fullmatch(text):
        return Asked(text, "the resource", name=text, shop=shop)
    return Asked(number=text if text.isascii() and text.isdigit() else None, name=text,
                 webhook=text if _WEBHOOK.fullmatch(text) else None, shop=shop)  # fmt: skip


def matches(ledger: Ledger, asked: Asked) -> list[Match]:
    """Everything that the catalogue knows under this, the surest first; several where one text means several things."""
    found: list[Match] = []
    if asked.resource is not None:
        found.append(Match(asked.rule, asked.resource, asked.shop))
    if asked.webhook is not None:
        found += _webhooks(ledger, asked.webhook, asked.shop)
    if asked.number is not None:
        kinds = sorted({singular(topic.partition("/")[0]) for topic in ledger.catalogue.topics()} | {"inventory_item", "order", "product"})
        held = Selection(resources=tuple(f"{kind}/{asked.number}" for kind in kinds), shops=(asked.shop,) if asked.shop else ())
        for resource, of in dict.fromkeys(_named(ledger.catalogue.find(held), set(held.resources))):
            found.append(Match("the id", resource, of))
    if asked.name is not None:
        found += [Match(f"the {named.kind}", named.resource, named.shop) for named in ledger.lookups.find(asked.name, asked.shop)]
    return found


def find(finder: Finder, ledger: Ledger, text: str, shop: str | None = None, groups: Iterable[str] = (), limit: int = 50) -> list[Found]:
    """What `text` names, with the newest events of each, and what each of the groups made of them. Raises UsageError."""
    found = []
    for match in matches(ledger, read(text, shop)):
        listing = finder.listed(match.selection, limit=limit)
        if listing.entries:
            statuses = {group: {e.key: e for e in finder.listed(match.selection, group, limit=limit).entries} for group in groups}
            found.append(Found(match, listing, statuses))
    return found


def webhook(ledger: Ledger, text: str, shop: str | None = None) -> list[Entry]:
    """The events with this webhook id, or those whose id begins so, from 8 characters on."""
    found = ledger.catalogue.get(text) or (ledger.catalogue.starting(text) if _WEBHOOK.fullmatch(text) else [])
    return [e for e in found if shop in (None, e.shop)]


def _webhooks(ledger: Ledger, text: str, shop: str | None) -> Iterable[Match]:
    ids = dict.fromkeys(e.webhook_id for e in webhook(ledger, text, shop))
    if ids:
        yield Match("the webhook id" if list(ids) == [text] else "the beginning of the webhook id", None, shop, tuple(ids))


def _named(entries: Iterable[Entry], wanted: set[str]) -> Iterable[tuple[str, str]]:
    for e in entries:
        for resource in (e.resource, e.root):
            if resource in wanted:
                yield str(resource), e.shop
