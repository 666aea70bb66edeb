"""What brokers answer to a worker's consumer: it reads on and its offsets are saved, or it ends with a clear error."""

import asyncio
import contextlib
import ctypes
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from hooktape.consumers import commits
from hooktape.consumers.births import BEGINNING
from hooktape.consumers.deliveries import Assigned, Broken, Delivery, Lost, Plan, Revoked
from hooktape.consumers.source import Source
from hooktape.consumers.task import Home, Rank, Tenure
from hooktape.consumers.tracker import Position
from hooktape.errors import HooktapeError
from hooktape.schemas import codec
from hooktape.settings import Settings
from hooktape.tape import clients, groups
from hooktape.tape.wire import Wire
from tests.tape.mock_cluster import Api, MockCluster, mock_cluster

from .conftest import make_event, until

TOPIC, GROUP = "t", "g"
_HEARTBEAT = {"classic": Api.HEARTBEAT, "consumer": Api.CONSUMER_GROUP_HEARTBEAT}


class Heard:
    """A source on the mock cluster, and all that it has said."""

    def __init__(self, cluster: MockCluster, settings: Settings) -> None:
        self.cluster, self.settings = cluster, settings
        self.source: Source
        self.make: Callable[..., Any] = clients.consumer
        self.homes: list[Home] = []
        self.offsets: list[int] = []
        self.revoked: list[bool] = []
        """For each revocation, whether there was still something to commit."""
        self.lost: list[Lost] = []
        self.broken: list[HooktapeError] = []
        self._written = 0

    def take(self, source: Source, delivery: Delivery) -> None:
        match delivery:
            case list():
                source.received += len(delivery)
                self.offsets += [record.offset for record in delivery]
            case Assigned(homes):
                self.homes += homes
                for home in homes:
                    source.hold(home, False)
            case Revoked(_, answer):
                self.revoked.append(answer is not None)
                if answer is not None:
                    answer.set_result({})
            case Lost():
                self.lost.append(delivery)
            case Broken(error):
                self.broken.append(error)

    async def write(self, number: int = 1) -> int:
        """Puts events on the topic; the offset behind them."""
        producer = clients.producer(self.settings)
        for _ in range(number):
            producer.produce(TOPIC, codec.encode(make_event(self._written)), partition=0)
            self._written += 1
        assert await asyncio.to_thread(producer.flush, 10) == 0
        return self._written

    async def read_on(self) -> None:
        """Writes an event and waits until it has been read."""
        end = await self.write()
        await until(lambda: self.offsets[-1:] == [end - 1])

    def commit(self, offset: int) -> None:
        self.source.commit({self.homes[-1]: Position(offset, "")})

    async def committed(self, offset: int) -> None:
        """Waits until the group has committed `offset`."""

        def there() -> bool:
            return groups.committed(self.settings, GROUP, [(TOPIC, 0)]).get((TOPIC, 0)) == offset

        await asyncio.to_thread(_wait_for, there)


def _wait_for(condition: Callable[[], bool], within: float = 10.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "what was waited for didn't come"
        time.sleep(0.02)


@contextlib.asynccontextmanager
async def listening(heard: Heard) -> AsyncIterator[None]:
    """A source that has read three events."""
    settings = heard.settings
    plan = Plan(GROUP, {TOPIC: None}, Rank.LIVE, BEGINNING, 100, 100, member=True)
    heard.source = Source(settings, plan, Wire(settings), asyncio.get_running_loop(), heard.take, heard.make)
    try:
        await heard.write(3)
        await until(lambda: heard.offsets == [0, 1, 2])
        yield
    finally:
        await heard.source.stop({}, 10)


@pytest.fixture(params=["classic", "consumer"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with mock_cluster() as found:
        found.create(TOPIC)
        yield found


@pytest.fixture
def heard(cluster: MockCluster, protocol: str, tmp_path: Path) -> Heard:
    own = {"group.protocol": protocol}
    if protocol == "classic":
        own["heartbeat.interval.ms"] = "100"  # a KIP-848 member is told by the broker
    return Heard(cluster, Settings(kafka=cluster.bootstrap, home=tmp_path, kafka_properties=own))


def run(heard: Heard, act: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with listening(heard):
            await asyncio.wait_for(act(), 20)

    asyncio.run(main())


def names(*codes: int) -> object:
    return pytest.mark.parametrize("error", codes, ids=lambda code: KafkaError(code).name())


class Raising:
    """A consumer that raises a bare KafkaError once it's `armed`, as confluent-kafka does where its own handling of a rebalance fails:
    that class is no exception, and Python's `raise` refuses it."""

    def __init__(self, consumer: Any, armed: threading.Event) -> None:
        self._consumer, self._armed = consumer, armed

    def poll(self, timeout: float) -> Any:
        if self._armed.is_set():
            error = KafkaError(KafkaError._INVALID_ARG)
            ctypes.pythonapi.PyErr_SetObject(ctypes.py_object(KafkaError), ctypes.py_object(error))
        return self._consumer.poll(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def test_an_error_that_python_knows_for_none_ends_the_worker_and_not_its_thread_alone(heard: Heard) -> None:
    armed = threading.Event()
    heard.make = lambda *args, **config: Raising(clients.consumer(*args, **config), armed)

    async def act() -> None:
        armed.set()
        await until(lambda: heard.broken)
        assert "the consumer of group g failed: " in str(heard.broken[0])
        assert "_INVALID_ARG" in str(heard.broken[0])

    run(heard, act)


@names(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR, KafkaError.REBALANCE_IN_PROGRESS,
       KafkaError.FENCED_MEMBER_EPOCH, KafkaError.STALE_MEMBER_EPOCH)  # fmt: skip
def test_a_commit_that_is_refused_is_made_again_without_anything_new_to_commit(heard: Heard, error: int) -> None:
    async def act() -> None:
        await heard.committed(0)  # at the group's birth
        heard.cluster.answer(Api.OFFSET_COMMIT, (error, 0))
        heard.commit(2)
        await heard.committed(2)
        await heard.read_on()

    run(heard, act)
    assert heard.broken == []


@pytest.mark.parametrize("protocol", ["consumer"], indirect=True)
def test_a_member_that_its_group_has_forgotten_is_made_anew(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "DISOWNED_SECONDS", 1.0)

    async def act() -> None:
        heard.cluster.answer(Api.OFFSET_COMMIT, *[(KafkaError.UNKNOWN_MEMBER_ID, 0)] * 3)
        heard.commit(2)
        await until(lambda: len(heard.homes) == 2)
        end = await heard.write()
        await until(lambda: heard.offsets[-1:] == [end - 1])
        heard.commit(end)
        await heard.committed(end)

    run(heard, act)
    assert (heard.offsets[:3], heard.revoked[:1], heard.broken) == ([0, 1, 2], [False], [])


class Lonely:
    """Makes consumers. Once it's `begun`, the first one hears nothing any more and says that it has no broker."""

    def __init__(self) -> None:
        self.made = 0
        self.begun = False

    def __call__(self, settings: Settings, group: str, **config: Any) -> Any:
        self.made += 1
        consumer = clients.consumer(settings, group, **config)
        return consumer if self.made > 1 else LonelyConsumer(self, consumer, config["stats_cb"])


class LonelyConsumer:
    def __init__(self, maker: Lonely, consumer: Any, tell: Callable[[str], None]) -> None:
        self._maker, self._consumer, self._tell = maker, consumer, tell

    def poll(self, timeout: float) -> Any:
        if not self._maker.begun:
            return self._consumer.poll(timeout)
        self._tell('{"brokers": {"GroupCoordinator": {"source": "logical", "tx": 1, "req": {}}}, "ts": 1}')
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


# The mock cluster lets nobody in after a classic member has left; `test_unread.py` does the same with a real one.
@pytest.mark.parametrize("protocol", ["consumer"], indirect=True)
def test_a_member_that_has_lost_every_broker_is_made_anew_and_reads_from_what_is_committed(heard: Heard) -> None:
    heard.make = lonely = Lonely()

    async def act() -> None:
        heard.commit(2)
        await heard.committed(2)
        lonely.begun = True
        await until(lambda: len(heard.homes) == 2)
        end = await heard.write()
        await until(lambda: heard.offsets[-1:] == [end - 1])
        heard.commit(end)
        await heard.committed(end)

    run(heard, act)
    assert (heard.offsets, heard.revoked[:1], heard.broken, lonely.made) == ([0, 1, 2, 2, 3], [False], [], 2)


def test_a_follower_that_has_lost_every_broker_is_made_anew_and_goes_on_where_it_was(heard: Heard) -> None:
    lonely = Lonely()
    plan = Plan(GROUP, {TOPIC: None}, Rank.REPLAY, BEGINNING, 100, 100)

    async def main() -> None:
        source = Source(heard.settings, plan, Wire(heard.settings), asyncio.get_running_loop(), heard.take, lonely)
        try:
            await heard.write(3)
            source.follow(Tenure(0, 1))
            await until(lambda: heard.offsets == [0, 1, 2])
            lonely.begun = True
            await until(lambda: lonely.made == 2)
            await heard.write(2)
            await until(lambda: heard.offsets == [0, 1, 2, 3, 4])
        finally:
            await source.stop({}, 10)

    asyncio.run(main())
    assert (len(heard.homes), heard.revoked, heard.broken) == (1, [], [])


@names(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR, KafkaError._TRANSPORT)
def test_a_heartbeat_that_fails_for_a_moment_moves_nothing(heard: Heard, protocol: str, error: int) -> None:
    async def act() -> None:
        heard.cluster.answer(_HEARTBEAT[protocol], (error, 0))
        await until(lambda: heard.cluster.unanswered(_HEARTBEAT[protocol]) == 0)
        await heard.read_on()
        heard.commit(4)
        await heard.committed(4)

    run(heard, act)
    assert (heard.offsets, heard.revoked, heard.broken) == ([0, 1, 2, 3], [], [])


@names(KafkaError.FENCED_MEMBER_EPOCH, KafkaError.UNKNOWN_MEMBER_ID)
@pytest.mark.parametrize("protocol", ["consumer"], indirect=True)
def test_a_member_that_is_fenced_loses_its_partitions_and_goes_on_from_what_is_committed(heard: Heard, error: int) -> None:
    async def act() -> None:
        heard.commit(2)
        await heard.committed(2)
        heard.cluster.answer(Api.CONSUMER_GROUP_HEARTBEAT, (error, 0))
        await until(lambda: len(heard.homes) == 2)
        await heard.read_on()

    run(heard, act)
    assert heard.revoked[0] is False  # there was nothing left to commit: the partitions were somebody else's already
    assert heard.homes[1].base == 2
    assert heard.offsets == [0, 1, 2, 2, 3]


@names(KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.UNRELEASED_INSTANCE_ID)
@pytest.mark.parametrize("protocol", ["consumer"], indirect=True)
def test_a_fatal_refusal_of_the_member_ends_the_source_with_its_reason(heard: Heard, error: int) -> None:
    async def act() -> None:
        heard.cluster.answer(Api.CONSUMER_GROUP_HEARTBEAT, (error, 0))
        await until(lambda: heard.broken)

    run(heard, act)
    assert KafkaError(error).str().removeprefix("Broker: ") in str(heard.broken[0])
    assert f"group {GROUP}" in str(heard.broken[0])


def test_a_topic_that_we_may_not_read_ends_the_source_with_its_reason(heard: Heard) -> None:
    async def act() -> None:
        heard.cluster.answer(Api.FETCH, (KafkaError.TOPIC_AUTHORIZATION_FAILED, 0))
        await until(lambda: heard.broken)

    run(heard, act)
    assert "Topic authorization failed" in str(heard.broken[0])


@pytest.mark.parametrize("protocol", ["consumer"], indirect=True)
def test_a_kip_848_member_stays_one(heard: Heard) -> None:
    async def act() -> None:
        await asyncio.to_thread(_wait_for, lambda: heard.source._membership._silence.over)

    run(heard, act)
    assert heard.cluster.requests[Api.JOIN_GROUP] == 0


@names(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.OFFSET_NOT_AVAILABLE,
       KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._TRANSPORT)  # fmt: skip
def test_a_fetch_that_fails_for_a_moment_goes_on_at_its_offset(heard: Heard, error: int) -> None:
    async def act() -> None:
        heard.cluster.answer(Api.FETCH, (error, 0))
        await until(lambda: heard.cluster.unanswered(Api.FETCH) == 0)
        await heard.read_on()

    run(heard, act)
    assert (heard.offsets, heard.lost, heard.broken) == ([0, 1, 2, 3], [], [])


def test_records_that_expired_before_they_were_read_are_told_as_lost(heard: Heard) -> None:
    async def act() -> None:
        heard.source.hold(heard.homes[-1], True)
        await until(lambda: heard.source._assignments._held_back)
        end = await heard.write(20)
        heard.cluster.expire(TOPIC, 0, end - 5)
        heard.source.hold(heard.homes[-1], False)
        await until(lambda: heard.offsets[-1:] == [end - 1])

    run(heard, act)
    assert [(lost.first, lost.to) for lost in heard.lost] == [(3, 18)]
    assert heard.offsets == [0, 1, 2, 18, 19, 20, 21, 22]


def test_a_broker_that_goes_and_comes_back_is_read_on_from(heard: Heard) -> None:
    async def act() -> None:
        heard.cluster.down()
        await asyncio.sleep(0.3)  # some tries fail
        heard.cluster.up()
        await heard.read_on()
        heard.commit(4)
        await heard.committed(4)

    run(heard, act)
    assert heard.offsets == [0, 1, 2, 3]
    assert heard.broken == []


@pytest.mark.parametrize("protocol", ["consumer"], indirect=True)
def test_brokers_that_refuse_kip_848_get_a_classic_member(heard: Heard, tmp_path: Path) -> None:
    heard.cluster.answer(Api.CONSUMER_GROUP_HEARTBEAT, (KafkaError.UNSUPPORTED_VERSION, 0))
    heard.settings = Settings(kafka=heard.cluster.bootstrap, home=tmp_path)

    async def act() -> None:
        heard.commit(3)
        await heard.committed(3)

    run(heard, act)
    assert heard.cluster.requests[Api.JOIN_GROUP] > 0


@pytest.mark.parametrize("protocol", ["consumer"], indirect=True)
def test_brokers_that_have_never_heard_of_kip_848_get_a_classic_member(heard: Heard, tmp_path: Path) -> None:
    """The client neither sends a heartbeat that the broker doesn't know, nor says so."""
    heard.cluster.without(Api.CONSUMER_GROUP_HEARTBEAT)
    heard.settings = Settings(kafka=heard.cluster.bootstrap, home=tmp_path)

    async def act() -> None:
        heard.commit(3)
        await heard.committed(3)

    run(heard, act)
    assert heard.cluster.requests[Api.JOIN_GROUP] > 0
    assert heard.cluster.requests[Api.CONSUMER_GROUP_HEARTBEAT] == 0
