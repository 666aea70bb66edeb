"""A stock of orders that is only a seed, against the plain way of keeping everything."""

import tracemalloc
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape.local.shop import store
from hooktape.local.shop.model import DELETING
from hooktape.schemas import resources, samples

from .kit import START, Client


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(0, 120), st.sampled_from([10, 20_000]))
def test_windows_counts_and_order_are_those_of_a_plain_list(seed: int, changes: int, narrow: int) -> None:
    kept, store.NARROW = store.NARROW, narrow
    try:
        client = Client(DELETING, seed=seed % 1000, stock=150)
        client.change(changes, step=1.1)
        shelf, rng = client.shop.shelves["order"], Random(seed)
        plain = {resource.id: resource for place in range(shelf.places) if (resource := shelf.at(place))}
        assert len(shelf) == len(plain)
        for _ in range(8):
            low, high = sorted(rng.randrange(int(START) - 91 * 86_400, int(START) + 200) for _ in range(2))
            inside = sorted(number for number, one in plain.items() if low <= one.updated <= high)
            assert shelf.count((low, high)) == len(inside)
            found = [one.id for one in shelf.find((low, high))]
            assert found == inside
            after = rng.choice(sorted(plain))
            rest = [one.id for one in shelf.find((low, high), after=after)]
            assert rest == [number for number in inside if number > after]
        assert [one.id for one in client.shop.live("order")] == sorted(plain)
    finally:
        store.NARROW = kept


def test_a_stocked_order_has_a_body_of_its_own_the_same_each_time() -> None:
    one, other = Client(stock=300), Client(stock=300)
    order = one.shop.shelves["order"].at(7)
    again = other.shop.shelves["order"].at(7)
    assert order
    assert again
    assert order.body == again.body
    assert resources.find("orders/updated", samples.encode(order.body)).version == order.updated * 1_000_000
    assert one.shop.get(f"customer/{order.body['customer']['id']}")


def test_a_changed_order_of_the_stock_stays_changed_and_a_deleted_one_gone() -> None:
    client = Client(stock=300)
    order = client.shop.live("order")[5]
    client.shop.change(client.now, again=order)
    kept = client.shop.get(order.name)
    assert kept
    assert kept.updated == int(START)
    client.shop.remove(kept, int(START))
    assert client.shop.get(order.name) is None
    assert order.gid not in client.ids()
    assert client.data("{ ordersCount(limit: null) { count precision } }")["ordersCount"] == {"count": 299, "precision": "EXACT"}


def test_a_hundred_thousand_orders_take_8_bytes_each() -> None:
    tracemalloc.start()
    try:
        client = Client(stock=100_000)
        held, _ = tracemalloc.get_traced_memory()
        assert len(client.shop.shelves["order"]) == 100_000
        # Beside them there are 60 customers and products, and the shop itself.
        assert held < 100_000 * 8 + 2_000_000
    finally:
        tracemalloc.stop()


def test_a_list_ends_after_25000_objects_as_shopifys_do() -> None:
    client = Client(stock=25_300)
    page = "query($a: String) { orders(first: 250, after: $a, sortKey: ID) { nodes { id } pageInfo { hasNextPage endCursor } } }"
    after, seen = None, 0
    while seen < 25_000:
        found = client.data(page, a=after)["orders"]
        seen, after = seen + len(found["nodes"]), found["pageInfo"]["endCursor"]
    assert found["pageInfo"]["hasNextPage"]
    assert "25000" in client.ask(page, a=after)["errors"][0]["message"]


def test_a_wide_window_after_changes_shows_none_outside_of_it() -> None:
    kept, store.NARROW = store.NARROW, 10
    try:
        client = Client(DELETING, stock=200)
        client.change(150, step=1.1)
        low = samples.utc(int(START) - 89 * 86_400)
        inside = [one.gid for one in client.shop.live("order") if samples.utc(one.updated) >= low and one.updated < START]
        assert client.ids(query=f"updated_at:>='{low}' updated_at:<'{samples.utc(int(START))}'") == inside
        assert inside
    finally:
        store.NARROW = kept
