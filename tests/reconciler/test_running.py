"""The service: whose turn it is while shops come and go. The passes themselves are played; timetable and tokens are real."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hooktape.errors import LedgerError
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.doctor.visiting import Doctor, Look
from hooktape.reconciler.report import Report
from hooktape.reconciler.running import Service
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings

pytestmark = pytest.mark.anyio
ONE, TWO = "one.myshopify.com", "two.myshopify.com"


class Clock:
    now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


class Played(Reconciler):
    """A reconciler whose passes find nothing."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self.access, self.clock = access, clock
        self.passed: list[str] = []

    async def pass_(self, shop: str, **options: Any) -> list[Report]:
        self.passed.append(shop)
        return [Report(shop, "orders", kind=options["kind"], complete=True)]

    async def measure(self) -> None:
        pass


class Idle(Doctor):
    """A doctor who finds nothing."""

    def __init__(self) -> None:
        pass

    async def look(self, shop: str, **_: Any) -> Look:
        return Look(shop, ())


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 - what is waited for is told by a list
            await asyncio.sleep(0.01)


async def test_a_shop_that_comes_has_its_turn_at_once_and_one_that_goes_has_none_any_more(ledger: Ledger, tmp_path: Path) -> None:
    path, clock, stop = tmp_path / "tokens", Clock(), asyncio.Event()

    def listed(*shops: str) -> None:
        (tmp_path / "new").write_text("".join(f"{shop}=token\n" for shop in shops))
        (tmp_path / "new").rename(path)
        clock.now += 61  # the list is believed for a minute

    listed(ONE)
    settings = Settings(shop_tokens_file=path, reconcile_interval=300.0)
    async with httpx.AsyncClient() as http:
        reconciler = Played(Access(settings, http, clock=clock), clock)
        served = asyncio.create_task(Service(reconciler, Idle(), settings, ledger.timetable).run(stop))
        await until(lambda: reconciler.passed == [ONE])
        listed(ONE, TWO)
        await until(lambda: reconciler.passed == [ONE, TWO])
        listed(TWO)
        clock.now += 300
        await until(lambda: reconciler.passed == [ONE, TWO, TWO])
        stop.set()
        await served
    assert reconciler.passed == [ONE, TWO, TWO]


async def test_a_service_that_is_for_one_shop_leaves_the_others_alone(ledger: Ledger, tmp_path: Path) -> None:
    path, clock, stop = tmp_path / "tokens", Clock(), asyncio.Event()
    path.write_text(f"{ONE}=token\n{TWO}=token\n")
    settings = Settings(shop_tokens_file=path)
    async with httpx.AsyncClient() as http:
        reconciler = Played(Access(settings, http, clock=clock), clock)
        served = asyncio.create_task(Service(reconciler, Idle(), settings, ledger.timetable, [TWO]).run(stop))
        await until(lambda: reconciler.passed == [TWO])
        stop.set()
        await served
    assert reconciler.passed == [TWO]
    assert {shop for shop, _ in ledger.timetable.due()} == {TWO}


async def test_an_app_that_doesnt_answer_when_the_service_starts_is_asked_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hooktape.reconciler.running._UNLISTED", 0.01)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(503) if len(asked) < 3 else httpx.Response(200, json={"shops": [ONE]})

    clock, stop = Clock(), asyncio.Event()
    settings = Settings(shop_tokens_url="https://app.example/tokens")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        reconciler = Played(Access(settings, http, clock=clock), clock)
        served = asyncio.create_task(Service(reconciler, Idle(), settings, ledger.timetable).run(stop))
        await until(lambda: reconciler.passed == [ONE])
        stop.set()
        await served
    assert len(asked) == 3


async def test_a_closed_shop_is_tried_once_when_the_service_starts_and_then_at_its_time(ledger: Ledger, tmp_path: Path) -> None:
    path, clock, stop = tmp_path / "tokens", Clock(), asyncio.Event()
    path.write_text(f"{ONE}=token\n{TWO}=token\n")
    settings = Settings(shop_tokens_file=path, reconcile_interval=300.0)
    ledger.timetable.park(ONE, "unauthorized", clock.now - 60, clock.now + 3540)
    async with httpx.AsyncClient() as http:
        reconciler = Played(Access(settings, http, clock=clock), clock)
        served = asyncio.create_task(Service(reconciler, Idle(), settings, ledger.timetable).run(stop))
        await until(lambda: sorted(reconciler.passed) == [ONE, TWO])
        for moment, passed in ((300, [TWO]), (3600, [ONE, TWO])):
            reconciler.passed.clear()
            clock.now += moment
            await until(lambda passed=passed: sorted(reconciler.passed) == passed)  # type: ignore[misc]
        stop.set()
        await served


async def once_an_interval(made: type[Played], ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes that are made like this come once an interval, however often the timetable is looked at."""
    monkeypatch.setattr("hooktape.reconciler.running._LOOK", 0.02)
    path, clock, stop, looks = folder / "tokens", Clock(), asyncio.Event(), list[float]()
    path.write_text(f"{ONE}=token\n")
    due_by = ledger.timetable.due_by
    monkeypatch.setattr(ledger.timetable, "due_by", lambda now: (looks.append(now), due_by(now))[1])
    settings = Settings(shop_tokens_file=path, reconcile_interval=300.0)
    async with httpx.AsyncClient() as http:
        reconciler = made(Access(settings, http, clock=clock), clock)
        served = asyncio.create_task(Service(reconciler, Idle(), settings, ledger.timetable).run(stop))
        await until(lambda: bool(reconciler.passed))
        seen = len(looks)
        await until(lambda: len(looks) >= seen + 10)
        assert reconciler.passed == [ONE]
        clock.now += 300
        await until(lambda: reconciler.passed == [ONE, ONE])
        stop.set()
        await served


async def test_a_service_with_no_family_to_compare_asks_once_an_interval(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Without(Played):
        """HOOKTAPE_TOPICS names only what can't be checked: carts, app/uninstalled."""

        async def pass_(self, shop: str, **options: Any) -> list[Report]:
            await super().pass_(shop, **options)
            return []

    await once_an_interval(Without, ledger, tmp_path, monkeypatch)


@pytest.mark.parametrize("fault", [LedgerError("the disk is full"), RuntimeError("nobody has reckoned with it")])
async def test_what_fails_around_a_pass_is_not_done_again_at_once(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    class Failing(Played):
        async def measure(self) -> None:
            raise fault

    await once_an_interval(Failing, ledger, tmp_path, monkeypatch)


async def test_a_pass_is_never_due_later_than_its_interval_from_now(ledger: Ledger, tmp_path: Path) -> None:
    # The interval was a day when it was last noted; or the clock was wrong then, and has been put right.
    path, clock, stop = tmp_path / "tokens", Clock(), asyncio.Event()
    path.write_text(f"{ONE}=token\n")
    settings = Settings(shop_tokens_file=path, reconcile_interval=300.0)
    ledger.timetable.set({(ONE, "fast"): clock.now + 86_400, (ONE, "lookback"): clock.now + 3600})
    async with httpx.AsyncClient() as http:
        reconciler = Played(Access(settings, http, clock=clock), clock)
        served = asyncio.create_task(Service(reconciler, Idle(), settings, ledger.timetable).run(stop))
        await until(lambda: reconciler.passed == [ONE])
        assert ledger.timetable.due()[ONE, "lookback"] == clock.now + 3600
        clock.now -= 30 * 86_400
        await until(lambda: reconciler.passed == [ONE, ONE])
        stop.set()
        await served


async def test_a_service_that_is_stopped_waits_for_no_pass_of_hours(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hooktape.reconciler.running._LEAVING", 0.05)
    path, clock, stop = tmp_path / "tokens", Clock(), asyncio.Event()
    path.write_text(f"{ONE}=token\n")
    settings, released = Settings(shop_tokens_file=path), list[str]()

    class Waiting(Played):
        async def pass_(self, shop: str, **options: Any) -> list[Report]:
            """As one does for a bulk operation."""
            self.passed.append(shop)
            try:
                await asyncio.sleep(6 * 3600)
            finally:
                released.append(shop)
            return []

    async with httpx.AsyncClient() as http:
        reconciler = Waiting(Access(settings, http, clock=clock), clock)
        served = asyncio.create_task(Service(reconciler, Idle(), settings, ledger.timetable).run(stop))
        await until(lambda: reconciler.passed == [ONE])
        stop.set()
        async with asyncio.timeout(10):
            await served
    assert released == [ONE]
