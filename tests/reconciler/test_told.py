"""As which topic a missing state is told, where the tape no longer has all or not all topics are wanted; lists that end where Shopify is
known to cut them. Pure."""

import pytest

from hooktape.ledger.reconcile import Cursor
from hooktape.reconciler import api, core
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.moves import Advance, Fetch, Fetched, Input, List, Listed, Options, ReadTape, Record, Row, Taped
from hooktape.reconciler.standing import DAY, Standing
from hooktape.schemas.event import Event
from hooktape.times import iso

from .test_core import SHOP, T0, S, World, row


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


def test_work_that_was_touched_without_news_is_told_again_neither_young_nor_old() -> None:
    # Its updated_at moves with more than its status, and its bodies have no version: what was told of it lies wherever it lies.
    family, hour, body = FAMILIES["fulfillment_orders"], 3600 * S, b'{"fulfillment_order": {"id": 5, "status": "open"}}'
    came = Event(webhook_id="1", shop=SHOP, topic="fulfillment_orders/hold_released", payload=body, received_us=T0 + hour,
                 resource="fulfillment_order/5", triggered_us=T0 + hour)  # fmt: skip
    node = {"id": "gid://shopify/FulfillmentOrder/5", "status": "OPEN", "updatedAt": iso(T0 + 10 * hour)}
    for created in (T0 - 5 * DAY, T0 + hour // 2):
        row = api.row(family, {**node, "createdAt": iso(created)})
        options = Options(overlap=10, lag=0, grace=0.0, retention=30 * 86400)
        state, actions = core.begin(Standing(SHOP, family, Cursor(T0, T0 + 9 * hour), T0, options, 0.0, T0 + 11 * hour))
        while actions:
            found: Input | None = None
            for action in actions:
                match action:
                    case List():
                        found = Listed((row,), None)
                    case ReadTape(since, wanted):
                        coverage = Coverage(family, wanted=wanted)
                        if came.received_us >= since:
                            coverage.fold(came)
                        found = Taped(coverage)
                    case Fetch():
                        found = Fetched({row.gid: (row, node)})
                    case Record(items):
                        pytest.fail(f"told as {[item.topic for item in items]}")
            if found is None:
                break
            state, actions = core.step(state, found)
        assert state.complete
