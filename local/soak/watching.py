"""The witness's eyes: the file that the handlers write, committed offsets by the clock, and what lies on Kafka and in the ledger."""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import KafkaException, TopicPartition

from hooktape.errors import LedgerUnavailable, TapeUnavailable
from hooktape.ledger.items import START
from hooktape.ledger.jobs import JobState
from hooktape.ledger.ledger import Ledger
from hooktape.local.soak.history import Attempt, Commit, Fault, Item, Outcome, Record, Row
from hooktape.local.soak.view import RESENT_SECONDS
from hooktape.local.soak.workload import GROUP
from hooktape.schemas.event import Event, EventKey
from hooktape.settings import Settings
from hooktape.tape import clients, groups, headers
from hooktape.tape.names import Kind, Names
from hooktape.tape.reader import Reader
from hooktape.tape.reader import Record as Raw
from hooktape.tape.wire import Wire

SAMPLE_SECONDS = 0.2
# Outcomes asked for in one query of the ledger.
_CHUNK = 500
# A block has a few dozen replays.
_JOBS, _PAGE = 10_000, 5_000
# Seconds for a server that's killed, or loses its own session on a busy machine, to answer again; and between two questions.
_PATIENCE, _MOMENT = 60.0, 0.2


class Effects:
    """The handlers' file, read as it grows."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self._open: dict[str, dict[str, Any]] = {}
        self._done: list[Attempt] = []
        self.pids: set[int] = set()
        """Processes that have called a handler."""
        self.ended: Counter[str] = Counter()
        """Replay → calls that have come to their end."""

    def look(self) -> int:
        """Takes in what was written since; the number of calls that have begun and not ended."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "start" in told:
                self._open[told["start"]] = told
                self.pids.add(told["pid"])
            elif began := self._open.pop(told["end"], None):
                self._done.append(_attempt(began, told["t"], told["ok"]))
                self.ended[began["generation"]] += 1
        return len(self._open)

    def attempts(self) -> list[Attempt]:
        """All calls, those that never ended too."""
        self.look()
        return self._done + [_attempt(began, None, False) for began in self._open.values()]

    def close(self) -> None:
        self._file.close()


def _attempt(began: dict[str, Any], end: float | None, ok: bool) -> Attempt:
    return Attempt(GROUP, began["handler"], began["wid"], began["lane"], began["resource"], began["version"], began["attempt"],
                   began["generation"], began["pid"], began["t"], end, ok)  # fmt: skip


class Sampler:
    """Asks for the group's committed offsets every 200 ms, from a thread and with a client of its own that never joins."""

    def __init__(self, settings: Settings, topics: Iterable[str]) -> None:
        self.commits: list[Commit] = []
        self.silences: list[Fault] = []
        """When the broker didn't answer, or not in time."""
        self._ends: dict[str, int] = {}
        self._settings = settings
        self._wanted = [(topic, number) for topic in topics for number in range(settings.partitions)]
        self._consumer = clients.consumer(settings, GROUP)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak-sampler", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._sample()
            self._ending.wait(SAMPLE_SECONDS)

    def _sample(self) -> None:
        t0 = time.monotonic()
        try:
            answer = groups.committed_by(self._consumer, [TopicPartition(*place) for place in self._wanted])
        except KafkaException:
            answer = []  # the broker is down, as it has to be now and then
            # One that was told of no broker by one that has just come back may look for none any more.
            self._consumer = clients.consumer(self._settings, GROUP)
        t1 = time.monotonic()
        if not answer or t1 - t0 > RESENT_SECONDS:
            # Not our doing, maybe: on a busy machine a broker loses its own session, and is nobody's coordinator for a while.
            self.silences.append(Fault("silent", "broker", 0, t0, t1))
        told = [Commit(GROUP, tp.topic, tp.partition, tp.offset, t0, t1) for tp in answer if tp.offset >= 0 and not tp.error]
        self.commits += told
        self._ends |= {f"{commit.topic}/{commit.partition}": commit.offset for commit in told}

    def ends(self) -> dict[str, int]:
        """`topic/partition` → the last offset that it saw."""
        return dict(self._ends)

    def close(self) -> None:
        """One last sample."""
        self._ending.set()
        self._thread.join()
        self._sample()
        self._consumer.close()


class Shelf:
    """What lies on Kafka under the block's prefix, and what the ledger says of it. `skew`: wall clock less monotonic clock, in seconds."""

    def __init__(self, settings: Settings, ledger: Ledger, skew: float) -> None:
        self._settings, self._ledger, self._skew = settings, ledger, skew
        self._names, self._wire = Names(settings.topic_prefix), Wire(settings)
        self.keys: dict[str, EventKey] = {}
        """Webhook id → the ledger's key, of all that was read from the logs."""
        self._wids: dict[EventKey, str] = {}

    def read(self, kinds: Iterable[Kind]) -> tuple[list[Record], dict[str, int]]:
        """All records from offset 0 by a new client in no group, and the end of each partition of a log or of the replay lane.

        On a busy machine a broker loses its own session, and leads nothing for a moment. Raises TapeUnavailable when that lasts.
        """
        wanted = frozenset(kinds)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._read(wanted)
            except TapeUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_MOMENT)

    def _read(self, wanted: frozenset[Kind]) -> tuple[list[Record], dict[str, int]]:
        with Reader(self._settings) as reader:
            named = {topic: name for topic in reader.topics() if (name := self._names.parse(topic)) and name.kind in wanted}
            records = [self._record(raw, named[raw.at.topic].kind, named[raw.at.topic].group)
                       for batch in reader.scan(reader.bounds(named)) for raw in batch]  # fmt: skip
        # Behind its last record, not where the next one goes: the marker that ends a transaction is nobody's to commit.
        ends: dict[str, int] = {}
        for record in records:
            if named[record.kafka_topic].kind in (Kind.LOG, Kind.REPLAY):
                place = f"{record.kafka_topic}/{record.partition}"
                ends[place] = max(record.offset + 1, ends.get(place, 0))
        return records, ends

    def _record(self, raw: Raw, kind: Kind, group: str) -> Record:
        told = headers.read(raw.headers)
        event: Event = self._wire.decode(raw.value)
        if kind is Kind.LOG:
            self.keys[event.webhook_id] = event.key
            self._wids[event.key] = event.webhook_id
        due = headers.due_us(told)
        failure, replay = headers.failure(told), headers.replay(told)
        return Record(
            kind.value, raw.at.topic, raw.at.partition, raw.at.offset, raw.timestamp_ms / 1e3 - self._skew, event.webhook_id, event.shop,
            event.topic, hashlib.sha256(event.payload).hexdigest(), (raw.key or b"").decode(errors="replace"), event.source, group,
            failure.attempts if failure else 0, due / 1e6 - self._skew if due else None, replay.id if replay else "",
            event.received_us, event.resource or "", event.version_us,
        )  # fmt: skip

    def outcomes(self, wids: Iterable[str]) -> list[Outcome]:
        """What the ledger says of these webhooks; those that it doesn't know are left out."""
        keys = [(wid, self.keys[wid]) for wid in wids if wid in self.keys]
        found = []
        for chunk in _chunks(keys):
            states = self._states([key for _, key in chunk])
            found += [Outcome(GROUP, wid, states[key].name.lower()) for wid, key in chunk if key in states]
        return found

    def items(self) -> list[Item]:
        """The items of all replays with their outcomes, as the ledger has them now."""
        found = []
        for job in self._ledger.jobs.list(_JOBS, group=GROUP):
            after = START
            while page := self._ledger.jobs.items(job.id, after_seq=after, limit=_PAGE):
                after = page[-1].seq
                found += [Item(job.id, GROUP, self._wids.get(item.key, f"unknown {item.key.id.hex()}"), item.decision, item.outcome or "",
                               job.state is JobState.DONE, item.seq) for item in page]  # fmt: skip
        return found

    def _states(self, keys: list[EventKey]) -> dict[EventKey, Any]:
        # A database that was killed drops our session: the next call makes a new one.
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return dict(self._ledger.outcomes.states(GROUP, keys))
            except LedgerUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_MOMENT)


def _chunks(keys: list[tuple[str, EventKey]]) -> Iterator[list[tuple[str, EventKey]]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


_TABLE = """
    CREATE TABLE soak_effects (
        handler text, wid text, lane text, resource text, version bigint, generation text, pid integer, at double precision)"""


def make_database(server_url: str, name: str) -> str:
    """A database with the table that the transactional handler writes to; its address."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    url = server_url.replace("@/postgres?", f"@/{name}?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLE)
    return url


def rows(url: str) -> list[Row]:
    """What the transactional handler has written."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT handler, wid, lane, resource, version, generation, pid, at FROM soak_effects").fetchall()
    return [Row(GROUP, *row) for row in found]
