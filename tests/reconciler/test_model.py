"""The pure machine against a model of the whole: a shop that changes, webhooks that are dropped, late or out of order, an index that
lags, and reconcilers that are killed between any two steps, all in virtual time."""

from dataclasses import dataclass, field, replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hooktape.ledger.reconcile import Cursor, Pending
from hooktape.reconciler import core
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.moves import (
    Action,
    Advance,
    Count,
    Counted,
    Fetch,
    Fetched,
    Forget,
    Input,
    List,
    Listed,
    Look,
    Options,
    ReadTape,
    Record,
    Recorded,
    Remember,
    Row,
    Taped,
)
from hooktape.reconciler.standing import SECOND, Standing, State
from hooktape.schemas.event import RECONCILER, Event

SHOP = "one.myshopify.com"
PRODUCTS = FAMILIES["products"]
T0 = 1_767_225_600
MINUTE, HOUR = 60, 3600
GRACE, EVERY, LONGEST = 30 * MINUTE, 5 * MINUTE, 4 * HOUR
OPTIONS = Options(overlap=10 * MINUTE, lag=MINUTE, grace=GRACE, retention=30 * 86400)


class Killed(Exception):
    pass


@dataclass(frozen=True)
class Change:
    """At `at` seconds resource `number` changes, or is deleted; its webhook comes `delay` seconds later (None: never)."""

    number: int
    at: int
    delete: bool
    delay: int | None


@dataclass
class World:
    changes: list[Change]
    lag: int
    kills: list[int]
    now: int = 0
    synthetic: list[tuple[int, Event]] = field(default_factory=list)
    pending: dict[str, Pending] = field(default_factory=dict)
    cursors: dict[Look, Cursor] = field(default_factory=lambda: {look: Cursor(T0 * SECOND) for look in Look})
    steps: int = 0

    # ── the shop ────────────────────────────────────────────────────────────────────────────────────────────────────
    def state(self, number: int, at: int) -> Row | None:
        told = [c for c in self.changes if c.number == number and c.at <= at]
        if not told or told[-1].delete:
            return None
        return row(number, told[-1].at, told[0].at)

    def states(self, at: int) -> list[Row]:
        found = (self.state(number, at) for number in sorted({c.number for c in self.changes}))
        return [one for one in found if one is not None]

    def destroyed(self, at: int) -> list[Row]:
        return [row(c.number, c.at, c.at) for c in self.changes if c.delete and c.at <= at]

    # ── the tape ────────────────────────────────────────────────────────────────────────────────────────────────────
    def tape(self, since: int) -> list[Event]:
        came = [(c.at + c.delay, event(c)) for c in self.changes if c.delay is not None and c.at + c.delay <= self.now]
        return [one for at, one in came + self.synthetic if (T0 + at) * SECOND >= since]

    # ── a reconciler ────────────────────────────────────────────────────────────────────────────────────────────────
    def passes(self, options: Options = OPTIONS) -> None:
        try:
            for look in (Look.STATES, Look.DELETIONS):
                self.run(look, options)
        except Killed:
            return

    def run(self, look: Look, options: Options) -> State:
        now = T0 + self.now
        standing = Standing(SHOP, PRODUCTS, self.cursors[look], T0 * SECOND, options, now, now * SECOND, list(self.pending.values()))
        state, actions = core.begin(standing, look)
        while actions:
            found: Input | None = None
            for action in actions:
                self.step()
                found = self.answer(action, state)
                self.step()
            if found is None:
                return state
            state, actions = core.step(state, found)
        return state

    def step(self) -> None:
        """A process may be killed here."""
        self.steps += 1
        if self.kills and self.steps == self.kills[0]:
            self.kills.pop(0)
            self.steps = 0
            raise Killed

    def listed(self, state: State, look: Look) -> list[Row]:
        indexed = self.now - self.lag
        rows = self.destroyed(indexed) if look is Look.DELETIONS else self.states(indexed)
        return [one for one in rows if state.window.start <= one.version < state.window.end]

    def answer(self, action: Action, state: State) -> Input | None:
        match action:
            case Count(_, deletions):
                return Counted(len(self.listed(state, Look.DELETIONS if deletions else Look.STATES)), True)
            case List(_, _, look):
                return Listed(tuple(self.listed(state, look)), None)
            case ReadTape(since, wanted):
                coverage = Coverage(PRODUCTS, wanted=wanted)
                for one in self.tape(since):
                    coverage.fold(one)
                return Taped(coverage)
            case Fetch(gids):
                live = {one.gid: one for one in self.states(self.now)}
                return Fetched({gid: (live[gid], {}) if gid in live else None for gid in gids})
            case Record(items):
                for item in items:
                    self.synthetic.append((self.now, Event(
                        webhook_id=f"{item.row.gid}@{item.row.version}", shop=SHOP, topic=item.topic, payload=b"{}",
                        received_us=(T0 + self.now) * SECOND, triggered_us=item.row.version, resource=item.row.resource,
                        version_us=None if item.node is None else item.row.version, source=RECONCILER)))  # fmt: skip
                return Recorded(frozenset(item.row.resource for item in items))
            case Remember(rows):
                for entry in rows:
                    earlier = self.pending.get(entry.resource)
                    self.pending[entry.resource] = replace(entry, first_seen=earlier.first_seen if earlier else entry.first_seen)
            case Forget(rows):
                for entry in rows:
                    if self.pending[entry.resource].version == entry.version:
                        del self.pending[entry.resource]
            case Advance(position):
                self.cursors[state.look] = replace(self.cursors[state.look], position=position)
        return None


def row(number: int, at: int, created: int) -> Row:
    return Row(f"product/{number}", f"gid://shopify/Product/{number}", (T0 + at) * SECOND, (T0 + created) * SECOND)


def event(change: Change) -> Event:
    at = (T0 + change.at) * SECOND
    return Event(webhook_id=f"{change.number}-{change.at}", shop=SHOP, topic="products/delete" if change.delete else "products/update",
                 payload=b"{}", received_us=at + (change.delay or 0) * SECOND, triggered_us=at, resource=f"product/{change.number}",
                 version_us=None if change.delete else at)  # fmt: skip


@st.composite
def lives(draw: st.DrawFn) -> list[Change]:
    """Up to eight products, each changed some times in two hours and perhaps deleted at last."""
    changes = []
    delays = st.one_of(st.integers(0, 20), st.none(), st.integers(20, LONGEST))
    for number in range(1, draw(st.integers(1, 8)) + 1):
        moments = sorted(draw(st.sets(st.integers(1, 2 * HOUR), min_size=1, max_size=4)))
        deleted = draw(st.booleans()) and len(moments) > 1
        changes += [Change(number, at, deleted and at == moments[-1], draw(delays)) for at in moments]
    return sorted(changes, key=lambda change: change.at)


@settings(max_examples=50)
# Deleted while an earlier state of it is pending: the deletion's webhook has a grace period of its own.
@example([Change(1, 1, False, None), Change(1, 792, True, 1309)], 0, [])
@given(lives(), st.sampled_from([0, 5, 45, 8 * MINUTE, 25 * MINUTE]), st.lists(st.integers(1, 40), max_size=12))
def test_whatever_is_dropped_late_or_killed_the_newest_state_is_recorded_once_and_nothing_is_invented(
    changes: list[Change], lag: int, kills: list[int]
) -> None:
    world = World(changes, lag, kills)
    while world.now < 4 * HOUR:
        world.now += EVERY
        world.passes()
    # The look-back, once the index has caught up; kills have ended, as the schedule makes a pass again that was cut short.
    world.kills = []
    for _ in range(12):
        world.now += EVERY
        world.passes(replace(OPTIONS, reach=26.0 * HOUR))

    tape = world.tape(0)
    for number in {change.number for change in changes}:
        told = [one for one in tape if one.resource == f"product/{number}"]
        live = world.state(number, world.now)
        if live is None:
            assert [one for one in told if one.topic == "products/delete"], f"the deletion of {number} is missed"
        else:
            assert max((one.version_us or 0 for one in told), default=0) == live.version, f"the state of {number} is missed"
    made = [one for _, one in world.synthetic]
    assert len({(one.resource, one.version_us) for one in made}) == len(made), "recorded twice"
    said = {(f"product/{c.number}", None if c.delete else (T0 + c.at) * SECOND): c for c in changes}
    for one in made:
        change = said[one.resource or "", one.version_us]
        assert change.delay is None or change.delay > GRACE, f"{one.resource} was merely late"
    assert world.pending == {}


def swept(live: int, gone: int, shown: float = 1.0, counted: int | None = None, accept: bool = False) -> tuple[World, State]:
    """A sweep, and the passes over what it proposes, of a shop whose tape knows `live + gone` products."""
    changes = [Change(number, 1, False, 0) for number in range(1, live + gone + 1)]
    world = World(changes, 0, [], now=2 * HOUR)
    left = [one for one in world.states(world.now) if int(one.resource[8:]) <= live]
    listed = left[: round(len(left) * shown)]

    def sweep_answer(action: Action, state: State) -> Input | None:
        match action:
            case Count():
                return Counted(len(left) if counted is None else counted, True)
            case List(_, after, look):
                start = int(after or 0)
                more = str(start + 250) if start + 250 < len(listed) else None
                return Listed(tuple(listed[start : start + 250]) if look is Look.SWEEP else (), more if look is Look.SWEEP else None)
            case Fetch(gids):
                known = {one.gid: one for one in left}
                return Fetched({gid: (known[gid], {}) if gid in known else None for gid in gids})
        return World.answer(world, action, state)

    world.answer = sweep_answer  # type: ignore[method-assign]
    found = world.run(Look.SWEEP, OPTIONS)
    for _ in range(9):
        world.now += EVERY
        found = world.run(Look.DELETIONS, replace(OPTIONS, accept=accept)) if found.proposed or world.pending else found
    return world, found


def test_a_sweep_finds_what_was_deleted_and_the_api_denies_twice() -> None:
    world, _ = swept(live=300, gone=4)
    assert sorted(one.resource or "" for _, one in world.synthetic) == [f"product/{number}" for number in range(301, 305)]
    assert {one.topic for _, one in world.synthetic} == {"products/delete"}
    assert world.pending == {}


def test_a_list_that_lacks_rows_that_are_there_deletes_nothing() -> None:
    for counted in (None, 285):  # the count tells; the count is wrong too
        world, _ = swept(live=300, gone=0, shown=0.95, counted=counted)
        assert (world.synthetic, world.pending) == ([], {})


def test_more_deletions_than_one_pass_may_record_are_held_until_somebody_agrees() -> None:
    world, found = swept(live=300, gone=40)
    assert world.synthetic == []
    assert (core.tally(found).held, {entry.held for entry in world.pending.values()}) == (40, {True})
    world, found = swept(live=300, gone=40, accept=True)
    assert (len(world.synthetic), core.tally(found).held, world.pending) == (40, 0, {})


def test_without_the_scope_that_shows_everything_nothing_counts_as_deleted() -> None:
    world, _ = swept(live=3, gone=0)
    entry = Pending(SHOP, "products", "product/9", T0 * SECOND, "delete", "products/delete", T0, {}, nulled_at=T0 + 1.0)
    standing = Standing(SHOP, PRODUCTS, Cursor(T0 * SECOND, (T0 + world.now) * SECOND), T0 * SECOND, OPTIONS, T0 + world.now,
                        (T0 + world.now) * SECOND, [entry])  # fmt: skip
    state, actions = core.begin(standing, Look.SWEEP, 60)
    assert (state.complete, actions) == (False, ())
    state, actions = core.begin(standing, Look.DELETIONS, 60)
    while actions and (found := [world.answer(action, state) for action in actions][-1]) is not None:
        state, actions = core.step(state, found)
    assert (world.synthetic, core.tally(state).doubted) == ([], 1)
