"""What the benchmarks share: a stack, a tape filled with events, a worker that runs until it has handled them, and the words
around a figure. Only what any user of Hooktape can call is used, so that a figure is what a user would see."""

import argparse
import asyncio
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import uvloop
from confluent_kafka import Producer

from hooktape import metrics
from hooktape.consumers import serve
from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import Running, running
from hooktape.ledger.database import Transaction
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import clients, headers, topics
from hooktape.tape.names import Names
from hooktape.tape.wire import Wire

T = TypeVar("T")
TOPIC = "orders/create"
SIZE = 1024
# Far above any run's length: a benchmark that hangs must end some day, and say what it was waiting for.
WITHIN = 900.0


class Span(NamedTuple):
    """Seconds on the wall and on the processor, from the first event's handler to the last event in the ledger."""

    seconds: float
    cpu: float


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one run, gone afterwards (a broker that is going down may still write into it: that isn't an error)."""
    with tempfile.TemporaryDirectory(prefix="hooktape-bench-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)  # PostgreSQL runs as another user where this runs as root, and must get in
        yield Path(name)


@contextmanager
def broker(home: Path) -> Iterator[str]:
    """Bootstrap servers: HOOKTAPE_KAFKA's, or those of a Kafka that lives as long as the block."""
    from hooktape.local import kafka

    if named := os.environ.get("HOOKTAPE_KAFKA", ""):
        yield named
        return
    started = kafka.start(home / "kafka", lifetime="parent", progress=lambda text: print(text, file=sys.stderr))
    try:
        yield started.bootstrap
    finally:
        started.stop()


@contextmanager
def postgres(home: Path) -> Iterator[str]:
    """The address of a PostgreSQL that lives as long as the block."""
    from hooktape.local import postgres as local

    server = local.start(home / "postgres", lifetime="parent")
    try:
        yield server.url
    finally:
        server.stop()


def statement(sql: str, given: Mapping[str, Any]) -> Callable[[Transaction], int]:
    """The work of a transaction that is one statement."""
    return lambda t: t.run(sql, given)


def sqlite(home: Path) -> str:
    """The address of a new ledger."""
    return f"sqlite:///{home}/ledger-{uuid.uuid4().hex}.db"


def tape(bootstrap: str, home: Path, partitions: int = 4) -> Settings:
    """Settings with a topic prefix of their own, its topics made."""
    settings = Settings(kafka=bootstrap, topic_prefix=f"b{uuid.uuid4().hex[:8]}", partitions=partitions, home=home, topics=(TOPIC,))
    topics.apply(settings)
    return settings


def log_topic(settings: Settings) -> str:
    """The Kafka topic that `fill` writes to."""
    return Names(settings.topic_prefix).log("orders.create")


def fill(settings: Settings, events: int, keys: int, size: int = SIZE) -> None:
    """Records the events: resource `order/0`, `order/1`, … in turn, bodies of `size` bytes of which half can't be compressed."""
    now = time.time_ns() // 1000

    def event(number: int) -> Event:
        key = number % keys
        resource = f"order/{key}"
        return Event(webhook_id=str(uuid.uuid4()), shop=f"shop-{key % 50}.myshopify.com", topic=TOPIC, received_us=now,
                     triggered_us=now, payload=os.urandom(size // 2) + b"x" * (size - size // 2), resource=resource,
                     resource_root=resource, hmac="h" * 44, secret_id="0" * 8, event_id="e" * 36, api_version="2026-04",
                     headers={})  # fmt: skip

    put(settings, map(event, range(events)))


def put(settings: Settings, events: Iterable[Event]) -> None:
    """Records these, as ingest would."""
    topic, wire = log_topic(settings), Wire(settings)
    # Nobody times this: linger and time-outs are for a slow disk, not for speed.
    producer: Producer = clients.producer(settings, **{
        "linger.ms": 20, "queue.buffering.max.messages": 200_000, "delivery.timeout.ms": 60_000, "request.timeout.ms": 30_000})  # fmt: skip
    for event in events:
        value, marks = wire.encode(event), headers.pack(headers.of_event(event))
        while True:
            try:
                producer.produce(topic, value, event.lane, headers=marks)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if left := producer.flush(60):
        raise SystemExit(f"{left} events weren't acknowledged within a minute: is the broker well?")


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """What `function` returns or raises in a new process: nobody inherits another's memory, threads or warm caches."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_told, function, *arguments).result()


def _told(function: Callable[..., T], *arguments: Any) -> T:
    try:
        return function(*arguments)
    except Exception as error:
        # Told as text: the client's errors can't be sent to another process, and would be hidden by that.
        raise SystemExit(f"{function.__name__} failed.\n{traceback.format_exc()}") from error


def run(work: Callable[[], Any]) -> Any:
    """What the coroutine function returns, on the loop and with the process settings of `hooktape consume`."""
    serve.tune()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


def finished(group: str) -> int:
    """How many events this process has recorded for the group as ended, by its `hooktape_processed_total`."""
    return sum(int(sample.value) for metric in metrics.PROCESSED.collect() for sample in metric.samples
               if sample.name.endswith("_total") and sample.labels["group"] == group)  # fmt: skip


def in_flight(group: str) -> int:
    """Events fetched and not finished, by `hooktape_in_flight_events`."""
    return sum(int(sample.value) for metric in metrics.IN_FLIGHT.collect() for sample in metric.samples if sample.labels["group"] == group)


async def until(worker: Running, done: Callable[[], bool], within: float = WITHIN) -> None:
    """Returns when `done()`; looks every 5 ms. Raises what ended the worker, or Incomplete that says where it stands."""
    end = time.monotonic() + within
    while not done():
        if worker.failed.done():
            worker.failed.result()
        if time.monotonic() > end:
            await worker.idle(within=0)
            raise SystemExit(f"the worker is idle, but what the benchmark waits for hasn't happened in {within:g} s.")
        await asyncio.sleep(0.005)


def drain(settings: Settings, url: str, events: int, options: Options | None = None) -> Span:
    """A worker with an empty handler, until it has recorded so many events. To be called in a process of its own."""
    app = App(f"drain-{uuid.uuid4().hex[:8]}")
    starts: list[tuple[float, float]] = []

    @app.on(TOPIC)
    async def nothing(event: Event) -> None:
        if not starts:
            starts.append((time.perf_counter(), time.process_time()))

    async def work() -> Span:
        async with running(app, settings, url, options) as worker:
            await until(worker, lambda: finished(app.group) >= events)
            span = Span(time.perf_counter() - starts[0][0], time.process_time() - starts[0][1])
            await worker.idle()
        if (got := finished(app.group)) != events:
            raise SystemExit(f"{got} events were recorded, {events} are on the tape: this run is no measurement.")
        return span

    result: Span = run(work)
    return result


def machine() -> str:
    """What the figures were taken on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def wanted(what: str, value: float, bound: float, *, least: bool) -> str:
    """One line: a figure, what is wanted of it, and whether it's there. `least`: it must be at least `bound`, else at most."""
    met = value >= bound if least else value <= bound
    return f"{what}: {value:.3g}, wanted {'≥' if least else '≤'} {bound:g}: {'met' if met else 'MISSED'}"


def parser(doc: str | None) -> argparse.ArgumentParser:
    """With what every benchmark takes."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--no-record", action="store_true", help="only print, leave results/latest.json alone")
    return made
