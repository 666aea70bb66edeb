import json
from collections import Counter
from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape.local.shop.model import DELETING, Change, Mix, Shop
from hooktape.schemas import resources

START = 1_790_000_000.0


def changes(count: int, seed: int = 1, mix: Mix | None = None, ties: float = 0.0) -> tuple[Shop, list[Change]]:
    shop = Shop("a.myshopify.com", seed, lambda: START, mix, ties)
    return shop, [shop.change(START + place * 0.01) for place in range(count)]


def test_one_seed_gives_one_shop_and_another_seed_another() -> None:
    assert changes(300)[1] == changes(300)[1]
    assert changes(300, seed=1)[1] != changes(300, seed=2)[1]


def test_the_body_says_the_resource_and_version_that_the_change_says() -> None:
    for change in changes(500, mix=DELETING)[1]:
        found = resources.find(change.topic, change.body)
        assert (found.name, found.version) == (change.resource, change.version)


@settings(max_examples=25)
@given(st.lists(st.floats(-3, 3), min_size=5, max_size=60), st.integers(0, 2**32))
def test_updated_at_never_goes_back_even_when_the_clock_does(steps: list[float], seed: int) -> None:
    shop, now, versions = Shop("a.myshopify.com", seed, lambda: START, ties=1.0), START, dict[str, int]()
    for step in steps:
        now += step
        change = shop.change(now)
        assert change.version is not None
        assert change.version >= versions.get(change.resource, 0)
        assert change.version % 1_000_000 == 0
        versions[change.resource] = change.version


def test_without_ties_no_two_changes_of_a_resource_share_a_version_and_with_them_some_do() -> None:
    distinct = Counter((change.resource, change.version) for change in changes(2000)[1])
    assert max(distinct.values()) == 1
    tied = Counter((change.resource, change.version) for change in changes(2000, ties=1.0)[1])
    assert max(tied.values()) > 1


def test_ids_are_unique_and_long_and_names_count_up() -> None:
    _, made = changes(600)
    orders = [json.loads(change.body) for change in made if change.topic == "orders/create"]
    assert [order["name"] for order in orders] == [f"#{1001 + place}" for place in range(len(orders))]
    assert all(order["id"] > 10**12 for order in orders)
    assert len({change.webhook_id for change in made}) == len({change.event_id for change in made}) == 600


def test_an_order_has_a_customer_and_a_product_of_the_shop() -> None:
    shop, made = changes(200)
    first = next(json.loads(change.body) for change in made if change.topic == "orders/create")
    assert shop.get(f"customer/{first['customer']['id']}")
    assert shop.get(f"product/{first['line_items'][0]['product_id']}")


def test_a_deleted_resource_is_gone_has_an_event_and_never_changes_again() -> None:
    shop, made = changes(1500, mix=DELETING)
    ends = {change.resource: change.number for change in made if change.topic.endswith("/delete")}
    assert len(ends) == len(shop.destroyed) > 20
    assert all(change.number <= ends.get(change.resource, change.number) for change in made)
    assert all(shop.get(resource) is None for resource in ends)
    assert all(json.loads(change.body).keys() == {"id"} for change in made if change.resource in ends and change.version is None)


def test_a_cancelled_order_is_never_paid() -> None:
    shop, _ = changes(2000)
    cancelled = [order.body for order in shop.live("order") if order.body["cancelled_at"]]
    assert cancelled
    assert {body["financial_status"] for body in cancelled} == {"voided"}


def test_triggered_at_has_nine_digits_and_is_the_time_of_the_change() -> None:
    change = changes(3)[1][2]
    assert len(change.triggered_at.partition(".")[2]) == 10
    assert abs(datetime.fromisoformat(change.triggered_at).timestamp() - (START + 0.02)) < 0.001
