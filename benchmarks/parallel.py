"""Confluent Parallel Consumer's own table, with it and Hooktape beside each other on one broker, from the same topics.

    python benchmarks/parallel.py [--keys 1,2,5,10,20,100,1000,10000] [--skip-peer]

10,000 events on one partition, each handled for 0 to 5 whole milliseconds (the same for everyone, from one seed), ordered by key, 16 at
once. Seconds count from the first handler's start to the last one's end. Hooktape's ledger is on (SQLite). Every run is checked:
each event exactly once, no two of a key at a time, each key in the order of the tape; a wrong run ends the benchmark.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from common import TOPIC, apart, broker, fill, finished, folder, log_topic, machine, parser, run, sqlite, tape, until, wanted
from parallel_consumer import Peer, parallel_consumer
from results import Result, record

from hooktape.consumers.app import App
from hooktape.consumers.running import running
from hooktape.schemas.event import Event
from hooktape.settings import Settings

EVENTS = 10_000
AT_ONCE = 16
KEYS = (1, 2, 5, 10, 20, 100, 1000, 10_000)
LONGEST_MS = 5
SEED = 20


class Step(NamedTuple):
    """A handler's start or end of the event at an offset, in the order in which they happened."""

    offset: int
    at: float
    start: bool


class Run(NamedTuple):
    """Seconds: first start to last end; the handlers' own, added up; the process's on the processor."""

    seconds: float
    handlers: float
    cpu: float


def judge(steps: Sequence[Step], keys: int, events: int) -> list[str]:
    """What is wrong with a run, at most one sentence of each kind; offset n belongs to key n modulo `keys`."""
    wrong: dict[str, str] = {}
    active: dict[int, int] = {}
    last: dict[int, int] = {}
    started: set[int] = set()
    most = 0
    for offset, _, start in steps:
        key = offset % keys
        if not start:
            active.pop(key, None)
            continue
        if key in active:
            wrong.setdefault("beside", f"offsets {active[key]} and {offset} of one key ran at a time")
        if offset in started:
            wrong.setdefault("twice", f"offset {offset} was handled twice")
        elif offset < last.get(key, -1):
            wrong.setdefault("order", f"offset {offset} ran after offset {last[key]} of its key")
        active[key], last[key] = offset, offset
        started.add(offset)
        most = max(most, len(active))
    if len(started) != events:
        wrong["count"] = f"{len(started)} of {events} events were handled"
    if most > AT_ONCE:
        wrong["many"] = f"{most} handlers ran at a time instead of {AT_ONCE}"
    return list(wrong.values())


def hooktape(settings: Settings, url: str, pauses: list[int], keys: int, kind: str) -> Run:
    """One run of one row, in a process of its own. `kind`: "sync" or "async"."""
    app = App(f"parallel-{uuid.uuid4().hex[:8]}")
    steps: list[Step] = []
    clock = time.perf_counter
    seconds = [pause / 1000 for pause in pauses]

    def offset_of(event: Event) -> int:
        if event.at is None:
            raise AssertionError("a worker's event has a place on the tape")
        return event.at.offset

    def sleeping(event: Event) -> None:
        offset = offset_of(event)
        steps.append(Step(offset, clock(), True))
        if seconds[offset]:
            time.sleep(seconds[offset])
        steps.append(Step(offset, clock(), False))

    async def awaiting(event: Event) -> None:
        offset = offset_of(event)
        steps.append(Step(offset, clock(), True))
        if seconds[offset]:
            await asyncio.sleep(seconds[offset])
        steps.append(Step(offset, clock(), False))

    app.on(TOPIC, concurrency=AT_ONCE)(sleeping if kind == "sync" else awaiting)

    async def work() -> float:
        async with running(app, settings, url) as worker:
            await until(worker, lambda: bool(steps))
            before = time.process_time()
            await until(worker, lambda: finished(app.group) >= len(pauses))
            cpu = time.process_time() - before
            await worker.idle()
            return cpu

    cpu: float = run(work)
    if wrong := judge(steps, keys, len(pauses)):
        raise SystemExit(f"Hooktape, {kind}, {keys} keys: {'; '.join(wrong)}")
    begun: dict[int, float] = {}
    handlers = 0.0
    for offset, at, start in steps:
        if start:
            begun[offset] = at
        else:
            handlers += at - begun[offset]
    return Run(steps[-1].at - steps[0].at, handlers, cpu)


def row(bootstrap: str, home: Path, peer: Peer | None, pauses: list[int], keys: int) -> list[Result]:
    """Everyone on one topic; prints the row's line."""
    settings = tape(bootstrap, home, partitions=1)
    fill(settings, len(pauses), keys)
    beside = peer.run(log_topic(settings), keys) if peer else None
    sync = apart(hooktape, settings, sqlite(home), pauses, keys, "sync")
    free = apart(hooktape, settings, sqlite(home), pauses, keys, "async")
    at_once = min(keys, AT_ONCE)
    over = {"sync": sync.seconds / (sync.handlers / at_once), "async": free.seconds / (free.handlers / at_once)}
    told = f"{beside[0]:9.2f} {beside[0] / (beside[1] / at_once):7.2f}" if beside else f"{'-':>9} {'-':>7}"
    print(f"{keys:6,} {told} {sync.seconds:9.2f} {over['sync']:7.2f} {free.seconds:9.2f} {free.handlers / at_once:8.2f} "
          f"{over['async']:7.2f} {sync.cpu / len(pauses) * 1e6:8.0f} {free.cpu / len(pauses) * 1e6:8.0f}", flush=True)  # fmt: skip
    figures = [("hooktape, sync", sync.seconds, over["sync"]), ("hooktape, async", free.seconds, over["async"])]
    if beside:
        figures.append(("Parallel Consumer", beside[0], beside[0] / (beside[1] / at_once)))
    case = f"{len(pauses)} events, {keys} keys"
    return [entry for system, taken, ratio in figures for entry in (
        Result(bench="parallel", case=case, system=system, value=round(taken, 2), unit="s"),
        Result(bench="parallel", case=f"{case}, of the floor", system=system, value=round(ratio, 3), unit="×"))]  # fmt: skip


def main() -> None:
    """Runs the rows, prints them, says what was wanted."""
    options = parser(__doc__)
    options.add_argument("--keys", default=",".join(str(keys) for keys in KEYS), help="rows, with commas between")
    options.add_argument("--skip-peer", action="store_true", help="Hooktape alone")
    chosen = options.parse_args()
    rows = [int(word) for word in chosen.keys.split(",")]
    chance = random.Random(SEED)
    pauses = [chance.randint(0, LONGEST_MS) for _ in range(EVENTS)]
    results: list[Result] = []
    with folder() as home, broker(home) as bootstrap:
        (home / "sleeps").write_text("".join(f"{pause}\n" for pause in pauses))
        print(f"{EVENTS:,} events, one partition, {sum(pauses) / EVENTS:.2f} ms each, {AT_ONCE} at once; {machine()}")
        print("seconds; ×: of the floor, the handlers' own seconds ÷ min(keys, 16); µs: of this process's CPU for each event")
        print(f"{'keys':>6} {'Parallel':>9} {'×':>7} {'sync':>9} {'×':>7} {'async':>9} {'floor':>8} {'×':>7} {'sync µs':>8} "
              f"{'async µs':>8}")  # fmt: skip
        with nullcontext() if chosen.skip_peer else parallel_consumer(bootstrap, home / "sleeps") as peer:
            if peer:
                # Java is compiled while it runs: a run that doesn't count comes first.
                warm = tape(bootstrap, home, partitions=1)
                fill(warm, EVENTS, 1000)
                peer.run(log_topic(warm), 1000)
            for keys in rows:
                results += row(bootstrap, home, peer, pauses, keys)
    found = {(entry["case"], entry["system"]): entry["value"] for entry in results}
    for keys in rows:
        case = f"{EVENTS} events, {keys} keys"
        if bound := found.get((case, "Parallel Consumer")):
            print(wanted(f"{keys:,} keys, sync, seconds beside Parallel Consumer's", found[case, "hooktape, sync"], bound, least=False))
        # The loop's timers round a sleep up to whole milliseconds: hence the handlers' own seconds, not the sleeps asked for.
        floor = found[f"{case}, of the floor", "hooktape, async"]
        print(wanted(f"{keys:,} keys, async, of the floor", floor, 1.05 if keys >= 20 else 1.15, least=False))
    if not chosen.no_record:
        record("parallel", results)


if __name__ == "__main__":
    main()
