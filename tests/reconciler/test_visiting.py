"""What a doctor exports, and what it notes of a subscription that is new; by the ledger alone."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from prometheus_client import REGISTRY

from hooktape.ledger.doctor import Found, Heard, Tape
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.doctor.visiting import Doctor
from hooktape.settings import Settings

OURS, GONE = "ours.myshopify.com", "gone.myshopify.com"


def doctor(ledger: Ledger, listed: set[str]) -> Doctor:
    access: Any = SimpleNamespace(listed=listed)
    return Doctor(Settings(kafka="127.0.0.1:1"), ledger, http=httpx.AsyncClient(), access=access)


def finding(shop: str) -> float | None:
    return REGISTRY.get_sample_value("hooktape_doctor_finding",
                                     {"shop": shop, "problem": "silent", "subject": "orders/updated", "severity": "error"})  # fmt: skip


def look(shop: str) -> float | None:
    return REGISTRY.get_sample_value("hooktape_doctor_last_look_timestamp_seconds", {"shop": shop})


def test_a_finding_stays_in_sight_while_the_ledger_is_asked_and_a_shop_that_left_has_none(ledger: Ledger) -> None:
    known = {OURS, GONE}
    watching = doctor(ledger, known)
    for shop in known:
        ledger.doctor.find(shop, [Found(shop, "silent", "orders/updated", "error", "", "")], 10.0)
    watching.measure()
    assert [(finding(shop), look(shop)) for shop in (OURS, GONE)] == [(1.0, 10.0)] * 2
    asked, seen = ledger.doctor.findings, list[float | None]()

    def slowly(shop: str | None = None) -> list[Found]:
        seen.append(finding(OURS))
        return asked(shop)

    ledger.doctor.findings = slowly  # type: ignore[method-assign]
    known.discard(GONE)
    watching.measure()
    assert seen == [1.0]
    assert [(finding(shop), look(shop)) for shop in (OURS, GONE)] == [(1.0, 10.0), (None, None)]
    ledger.doctor.find(OURS, [], 20.0)
    watching.measure()
    assert (finding(OURS), look(OURS)) == (None, 20.0)
    # The last one leaves.
    known.clear()
    watching.measure()
    assert look(OURS) is None


def test_what_was_recorded_before_a_subscription_was_made_is_forgotten_and_its_last_webhook_is_not(ledger: Ledger) -> None:
    heard = Heard(OURS, "orders/updated", 5, "2026-04", (), 7, 6)
    other = Heard(OURS, "orders/create", 5, "2026-04", (), 7, 6)
    ledger.doctor.hear(Tape(), [heard, other])
    ledger.doctor.forgive(OURS, ["orders/updated"])
    assert ledger.doctor.heard(OURS) == [other, Heard(OURS, "orders/updated", 5, "2026-04", (), 0, 0)]


@pytest.mark.anyio
async def test_looks_that_wait_for_the_tape_leave_threads_for_others(ledger: Ledger) -> None:
    watching, reads = doctor(ledger, set()), threading.Event()
    watching._listener = Mock(catch_up=lambda now: reads.wait(60))
    # More than the pool that all of the process shares has threads.
    looks = [asyncio.create_task(watching._hear(OURS)) for _ in range(50)]
    await asyncio.sleep(0)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
    finally:
        reads.set()
    await asyncio.gather(*looks)
