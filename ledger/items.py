"""The events of a replay: what the plan decided for each, and the one outcome that each gets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hooktape.ledger.database import Transaction
from hooktape.ledger.keys import EventKey
from hooktape.ledger.texts import clean

RUN = "run"
"""The decision that an event will be handed over; any other word is the reason why it won't."""
SUCCEEDED = "succeeded"
FAILED_AGAIN = "failed_again"
"""The outcomes of a run; any other word is the reason why it was skipped after all."""


@dataclass(frozen=True, slots=True)
class Item:
    """One selected event of a job. `seq` counts from 1 in the order of publishing; `outcome` None: not known yet."""

    seq: int
    key: EventKey
    kafka_topic: str
    partition: int
    offset: int
    topic: str
    shop: str
    resource: str
    decision: str
    outcome: str | None = None
    error: str | None = None


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
        return self.succeeded + self.failed_again + sum(self.skipped.values()) + self.in_flight + self.not_sent

    @property
    def adds_up(self) -> bool:
        """Whether the parts make up exactly what was selected. False: the job is incomplete, whatever else it says."""
        return self.planned + sum(self.not_run.values()) == self.selected

    @property
    def is_settled(self) -> bool:
        """Whether every event that was to run has its outcome."""
        return self.in_flight == 0 and self.not_sent == 0


SETTLE = """
    UPDATE replay_items SET outcome = :outcome, error = :error
    WHERE job_id = :job_id AND day = :day AND id = :id AND outcome IS NULL"""
_COLUMNS = ("seq, day, id, kafka_topic, kafka_partition, kafka_offset, topic, shop, resource, decision, outcome, error")


def add(t: Transaction, job_id: str, items: Sequence[Item]) -> int:
    return t.many(
        f"""INSERT INTO replay_items (job_id, {_COLUMNS}) VALUES (:job_id, :seq, :day, :id, :kafka_topic, :partition, :offset,
            :topic, :shop, :resource, :decision, :outcome, :error) ON CONFLICT (job_id, seq) DO NOTHING""",
        [{"job_id": job_id, "seq": i.seq, "day": i.key.day, "id": i.key.id, "kafka_topic": i.kafka_topic,
          "partition": i.partition, "offset": i.offset, "topic": clean(i.topic), "shop": clean(i.shop),
          "resource": clean(i.resource), "decision": i.decision, "outcome": i.outcome, "error": i.error} for i in items],
    )  # fmt: skip


def read(t: Transaction, job_id: str, terms: str, params: Mapping[str, object]) -> list[Item]:
    rows = t.rows(f"SELECT {_COLUMNS} FROM replay_items WHERE job_id = :job_id {terms} ORDER BY seq LIMIT :limit",
                  {"job_id": job_id, **params})  # fmt: skip
    return [Item(seq, EventKey(day, id_), *rest) for seq, day, id_, *rest in rows]


def settle(t: Transaction, outcomes: Sequence[tuple[str, EventKey, str, str]]) -> int:
    """Gives items their outcome: (job id, key, outcome, error). The first one stays. Returns how many got theirs now."""
    return t.many(SETTLE, [outcome_of(*outcome) for outcome in outcomes])


def outcome_of(job_id: str, key: EventKey, outcome: str, error: str) -> dict[str, Any]:
    """The parameters of SETTLE."""
    return {"job_id": job_id, "day": key.day, "id": key.id, "outcome": outcome, "error": clean(error, 1024) or None}


def settled(t: Transaction, job_id: str, keys: Sequence[EventKey]) -> set[EventKey]:
    """Which of these have their outcome in the job."""
    return {EventKey(day, id_) for day, id_ in t.rows(
        """SELECT day, id FROM replay_items WHERE job_id = :job_id AND day IN :days AND id IN :ids AND outcome IS NOT NULL""",
        {"job_id": job_id, "days": sorted({k.day for k in keys}), "ids": [k.id for k in keys]})}  # fmt: skip


def account(t: Transaction, job_id: str, selected: int, published_seq: int) -> Account:
    not_run: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    in_flight = not_sent = 0
    for decision, outcome, sent, number in t.rows(
        """SELECT decision, outcome, CASE WHEN seq <= :published THEN 1 ELSE 0 END AS sent, COUNT(*)
           FROM replay_items WHERE job_id = :job_id GROUP BY 1, 2, 3""",
        {"job_id": job_id, "published": published_seq},
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
