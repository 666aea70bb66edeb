"""The ledger's key of an event, and ids that sort by the time they were made."""

import os
from typing import NamedTuple


class EventKey(NamedTuple):
    """An event: the day it happened, and the hash that names it.

    `day` is days since 1970-01-01 and leads every key, so that a day's rows lie together and can be dropped together.
    `id` is 16 bytes. The copies of a webhook nearly always share their day; look-ups ask the day before and after too.
    """

    day: int
    id: bytes

    def __repr__(self) -> str:
        return f"{self.day}/{self.id.hex()}"


def new_id(now: float) -> str:
    """An id for a job or a reset: 20 hex digits, first the milliseconds of `now`, so that ids sort by age."""
    return f"{int(now * 1000):012x}{os.urandom(4).hex()}"
