"""Four ways to find what Shopify's webhooks left out, each in a `World`: Hooktape's reconciler, and three that are in use.

The three are given more than they have: the table of what is known, by which they tell what is missing, learns of every webhook too, and
none of them is ever down.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from reconcile_world import DAY, HOUR, MINUTE, SECOND, SHOP, Client, Telling, World

from hooktape.ledger.reconcile import Cursor, Pending
from hooktape.local.shop.model import API_VERSION
from hooktape.reconciler import api, core, schedule, synthetic
from hooktape.reconciler.bodies.values import Home
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import (
    Action,
    Advance,
    Count,
    Fetch,
    Forget,
    Input,
    List,
    Look,
    Missing,
    Options,
    ReadTape,
    Record,
    Recorded,
    Remember,
    Taped,
)
from hooktape.reconciler.performing import cursor_of
from hooktape.reconciler.schedule import Pass
from hooktape.reconciler.service import looks
from hooktape.reconciler.standing import Standing, State
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.times import iso, micros, parse_time

CHECKED = tuple(FAMILIES[name] for name in ("orders", "products", "customers"))
_HOME = Home(ZoneInfo("America/New_York"), "USD")
_SCOPES = frozenset({"read_all_orders", "read_orders", "read_products", "read_customers"})
DAILY = {Pass.SWEEP: DAY}
"""A sweep every day, as the others' daily pass: a week would only be waited for."""
GIVEN_UP = 4 * HOUR + 15 * MINUTE
"""A grace period after which Shopify has given up, and nothing comes any more."""


class Killed(Exception):
    """The process ends here, and the next pass is another's."""


class System:
    """Looks for what's missing whenever `due` comes. `tellings`: what it has told of."""

    name = ""

    def __init__(self, world: World) -> None:
        self.world = world
        self.due = world.now
        self.tellings: list[Telling] = []
        world.delivered = self.delivered

    def delivered(self, event: Event) -> None:
        """A webhook came."""

    async def run(self) -> None:
        """One look; sets `due` to the next."""
        raise NotImplementedError


async def lived(system: System, until: float) -> None:
    """Lets the system run in its world up to then (epoch seconds)."""
    while system.due <= until:
        system.world.advance(system.due)
        await system.run()
    system.world.advance(until)


# ── Hooktape ────────────────────────────────────────────────────────────────────────────────────────────────────────
class Hooktape(System):
    """The reconciler's own schedule, decisions and queries; the tape and the ledger's rows are in memory.

    `grace`, and `every` for what differs from the default schedule, in seconds; `kills`: how likely the process dies before each thing that
    it does, and as likely after it, for the first `mortal` seconds. Leases, fences and Kafka aren't here: one process at a time makes
    one pass after another.
    """

    name = "hooktape"

    def __init__(
        self, world: World, grace: float | None = None, every: Mapping[Pass, float] = DAILY, kills: float = 0.0, mortal: float = 0.0
    ) -> None:
        super().__init__(world)
        settings = Settings()
        self.options = Options(
            settings.reconcile_overlap, settings.reconcile_lag, settings.reconcile_grace if grace is None else grace,
            settings.retention_days * DAY, apart=settings.reconcile_apart, suspect=settings.reconcile_suspect)  # fmt: skip
        self.reach = settings.reconcile_lookback
        self.every = schedule.intervals(settings) | {str(kind): seconds for kind, seconds in every.items()}
        del self.every[schedule.DOCTOR]
        self.dues = schedule.first([SHOP], self.every, world.now)
        self.began = round(world.now) * SECOND
        self.cursors: dict[str, int] = {}
        self.pending: dict[tuple[str, str], Pending] = {}
        self.recorded: set[str] = set()
        self.killed = 0
        self._kills, self._rng = kills, Random(f"{world.seed}/kills")
        self._mortal = world.now + mortal

    async def run(self) -> None:
        for task in schedule.ready(self.dues, {}, [SHOP], (), self.world.now, 1):
            key, kind, states = (task.shop, task.name), Pass(task.name), list[State]()
            try:
                for family in CHECKED:
                    states += [await self._look(family, look, kind) for look in looks(kind, family, deletes=True)]
            except Killed:
                # Its lease ends after half a minute, and another makes the pass.
                self.killed += 1
                self.dues[key] = self.world.now + MINUTE / 2
                continue
            self.dues[key] = self._next(kind, self.dues[key], states)
        self.due = max(min(self.dues.values()), self.world.now)

    def _next(self, kind: Pass, due: float, states: list[State]) -> float:
        now, every = self.world.now, self.every[kind]
        whole = all(state.complete for state in states)
        return schedule.following(due, every, now) if kind is Pass.FAST or whole else schedule.again(every, now)

    async def _look(self, family: Family, look: Look, kind: Pass) -> State:
        world, cursor = self.world, Cursor(self.began, self.cursors.get(cursor_of(family, look)))
        options = replace(self.options, reach=self.reach) if kind is Pass.LOOKBACK else self.options
        pending = [entry for (name, _), entry in self.pending.items() if name == family.name]
        now = int(world.now)
        state, actions = core.begin(
            Standing(SHOP, family, cursor, self.began, options, world.now, now * SECOND, pending), look)  # fmt: skip
        while actions:
            found: Input | None = None
            for action in actions:
                self._perhaps_die()
                found = await self._perform(action, state, family)
                self._perhaps_die()
            if found is None:
                break
            state, actions = core.step(state, found)
        return state

    def _perhaps_die(self) -> None:
        if self.world.now < self._mortal and self._rng.random() < self._kills:
            raise Killed

    async def _perform(self, action: Action, state: State, family: Family) -> Input | None:
        world = self.world
        client: Any = Client(world)
        match action:
            case Count(query, True):
                return await api.count_deletions(client, query)
            case Count(query):
                return await api.count(client, family, query)
            case List(query, after, Look.DELETIONS):
                return await api.deletions(client, family, query, after)
            case List(query, after):
                return await api.page(client, family, query, after)
            case Fetch(gids, False):
                return await api.existing(client, family, gids)
            case Fetch(gids):
                return await api.fetch(client, family, gids, _SCOPES)
            case ReadTape(since, wanted):
                coverage = Coverage(family, wanted=wanted)
                for event in world.tape_since(since):
                    if event.topic in family.topics:
                        coverage.fold(event)
                return Taped(coverage)
            case Record(items):
                return self._record(items, family)
            case Remember(rows, propose):
                for row in rows:
                    earlier = self.pending.get((family.name, row.resource))
                    if earlier is None:
                        self.pending[family.name, row.resource] = row
                    elif not propose:
                        self.pending[family.name, row.resource] = replace(row, first_seen=earlier.first_seen)
            case Forget(rows):
                for row in rows:
                    held = self.pending.get((family.name, row.resource))
                    if held is not None and held.version == row.version:
                        del self.pending[family.name, row.resource]
            case Advance(position):
                name = cursor_of(family, state.look)
                self.cursors[name] = max(position, self.cursors.get(name, 0))
        return None

    def _record(self, items: tuple[Missing, ...], family: Family) -> Recorded:
        built = [(item, synthetic.build(SHOP, family, item, API_VERSION, round(self.world.now * SECOND), _HOME)) for item in items]
        new = [(item, event) for item, event in built if event.webhook_id not in self.recorded]
        for item, event in new:
            self.recorded.add(event.webhook_id)
            self.world.record(event)
            self.tellings.append(Telling(self.world.now, item.row.resource, None if item.node is None else item.row.version,
                                         item.topic if item.step else ""))  # fmt: skip
        now = frozenset(item.row.resource for item, _ in new)
        return Recorded(now, frozenset(item.row.resource for item, _ in built) - now)


# ── the others ──────────────────────────────────────────────────────────────────────────────────────────────────────
class Listing(System):
    """Lists what changed lately, and tells of what is newer than the table's row. `known`: resource → version (microseconds)."""

    every = 0.0
    sort = "ID"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.known: dict[str, int] = {}
        self.due = world.now + self.every

    def delivered(self, event: Event) -> None:
        if event.resource and event.version_us is not None:
            self.known[event.resource] = max(event.version_us, self.known.get(event.resource, 0))

    def search(self, family: Family) -> str:
        """What to list."""
        raise NotImplementedError

    def listed(self, family: Family, newest: int) -> None:
        """A list has ended; `newest`: its latest `updatedAt`, microseconds; 0: it was empty."""

    async def run(self) -> None:
        began = self.world.now
        for family in CHECKED:
            text, after, newest = self.search(family), None, 0
            while True:
                query = _PAGE.replace("ROOT", family.listing.root).replace("SORT", self.sort)
                page = (await self.world.ask(query, {"query": text, "after": after})).data[family.listing.root]
                for node in page["nodes"]:
                    resource, version = family.resource(str(node["id"])), micros(parse_time(str(node["updatedAt"])))
                    newest = max(newest, version)
                    if version > self.known.get(resource, 0):
                        self.known[resource] = version
                        self.tellings.append(Telling(self.world.now, resource, version))
                if not page["pageInfo"]["hasNextPage"]:
                    break
                after = page["pageInfo"]["endCursor"]
            self.listed(family, newest)
        self.due = began + self.every


class Poll(Listing):
    """dlt and PostHog: what was updated after the newest `updated_at` that it has seen, merged by id; here every five minutes.

    dlt-hub/verified-sources `sources/shopify_dlt/__init__.py` (`incremental("updated_at")`, `write_disposition="merge"`);
    PostHog/posthog `…/sources/shopify/shopify.py` (`updated_at:>'last'`), `queries/orders.py` (sorted by UPDATED_AT).
    """

    name = "poll updated_at > last"
    every = 5 * MINUTE
    sort = "UPDATED_AT"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.last = {family.name: round(world.now) * SECOND for family in CHECKED}

    def search(self, family: Family) -> str:
        return f"updated_at:>'{iso(self.last[family.name])}'"

    def listed(self, family: Family, newest: int) -> None:
        self.last[family.name] = max(newest, self.last[family.name])


class Scan(Listing):
    """Mechanic: every 15 minutes the last 15 minutes, and what isn't marked as processed is processed.

    lightward/mechanic-tasks `docs/demonstration-auto-tag-new-orders-with-reconciliation/script.liquid`; new orders only (`created_at`)
    there, everything that was updated here.
    """

    name = "scan, every 15 min"
    every = 15 * MINUTE

    def search(self, family: Family) -> str:
        return f"updated_at:>='{iso(round(self.world.now - self.every) * SECOND)}'"


class Daily(Scan):
    """Gadget: once a day the last day; what is newer than the stored record runs the action that its webhook would have run.

    docs.gadget.dev, "Working with Shopify webhooks", reconciliation of webhooks: daily, missed webhooks' actions are run again. It doesn't
    say how far a day reaches.
    """

    name = "window, daily"
    every = DAY


SYSTEMS: dict[str, Callable[[World], System]] = {
    "hooktape": lambda world: Hooktape(world, GIVEN_UP),
    "hooktape, grace 30 min": Hooktape,
    Poll.name: Poll,
    Scan.name: Scan,
    Daily.name: Daily,
}
_PAGE = """query($query: String, $after: String) {
  ROOT(first: 250, after: $after, query: $query, sortKey: SORT) { nodes { id updatedAt } pageInfo { hasNextPage endCursor } }
}"""
