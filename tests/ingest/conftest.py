"""An ingest that runs in a thread of its own, and what tests post to it and read back from the tape."""

import asyncio
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from hooktape.ingest.server import running
from hooktape.schemas.event import Event
from hooktape.schemas.signature import sign
from hooktape.settings import Secret, Settings
from hooktape.tape import topics
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader, Record
from hooktape.tape.wire import Wire

SECRET, OLD_SECRET = "test_secret_key", "old_test_secret_key"
SHOP = "a-shop.myshopify.com"
LIMIT = 256 * 1024  # body limit of the tests' ingest: small, so that its edge is cheap to test


def headers(body: bytes, **changes: str | None) -> dict[str, str]:
    """The headers of a genuine delivery of `body`; a keyword changes one (`topic="…"`), None leaves it out."""
    values = {
        "hmac-sha256": sign(body, SECRET), "topic": "orders/create", "shop-domain": SHOP, "webhook-id": str(uuid.uuid4()),
        "api-version": "2026-04", "triggered-at": "2026-11-20T15:00:00.123456789Z", "event-id": str(uuid.uuid4()),
    }  # fmt: skip
    values |= {name.replace("_", "-"): value for name, value in changes.items()}  # type: ignore[dict-item]
    return {f"X-Shopify-{name}": value for name, value in values.items() if value is not None}


class Tape:
    """What lies on the logs of one prefix."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wire = Wire(settings)

    def records(self) -> list[Record]:
        with Reader(self._settings) as reader:
            names = [name for name in topics.look(self._settings) if Names(self._settings.topic_prefix).parse(name)]
            return [record for batch in reader.scan(reader.bounds(names)) for record in batch]

    def events(self) -> dict[str, tuple[Event, Record]]:
        """By webhook id."""
        return {(event := self._wire.decode(record.value)).webhook_id: (event, record) for record in self.records()}


class Ingest:
    """A running ingest: `client` posts to it, `tape` reads what it recorded."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        self.settings = settings
        self.address = ("127.0.0.1", int(url.rpartition(":")[2]))
        self.client = httpx.Client(base_url=url, timeout=10)
        self.tape = Tape(settings)

    def post(self, body: bytes, path: str = "/webhooks", **changes: str | None) -> httpx.Response:
        return self.client.post(path, content=body, headers=headers(body, **changes))

    def recorded(self, webhook_id: str) -> tuple[Event, Record]:
        return self.tape.events()[webhook_id]

    def metric(self, line: str) -> float:
        """The value of a sample, `name{label="…"}`; 0 when it isn't there."""
        for text in self.client.get("/metrics").text.splitlines():
            if text.startswith(line + " "):
                return float(text.rpartition(" ")[2])
        return 0.0


@contextmanager
def in_background(settings: Settings) -> Iterator[Ingest]:
    """`ingest.server.running` in a thread with a loop of its own. What it raises at its start is raised here."""
    ready: Future[str] = Future()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        async with running(settings) as url:
            ready.set_result(url)
            await stop.wait()

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        ingest = Ingest(ready.result(timeout=30), settings)
        yield ingest
        ingest.client.close()
    finally:
        if ready.done() and not ready.exception():
            loop, stop = loops[0]
            loop.call_soon_threadsafe(stop.set)
        thread.join()


def base(kafka: str, folder: Path) -> Settings:
    """Settings of an ingest with two secrets and a few topics, provisioned."""
    settings = Settings(
        kafka=kafka, topic_prefix=f"t{uuid.uuid4().hex[:10]}", partitions=2, home=folder, body_limit=LIMIT,
        shopify_secrets=(Secret(SECRET), Secret(OLD_SECRET)), topics=("orders/*", "products/update"),
    )  # fmt: skip
    topics.apply(settings)
    return settings


@pytest.fixture(scope="module")
def ingest(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    """One ingest for a module."""
    with in_background(base(kafka, tmp_path_factory.mktemp("ingest"))) as found:
        yield found


@pytest.fixture
def provisioned(kafka: str, tmp_path: Path) -> Settings:
    """Settings with topics of the test's own."""
    return base(kafka, tmp_path)


@contextmanager
def as_process(settings: Settings, *arguments: str, **changes: str) -> Iterator[tuple[subprocess.Popen[bytes], Ingest]]:
    """`hooktape ingest` as a process, on a port of its own; killed at the end if it still runs."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOOKTAPE_")} | {
        "HOOKTAPE_KAFKA": settings.kafka, "HOOKTAPE_TOPIC_PREFIX": settings.topic_prefix, "HOOKTAPE_HOME": str(settings.home),
        "HOOKTAPE_SHOPIFY_SECRETS": SECRET, "HOOKTAPE_TOPICS": ",".join(settings.topics), **changes,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "hooktape", "ingest", "--port", str(port), *arguments], env=environment)
    try:
        found = Ingest(f"http://127.0.0.1:{port}", settings)
        eventually(lambda: process.poll() is not None or _answers(found), "the process serves")
        yield process, found
        found.client.close()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _answers(ingest: Ingest) -> bool:
    try:
        return ingest.client.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def eventually(condition: Callable[[], bool], what: str, within: float = 30.0) -> None:
    """Waits until `condition` holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.02)
