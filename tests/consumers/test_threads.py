"""Threads of plain handlers: each call ends once, on the loop; one that nobody waits for any more is told apart from one not begun."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable

import pytest

from hooktape import Event
from hooktape.consumers.threads import Threads

from .conftest import until
from .test_heartbeat import bench


def run(act: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(act(), 20))  # type: ignore[arg-type]


def test_results_and_errors_come_back_each_to_its_own_call() -> None:
    def act(number: int) -> None:
        if number % 3 == 0:
            raise ValueError(str(number))

    async def main() -> None:
        threads = Threads(4, "t")
        calls = [threads.call(act, number) for number in range(300)]
        ends = await asyncio.gather(*(call.future for call in calls), return_exceptions=True)
        assert [str(end) if end else None for end in ends] == [str(n) if n % 3 == 0 else None for n in range(300)]
        threads.close()

    run(main)


def test_no_more_than_the_limit_run_at_once_and_that_many_do() -> None:
    gate, lock, running, most = threading.Event(), threading.Lock(), [0], [0]

    def act(_: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        gate.wait(10)
        with lock:
            running[0] -= 1

    async def main() -> None:
        threads = Threads(3, "t")
        calls = [threads.call(act, number) for number in range(9)]
        await until(lambda: most[0] == 3)
        gate.set()
        await asyncio.gather(*(call.future for call in calls))
        assert most[0] == 3
        threads.close()

    run(main)


def test_what_a_call_binds_to_its_context_doesnt_reach_the_next() -> None:
    bound = contextvars.ContextVar("bound", default=0)
    seen: list[int] = []

    def act(number: int) -> None:
        seen.append(bound.get())
        bound.set(number)

    async def main() -> None:
        threads = Threads(1, "t")
        for number in (1, 2):
            await threads.call(act, number).future
        threads.close()

    run(main)
    assert seen == [0, 0]


def test_a_call_given_up_before_it_begins_never_runs_and_one_that_has_begun_says_when_it_ends() -> None:
    gate, ran, freed = threading.Event(), list[int](), list[str]()

    def act(number: int) -> None:
        ran.append(number)
        gate.wait(10)

    async def main() -> None:
        threads = Threads(1, "t")
        first, second, third = (threads.call(act, number) for number in (1, 2, 3))
        await until(lambda: ran == [1])
        assert first.give_up(lambda: freed.append("first")) is True
        assert second.give_up(lambda: freed.append("second")) is False
        assert not freed
        gate.set()
        await third.future
        assert ran == [1, 3]
        assert freed == ["first"]
        threads.close()

    run(main)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1)])
def test_a_handler_that_raises_what_means_something_to_the_interpreter_ends_its_call(error: BaseException) -> None:
    def act(_: int) -> None:
        raise error

    async def main() -> None:
        threads = Threads(1, "t")
        call = threads.call(act, 1)
        await asyncio.wait([call.future])
        assert call.future.exception() is not None
        assert await asyncio.wait_for(threads.call(lambda _: None, 1).future, 5) is None
        threads.close()

    run(main)


@pytest.mark.parametrize(("error", "asynchronous"), [(SystemExit(3), True), (SystemExit(3), False), (KeyboardInterrupt(), False)])
def test_a_handler_that_wants_the_interpreter_to_end_has_failed_and_the_worker_goes_on(error: BaseException, asynchronous: bool) -> None:
    async def leave(event: Event) -> None:
        raise error

    def leave_thread(event: Event) -> None:
        raise error

    async def main() -> None:
        async with bench() as b:
            b.run(leave if asynchronous else leave_thread)
            await until(lambda: b.ended or b.broken)
            assert [type(error).__name__ in repr(found) for _, found in b.ended] == [True]
            assert b.broken == []

    run(main)
