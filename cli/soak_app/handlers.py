"""The app under test. Each call leaves its start and its end in a file, one write each, by the clock that the witness reads, too.

`HOOKTAPE_*` would be settings; what this app needs is in `SOAK_*`.
"""

import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hooktape import App, Event, Reject, Retry
from hooktape.local.soak import workload

_SEED = int(os.environ.get("SOAK_SEED", "0"))
_FILE = os.open(os.environ.get("SOAK_EFFECTS", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
_HANDLERS = {handler.name: handler for handler in workload.handlers(os.environ.get("SOAK_LEDGER", "sqlite"), "SOAK_SHOP" in os.environ)}
_calls = itertools.count()

app = App(workload.GROUP)


F = TypeVar("F", bound=Callable[[Event], Any])


def on(name: str) -> Callable[[F], F]:
    """Registers a handler as the workload's table says; one that isn't there gets nothing."""
    if name not in _HANDLERS:
        return lambda function: function
    handler = _HANDLERS[name]
    return app.on(*handler.topics, concurrency=16, order="key" if handler.ordered else "none", skip_stale=handler.skip_stale,
                  max_attempts=handler.max_attempts)  # fmt: skip


@on("order")
async def order(event: Event) -> None:
    with told("order", event):
        await asyncio.sleep(meet(event))


@on("ship")
def ship(event: Event) -> None:
    with told("ship", event):
        time.sleep(meet(event))


@on("product")
async def product(event: Event) -> None:
    with told("product", event):
        await asyncio.sleep(meet(event))


@on("customer")
async def customer(event: Event) -> None:
    with told("customer", event):
        await asyncio.sleep(meet(event))


@on("stock")
async def stock(event: Event) -> None:
    with told("stock", event):
        await asyncio.sleep(meet(event))
        if _HANDLERS["stock"].transactional:
            offered: Any = event
            async with offered.transaction() as connection:
                await connection.execute(INSERT, {
                    "handler": "stock", "wid": event.webhook_id, "lane": event.lane, "resource": event.resource or "",
                    "version": event.version_us, "generation": _generation(event), "pid": os.getpid(), "at": time.monotonic(),
                })  # fmt: skip


INSERT = """
    INSERT INTO soak_effects (handler, wid, lane, resource, version, generation, pid, at)
    VALUES (%(handler)s, %(wid)s, %(lane)s, %(resource)s, %(version)s, %(generation)s, %(pid)s, %(at)s)"""


def meet(event: Event) -> float:
    """How long this try takes; raises what it's fated to."""
    fate = workload.fate(_SEED, event.webhook_id, event.replay is not None)
    if event.attempt <= fate.failures:
        # Both ways in which a handler says "not now".
        raise TimeoutError("the warehouse doesn't answer") if fate.failures % 2 else Retry("the warehouse asks for a moment")
    if fate.rejected:
        raise Reject("no such warehouse")
    return fate.seconds


@contextmanager
def told(handler: str, event: Event) -> Iterator[None]:
    """Writes the call's start and end. A death in between leaves the start alone."""
    call = f"{os.getpid()}-{next(_calls)}"
    _write({"start": call, "handler": handler, "wid": event.webhook_id, "lane": event.lane, "resource": event.resource or "",
            "version": event.version_us, "attempt": event.attempt, "generation": _generation(event), "pid": os.getpid(),
            "t": time.monotonic()})  # fmt: skip
    ok = False
    try:
        yield
        ok = True
    finally:
        _write({"end": call, "t": time.monotonic(), "ok": ok})


def _generation(event: Event) -> str:
    return event.replay.id if event.replay else ""


def _write(line: dict[str, Any]) -> None:
    os.write(_FILE, json.dumps(line).encode() + b"\n")
