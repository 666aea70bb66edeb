"""Ingest through the acknowledged write, beside what bounds it and what one would write first; all in one run.

    python benchmarks/ingest.py [--seconds 5] [--connections 64,256] [--sizes 4] [--systems hooktape,verify]

Needs `wrk` (Debian: `apt install wrk`). The broker is the local one, or HOOKTAPE_KAFKA's; the local one flushes every record.
Everything shares this machine, load generator included: the ratios count, not the figures.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results import Result, record

from hooktape.local import kafka
from hooktape.schemas.signature import sign
from hooktape.settings import Settings
from hooktape.tape import topics

HERE = Path(__file__).parent
SECRET = "a secret for benchmarks"
SYSTEMS = ("noop", "verify", "plain", "hooktape")
# A fresh webhook id for each request: nothing may be answered from a memory of duplicates.
SCRIPT = """
wrk.method = "POST"
local file = io.open("{body}", "rb"); wrk.body = file:read("*a"); file:close()
{headers}
local n = 0
function request()
  n = n + 1
  wrk.headers["X-Shopify-Webhook-Id"] = string.format("%08x-bdd9-4b37-8a5f-bf7d70bcd043", n)
  return wrk.format()
end
function done(summary, latency)
  io.write(string.format('{{"requests": %d, "us": %d, "p50": %f, "p99": %f, "refused": %d, "broken": %d}}', summary.requests,
    summary.duration, latency:percentile(50) / 1000, latency:percentile(99) / 1000, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


def script(folder: Path, kib: int) -> Path:
    """wrk's script that posts a signed order of so many KiB."""
    start = b'{"id":820982911946154508,"updated_at":"2026-11-20T10:00:00-05:00","note":"'
    body = start + b"x" * (kib * 1024 - len(start) - 2) + b'"}'
    headers = {
        "Content-Type": "application/json", "X-Shopify-Hmac-Sha256": sign(body, SECRET), "X-Shopify-Topic": "orders/create",
        "X-Shopify-Shop-Domain": "bench.myshopify.com", "X-Shopify-Event-Id": "98880550-7158-44d4-b7cd-2c97c8a091b5",
        "X-Shopify-Triggered-At": "2026-11-20T15:00:00.123456789Z", "X-Shopify-Api-Version": "2026-10",
        "User-Agent": "Shopify-Captain-Hook", "Accept": "*/*",
    }  # fmt: skip
    (folder / f"body-{kib}").write_bytes(body)
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    path = folder / f"post-{kib}.lua"
    path.write_text(SCRIPT.format(body=folder / f"body-{kib}", headers=lines))
    return path


@contextmanager
def serving(system: str, settings: Settings) -> Iterator[str]:
    """A process that serves `system`; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([*sys.path[1:], str(HERE)]), "HOOKTAPE_KAFKA": settings.kafka,
        "HOOKTAPE_TOPIC_PREFIX": settings.topic_prefix, "HOOKTAPE_SHOPIFY_SECRETS": SECRET, "HOOKTAPE_LOG_LEVEL": "error",
        "HOOKTAPE_TOPICS": ",".join(settings.topics),
    }  # fmt: skip
    if system == "hooktape":
        command = [sys.executable, "-m", "hooktape", "ingest", "--port", port]
    else:
        environment = {name: value for name, value in environment.items() if not name.startswith("HOOKTAPE_")} | {
            "HOOKTAPE_BENCH_SECRET": SECRET, "HOOKTAPE_BENCH_KAFKA": settings.kafka,
            "HOOKTAPE_BENCH_TOPIC": f"{settings.topic_prefix}.log.orders.create",
        }  # fmt: skip
        command = [sys.executable, "-m", "uvicorn", f"peers.ingest_apps:{system}", "--port", port, "--http", "httptools",
                   "--loop", "uvloop", "--no-access-log", "--log-level", "error"]  # fmt: skip
    process = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{system} doesn't serve; its output is above.") from None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/webhooks"
    finally:
        process.terminate()
        process.wait()


def measure(url: str, lua: Path, connections: int, seconds: int) -> dict[str, float]:
    """One wrk run; its `done` function's figures and the rate."""
    threads = 1 if connections == 1 else 2
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "6s", "-s", str(lua), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(output[output.rindex("{") :])
    return {**figures, "rate": figures["requests"] / figures["us"] * 1e6}


def main() -> None:
    """Runs every system with every size and number of connections; prints a table, adds to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", default="1,64,256")
    parser.add_argument("--sizes", default="1,4,64", help="KiB of body")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--no-record", action="store_true", help="only print")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk, a load generator: install the package `wrk` (Debian: apt install wrk).")
    sizes = [int(word) for word in options.sizes.split(",")]
    connections = [int(word) for word in options.connections.split(",")]
    results: list[Result] = []
    rates: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory(prefix="hooktape-bench-") as name:
        folder = Path(name)
        bootstrap, broker = os.environ.get("HOOKTAPE_KAFKA", ""), None
        if not bootstrap:
            broker = kafka.start(folder / "kafka", lifetime="parent", progress=lambda text: print(text, file=sys.stderr))
            bootstrap = broker.bootstrap
        settings = Settings(kafka=bootstrap, topic_prefix=f"bench{time.time_ns()}", topics=("orders/create",))
        topics.apply(settings)
        scripts = {kib: script(folder, kib) for kib in sizes}
        print(f"{'case':32} {'system':10} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'refused':>8} {'of verify':>9}")
        for system in options.systems.split(","):
            with serving(system, settings) as url:
                measure(url, scripts[sizes[0]], 16, 1)  # warm: connections, caches, the JVM
                for kib in sizes:
                    for number in connections:
                        case = f"{kib} KiB, {number} connection{'s' * (number > 1)}"
                        found = measure(url, scripts[kib], number, options.seconds)
                        rates[system, case] = found["rate"]
                        beside = rates.get(("verify", case))
                        ratio = f"{found['rate'] / beside:9.2f}" if beside else f"{'':9}"
                        print(f"{case:32} {system:10} {found['rate']:11,.0f} {found['p50']:8.2f} {found['p99']:8.2f} "
                              f"{found['refused'] + found['broken']:8.0f} {ratio}", flush=True)  # fmt: skip
                        for value, what, unit in ((found["rate"], "rate", "requests/s"), (found["p50"], "p50", "ms"),
                                                  (found["p99"], "p99", "ms")):  # fmt: skip
                            results.append({"bench": "ingest", "case": f"{case}, {what}", "system": system,
                                            "value": round(value, 3), "unit": unit})  # fmt: skip
        if broker is not None:
            broker.stop()
    if not options.no_record:
        record("ingest", results)


if __name__ == "__main__":
    main()
