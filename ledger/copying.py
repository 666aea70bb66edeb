"""Planned events that the database copies from the catalogue by itself, a page at a time: of a million rows none comes to Python.

Whether a page may be copied is asked first, of what its events have in common. It may where each of them would be decided alike, as for a
group that is new; any other page is decided event by event.
"""

from typing import NamedTuple

from hooktape.ledger.catalogue import After, Proof
from hooktape.ledger.database import Transaction
from hooktape.ledger.items import COLUMNS, RUN
from hooktape.ledger.search import TIMES, Query


class Alike(NamedTuple):
    """Events of a page that differ in nothing that a plan asks: how many, and between which offsets they lie."""

    topic: str
    shop: str
    kafka_topic: str
    partition: int
    proof: str
    events: int
    lowest: int
    highest: int


class Copied(NamedTuple):
    """How many events were copied, and where their page ended."""

    events: int
    last: After


_WANTED = "day, id, topic, shop, kafka_topic, kafka_partition, kafka_offset, size, proof, received_at, triggered_at"


def has_outcomes(t: Transaction, group: str) -> bool:
    """Whether the group has met an event of a day that the catalogue holds, or of one beside it (a copy may lie there)."""
    days = {day + near for (day,) in t.rows("SELECT day FROM event_days") for near in (-1, 0, 1)}
    return t.row("SELECT 1 FROM outcomes WHERE day IN :days AND grp = :grp LIMIT 1", {"days": sorted(days), "grp": group}) is not None


def alike(t: Transaction, query: Query, after: After, limit: int) -> list[Alike]:
    """The next page in groups."""
    page, params = query.page(_WANTED, after.by(query.clock), limit, False)
    return [Alike(*row) for row in t.rows(
        f"""SELECT topic, shop, kafka_topic, kafka_partition, proof, COUNT(*), MIN(kafka_offset), MAX(kafka_offset) FROM ({page}) AS e
            GROUP BY topic, shop, kafka_topic, kafka_partition, proof""", params)]  # fmt: skip


def copy(t: Transaction, job: int, seq: int, query: Query, after: After, limit: int) -> Copied:
    """Adds the same page, which has events, to the job as events to run, in order and behind `seq`."""
    page, params = query.page(_WANTED, after.by(query.clock), limit, False)
    added = t.run(
        f"""INSERT INTO replay_items ({COLUMNS})
            SELECT :job, :seq + ROW_NUMBER() OVER (ORDER BY {TIMES[query.clock]}, e.id), e.day, e.id, e.kafka_topic, e.kafka_partition,
                e.kafka_offset, e.size, CASE WHEN e.proof = '{Proof.VERIFIED}' THEN 1 ELSE 0 END, 0, '{RUN}' FROM ({page}) AS e""",
        {**params, "job": job, "seq": seq},
    )
    ((received_at, id_, triggered_at),) = t.rows(
        """SELECT e.received_at, e.id, e.triggered_at FROM replay_items i JOIN events e ON e.day = i.day AND e.id = i.id
           WHERE i.job = :job AND i.seq = :last""", {"job": job, "last": seq + added})  # fmt: skip
    return Copied(added, After(received_at, id_, triggered_at))
