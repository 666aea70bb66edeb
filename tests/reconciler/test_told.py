"""As which topic a missing state is told, where the tape no longer has all or not all topics are wanted; lists that end where Shopify is
known to cut them. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from hooktape.ledger.reconcile import Cursor, Pending
from hooktape.reconciler import api, core
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import (
    Advance,
    Count,
    Counted,
    Fetch,
    Fetched,
    Forget,
    Input,
    List,
    Listed,
    Options,
    ReadTape,
    Record,
    Recorded,
    Remember,
    Row,
    Taped,
)
from hooktape.reconciler.standing import DAY, Standing
from hooktape.schemas import resources
from hooktape.schemas.event import Event
from hooktape.times import iso

from .test_core import SHOP, T0, S, World, row

HOUR = 3600 * S


def recorded(world: World, shop_now: int, family: str = "orders", *wanted: str) -> dict[str, str]:
    """What a pass without a grace period records: resource → topic."""
    options = Options(overlap=10, lag=0, grace=0.0, retention=30 * 86400)
    standing = Standing(SHOP, FAMILIES[family], world.cursor, T0, options, 0.0, shop_now, topics=frozenset(wanted) or None)
    state, actions = core.begin(standing)
    while actions and (found := [world.answer(action, state) for action in actions][-1]) is not None:
        state, actions = core.step(state, found)  # type: ignore[arg-type]
    return world.topics


def test_what_was_created_before_all_that_the_tape_has_kept_is_told_as_changed_and_not_created_again() -> None:
    # Recording began long before; retention has taken the creation, whose webhook had come.
    now = T0 + 200 * DAY
    world = World(rows={1: row(1, now - 60 * S, T0 + 100 * DAY)}, cursor=Cursor(T0, now - 120 * S))
    assert recorded(world, now) == {"order/1": "orders/updated"}


@pytest.mark.parametrize(("changed", "told"), [(20, {"order/1": "orders/updated"}), (5, {})])
def test_a_change_of_what_the_tape_has_nothing_of_is_told_where_only_changes_are_wanted(changed: int, told: dict[str, str]) -> None:
    world = World(rows={1: row(1, T0 + changed * S, T0 + 5 * S)})
    assert recorded(world, T0 + 60 * S, "orders", "orders/updated") == told


def test_a_list_that_ends_where_shopify_cuts_lists_is_halved_and_holds_no_cursor_for_ever() -> None:
    # A location of exactly 100 items, each of which has changed: the window only grows, and always shows 100.
    levels, cursor = FAMILIES["inventory_levels"], Cursor(T0)
    rows = [Row(f"inventory_level/{n}-1", f"gid://shopify/InventoryLevel/1?inventory_item_id={n}", T0 + n * S, T0) for n in range(100)]
    options = Options(overlap=10, lag=0, grace=1e9, retention=30 * 86400)
    for second in range(200, 900, 100):
        state, actions = core.begin(Standing(SHOP, levels, cursor, T0, options, 0.0, T0 + second * S))
        while actions:
            found: Input | None = None
            for action in actions:
                match action:
                    case List():
                        shown = tuple(row for row in rows if state.window.start <= row.version < state.window.end)
                        found = Listed(shown, None, 1, "ends at exactly 100" if len(shown) == api.CUT_AT else "")
                    case ReadTape(_, wanted):
                        found = Taped(Coverage(levels, wanted=wanted))
                    case Advance(position):
                        cursor = Cursor(T0, position)
            if found is None:
                break
            state, actions = core.step(state, found)
    assert cursor.position == T0 + 800 * S


def recorded_of(family: Family, node: dict[str, Any], tape: Sequence[Event], now: int, grace: float = 0.0,
                pending: Sequence[Pending] = ()) -> tuple[list[str], list[Pending]]:  # fmt: skip
    """What a pass over the last hour records of the one resource that the API shows, and what it leaves pending."""
    row, told, left = api.row(family, node), list[str](), {entry.resource: entry for entry in pending}
    options = Options(overlap=10, lag=0, grace=grace, retention=30 * 86400)
    state, actions = core.begin(Standing(SHOP, family, Cursor(T0, now - HOUR), T0, options, now / S, now, pending))
    while actions:
        found: Input | None = None
        for action in actions:
            match action:
                case Count():
                    found = Counted(1, True)
                case List():
                    found = Listed((row,), None)
                case ReadTape(since, wanted):
                    coverage = Coverage(family, wanted=wanted)
                    for event in tape:
                        if event.received_us >= since:
                            coverage.fold(event)
                    found = Taped(coverage)
                case Fetch():
                    found = Fetched({row.gid: (row, node)})
                case Record(items):
                    told += [item.topic for item in items]
                    found = Recorded(frozenset(item.row.resource for item in items))
                case Remember(entries):
                    left |= {entry.resource: entry for entry in entries}
                case Forget(entries):
                    left = {name: entry for name, entry in left.items() if entry not in entries}
        if found is None:
            break
        state, actions = core.step(state, found)
    assert state.complete
    return told, list(left.values())


def webhook(topic: str, body: dict[str, Any], at: int) -> Event:
    payload = msgspec.json.encode(body)
    found = resources.find(topic, payload)
    return Event(webhook_id=f"{at}", shop=SHOP, topic=topic, payload=payload, received_us=at, resource=found.name, version_us=found.version,
                 triggered_us=at)  # fmt: skip


def test_work_that_was_touched_without_news_is_told_again_neither_young_nor_old() -> None:
    # Its updated_at moves with more than its status, and its bodies have no version: what was told of it lies wherever it lies.
    family = FAMILIES["fulfillment_orders"]
    came = webhook("fulfillment_orders/hold_released", {"fulfillment_order": {"id": 5, "status": "open"}}, T0 + HOUR)
    for created in (T0 - 5 * DAY, T0 + HOUR // 2):
        node = {"id": "gid://shopify/FulfillmentOrder/5", "status": "OPEN", "createdAt": iso(created), "updatedAt": iso(T0 + 10 * HOUR)}
        assert recorded_of(family, node, [came], T0 + 11 * HOUR) == ([], [])


def test_a_level_that_was_connected_again_is_no_less_missing_for_having_been_disconnected() -> None:
    family, level = FAMILIES["inventory_levels"], {"inventory_item_id": 7, "location_id": 1}
    tape = [webhook("inventory_levels/connect", {**level, "available": 1, "updated_at": iso(T0 + HOUR)}, T0 + HOUR),
            webhook("inventory_levels/disconnect", level, T0 + 10 * HOUR)]  # fmt: skip
    node = {"id": "gid://shopify/InventoryLevel/1?inventory_item_id=7", "item": {"id": "gid://shopify/InventoryItem/7"},
            "location": {"id": "gid://shopify/Location/1"}, "quantities": [{"name": "available", "quantity": 3}],
            "createdAt": iso(T0 + HOUR), "updatedAt": iso(T0 + 11 * HOUR)}  # fmt: skip
    told, pending = recorded_of(family, node, tape, T0 + 11 * HOUR + 60 * S, grace=1800.0)
    assert (told, [entry.resource for entry in pending]) == ([], ["inventory_level/7-1"])
    told, pending = recorded_of(family, node, tape, T0 + 12 * HOUR, 1800.0, pending)
    assert (told, pending) == (["inventory_levels/update"], [])
    # What an index that lags still shows of it isn't news.
    assert recorded_of(family, {**node, "updatedAt": iso(T0 + 10 * HOUR - S)}, tape, T0 + 11 * HOUR) == ([], [])


def test_a_finding_of_which_nothing_is_lacking_any_more_is_forgotten_though_the_tape_has_nothing_of_it() -> None:
    # Of a step whose topic was taken out of those that are wanted.
    node = dict.fromkeys(("cancelledAt", "closedAt", "name", "displayFinancialStatus", "displayFulfillmentStatus", "note"))
    order = {**node, "id": "gid://shopify/Order/1", "tags": [], "createdAt": iso(T0 - DAY), "updatedAt": iso(T0 - DAY)}
    pending = Pending(SHOP, "orders", "order/1", T0, "state", "", float(T0 // S), {}, gid="gid://shopify/Order/1")
    assert recorded_of(FAMILIES["orders"], order, [], T0 + HOUR, 7200.0, [pending]) == ([], [])
