"""`event.transaction()` on a real Kafka and a real PostgreSQL: whatever dies, and whenever, each event's effect is there once."""

import gc
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.transactions import Try
from hooktape.errors import TransactionRefused, UsageError
from hooktape.schemas.event import Event
from hooktape.settings import Secret, Settings

from .conftest import Tape, make_event, run, states, until
from .effects import INSERT, TABLE, make_app, row
from .lossy import Lossy

ROOT = Path(__file__).parents[2]
# In the order of the protocol.
POINTS = ("checked", "transaction-begun", "in-transaction", "transaction-recorded", "transaction-committed", "transaction-returned",
          "recorded-not-committed")  # fmt: skip


@pytest.fixture
def schema(postgres_url: str) -> Iterator[str]:
    """A schema with the table of effects."""
    name = f"tx_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        connection.execute(f"SET search_path TO {name}")
        connection.execute(TABLE)
        yield name
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def url(postgres_url: str, schema: str) -> str:
    """The ledger's address, and that of the effects."""
    return f"{postgres_url}&options=-csearch_path%3D{schema}"


@pytest.fixture
def settings(settings: Settings, url: str) -> Settings:
    # The older protocol lets a client ask that a member who died be forgotten sooner.
    soon = {"group.protocol": "classic", "session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}
    return replace(settings, database_url=Secret(url), kafka_properties=soon)


@pytest.fixture
def options() -> Options:
    return replace(Options(), quick_tries=1, lease=1.0)


def effects(url: str) -> Counter[str]:
    with psycopg.connect(url) as connection:
        return Counter(webhook_id for (webhook_id,) in connection.execute("SELECT webhook_id FROM effects"))


def once(events: list[Event]) -> Counter[str]:
    return Counter(event.webhook_id for event in events)


def mixed(number: int) -> list[Event]:
    """Events for both handlers, by turns."""
    return [make_event(n, topic=("orders/create", "products/update")[n % 2]) for n in range(number)]


def tries() -> list[Try]:
    return [each for each in gc.get_objects() if isinstance(each, Try)]


def recorded(settings: Settings, events: list[Event]) -> bool:
    return states(settings, "g", events) == {"succeeded": len(events)}


class Process:
    """A worker of `effects.app` in a process, with a short lease."""

    def __init__(self, settings: Settings, folder: Path, **env: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HOOKTAPE_")}
        kept |= {"HOOKTAPE_KAFKA": settings.kafka, "HOOKTAPE_TOPIC_PREFIX": settings.topic_prefix, "HOOKTAPE_HOME": str(settings.home),
                 "HOOKTAPE_PARTITIONS": "2", "HOOKTAPE_RETRY_DELAYS": "200ms,500ms", "HOOKTAPE_TOPICS": ",".join(settings.topics),
                 "HOOKTAPE_DATABASE_URL": settings.ledger_url, "PYTHONPATH": str(ROOT / "src")}  # fmt: skip
        kept |= {f"HOOKTAPE_KAFKA_{name.replace('.', '_').upper()}": value for name, value in settings.kafka_properties.items()}
        self.log = folder / "log"
        command = [sys.executable, "-m", "tests.consumers.effects"]
        self.popen = subprocess.Popen(command, env=kept | env, cwd=ROOT, stderr=self.log.open("a"))

    def wait_until(self, condition: Any, within: float = 60.0) -> None:
        end = time.monotonic() + within
        while not condition():
            assert self.popen.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < end, "what was waited for didn't come"
            time.sleep(0.02)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_step_of_the_protocol_leaves_each_effect_once(
        point: str, settings: Settings, tape: Tape, options: Options, tmp_path: Path, url: str) -> None:  # fmt: skip
    events = mixed(40)
    tape.record(events)
    # Each passage is one event's: the eleventh is in the midst of them.
    process = Process(settings, tmp_path, HOOKTAPE_TEST_MODE="1", HOOKTAPE_CRASH=f"{point}:11")
    assert process.popen.wait(60) == -signal.SIGKILL
    assert len(effects(url)) < len(events)
    run(make_app(), settings, options)
    assert effects(url) == once(events)
    assert recorded(settings, events)


def test_ten_kills_at_any_moment_leave_each_effect_once(
        settings: Settings, tape: Tape, options: Options, tmp_path: Path, url: str) -> None:  # fmt: skip
    events = mixed(400)
    chance = random.Random(4)
    for number in range(10):
        tape.record(events[number * 40 : (number + 1) * 40])
        process = Process(settings, tmp_path, PAUSE="0.01")
        goal = len(effects(url)) + chance.randint(1, 30)
        process.wait_until(lambda goal=goal: len(effects(url)) >= goal)
        process.kill()
    run(make_app(), settings, options)
    assert effects(url) == once(events)
    assert recorded(settings, events)


def test_a_worker_that_stood_still_past_its_lease_keeps_nothing_of_what_another_has_done(
        settings: Settings, tape: Tape, options: Options, tmp_path: Path, url: str) -> None:  # fmt: skip
    events = mixed(30)
    tape.record(events)
    process = Process(settings, tmp_path, PAUSE="0.4")
    try:
        process.wait_until(lambda: len(effects(url)) > 4)
        # The next ones are in their blocks: written, and not at their end.
        process.popen.send_signal(signal.SIGSTOP)
        run(make_app(), settings, options)
        assert effects(url) == once(events)
        process.popen.send_signal(signal.SIGCONT)
        process.wait_until(lambda: "is another worker's" in process.log.read_text())
    finally:
        process.kill()
    assert effects(url) == once(events)
    assert recorded(settings, events)


@pytest.mark.parametrize("answered", [True, False], ids=["with its answer", "before it arrives"])
def test_a_commit_that_is_lost_is_looked_up_and_runs_again_only_if_it_didnt_happen(
        answered: bool, settings: Settings, tape: Tape, options: Options, postgres_url: str, schema: str) -> None:  # fmt: skip
    events = mixed(20)
    tape.record(events)
    lossy = Lossy(postgres_url, b"INSERT INTO effects", 6, answered)
    direct = f"{postgres_url}&options=-csearch_path%3D{schema}"
    through = f"postgresql://postgres@127.0.0.1:{lossy.port}/postgres?options=-csearch_path%3D{schema}&sslmode=disable&gssencmode=disable"
    runs = Counter[str]()
    run(make_app(runs=runs), settings, options, ledger_url=through)
    lossy.close()
    assert lossy.spoilt == 6
    assert Counter(runs.values()) == ({1: 20} if answered else {1: 14, 2: 6})
    assert effects(direct) == once(events)
    assert recorded(settings, events)


def on_commit(url: str, what: str, attempt: int = 1) -> None:
    """Makes PostgreSQL do something while it commits an effect of the first attempt: deferred triggers run inside COMMIT."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"""
            CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER acts AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.attempt <= {attempt}) EXECUTE FUNCTION act()""")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["PERFORM pg_terminate_backend(pg_backend_pid())", "RAISE EXCEPTION 'not like that'"],
                         ids=["its backend is terminated", "it refuses"])  # fmt: skip
def test_a_commit_in_which_postgresql_fails_is_a_failure_and_tried_again(
        what: str, settings: Settings, tape: Tape, options: Options, url: str) -> None:  # fmt: skip
    on_commit(url, what)
    events = mixed(10)
    tape.record(events)
    run(make_app(), settings, options)
    assert effects(url) == once(events)
    assert recorded(settings, events)


@pytest.mark.parametrize("topic", ["orders/create", "products/update"], ids=["asynchronous", "in a thread"])
def test_a_commit_that_outlasts_the_time_out_comes_through_once(
        topic: str, settings: Settings, tape: Tape, options: Options, url: str) -> None:  # fmt: skip
    on_commit(url, "PERFORM pg_sleep(2)")
    events = [make_event(n, topic=topic) for n in range(3)]
    tape.record(events)
    run(make_app(timeout=0.7), settings, options)
    assert effects(url) == once(events)
    assert recorded(settings, events)


def test_a_handlers_error_undoes_its_writes_and_the_event_is_retried(settings: Settings, tape: Tape, options: Options, url: str) -> None:
    app = App("g")

    @app.on("orders/*")
    async def write(event: Event) -> None:
        async with event.transaction() as connection:
            await connection.execute(INSERT, row(event))
            if event.attempt < 3:
                raise ConnectionError("the warehouse is away")

    events = [make_event(n) for n in range(5)]
    tape.record(events)
    run(app, settings, options)
    with psycopg.connect(url) as connection:
        kept = connection.execute("SELECT webhook_id, attempt FROM effects").fetchall()
        # Two tries on the spot, then a retry topic: what the ledger held of that wait is gone with the success.
        assert connection.execute("SELECT count(*) FROM waiting").fetchone() == (0,)
    assert sorted(kept) == sorted((event.webhook_id, 3) for event in events)
    assert recorded(settings, events)


def test_events_that_waited_behind_a_failed_one_follow_it_in_order(settings: Settings, tape: Tape, options: Options, url: str) -> None:
    app = App("g")

    @app.on("orders/*")
    async def write(event: Event) -> None:
        async with event.transaction() as connection:
            await connection.execute(INSERT, row(event))
            if event.json()["n"] == 0 and event.attempt < 3:
                raise ConnectionError("the warehouse is away")

    events = [make_event(n, order=7) for n in range(5)]
    tape.record(events)
    run(app, settings, replace(options, quick_tries=0))
    with psycopg.connect(url) as connection:
        kept = [webhook_id for (webhook_id,) in connection.execute("SELECT webhook_id FROM effects ORDER BY id")]
        assert connection.execute("SELECT count(*) FROM waiting").fetchone() == (0,)
    assert kept == [event.webhook_id for event in events]
    assert recorded(settings, events)


def test_an_error_after_the_block_is_told_and_the_event_has_succeeded(
        settings: Settings, tape: Tape, options: Options, url: str, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    app = App("g")

    @app.on("orders/*")
    async def write(event: Event) -> None:
        async with event.transaction() as connection:
            await connection.execute(INSERT, row(event))
        raise RuntimeError("the e-mail didn't go out")

    event = make_event(1)
    tape.record([event])
    run(app, settings, options)
    assert effects(url) == once([event])
    assert recorded(settings, [event])
    [told] = [record for record in caplog.records if "after its transaction was committed" in record.getMessage()]
    assert told.levelname == "ERROR"
    assert event.webhook_id in told.hooktape_fields["event"]  # type: ignore[attr-defined]


def test_a_block_whose_time_has_run_out_is_refused_and_the_next_try_writes(
        settings: Settings, tape: Tape, options: Options, url: str) -> None:  # fmt: skip
    app, late = App("g"), list[BaseException]()

    @app.on("products/update", timeout=0.5)
    def write(event: Event) -> None:
        try:
            with event.transaction() as connection:
                connection.execute(INSERT, row(event))
                if event.attempt == 1:
                    time.sleep(1.2)
        except TransactionRefused as error:
            late.append(error)

    event = make_event(1, topic="products/update")
    tape.record([event])

    async def act(worker: Any) -> None:
        await worker.idle()
        await until(lambda: late)

    run(app, settings, options, act)
    assert "too late" in str(late[0])
    with psycopg.connect(url) as connection:
        [(kept, attempt)] = connection.execute("SELECT webhook_id, attempt FROM effects").fetchall()
    assert kept == event.webhook_id
    assert attempt > 1  # the second, but where half a second wasn't enough for that one either


def test_sixteen_handlers_write_at_once_and_their_connections_are_used_again(
        settings: Settings, tape: Tape, options: Options, url: str) -> None:  # fmt: skip
    app, inside, most, backends = App("g"), 0, 0, set[int]()

    @app.on("orders/*", concurrency=16)
    async def write(event: Event) -> None:
        nonlocal inside, most
        async with event.transaction() as connection:
            inside += 1
            most = max(most, inside)
            backends.add(connection.info.backend_pid)
            await connection.execute(INSERT, row(event))
            if event.json()["n"] < 16:
                await until(lambda: most == 16)
            inside -= 1

    events = [make_event(n) for n in range(200)]
    tape.record(events)
    run(app, settings, options)
    assert most == 16
    assert len(backends) == 16
    assert effects(url) == once(events)


def test_versions_and_stale_events_work_as_without(settings: Settings, tape: Tape, options: Options, url: str) -> None:
    app = App("g")

    @app.on("orders/*", skip_stale=True)
    async def write(event: Event) -> None:
        async with event.transaction() as connection:
            await connection.execute(INSERT, row(event))

    new, old = make_event(1, order=7, version=20), make_event(2, order=7, version=10)
    tape.record([new])
    run(app, settings, options)
    tape.record([old])
    run(app, settings, options)
    assert effects(url) == once([new])
    assert states(settings, "g", [new, old]) == {"succeeded": 1, "stale": 1}


@pytest.mark.parametrize(("name", "says"), [
    ("twice", "a second time"), ("swallowed", "a statement failed"), ("by hand", "COMMIT or ROLLBACK of its own"),
    ("plain with", "async with")])  # fmt: skip
def test_a_handler_that_uses_it_wrongly_is_told_how(
        name: str, says: str, settings: Settings, tape: Tape, options: Options, url: str) -> None:  # fmt: skip
    app, told = App("g"), list[str]()

    @app.on("orders/*", max_attempts=1)
    async def write(event: Event) -> None:
        try:
            if name == "plain with":
                with event.transaction():
                    pass
            async with event.transaction() as connection:
                if name == "swallowed":
                    with pytest.raises(psycopg.Error):
                        await connection.execute("SELECT 1 / 0")
                if name == "by hand":
                    with pytest.raises(psycopg.ProgrammingError, match="forbidden"):
                        await connection.commit()
                    await connection.execute("ROLLBACK")
            async with event.transaction():
                pass
        except UsageError as error:
            told.append(str(error))
            raise

    event = make_event(1)
    tape.record([event])
    run(app, settings, options)
    assert says in told[0]
    assert states(settings, "g", [event]) == {"succeeded" if name == "twice" else "dead": 1}
    assert not effects(url)


def test_on_sqlite_it_says_what_to_configure_and_the_event_is_dead_at_once(settings: Settings, tape: Tape, options: Options) -> None:
    on_sqlite = replace(settings, database_url=Secret(""))
    tape.record([make_event(1)])
    run(make_app(), on_sqlite, options)
    [letter] = tape.dead("g")
    found = {key: value.decode() for key, value in letter.headers}
    assert found["hooktape-disposition"] == "permanent"
    assert found["hooktape-attempts"] == "1"
    assert "HOOKTAPE_DATABASE_URL=postgresql://" in found["hooktape-error-message"]


def test_writes_that_the_handler_takes_back_leave_its_own_end(settings: Settings, tape: Tape, options: Options, url: str) -> None:
    app = App("g")

    @app.on("orders/*")
    async def write(event: Event) -> None:
        async with event.transaction() as connection:
            await connection.execute(INSERT, row(event))
            raise psycopg.Rollback

    event = make_event(1)
    tape.record([event])
    run(app, settings, options)
    assert not effects(url)
    assert recorded(settings, [event])


def test_tries_that_have_ended_dont_pile_up(settings: Settings, tape: Tape, options: Options, url: str) -> None:
    tape.record(mixed(300))
    before = tries()

    async def act(worker: Any) -> None:
        await worker.idle()
        gc.collect()
        # A worker's tasks are out of the collector's sight: a circle through one would stay for good.
        # Threads may be about to let the last ones go. What other tests of this process left behind isn't this worker's.
        known = {id(each) for each in before}
        assert len([each for each in tries() if id(each) not in known]) <= 20

    run(make_app(), settings, options, act)


def test_connections_that_died_while_idle_are_replaced(settings: Settings, tape: Tape, options: Options, url: str) -> None:
    events = [make_event(n) for n in range(2)]

    async def act(worker: Any) -> None:
        tape.record(events[:1])
        await until(lambda: worker.finished == 1)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%COMMIT%' AND state = 'idle'")
        tape.record(events[1:])
        await worker.idle()

    run(make_app(), settings, replace(options, quick_tries=0), act)
    with psycopg.connect(url) as connection:
        assert sorted(connection.execute("SELECT webhook_id, attempt FROM effects")) == sorted((e.webhook_id, 1) for e in events)
