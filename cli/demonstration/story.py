"""The demo's plot: real services as processes of their own, a shop with faults, an outage, a bug, and what becomes of it all."""

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hooktape.cli.demonstration import warehouse as downstream
from hooktape.cli.demonstration.judge import Verdict, judge
from hooktape.cli.demonstration.stage import Stage
from hooktape.errors import HooktapeError, Incomplete, TapeUnavailable
from hooktape.ledger.ledger import Ledger
from hooktape.local.processes import Service, ServiceFailed, stop_all
from hooktape.local.shop.cost import PLUS
from hooktape.local.shop.faults import Faults
from hooktape.local.shop.server import LocalShop
from hooktape.schemas import topics as shopify
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import groups, topics
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader
from hooktape.tape.wire import Wire
from hooktape.times import iso

GROUP = "warehouse"
SHOP = "demo-shop.myshopify.com"
HANDLERS = "hooktape.cli.demonstration.handlers:app"
FAULTS = Faults(dropped=0.05, doubled=0.03, late=0.02, out_of_order=0.01, late_by=(4.0, 9.0))
# Shopify's hours as a demo's seconds, so that a retry, a grace period and a replay fit on one screen.
SPED_UP = {
    "HOOKTAPE_RETRY_DELAYS": "1s,3s",
    "HOOKTAPE_RECONCILE_LAG": "1s",
    "HOOKTAPE_RECONCILE_GRACE": "4s",
    "HOOKTAPE_RECONCILE_OVERLAP": "2m",
    "HOOKTAPE_PARTITIONS": "4",
}
# The outage downstream, as shares of the shop's changes: when it begins and when it ends.
OUTAGE = (0.25, 0.5)
# Waits end by a condition; this only bounds a failure. The whole demo takes well under half of it.
PATIENCE = 90.0


@dataclass(slots=True)
class Scene:
    """What the acts share."""

    stage: Stage
    settings: Settings
    env: dict[str, str]
    home: Path
    shop: LocalShop
    warehouse: downstream.Warehouse
    ledger: Ledger
    services: dict[str, Service]
    ingest_url: str
    changes: int
    rate: float

    def tape(self) -> list[Event]:
        """Every event on the tape, read from Kafka by a client of its own."""
        names, wire = Names(self.settings.topic_prefix), Wire(self.settings)
        logs = [names.log(row.kafka_name) for row in shopify.table().values()] + [names.other]
        with Reader(self.settings) as reader:
            return [wire.decode(record.value) for batch in reader.scan(reader.bounds(logs)) for record in batch]

    def hooktape(self, *words: str) -> Any:
        """Runs a command as an operator would, and returns the JSON that it prints."""
        self.stage.command(list(words))
        done = subprocess.run([sys.executable, "-m", "hooktape", *words, "--json"], env=self.env, capture_output=True, text=True,
                              timeout=PATIENCE)  # fmt: skip
        if done.returncode not in (0, 5):
            raise HooktapeError(f"`hooktape {' '.join(words)}` ended with status {done.returncode}:\n{done.stderr[-1500:]}")
        return json.loads(done.stdout)

    def check(self) -> None:
        for service in self.services.values():
            service.check()

    async def until(self, done: Callable[[], bool], what: str) -> None:
        """Waits for a condition. Raises Incomplete, with the end of the worker's log, when it doesn't come."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            self.check()
            if time.monotonic() > deadline:
                raise Incomplete(f"waited {PATIENCE:g} s for {what}. The worker's log ends with:\n{self.services['worker'].tail()}")
            await asyncio.sleep(0.1)


def environment(settings: Settings, home: Path, shop: LocalShop, secret: str, warehouse_url: str) -> dict[str, str]:
    """The services' environment: ours without any HOOKTAPE_* of the user, and the demo's settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOOKTAPE_")}
    return env | SPED_UP | {
        "HOOKTAPE_KAFKA": settings.kafka,
        "HOOKTAPE_HOME": str(home),
        "HOOKTAPE_TOPIC_PREFIX": settings.topic_prefix,
        "HOOKTAPE_TOPICS": ",".join(settings.topics),
        "HOOKTAPE_SHOPIFY_SECRETS": secret,
        "HOOKTAPE_SHOP_TOKENS": f"{SHOP}={shop.token}",
        "HOOKTAPE_ADMIN_URL": shop.admin_url,
        "DEMO_WAREHOUSE": warehouse_url,
    }  # fmt: skip


async def play(stage: Stage, settings: Settings, home: Path, changes: int, rate: float,
               linger: Callable[[Scene], Awaitable[None]] | None = None) -> Verdict:  # fmt: skip
    """All acts in their order; the verdict comes from the shop and the warehouse. `linger` is called before the curtain."""
    secret = secrets.token_hex(16)
    port = free_port()
    ingest_url = f"http://127.0.0.1:{port}"
    async with downstream.running() as warehouse, LocalShop(
        SHOP, seed=7, secrets=(secret,), target=f"{ingest_url}/webhooks", faults=FAULTS, plan=PLUS, retry_span=8.0
    ) as shop:
        env = environment(settings, home, shop, secret, warehouse.url)
        scene = Scene(stage, settings, env, home, shop, warehouse, Ledger.open(settings.ledger_url), {}, ingest_url, changes, rate)
        try:
            await asyncio.to_thread(_start, scene, port)
            await scene.until(lambda: _joined(settings), "the worker to join its group")
            # The tape begins here: what is older is no concern of the reconciler's.
            await asyncio.to_thread(scene.hooktape, "reconcile", "--once", "--shop", SHOP)
            await _changes(scene)
            await _handled(scene)
            await _bug_fixed(scene)
            await _reconciled(scene)
            verdict = judge(shop.truth, scene.tape(), warehouse.effects)
            stage.table(verdict)
            if linger:
                await linger(scene)
            return verdict
        finally:
            scene.ledger.close()
            await asyncio.to_thread(stop_all, list(scene.services.values()))


def _start(scene: Scene, port: int) -> None:
    topics.apply(scene.settings, [GROUP])
    logs = scene.home / "logs"
    ingest = Service("ingest", ["ingest", "--port", str(port)], scene.env, logs / "ingest.log")
    scene.services["ingest"] = ingest
    scene.services["worker"] = _worker(scene)
    ingest.wait_for(f"{scene.ingest_url}/readyz")


def _joined(settings: Settings) -> bool:
    try:
        return groups.describe(settings, GROUP).live
    except TapeUnavailable:
        return False  # the group's coordinator is still being set up


def _worker(scene: Scene, fixed: bool = False) -> Service:
    env = scene.env | ({"DEMO_FIXED": "1"} if fixed else {})
    return Service("worker", ["consume", HANDLERS], env, scene.home / "logs" / "worker.log")


async def _changes(scene: Scene) -> None:
    scene.stage.scene(f"A shop makes {scene.changes:,} changes; Shopify's webhooks are dropped, doubled, late, out of order")
    warehouse = scene.warehouse
    with scene.stage.bar("changes", scene.changes) as done:

        def progress(made: int, of: int) -> None:
            done(made)
            warehouse.down = frozenset({"order"}) if OUTAGE[0] * of <= made < OUTAGE[1] * of else frozenset()

        await scene.shop.run(scene.changes, scene.rate, progress)
    # A first look while late webhooks are still on their way: what is merely late must not be called missing.
    first = await asyncio.to_thread(scene.hooktape, "reconcile", "--once", "--shop", SHOP)
    scene.stage.fact("suspected", f"{_sum(first, 'pending'):,} changes not on the tape yet; none is recorded before its grace ends", None)
    await scene.shop.settle()
    counts = scene.shop.truth.counts()
    on_tape = {event.webhook_id for event in await asyncio.to_thread(scene.tape)}
    scene.stage.fact("recorded", f"{len(on_tape):,} webhooks on the tape, each before its 200; {counts['accepted']:,} copies were accepted",
                     scene.shop.truth.accepted_ids() <= on_tape)  # fmt: skip
    scene.stage.fact("not delivered", f"{counts['dropped']:,} webhooks that Shopify dropped; so far nobody knows", None)


async def _handled(scene: Scene) -> None:
    events = list({event.webhook_id: event for event in await asyncio.to_thread(scene.tape)}.values())
    knives = {event.webhook_id for event in events if event.topic.startswith("products/") and event.json()["product_type"] == "Knife"}

    def open_events() -> set[str]:
        applied: set[str] = set()
        newest: dict[str, int] = {}
        for effect in scene.warehouse.effects:
            applied.add(effect.webhook_id)
            newest[effect.resource] = max(newest.get(effect.resource, 0), effect.version or 0)
        return {event.webhook_id for event in events
                if event.webhook_id not in applied and newest.get(event.resource or "", -1) < (event.version_us or 0)}  # fmt: skip

    total = len(events) - len(knives)
    with scene.stage.bar("handled", total) as done:

        def handled() -> bool:
            left = open_events() - knives
            done(total - len(left))
            return not left

        await scene.until(handled, "every webhook to be handled")
    twice = len(scene.warehouse.effects) - len({effect.webhook_id for effect in scene.warehouse.effects})
    scene.stage.fact("handled once each", f"{total:,} webhooks; {twice} of them twice", twice == 0)
    refused, recovered = scene.warehouse.refused, scene.warehouse.recovered
    scene.stage.fact("retried and recovered", f"{recovered:,} orders that the warehouse refused during its outage, "
                     f"after {sum(refused.values()):,} refusals")  # fmt: skip
    dead = open_events()
    await scene.until(lambda: sum(g.count for g in scene.ledger.outcomes.error_groups(GROUP)) >= len(dead), "the failing events to be dead")
    for group in scene.ledger.outcomes.error_groups(GROUP):
        scene.stage.fact("dead letters", f"{group.count:,} products: {group.error_type}: {group.message} in the handler", None)


async def _bug_fixed(scene: Scene) -> None:
    scene.stage.scene("The bug is fixed and deployed; the operator replays what it hit")
    await asyncio.to_thread(scene.services["worker"].stop)
    if (code := scene.services["worker"].code) != 0:
        raise ServiceFailed(f"the worker ended with status {code} when asked to stop:\n{scene.services['worker'].tail()}")
    scene.services["worker"] = _worker(scene, fixed=True)
    since = iso(min(event.received_us for event in await asyncio.to_thread(scene.tape)))
    plan = await asyncio.to_thread(scene.hooktape, "replay", "plan", "--group", GROUP, "--topic", "products/*", "--since", since,
                                   "--status", "dead")  # fmt: skip
    scene.stage.fact("planned", ", ".join(f"{count:,} {decision}" for decision, count in plan["decisions"].items() if count))
    ran = await asyncio.to_thread(scene.hooktape, "replay", "run", plan["id"], "--reason", "shelf for knives deployed", "--yes")
    account = ran["account"]
    parts = {"succeeded": account["succeeded"], "failed again": account["failed_again"], "in flight": account["in_flight"],
             "not handed over": account["not_sent"], **account["skipped"], **account["not_run"]}  # fmt: skip
    told = ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in parts.items() if count)
    scene.stage.fact("replayed", f"{told} = {plan['selected']:,} planned", account["adds_up"] and not account["failed_again"])


async def _reconciled(scene: Scene) -> None:
    scene.stage.scene("The reconciler compares the shop with the tape")
    # A webhook may be on the tape although the shop had stopped waiting for the answer.
    arrived = {event.webhook_id for event in await asyncio.to_thread(scene.tape)}
    missing, owed = scene.shop.truth.missing(arrived), scene.shop.truth.owed(arrived)
    found: list[dict[str, Any]] = []

    async def settled() -> bool:
        report = await asyncio.to_thread(scene.hooktape, "reconcile", "--once", "--shop", SHOP)
        found.append(report)
        return not _sum(report, "pending")

    deadline = time.monotonic() + PATIENCE
    while not await settled():
        scene.check()
        if time.monotonic() > deadline:
            raise Incomplete(f"the reconciler still has something pending after {PATIENCE:g} s")
        await asyncio.sleep(1)
    late = sum(_sum(report, "late") for report in found)
    recorded = {event.webhook_id: event.resource for event in await asyncio.to_thread(scene.tape) if event.source == "reconciler"}
    synthetic = set(recorded.values())
    dropped = scene.shop.truth.counts()["dropped"]
    scene.stage.fact("late, not missing", f"{late:,} changes whose webhook came within the grace period")
    scene.stage.fact("reconciled", f"{len(recorded):,} newest states and creations, exactly those that had been dropped",
                     owed <= synthetic <= owed | scene.shop.truth.unseen().keys())  # fmt: skip
    scene.stage.fact("", f"({dropped - len(owed):,} of the {dropped:,} dropped changes were followed by one that arrived)", None)
    again = await asyncio.to_thread(scene.hooktape, "reconcile", "--once", "--shop", SHOP)
    scene.stage.fact("run again", f"{_sum(again, 'recorded')} recorded", _sum(again, "recorded") == 0)
    wanted = {(name, change.version) for name, change in missing.items()}
    await scene.until(lambda: wanted <= {(effect.resource, effect.version) for effect in scene.warehouse.effects},
                      "the reconciled events to be handled")  # fmt: skip


def _sum(report: dict[str, Any], field: str) -> int:
    return sum(int(row["tally"][field]) for row in report["reports"])


def free_port() -> int:
    """A port on the loopback address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
