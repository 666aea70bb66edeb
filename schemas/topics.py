"""Shopify's webhook topics and their names on Kafka. A table, since the name is no text rule (`customer.tags_added`)."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from hooktape.errors import SettingsError

OTHER = "other"
"""Kafka name of the log for topics that aren't provisioned or that Shopify invented after this table."""


@dataclass(frozen=True, slots=True)
class ShopifyTopic:
    """One row: the header's value, the name on Kafka, the GraphQL enum value ("" for compliance topics), the scopes."""

    topic: str
    kafka_name: str
    enum: str
    scopes: tuple[str, ...]


@cache
def table() -> dict[str, ShopifyTopic]:
    """Every known topic by its `X-Shopify-Topic`."""
    rows = {}
    for line in (files("hooktape.schemas") / "topics.tsv").read_text().splitlines():
        if not line.startswith("#"):
            topic, kafka_name, enum, scopes = line.split("\t")
            rows[topic] = ShopifyTopic(topic, kafka_name, enum, tuple(filter(None, scopes.split(","))))
    return rows


def expand(patterns: Iterable[str]) -> tuple[str, ...]:
    """The topics that `patterns` name, in the table's order: `orders/create`, `orders/*`, `all`.

    Raises SettingsError for a pattern that matches nothing, since a misspelt topic would go to the log of other topics.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matches = set(table()) if pattern == "all" else set(fnmatch.filter(table(), pattern))
        if not matches:
            raise SettingsError(f"HOOKTAPE_TOPICS: {pattern!r} is no Shopify topic. Write orders/create, orders/* or all.")
        chosen |= matches
    return tuple(topic for topic in table() if topic in chosen)


def from_events_header(resource: str, action: str) -> str | None:
    """The classic topic of an Events delivery: `Product`, `update` → `products/update`; None where there's none.

    Events name the resource in the singular and the action apart.
    """
    word = "".join("_" + c.lower() if c.isupper() else c for c in resource).lstrip("_")
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    topic = f"{plural}/{action.lower()}"
    return topic if topic in table() else None
