"""The pass's questions to the Admin API, asked: the gate, counts, lists, and bodies by id with their nested lists whole."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from hooktape import log
from hooktape.errors import AdminApiError
from hooktape.reconciler import queries
from hooktape.reconciler.bodies.values import Home
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.family import Family, reach
from hooktape.reconciler.moves import Counted, Fetched, Found, Listed, Row
from hooktape.reconciler.queries import Listing
from hooktape.schemas.resources import gid_number
from hooktape.times import micros

_log = log.get("hooktape.reconciler")
CUT_AT = 100
"""Rows at which Shopify has cut what is inside a node."""
_UTC = Home()
# By the published rules: the installation and its scopes, the shop; a count. Each rounded up.
_GATE_POINTS, _COUNT_POINTS = 10, 5
# A deletion's subject and time: 250 events.
_DELETIONS_POINTS = 260
# A further page of what is inside one node: 200 rows of at most 4 objects.
_REST_POINTS = 810


@dataclass(frozen=True, slots=True)
class Gate:
    """What has to be known before anything is called missing. `shop_now`: Shopify's clock, microseconds."""

    scopes: frozenset[str]
    shop_now: int
    home: Home


async def gate(client: AdminClient) -> Gate:
    """Passes when the token, the shop's status and the API's version are in order; raises AdminApiError otherwise."""
    answer = await client.ask(queries.GATE, {}, _GATE_POINTS)
    domain = str(answer.data["shop"]["myshopifyDomain"]).lower()
    if domain != client.shop.lower():
        # Under the wrong name everything would look missing.
        raise AdminApiError(f"the token of {client.shop} is that of {domain}: correct HOOKTAPE_SHOP_TOKENS", reason="wrong_shop")
    scopes = frozenset(str(scope["handle"]) for scope in answer.data["currentAppInstallation"]["accessScopes"])
    shop = answer.data["shop"]
    return Gate(scopes, answer.date_us, Home(_zone(client.shop, str(shop["ianaTimezone"])), str(shop["currencyCode"])))


def _zone(shop: str, name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        # Times in bodies are the same instants in any zone.
        _log.warning("a shop's time zone isn't known here and is taken for UTC: update tzdata", shop=shop, zone=name, error=str(error))
        return UTC


async def count(client: AdminClient, family: Family, search: str) -> Counted:
    """How many match: resources, or what they are inside of. Of what the API doesn't count: at least none."""
    if not family.counts(search):
        return Counted(0, True)
    variables = {"query": search or None} if family.listing.count_filtered else {}
    return _counted((await client.ask(family.count_query, variables, _COUNT_POINTS)).data[family.count_name])


async def count_deletions(client: AdminClient, search: str) -> Counted:
    """How many of the shop's events match."""
    return _counted((await client.ask(queries.DELETIONS_COUNT, {"query": search}, _COUNT_POINTS)).data["eventsCount"])


async def deletions(client: AdminClient, family: Family, search: str, after: str | None) -> Listed:
    """One page of what was deleted; a row's version is when."""
    found = (await client.ask(queries.DELETIONS, {"query": search, "after": after}, _DELETIONS_POINTS)).data["events"]
    further = _further(client, found, after)
    # Where a filter is ignored, events of anything come: another kind's number is nobody's here.
    own = [node for node in found["nodes"] if str(node.get("subjectId")).startswith(f"gid://shopify/{family.gid_type}/")]
    rows = tuple(Row(family.resource(node["subjectId"]), node["subjectId"], at := _instant(node["createdAt"]), at) for node in own)
    return Listed(rows, further, len(found["nodes"]))


async def existing(client: AdminClient, family: Family, gids: tuple[str, ...]) -> Fetched:
    """Which of these the API knows, by id."""
    answer = await client.ask(queries.EXISTING, {"ids": list(gids)}, len(gids) + 1)
    return Fetched({gid: (Row(family.resource(gid), gid, 0, 0), node) if node else None
                    for gid, node in zip(gids, answer.data["nodes"], strict=True)})  # fmt: skip


async def page(client: AdminClient, family: Family, search: str, after: str | None) -> Listed:
    """One page of the list; a page may also be more of what is inside one node."""
    listing, place = family.listing, _Place.read(after)
    if place.inside:
        (gid, cursor), *others = place.inside
        asked = {"id": gid, "after": cursor, **({"query": search or None} if listing.inner_filter else {})}
        node = (await client.ask(queries.rest(listing), asked, _REST_POINTS)).data["node"]
        if node is None:
            # Deleted while it was listed: whatever was in it is gone as well.
            return Listed((), replace(place, inside=tuple(others)).text(), 0)
        more = node[listing.inside]
        left = (*_cut(client, gid, more, cursor), *others)
        rows = rows_of(family, more["nodes"])
        return Listed(rows, replace(place, inside=left).text(), 0, _suspicious(listing, gid, len(rows), more))
    variables = {"query": search or None} if listing.searched else {}
    answer = await client.ask(family.list_query, {**variables, "after": place.root}, listing.points)
    found = answer.data[listing.root]
    nodes, root = found["nodes"], _further(client, found, place.root)
    further = _Place(root, (), root is None)
    if not listing.inside:
        doubt = f"{listing.root} have more than one page, and come in no order that an edit can't change"
        return Listed(rows_of(family, nodes), further.text(), len(nodes), doubt if listing.short and root is not None else "")
    if not listing.connection:
        return Listed(rows_of(family, (one for node in nodes for one in node[listing.inside])), further.text(), len(nodes))
    parts = [(node["id"], node[listing.inside]) for node in nodes]
    rows = rows_of(family, (one for _, part in parts for one in part["nodes"]))
    left = tuple(cut for gid, part in parts for cut in _cut(client, gid, part))
    doubts = [doubt for gid, part in parts if (doubt := _suspicious(listing, gid, len(part["nodes"]), part))]
    return Listed(rows, replace(further, inside=left).text(), len(nodes), "; ".join(doubts))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a list goes on: the root's cursor, and the nodes whose insides go on first. `last`: the root has ended."""

    root: str | None = None
    inside: tuple[tuple[str, str], ...] = ()
    last: bool = False

    @classmethod
    def read(cls, text: str | None) -> "_Place":
        if text is None:
            return cls()
        root, inside, last = msgspec.json.decode(text)
        return cls(root, tuple((gid, cursor) for gid, cursor in inside), last)

    def text(self) -> str | None:
        """None: nothing is left."""
        if self.last and not self.inside:
            return None
        return msgspec.json.encode([self.root, self.inside, self.last]).decode()


def _further(client: AdminClient, page: Mapping[str, Any], after: str | None = None) -> str | None:
    """Where the list goes on behind this page, which began at `after`; None: it has ended. Raises AdminApiError where that's no further."""
    info = page["pageInfo"]
    if not info["hasNextPage"]:
        return None
    if info["endCursor"] is None or info["endCursor"] == after:
        # Pages without rows wouldn't even fill a list up: it would be asked for until somebody noticed the cost.
        raise AdminApiError(f"a list of {client.shop} says that it goes on where this page of it began; the next pass asks again",
                            reason="no_progress")  # fmt: skip
    return str(info["endCursor"])


def _cut(client: AdminClient, gid: str, part: Mapping[str, Any], after: str | None = None) -> tuple[tuple[str, str], ...]:
    further = _further(client, part, after)
    return ((gid, further),) if further is not None else ()


def _suspicious(listing: Listing, gid: str, rows: int, part: Mapping[str, Any]) -> str:
    """Where Shopify is known to cut what is inside of a node: at 100, saying that it's whole (airbytehq/airbyte#78512)."""
    ended = not part["pageInfo"]["hasNextPage"]
    return f"{listing.inside} of {gid} end at exactly {CUT_AT}, where Shopify is known to cut them" if ended and rows == CUT_AT else ""


async def fetch(client: AdminClient, family: Family, gids: tuple[str, ...], scopes: frozenset[str]) -> Fetched:
    """The present state of these resources. One that changes while its nested list is read is left out: it's not one state."""
    found: dict[str, Found | None] = {}
    shown = family.bodies
    wanted = family.variables(scopes, shown.query)
    for start in range(0, len(gids), family.batch):
        ids = gids[start : start + family.batch]
        answer = await client.ask(shown.query, {"ids": list(ids), **wanted}, len(ids) * shown.points)
        for gid, node in zip(ids, answer.data["nodes"], strict=True):
            whole = await _whole(client, family, node, scopes) if node else None
            if whole is not None and reach(whole, family.version) is not None:
                found[gid] = (row(family, whole), whole)
            elif not node:
                found[gid] = None
    return Fetched(found)


async def rows(client: AdminClient, family: Family, gids: Sequence[str]) -> list[Row | None]:
    """The row of each of at most 250 resources, in their order; None for one that Shopify doesn't show."""
    # A row has at most three objects.
    answer = await client.ask(queries.rows(family.listing, family.gid_type), {"ids": list(gids)}, 3 * len(gids))
    return [row(family, node) if node else None for node in answer.data["nodes"]]


async def _whole(client: AdminClient, family: Family, node: dict[str, Any], scopes: frozenset[str]) -> dict[str, Any] | None:
    """The node with all of its nested list; None when it changed meanwhile, or can't be had whole."""
    shown = family.bodies
    if shown.nested:
        wanted, listed = family.variables(scopes, shown.nested_query), node[shown.nested]
        nodes, further = list(listed["nodes"]), _further(client, listed)
        # A return has no updatedAt: its status is what can change.
        mark = "updatedAt" if "updatedAt" in node else "status"
        while further is not None:
            variables = {"id": node["id"], "after": further, **wanted}
            more = (await client.ask(shown.nested_query, variables, shown.nested_points)).data["node"]
            if not more or more[mark] != node[mark]:
                return None
            nodes += more[shown.nested]["nodes"]
            further = _further(client, more[shown.nested], further)
        node = {**node, shown.nested: {"nodes": nodes}}
    why = shown.whole(node) or _other_cut(node)
    if why:
        _log.warning("a resource isn't shown whole, so that no event is made of it", shop=client.shop, resource=node["id"], why=why)
    return None if why else node


def _other_cut(node: Mapping[str, Any]) -> str:
    for name, value in node.items():
        if isinstance(value, dict) and value.get("pageInfo", {}).get("hasNextPage"):
            return f"{name} has more than one page"
    return ""


def rows_of(family: Family, nodes: Iterable[Mapping[str, Any]]) -> tuple[Row, ...]:
    """The nodes as rows, but for those without a time: the schema lets a refund have none, and it can't be compared then."""
    return tuple(row(family, node) for node in nodes if reach(node, family.version) is not None)


def row(family: Family, node: Mapping[str, Any]) -> Row:
    """A list's node, or one fetched by id, as a row."""
    gid, created = str(node["id"]), reach(node, family.created) if family.created else None
    stamps = tuple((topic, _instant(node[name])) for topic, name in family.stamps.items() if node.get(name))
    return Row(family.resource(gid) if family.kind != "inventory_level" else _level(node), gid, _instant(reach(node, family.version)),
               _instant(created) if created else 0, family.digest_of(family.brief(node, _UTC)), stamps, family.topics_of(node))  # fmt: skip


def _counted(found: Mapping[str, Any] | None) -> Counted:
    return Counted(0, False) if found is None else Counted(int(found["count"]), found["precision"] == "EXACT")


def _level(node: Mapping[str, Any]) -> str:
    # The number in its global id isn't said to be its location's.
    return f"inventory_level/{gid_number(node['item']['id'])}-{gid_number(node['location']['id'])}"


def _instant(text: str) -> int:
    return micros(datetime.fromisoformat(text))
