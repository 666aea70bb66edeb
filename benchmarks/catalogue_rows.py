"""A catalogue of millions of events, written past the cataloguer: tables first, indexes afterwards."""

import itertools
import os
import random
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hooktape.ledger.catalogue import ADD, TYPES
from hooktape.ledger.checks import State
from hooktape.ledger.database import Database, Transaction

GROUP = "bench"
DAYS = 30  # the tape's retention, and so the catalogue's
DAY = 86_400_000_000  # microseconds
SHOPS = [f"shop-{number:04}.myshopify.com" for number in range(2_000)]
# Eight families of five, so that a wildcard stands for some.
TOPICS = [f"{family}/{what}" for what in ("updated", "create", "delete", "paid", "cancelled")
          for family in ("orders", "products", "customers", "inventory_levels", "fulfillments", "refunds", "carts", "checkouts")]  # fmt: skip
ERRORS = 97
# A fifth of the events is of so many resources, about seventy events of each with ten million in all.
SHARED = 30_000
BATCH = 10_000
KEPT = 500
INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('events', 'outcomes') AND sql IS NOT NULL",
    "postgresql": """SELECT indexname, replace(indexdef, ' ON ONLY ', ' ON ') FROM pg_indexes
        WHERE tablename IN ('events', 'outcomes') AND schemaname = current_schema() AND indexname NOT LIKE '%_pkey'""",
}
# The first byte of an id tells what became of its event: 3 in 256 are dead, 1 waits for a retry.
DEAD, WAITING = b"\x03", b"\x04"
OUTCOMES = f"""
    INSERT INTO outcomes (day, grp, id, state, attempts, epoch, generation, topic, updated_at, first_failed_at, failed_at, received_at,
        shop, error_type, error_group, error_message)
    SELECT day, '{GROUP}', id, {State.SUCCEEDED:d}, 1, 1, '', topic, received_at / 1e6, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM events WHERE day = :day AND substr(id, 1, 1) >= :waiting
    UNION ALL
    SELECT day, '{GROUP}', id, CASE WHEN substr(id, 1, 1) < :dead THEN {State.DEAD:d} ELSE {State.WAITING:d} END, 3, 1, '', topic,
        received_at / 1e6, received_at / 1e6, received_at / 1e6, received_at, shop, 'KeyError',
        'error-' || (received_at % {ERRORS}), 'it has no such key'
    FROM events WHERE day = :day AND substr(id, 1, 1) < :waiting"""


class Rows:
    """The events, in the order in which they were received; the same ones for the same numbers, but for their ids."""

    def __init__(self, count: int, seed: int = 20_261_122) -> None:
        self.count = count
        self._random = random.Random(seed)
        self.first_day = int(time.time() // 86_400) - DAYS
        self.step = DAYS * DAY // count
        self.webhooks: list[str] = []
        self.resources: list[str] = []

    def batches(self) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
        """(day, rows as the catalogue inserts them); a batch is of one day and sorted by key, as the cataloguer's are."""
        shops = list(itertools.accumulate(1 / (n + 1) for n in range(len(SHOPS))))
        topics = list(itertools.accumulate(1 / (n + 1) for n in range(len(TOPICS))))
        offsets: dict[str, int] = {}
        per_day = self.count // DAYS
        for day in range(DAYS):
            for start in range(0, per_day, BATCH):
                size = min(BATCH, per_day - start)
                rows = []
                for number, shop, topic in zip(range(size), self._random.choices(SHOPS, cum_weights=shops, k=size),
                                               self._random.choices(TOPICS, cum_weights=topics, k=size), strict=True):  # fmt: skip
                    order = day * per_day + start + number
                    at = self.first_day * DAY + order * self.step
                    own = order if order % 5 else self._random.randrange(SHARED)
                    resource = f"order/{5_000_000_000_000 + own}"
                    webhook, offset = str(uuid.UUID(bytes=os.urandom(16))), offsets.get(topic, 0)
                    offsets[topic] = offset + 1
                    # One in fifty is of a part of its order; one in a hundred came twice.
                    part = f"refund/{order}" if order % 50 == 1 else resource
                    rows.append((at // DAY, os.urandom(16), shop, topic, webhook, part, resource, at - 900_000, at - 500_000, at, "webhook",
                                 f"hooktape.log.{topic.replace('/', '.')}", offset % 12, offset, 4_000, 1 + (order % 100 == 0),
                                 "verified"))  # fmt: skip
                    if order % (self.count // KEPT) == 0:
                        self.webhooks.append(webhook)
                        self.resources.append(resource)
                rows.sort()
                yield self.first_day + day, rows


def fill(database: Database, rows: Rows) -> None:
    """Makes the catalogue hold the rows, and the outcomes of one group for them. What a server would do for itself in those
    thirty days is done too: PostgreSQL's autovacuum analyses partitions, and not what they're partitions of; SQLite does nothing."""
    started = time.perf_counter()
    with _without_indexes(database):
        for number, (day, batch) in enumerate(rows.batches()):
            database.write(lambda t, batch=batch: t.insert(ADD, TYPES, batch, ""), durable=False, days={day})
            if number % 100 == 0:
                print(f"{number * BATCH:,} events, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        days = range(rows.first_day, rows.first_day + DAYS)
        for day in days:
            given = {"day": day, "dead": DEAD, "waiting": WAITING}
            database.write(lambda t, given=given: t.run(OUTCOMES, given), durable=False, days={day})
        print(f"the rows, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    database.write(lambda t: t.many("INSERT INTO event_days (day) VALUES (:day)", [{"day": day} for day in days]))
    database.write(lambda t: t.many("INSERT INTO event_topics (topic) VALUES (:topic)", [{"topic": topic} for topic in TOPICS]))
    print(f"the indexes, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def _without_indexes(database: Database) -> Iterator[None]:
    indexes = database.read(lambda t: t.rows(INDEXES[database.dialect]))

    def drop(t: Transaction) -> None:
        for name, _ in indexes:
            t.run(f"DROP INDEX {name}")

    database.write(drop)
    yield
    for _, sql in indexes:
        database.write(lambda t, sql=sql: t.run(sql), durable=False)
