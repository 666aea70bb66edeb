"""The table of Shopify's topics."""

import re
from pathlib import Path

import pytest

from hooktape.errors import SettingsError
from hooktape.schemas import topics
from hooktape.settings import DEFAULT_TOPICS

LIST = Path(__file__).parents[2] / "../shared/shopify/topics.txt"


def test_every_kafka_name_is_legal_and_none_collide_in_kafkas_metrics():
    names = [row.kafka_name for row in topics.table().values()]
    assert all(re.fullmatch(r"[a-z0-9._-]+", name) for name in names)
    # Kafka refuses two topics that differ only in . and _.
    assert len({name.replace(".", "_") for name in names}) == len(names) == 228


def test_dotted_topics_keep_their_name():
    assert topics.table()["customer.tags_added"].kafka_name == "customer.tags_added"
    assert topics.table()["orders/create"].kafka_name == "orders.create"


def test_the_default_topics_are_the_families_that_the_design_names():
    chosen = topics.expand(DEFAULT_TOPICS)
    assert {topic.partition("/")[0] for topic in chosen} == {
        "orders", "products", "customers", "refunds", "fulfillments", "inventory_items", "inventory_levels", "app",
        "bulk_operations", "shop",
    }  # fmt: skip
    assert {"customers/redact", "customers/data_request", "shop/redact"} <= set(chosen)


def test_all_is_every_topic():
    assert len(topics.expand(["all"])) == 228


def test_a_misspelt_topic_is_named():
    with pytest.raises(SettingsError, match="order/create"):
        topics.expand(["orders/*", "order/create"])


@pytest.mark.parametrize(("resource", "action", "topic"), [
    ("Product", "update", "products/update"), ("Company", "create", "companies/create"),
    ("InventoryItem", "delete", "inventory_items/delete"), ("Nothing", "update", None),
])  # fmt: skip
def test_an_events_delivery_has_its_classic_topic(resource, action, topic):
    assert topics.from_events_header(resource, action) == topic


@pytest.mark.skipif(not LIST.is_file(), reason="Shopify's list isn't here")
def test_the_table_is_shopifys_list():
    lines = [line.split("\t")[1] for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    assert set(topics.table()) == set(lines)
