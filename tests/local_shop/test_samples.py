import json
from pathlib import Path
from typing import Any

import pytest

from hooktape.schemas import resources
from hooktape.schemas.samples import encode, sample
from hooktape.schemas.topics import table

# Since the captures (API 2024-10): consent and tags left customers in 2025-01, checkout_id left orders in 2026-04; the
# captured customer had no address and so no default one.
ADDED = {"customers/update": {"default_address"}}
GONE = {"checkout_id", "tags", "email_marketing_consent", "sms_marketing_consent"}
COMPARED = ("orders/create", "orders/updated", "orders/paid", "orders/delete", "products/update", "products/delete",
            "customers/update", "refunds/create", "fulfillments/create", "inventory_levels/update", "app/uninstalled",
            "customers/redact", "shop/redact")  # fmt: skip


@pytest.mark.parametrize("topic", COMPARED)
def test_a_sample_has_the_members_of_a_real_body_and_their_types(topic: str, shared: Path) -> None:
    document = json.loads((shared / "samples" / f"{topic.replace('/', '.')}.json").read_text())
    real: dict[str, Any] = document.get("body", document)
    for seed in range(5):
        ours = json.loads(sample(topic, seed))
        assert set(ours) <= set(real) | ADDED.get(topic, set())
        both = {name for name in ours if real.get(name) is not None and ours[name] is not None}
        assert {name: type(ours[name]) for name in both} == {name: type(real[name]) for name in both}
    if topic not in ("app/uninstalled",):
        assert set(real) - set(ours) <= GONE


def test_every_topic_has_a_sample_that_is_json_with_a_resource_where_shopify_gives_one() -> None:
    for topic in table():
        body = sample(topic)
        assert isinstance(json.loads(body), dict), topic
    for topic in ("orders/create", "products/update", "customers/create", "refunds/create", "inventory_levels/update"):
        found = resources.find(topic, sample(topic))
        assert found.name
        assert found.root
        assert found.version


def test_one_topic_and_seed_give_one_body_and_another_seed_another() -> None:
    assert sample("orders/create", 7) == sample("orders/create", 7)
    assert sample("orders/create", 7) != sample("orders/create", 8)


def test_the_raw_bytes_have_shopifys_escapes_so_that_encoding_again_changes_them() -> None:
    body = sample("orders/create", 3)
    assert b"https:\\/\\/" in body
    assert b"\\u0026none=1" in body
    assert json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode() != body


def test_every_escape_is_json_for_the_same_text() -> None:
    text = "a/b & <c> \u2028\u2029 \\ \" é 東京"
    assert json.loads(encode({"text": text})) == {"text": text}
    assert encode("/&<>\u2028\u2029") == rb'"\/\u0026\u003c\u003e\u2028\u2029"'


def test_order_bodies_are_of_the_size_that_shopify_sends() -> None:
    sizes = [len(sample("orders/create", seed)) for seed in range(50)]
    assert min(sizes) > 4_000
    assert max(sizes) < 10_000


def test_ids_beyond_a_doubles_precision_occur() -> None:
    assert any(json.loads(sample("orders/create", seed))["id"] > 2**53 for seed in range(10))
