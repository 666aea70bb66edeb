"""What the replayer's tests share: events on a real tape, and a consumer group in miniature."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from click.testing import CliRunner, Result
from confluent_kafka import Producer, TopicPartition

from hooktape.errors import HooktapeError
from hooktape.ledger.checks import Check, Finish, State, Verdict
from hooktape.ledger.items import Ending
from hooktape.ledger.ledger import Ledger
from hooktape.schemas import codec, signature
from hooktape.schemas.event import Coordinates, Event
from hooktape.settings import Secret, Settings
from hooktape.tape import clients, headers, topics
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader, Record
from tests.tape.kit import PATIENT

SECRET = "hush"
SHOP = "acme.myshopify.com"
GROUP = "g"
TOPICS = {"orders/create": "orders.create", "orders/updated": "orders.updated"}
_PARTITION = 0
T0 = 1_790_000_000_000_000  # microseconds: some day in 2026


def narrowed(settings: Settings) -> Settings:
    """Few topics, made; one group."""
    settings = replace(settings, topics=tuple(TOPICS), shopify_secrets=(Secret(SECRET),))
    topics.apply(settings, [GROUP])
    return settings


def event(number: int, *, topic: str = "orders/create", resource: int | None = None, version: int | None = None, **fields: Any) -> Event:
    """The event number so-and-so, a second after the one before."""
    body = fields.pop("payload", b'{"id": %d, "note": "n%d"}' % (resource or number, number))
    order = f"order/{resource or number}"
    defaults = {"webhook_id": f"w{number:06}", "shop": SHOP, "resource": order, "resource_root": order,
                "received_us": T0 + number * 1_000_000, "triggered_us": T0 + number * 1_000_000, "version_us": version,
                "hmac": signature.sign(body, SECRET), "secret_id": signature.secret_id(SECRET)}  # fmt: skip
    return Event(topic=topic, payload=body, **{**defaults, **fields})


@cache
def _producer(kafka: str) -> Producer:
    # One for the whole run: a new one waits half a second for its id from the broker.
    return clients.producer(Settings(kafka=kafka), **PATIENT, **{"log_level": 0})


def record(settings: Settings, events: Iterable[Event | bytes], topic: str | None = None,
           extra: Callable[[Event], Mapping[str, str]] = lambda _: {}) -> None:  # fmt: skip
    """Puts events on the tape as ingest does, or foreign bytes as somebody else would; waits until they're there."""
    producer = _producer(settings.kafka)
    failed: list[object] = []
    names = Names(settings.topic_prefix)
    for each in events:
        if isinstance(each, bytes):
            producer.produce(topic or names.log("orders.create"), each, b"k")
            continue
        packed = headers.pack({**headers.of_event(each), **extra(each)})
        producer.produce(topic or names.log(TOPICS[each.topic]), codec.encode(each), each.lane, headers=packed,
                         on_delivery=lambda error, _: failed.append(error) if error else None)  # fmt: skip
    assert producer.flush(60) == 0
    assert not failed, failed


def bury(settings: Settings, ledger: Ledger, events: Iterable[Event], *, redrives: int = 0, cause: str = "KeyError",
         generation: str = "") -> None:  # fmt: skip
    """What a worker does with events that can't succeed: a letter in the DLQ topic, then DEAD in the ledger."""
    events, names = list(events), Names(settings.topic_prefix)

    def letter(each: Event) -> dict[str, str]:
        failure = headers.Failure(3, T0, T0 + 1, "permanent", cause, f"{cause} in {each.webhook_id}", "line 1\nline 2", f"group-{cause}")
        at = Coordinates(names.log(TOPICS[each.topic]), 0, 7)
        return {**failure.headers(), **headers.of_origin(at), **({headers.REDRIVES: str(redrives)} if redrives else {})}

    record(settings, events, names.dlq(GROUP), letter)
    settle(ledger, events, State.DEAD, cause=cause, generation=generation)


def expire(settings: Settings, topic: str) -> None:
    """Does what retention does: removes every record that a topic holds now."""
    with Reader(settings) as reader:
        ends = [TopicPartition(*place, offset) for place, offset in reader.ends([topic]).items()]
    admin = clients.admin(settings)  # it must outlive its answers
    for done in admin.delete_records(ends).values():
        done.result()


def settle(ledger: Ledger, events: Iterable[Event], state: State, *, generation: str = "", cause: str = "") -> None:
    """Gives events an outcome in the group, as a worker would."""
    now, events = time.time(), list(events)
    epoch = _owned(ledger, "setup", now)
    answers = ledger.outcomes.check(GROUP, [Check(e.key, generation=generation, forced=bool(generation)) for e in events])
    assert {a.verdict for a in answers} <= {Verdict.RUN}
    group = f"group-{cause}" if cause else ""
    ends = [Finish(e.key, state, 1, _PARTITION, epoch, e.topic, a.seen, generation, cause, group, f"{cause} in {e.webhook_id}", e.shop,
                   received_us=e.received_us) for e, a in zip(events, answers, strict=True)]  # fmt: skip
    assert all(ledger.outcomes.finish(GROUP, "setup", ends, now))
    ledger.ownership.release(GROUP, "setup")


def _owned(ledger: Ledger, owner: str, now: float) -> int:
    """The epoch in which `owner` has all that it handles: here one partition stands for all."""
    ledger.ownership.heartbeat(GROUP, owner, now, 60)
    return ledger.ownership.take(GROUP, owner, [_PARTITION], now).epochs[_PARTITION]


class Group(threading.Thread):
    """A worker in miniature: takes the replay lane, checks, runs `handle` (False: it fails for good), finishes."""

    def __init__(self, settings: Settings, url: str, handle: Callable[[Event], bool] = lambda _: True) -> None:
        super().__init__(daemon=True)
        self._settings, self._url, self._handle = settings, url, handle
        self._stop_it = threading.Event()
        self.runs: list[tuple[str, str]] = []
        self.records: list[Record] = []

    def __enter__(self) -> "Group":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_it.set()
        self.join()

    def run(self) -> None:
        consumer = clients.consumer(self._settings, GROUP, **{"auto.offset.reset": "earliest"})
        consumer.subscribe([Names(self._settings.topic_prefix).replay(GROUP)])
        with Ledger.open(self._url) as ledger:
            while not self._stop_it.is_set():
                first = consumer.poll(0.1)
                messages = [] if first is None else [first, *consumer.consume(200, 0)]
                if records := [Record.of(m) for m in messages if m.error() is None]:
                    self._take(ledger, records)
        consumer.close()

    def _take(self, ledger: Ledger, records: list[Record]) -> None:
        now = time.time()
        epoch = _owned(ledger, "mini", now)
        events = [codec.decode(r.value) for r in records]
        marks = [headers.replay(headers.read(r.headers)) for r in records]
        self.records += records
        checks = [Check(e.key, 0, m.id, m.forced, seq=m.seq) for e, m in zip(events, marks, strict=True) if m]
        ends, skips = [], []
        for e, check, answer in zip(events, checks, ledger.outcomes.check(GROUP, checks), strict=True):
            if answer.verdict is Verdict.RUN:
                self.runs.append((check.generation, e.webhook_id))
                fine = self._handle(e)
                ends.append(Finish(e.key, State.SUCCEEDED if fine else State.DEAD, 1, _PARTITION, epoch, e.topic, answer.seen,
                                   check.generation, "" if fine else "ValueError", "", "" if fine else "again", e.shop,
                                   received_us=e.received_us, seq=check.seq))  # fmt: skip
            elif answer.verdict is Verdict.DONE:
                skips.append(Ending(check.generation, check.key, "done", "had succeeded", check.seq))
        ledger.outcomes.finish(GROUP, "mini", ends, now)
        ledger.ownership.release(GROUP, "mini")
        ledger.outcomes.note_skips(GROUP, skips)


def cli(settings: Settings, url: str, *words: str) -> Result:
    """Runs a command as its entry point does; `exit_code` is the process's."""
    from hooktape.cli.main import root

    environment = {"HOOKTAPE_KAFKA": settings.kafka, "HOOKTAPE_TOPIC_PREFIX": settings.topic_prefix, "HOOKTAPE_DATABASE_URL": url,
                   "HOOKTAPE_SHOPIFY_SECRETS": SECRET, "HOOKTAPE_LOG_LEVEL": "error"}  # fmt: skip
    result = CliRunner().invoke(root, list(words), env=environment, standalone_mode=False)
    if isinstance(result.exception, HooktapeError):
        result.exit_code = result.exception.exit_code
    elif result.exception is not None:
        raise result.exception
    elif isinstance(result.return_value, int):
        result.exit_code = result.return_value
    return result


def in_lane(settings: Settings, topic: str) -> list[Record]:
    """All records of a topic."""
    with Reader(settings) as reader:
        return [record for records in reader.scan(reader.bounds([topic])) for record in records]


