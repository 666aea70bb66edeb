"""Keys of events."""

import pytest

from hooktape.errors import NotOurs
from hooktape.schemas.event import Event

DAY = 86_400_000_000


def event(**changes):
    return Event(**{"webhook_id": "w", "shop": "a.myshopify.com", "topic": "orders/create", "payload": b"{}",
                    "received_us": 20_000 * DAY + 5} | changes)  # fmt: skip


def test_copies_of_a_webhook_share_a_key_whenever_they_arrive():
    first = event(triggered_us=20_000 * DAY - 10)
    retried = event(triggered_us=20_000 * DAY - 10, received_us=20_000 * DAY + 4 * 3_600_000_000)
    assert first.key == retried.key
    assert first.key.day == 19_999


def test_the_same_webhook_id_of_another_shop_is_another_event():
    assert event().key != event(shop="b.myshopify.com").key


@pytest.mark.parametrize("triggered", [None, 0, 90_000 * DAY])
def test_a_missing_or_unbelievable_clock_gives_way_to_ours(triggered):
    assert event(triggered_us=triggered).key.day == 20_000


def test_the_lane_is_the_root_or_else_the_shop():
    assert event(resource="refund/2", resource_root="order/1").lane == "a.myshopify.com/order/1"
    assert event().lane == "a.myshopify.com"


def test_a_body_that_isnt_json_is_an_error_that_names_the_event():
    with pytest.raises(NotOurs, match=r"orders/create w of a\.myshopify\.com"):
        event(payload=b"{").json()


def test_big_ids_survive_json():
    assert event(payload=b'{"id":9007199254740993820}').json()["id"] == 9007199254740993820
