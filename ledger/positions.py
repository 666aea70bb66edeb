"""How far each partition has been read into the ledger: moved in the transaction that writes what was read, or not at all."""

from collections.abc import Mapping

from hooktape.ledger.database import Transaction

Place = tuple[str, int]
"""A Kafka topic and partition."""


class Overtaken(Exception):
    """Rolls back: another process has moved a position."""


def move(t: Transaction, positions: Mapping[Place, int], expected: Mapping[Place, int | None]) -> None:
    """Sets the next offset to read of each place, where it still is what `expected` says (None: there was none).

    Raises Overtaken, which the transaction must not survive.
    """
    for place in sorted(positions):
        values = {"topic": place[0], "partition": place[1], "next": positions[place], "seen": expected.get(place)}
        if not t.run(_FIRST if values["seen"] is None else _MOVE, values):
            raise Overtaken


_FIRST = """
    INSERT INTO positions (kafka_topic, kafka_partition, next_offset) VALUES (:topic, :partition, :next)
    ON CONFLICT (kafka_topic, kafka_partition) DO NOTHING"""
_MOVE = """
    UPDATE positions SET next_offset = :next
    WHERE kafka_topic = :topic AND kafka_partition = :partition AND next_offset = :seen"""
