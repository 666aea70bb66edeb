"""A large shop of which a few orders were missed: the reconciler as a process of its own, a real tape, one bulk operation.

The shop, Kafka and the reconciler are a process each. Of every order but the missed ones the tape has a webhook with its whole body.
"""

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from common import put, sqlite, tape

from hooktape.ledger.ledger import Ledger
from hooktape.local.shop import bodies
from hooktape.local.shop.cost import PLUS
from hooktape.local.shop.model import API_VERSION, Shop
from hooktape.local.shop.server import LocalShop
from hooktape.local.shop.store import Resource
from hooktape.schemas import samples
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import topics
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader
from hooktape.tape.wire import Wire

DOMAIN = "large.myshopify.com"
SEED = 13
SECOND = 1_000_000
# Within the 30 days that a tape is kept by default, and none so young that it lies behind the window's end.
SPAN, YOUNGEST = 20 * 86_400, 3600
TOPIC = "orders/create"


@dataclass(frozen=True)
class Orders:
    """So many orders, made between `start` and `end` (epoch seconds); `missed` of them never reached the tape."""

    count: int
    missed: int
    start: int
    end: int

    def shop(self) -> Shop:
        """The same orders each time."""
        shop = Shop(DOMAIN, SEED, time.time)
        shop.stock(self.count, self.start, self.end)
        return shop

    def lost(self) -> frozenset[int]:
        """Which of them were missed, by place."""
        return frozenset(Random(f"{SEED}/lost").sample(range(self.count), self.missed))


@dataclass(frozen=True)
class Found:
    """What came of it. `wrong`: found though there, or not found though missing; `peak`: MiB of resident memory."""

    recorded: int
    wrong: int
    doubled: int
    seconds: float
    peak: float
    points: int
    covered: int
    complete: bool


def find(bootstrap: str, home: Path, orders: Orders, progress: Any) -> Found:
    """Fills a tape, lets the reconciler look once, and judges what it wrote by the shop's own list."""
    settings = replace(tape(bootstrap, home), topics=("orders/*",))
    topics.apply(settings)
    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        parts = os.cpu_count() or 1
        list(pool.map(_fill, [settings] * parts, [orders] * parts, range(parts), [parts] * parts))
    progress(f"{orders.count - orders.missed:,} webhooks on the tape after {time.monotonic() - began:.0f} s")
    url = sqlite(home)
    with Ledger.open(url) as ledger:
        # As if recording had begun with the first of them: Kafka dates all of them now.
        ledger.reconcile.cover_from(DOMAIN, "orders", orders.start * SECOND)
    with _served(orders) as admin:
        seconds, peak = _reconciled(settings, url, admin)
    with Ledger.open(url) as ledger:
        (kept,) = ledger.reports.latest(1)
    lost = orders.lost()
    stock = orders.shop().shelves["order"].stock
    assert stock is not None
    missing = {f"order/{stock.number(place)}" for place in lost}
    told = [event.resource for event in _synthetic(settings)]
    report = kept.report
    return Found(len(told), len(missing.symmetric_difference(told)), len(told) - len(set(told)), seconds, peak, report["points"],
                 report["tally"]["covered"], report["complete"])  # fmt: skip


def _fill(settings: Settings, orders: Orders, part: int, parts: int) -> None:
    stock, lost = orders.shop().shelves["order"].stock, orders.lost()
    assert stock is not None
    put(settings, (_event(stock.get(place)) for place in range(part, orders.count, parts) if place not in lost))


def _event(order: Resource) -> Event:
    return Event(webhook_id=str(uuid.uuid4()), shop=DOMAIN, topic=TOPIC, payload=samples.encode(bodies.plain(order.body)),
                 received_us=order.updated * SECOND + SECOND // 5, triggered_us=order.updated * SECOND, resource=order.name,
                 resource_root=order.name, version_us=order.updated * SECOND, hmac="h" * 44, secret_id="0" * 8, event_id="e" * 36,
                 api_version=API_VERSION)  # fmt: skip


# ── the shop and the reconciler, each a process ─────────────────────────────────────────────────────────────────────
@contextmanager
def _served(orders: Orders) -> Iterator[str]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(orders, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join(30)


def _serve(orders: Orders, pipe: Any) -> None:
    async def work() -> None:
        shop = LocalShop(DOMAIN, seed=SEED, plan=PLUS)
        shop.shop.stock(orders.count, orders.start, orders.end)
        async with shop:
            pipe.send(f"{shop.token} {shop.admin_url}")
            await asyncio.to_thread(pipe.recv)

    asyncio.run(work())


def _reconciled(settings: Settings, url: str, admin: str) -> tuple[float, float]:
    """Seconds of `hooktape reconcile`, from its start to its end, and MiB of its memory at the most."""
    token, address = admin.split(" ", 1)
    env = {**os.environ, "HOOKTAPE_KAFKA": settings.kafka, "HOOKTAPE_TOPIC_PREFIX": settings.topic_prefix,
           "HOOKTAPE_TOPICS": ",".join(settings.topics), "HOOKTAPE_SHOP_TOKENS": f"{DOMAIN}={token}", "HOOKTAPE_ADMIN_URL": address,
           "HOOKTAPE_DATABASE_URL": url}  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "hooktape", "reconcile", "--once", "--now", "--family", "orders", "--json"], env=env,
                               stdout=subprocess.PIPE)  # fmt: skip
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _peak(process.pid))
        time.sleep(0.1)
    if process.returncode:
        said = process.stdout.read().decode() if process.stdout else ""
        raise SystemExit(f"`hooktape reconcile` ended with {process.returncode}: {said[:2000]}")
    return time.monotonic() - began, peak


def _peak(pid: int) -> float:
    # Not getrusage: its peak is inherited from the process that forked this one.
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def _synthetic(settings: Settings) -> Iterator[Event]:
    wire, names = Wire(settings), Names(settings.topic_prefix)
    with Reader(settings) as reader:
        logs = [names.log(topic.replace("/", ".")) for topic in ("orders/create", "orders/updated")]
        for batch in reader.scan(reader.bounds(logs)):
            for record in batch:
                if ("hooktape-source", b"reconciler") in record.headers:
                    yield wire.decode(record.value)
