"""Faults of the worker's own: wherever they happen, they end it, since a worker that goes on without its part would stand still unseen."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.worker import Worker
from hooktape.settings import Settings


def deliver(worker: Worker) -> None:
    worker._on_delivery(SimpleNamespace(received=0), [None])  # type: ignore[arg-type,list-item]


def tick(worker: Worker) -> None:
    worker._keep_time()


def pump(worker: Worker) -> None:
    worker._flow._pump_soon()


@pytest.mark.parametrize(("part", "method", "act"), [
    ("_intake", "take", deliver), ("_flow", "tick", tick), ("_intake", "next", pump),
])  # fmt: skip
def test_a_fault_ends_the_worker(monkeypatch: pytest.MonkeyPatch, part: str, method: str, act: Callable[[Worker], None]) -> None:
    app = App("g")
    app.on("orders/create")(print)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        worker = Worker(app, Settings(), None, None, Options())  # type: ignore[arg-type]
        monkeypatch.setattr(worker._custody, "is_sound", lambda: True)
        monkeypatch.setattr(getattr(worker, part), method, fail)
        act(worker)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(worker.failed, 5)

    asyncio.run(main())
