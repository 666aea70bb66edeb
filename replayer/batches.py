"""Batches whose bodies fit into memory together, whatever their size."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
# Bodies held at once: of the usual 4 KiB some thousands, of the largest (8 MiB) two.
_HELD_BYTES = 16 * 1024 * 1024


def by_size(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in their order, at most 16 MiB of `size` (bytes) in a batch, and at least one item."""
    batch: list[T] = []
    held = 0
    for item in items:
        weight = size(item)
        if batch and held + weight > _HELD_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += weight
    if batch:
        yield batch
