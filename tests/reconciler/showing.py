"""A whole shop that has changed a lot, and what its Admin API shows of each family, asked without sockets."""

import json
from typing import Any
from zoneinfo import ZoneInfo

from hooktape.local.shop.admin import Admin, Request
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.model import WHOLE, Change, Mix, Shop
from hooktape.local.shop.store import Resource
from hooktape.reconciler import api
from hooktape.reconciler.bodies.values import Home
from hooktape.reconciler.client import Answer
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import Row

SCOPES = frozenset(f"read_{name}" for name in (*FAMILIES, "inventory", "locations"))
_BEGAN = 1_770_000_000


class Showing:
    """`changes`: every webhook of its life; `said`: resource → the last one that told of it."""

    def __init__(self, changes: int = 1_200, seed: int = 4, mix: Mix = WHOLE) -> None:
        self.now = float(_BEGAN)
        self.shop = Shop("one.myshopify.com", seed, lambda: self.now, mix)
        self.admin = Admin(self.shop, "token", Plan("wide", 1e9, 1e9))
        self.home = Home(ZoneInfo("America/Panama"), "USD")
        self.changes: list[Change] = []
        self.said: dict[str, Change] = {}
        for _ in range(changes):
            self.change()
        while self.shop.untold:
            # The last act's other webhooks: what it changed shows already.
            self.change()

    def change(self) -> Change:
        self.now += 1
        change = self.shop.change(self.now)
        self.changes.append(change)
        self.said[change.resource] = change
        return change

    def live(self, family: Family) -> list[Resource]:
        return self.shop.live(family.kind)

    def ask(self, query: str, /, **variables: Any) -> dict[str, Any]:
        return json.loads(json.dumps(self.admin.execute(Request(query, variables))))  # type: ignore[no-any-return]

    def gid(self, family: Family, resource: Resource) -> str:
        return resource.gid.replace("DiscountCodeNode", "DiscountNode")

    def nodes(self, family: Family, gids: list[str] | None = None) -> list[dict[str, Any]]:
        """Bodies as the API shows them, whole."""
        ids = gids if gids is not None else [self.gid(family, one) for one in self.live(family)]
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), family.batch):
            wanted = family.variables(SCOPES, family.bodies.query)
            found += self.ask(family.bodies.query, ids=ids[start : start + family.batch], **wanted)["data"]["nodes"]
        return found

    def listed(self, family: Family) -> list[Row]:
        """All rows of its list."""
        return list(_finished(_all(Direct(self), family)))


class Direct:
    """Stands for the client: asks the admin itself."""

    shop = "one.myshopify.com"

    def __init__(self, showing: Showing) -> None:
        self._showing = showing

    async def ask(self, query: str, variables: dict[str, Any], points: int) -> Answer:
        answer = self._showing.ask(query, **variables)
        assert "errors" not in answer, answer["errors"]
        return Answer(answer["data"], 0, 0)


async def _all(client: Any, family: Family) -> list[Row]:
    rows: list[Row] = []
    after = None
    while True:
        page = await api.page(client, family, family.search(0, 4_000_000_000 * 1_000_000), after)
        assert not page.incomplete, page.incomplete
        rows += page.rows
        after = page.after
        if after is None:
            return rows


def _finished(work: Any) -> Any:
    """Runs what never waits for anything."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")
