"""What one stuck resource in a thousand costs all the others: events per second of theirs, with it and without, in one run.

    python benchmarks/stuck.py [--events 40000] [--rounds 5]

An empty handler but for `order/0`: "hangs" doesn't return from its first event while the others are handled; "fails" asks for every
event to be tried again in an hour. "well" is the same tape with nothing stuck. Rounds take turns; a loss is the median of the rounds' own
ratios. Each run is checked: all events of all others exactly once.
"""

import asyncio
import statistics
import sys
import time
import uuid
from typing import NamedTuple

from common import TOPIC, apart, broker, fill, folder, machine, parser, run, sqlite, tape, until, wanted
from results import Result, record

from hooktape import Retry
from hooktape.consumers.app import App
from hooktape.consumers.running import running
from hooktape.schemas.event import Event
from hooktape.settings import Settings

KINDS = ("well", "hangs", "fails")
KEYS = 1_000
# 10,000 in each of four partitions: a worker stops fetching a partition some 12,500 offsets beyond its oldest unfinished event,
# until the handler's timeout ends that. What comes before is measured here.
EVENTS = 40_000
STUCK = "order/0"
HOUR = 3600.0


class Rate(NamedTuple):
    """Events per second of the resources that aren't stuck, and CPU microseconds for each."""

    per_second: float
    cpu: float


def measure(kind: str, settings: Settings, url: str, events: int) -> Rate:
    """One run, in a process of its own."""
    app = App(f"stuck-{uuid.uuid4().hex[:8]}")
    others = events - -(-events // KEYS)
    seen: list[str] = []
    marks: list[tuple[float, float]] = []
    end = asyncio.Event()

    def mark() -> None:
        marks.append((time.perf_counter(), time.process_time()))

    @app.on(TOPIC, timeout=HOUR)
    async def handle(event: Event) -> None:
        if event.resource == STUCK:
            if kind == "hangs":
                await end.wait()
            if kind == "fails":
                raise Retry(after=HOUR)
            return
        if not seen:
            mark()
        seen.append(event.webhook_id)
        if len(seen) == others:
            mark()

    async def work() -> None:
        async with running(app, settings, url) as worker:
            await until(worker, lambda: len(seen) >= others)
            end.set()
            await worker.idle(within=120, retries=False)

    run(work)
    if len(seen) != others or len(set(seen)) != others:
        raise SystemExit(f"{kind}: {len(seen)} runs of {len(set(seen))} events instead of {others}: this run is no measurement.")
    (start, cpu), (last, cpu_last) = marks
    return Rate(others / (last - start), (cpu_last - cpu) / others * 1e6)


def main() -> None:
    """Runs the rounds, prints rates and losses."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=EVENTS)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    rates: dict[str, list[Rate]] = {kind: [] for kind in KINDS}
    with folder() as home, broker(home) as bootstrap:
        settings = tape(bootstrap, home)
        fill(settings, chosen.events, KEYS)
        for number in range(chosen.rounds):
            for kind in KINDS:
                rates[kind].append(found := apart(measure, kind, settings, sqlite(home), chosen.events))
                print(f"round {number + 1}: {kind}: {found.per_second:,.0f} events/s of the others", file=sys.stderr, flush=True)
    print(f"{chosen.events:,} events of {KEYS:,} resources, one of them stuck, median of {chosen.rounds}; {machine()}")
    results: list[Result] = []
    for kind in KINDS:
        rate = statistics.median(found.per_second for found in rates[kind])
        cpu = statistics.median(found.cpu for found in rates[kind])
        loss = 100 * (1 - statistics.median(found.per_second / well.per_second
                                            for found, well in zip(rates[kind], rates["well"], strict=True)))  # fmt: skip
        print(f"{kind:6} {rate:>10,.0f} events/s of the others   {loss:5.1f} % less   {cpu:6.1f} µs of CPU an event")
        if kind != "well":
            print(wanted(f"{kind}, % lost", loss, 5, least=False))
            case = f"1 of {KEYS} resources {kind}"
            results.append(Result(bench="stuck", case=case, system="hooktape", value=round(loss, 1), unit="% lost"))
    if not chosen.no_record:
        record("stuck", results)


if __name__ == "__main__":
    main()
