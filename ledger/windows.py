"""Offset ranges that an offset reset marked to be run again."""

from collections.abc import Sequence
from dataclasses import dataclass

from hooktape.ledger.database import Transaction


@dataclass(frozen=True, slots=True)
class Window:
    """Records of a partition from `from_offset` up to but not including `to_offset` run again as `generation`."""

    generation: str
    kafka_topic: str
    partition: int
    from_offset: int
    to_offset: int

    def holds(self, kafka_topic: str, partition: int, offset: int) -> bool:
        """Whether a record lies in it."""
        return self.kafka_topic == kafka_topic and self.partition == partition and self.from_offset <= offset < self.to_offset


def add(t: Transaction, group: str, generation: str, ranges: Sequence[tuple[str, int, int, int]]) -> None:
    t.many(
        """INSERT INTO reprocess (grp, id, kafka_topic, kafka_partition, from_offset, to_offset)
           VALUES (:grp, :id, :topic, :partition, :low, :high)
           ON CONFLICT (grp, id, kafka_topic, kafka_partition)
           DO UPDATE SET from_offset = excluded.from_offset, to_offset = excluded.to_offset""",
        [{"grp": group, "id": generation, "topic": topic, "partition": partition, "low": low, "high": high}
         for topic, partition, low, high in ranges],
    )  # fmt: skip


def of(t: Transaction, group: str) -> list[Window]:
    return [Window(*row) for row in t.rows(
        """SELECT id, kafka_topic, kafka_partition, from_offset, to_offset FROM reprocess WHERE grp = :grp
           ORDER BY id, kafka_topic, kafka_partition""", {"grp": group})]  # fmt: skip
