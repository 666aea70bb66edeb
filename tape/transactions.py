"""Records that are on the tape all together or not at all, from one writer at a time: a fenced, transactional producer.

`open` fences: whoever held the name before can commit nothing any more, and what it had left open is settled (committed if
its commit had begun, else undone) before the call returns. So who opens, reads the tape to its end and then writes, decides by
all that its predecessors ever wrote (KIP-98; confluent-kafka `init_transactions`).

An open transaction holds readers back at its first record: it is kept short and small.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from hooktape import crash
from hooktape.errors import Fenced, TapeError, TapeUnavailable
from hooktape.settings import Settings
from hooktape.tape import clients, headers

RECORDS = 100
"""Most records of one transaction."""
BYTES = 4 * 1024 * 1024
"""About as much as a broker takes within the time that readers may be held back; a single larger record goes alone."""
# After which the broker undoes what a dead writer left open, and readers go on: the shortest that bears a broker's restart.
_TIMEOUT_MS = 10_000
# An answer that was lost is asked for again within this time; after that the outcome isn't known and the name is opened anew.
_PATIENCE = 8.0
_MOMENT = 0.05
_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be written."""

    topic: str
    key: str | bytes | None
    value: bytes
    headers: Mapping[str, str]


class Writer:
    """The one writer of a name. Blocks: to be used from a thread, one at a time; `close` it."""

    def __init__(self, producer: Producer) -> None:
        self._producer: Producer | None = producer

    @classmethod
    def open(cls, settings: Settings, name: str) -> "Writer":
        """Becomes the writer of `name` and fences all others of that name. Raises TapeUnavailable."""
        producer = clients.producer(settings, **{
            "transactional.id": f"{settings.topic_prefix}.{name}", "transaction.timeout.ms": _TIMEOUT_MS,
            # Nothing is waited for that `flush` wouldn't send at once.
            "linger.ms": 0,
        })  # fmt: skip
        writer = cls(producer)
        try:
            writer._call(lambda: producer.init_transactions(_PATIENCE))
        except TapeError:
            writer.close()
            raise
        return writer

    def write(self, records: Sequence[Outgoing]) -> None:
        """Writes all of them, in as many transactions as their number and size ask for.

        Raises Fenced when another writer of the name was opened; TapeUnavailable, after which it must be closed: of the last
        transaction it isn't known whether it took place, and whoever opens the name next can read so.
        """
        for part in parts(records):
            self._write(part)

    def close(self) -> None:
        """Ends the client. What was left open is undone."""
        self._producer = None

    def _write(self, records: Sequence[Outgoing]) -> None:
        producer = self._producer
        if producer is None:
            raise TapeUnavailable("the writer was closed")
        self._call(producer.begin_transaction)
        try:
            for record in records:
                producer.produce(record.topic, record.value, record.key, headers=headers.pack(record.headers))
            producer.flush(_PATIENCE)
            crash.point("reconcile-in-transaction")
            # A record that couldn't be written fails the commit.
            self._call(lambda: producer.commit_transaction(_PATIENCE))
        except (KafkaException, BufferError, TapeError) as error:
            self._undo(producer, error)

    def _undo(self, producer: Producer, error: Exception) -> None:
        """Ends a transaction that failed, and raises why. The writer isn't used any more: after a record that the broker refused,
        it and librdkafka may number the next ones differently."""
        self.close()
        if isinstance(error, Fenced):
            raise error
        cause = error.args[0] if isinstance(error, KafkaException) else None
        if cause is not None and cause.code() in _FENCED:
            raise _fenced() from None
        with contextlib.suppress(TapeError):
            # Else the next writer of the name does it.
            self._call(lambda: producer.abort_transaction(_PATIENCE))
        said = cause.str() if cause is not None else str(error)
        raise TapeUnavailable(f"the transaction was not committed, as far as is known: {said}") from None

    def _call(self, step: Callable[[], T]) -> T:
        """A step of the protocol, asked again while its answer is on its way."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return step()
            except KafkaException as error:
                cause: KafkaError = error.args[0]
                if cause.code() in _FENCED:
                    raise _fenced() from None
                if cause.txn_requires_abort() or not cause.retriable() or time.monotonic() > deadline:
                    raise TapeUnavailable(f"Kafka refused a step of a transaction: {cause.str()}") from None
            time.sleep(_MOMENT)


def parts(records: Sequence[Outgoing]) -> list[list[Outgoing]]:
    """The records in order, cut where a transaction would get too many or too large. Pure."""
    found: list[list[Outgoing]] = []
    size = 0
    for record in records:
        if not found or len(found[-1]) >= RECORDS or size + len(record.value) > BYTES:
            found.append([])
            size = 0
        found[-1].append(record)
        size += len(record.value)
    return found


def _fenced() -> Fenced:
    return Fenced("another process writes under this name now: this one's transaction was refused, and nothing of it is on the tape")
