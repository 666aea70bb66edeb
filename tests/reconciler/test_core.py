"""The pure pass: what is never called missing, what always is, and that a second look finds nothing new."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.ledger.reconcile import Cursor, Pending
from hooktape.reconciler import core, standing
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.moves import (
    Advance,
    Count,
    Counted,
    Fetch,
    Fetched,
    Forget,
    List,
    Listed,
    Options,
    ReadTape,
    Record,
    Recorded,
    Remember,
    Row,
    Taped,
    Window,
)
from hooktape.reconciler.standing import Standing
from hooktape.schemas.event import Event

S = standing.SECOND
SHOP = "one.myshopify.com"
ORDERS = FAMILIES["orders"]
T0 = 1_767_225_600 * S


def row(number: int, version: int, created: int = T0) -> Row:
    return Row(f"order/{number}", f"gid://shopify/Order/{number}", version, created)


def event(number: int, version: int, source: str = "webhook", topic: str = "orders/updated") -> Event:
    return Event(webhook_id=f"{number}-{version}-{source}", shop=SHOP, topic=topic, payload=b"{}", received_us=version + S,
                 resource=f"order/{number}", version_us=version, source=source)  # fmt: skip


@dataclass
class World:
    """What a pass asks, answered from memory: a shop, a tape, and the ledger's rows."""

    rows: dict[int, Row] = field(default_factory=dict)
    tape: list[Event] = field(default_factory=list)
    pending: dict[str, Pending] = field(default_factory=dict)
    cursor: Cursor = field(default_factory=lambda: Cursor(T0))
    counts: list[int] = field(default_factory=list)
    page: int = 3
    recorded: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    windows: list[str] = field(default_factory=list)
    on_fetch: list[Event] = field(default_factory=list)

    def passed(self, shop_now: int, grace: float = 0.0, now: float = 0.0, **options: int) -> standing.State:
        looked = Options(overlap=10, lag=0, grace=grace, retention=30 * 86400, **options)
        state, actions = core.begin(Standing(SHOP, ORDERS, self.cursor, T0, looked, now, shop_now, list(self.pending.values())))
        for _ in range(10_000):
            found = None
            for action in actions:
                found = self.answer(action, state)
            if found is None:
                return state
            state, actions = core.step(state, found)
        raise AssertionError("the pass doesn't end")

    def answer(self, action: object, state: standing.State) -> object:
        listed = [r for r in self.rows.values() if state.window.start <= r.version < state.window.end + standing.DAY]
        match action:
            case Count(query, _):
                self.windows.append(query)
                return Counted(self.counts.pop(0) if self.counts else len(listed), True)
            case List(_, after, _):
                start = int(after or 0)
                end = start + self.page
                # Wider than asked for: a filter of the API's that includes its bound.
                shown = sorted([*listed, row(999, state.window.end)], key=lambda r: r.gid)
                return Listed(tuple(shown[start:end]), str(end) if end < len(shown) else None)
            case ReadTape():
                assert isinstance(action, ReadTape)
                coverage = Coverage(ORDERS, marks={"log/0": len(self.tape)}, wanted=action.wanted)
                for one in self.tape:
                    coverage.fold(one)
                return Taped(coverage)
            case Fetch(gids, _):
                by_gid = {r.gid: r for r in self.rows.values()}
                self.tape += self.on_fetch
                return Fetched({gid: (by_gid[gid], {}) if gid in by_gid else None for gid in gids})
            case Record(items):
                for item in items:
                    self.recorded.append(item.row.resource)
                    self.topics[item.row.resource] = item.topic
                    self.tape.append(event(int(item.row.resource[6:]), item.row.version, "reconciler"))
                return Recorded(frozenset(item.row.resource for item in items))
            case Remember(rows, False):
                self.pending |= {r.resource: r for r in rows}
            case Forget(rows):
                for r in rows:
                    self.pending.pop(r.resource)
            case Advance(position, steps_from):
                self.cursor = replace(self.cursor, position=position, steps_from=steps_from)
        return None


changes = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 50), st.sampled_from(["arrives", "dropped", "late"])), max_size=40)


def play(steps: Sequence[tuple[int, int, str]]) -> tuple[World, list[Event]]:
    """A shop after these changes, the events that arrived, and those still on their way. Changes of one second tie."""
    world, late = World(), []
    for number, second, fate in sorted(steps, key=lambda s: s[1]):
        version = T0 + second * S
        world.rows[number] = row(number, version, world.rows[number].created if number in world.rows else version)
        if fate == "arrives":
            world.tape.append(event(number, version))
        elif fate == "late":
            late.append(event(number, version))
    return world, late


@given(changes)
def test_exactly_the_resources_whose_newest_state_is_not_on_the_tape_are_recorded(steps: list[tuple[int, int, str]]) -> None:
    world, _ = play(steps)
    newest = {r.resource: r.version for r in world.rows.values()}
    held = {name: max((e.version_us or 0 for e in world.tape if e.resource == name), default=0) for name in newest}
    state = world.passed(T0 + 60 * S)
    assert sorted(world.recorded) == sorted(name for name in newest if held[name] < newest[name])
    assert core.tally(state).shown == len(newest)
    assert world.pending == {}


@given(changes)
def test_a_second_pass_over_the_same_window_records_nothing(steps: list[tuple[int, int, str]]) -> None:
    world, _ = play(steps)
    world.passed(T0 + 60 * S)
    before = list(world.recorded)
    world.passed(T0 + 60 * S, since=T0)
    world.passed(T0 + 65 * S)
    assert world.recorded == before


@given(changes)
def test_what_arrives_within_the_grace_is_never_recorded(steps: list[tuple[int, int, str]]) -> None:
    world, late = play([(n, second, "late" if fate == "dropped" else fate) for n, second, fate in steps])
    first = world.passed(T0 + 60 * S, grace=100, now=60)
    waiting = core.tally(first).pending
    world.tape += late
    state = world.passed(T0 + 161 * S, grace=100, now=161)
    assert world.recorded == []
    assert world.pending == {}
    assert core.tally(state).late == waiting


@given(changes, st.lists(st.integers(1, 70), max_size=6))
def test_passes_at_any_moments_leave_no_change_out(steps: list[tuple[int, int, str]], moments: list[int]) -> None:
    world = World()
    timeline = sorted(steps, key=lambda s: s[1])
    for moment in [*sorted(moments), 80]:
        while timeline and timeline[0][1] < moment:
            number, second, fate = timeline.pop(0)
            version = T0 + second * S
            world.rows[number] = row(number, version, version)
            if fate == "arrives":
                world.tape.append(event(number, version))
        world.passed(T0 + moment * S)
    held = {e.resource: 0 for e in world.tape}
    for e in world.tape:
        held[e.resource] = max(held[e.resource], e.version_us or 0)
    assert all(held.get(r.resource, 0) >= r.version for r in world.rows.values())
    assert len(world.recorded) == len(set(zip(world.recorded, [e.version_us for e in world.tape if e.source == "reconciler"],
                                              strict=True)))  # fmt: skip


def test_a_webhook_that_comes_while_it_is_confirmed_wins() -> None:
    world, _ = play([(1, 5, "dropped")])
    world.on_fetch = [event(1, T0 + 5 * S)]
    state = world.passed(T0 + 60 * S)
    assert world.recorded == []
    assert core.tally(state).late == 1


def test_a_newer_state_waits_out_a_grace_of_its_own_and_keeps_when_it_was_first_seen() -> None:
    world, _ = play([(1, 5, "dropped")])
    world.passed(T0 + 10 * S, grace=30, now=10)
    world.rows[1] = row(1, T0 + 38 * S)
    world.passed(T0 + 41 * S, grace=30, now=41)
    assert world.recorded == []
    assert (world.pending["order/1"].first_seen, world.pending["order/1"].version) == (10, T0 + 38 * S)
    world.passed(T0 + 69 * S, grace=30, now=69)
    assert world.recorded == ["order/1"]


def test_what_the_api_no_longer_knows_is_perhaps_deleted_and_not_recorded_by_this_look() -> None:
    world, _ = play([(1, 5, "dropped")])
    world.passed(T0 + 10 * S, grace=30, now=10)
    del world.rows[1]
    state = world.passed(T0 + 60 * S, grace=30, now=60)
    assert (core.tally(state).gone, core.tally(state).pending, world.recorded) == (1, 0, [])
    assert {(entry.kind, entry.nulled_at) for entry in world.pending.values()} == {("delete", None)}


@pytest.mark.parametrize(
    ("created", "known", "topic"), [(5, False, "orders/create"), (5, True, "orders/updated"), (-5, False, "orders/updated")]
)
def test_a_resource_new_to_the_tape_and_created_since_recording_began_is_told_as_created(created: int, known: bool, topic: str) -> None:
    world = World(rows={1: row(1, T0 + 20 * S, T0 + created * S)})
    world.tape = [event(1, T0 + 6 * S)] if known else []
    world.passed(T0 + 60 * S)
    assert world.topics == {"order/1": topic}


def test_counts_that_disagree_halve_the_window_and_never_move_the_cursor_past_what_agreed() -> None:
    world, _ = play([(1, 5, "arrives"), (2, 50, "arrives")])
    world.counts = [4, 4]  # Shopify counts one more than it lists
    state = world.passed(T0 + 60 * S)
    assert state.complete
    assert world.cursor.position == T0 + 30 * S


def test_counts_that_never_agree_leave_the_cursor_and_still_record_what_is_seen_to_be_missing() -> None:
    world, _ = play([(1, 1, "dropped")])
    world.counts = [9] * 20
    state = world.passed(T0 + 60 * S)
    assert not state.complete
    assert world.cursor.position is None
    assert world.recorded == ["order/1"]


def test_a_list_that_says_itself_that_it_is_cut_moves_no_cursor_though_the_counts_agree() -> None:
    world, _ = play([(1, 1, "dropped"), (2, 40, "arrives")])
    answer = world.answer

    def cut(action: object, state: standing.State) -> object:
        found = answer(action, state)
        return replace(found, incomplete="children end at exactly 100") if isinstance(found, Listed) else found

    world.answer = cut  # type: ignore[method-assign]
    state = world.passed(T0 + 60 * S)
    assert not state.complete
    assert world.cursor.position is None
    assert world.recorded == ["order/1"]


def test_a_window_by_hand_that_begins_beyond_the_cursor_leaves_no_gap_behind_it() -> None:
    world, _ = play([(1, 5, "dropped"), (2, 40, "dropped")])
    world.passed(T0 + 60 * S, since=T0 + 30 * S)
    assert world.recorded == ["order/2"]
    assert world.cursor.position is None


@pytest.mark.parametrize("edits", [1, 3])
def test_a_lost_creation_is_found_though_each_pass_sees_its_order_changed_since_the_end_of_its_window(edits: int) -> None:
    world, created = World(), ("orders/create", T0 + 5 * S)
    for number in range(1, edits + 1):
        # Held up between its beginning and the list, or on the way to it.
        end = T0 + 30 * number * S
        world.rows[1] = Row("order/1", "gid://shopify/Order/1", end + 2 * S, T0 + 5 * S, stamps=(created,))
        world.tape.append(event(1, end + 2 * S))
        world.passed(end, grace=20.0, now=30.0 * number)
    for number in range(edits + 1, edits + 3):
        world.passed(T0 + 30 * number * S, grace=20.0, now=30.0 * number)
    assert (world.recorded, world.topics) == (["order/1"], {"order/1": "orders/create"})
    assert world.pending == {}


def test_a_lost_creation_is_found_though_a_backlog_of_days_is_looked_through_in_parts_and_its_order_changed_in_another() -> None:
    hour, day = 3600 * S, standing.DAY
    created, changed, now = T0 + hour, T0 + 7 * day // 2, T0 + 4 * day
    world = World({1: Row("order/1", "gid://shopify/Order/1", changed, created, stamps=(("orders/create", created),))})
    world.tape.append(event(1, changed))
    # Shopify counts one more than it lists, twice: the window comes down to a day.
    world.counts = [3, 3, 3, 3]
    positions = []
    for _ in range(5):
        world.passed(now)
        positions.append(world.cursor.position)
    assert positions[:2] == [T0 + day, now]
    assert (world.recorded, world.topics) == (["order/1"], {"order/1": "orders/create"})
    assert world.cursor.steps_from is None


def test_the_search_quotes_utc_times_and_asks_for_whole_days_of_customers() -> None:
    world = World()
    world.passed(T0 + 3600 * S)
    assert world.windows[0] == "updated_at:>='2026-01-01T00:00:00Z' updated_at:<'2026-01-02T01:00:00Z'"
    options = Options(overlap=10, lag=0, grace=0, retention=30 * 86400)
    state, _ = core.begin(Standing(SHOP, FAMILIES["customers"], Cursor(T0), T0, options, 0, T0 + 3600 * S))
    assert core.search(state) == "updated_at:>='2025-12-31T00:00:00Z' updated_at:<'2026-01-04T00:00:00Z'"


def test_a_window_never_reaches_beyond_coverage_retention_or_what_the_api_shows() -> None:
    options = Options(overlap=600, lag=60, grace=0, retention=30 * 86400)
    now = T0 + 400 * standing.DAY

    def looked(cursor: Cursor, since: int, horizon: int | None = None, **changes: float) -> Window:
        return core.window(Standing(SHOP, ORDERS, cursor, since, replace(options, **changes), 0, now), horizon)  # type: ignore[arg-type]

    assert looked(Cursor(T0, now - standing.DAY), T0).start == now - standing.DAY - 600 * S
    assert looked(Cursor(T0), T0).start == now - 29 * standing.DAY
    assert looked(Cursor(T0), T0, 60, retention=1e9).start == now - 60 * standing.DAY
    assert looked(Cursor(T0), now - 5 * S).empty
    assert looked(Cursor(T0, now - 60 * S), T0, reach=93_600.0).start == now - 93_600 * S
    # An answer once bore a date of next year: what changes until then is looked at all the same.
    assert looked(Cursor(T0, now + 300 * standing.DAY), T0) == Window(now - 660 * S, now - 60 * S)


def test_an_input_that_nothing_asked_for_is_refused() -> None:
    options = Options(overlap=10, lag=0, grace=0, retention=30 * 86400)
    state, _ = core.begin(Standing(SHOP, ORDERS, Cursor(T0), T0, options, 0, T0 + 60 * S))
    with pytest.raises(TypeError, match="Taped while counting"):
        core.step(state, Taped(Coverage(ORDERS)))


@given(changes)
def test_a_list_that_is_sifted_in_portions_keeps_what_is_missing_and_comes_to_the_same(steps: list[tuple[int, int, str]]) -> None:
    (whole, _), (sifted, _) = play(steps), play(steps)
    at_once = whole.passed(T0 + 60 * S)
    kept: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "SIFTED", 3)
        answer = sifted.answer

        def watched(action: object, state: standing.State) -> object:
            kept.append(sum(map(len, state.pages)) - len(whole.recorded))
            return answer(action, state)

        sifted.answer = watched  # type: ignore[method-assign]
        state = sifted.passed(T0 + 60 * S)
    assert (sifted.recorded, core.tally(state)) == (whole.recorded, core.tally(at_once))
    assert max(kept) <= 6  # the portion, and a page that went beyond it


def test_a_list_that_begins_anew_counts_nothing_twice() -> None:
    world, _ = play([(number, 5, "arrives") for number in range(1, 8)])
    answer, given_up = world.answer, []

    def switching(action: object, state: standing.State) -> object:
        found = answer(action, state)
        if isinstance(action, List) and action.after == "3" and not given_up:
            given_up.append(action)
            return replace(answer(List(action.query, None), state), anew=True)  # type: ignore[type-var]
        return found

    world.answer = switching  # type: ignore[method-assign]
    state = world.passed(T0 + 60 * S)
    assert (state.listed, core.tally(state).covered, state.complete) == (8, 7, True)


def test_a_lost_creation_is_recorded_though_its_order_was_edited_when_the_window_had_moved_on() -> None:
    world = World()
    created = ("orders/create", T0 + 5 * S)

    def changed(second: int) -> None:
        world.rows[1] = Row("order/1", "gid://shopify/Order/1", T0 + second * S, T0 + 5 * S, stamps=(created,))

    changed(5)
    for second in (10, 30):
        world.passed(T0 + second * S, grace=40.0, now=float(second))
    changed(35)
    world.tape.append(event(1, T0 + 35 * S))
    for second in (40, 60, 80):
        world.passed(T0 + second * S, grace=40.0, now=float(second))
    assert (world.recorded, world.topics) == (["order/1"], {"order/1": "orders/create"})
    assert world.pending == {}
