"""From a webhook's arrival at ingest to its handler's start, at a steady rate: `python benchmarks/latency.py [RATE] [SECONDS]`.

Ingest, worker and sender are three processes; the worker's ledger is SQLite. The first two seconds warm up and don't count.
"""

import asyncio
import json
import multiprocessing
import sys
import time
import uuid
from contextlib import ExitStack

import uvloop
from common import broker, folder, machine, wanted
from results import record

from hooktape.consumers import serve
from hooktape.consumers.app import App
from hooktape.consumers.running import running
from hooktape.schemas.event import Event
from hooktape.schemas.signature import sign
from hooktape.settings import Secret, Settings
from hooktape.tape import topics

SECRET = "a secret for benchmarks"
CONNECTIONS = 16
WARM_UP = 2.0
SIZE = 4096


def serve_ingest(settings: Settings, address: "multiprocessing.Queue[str]") -> None:
    """The ingest process."""
    from hooktape.ingest.server import running as ingest

    async def main() -> None:
        async with ingest(settings) as url:
            address.put(url)
            await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def send(url: str, rate: int, seconds: float) -> None:
    """The sending process: requests leave by the clock, whatever the answers do."""
    host, port = url.removeprefix("http://").split(":")

    def request(number: int) -> bytes:
        body = json.dumps({"id": number % 5000, "updated_at": "2026-11-20T10:00:00Z", "note": "x" * (SIZE - 80)}).encode()
        return (f"POST /webhooks HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nX-Shopify-Topic: orders/create\r\n"
                f"X-Shopify-Shop-Domain: bench.myshopify.com\r\nX-Shopify-Webhook-Id: {uuid.uuid4()}\r\n"
                f"X-Shopify-Hmac-Sha256: {sign(body, SECRET)}\r\nX-Shopify-Triggered-At: 2026-11-20T15:00:00.123456789Z\r\n"
                "\r\n").encode() + body  # fmt: skip

    async def connection(index: int, start: float) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in range(index, int(rate * seconds), CONNECTIONS):
            message = request(number)
            await asyncio.sleep(max(start + number / rate - time.monotonic(), 0))
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head.split(b"\r\n")[0] + b" ", head
            length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            await reader.readexactly(length)
        writer.close()

    async def main() -> None:
        start = time.monotonic() + 0.2
        await asyncio.gather(*(connection(index, start) for index in range(CONNECTIONS)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def measure(settings: Settings, url: str, rate: int, seconds: float) -> list[float]:
    """Milliseconds from arrival to handler, sorted."""
    app, waits, started, done = App("latency"), list[float](), time.time(), asyncio.Event()
    total = int(rate * (seconds + WARM_UP))

    @app.on("orders/create")
    async def handle(event: Event) -> None:
        now = time.time()
        waits.append((now - event.received_us / 1e6) * 1000 if now - started > WARM_UP else -1.0)
        if len(waits) == total:
            done.set()

    async with running(app, settings) as worker:
        await worker.idle()
        started = time.time()
        sender = multiprocessing.get_context("spawn").Process(target=send, args=(url, rate, seconds + WARM_UP))
        sender.start()
        async with asyncio.timeout(seconds + WARM_UP + 30):
            await done.wait()
        sender.join()
    return sorted(wait for wait in waits if wait >= 0)


def main(rate: int, seconds: float) -> None:
    spawn = multiprocessing.get_context("spawn")
    with folder() as home, broker(home) as bootstrap, ExitStack() as ends:
        settings = Settings(kafka=bootstrap, topic_prefix=f"b{uuid.uuid4().hex[:8]}", partitions=4, home=home,
                            topics=("orders/create",), shopify_secrets=(Secret(SECRET),))  # fmt: skip
        topics.apply(settings, ["latency"])
        address: multiprocessing.Queue[str] = spawn.Queue()
        ingest = spawn.Process(target=serve_ingest, args=(settings, address))
        ingest.start()
        ends.callback(ingest.terminate)
        serve.tune()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            waits = runner.run(measure(settings, address.get(timeout=30), rate, seconds))
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    print(f"{rate} webhooks/s of {SIZE} bytes, {len(waits):,} counted; {machine()}")
    print(f"arrival to handler start: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {waits[-1]:.1f} ms")
    print(wanted("p50, ms", p50, 10, least=False))
    print(wanted("p99, ms", p99, 50, least=False))
    case = f"{rate}/s, {SIZE} bytes, arrival to handler start"
    record("latency", [{"bench": "latency", "case": f"{case}, {name}", "system": "hooktape", "value": round(value, 1), "unit": "ms"}
                       for name, value in (("p50", p50), ("p99", p99))])  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500, float(sys.argv[2]) if len(sys.argv) > 2 else 15.0)
