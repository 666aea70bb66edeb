"""The one publisher: an asyncio face on librdkafka's producer. A record's future is done when Kafka acknowledged it.

The loop itself polls, and only while something is awaited: a thread of its own would fight for the interpreter's lock with every
callback (measured at 256 connections: a fifth less). `AIOProducer` isn't used: it drops headers and holds a lone record for
seconds.

    building ──▶ ready ──fatal error──▶ broken ──rebuilt──▶ ready
                   └──────────close──────────▶ closed

A fatal producer error (an idempotence violation, say) is raised from `poll()`; it fails what waits, and a new producer is built. The
same goes for one that has lost every broker (`clients.Solitude`).
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from hooktape import log, metrics
from hooktape.errors import HooktapeError, RecordTooLarge, TapeError, TapeFull, TapeUnavailable, TopicMissing
from hooktape.schemas.event import Coordinates
from hooktape.settings import Settings
from hooktape.tape import clients, headers

_log = log.get("hooktape.tape")
_Waiting = asyncio.Future[Coordinates]
# Between two looks for delivery reports while some are awaited; the event loop's timers have whole milliseconds.
_POLL_SECONDS = 0.001
# The same from within `publish`: under load a turn of the loop takes longer than a timer's millisecond.
_LOOK_SECONDS = 0.0004
# The same while none are: librdkafka's own news (a broker gone, a fatal error) can wait so long.
_IDLE_SECONDS = 0.1
_ACKNOWLEDGED = metrics.PUBLISH_SECONDS.labels("acknowledged")
_FAILED = metrics.PUBLISH_SECONDS.labels("failed")
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE}
_NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
# Kafka's largest partition number: no topic has it.
_NO_PARTITION = 2**31 - 1
# Between two tries to build a producer after a fatal error: long enough not to spin, short beside Shopify's 5 s.
_REBUILD_PAUSE = 0.5
_Report = tuple[_Waiting, TapeError | None, Coordinates | None, float]


class Publisher:
    """Publishes records and tells when they're durable. Made and used on one running event loop.

    `overrides` are librdkafka properties for this use (a replayer lingers longer than ingest).
    """

    def __init__(self, settings: Settings, **overrides: Any) -> None:
        self._settings = settings
        self._overrides = overrides
        self._loop = asyncio.get_running_loop()
        self._solitude = clients.Solitude()
        self._producer: Producer | None = self._make()
        self._waiting: set[_Waiting] = set()
        self._learning: set[asyncio.Future[None]] = set()
        self._looked = 0.0
        self._reports: list[_Report] = []
        self._timer = self._loop.call_later(_IDLE_SECONDS, self._poll)

    def _make(self) -> Producer:
        self._solitude = clients.Solitude()
        return clients.producer(self._settings, **self._solitude.properties(), **self._overrides)

    @property
    def outstanding(self) -> int:
        """Records handed over and not yet acknowledged."""
        return len(self._waiting)

    def publish(self, topic: str, value: bytes | None, *, key: str | bytes | None, extra: Mapping[str, str] | headers.Packed,
                partition: int = -1) -> _Waiting:  # fmt: skip
        """Hands a record to Kafka; the future's result is where it lies.

        The future raises TapeUnavailable (not acknowledged in time), RecordTooLarge, TopicMissing, TapeFull (the bounded queue
        is full: nothing was taken) or TapeError. Never blocks, never raises by itself. A cancelled future doesn't
        recall the record.
        """
        future: _Waiting = self._loop.create_future()
        now = time.perf_counter()
        packed = extra if isinstance(extra, list) else headers.pack(extra)
        if self._producer is None:
            future.set_exception(TapeUnavailable("the producer failed and is being rebuilt"))
            return future
        try:
            self._producer.produce(topic, value, key, partition, headers=packed, on_delivery=partial(self._delivered, future, now))
        except BufferError:
            future.set_exception(TapeFull("the producer's queue is full: Kafka takes less than comes in"))
        except KafkaException as error:
            future.set_exception(_as_error(error.args[0], topic))
        else:
            if not self._waiting:
                self._timer.cancel()
                self._timer = self._loop.call_later(_POLL_SECONDS, self._poll)
            self._waiting.add(future)
        if now - self._looked > _LOOK_SECONDS:
            self._collect(now)
        return future

    def _delivered(self, future: _Waiting, start: float, error: KafkaError | None, message: Message) -> None:
        refusal, at, offset = None, None, message.offset()
        # Without an offset the broker only said "a record of this number is here already" (a request sent again). librdkafka has
        # acknowledged records so that were dropped (its change log, 1.9.0): what can't be pointed at isn't called durable.
        if error is not None:
            refusal = _as_error(error, message.topic() or "")
        elif offset is not None and offset >= 0:
            at = Coordinates(message.topic() or "", message.partition() or 0, offset)
        else:
            refusal = TapeUnavailable("Kafka says that it has the record already, but not where")
        self._reports.append((future, refusal, at, time.perf_counter() - start))

    def _poll(self) -> None:
        """Takes the delivery reports that have come, and looks again: soon while some are awaited, at times otherwise."""
        if self._collect(time.perf_counter()):
            self._timer = self._loop.call_later(_POLL_SECONDS if self._waiting else _IDLE_SECONDS, self._poll)

    def _collect(self, now: float) -> bool:
        """Takes the delivery reports that have come; False when there's no producer (any more)."""
        self._looked = now
        producer = self._producer
        if producer is None:
            return False
        try:
            producer.poll(0)
        except KafkaException as error:
            # The same poll may have brought acknowledgements first: what is durable is told as durable.
            self._settle()
            self._break(error.args[0].str())
            return False
        if self._reports:
            self._settle()
        if self._solitude.lasts:
            self._break("it was told of no broker, and looks for none any more")
            return False
        return True

    def _settle(self) -> None:
        reports, self._reports = self._reports, []
        for future, refusal, at, seconds in reports:
            self._waiting.discard(future)
            (_FAILED if at is None else _ACKNOWLEDGED).observe(seconds)
            if future.done():
                continue
            if at is not None:
                future.set_result(at)
            elif refusal is not None:
                future.set_exception(refusal)

    def _break(self, why: str) -> None:
        self._timer.cancel()
        _log.error("the producer failed for good and is rebuilt", error=why)
        self._producer = None
        self._fail_all(f"the producer failed: {why}")
        for future in self._learning:
            if not future.done():
                future.set_exception(TapeUnavailable(f"the producer failed: {why}"))
        self._timer = self._loop.call_later(_REBUILD_PAUSE, self._rebuild)

    def _fail_all(self, why: str) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_exception(TapeUnavailable(f"{why}. Whether the record is on the tape isn't known."))

    def _rebuild(self) -> None:
        try:
            self._producer = self._make()
        except (KafkaException, HooktapeError) as error:
            _log.error("the producer can't be rebuilt yet", error=str(error))
            self._timer = self._loop.call_later(_REBUILD_PAUSE, self._rebuild)
        else:
            self._poll()

    async def warm_up(self, topics: Iterable[str], within: float) -> None:
        """Learns where the partitions of `topics` are and connects, so that the first record doesn't pay for it (0.5–1 s).

        Writes nothing: a record for a partition that can't exist makes librdkafka ask for the topic and then fails here. Raises
        TapeUnavailable when that takes longer than `within` seconds, or the producer fails meanwhile.
        """
        producer = self._producer
        if producer is None:
            raise TapeUnavailable("the producer failed and is being rebuilt")
        asked: set[asyncio.Future[None]] = set()

        def learnt(future: asyncio.Future[None], error: KafkaError | None, message: Message) -> None:
            if not future.done():
                future.set_result(None)

        for topic in topics:
            future: asyncio.Future[None] = self._loop.create_future()
            # A topic that's known already refuses the partition at once; a full queue means that nobody waits for a first record.
            with contextlib.suppress(KafkaException, BufferError):
                producer.produce(topic, b"", partition=_NO_PARTITION, on_delivery=partial(learnt, future))
                asked.add(future)
        if not asked:
            return
        self._learning |= asked
        try:
            told, silent = await asyncio.wait(asked, timeout=within)
        finally:
            self._learning -= asked
        for future in told:
            future.result()
        if silent:
            raise TapeUnavailable(f"Kafka didn't tell about {len(silent)} topics within {within:g} s")

    async def flush(self, within: float) -> None:
        """Waits until everything handed over is settled. Raises TapeUnavailable after `within` seconds."""
        if self._waiting:
            _, late = await asyncio.wait(self._waiting, timeout=within)
            if late:
                raise TapeUnavailable(f"{len(late)} records weren't acknowledged within {within:g} s")

    async def close(self, within: float = 5.0) -> None:
        """Flushes for at most `within` seconds. What isn't acknowledged by then raises in its future."""
        with contextlib.suppress(TapeUnavailable):
            await self.flush(within)
        self._timer.cancel()
        self._fail_all("the publisher was closed")
        self._producer = None


def _as_error(error: KafkaError, topic: str = "") -> TapeError:
    if error.code() in _NO_TOPIC:
        return TopicMissing(f"Kafka has no topic {topic}. Run `hooktape topics apply`.".replace("topic .", "such topic."))
    if error.code() in _TOO_LARGE:
        return RecordTooLarge(f"a record{f' for {topic}' if topic else ''} is larger than the topic takes: {error.str()}")
    return TapeUnavailable(f"Kafka didn't acknowledge the record{f' for {topic}' if topic else ''}: {error.str()}")
