"""Events per second through a worker with an empty handler and the ledger on, beside a bare loop that fetches and decodes.

One process, one topic of four partitions, 1 KiB events of 5,000 resources, the same events for everyone in the same run:
`python benchmarks/consume.py [EVENTS]`. Rates count from the first event fetched to the last finished on disk.
"""

import asyncio
import os
import platform
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import uvloop
from confluent_kafka import Producer
from results import record

from hooktape.consumers import serve
from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import running
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import clients, headers, topics
from hooktape.tape.names import Names
from hooktape.tape.wire import Wire

TOPIC = "orders/create"
KEYS = 5_000
SIZE = 1024


@contextmanager
def stack(home: Path) -> Iterator[tuple[str, str]]:
    """Addresses of a Kafka (HOOKTAPE_KAFKA's, or one of its own) and of a PostgreSQL."""
    from hooktape.local import kafka, postgres

    with ExitStack() as ends:
        bootstrap = os.environ.get("HOOKTAPE_KAFKA", "")
        if not bootstrap:
            broker = kafka.start(home / "kafka", lifetime="parent", progress=lambda text: print(text, file=sys.stderr))
            ends.callback(broker.stop)
            bootstrap = broker.bootstrap
        server = postgres.start(home / "postgres", lifetime="parent")
        ends.callback(server.stop)
        yield bootstrap, server.url


def fill(settings: Settings, events: int) -> None:
    """Records the events."""
    topic = Names(settings.topic_prefix).log("orders.create")
    wire = Wire(settings)
    producer: Producer = clients.producer(settings, **{
        "linger.ms": 20, "queue.buffering.max.messages": 200_000, "delivery.timeout.ms": 60_000, "request.timeout.ms": 30_000})  # fmt: skip
    now = time.time_ns() // 1000
    for number in range(events):
        event = Event(webhook_id=str(uuid.uuid4()), shop=f"shop-{number % 50}.myshopify.com", topic=TOPIC,
                      received_us=now, triggered_us=now, payload=os.urandom(SIZE // 2) + b"x" * (SIZE // 2),
                      resource=f"order/{number % KEYS}",
                      resource_root=f"order/{number % KEYS}", hmac="h" * 44, secret_id="0" * 8, event_id="e" * 36,
                      api_version="2026-04", headers={})  # fmt: skip
        while True:
            try:
                producer.produce(topic, wire.encode(event), event.lane, headers=headers.pack(headers.of_event(event)))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def bare(settings: Settings, events: int, decode: bool) -> float:
    """Events per second of a loop that a user would write: fetch, decode, nothing else."""
    wire = Wire(settings)
    consumer = clients.consumer(settings, f"bare-{uuid.uuid4().hex}", **{
        "auto.offset.reset": "earliest", "group.protocol": "consumer", "queued.min.messages": 100_000})  # fmt: skip
    consumer.subscribe([Names(settings.topic_prefix).log("orders.create")])
    seen, start = 0, 0.0
    while seen < events:
        batch = consumer.consume(500, 1)
        start = start or (time.perf_counter() if batch else 0.0)
        seen += len(batch)
        if decode:
            for message in batch:
                wire.decode(message.value())  # type: ignore[arg-type]
    rate = events / (time.perf_counter() - start)
    consumer.close()
    return rate


def worker(settings: Settings, events: int, url: str) -> float:
    """Events per second of a Hooktape worker, until the last is finished in the ledger."""
    app = App(f"bench-{uuid.uuid4().hex[:8]}")
    times: list[float] = []

    @app.on(TOPIC)
    async def nothing(event: Event) -> None:
        if not times:
            times.append(time.perf_counter())

    finished = 0

    async def main() -> float:
        nonlocal finished
        async with running(app, settings, url, replace(Options(), quick_tries=0)) as running_worker:
            while finished < events:
                await asyncio.sleep(0.005)
                finished = running_worker.finished
            return time.perf_counter()

    serve.tune()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        end = runner.run(main())
    return events / (end - times[0])


def main(events: int) -> None:
    with tempfile.TemporaryDirectory(prefix="hooktape-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with stack(home) as (bootstrap, postgres):
            settings = Settings(kafka=bootstrap, topic_prefix=f"b{uuid.uuid4().hex[:8]}", partitions=4, home=home, topics=(TOPIC,))
            topics.apply(settings)
            fill(settings, events)
            systems: list[tuple[str, Callable[[], float]]] = [
                ("bare consume", lambda: bare(settings, events, decode=False)),
                ("bare consume + decode", lambda: bare(settings, events, decode=True)),
                ("hooktape", lambda: worker(settings, events, f"sqlite:///{home}/ledger-{uuid.uuid4().hex}.db")),
                ("hooktape (PostgreSQL ledger)", lambda: worker(settings, events, postgres)),
            ]
            rates = [(name, measure()) for name, measure in systems]
    print(f"{events:,} events of {SIZE} bytes, {KEYS:,} keys, one process; {platform.machine()}, {os.cpu_count()} cores, "
          f"Python {platform.python_version()}")  # fmt: skip
    reference = dict(rates)["bare consume + decode"]
    for name, rate in rates:
        print(f"{name:30} {rate:>10,.0f} events/s   {rate / reference:.2f} of bare + decode")
    case = f"{SIZE} bytes, empty handler"
    record("consume", [{"bench": "consume", "case": case, "system": name, "value": round(rate), "unit": "events/s"}
                       for name, rate in rates])  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
