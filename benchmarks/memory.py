"""What a worker weighs that has many events in its hands: resident memory of its process, all of it.

    python benchmarks/memory.py [--events 100000] [--size 1024] [--kinds running,fetched,held]

running: so many handlers wait at once, each for an event of its own resource. fetched: 16 run and don't end, all others have been
fetched and wait in memory. held: of every hundred events of a resource the first asks to be tried again in an hour, and
the others wait behind it. One worker process for each kind, measured when all its events are there.
"""

import asyncio
import resource
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from common import SIZE, TOPIC, apart, broker, fill, folder, in_flight, machine, parser, run, sqlite, tape, until, wanted
from results import Result, record

from hooktape import Retry
from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import running
from hooktape.ledger.ledger import Ledger
from hooktape.schemas.event import Event
from hooktape.settings import Settings

KINDS = ("running", "fetched", "held")
LIMIT_MIB = 300
PER_RESOURCE = 100
HOUR = 3600.0
MIB = 1024.0 * 1024.0
# As many as a group of some size has.
PARTITIONS = 16


class Weight(NamedTuple):
    """MiB of resident memory: before the first event was there, with all of them, and at the most; and the handler's calls."""

    idle: float
    loaded: float
    peak: float
    calls: int


def resident() -> tuple[float, float]:
    """MiB now, and at the most since this process began. Only the peak where there's no /proc (macOS), for both."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: its peak is inherited from the process that forked this one.
        found = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(found["VmRSS"].split()[0]) / 1024, int(found["VmHWM"].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)
    return peak, peak


def weigh(kind: str, settings: Settings, url: str, events: int) -> Weight:
    """A worker with so many events of that kind, in a process of its own (the caller's job: `common.apart`)."""
    app = App(f"memory-{uuid.uuid4().hex[:8]}")
    calls = 0
    end = asyncio.Event()

    async def waiting(event: Event) -> None:
        nonlocal calls
        calls += 1
        await end.wait()

    async def failing(event: Event) -> None:
        nonlocal calls
        calls += 1
        raise Retry(after=HOUR)

    app.on(TOPIC, concurrency=events if kind == "running" else 16, timeout=HOUR)(failing if kind == "held" else waiting)
    options = Options() if kind == "held" else Options(buffer=2 * events, in_flight=max(events, 1000), stop_within=2.0)

    if kind == "held":
        # Every first event of a resource fails: the flood breaker would hold the topic instead, unless an operator says otherwise.
        with Ledger.open(url) as ledger:
            ledger.breakers.set_override(app.group, TOPIC, "closed", None, who="benchmark", reason="to be held one by one", now=time.time())

    async def work() -> Weight:
        before, _ = resident()
        async with running(app, settings, url, options) as worker:
            if kind == "held":
                await until(worker, lambda: calls > 0)
                await worker.idle(within=600, retries=False)
            else:
                await until(worker, lambda: (calls if kind == "running" else in_flight(app.group)) >= events)
            now, peak = resident()
            end.set()
        return Weight(before, now, peak, calls)

    weight: Weight = run(work)
    return weight


def main() -> None:
    """Weighs each kind, prints it and the limit."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=100_000)
    options.add_argument("--size", type=int, default=SIZE, help="bytes of body")
    options.add_argument("--kinds", default=",".join(KINDS))
    chosen = options.parse_args()
    results: list[Result] = []
    print(f"{chosen.events:,} events of {chosen.size} bytes, resident memory of the worker's process; {machine()}")
    with folder() as home, broker(home) as bootstrap:
        for kind in chosen.kinds.split(","):
            settings = tape(bootstrap, home, PARTITIONS)
            fill(settings, chosen.events, chosen.events // (PER_RESOURCE if kind == "held" else 1), chosen.size)
            weight = apart(weigh, kind, settings, sqlite(home), chosen.events)
            each = (weight.loaded - weight.idle) * MIB / chosen.events
            print(f"{kind:8} {weight.loaded:6.0f} MiB, at the most {weight.peak:.0f}; {weight.idle:.0f} before the first event, "
                  f"{each:,.0f} bytes for each; the handler was called {weight.calls:,} times")  # fmt: skip
            print(wanted(f"{kind}, MiB at the most", weight.peak, LIMIT_MIB, least=False), flush=True)
            results.append(Result(bench="memory", case=f"{chosen.events} events of {chosen.size} bytes, {kind}", system="hooktape",
                                  value=round(weight.peak), unit="MiB"))  # fmt: skip
    if not chosen.no_record:
        record("memory", results)


if __name__ == "__main__":
    main()
