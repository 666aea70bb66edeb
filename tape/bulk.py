"""Publishes to one topic in bulk and in order: no future for each record, one counter for each batch.

A failed record must not be overtaken for good by what came after it: everything from the first batch that isn't whole is sent again, in
order. So a record may lie there twice, never in the wrong order behind one that has been there since.
"""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from hooktape import log
from hooktape.errors import RecordTooLarge, TapeUnavailable, TopicMissing
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.headers import Packed

_log = log.get("hooktape.tape")
# How often a batch is sent again: with librdkafka's own patience of 10 s each, beyond two minutes.
_TRIES = 12
_HOPELESS = {
    KafkaError.MSG_SIZE_TOO_LARGE: RecordTooLarge, KafkaError.INVALID_MSG_SIZE: RecordTooLarge,
    KafkaError.UNKNOWN_TOPIC_OR_PART: TopicMissing, KafkaError._UNKNOWN_TOPIC: TopicMissing,
}  # fmt: skip

Outgoing = tuple[bytes, bytes | None, Packed]
"""Value, key, headers."""


class _Batch:
    """Records on their way. Kafka's answers are counted, the first refusal is kept."""

    __slots__ = ("error", "left", "records", "token")

    def __init__(self, records: Sequence[Outgoing], token: Any) -> None:
        self.records, self.token = records, token
        self.left = len(records)
        self.error: KafkaError | None = None

    def told(self, error: KafkaError | None, message: Message) -> None:
        # Without an offset the broker only said "a record of this number is here already": what can't be pointed at isn't durable.
        if error is None and (message.offset() or 0) >= 0:
            self.left -= 1
        elif self.error is None:
            self.error = error or KafkaError(KafkaError._MSG_TIMED_OUT)


class Bulk:
    """Sends batches; `done` says which are on Kafka. One thread at a time. `close` it, or use it as a context manager."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._producer = self._made()
        self._batches: deque[_Batch] = deque()
        self._tries = 0

    def _made(self) -> Producer:
        # Nobody waits for one record: batches gather, a slow broker gets time. Bounded, since it's most of what a runner weighs.
        return clients.producer(self._settings, **{
            "linger.ms": 10, "delivery.timeout.ms": 10_000, "request.timeout.ms": 5_000, "batch.num.messages": 2000,
            "queue.buffering.max.kbytes": 32768})  # fmt: skip

    def __enter__(self) -> "Bulk":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives up what isn't acknowledged yet: whether it's on Kafka isn't known."""
        self._producer.purge()
        self._producer.flush(1.0)

    @property
    def unacknowledged(self) -> int:
        """Records handed over and not known to be on Kafka."""
        return sum(batch.left for batch in self._batches)

    def send(self, records: Sequence[Outgoing], token: Any) -> None:
        """Hands over a batch; `token` is what `done` will give back. Waits where the bounded queue is full. Raises as `tend` does."""
        batch = _Batch(records, token)
        self._batches.append(batch)
        self._produce(batch)

    def _produce(self, batch: _Batch) -> None:
        produce, topic, told = self._producer.produce, self._topic, batch.told
        for value, key, headers in batch.records:
            while True:
                try:
                    produce(topic, value, key, headers=headers, on_delivery=told)
                    break
                except BufferError:
                    self._poll(0.05)
                except KafkaException as error:
                    batch.error = error.args[0]
                    return
        self._poll(0)

    def _poll(self, seconds: float) -> None:
        try:
            self._producer.poll(seconds)
        except KafkaException as error:  # fatal: this producer sends no more
            for batch in self._batches:
                batch.error = batch.error or error.args[0]

    def done(self, within: float = 0.0) -> list[Any]:
        """The tokens of the batches that have become whole since it was last asked, in order; waits `within` seconds for Kafka's word.

        Sends again what failed. Raises TapeUnavailable when that doesn't help for two minutes, RecordTooLarge, TopicMissing.
        """
        self._poll(within)
        found = []
        while self._batches and self._batches[0].left == 0 and self._batches[0].error is None:
            found.append(self._batches.popleft().token)
            self._tries = 0
        failed = next((batch.error for batch in self._batches if batch.error is not None), None)
        if failed is not None:
            self._again(failed)
        return found

    def _again(self, error: KafkaError) -> None:
        if error.code() in _HOPELESS:
            raise _HOPELESS[error.code()](f"Kafka refuses a record for {self._topic}: {error.str()}")
        self._tries += 1
        if self._tries > _TRIES:
            raise TapeUnavailable(f"Kafka doesn't acknowledge: {error.str()}")
        _log.warning("a batch wasn't acknowledged; everything from it on is sent again", topic=self._topic, error=error.str())
        # What waits in the queue must not go now, before what failed.
        self.close()
        time.sleep(min(5.0, 0.1 * 2**self._tries))
        self._producer = self._made()
        waiting, self._batches = self._batches, deque()
        for batch in waiting:
            self.send(batch.records, batch.token)
