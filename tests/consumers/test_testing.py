"""`hooktape.testing`: what a user's tests see."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from typing import Literal

import psycopg
import pytest

from hooktape import App, Event, Reject, Retry
from hooktape.consumers.classify import HandlerTimeout
from hooktape.errors import UsageError
from hooktape.schemas.event import Replay
from hooktape.testing import Outcome, TestApp, event, play


class Effects:
    """A handler's outside world."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.error: BaseException | None = None

    def app(self, **options: object) -> App:
        app = App("g")

        @app.on("orders/*", **options)  # type: ignore[arg-type]
        async def handle(event: Event) -> None:
            await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            self.seen.append((event.json()["id"], event.attempt))

        return app


def test_a_sample_event_succeeds() -> None:
    effects = Effects()
    [outcome] = play(effects.app(), event("orders/create"))
    assert (outcome.state, outcome.attempts) == ("succeeded", 1)
    assert len(effects.seen) == 1


def test_a_failure_waits_for_its_delay_and_recovers() -> None:
    effects = Effects()
    test = TestApp(effects.app())
    effects.error = ConnectionError("down")
    [outcome] = test.play(event("orders/create", {"id": 1}))
    assert (outcome.state, outcome.attempts, outcome.error) == ("waiting", 1, effects.error)
    assert test.advance(29) == []
    [outcome] = test.advance(1)
    assert (outcome.state, outcome.attempts) == ("waiting", 2)
    effects.error = None
    [outcome] = test.advance("2m")
    assert (outcome.state, outcome.attempts) == ("succeeded", 3)
    assert effects.seen == [(1, 3)]


def test_it_gives_up_after_the_maximum_and_a_rejected_event_is_dead_at_once() -> None:
    effects = Effects()
    test = TestApp(effects.app(max_attempts=2))
    effects.error = KeyError("bug")
    test.play(event("orders/create", {"id": 1}))
    [outcome] = test.advance("1h")
    assert (outcome.state, outcome.disposition) == ("dead", "exhausted")
    effects.error = Reject("no such warehouse")
    [outcome] = test.play(event("orders/create", {"id": 2}))
    assert (outcome.state, outcome.disposition) == ("dead", "rejected")
    assert len(test.dead) == 2


def test_the_pause_that_a_handler_asks_for_is_kept() -> None:
    effects = Effects()
    test = TestApp(effects.app())
    effects.error = Retry(after=100)
    [outcome] = test.play(event("orders/create", {"id": 1}))
    assert outcome.due == test.now + 120


def test_a_duplicate_is_skipped_and_a_forced_replay_runs() -> None:
    effects = Effects()
    test, once = TestApp(effects.app()), event("orders/create", {"id": 1}, webhook_id="w")
    states = [o.state for o in test.play(once, event("orders/create", {"id": 1}, webhook_id="w"))]
    assert states == ["succeeded", "duplicate"]
    again = [event("orders/create", {"id": 1}, webhook_id="w", replay=Replay("r", forced=forced)) for forced in (False, True)]
    assert [o.state for o in test.play(*again)] == ["duplicate", "succeeded"]


def test_an_older_version_is_stale() -> None:
    effects = Effects()
    test = TestApp(effects.app(skip_stale=True))
    newer = event("orders/updated", {"id": 1, "updated_at": "2026-11-20T10:00:00Z"})
    older = event("orders/updated", {"id": 1, "updated_at": "2026-11-20T09:00:00Z"})
    assert [o.state for o in test.play(newer, older)] == ["succeeded", "stale"]


def test_events_of_one_order_keep_their_order() -> None:
    app, seen = App("g"), list[int]()

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        await asyncio.sleep(0.002 / (1 + event.json()["n"]))
        seen.append(event.json()["n"])

    play(app, *(event("orders/updated", {"id": 7, "n": n}) for n in range(20)))
    assert seen == list(range(20))


def test_what_comes_after_a_failed_event_of_its_order_is_behind_and_follows_it_in_order() -> None:
    app, seen, down = App("g"), list[tuple[str, int]](), [True]

    @app.on("orders/*")
    async def handle(event: Event) -> None:
        if event.json()["n"] == 0 and down:
            raise ConnectionError("down")
        seen.append((event.resource_root or "", event.json()["n"]))

    test = TestApp(app)
    first, *rest = [event("orders/updated", {"id": 1, "n": n}) for n in range(3)]
    outcomes = test.play(first, *rest, event("orders/create", {"id": 2, "n": 9}))
    assert sorted((o.state, o.attempts) for o in outcomes) == [("behind", 0), ("behind", 0), ("succeeded", 1), ("waiting", 1)]
    assert seen == [("order/2", 9)]
    behind = [o for o in outcomes if o.state == "behind"]
    assert [(o.event.webhook_id, o.disposition, o.error) for o in behind] == [(e.webhook_id, "behind", None) for e in rest]
    assert [e.webhook_id for e in test.waiting] == [e.webhook_id for e in (first, *rest)]
    # One more of the order comes while the others wait; the head fails once more.
    [late] = test.play(event("orders/create", {"id": 1, "n": 3}))
    assert late.state == "behind"
    assert {o.state for o in test.advance("30s")} == {"waiting", "behind"}
    down.clear()
    test.advance("1h")
    assert seen == [("order/2", 9), *(("order/1", n) for n in range(4))]
    assert test.waiting == []


def test_when_the_head_dies_those_behind_it_run_and_without_order_nobody_waits() -> None:
    def app(order: Literal["key", "none"]) -> App:
        made = App("g")

        @made.on("orders/*", order=order, max_attempts=2)
        async def handle(event: Event) -> None:
            if event.json()["n"] == 0:
                raise ConnectionError("down")

        return made

    def states(outcomes: list[Outcome]) -> list[tuple[int, str]]:
        return [(o.event.json()["n"], o.state) for o in outcomes]

    events = [event("orders/updated", {"id": 1, "n": n}) for n in range(3)]
    held = TestApp(app("key"))
    assert states(held.play(*events)) == [(0, "waiting"), (1, "behind"), (2, "behind")]
    assert states(held.advance("1h")) == [(0, "dead"), (1, "succeeded"), (2, "succeeded")]
    free = TestApp(app("none"))
    assert sorted(states(free.play(*events))) == [(0, "waiting"), (1, "succeeded"), (2, "succeeded")]


def test_a_plain_function_and_a_slow_handler() -> None:
    app = App("g")

    @app.on("orders/create")
    def plain(event: Event) -> None:
        event.json()

    @app.on("orders/updated", timeout=0.01)
    async def slow(event: Event) -> None:
        await asyncio.sleep(30)

    first, second = play(app, event("orders/create", {"id": 1})), play(app, event("orders/updated", {"id": 1}))
    assert first[0].state == "succeeded"
    assert isinstance(second[0].error, HandlerTimeout)


def test_it_says_what_to_do_inside_a_loop_and_for_an_unknown_topic() -> None:
    app = Effects().app()

    async def inside() -> None:
        with pytest.raises(UsageError, match="play_async"):
            play(app, event("orders/create"))
        assert [o.state for o in await TestApp(app).play_async(event("orders/create"))] == ["succeeded"]

    asyncio.run(inside())
    with pytest.raises(UsageError, match="no handler for products/update"):
        play(app, event("products/update"))


class Lent:
    """A database that a test lends to handlers."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE {self.name} (webhook_id TEXT)")

    name = "lent_" + uuid.uuid4().hex[:10]

    @property
    def insert(self) -> str:
        return f"INSERT INTO {self.name} VALUES (%s)"

    def rows(self) -> list[str]:
        with psycopg.connect(self.url) as connection:
            return [webhook_id for (webhook_id,) in connection.execute(f"SELECT webhook_id FROM {self.name}")]


@pytest.fixture
def lent(postgres_url: str) -> Iterator[Lent]:
    made = Lent(postgres_url)
    yield made
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE {made.name}")


def writer(lent: Lent) -> App:
    app = App("g")

    @app.on("orders/create")
    async def write(event: Event) -> None:
        async with event.transaction() as connection:
            await connection.execute(lent.insert, [event.webhook_id])
            if event.attempt == 1:
                raise ConnectionError("once")
        raise RuntimeError("after the block")

    @app.on("products/update")
    def write_plainly(event: Event) -> None:
        with event.transaction() as connection:
            connection.execute(lent.insert, [event.webhook_id])
            if event.attempt == 1:
                raise ConnectionError("once")

    return app


def test_a_transaction_writes_to_the_database_that_the_test_lends(lent: Lent) -> None:
    for topic, lend in (("orders/create", psycopg.AsyncConnection.connect), ("products/update", psycopg.connect)):
        test = TestApp(writer(lent), transaction=lambda lend=lend: lend(lent.url))
        [outcome] = test.play(event(topic, webhook_id=topic))
        assert (outcome.state, topic in lent.rows()) == ("waiting", False)
        [outcome] = test.advance("30s")
        assert (outcome.state, lent.rows().count(topic)) == ("succeeded", 1)


def test_a_fixture_can_roll_back_what_was_written(lent: Lent) -> None:
    with psycopg.connect(lent.url) as connection:
        connection.execute("SELECT 1")  # a transaction of the fixture's
        test = TestApp(writer(lent), transaction=lambda: contextlib.nullcontext(connection))
        test.play(event("products/update", webhook_id="x"))
        test.advance("30s")
        assert connection.execute(f"SELECT webhook_id FROM {lent.name}").fetchall() == [("x",)]
        connection.rollback()
    assert lent.rows() == []


def test_without_a_database_a_transaction_says_how_to_lend_one() -> None:
    app = App("g")

    @app.on("orders/create", max_attempts=1)
    async def write(event: Event) -> None:
        async with event.transaction():
            pass

    [outcome] = play(app, event("orders/create"))
    assert isinstance(outcome.error, UsageError)
    assert "TestApp(app, transaction=" in str(outcome.error)
    with pytest.raises(UsageError, match="outside a worker"):
        event("orders/create").transaction()
