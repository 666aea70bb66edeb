"""Heartbeats: a handler that says so is given its time-out anew; in a worker's runner and in `hooktape.testing`."""

import asyncio
import copy
import pickle
import threading
import time
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest

from hooktape import App, Event
from hooktape.consumers.app import Handler
from hooktape.consumers.classify import HandlerTimeout
from hooktape.consumers.runner import Runner
from hooktape.consumers.task import Home, Task
from hooktape.testing import TestApp, event

from .conftest import make_event, until

TIMEOUT = 1000.0


class Bench:
    """A runner whose sweeps the test calls, at times that it makes up."""

    def __init__(self) -> None:
        self.ended: list[tuple[Task, BaseException | None]] = []
        self.stuck: list[Handler] = []
        self.freed: list[Handler] = []
        self.broken: list[BaseException] = []
        self.runner = Runner(lambda task, error, _: self.ended.append((task, error)), self.stuck.append, self.freed.append,
                             self.broken.append)  # fmt: skip

    def run(self, function: Callable[[Event], object]) -> Task:
        app = App("g")
        app.on("orders/create", timeout=TIMEOUT)(function)
        of = make_event(1)
        task = Task(Home("t", 0, 1, 0), 0, of, of.key, app.handlers["orders/create"], None)
        self.runner.run(task)
        return task

    @property
    def deadline(self) -> float:
        [slot] = [slot for slot in self.runner._slots if slot.task is not None]
        return slot.deadline


@asynccontextmanager
async def bench():  # type: ignore[no-untyped-def]
    made = Bench()
    yield made
    await made.runner.close()


def test_a_heartbeat_gives_an_async_handler_its_timeout_anew_and_silence_ends_it() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def handle(event: Event) -> None:
            event.heartbeat()
            started.set()
            await asyncio.Event().wait()

        async with bench() as b:
            b.run(handle)
            await started.wait()
            late = b.deadline + 5
            b.runner.sweep(late)
            assert b.deadline == late + TIMEOUT
            b.runner.sweep(late + TIMEOUT)
            assert b.ended == []
            b.runner.sweep(late + TIMEOUT + 1)
            await until(lambda: b.ended)
            assert isinstance(b.ended[0][1], HandlerTimeout)

    asyncio.run(main())


@pytest.mark.parametrize("where", ["plain function", "thread of an async handler"])
def test_a_heartbeat_counts_from_a_thread(where: str) -> None:
    async def main() -> None:
        beat, leave = threading.Event(), threading.Event()

        def plain(event: Event) -> None:
            event.heartbeat()
            beat.set()
            assert leave.wait(30)

        async def threaded(event: Event) -> None:
            # Not to_thread, which takes the context along: a heartbeat mustn't depend on it.
            await asyncio.get_running_loop().run_in_executor(None, plain, event)

        async with bench() as b:
            b.run(plain if where == "plain function" else threaded)
            await until(beat.is_set)
            late = b.deadline + 5
            b.runner.sweep(late)
            assert b.deadline == late + TIMEOUT
            leave.set()
            await until(lambda: b.ended)
            assert b.ended[0][1] is None

    asyncio.run(main())


def test_a_thread_whose_time_has_run_out_is_told_by_its_next_heartbeat_and_the_retry_isnt_touched() -> None:
    async def main() -> None:
        started, again = threading.Event(), threading.Event()
        told: list[BaseException] = []

        def handle(event: Event) -> None:
            started.set()
            assert again.wait(30)
            try:
                event.heartbeat()
            except TimeoutError as error:
                told.append(error)

        async with bench() as b:
            task = b.run(handle)
            await until(started.is_set)
            old = task.event
            b.runner.sweep(b.deadline + 1)
            await until(lambda: b.ended)
            assert len(b.stuck) == 1
            assert task.event is not old
            assert (task.event.lapsed, task.event.webhook_id) == (False, old.webhook_id)
            again.set()
            await until(lambda: b.freed)
            assert "had run out" in str(told[0])
            assert not task.event.beating
            task.event.heartbeat()

    asyncio.run(main())


def test_a_beat_left_over_from_an_earlier_try_extends_nothing() -> None:
    async def main() -> None:
        runs: list[Event] = []

        async def handle(event: Event) -> None:
            runs.append(event)
            if len(runs) == 1:
                event.heartbeat()
                return
            await asyncio.Event().wait()

        async with bench() as b:
            task = b.run(handle)
            await until(lambda: b.ended)
            b.runner.run(task)
            await until(lambda: len(runs) == 2)
            before = b.deadline
            b.runner.sweep(before)
            assert b.deadline == before

    asyncio.run(main())


def test_an_event_is_copied_and_pickled_whatever_its_handler_does() -> None:
    of = make_event(1)
    of.heartbeat()
    assert pickle.loads(pickle.dumps(of)) == copy.copy(of) == of


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_the_testing_module_heeds_heartbeats(kind: str) -> None:
    app = App("g")

    # A second: a busy machine doesn't keep a beat from it for so long.
    @app.on("orders/create", timeout=1.0)
    async def beating(event: Event) -> None:
        end = time.monotonic() + 1.3
        while time.monotonic() < end:
            await asyncio.sleep(0.02)
            event.heartbeat()

    @app.on("orders/updated", timeout=1.0)
    def plain(event: Event) -> None:
        end = time.monotonic() + 1.3
        while time.monotonic() < end:
            time.sleep(0.02)
            event.heartbeat()

    [outcome] = TestApp(app).play(event("orders/create" if kind == "async" else "orders/updated", {"id": 1}))
    assert (outcome.state, outcome.error) == ("succeeded", None)


def test_the_testing_module_ends_what_is_silent_and_gives_the_retry_an_event_of_its_own() -> None:
    app, runs = App("g"), list[Event]()

    @app.on("orders/create", timeout=0.05)
    async def silent(event: Event) -> None:
        runs.append(event)
        if event.attempt == 1:
            await asyncio.Event().wait()
        event.heartbeat()

    test = TestApp(app)
    [outcome] = test.play(event("orders/create", {"id": 1}))
    assert isinstance(outcome.error, HandlerTimeout)
    [outcome] = test.advance("30s")
    assert (outcome.state, outcome.attempts) == ("succeeded", 2)
    with pytest.raises(TimeoutError):
        runs[0].heartbeat()
