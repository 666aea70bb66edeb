"""How many shops one process keeps up with: passes over shops in which nothing has happened, whose answers take as long as Shopify's.

Each question's answer was computed once, by the local shop, and is given again after `latency`: what is measured is the reconciler, the
ledger and the tape, and not the shops. Kafka and ledger are real.
"""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path

import httpx
from common import sqlite, tape

from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.admin import Admin, Request
from hooktape.local.shop.model import API_VERSION, Shop
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Secret, Settings
from hooktape.tape import topics

DOMAIN = "canned.myshopify.com"


@dataclass(frozen=True)
class Kept:
    """What one process did: `rate` in shops a second, `cpu` in milliseconds a shop."""

    at_once: int
    families: int
    questions: float
    rate: float
    cpu: float


class Canned(httpx.AsyncBaseTransport):
    """Answers for any shop, after `latency` seconds."""

    def __init__(self, latency: float) -> None:
        self._latency, self._admin = latency, Admin(Shop(DOMAIN, 1, time.time), "t")
        self._answers: dict[str, str] = {}
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(await request.aread())
        if asked["query"] not in self._answers:
            self._answers[asked["query"]] = json.dumps(self._admin.execute(Request(asked["query"], asked["variables"])))
        self.asked += 1
        await asyncio.sleep(self._latency)
        return httpx.Response(200, text=self._answers[asked["query"]].replace(DOMAIN, request.url.host),
                              headers={"X-Shopify-API-Version": API_VERSION, "Date": formatdate(time.time(), usegmt=True)})  # fmt: skip


def keep(bootstrap: str, home: Path, shops: int, at_once: int, latency: float) -> Kept:
    """The second of two rounds over the shops: the first one asks the tape where each begins."""
    settings = replace(tape(bootstrap, home), topics=Settings().topics, reconcile_lag=0.0, reconcile_at_once=at_once,
                       shop_tokens={f"shop-{number}.myshopify.com": Secret("t") for number in range(shops)})  # fmt: skip
    topics.apply(settings)
    with Ledger.open(sqlite(home)) as ledger:
        return asyncio.run(_round(settings, ledger, latency))


async def _round(settings: Settings, ledger: Ledger, latency: float) -> Kept:
    canned, shops = Canned(latency), len(settings.shop_tokens)
    async with httpx.AsyncClient(transport=canned) as http, Reconciler(settings, ledger, http=http) as reconciler:
        await reconciler.round()
        asked, began, used = canned.asked, time.monotonic(), time.process_time()
        reports = await reconciler.round()
        took, spent = time.monotonic() - began, time.process_time() - used
    if open_ := [report for report in reports if not report.complete]:
        raise SystemExit(f"{len(open_)} windows stayed open ({open_[0].reason}): this run is no measurement.")
    return Kept(settings.reconcile_at_once, len(reports) // shops, (canned.asked - asked) / shops, shops / took, spent / shops * 1000)
