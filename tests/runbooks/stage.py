"""The world around a runbook: the real services as processes, a shop that sends, handlers that can be broken and mended."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from hooktape.cli.demonstration.story import free_port
from hooktape.cli.send import headers
from hooktape.ledger.ledger import Ledger
from hooktape.local.processes import Service, stop_all
from hooktape.local.shop.faults import Faults
from hooktape.local.shop.server import LocalShop
from hooktape.replayer.figures import figures
from hooktape.settings import Secret, Settings
from hooktape.tape import groups, topics
from tests.runbooks.page import Act, Names, read, rewritten, without_figures

SECRET = "hush"
SHOP = "acme.myshopify.com"
# Bounds a failure; waits end by their condition.
PATIENCE = 60.0
WRITE = "RUNBOOKS_WRITE"
"""Set to write what commands print into the pages, instead of comparing."""
PAGES = Path(__file__).parents[2] / "docs" / "runbooks"


class Stage:
    """One runbook's world. `app` is the source of the handlers; they can look into `folder`, their own."""

    def __init__(self, settings: Settings, folder: Path, app: str, group: str, **env: str) -> None:
        self.settings, self.folder, self.group = settings, folder, group
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/webhooks"
        (folder / "shopapp.py").write_text(app)
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "hooktape").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hooktape "$@"\n')
        (self.bin / "hooktape").chmod(0o755)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("HOOKTAPE_")}
        self.env = ours | {
            "HOOKTAPE_KAFKA": settings.kafka, "HOOKTAPE_HOME": str(folder / "home"), "HOOKTAPE_TOPIC_PREFIX": settings.topic_prefix,
            "HOOKTAPE_TOPICS": ",".join(settings.topics), "HOOKTAPE_PARTITIONS": str(settings.partitions),
            "HOOKTAPE_SHOPIFY_SECRETS": SECRET, "HOOKTAPE_LOG_LEVEL": "error",
            "HOOKTAPE_RETRY_DELAYS": ",".join(f"{delay * 1000:.0f}ms" for delay in settings.retry_delays),
            "LOGNAME": "ana", "COLUMNS": "150", "PATH": f"{self.bin}{os.pathsep}{ours['PATH']}",
            "PYTHONPATH": os.pathsep.join([*filter(None, [ours.get("PYTHONPATH")]), str(folder)]),
        } | env  # fmt: skip
        self.services: dict[str, Service] = {}
        self.ledger = Ledger.open(settings.ledger_url)
        self.http = httpx.Client(timeout=10, trust_env=False)

    # ── services ────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, name: str, *words: str, **env: str) -> None:
        """Starts `hooktape …`; a worker is waited for until it's in its group."""
        self.services[name] = Service(name, words, self.env | env, self.folder / f"{name}.log")

    def ingest(self) -> None:
        self.start("ingest", "ingest", "--port", str(self.port))
        self.services["ingest"].wait_for(f"http://127.0.0.1:{self.port}/readyz")

    def work(self, app: str = "shopapp:app", group: str | None = None, **env: str) -> None:
        """Starts a worker and waits until it's in its group."""
        group = group or self.group
        self.start(f"worker of {group}", "consume", app, **env)
        self.until(lambda: groups.describe(self.settings, group).live, f"a worker of {group}")

    def stop(self, *names: str) -> None:
        stop_all([self.services.pop(name) for name in names])

    def close(self) -> None:
        stop_all([*self.services.values()])
        self.ledger.close()
        self.http.close()

    def until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            for service in self.services.values():
                service.check()
            assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
            time.sleep(0.05)

    def caught_up(self) -> None:
        """Waits until every group has committed all that is on the tape. The ledger knows then how each event ended, which it may not yet
        when a handler has written its line."""

        def level() -> bool:
            found = figures(self.settings, self.ledger, time.time())
            return not any(lag.events for group in found.groups for lag in group.lag.values())

        self.until(level, "the group to catch up")

    # ── the world ───────────────────────────────────────────────────────────────────────────────────────────────────
    def send(self, topic: str, body: Mapping[str, Any], *, shop: str = SHOP, triggered: str | None = None,
             webhook_id: str | None = None) -> int:  # fmt: skip
        """A webhook as Shopify sends it; the answer's status."""
        raw = json.dumps(body).encode()
        lines = headers(topic, shop, raw, SECRET, webhook_id)
        if triggered:
            lines["X-Shopify-Triggered-At"] = triggered
        return self.http.post(self.url, content=raw, headers=lines).status_code

    def order(self, number: int, topic: str = "orders/create", **fields: Any) -> int:
        """The webhook of an order; its number is all that tells it from others."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        shop, triggered = fields.pop("shop", SHOP), fields.pop("triggered", None)
        body = {"id": 5_000_000 + number, "name": f"#{number}", "order_number": number, "total_price": f"{number % 300}.00",
                "updated_at": triggered or now, "line_items": [{"id": number, "quantity": 1}], **fields}  # fmt: skip
        return self.send(topic, body, shop=shop, triggered=triggered)

    def handled(self, file: str = "handled") -> list[str]:
        """What the handlers wrote into their folder, a line each."""
        path = self.folder / file
        return path.read_text().splitlines() if path.exists() else []

    def dead(self, group: str | None = None) -> int:
        """Dead events of a group that nobody has redriven or discarded."""
        return sum(each.count for each in self.ledger.outcomes.error_groups(group or self.group))

    def states(self, group: str | None = None) -> dict[str, int]:
        """How many events of a group ended in which state: `succeeded`, `dead` …"""
        from hooktape.ledger.selection import Selection

        found: dict[str, int] = {}
        for entry in self.ledger.catalogue.find(Selection(), group or self.group, limit=10_000):
            found[str(entry.status)] = found.get(str(entry.status), 0) + 1
        return found

    # ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────
    def play(self, page: str, acts: Mapping[str, Callable[["Stage"], None]]) -> None:
        """Plays a page of docs/runbooks: its acts happen, its commands are typed, and what they print is what the page says."""
        path = PAGES / page
        names, typed, differences = Names(), [], []
        steps = read(path.read_text())
        assert {step.name for step in steps if isinstance(step, Act)} == set(acts), "the page's acts and the test's"
        for step in steps:
            if isinstance(step, Act):
                acts[step.name](self)
                continue
            if os.environ.get(WRITE):
                step.line = names.drafted(step.line)
            output, code = self._type(names.typed(step.line))
            wanted, real = (without_figures(step.output), without_figures(output)) if step.loose else (step.output, output)
            agrees = code == step.code and names.agree(wanted, real)
            typed.append((step, step.output if agrees else names.told(output), code))
            if not agrees:
                first = names.first_difference(wanted, real)
                differences.append(f"$ {step.line}\n" + "\n".join(output) + f"\n(exit status {code})\nFirst difference:\n{first}")
                if os.environ.get(WRITE):
                    assert names.agree(names.told(output), output)
                else:
                    break
        if os.environ.get(WRITE):
            path.write_text(rewritten(path.read_text(), typed))
        assert not differences, f"{page} says otherwise:\n" + "\n\n".join(differences)

    def _type(self, line: str) -> tuple[list[str], int]:
        done = subprocess.run(["bash", "-c", line], env=self.env, cwd=self.folder, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=PATIENCE, check=False)  # fmt: skip
        return self._told(done.stdout).splitlines(), done.returncode

    def _told(self, output: str) -> str:
        """Without what is this machine's alone."""
        import socket

        for ours, theirs in ((socket.gethostname(), "ops-1"), (self.settings.topic_prefix, "hooktape"), (str(self.folder), "."),
                             (f":{self.port}", ":8000"), (self.settings.kafka, "kafka:9092")):  # fmt: skip
            output = output.replace(ours, theirs)
        return output


@contextmanager
def stage(kafka: str, prefix: str, folder: Path, app: str, group: str, *, topics_: tuple[str, ...],
          retry_delays: tuple[float, ...] = (1.0, 3.0), **env: str) -> Iterator[Stage]:  # fmt: skip
    """A world with its topics, an ingestor and a worker; all of it ends with the block."""
    settings = Settings(kafka=kafka, topic_prefix=prefix, partitions=2, home=folder / "home", topics=topics_,
                        retry_delays=retry_delays, shopify_secrets=(Secret(SECRET),))  # fmt: skip
    topics.apply(settings, [group])
    world = Stage(settings, folder, app, group, **env)
    try:
        world.ingest()
        world.work()
        yield world
    finally:
        world.close()


class ShopThread:
    """A local shop with an Admin API on a loop of its own, for tests that aren't asynchronous."""

    def __init__(self, target: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.shop = self._run(self._open(target, options))

    async def _open(self, target: str, options: dict[str, Any]) -> LocalShop:
        return await LocalShop(SHOP, secrets=(SECRET,), target=target, **options).__aenter__()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def change(self, changes: int, faults: Faults | None = None) -> None:
        """So many changes, their webhooks sent, and all deliveries ended."""
        self.shop.faults = faults or Faults()
        self._run(self.shop.run(changes))
        self._run(self.shop.settle())

    def close(self) -> None:
        self._run(self.shop.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


