"""What a replay costs: `python benchmarks/replay.py [--events 5000000] [--selected 1000000] [--seconds 20]`.

First: select a time range and republish it, from the plan to Kafka's last acknowledgement, without a worker and without limits, beside a
bare loop that consumes as many records of the same tape and produces them to another topic. Each in a process of its own, so that its
memory can be told. Signatures are verified, as they'd be in earnest. The group is new, as that of a new integration: of an older one's
events each is decided by itself, which makes the plan slower.

Then: 500 live webhooks a second from POST to handler, without a replay and while one runs at its default limits.
"""

import asyncio
import multiprocessing
import os
import resource
import sys
import time
import uuid
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import uvloop
from common import SIZE, TOPIC, apart, broker, folder, log_topic, machine, parser, put, sqlite, tape, wanted
from confluent_kafka import TopicPartition
from latency import SECRET, WARM_UP, send, serve_ingest
from results import record

from hooktape.consumers import serve
from hooktape.consumers.app import App
from hooktape.consumers.running import running
from hooktape.ledger.jobs import Limits
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer import control, planning, runner
from hooktape.replayer.catalogue import Cataloguer
from hooktape.schemas.event import Event
from hooktape.schemas.signature import secret_id, sign
from hooktape.settings import Secret, Settings
from hooktape.tape import clients, topics
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader

GROUP = "bench"
RATE = 500
# Events lie this far apart in time, in microseconds: a thousand a second.
APART = 1000


class Spent(NamedTuple):
    """Seconds on the wall and on the processor, events, and the most memory in MiB."""

    seconds: float
    cpu: float
    events: int
    peak: float
    note: str = ""


def peak() -> float:
    """This process's largest resident size so far, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1024 if sys.platform != "darwin" else most / 1024 / 1024


def fill(settings: Settings, events: int, start: int) -> None:
    """A tape as ingest would have recorded it: signed bodies, resources in turn, one event each `APART` microseconds."""
    secret, filler = secret_id(SECRET), os.urandom(SIZE // 2) + b"x" * (SIZE - SIZE // 2 - 8)

    def event(number: int) -> Event:
        body, at, resource_ = number.to_bytes(8) + filler, start + number * APART, f"order/{number // 3}"
        return Event(webhook_id=f"{number:032x}", shop=f"shop-{number % 50}.myshopify.com", topic=TOPIC, received_us=at, triggered_us=at,
                     payload=body, resource=resource_, resource_root=resource_, version_us=at, hmac=sign(body, SECRET),
                     secret_id=secret, event_id="e" * 36, api_version="2026-04", headers={})  # fmt: skip

    put(settings, map(event, range(events)))


def bare(settings: Settings, events: int) -> Spent:
    """Consume and produce, nothing else: what the client and the broker can do."""
    topic, target = log_topic(settings), Names(settings.topic_prefix).replay(GROUP)
    with Reader(settings) as reader:
        spans = reader.bounds([topic])
    consumer = clients.consumer(settings, "bench-bare", **{"queued.min.messages": 20_000})
    producer = clients.producer(settings, **{"linger.ms": 10, "batch.num.messages": 2000, "delivery.timeout.ms": 60_000})
    failed: list[object] = []
    start, cpu = time.perf_counter(), time.process_time()
    consumer.assign([TopicPartition(*partition, span.start) for partition, span in spans.items()])
    done = 0
    while done < events:
        first = consumer.poll(1.0)
        for message in [] if first is None else [first, *consumer.consume(min(999, events - done - 1), 0)]:
            while True:
                try:
                    producer.produce(target, message.value(), message.key(), headers=message.headers(),
                                     on_delivery=lambda error, _: failed.append(error) if error else None)  # fmt: skip
                    break
                except BufferError:
                    producer.poll(0.05)
            done += 1
        producer.poll(0)
    producer.flush(60)
    spent = Spent(time.perf_counter() - start, time.process_time() - cpu, done, peak())
    consumer.close()
    if failed:
        raise SystemExit(f"{len(failed)} records weren't acknowledged: this run is no measurement.")
    return spent


def replayed(settings: Settings, url: str, since: int, until: int) -> Spent:
    """Plan and run, to the last acknowledgement."""
    off = Limits(None, None, None, None)
    with Ledger.open(url) as ledger:
        start, cpu = time.perf_counter(), time.process_time()
        with Cataloguer(settings, ledger) as cataloguer:
            made = planning.plan(cataloguer, ledger, GROUP, Selection(since=since, until=until), who="bench", now=time.time(), limits=off)
        planned = time.perf_counter() - start
        control.start(ledger, made.job.id, who="bench", reason="how fast", now=time.time())
        job, account = runner.run(settings, ledger, made.job.id, patience=0.0)
        spent = Spent(time.perf_counter() - start, time.process_time() - cpu, account.in_flight, peak(), f"{planned:.1f} s of it the plan")
    if account.in_flight != made.selected:
        raise SystemExit(f"{account.in_flight} of {made.selected} events were handed over ({job.state}): this run is no measurement.")
    return spent


def catalogued(settings: Settings, url: str) -> float:
    """Seconds until the catalogue is at the tape's end."""
    start = time.perf_counter()
    with Ledger.open(url) as ledger, Cataloguer(settings, ledger) as cataloguer:
        cataloguer.catch_up()
    return time.perf_counter() - start


def throughput(events: int, selected: int) -> None:
    """The first part."""
    with folder() as home, broker(home) as bootstrap:
        settings = replace(tape(bootstrap, home), shopify_secrets=(Secret(SECRET),))
        topics.apply(settings, [GROUP])
        url, first = sqlite(home), time.time_ns() // 1000 - events * APART
        apart(fill, settings, events, first)
        seconds = apart(catalogued, settings, url)
        print(f"{events:,} events of {SIZE} bytes on the tape, catalogued at {events / seconds:,.0f}/s; {machine()}")
        since = first + (events - selected) // 2 * APART
        loop = apart(bare, settings, selected)
        ours = apart(replayed, settings, url, since, since + selected * APART)
    for name, spent in (("bare loop", loop), ("replay", ours)):
        print(f"{name:<10} {spent.events:,} events in {spent.seconds:.1f} s: {spent.events / spent.seconds:,.0f}/s, "
              f"{spent.cpu / spent.events * 1e6:.1f} µs of processor each, at most {spent.peak:.0f} MiB {spent.note}")  # fmt: skip
    ratio = (ours.events / ours.seconds) / (loop.events / loop.seconds)
    print(wanted("rate beside the bare loop", ratio, 0.5, least=True))
    print(wanted("memory, MiB", ours.peak, 200, least=False))
    case = f"{selected} of {events}"
    figures = [("bare loop", "kafka", loop.events / loop.seconds, "events/s"),
               ("plan and run", "hooktape", ours.events / ours.seconds, "events/s"), ("memory", "hooktape", ours.peak, "MiB")]  # fmt: skip
    record("replay", [{"bench": "replay", "case": f"{case}, {what}", "system": system, "value": round(value), "unit": unit}
                      for what, system, value, unit in figures])  # fmt: skip


def beside(settings: Settings, until: int, stop: "multiprocessing.synchronize.Event") -> None:
    """Replays what lies on the tape, again and again, at the default limits."""
    with Ledger.open(settings.ledger_url) as ledger:
        while not stop.is_set():
            with Cataloguer(settings, ledger) as cataloguer:
                made = planning.plan(cataloguer, ledger, "latency", Selection(since=0, until=until), who="bench", now=time.time(),
                                     forced=True)  # fmt: skip
            control.start(ledger, made.job.id, who="bench", reason="beside live traffic", now=time.time())
            _, account = runner.run(settings, ledger, made.job.id, stop=stop)  # type: ignore[arg-type]
            print(f"  {account.ended:,} of {account.planned:,} replayed beside it")


async def measure(settings: Settings, url: str, seconds: float, *, replaying: bool) -> list[float]:
    """Milliseconds from arrival to handler of the live events, sorted."""
    app, waits, started, done, replayed_one = App("latency"), list[float](), time.time(), asyncio.Event(), asyncio.Event()
    total, spawn = int(RATE * (seconds + WARM_UP)), multiprocessing.get_context("spawn")
    stop = spawn.Event()

    @app.on(TOPIC)
    async def handle(event: Event) -> None:
        if event.replay is not None:
            replayed_one.set()
        if event.replay is not None or event.received_us < started * 1e6:
            return
        now = time.time()
        waits.append((now - event.received_us / 1e6) * 1000 if now - started > WARM_UP else -1.0)
        if len(waits) == total:
            done.set()

    async with running(app, settings) as worker:
        await worker.idle()
        other = spawn.Process(target=beside, args=(settings, int(time.time() * 1e6), stop))
        if replaying:
            other.start()
            async with asyncio.timeout(60):
                await replayed_one.wait()  # it plans first
        started = time.time()
        sender = spawn.Process(target=send, args=(url, RATE, seconds + WARM_UP))
        sender.start()
        async with asyncio.timeout(seconds + WARM_UP + 30):
            await done.wait()
        stop.set()
        sender.join()
        if replaying:
            other.join()
    return sorted(wait for wait in waits if wait >= 0)


def latency(seconds: float) -> None:
    """The second part."""
    spawn = multiprocessing.get_context("spawn")
    with folder() as home, broker(home) as bootstrap, ExitStack() as ends:
        settings = Settings(kafka=bootstrap, topic_prefix=f"b{uuid.uuid4().hex[:8]}", partitions=4, home=home, topics=(TOPIC,),
                            shopify_secrets=(Secret(SECRET),))  # fmt: skip
        topics.apply(settings, ["latency"])
        address: multiprocessing.Queue[str] = spawn.Queue()
        ingest = spawn.Process(target=serve_ingest, args=(settings, address))
        ingest.start()
        ends.callback(ingest.terminate)
        serve.tune()
        url, found = address.get(timeout=30), []
        for replaying in (False, True):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                waits = loop.run(measure(settings, url, seconds, replaying=replaying))
            found.append(waits[int(len(waits) * 0.99)])
            print(f"{RATE} webhooks/s, {'beside a replay' if replaying else 'alone'}: p50 {waits[len(waits) // 2]:.1f} ms, "
                  f"p99 {found[-1]:.1f} ms, {len(waits):,} counted")  # fmt: skip
    print(wanted("p99 beside a replay, as a multiple", found[1] / found[0], 1.25, least=False))
    record("replay-live", [{"bench": "replay-live", "case": f"{RATE}/s, p99, {name}", "system": "hooktape", "value": round(value, 1),
                            "unit": "ms"} for name, value in zip(("alone", "beside a replay"), found, strict=True)])  # fmt: skip


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--events", type=int, default=5_000_000)
    made.add_argument("--selected", type=int, default=1_000_000)
    made.add_argument("--seconds", type=float, default=20.0)
    made.add_argument("--only", choices=["throughput", "latency"])
    options = made.parse_args()
    if options.no_record:
        globals()["record"] = lambda *_: None
    if options.only != "latency":
        throughput(options.events, options.selected)
    if options.only != "throughput":
        latency(options.seconds)
