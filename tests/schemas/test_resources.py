"""Resources found in bodies, best effort."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.schemas import resources, topics

SAMPLES = Path(__file__).parents[2] / "../shared/shopify/samples"


@pytest.mark.parametrize(("topic", "body", "resource", "root"), [
    ("orders/create", {"id": 1}, "order/1", "order/1"),
    ("orders/edited", {"order_edit": {"id": 5, "order_id": 1}}, "order_edit/5", "order/1"),
    ("refunds/create", {"id": 9, "order_id": 1}, "refund/9", "order/1"),
    ("fulfillments/update", {"id": 8, "order_id": 1}, "fulfillment/8", "order/1"),
    ("order_transactions/create", {"id": 7, "order_id": 1}, "order_transaction/7", "order/1"),
    ("returns/open", {"id": 6, "order": {"id": 1}}, "return/6", "order/1"),
    ("fulfillment_orders/placed_on_hold", {"fulfillment_order": {"id": "gid://shopify/FulfillmentOrder/4"}},
     "fulfillment_order/4", "fulfillment_order/4"),
    ("products/delete", {"id": 2}, "product/2", "product/2"),
    ("variants/in_stock", {"id": 3, "product_id": 2}, "variant/3", "product/2"),
    ("inventory_levels/update", {"inventory_item_id": 10, "location_id": 11}, "inventory_level/10-11", "inventory_item/10"),
    ("customers/redact", {"shop_id": 1, "customer": {"id": 12}}, "customer/12", "customer/12"),
    ("customer.tags_added", {"customerId": "gid://shopify/Customer/12"}, "customer/12", "customer/12"),
    ("companies/update", {"id": 13}, "company/13", "company/13"),
    ("segments/update", {"id": 15}, "segment/15", "segment/15"),
    ("subscription_contracts/pause", {"id": 16, "customer_id": 12}, "subscription_contract/16", "subscription_contract/16"),
    ("carts/update", {"token": "eeafa2"}, "cart/eeafa2", "cart/eeafa2"),
    ("app/uninstalled", {"id": 14}, "shop/14", None),
    ("attributed_sessions/first", {}, None, None),
])  # fmt: skip
def test_the_resource_and_what_it_belongs_to(topic, body, resource, root):
    found = resources.find(topic, json.dumps(body).encode())
    assert (found.name, found.root) == (resource, root)


def test_the_version_is_updated_at_as_an_instant():
    found = resources.find("orders/updated", b'{"id":1,"updated_at":"2026-11-20T10:00:00-05:00"}')
    assert found.version == 1_795_186_800_000_000


def test_a_refund_which_never_changes_has_its_creation_as_version():
    found = resources.find("refunds/create", b'{"id":1,"order_id":2,"created_at":"2026-11-20T15:00:00Z"}')
    assert found.version == 1_795_186_800_000_000


def test_a_segment_says_when_it_was_edited_in_a_member_of_its_own():
    found = resources.find("segments/update", b'{"id":1,"lastEditDate":"2026-11-20T15:00:00.000Z"}')
    assert found.version == 1_795_186_800_000_000


@pytest.mark.parametrize("payload", [
    b"", b"not json", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"a":' * 100_000, b'{"id":' + b"9" * 4000 + b"}",
    b'{"id":{"a":1}}', b'{"id":"a/b"}', b'{"id":"\\u0000"}', b'{"id":true}', b'{"token":"\\u001f"}',
])  # fmt: skip
def test_a_body_that_holds_no_resource_is_no_error(payload):
    assert resources.find("orders/create", payload).name is None


@given(st.binary(max_size=100), st.sampled_from(sorted(topics.table())))
def test_no_bytes_make_it_raise(payload, topic):
    resources.find(topic, payload)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["id", "customer", "order", "order_id", "updated_at", "fulfillment_order", "token"]), inner,
                        max_size=4), max_leaves=8), st.sampled_from(sorted(topics.table())))  # fmt: skip
def test_no_json_makes_it_raise_and_a_name_is_fit_for_a_key(value, topic):
    found = resources.find(topic, json.dumps(value).encode())
    for name in (found.name, found.root):
        assert name is None or (name.count("/") == 1 and name.isprintable() and len(name) < 200)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the captured webhooks aren't here")
@pytest.mark.parametrize(("topic", "resource"), [
    ("orders.create", "order/820982911946154508"), ("refunds.create", "refund/890088186047892319"),
    ("fulfillments.create", "fulfillment/123456"), ("customers.update", "customer/706405506930370084"),
    ("inventory_levels.update", "inventory_level/271878346596884015-24826418"),
])  # fmt: skip
def test_real_webhooks_show_their_resource(topic, resource):
    sample = json.loads((SAMPLES / f"{topic}.json").read_text())
    assert resources.find(sample["topic"], json.dumps(sample["body"]).encode()).name == resource


@pytest.mark.parametrize("stamp", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z",
                                   "9999-12-31T23:59:59-14:00"])  # fmt: skip
def test_a_time_that_no_resource_was_updated_at_is_no_version(stamp):
    found = resources.find("orders/updated", b'{"id": 1, "updated_at": "%b"}' % stamp.encode())
    assert (found.name, found.version) == ("order/1", None)
