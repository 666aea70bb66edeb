"""The events of a replay: what the plan decided for each, and the one outcome that each gets.

Rows are narrow and written in bulk: a job may have ten million. While one runs it's counted by two partial indexes, of what is open
and of what ended oddly; everything is counted once, at its end.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hooktape.ledger.database import Transaction
from hooktape.ledger.keys import EventKey
from hooktape.ledger.texts import clean

RUN = "run"
"""The decision that an event will be handed over; any other word is the reason why it won't."""
SUCCEEDED = "succeeded"
FAILED_AGAIN = "failed_again"
"""The outcomes of a run; any other word is the reason why it was skipped after all."""
START = -(1 << 62)
"""Below every `seq`."""


Row = tuple[int, int, int, bytes, str, int, int, int, int, int, str]
"""A planned event as it's written, with what handing it over needs: the job's number, seq, day, id, Kafka topic, partition, offset, the
body's bytes, 1 where the record there was verified when it was catalogued, the number of redrives that its record will bear (0: it wasn't
dead), the decision. A plain tuple: there are millions."""


class ToSend(NamedTuple):
    """An event to hand over, unless it has its `outcome` already: a runner that was killed had sent it."""

    seq: int
    day: int
    id: bytes
    kafka_topic: str
    partition: int
    offset: int
    size: int
    proven: int
    redrives: int
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Item:
    """One selected event of a job, for people. `seq` gives the order of publishing; `outcome` None: not known yet.

    `topic` and what follows are the catalogue's: empty for what it has forgotten.
    """

    seq: int
    key: EventKey
    kafka_topic: str
    partition: int
    offset: int
    decision: str
    outcome: str | None = None
    error: str | None = None
    topic: str = ""
    shop: str = ""
    resource: str = ""
    webhook_id: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Where every selected event of a job stands. Each is in exactly one of the parts.

    `selected` is what the plan counted; `not_run` is by the plan's decision; `skipped` by the reason met on the way.
    """

    selected: int
    not_run: Mapping[str, int] = field(default_factory=dict)
    succeeded: int = 0
    failed_again: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    in_flight: int = 0
    not_sent: int = 0

    @property
    def planned(self) -> int:
        """Events that the plan decided to run."""
        return self.ended + self.in_flight + self.not_sent

    @property
    def ended(self) -> int:
        """Events that were to run and have their outcome."""
        return self.succeeded + self.failed_again + sum(self.skipped.values())

    @property
    def adds_up(self) -> bool:
        """Whether the parts make up exactly what was selected. False: the job is incomplete, whatever else it says."""
        parts = (self.succeeded, self.failed_again, self.in_flight, self.not_sent)
        return min(parts) >= 0 and self.planned + sum(self.not_run.values()) == self.selected

    @property
    def is_settled(self) -> bool:
        """Whether every event that was to run has its outcome."""
        return self.in_flight == 0 and self.not_sent == 0


class Total(NamedTuple):
    """How many events the plan decided so."""

    decision: str
    topic: str
    shop: str
    events: int


class Ending(NamedTuple):
    """What became of a job's event. `seq` as its record bears it; None where nobody knows it: the job's open events are looked through."""

    job_id: str
    key: EventKey
    outcome: str
    error: str = ""
    seq: int | None = None


_JOB = "(SELECT number FROM jobs WHERE id = :job_id)"
# The id too: a record may bear any number.
_SETTLE = f"""
    UPDATE replay_items SET outcome = :outcome, error = :error
    WHERE job = {_JOB} AND id = :id AND outcome IS NULL AND decision = 'run'"""
_SETTLE_AT = f"{_SETTLE} AND seq = :seq"
COLUMNS = "job, seq, day, id, kafka_topic, kafka_partition, kafka_offset, size, proven, redrives, decision"
_TYPES = ("integer", "bigint", "integer", "bytes", "text", "integer", "bigint", "integer", "smallint", "integer", "text")


def add(t: Transaction, rows: Sequence[Row]) -> int:
    return t.insert(f"INSERT INTO replay_items ({COLUMNS})", _TYPES, rows, "ON CONFLICT (job, seq) DO NOTHING")


def add_totals(t: Transaction, job: int, totals: Iterable[Total]) -> None:
    t.many("""INSERT INTO replay_totals (job, decision, topic, shop, events) VALUES (:job, :decision, :topic, :shop, :events)
              ON CONFLICT (job, decision, topic, shop) DO UPDATE SET events = replay_totals.events + excluded.events""",
           [{"job": job, "decision": each.decision, "topic": clean(each.topic), "shop": clean(each.shop), "events": each.events}
            for each in sorted(totals)])  # fmt: skip


def to_send(t: Transaction, job: int, after: int, limit: int) -> list[ToSend]:
    rows = t.rows("""SELECT seq, day, id, kafka_topic, kafka_partition, kafka_offset, size, proven, redrives, outcome FROM replay_items
                     WHERE job = :job AND seq > :after AND decision = 'run' ORDER BY seq LIMIT :limit""",
                  {"job": job, "after": after, "limit": limit})  # fmt: skip
    return list(map(ToSend._make, rows))


def read(t: Transaction, job: int, terms: str, params: Mapping[str, object]) -> list[Item]:
    rows = t.rows(f"""SELECT i.seq, i.day, i.id, i.kafka_topic, i.kafka_partition, i.kafka_offset, i.decision, i.outcome, i.error,
                             COALESCE(e.topic, ''), COALESCE(e.shop, ''), COALESCE(e.resource, ''), COALESCE(e.webhook_id, '')
                      FROM replay_items i LEFT JOIN events e ON e.day = i.day AND e.id = i.id
                      WHERE i.job = :job {terms} ORDER BY i.seq LIMIT :limit""", {"job": job, **params})  # fmt: skip
    return [Item(seq, EventKey(day, id_), *rest) for seq, day, id_, *rest in rows]


def settle(t: Transaction, endings: Sequence[Ending]) -> int:
    """Gives items their outcome. The first one stays. Returns how many got theirs now."""
    by_statement: dict[str, list[dict[str, Any]]] = {}
    for sql, params in map(settling, endings):
        by_statement.setdefault(sql, []).append(params)
    return sum(t.many(sql, params) for sql, params in by_statement.items())


def settling(ending: Ending) -> tuple[str, dict[str, Any]]:
    """The statement that gives an item its outcome, and its parameters."""
    params = {"job_id": ending.job_id, "id": ending.key.id, "outcome": ending.outcome, "error": clean(ending.error, 1024) or None}
    return (_SETTLE, params) if ending.seq is None else (_SETTLE_AT, params | {"seq": ending.seq})


def settled(t: Transaction, job_id: str, wanted: Sequence[tuple[EventKey, int | None]]) -> set[EventKey]:
    """Which of these (key, seq as in `Ending`) have their outcome in the job."""
    found: set[bytes] = set()
    by_column: dict[str, list[Any]] = {"seq": [seq for _, seq in wanted if seq is not None],
                                       "id": [key.id for key, seq in wanted if seq is None]}  # fmt: skip
    for column, values in by_column.items():
        if values:
            found.update(id_ for (id_,) in t.rows(
                f"SELECT id FROM replay_items WHERE job = {_JOB} AND {column} IN :values AND outcome IS NOT NULL",
                {"job_id": job_id, "values": values}))  # fmt: skip
    return {key for key, _ in wanted if key.id in found}


def open_up_to(t: Transaction, job: int, seq: int) -> int:
    """Handed over and without an outcome: as many index entries are read as are counted."""
    row = t.row("SELECT COUNT(*) FROM replay_items WHERE job = :job AND seq <= :seq AND outcome IS NULL AND decision = 'run'",
                {"job": job, "seq": seq})  # fmt: skip
    return int(row[0]) if row else 0


def standing(t: Transaction, job: int, selected: int, published_seq: int, sent: int) -> Account:
    """The account by the totals of the plan and the two partial indexes. It adds up by the way it's made: `counted` proves it."""
    decided = dict(t.rows("SELECT decision, SUM(events) FROM replay_totals WHERE job = :job GROUP BY decision", {"job": job}))
    planned = int(decided.pop(RUN, 0))
    odd = {outcome: int(number) for outcome, number in t.rows(
        """SELECT outcome, COUNT(*) FROM replay_items
           WHERE job = :job AND outcome IS NOT NULL AND outcome <> 'succeeded' AND seq <= :seq GROUP BY outcome""",
        {"job": job, "seq": published_seq})}  # fmt: skip
    in_flight = open_up_to(t, job, published_seq)
    succeeded = sent - in_flight - sum(odd.values())
    failed = odd.pop(FAILED_AGAIN, 0)
    return Account(selected, {why: int(number) for why, number in decided.items()}, succeeded, failed, odd, in_flight, planned - sent)


def counted(t: Transaction, job: int, selected: int, published_seq: int) -> Account:
    """The account by every single item."""
    not_run: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    in_flight = not_sent = 0
    for decision, outcome, sent, number in t.rows(
        """SELECT decision, outcome, CASE WHEN seq <= :published THEN 1 ELSE 0 END AS sent, COUNT(*)
           FROM replay_items WHERE job = :job GROUP BY 1, 2, 3""",
        {"job": job, "published": published_seq},
    ):
        if decision != RUN:
            not_run[decision] += number
        elif outcome is not None:
            ended[outcome] += number
        elif sent:
            in_flight += number
        else:
            not_sent += number
    succeeded, failed = ended.pop(SUCCEEDED, 0), ended.pop(FAILED_AGAIN, 0)
    return Account(selected, dict(not_run), succeeded, failed, dict(ended), in_flight, not_sent)
