"""Asks both sides of `hooktape counts`: Shopify for its counts, the ledger for the tape's and a group's."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from fnmatch import fnmatchcase

import httpx

from hooktape.errors import AdminApiError
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.tallies import MINUTE, Asked, Minute
from hooktape.reconciler import api, counting
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.counting import Cell, Measure, Row, Span
from hooktape.reconciler.families import FAMILIES, Family
from hooktape.reconciler.family import DAY, NODES_AT_ONCE, SECOND
from hooktape.reconciler.pacing import Pace
from hooktape.schemas import topics as shopify
from hooktape.settings import Settings

# Shops and, in each, questions at a time. The pace is the budget's; this is how many wait for it.
_SHOPS, _QUESTIONS = 8, 4
# Creations in the minute after a day's end that are looked up by id: ten questions. A shop with more has them counted as slack.
_LOOKED_UP = 10 * NODES_AT_ONCE


@dataclass(slots=True)
class Counts:
    """`uncountable`: wanted topic → why no day of it can be counted; `errors`: shop → why it can't be asked."""

    rows: list[Row] = field(default_factory=list)
    uncountable: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    zones: dict[str, tzinfo] = field(default_factory=dict)
    """Shop → the zone that its days are of."""
    points: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """What to count. `topics`: patterns, () for all that are wanted on the tape; times in microseconds: the days from `since`'s on, up to
    `until` (None: now less the grace period, within which webhooks may still come). `home`: days are of the shop's zone, not UTC."""

    shops: Sequence[str]
    since: int
    until: int | None = None
    topics: Sequence[str] = ()
    group: str = ""
    home: bool = False

    def takes(self, topic: str) -> bool:
        return not self.topics or any(fnmatchcase(topic, pattern) for pattern in self.topics)


class Counter:
    """`await count(wish)`. The ledger and `http` stay the caller's to close. The catalogue must have caught up with the tape."""

    def __init__(self, settings: Settings, ledger: Ledger, http: httpx.AsyncClient) -> None:
        self._settings, self._ledger, self._http = settings, ledger, http
        self._access = Access(settings, http)
        self._provisioned = shopify.expand(settings.topics)

    async def count(self, wish: Wish) -> Counts:
        """Both sides' figures. What a shop's Admin API refuses is in `errors`; the others go on. Raises LedgerError."""
        found = Counts()
        wanted = [topic for topic in self._provisioned if wish.takes(topic)]
        for topic in wanted:
            if why := counting.reason(topic, FAMILIES.get(topic.partition("/")[0])):
                found.uncountable[topic] = why
        handlers = await asyncio.to_thread(self._ledger.handlers.of, wish.group) if wish.group else []
        taken = frozenset(topic for handler in handlers for topic in handler.topics)
        slots = asyncio.Semaphore(_SHOPS)

        async def one(shop: str) -> list[Row]:
            async with slots:
                try:
                    client = AdminClient(self._settings, shop, self._http, self._access, pace=Pace(self._ledger.budgets, shop))
                    return await _Shop(self._settings, self._ledger, client, wish, frozenset(wanted), taken, found).rows()
                except AdminApiError as error:
                    found.errors[shop] = str(error)
                    return []

        found.rows = [row for rows in await asyncio.gather(*map(one, wish.shops)) for row in rows]
        return found


class _Shop:
    """One shop's figures."""

    def __init__(self, settings: Settings, ledger: Ledger, client: AdminClient, wish: Wish, wanted: frozenset[str], taken: frozenset[str],
                 found: Counts) -> None:  # fmt: skip
        self._settings, self._ledger, self._client, self._shop = settings, ledger, client, client.shop
        self._wish, self._wanted, self._taken, self._found = wish, wanted, taken, found
        self._slots = asyncio.Semaphore(_QUESTIONS)

    async def rows(self) -> list[Row]:
        gate = await api.gate(self._client)
        zone = self._found.zones[self._shop] = gate.home.zone if self._wish.home else UTC
        # Webhooks that may still come aren't missing yet.
        settled = gate.shop_now - round(self._settings.reconcile_grace * SECOND)
        until = min(settled, self._wish.until if self._wish.until is not None else settled) // MINUTE * MINUTE
        spans = counting.days(self._wish.since, until, zone)
        try:
            return [row for family in FAMILIES.values() for row in await self._family(family, spans, gate)] if spans else []
        finally:
            self._found.points += self._client.spent

    async def _family(self, family: Family, spans: Sequence[Span], gate: api.Gate) -> list[Row]:
        if not counting.cells(family, self._wanted, spans, gate.home.zone):
            return []
        if not family.readable(gate.scopes):
            why = counting.SCOPE + " or ".join(f"read_{scope}" for scope in family.scopes or (family.name,))
            return [Row(self._shop, replace(cell, why=why)) for cell in counting.cells(family, self._wanted, spans, gate.home.zone)]
        begun = await self._begun(family, gate)
        whole = counting.cells(family, self._wanted, spans, gate.home.zone)
        kept = [] if begun is None else counting.clipped(spans, begun)
        ends = {end for _, end in kept}
        early = [Row(self._shop, replace(cell, why=counting.BEFORE)) for cell in whole if cell.span[1] not in ends]
        cells = counting.cells(family, self._wanted, kept, gate.home.zone)
        if not cells:
            return early
        # The tape first: what changes in between leaves Shopify's older days, and not the tape's, and so makes no gap.
        asked = self._asked(family, (cells[0].span[0], spans[-1][1]))
        minutes = await asyncio.to_thread(self._ledger.tallies.minutes, asked)
        counted = await asyncio.gather(*(self._counted(cell, minutes, gate.home.zone) for cell in cells))
        return early + await self._redated(list(counted), family, gate)

    async def _begun(self, family: Family, gate: api.Gate) -> int | None:
        """From when on the two sides can be compared: what was recorded, is still kept, and is shown by the API."""
        cursor = await asyncio.to_thread(self._ledger.reconcile.cursor, self._shop, family.name)
        begun = cursor.coverage_from
        if begun is None:
            begun = await asyncio.to_thread(self._ledger.tallies.begun, self._shop, family.topics)
        if begun is None:
            return None
        oldest = [begun, gate.shop_now - self._settings.retention_days * DAY + DAY]
        if family.horizon and family.horizon[0] not in gate.scopes:
            oldest.append(gate.shop_now - family.horizon[1] * DAY)
        return max(oldest)

    def _asked(self, family: Family, span: Span) -> Asked:
        return Asked(self._shop, family.topics, family.create, family.delete, *span, self._wish.group,
                     sorted(self._taken.intersection(family.topics)))  # fmt: skip

    async def _counted(self, cell: Cell, minutes: Sequence[Minute], home: tzinfo) -> Row:
        if cell.why:
            return Row(self._shop, cell)
        query = counting.search(cell, home)
        async with self._slots:
            shown = await (api.count_deletions(self._client, query) if cell.measure is Measure.DELETED
                           else api.count(self._client, cell.family, query))  # fmt: skip
        return Row(self._shop, cell, shown, counting.tape(cell, minutes, cell.topic in self._taken))

    async def _redated(self, rows: list[Row], family: Family, gate: api.Gate) -> list[Row]:
        """Asks when those were created that the tape dates just after a day that looks short: a delivery is triggered a little later."""
        for edge in counting.doubtful(rows):
            asked = self._asked(family, (edge, edge + MINUTE))
            resources = await asyncio.to_thread(self._ledger.tallies.created, asked, _LOOKED_UP + 1)
            if len(resources) > _LOOKED_UP:
                continue
            began: dict[str, int] = {}
            for start in range(0, len(resources), NODES_AT_ONCE):
                gids = [family.gid(resource) for resource in resources[start : start + NODES_AT_ONCE]]
                async with self._slots:
                    began |= {row.resource: row.created for row in await api.rows(self._client, family, gids) if row is not None}
            rows = counting.redated(rows, edge, began)
        return rows


