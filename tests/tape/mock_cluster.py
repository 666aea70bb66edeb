"""librdkafka's own mock cluster: brokers inside this process that answer with the errors that a test asks for.

The C library exports it (rdkafka_mock.h) and the wheel bundles that library, so that ctypes reaches it; no server is needed. The
mock keeps records and offsets in memory and never checks a producer's sequence numbers: what it's told to answer, it answers.
"""

import ctypes
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

_PRODUCER = 0  # rd_kafka_type_t: which kind of client lends the mock its handle makes no difference
_ERRSTR = 512
_ALL_BROKERS = -1


class Api(IntEnum):
    """Kafka's request types, by their numbers in the protocol."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    INIT_PRODUCER_ID = 22
    CONSUMER_GROUP_HEARTBEAT = 68


@cache
def _library() -> ctypes.CDLL:
    """The very library that confluent_kafka has loaded; skips where it's one without the mock cluster."""
    package = Path(confluent_kafka.__file__).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka[-.]*"), *package.glob(".dylibs/librdkafka*")]
    if not found:
        pytest.skip("confluent_kafka isn't a wheel with a librdkafka of its own: its mock cluster can't be reached")
    library = ctypes.CDLL(str(found[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    short, size, partition, offset = ctypes.c_int16, ctypes.c_size_t, ctypes.c_int32, ctypes.c_int64
    for name, result, arguments in (
        ("conf_new", pointer, []),
        ("conf_set", number, [pointer, text, text, text, size]),
        ("new", pointer, [number, pointer, text, size]),
        ("destroy", None, [pointer]),
        ("err2name", text, [number]),
        ("mock_cluster_new", pointer, [pointer, number]),
        ("mock_cluster_destroy", None, [pointer]),
        ("mock_cluster_bootstraps", text, [pointer]),
        ("mock_topic_create", number, [pointer, text, number, number]),
        ("mock_topic_set_error", None, [pointer, text, number]),
        ("mock_push_request_errors_array", None, [pointer, short, size, ctypes.POINTER(number)]),
        ("mock_clear_request_errors", None, [pointer, short]),
        # Variadic in C: the pairs (error, milliseconds) are added per call.
        ("mock_broker_push_request_error_rtts", number, [pointer, partition, short, size]),
        ("mock_broker_error_stack_cnt", number, [pointer, partition, short, ctypes.POINTER(size)]),
        ("mock_broker_set_down", number, [pointer, partition]),
        ("mock_broker_set_up", number, [pointer, partition]),
        ("mock_broker_set_rtt", number, [pointer, partition, number]),
        ("mock_partition_set_leader", number, [pointer, text, partition, partition]),
        ("mock_partition_delete_records", number, [pointer, text, partition, offset]),
        ("mock_coordinator_set", number, [pointer, text, text, partition]),
        ("mock_group_initial_rebalance_delay_ms", None, [pointer, partition]),
        ("mock_set_group_consumer_session_timeout_ms", None, [pointer, number]),
        ("mock_set_group_consumer_heartbeat_interval_ms", None, [pointer, number]),
        ("mock_set_apiversion", number, [pointer, short, short, short]),
        ("mock_start_request_tracking", None, [pointer]),
        ("mock_get_requests", ctypes.POINTER(pointer), [pointer, ctypes.POINTER(size)]),
        ("mock_request_api_key", short, [pointer]),
        ("mock_request_destroy_array", None, [ctypes.POINTER(pointer), size]),
    ):  # fmt: skip
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """A running cluster of brokers 1 to `brokers`. Errors are librdkafka's numbers, as `KafkaError` has them."""

    def __init__(self, brokers: int = 1) -> None:
        self._library = _library()
        text = ctypes.create_string_buffer(_ERRSTR)
        settings = self._library.rd_kafka_conf_new()
        # Every injected disconnection would be a line on standard error.
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", text, _ERRSTR)
        self._client = self._library.rd_kafka_new(_PRODUCER, settings, text, _ERRSTR)
        assert self._client, text.value.decode()
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        assert self._cluster
        self.brokers = brokers
        self.bootstrap: str = self._call("cluster_bootstraps").decode()
        # Kafka's is 3 s, the mock's own 3 s as well: nobody else is going to join.
        self._call("group_initial_rebalance_delay_ms", 0)
        self._call("set_group_consumer_heartbeat_interval_ms", 100)
        self._call("start_request_tracking")

    def close(self) -> None:
        """Ends its brokers and their thread; clients should be gone by then."""
        cluster, self._cluster = self._cluster, None
        if cluster:
            self._library.rd_kafka_mock_cluster_destroy(cluster)
            self._library.rd_kafka_destroy(self._client)

    def create(self, *topics: str, partitions: int = 1) -> None:
        """Makes topics: the mock takes no CreateTopics."""
        for topic in topics:
            self._check("topic_create", topic.encode(), partitions, self.brokers)

    def fail(self, api: Api, *errors: int) -> None:
        """The next requests of this kind, to whichever broker, are answered so, one each; `_TRANSPORT` hangs up."""
        self._call("push_request_errors_array", api, len(errors), (ctypes.c_int * len(errors))(*errors))

    def relent(self, api: Api) -> None:
        """Forgets what `fail` has left."""
        self._call("clear_request_errors", api)

    def answer(self, api: Api, *answers: tuple[int, int], broker: int = 1) -> None:
        """The broker's next requests of this kind get (error, or 0 for none; milliseconds until the answer) each."""
        pairs = [ctypes.c_int(value) for pair in answers for value in pair]
        self._check("broker_push_request_error_rtts", broker, api, ctypes.c_size_t(len(answers)), *pairs)

    def unanswered(self, api: Api, broker: int = 1) -> int:
        """How many of `answer`'s are left."""
        left = ctypes.c_size_t()
        self._check("broker_error_stack_cnt", broker, api, ctypes.byref(left))
        return left.value

    def down(self, broker: int = _ALL_BROKERS) -> None:
        """Hangs up and refuses connections; leaders stay where they are."""
        self._check("broker_set_down", broker)

    def up(self, broker: int = _ALL_BROKERS) -> None:
        """Takes connections again."""
        self._check("broker_set_up", broker)

    def slow(self, milliseconds: int, broker: int = _ALL_BROKERS) -> None:
        """Every answer comes so late; 0 for at once."""
        self._check("broker_set_rtt", broker, milliseconds)

    def topic_error(self, topic: str, error: int) -> None:
        """What metadata says of the topic; 0 for nothing wrong."""
        self._call("topic_set_error", topic.encode(), error)

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Makes a broker the leader; -1 for none."""
        self._check("partition_set_leader", topic.encode(), partition, broker)

    def expire(self, topic: str, partition: int, before: int) -> None:
        """Removes what lies below the offset `before`, as retention does."""
        self._check("partition_delete_records", topic.encode(), partition, before)

    def coordinate(self, group: str, broker: int) -> None:
        """Makes a broker the group's coordinator."""
        self._check("coordinator_set", b"group", group.encode(), broker)

    def without(self, api: Api) -> None:
        """A cluster too old for a request."""
        self._check("set_apiversion", api, -1, -1)

    @property
    def requests(self) -> Counter[int]:
        """How many requests of each kind have come."""
        count = ctypes.c_size_t()
        found = self._call("get_requests", ctypes.byref(count))
        try:
            return Counter(self._library.rd_kafka_mock_request_api_key(found[n]) for n in range(count.value))
        finally:
            self._library.rd_kafka_mock_request_destroy_array(found, count.value)

    def _call(self, name: str, *arguments: Any) -> Any:
        assert self._cluster, "the cluster is closed"
        return getattr(self._library, f"rd_kafka_mock_{name}")(self._cluster, *arguments)

    def _check(self, name: str, *arguments: Any) -> None:
        error = self._call(name, *arguments)
        assert error == 0, f"{name}: {self._library.rd_kafka_err2name(error).decode()}"


@contextmanager
def mock_cluster(brokers: int = 1) -> Iterator[MockCluster]:
    """A mock cluster for a `with` block."""
    cluster = MockCluster(brokers)
    try:
        yield cluster
    finally:
        cluster.close()
