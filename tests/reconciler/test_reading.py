"""The reconciler's look at a real tape: all that may matter, and nothing else decoded."""

from dataclasses import replace
from unittest.mock import patch

import pytest

from hooktape.ledger.reconcile import Intent
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.reading import TapeView
from hooktape.schemas import resources
from hooktape.settings import Settings
from hooktape.tape import topics

from .conftest import event_of, put
from .showing import Showing

pytestmark = pytest.mark.anyio
SHOP = "one.myshopify.com"


def test_what_is_its_own_root_is_named_in_the_key_of_its_records() -> None:
    showing = Showing(600)
    for change in showing.said.values():
        event = event_of(change)
        if resources.own_root(change.topic.partition("/")[0]):
            assert event.lane == f"{SHOP}/{event.resource}"
    assert {name for name in FAMILIES if not resources.own_root(name)} == {
        "refunds", "order_transactions", "fulfillments", "returns", "fulfillment_orders", "inventory_levels"}  # fmt: skip


@pytest.mark.kafka
@pytest.mark.parametrize("name", ["orders", "inventory_levels"])
async def test_a_look_for_some_resources_finds_what_is_there_of_them_and_decodes_no_others(settings: Settings, name: str) -> None:
    settings, family = replace(settings, topics=(f"{name}/*",)), FAMILIES[name]
    topics.apply(settings)
    told = [event_of(change) for change in Showing(300).said.values()]
    own = [event for event in told if event.topic in family.topics and event.topic != family.delete]
    await put(settings, own)
    wanted, intended, watched = frozenset({own[0].resource or "", own[1].resource or ""}), own[2], own[3]
    whole = Coverage(family, wanted=wanted)
    for event in own:
        whole.fold(event)
    view = TapeView(settings)
    with patch.object(view._wire, "decode", wraps=view._wire.decode) as decode:
        found = view.coverage(SHOP, family, 0, wanted, [Intent("i", intended.resource or "", 1, {})],
                              [Intent("late", watched.resource or "", watched.version_us or 0, {})])  # fmt: skip
    view.close()
    assert found.known == whole.known
    assert found.twins == {"late"}
    assert decode.call_count == (4 if name == "orders" else len(own))


@pytest.mark.kafka
async def test_one_reading_tells_when_the_tape_begins_for_all_shops_and_is_gone_on_with_for_one_that_it_hasnt_met(
    settings: Settings,
) -> None:
    settings, family = replace(settings, topics=("orders/*",)), FAMILIES["orders"]
    topics.apply(settings)
    orders = [change for change in Showing(60).said.values() if change.topic.startswith("orders/")]
    early, late = orders[:3], orders[3:6]
    await put(settings, [event_of(change, "a.myshopify.com") for change in early])
    view = TapeView(settings)
    assert view.beginning("b.myshopify.com", family) is None
    began = view.beginning("a.myshopify.com", family)
    await put(settings, [event_of(change, name) for change in late for name in ("a.myshopify.com", "b.myshopify.com")])
    with patch.object(view._wire, "decode", wraps=view._wire.decode) as decode:
        assert (view.beginning("b.myshopify.com", family) or 0) >= (began or 0) > 0
        assert view.beginning("a.myshopify.com", family) == began
        assert decode.call_count == 1
    with patch.object(view, "_bounds", side_effect=AssertionError("known already")):
        assert view.beginning("b.myshopify.com", family)
    view.close()
