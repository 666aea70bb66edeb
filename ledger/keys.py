"""The ledger's key of an event, and ids that sort by the time they were made."""

import os

from hooktape.schemas.event import EventKey, event_id16

__all__ = ["EventKey", "event_id16", "new_id", "shown"]


def shown(key: EventKey) -> str:
    """The key as messages and the audit trail write it: `20779/9f86d081884c7d65…`."""
    return f"{key.day}/{key.id.hex()}"


def new_id(now: float) -> str:
    """An id for a job or a reset: 20 hex digits, first the milliseconds of `now`, so that ids sort by age."""
    return f"{int(now * 1000):012x}{os.urandom(4).hex()}"
