"""Rebalances, deaths and stops; the one thread that owns a consumer."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.running import running
from hooktape.errors import LedgerUnavailable, TapeError
from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.names import Names

from .conftest import Tape, make_event, states, until

ROOT = Path(__file__).parents[2]
HANDLERS = """
import asyncio, json, os, time
from hooktape import App

app = App("g")
file = open(os.environ["EFFECTS"], "a", buffering=1)

@app.on("orders/*", concurrency=4)
async def handle(event):
    file.write(json.dumps(["start", event.webhook_id, os.getpid()]) + "\\n")
    await asyncio.sleep(0.01)
    while event.json()["n"] >= int(os.environ.get("HELD_FROM", "1000000")):
        await asyncio.sleep(60)
    file.write(json.dumps(["end", event.webhook_id, os.getpid()]) + "\\n")
"""


class Process:
    """`hooktape consume` as a process, and the effects that its handlers wrote down."""

    def __init__(self, settings: Settings, folder: Path, *words: str, handlers: str = HANDLERS, **more: str) -> None:
        self.effects = folder / "effects"
        self.effects.touch()
        (folder / "shop_handlers.py").write_text(handlers)
        env = {key: value for key, value in os.environ.items() if not key.startswith("HOOKTAPE_")}
        env |= {"HOOKTAPE_KAFKA": settings.kafka, "HOOKTAPE_TOPIC_PREFIX": settings.topic_prefix, "HOOKTAPE_HOME": str(settings.home),
                "HOOKTAPE_PARTITIONS": "2", "HOOKTAPE_RETRY_DELAYS": "200ms,500ms", "HOOKTAPE_TOPICS": ",".join(settings.topics),
                "EFFECTS": str(self.effects), "PYTHONPATH": str(ROOT / "src"), **more}  # fmt: skip
        command = [sys.executable, "-m", "hooktape", "consume", "shop_handlers:app", *words]
        self.popen = subprocess.Popen(command, env=env, cwd=folder, stderr=(folder / "log").open("a"))

    def lines(self, kind: str) -> Counter[str]:
        found = [json.loads(line) for line in self.effects.read_text().splitlines() if line.endswith("]")]
        return Counter(wid for what, wid, _ in found if what == kind)

    def pids(self) -> set[int]:
        return {json.loads(line)[2] for line in self.effects.read_text().splitlines() if line.endswith("]")}

    def wait_until(self, condition: Any, within: float = 60.0) -> None:
        end = time.monotonic() + within
        while not condition():
            assert self.popen.poll() is None, "the worker ended by itself"
            assert time.monotonic() < end, "what was waited for didn't come"
            time.sleep(0.02)


def test_a_worker_that_joins_takes_over_half_and_nothing_is_lost_or_doubled(settings: Settings, tape: Tape, options: Options) -> None:
    seen: Counter[str] = Counter()
    by_worker: Counter[int] = Counter()

    def app(number: int) -> App:
        made = App("g")

        # One topic of two partitions: each worker gets one of them, however the broker spreads the rest.
        @made.on("orders/create", concurrency=4)
        async def handle(event: Event) -> None:
            await asyncio.sleep(0.005)
            seen[event.webhook_id] += 1
            by_worker[number] += 1

        return made

    events = [make_event(i) for i in range(600)]
    log = Names(settings.topic_prefix).log("orders.create")

    async def main() -> None:
        tape.record(events[:300])
        async with running(app(1), settings, options=options) as one:
            await until(lambda: by_worker[1] > 50)
            async with running(app(2), settings, options=options) as two:
                await until(lambda: any(home.topic == log for home in two._intake.homes))
                await asyncio.to_thread(tape.record, events[300:])
                await until(lambda: by_worker[2] > 20)
            await one.idle()

    asyncio.run(main())
    assert seen == Counter({e.webhook_id: 1 for e in events})
    assert by_worker[2] > 20


def test_after_kill_9_nothing_is_lost_and_only_what_was_running_runs_again(
        settings: Settings, tape: Tape, tmp_path: Path, options: Options) -> None:  # fmt: skip
    events = [make_event(i) for i in range(400)]
    tape.record(events)
    # It's killed in the midst of its work, however late that is noticed here: it can't end the last hundred.
    process = Process(settings, tmp_path, HELD_FROM="300")
    process.wait_until(lambda: len(process.lines("end")) > 100 and states(settings, "g", events)["succeeded"] > 50)
    process.popen.kill()
    process.popen.wait()
    before = process.lines("end")
    assert len(before) <= 300
    with Ledger.open(settings.ledger_url) as ledger:
        recorded = ledger.outcomes.states("g", [e.key for e in events])
    done = {e.webhook_id for e in events if recorded.get(e.key) is State.SUCCEEDED}
    app, again = App("g"), Counter[str]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        again[event.webhook_id] += 1

    async def main() -> None:
        async with running(app, settings, options=options) as worker:
            await worker.idle()

    asyncio.run(main())
    assert done <= set(before)
    # What had ended, but wasn't on the ledger's disk yet, and what hadn't ended: no more and no less.
    assert again == Counter({e.webhook_id for e in events} - done)


def test_sigterm_ends_what_runs_and_leaves_nothing_to_repeat(settings: Settings, tape: Tape, tmp_path: Path, options: Options) -> None:
    events = [make_event(i) for i in range(300)]
    tape.record(events)
    process = Process(settings, tmp_path)
    process.wait_until(lambda: len(process.lines("end")) > 50)
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(20) == 0
    assert process.lines("start") == process.lines("end")
    ended = set(process.lines("end"))
    app, rest = App("g"), set[str]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        rest.add(event.webhook_id)

    async def main() -> None:
        async with running(app, settings, options=options) as worker:
            await worker.idle()

    asyncio.run(main())
    assert rest.isdisjoint(ended)
    assert rest | ended == {e.webhook_id for e in events}


def test_several_workers_are_supervised_and_end_together(settings: Settings, tape: Tape, tmp_path: Path) -> None:
    process = Process(settings, tmp_path, "--workers", "2")

    def wave(start: int) -> None:
        tape.record([make_event(i) for i in range(start, start + 40)])

    wave(0)
    process.wait_until(lambda: len(process.lines("end")) == 40)
    first = process.pids()
    os.kill(victim := next(iter(first)), signal.SIGKILL)
    wave(40)
    process.wait_until(lambda: len(process.lines("end")) == 80)
    wave(80)
    process.wait_until(lambda: len(process.lines("end")) == 120)
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(30) == 0
    assert "a worker died and is started again" in (tmp_path / "log").read_text()
    for pid in process.pids() - {victim}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


class Guarded:
    """A consumer that notes which threads touch it."""

    def __init__(self, consumer: Any, threads: set[int]) -> None:
        self._consumer, self._threads = consumer, threads

    def __getattr__(self, name: str) -> Any:
        self._threads.add(threading.get_ident())
        return getattr(self._consumer, name)


def test_only_one_thread_ever_touches_a_consumer(settings: Settings, tape: Tape, options: Options) -> None:
    app, touched = App("g"), list[set[int]]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        if event.attempt == 1 and event.json()["n"] % 5 == 0:
            raise ConnectionError("once")

    def make(*words: Any, **named: Any) -> Any:
        touched.append(set())
        return Guarded(clients.consumer(*words, **named), touched[-1])

    tape.record([make_event(i) for i in range(50)])

    async def main() -> None:
        async with running(app, settings, options=options, make=make) as one:
            async with running(app, settings, options=options, make=make):
                await one.idle()
            await one.idle()

    asyncio.run(main())
    assert len(touched) == 6
    assert all(len(threads) == 1 for threads in touched)
    assert threading.get_ident() not in set.union(*touched)


def test_the_older_group_protocol_works_too(settings: Settings, tape: Tape, options: Options) -> None:
    app, seen = App("g"), Counter[str]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        await asyncio.sleep(0.002)
        seen[event.webhook_id] += 1

    events = [make_event(i) for i in range(100)]
    tape.record(events)
    classic = replace(settings, kafka_properties={"group.protocol": "classic", "session.timeout.ms": "6000"})

    async def main() -> None:
        async with running(app, classic, options=options) as one:
            await until(lambda: len(seen) > 10)
            async with running(app, classic, options=options):
                await one.idle()

    asyncio.run(main())
    assert seen == Counter({e.webhook_id: 1 for e in events})


def test_a_ledger_that_fails_for_a_while_before_and_after_its_work_loses_and_doubles_nothing(
        settings: Settings, tape: Tape, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from hooktape.ledger.outcomes import Outcomes

    app, seen, calls = App("g"), Counter[str](), Counter[str]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        seen[event.webhook_id] += 1

    for name in ("check", "finish"):
        original = getattr(Outcomes, name)

        def shaky(self: Any, *words: Any, _name: str = name, _original: Any = original) -> Any:
            calls[_name] += 1
            if calls[_name] == 1:
                raise LedgerUnavailable("a test, before")
            answer = _original(self, *words)
            if calls[_name] in (2, 3):
                raise LedgerUnavailable("a test, after")
            return answer

        monkeypatch.setattr(Outcomes, name, shaky)
    events = [make_event(i) for i in range(30)]
    tape.record(events)

    async def main() -> None:
        async with running(app, settings, options=options) as worker:
            await worker.idle()

    asyncio.run(main())
    assert seen == Counter({e.webhook_id: 1 for e in events})
    assert min(calls.values()) > 3


def test_a_handler_that_blocks_the_loop_is_named(
        settings: Settings, tape: Tape, options: Options, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    app = App("g")

    @app.on("orders/create")
    async def blocks(event: Event) -> None:
        time.sleep(1.8)  # noqa: ASYNC251 - the very mistake

    tape.record([make_event(1)])

    async def main() -> None:
        async with running(app, settings, options=options) as worker:
            await worker.idle()

    asyncio.run(main())
    [record] = [r for r in caplog.records if "stands still" in r.getMessage()]
    assert "blocks" in record.hooktape_fields["handler"]  # type: ignore[attr-defined]


def test_a_consumer_that_fails_for_good_ends_the_worker_with_its_reason(settings: Settings, tape: Tape, options: Options) -> None:
    app = App("g")
    tape.record([make_event(1)])
    app.on("orders/create")(print)

    class Broken(Guarded):
        def poll(self, timeout: float) -> None:
            raise TapeError("Kafka refused the consumer")

    def make(*words: Any, **named: Any) -> Any:
        return Broken(clients.consumer(*words, **named), set())

    async def main() -> None:
        async with running(app, settings, options=options, make=make) as worker:
            await worker.idle(10)

    with pytest.raises(TapeError, match="refused"):
        asyncio.run(main())


def test_a_stop_gives_the_lease_back_so_that_others_go_on_at_once(settings: Settings, tape: Tape, options: Options) -> None:
    app, runs = App("g"), list[float]()

    @app.on("orders/create", concurrency=1)
    async def handle(event: Event) -> None:
        runs.append(time.monotonic())
        if len(runs) == 1:
            await asyncio.sleep(60)

    tape.record([make_event(n) for n in range(20)])

    async def main() -> None:
        # A lease far longer than the test: only a release lets the next worker in.
        long = replace(options, lease=600.0, stop_within=0.6)
        async with running(app, settings, options=long):
            await until(lambda: runs)
        async with running(app, settings, options=options) as worker:
            await worker.idle()

    asyncio.run(main())
    assert len(runs) == 21
    with Ledger.open(settings.ledger_url) as ledger:
        assert ledger.outcomes.failures("g") == {}
