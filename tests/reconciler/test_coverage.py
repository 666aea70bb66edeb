"""What the tape says of a resource, in whatever order its records came."""

import itertools

from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
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
