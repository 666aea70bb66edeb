"""The pass's questions to the Admin API, asked: the gate, counts, lists, and bodies by id with their nested lists whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hooktape.errors import AdminApiError
from hooktape.reconciler import queries
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.families import Family
from hooktape.reconciler.moves import Counted, Fetched, Found, Listed, Row
from hooktape.times import micros

# By the published rules: the installation and its scopes, the shop; a count; 250 rows of a list. Each rounded up.
_GATE_POINTS, _COUNT_POINTS, _LIST_POINTS = 10, 5, 260


@dataclass(frozen=True, slots=True)
class Gate:
    """What has to be known before anything is called missing. `shop_now`: Shopify's clock, microseconds."""

    scopes: frozenset[str]
    shop_now: int


async def gate(client: AdminClient) -> Gate:
    """Passes when the token, the shop's status and the API's version are in order; raises AdminApiError otherwise."""
    answer = await client.ask(queries.GATE, {}, _GATE_POINTS)
    domain = str(answer.data["shop"]["myshopifyDomain"]).lower()
    if domain != client.shop.lower():
        # Under the wrong name everything would look missing.
        raise AdminApiError(f"the token of {client.shop} is that of {domain}: correct HOOKTAPE_SHOP_TOKENS", reason="wrong_shop")
    scopes = frozenset(str(scope["handle"]) for scope in answer.data["currentAppInstallation"]["accessScopes"])
    return Gate(scopes, answer.date_us)


async def count(client: AdminClient, family: Family, search: str) -> Counted:
    """How many resources match."""
    found = (await client.ask(family.count_query, {"query": search}, _COUNT_POINTS)).data[family.count_name]
    return Counted(0, False) if found is None else Counted(int(found["count"]), found["precision"] == "EXACT")


async def page(client: AdminClient, family: Family, search: str, after: str | None) -> Listed:
    """One page of the list."""
    answer = await client.ask(family.list_query, {"query": search, "after": after}, _LIST_POINTS)
    found = answer.data[family.name]
    info = found["pageInfo"]
    return Listed(tuple(_row(family, node) for node in found["nodes"]), info["endCursor"] if info["hasNextPage"] else None)


async def fetch(client: AdminClient, family: Family, gids: tuple[str, ...], scopes: frozenset[str]) -> Fetched:
    """The present state of these resources. One that changes while its nested list is read is left out: it's not one state."""
    found: dict[str, Found | None] = {}
    wanted = family.variables(scopes, family.body_query)
    for start in range(0, len(gids), family.batch):
        ids = gids[start : start + family.batch]
        answer = await client.ask(family.body_query, {"ids": list(ids), **wanted}, len(ids) * family.points)
        for gid, node in zip(ids, answer.data["nodes"], strict=True):
            whole = await _whole(client, family, node, scopes) if node else None
            if whole is not None:
                found[gid] = (_row(family, whole), whole)
            elif not node:
                found[gid] = None
    return Fetched(found)


async def versions(client: AdminClient, gids: Sequence[str]) -> list[int | None]:
    """When each of at most 250 resources changed last (microseconds), in their order; None for one that Shopify doesn't show."""
    nodes = (await client.ask(queries.VERSIONS, {"ids": list(gids)}, len(gids))).data["nodes"]
    return [_instant(node["updatedAt"]) if node else None for node in nodes]


async def _whole(client: AdminClient, family: Family, node: dict[str, Any], scopes: frozenset[str]) -> dict[str, Any] | None:
    """The node with all of its nested list; None when it changed meanwhile."""
    if not family.nested:
        return node
    wanted, listed = family.variables(scopes, family.nested_query), node[family.nested]
    nodes, info = list(listed["nodes"]), listed["pageInfo"]
    while info["hasNextPage"]:
        variables = {"id": node["id"], "after": info["endCursor"], **wanted}
        more = (await client.ask(family.nested_query, variables, family.nested_points)).data["node"]
        if not more or more["updatedAt"] != node["updatedAt"]:
            return None
        nodes += more[family.nested]["nodes"]
        info = more[family.nested]["pageInfo"]
    return {**node, family.nested: {"nodes": nodes}}


def _row(family: Family, node: Mapping[str, Any]) -> Row:
    gid = str(node["id"])
    return Row(family.resource(gid), gid, _instant(node["updatedAt"]), _instant(node["createdAt"]))


def _instant(text: str) -> int:
    return micros(datetime.fromisoformat(text))
