"""What the tape says of a resource, in whatever order its records came."""

import itertools

import msgspec
import pytest

from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.schemas import resources
from hooktape.schemas.event import Event

T0 = 1_770_000_000_000_000
SECOND = 1_000_000


def record(topic: str, received: int, version: int | None = None) -> Event:
    """One of a delivery that didn't say when it was triggered."""
    return Event(
        webhook_id=f"{topic}/{received}", shop="one.myshopify.com", topic=topic, payload=b'{"id": 1}', received_us=T0 + received * SECOND,
        resource="product/1", resource_root="product/1", version_us=None if version is None else T0 + version * SECOND,
    )  # fmt: skip


def test_a_creation_that_was_delivered_again_after_the_deletion_brings_nothing_back() -> None:
    told = [record("products/create", 1, 0), record("products/update", 4, 3), record("products/delete", 6), record("products/create", 9, 0)]
    for order in itertools.permutations(told):
        coverage = Coverage(FAMILIES["products"])
        for event in order:
            coverage.fold(event)
        assert coverage.deletion("product/1") is not None
        assert coverage.living(T0 + 60 * SECOND) == {}


def test_what_changed_after_its_deletion_lives_again() -> None:
    coverage = Coverage(FAMILIES["products"])
    for event in (record("products/delete", 6), record("products/update", 9, 8)):
        coverage.fold(event)
    assert coverage.deletion("product/1") is None


def taped(family: str, *told: tuple[str, dict[str, object]], swept: bool = False) -> Coverage:
    """What the tape says after these webhooks, (topic, body), a second apart: of what they are about, or where `swept` of all."""
    events = []
    for second, (topic, body) in enumerate(told):
        payload = msgspec.json.encode(body)
        found = resources.find(topic, payload)
        events.append(Event(webhook_id=f"{second}", shop="one.myshopify.com", topic=topic, payload=payload,
                            received_us=T0 + second * SECOND, resource=found.name, version_us=found.version,
                            triggered_us=T0 + second * SECOND))  # fmt: skip
    coverage = Coverage(FAMILIES[family], wanted=None if swept else frozenset(event.resource for event in events if event.resource))
    for event in events:
        coverage.fold(event)
    return coverage


def test_an_edit_of_an_order_is_no_order_that_a_sweep_could_miss() -> None:
    edit = {"order_edit": {"id": 78912328793, "order_id": 1, "created_at": "2026-02-02T10:00:00Z"}}
    coverage = taped("orders", ("orders/create", {"id": 1, "updated_at": "2026-02-02T02:40:00Z"}), ("orders/edited", edit), swept=True)
    assert list(coverage.living(T0 + 60 * SECOND)) == ["order/1"]


@pytest.mark.parametrize("topic", ["customers/redact", "customers/data_request"])
def test_what_the_law_asks_for_after_a_customers_deletion_brings_nobody_back(topic: str) -> None:
    told = [("customers/create", {"id": 7, "updated_at": "2026-02-02T02:40:00Z"}), ("customers/delete", {"id": 7}),
            (topic, {"shop_id": 1, "customer": {"id": 7, "email": "j@example.com"}})]  # fmt: skip
    for swept in (True, False):
        coverage = taped("customers", *told, swept=swept)
        assert coverage.deletion("customer/7") is not None
        assert coverage.living(T0 + 60 * SECOND) == {}


@pytest.mark.parametrize(("family", "told", "later"), [
    ("returns", ("returns/approve", {"id": 5, "status": "open"}), ("returns/update", {"id": 5, "return_line_items": {"removals": []}})),
    ("fulfillment_orders", ("fulfillment_orders/order_routing_complete", {"fulfillment_order": {"id": 5, "status": "open"}}),
     ("fulfillment_orders/moved", {"original_fulfillment_order": {"id": 5, "status": "open"}, "moved_fulfillment_order": {"id": 6}})),
])  # fmt: skip
def test_a_record_that_tells_of_no_state_hides_none(family: str, told: tuple[str, dict[str, object]],
                                                    later: tuple[str, dict[str, object]]) -> None:  # fmt: skip
    coverage = taped(family, told, later)
    assert coverage.covering(*next((name, T0, FAMILIES[family].digest_of(told[1])) for name in coverage.known)) is not None


def test_two_edits_in_one_second_are_told_apart_where_webhooks_tell_times_to_the_millisecond() -> None:
    first = {"id": 3, "name": "a", "query": "q", "lastEditDate": "2026-02-02T02:40:00.120Z"}
    coverage = taped("segments", ("segments/update", first))
    digest, version = FAMILIES["segments"].digest_of, T0
    assert coverage.covering("segment/3", version, digest(first)) is not None
    assert coverage.covering("segment/3", version, digest({**first, "name": "b"})) is None
