"""What a family is: one kind of resource, how the Admin API tells of it, and how that is said as a webhook. Values, no I/O."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec

from hooktape.reconciler import protected, queries
from hooktape.reconciler.bodies.values import Body, Home, Mapper, local, plain
from hooktape.reconciler.queries import Listing
from hooktape.reconciler.unverifiable import REASONS
from hooktape.schemas import topics as shopify
from hooktape.schemas.resources import gid_number
from hooktape.times import from_micros

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
QUERY_POINTS = 500
"""Of a query that asks for several bodies: half of what Shopify allows a single query (1,000 points), so that with the smallest
bucket seen in the wild (1,000) half of it suffices."""
NODES_AT_ONCE = 250
"""Most ids that `nodes(ids:)` takes (shopify.dev/docs/api/usage/limits)."""
REACH = DAY
"""How far before the window a part of an order may have been written that its order's change shows: the order shows only in
the window of its last change, and whoever edits it again and again puts off that its parts are seen."""
EVER = 10 * 365 * DAY
"""The same where a part has no time of its own change: as far as the tape covers."""

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bodies:
    """How the API shows the present state by id, and how that is said as a webhook's body."""

    query: str
    points: int
    """Most that one body costs, by the published rules."""
    map: Mapper
    nested: str = ""
    """Connection inside that may be longer than one page, and the query for the rest of it."""
    nested_query: str = ""
    nested_points: int = 0
    whole: Callable[[Node], str] = lambda node: ""
    """Why a node isn't whole although its connection says so; "": it is, as far as the API's own sums tell."""
    optional: Mapping[str, str] = field(default_factory=dict)
    """Variable of the query → scope: the part is asked for only where the app may read it."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """How a deletion is found. `subject`: its type among the API's `events` ("" when these don't tell of it); `proven`: seen
    there for real; `sweep`: an id that a complete list lacks. `again`: the id may come back, and be deleted again."""

    subject: str = ""
    proven: bool = False
    sweep: bool = True
    again: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """The topics of one kind of resource, and how the Admin API tells of it."""

    name: str
    """First word of its topics."""
    kind: str
    """Type in the tape's names: `order/1`."""
    gid_type: str
    create: str
    update: str
    """The topic that says "this is its state now", and stands for all of the family's in a synthetic event's id. Of what is
    written once it's the creation."""
    delete: str
    """"" where Shopify tells of no deletion."""
    listing: Listing
    bodies: Bodies
    digest: tuple[str, ...]
    """Members of the body that, with the version, tell one state from another: `updated_at` has whole seconds only. Dots lead
    into objects; `member=word`: only whether it's that word counts."""
    brief: Mapper
    """From a list's node to those members of the body, as `bodies.map` says them."""
    scopes: tuple[str, ...] = ()
    """Any of them lets the app read it; () for its own name."""
    version: str = "updatedAt"
    """The API's field that is the version of a body on the tape; dots lead into objects."""
    created: str = "createdAt"
    """The API's field for its beginning; "" where there's none."""
    versioned: bool = True
    """The body carries its version. Where it doesn't, a state is on the tape when the resource's latest record (by when it was
    triggered) has the same digest."""
    by_difference: bool = False
    """Its `updated_at` may move without any webhook: what's missing is only a state that differs from the newest one on the tape,
    however old that is. Of a resource that the tape doesn't know nothing can be said. Since it takes reading the tape from its
    beginning, states are left to look-backs, and a fast pass looks for steps only. Not for what is `versioned`."""
    ids: tuple[str, ...] = ("id",)
    """The members of its bodies that name the resource."""
    deletion: Deletion | None = None
    """None: no topic tells of it."""
    stamps: Mapping[str, str] = field(default_factory=dict)
    """Topic → the API's field that says when that step was taken: each is told apart from the newest state."""
    state_topic: Callable[[Node, bool], str | None] | None = None
    """The topic of a state where create and update don't say it all; None from it: Shopify has no topic for that state."""
    update_tells_all: bool = False
    """Its update is sent of every change, besides the topic that `state_topic` gives. A state is judged only where the update is wanted
    then, since no other topic tells of every state; it's recorded as that other topic where this is wanted too."""
    parent: str = ""
    """The family under whose changed resources it's found."""
    horizon: tuple[str, int] | None = None
    """(scope, days): without that scope nothing older is shown, so that nothing older can be judged."""
    whole_days: bool = False
    """The API documents the filter as one of days: ask for whole days on both sides, and filter here."""

    @property
    def topics(self) -> tuple[str, ...]:
        """All of Shopify's topics of the family."""
        return tuple(topic for topic in shopify.table() if topic.startswith(f"{self.name}/"))

    @property
    def unchecked(self) -> dict[str, str]:
        """Topic → why a comparison of states can't tell whether it was missed."""
        return {topic: REASONS[topic] for topic in self.topics if topic in REASONS}

    @property
    def reach(self) -> int:
        """Microseconds before the window within which a listed row is still to be judged."""
        if not self.parent:
            return 0
        return REACH if self.versioned else EVER

    @property
    def batch(self) -> int:
        """Bodies per query."""
        return min(NODES_AT_ONCE, QUERY_POINTS // self.bodies.points)

    @property
    def subject(self) -> str:
        """Its type among the API's `events`, where those are known to tell of its deletion; "": only a sweep finds it."""
        return self.deletion.subject if self.deletion and self.deletion.proven else ""

    @property
    def swept(self) -> bool:
        """Whether its list shows every live resource by ascending id, or on one page, so that what it lacks may be deleted."""
        listing = self.listing
        return self.deletion is not None and self.deletion.sweep and (listing.sorted or listing.short) and not listing.inside

    @property
    def list_query(self) -> str:
        """A page of the list: variables `query` (null: all) and `after`."""
        return queries.page(self.listing)

    @property
    def count_query(self) -> str:
        """How many root nodes match; "": the API doesn't count them."""
        return queries.count(self.listing) if self.listing.counted else ""

    def counts(self, search: str) -> bool:
        """Whether the API counts what matches: some counts take no filter."""
        return self.listing.counted and (self.listing.count_filtered or not search)

    @property
    def count_name(self) -> str:
        """The count's field in the API."""
        return f"{self.listing.root}Count"

    def body(self, node: Node, home: Home) -> Body:
        """The body of a webhook that tells of this state, its times in the shop's zone; without what Shopify withholds."""
        return local(protected.shown(self.bodies.map(node, home)), home)

    def last_words(self, resource: str) -> Body:
        """The body of a webhook that tells of a deletion: the id alone, or what stands for it."""
        number = resource.partition("/")[2]
        item, dash, place = number.partition("-")
        if dash:
            return {"inventory_item_id": int(item), "location_id": int(place)}
        return {"id": int(number)} if "id" in self.ids else {"admin_graphql_api_id": self.gid(resource)}

    def topic(self, node: Node, first: bool) -> str | None:
        """What to record this state as; `first`: nothing of it is on the tape, and it began within what the tape covers.

        None: Shopify has no topic that says it, so that no webhook was missed.
        """
        if self.state_topic is not None:
            return self.state_topic(node, first)
        return self.create if first else self.update

    def told_as(self, node: Node, first: bool, wanted: Collection[str]) -> str:
        """The one of the wanted topics to record this state as; "": none of those that say it is wanted."""
        topic = self.topic(node, first)
        if self.update_tells_all and topic not in wanted and topic != self.create:
            topic = self.update
        return topic if topic is not None and topic in wanted else ""

    def topics_of(self, node: Node) -> frozenset[str]:
        """The topics that may say this state; empty: Shopify has none that does. A stamped creation is a step, told by its stamp."""
        if self.update_tells_all:
            return same(frozenset((self.update,)))
        said = {self.topic(node, False)} | (set() if self.create in self.stamps else {self.topic(node, True)})
        return same(frozenset(topic for topic in said if topic is not None))

    def search(self, start: int, end: int) -> str:
        """The filter for [start, end) (microseconds), in Shopify's search syntax; "": all is listed.

        Times quoted and in UTC: unquoted, their time is ignored.
        """
        if not self.listing.filtered:
            return ""
        if self.whole_days:
            # Days may be the shop's, up to 14 hours from UTC: a whole day more on either side holds them.
            start, end = start // DAY * DAY - DAY, -(-end // DAY) * DAY + DAY
        start, end = start - self.listing.pad, end + self.listing.pad
        return f"updated_at:>='{_utc(start)}' updated_at:<'{_utc(end)}'"

    def resource(self, gid: str) -> str:
        """`gid://shopify/Order/1` → `order/1`; a level's is its item's and its location's."""
        number, _, item = gid.rpartition("/")[2].partition("?inventory_item_id=")
        return f"{self.kind}/{item}-{number}" if item else f"{self.kind}/{gid_number(gid)}"

    def gid(self, resource: str) -> str:
        """`order/1` → `gid://shopify/Order/1`."""
        number = resource.partition("/")[2]
        item, dash, place = number.partition("-")
        number = f"{place}?inventory_item_id={item}" if dash else number
        return f"gid://shopify/{self.gid_type}/{number}"

    def readable(self, scopes: frozenset[str]) -> bool:
        """Whether an app with these scopes may list the family."""
        return any(may_read(scopes, scope) for scope in self.scopes or (self.name,))

    def variables(self, scopes: frozenset[str], query: str) -> dict[str, Any]:
        """The variables of `query` that say which optional parts to ask for."""
        return {name: may_read(scopes, scope) for name, scope in self.bodies.optional.items() if f"${name}:" in query}

    def digest_of(self, body: Mapping[str, Any]) -> str:
        """Of a body, ours or a webhook's: the same for the same members, whatever zone its times are in."""
        # A creation's body and an update's have the same members; those of a deletion lack all.
        said = [_said(body, *name.split("=")) for name in self.digest]
        return sha256(msgspec.json.encode(said)).hexdigest()[:16]

    def digest_of_payload(self, payload: bytes) -> str | None:
        """Of a record's body; None for what is no JSON object."""
        body = _object(payload)
        return None if body is None else self.digest_of(body)

    def says_any(self, payload: bytes) -> bool:
        """Whether a record's body has any of the digest's members."""
        body = _object(payload)
        return body is not None and any(reach(body, name.partition("=")[0]) is not None for name in self.digest)


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        body = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return None
    return body if isinstance(body, dict) else None


def _said(body: Mapping[str, Any], name: str, word: str | None = None) -> Any:
    """Where REST and GraphQL may say the same in two ways (no text as null or "", tags in some order), it's one way here."""
    found = reach(body, name)
    if word is not None:
        return found == word
    if name == "tags" and isinstance(found, str):
        return sorted(tag for part in found.split(",") if (tag := part.strip())) or None
    return None if found == "" else plain(found)


_SAME: dict[frozenset[str], frozenset[str]] = {}


def same(topics: frozenset[str]) -> frozenset[str]:
    """One object for all equal ones: a hundred thousand rows have the same few topics, and a set takes 216 bytes."""
    return _SAME.setdefault(topics, topics)


def may_read(scopes: frozenset[str], what: str) -> bool:
    """Whether `read_…` or `write_…` is granted."""
    return f"read_{what}" in scopes or f"write_{what}" in scopes


def reach(node: Mapping[str, Any] | None, path: str) -> Any:
    """The member at a dotted path; None where the way breaks off."""
    found: Any = node
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _utc(us: int) -> str:
    return from_micros(us).strftime("%Y-%m-%dT%H:%M:%SZ")
