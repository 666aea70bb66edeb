"""What belongs to one order runs one at a time and in order: over topics, workers, retries, deaths and copies."""

import asyncio
import json
import signal
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import Running, running
from hooktape.errors import Reject
from hooktape.ledger.ledger import Ledger
from hooktape.schemas.event import Event, Replay
from hooktape.schemas.resources import find
from hooktape.settings import Settings
from hooktape.tape import headers, topics

from .conftest import Tape, make_event, run, states, until
from .test_process import Process

TOPICS = ("orders/create", "orders/updated", "refunds/create")


@pytest.fixture
def settings(kafka: str, prefix: str, tmp_path: Path) -> Settings:
    """Three topics of four partitions, and one retry topic, so that a head and what's behind it meet in it."""
    made = Settings(kafka=kafka, topic_prefix=prefix, partitions=4, home=tmp_path, retry_delays=(0.3,), max_attempts=200, topics=TOPICS)
    topics.apply(made, ["g"])
    return made


def of_order(order: int, number: int, topic: str = "orders/updated") -> Event:
    """The event `number` of an order; a refund's belongs to it by its order's id."""
    made = make_event(number, order=order, topic=topic)
    if topic == "refunds/create":
        made.payload = b'{"id": %d, "order_id": %d, "n": %d}' % (1000 * order + number, order, number)
        found = find(topic, made.payload)
        made.resource, made.resource_root = found.name, found.root
    assert made.resource_root == f"order/{order}"
    return made


@dataclass(frozen=True)
class Ran:
    """One try of a handler."""

    root: str
    topic: str
    number: int
    attempt: int
    worker: int
    partition: int


class History:
    """What ran, by order; fails the test as soon as two events of one order run at once."""

    def __init__(self) -> None:
        self.ran: list[Ran] = []
        self.now: set[str] = set()
        self.overlaps: list[str] = []

    async def note(self, event: Event, worker: int = 0, seconds: float = 0.0) -> None:
        root = event.resource_root or ""
        if root in self.now:
            self.overlaps.append(str(event))
        self.now.add(root)
        await asyncio.sleep(seconds)
        self.now.discard(root)
        at = event.at
        assert at is not None
        self.ran.append(Ran(root, event.topic, event.json()["n"], event.attempt, worker, at.partition))

    def of(self, order: int) -> list[tuple[int, int]]:
        """(number, attempt) of an order's tries."""
        return [(r.number, r.attempt) for r in self.ran if r.root == f"order/{order}"]


def owned(worker: Running) -> list[int]:
    """The partition numbers that are the worker's."""
    return [tenure.partition for tenure in worker._tenures.tenures()]


async def divided(one: Running, two: Running) -> None:
    """Waits until the two workers have divided the group."""
    await until(lambda: owned(one) and owned(two) and sorted(owned(one) + owned(two)) == [0, 1, 2, 3])


def covers(worker: Running, numbers: set[int]) -> bool:
    """Whether the worker reads each number of six topics: three logs, that of others, the retry topic and the replay lane."""
    return Counter(home.partition for home in worker._intake.homes) == dict.fromkeys(numbers, 6)


def test_two_workers_run_an_orders_events_of_all_topics_one_at_a_time_and_each_topic_in_order(
        settings: Settings, tape: Tape, options: Options) -> None:  # fmt: skip
    history = History()

    def app(number: int) -> App:
        made = App("g")

        @made.on("orders/create", "refunds/create", concurrency=8)
        async def one(event: Event) -> None:
            await history.note(event, number, 0.002)

        @made.on("orders/updated", concurrency=8)
        async def two(event: Event) -> None:
            await history.note(event, number, 0.001)

        return made

    events = [of_order(order, n, TOPICS[n % 3]) for n in range(30) for order in range(16)]

    async def main() -> None:
        async with running(app(1), settings, options=options) as one, running(app(2), settings, options=options) as two:
            await divided(one, two)
            await asyncio.to_thread(tape.record, events)
            await asyncio.gather(one.idle(), two.idle())
            for worker in (one, two):
                mine = set(owned(worker))
                await until(partial(covers, worker, mine))

    asyncio.run(main())
    assert len(history.ran) == len(events)
    assert history.overlaps == []
    in_order: dict[tuple[str, str], list[int]] = defaultdict(list)
    workers: dict[int, set[int]] = defaultdict(set)
    for ran in history.ran:
        in_order[ran.root, ran.topic].append(ran.number)
        workers[ran.partition].add(ran.worker)
    assert all(numbers == sorted(numbers) for numbers in in_order.values())
    assert all(len(which) == 1 for which in workers.values())
    assert set.union(*workers.values()) == {1, 2}


def test_what_comes_after_a_failed_event_waits_behind_it_and_runs_in_order_and_other_orders_go_on(
        settings: Settings, tape: Tape, options: Options) -> None:  # fmt: skip
    app, history, seen = App("g"), History(), asyncio.Event()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        await history.note(event)
        # At least twice, and until the test has looked.
        if (event.resource_root, event.json()["n"]) == ("order/1", 0) and not (event.attempt > 2 and seen.is_set()):
            raise ConnectionError("down")

    held, others = [of_order(1, n) for n in range(4)], [of_order(2, n) for n in range(4)]

    async def act(worker: Running) -> None:
        await until(lambda: states(settings, "g", held) == {"waiting": 1, "behind": 3})
        await until(lambda: states(settings, "g", others) == {"succeeded": 4})
        with Ledger.open(settings.ledger_url) as ledger:
            [waiting] = [found for p in range(4) if (found := ledger.outcomes.waiting("g", p))]
        assert [w.key for w in waiting] == [e.key for e in held]
        assert len({w.lane for w in waiting}) == 1
        late = of_order(1, 4, "orders/create")
        held.append(late)
        await asyncio.to_thread(tape.record, [late])
        await until(lambda: states(settings, "g", held) == {"waiting": 1, "behind": 4})
        assert {n for n, _ in history.of(1)} == {0}
        seen.set()
        await worker.idle()

    tape.record([each for pair in zip(held, others, strict=True) for each in pair])
    run(app, settings, options, act)
    ran = history.of(1)
    tries = [attempt for n, attempt in ran if n == 0]
    assert tries == list(range(1, len(tries) + 1))
    assert ran == [(0, attempt) for attempt in tries] + [(n, 1) for n in (1, 2, 3, 4)]
    assert history.of(2) == [(n, 1) for n in range(4)]
    in_retry = {headers.read(r.headers)[headers.WEBHOOK_ID] for r in tape.read(tape.names.retry("g", 0.3))}
    assert in_retry == {e.webhook_id for e in held}
    with Ledger.open(settings.ledger_url) as ledger:
        assert [ledger.outcomes.waiting("g", p) for p in range(4)] == [[]] * 4


@pytest.mark.parametrize("why", ["rejected", "exhausted"])
def test_when_the_event_at_the_head_dies_those_behind_it_go_on_in_order(
        settings: Settings, tape: Tape, options: Options, why: str) -> None:  # fmt: skip
    app, history, seen = App("g"), History(), asyncio.Event()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        await history.note(event)
        if event.json()["n"] == 0:
            if why == "rejected" and seen.is_set():
                raise Reject("no such warehouse")
            raise ConnectionError("down")

    events = [of_order(1, n) for n in range(4)]

    async def act(worker: Running) -> None:
        if why == "rejected":
            await until(lambda: states(settings, "g", events) == {"waiting": 1, "behind": 3})
        seen.set()
        await worker.idle()

    tape.record(events)
    run(app, replace(settings, max_attempts=200 if why == "rejected" else 3), options, act)
    assert states(settings, "g", events) == {"dead": 1, "succeeded": 3}
    tries = sum(n == 0 for n, _ in history.of(1))
    assert history.of(1) == [(0, attempt) for attempt in range(1, tries + 1)] + [(1, 1), (2, 1), (3, 1)]
    assert tries == 3 or why == "rejected"
    assert len(tape.dead("g")) == 1


def test_with_order_none_nothing_waits_behind_a_failed_event(settings: Settings, tape: Tape, options: Options) -> None:
    app, history, rest = App("g"), History(), asyncio.Event()

    @app.on("orders/*", order="none")
    async def handle(event: Event) -> None:
        if event.json()["n"] == 0 and not rest.is_set():
            raise ConnectionError("down")
        history.ran.append(Ran(event.resource_root or "", event.topic, event.json()["n"], event.attempt, 0, 0))

    events = [of_order(1, n) for n in range(6)]

    async def act(worker: Running) -> None:
        await until(lambda: states(settings, "g", events) == {"waiting": 1, "succeeded": 5})
        rest.set()
        await worker.idle()

    tape.record(events)
    run(app, settings, options, act)
    assert history.of(1)[-1][0] == 0
    assert history.of(1)[-1][1] > 1
    assert sorted(history.of(1))[1:] == [(n, 1) for n in range(1, 6)]


def test_a_copy_on_the_log_and_one_on_the_replay_lane_at_the_same_instant_run_once(
        settings: Settings, tape: Tape, options: Options) -> None:  # fmt: skip
    seen: Counter[str] = Counter()

    def app() -> App:
        made = App("g")

        @made.on("orders/*")
        async def handle(event: Event) -> None:
            await asyncio.sleep(0.003)
            seen[event.webhook_id] += 1

        return made

    events = [of_order(order, 0) for order in range(80)]
    lane, mark = tape.names.replay("g"), headers.of_replay(Replay("job-1", "again", "ada"))

    async def main() -> None:
        async with running(app(), settings, options=options) as one, running(app(), settings, options=options) as two:
            await divided(one, two)
            twice = [event for event in events for _ in range(2)]
            await asyncio.gather(asyncio.to_thread(tape.record, twice), asyncio.to_thread(tape.record, events, lane, mark))
            await asyncio.gather(one.idle(), two.idle())

    asyncio.run(main())
    assert seen == Counter({e.webhook_id: 1 for e in events})


HANDLERS = """
import asyncio, json, os, pathlib
from hooktape import App

app = App("g")
here = pathlib.Path(os.environ["EFFECTS"])
file = here.open("a", buffering=1)

@app.on("orders/*", concurrency=8)
async def handle(event):
    order, number = event.json()["id"], event.json()["n"]
    file.write(json.dumps([f"try {order}", number, os.getpid()]) + "\\n")
    await asyncio.sleep(0.005)
    if number == 0 and order % 2 == 0 and not here.with_name("fixed").exists():
        raise ConnectionError("down")
    file.write(json.dumps([f"end {order}", number, os.getpid()]) + "\\n")
"""


def ended(process: Process) -> dict[int, list[int]]:
    """Order → the numbers of its events, as their handlers ended."""
    found: dict[int, list[int]] = defaultdict(list)
    for what, number, _ in (json.loads(line) for line in process.effects.read_text().splitlines() if line.endswith("]")):
        if what.startswith("end "):
            found[int(what[4:])].append(number)
    return found


@pytest.mark.parametrize("where", ["while all are held", "letter-acked-not-recorded:3", "hold-letter-acked-not-recorded:7"])
def test_after_kill_9_with_events_held_the_order_is_kept_and_nothing_is_lost(settings: Settings, tmp_path: Path, where: str) -> None:
    settings = replace(settings, topic_prefix=f"{settings.topic_prefix}k", partitions=2, retry_delays=(0.2, 0.5))
    topics.apply(settings, ["g"])
    tape = Tape(settings)
    events = [of_order(order, n) for n in range(5) for order in range(8)]
    held = [e for e in events if e.json()["id"] % 2 == 0]
    tape.record(events)
    if ":" in where:
        process = Process(settings, tmp_path, handlers=HANDLERS, HOOKTAPE_TEST_MODE="1", HOOKTAPE_CRASH=where)
        assert process.popen.wait(60) == -signal.SIGKILL
    else:
        process = Process(settings, tmp_path, handlers=HANDLERS)
        process.wait_until(lambda: states(settings, "g", held) == {"waiting": 4, "behind": 16})
        process.popen.kill()
        process.popen.wait()
    before = ended(process)
    assert all(order % 2 for order in before)
    # More of each order come while nobody is there.
    more = [of_order(order, n) for n in range(5, 8) for order in range(8)]
    tape.record(more)
    (tmp_path / "fixed").touch()
    process = Process(settings, tmp_path, handlers=HANDLERS)
    process.wait_until(lambda: states(settings, "g", [*events, *more]) == {"succeeded": 64})
    process.popen.terminate()
    assert process.popen.wait(20) == 0
    after = ended(process)
    for order in range(0, 8, 2):
        assert after[order] == list(range(8))
    for order in range(1, 8, 2):
        # What had ended and wasn't on the ledger's disk ran twice, and no later one in between.
        assert list(dict.fromkeys(after[order])) == list(range(8))
