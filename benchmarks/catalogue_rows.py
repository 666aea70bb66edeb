"""A catalogue of millions of events, written past the cataloguer: tables first, indexes afterwards."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common import statement

from hooktape.ledger.catalogue import COLUMNS
from hooktape.ledger.checks import State
from hooktape.ledger.database import Database, Transaction

GROUP = "bench"
DAYS = 30  # the tape's retention, and so the catalogue's
DAY = 86_400_000_000  # microseconds
SHOPS = [f"shop-{10_000 + number}.myshopify.com" for number in range(2_000)]
FAMILIES = 8
TOPICS = [f"family{number % FAMILIES}/what{number // FAMILIES}" for number in range(40)]
ERRORS = 97
# A fifth of the events is of so many resources, about seventy events of each with ten million in all.
SHARED = 30_000
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


NUMBERS = {"sqlite": "RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :count - 1)",
           "postgresql": "n(i) AS (SELECT generate_series(0, :count - 1))"}  # fmt: skip
BETWEEN_0_AND_1 = {"sqlite": "(random() / 18446744073709551616.0 + 0.5)", "postgresql": "random()"}
RANDOM_ID = {"sqlite": "randomblob(16)", "postgresql": "uuid_send(gen_random_uuid())"}
RANDOM_TEXT = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "CAST(gen_random_uuid() AS text)"}
# Each number is drawn once and used in several columns, hence the tables in between. That a power of an even number follows Zipf's law
# is its definition turned round.
EVENTS = """
    INSERT INTO events ({columns})
    WITH {numbers}, drawn AS MATERIALIZED (
        SELECT i, :first + i AS seq, :start + CAST(i AS bigint) * :step AS at, CAST(floor(power({shops}, {random})) AS integer) - 1 AS shop,
            CAST(floor(power({topics}, {random})) AS integer) - 1 AS topic, CAST(floor({random} * {shared}) AS integer) AS shared FROM n
    ), named AS MATERIALIZED (
        SELECT seq, at, 'shop-' || (10000 + shop) || '.myshopify.com' AS shop,
            'family' || (topic % {families}) || '/what' || (topic / {families}) AS topic,
            'order/' || (5000000000000 + CASE WHEN seq % 5 = 0 THEN shared ELSE seq END) AS root FROM drawn
    )
    SELECT :day, {id}, shop, topic, {text}, CASE WHEN seq % 50 = 1 THEN 'refund/' || seq ELSE root END, root, at - 900000, at - 500000, at,
        'webhook', 'hooktape.log.' || topic, seq % 12, seq / 12, 4000, CASE WHEN seq % 100 = 0 THEN 2 ELSE 1 END, 'verified' FROM named"""


class Rows:
    """So many events of the thirty days before today. `webhooks` and `resources`: some of them, to search for."""

    def __init__(self, count: int) -> None:
        self.per_day = count // DAYS
        self.first_day = int(time.time() // 86_400) - DAYS
        self.webhooks: list[str] = []
        self.resources: list[str] = []


def fill(database: Database, rows: Rows) -> None:
    """Makes the catalogue hold the rows, and the outcomes of one group for them. What a server would do for itself in those
    thirty days is done too: PostgreSQL's autovacuum analyses partitions, and not what they're partitions of; SQLite does nothing."""
    started = time.perf_counter()
    dialect = database.dialect
    sql = EVENTS.format(columns=COLUMNS, numbers=NUMBERS[dialect], random=BETWEEN_0_AND_1[dialect], id=RANDOM_ID[dialect],
                        text=RANDOM_TEXT[dialect], shops=len(SHOPS), topics=len(TOPICS), families=FAMILIES, shared=SHARED)  # fmt: skip
    with _without_indexes(database):
        for number in range(DAYS):
            day = rows.first_day + number
            given: dict[str, Any] = {"day": day, "count": rows.per_day, "first": number * rows.per_day, "start": day * DAY,
                                     "step": DAY // rows.per_day}  # fmt: skip
            database.write(statement(sql, given), durable=False, days={day})
        days = range(rows.first_day, rows.first_day + DAYS)
        for day in days:
            given = {"day": day, "dead": DEAD, "waiting": WAITING}
            database.write(statement(OUTCOMES, given), durable=False, days={day})
        print(f"{dialect}: the rows, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    database.write(lambda t: t.many("INSERT INTO event_days (day) VALUES (:day)", [{"day": day} for day in days]))
    database.write(lambda t: t.many("INSERT INTO event_topics (topic) VALUES (:topic)", [{"topic": topic} for topic in TOPICS]))
    print(f"{dialect}: the indexes, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def _without_indexes(database: Database) -> Iterator[None]:
    indexes = database.read(lambda t: t.rows(INDEXES[database.dialect]))

    def drop(t: Transaction) -> None:
        for name, _ in indexes:
            t.run(f"DROP INDEX {name}")

    database.write(drop)
    yield
    for _, sql in indexes:
        database.write(statement(sql, {}), durable=False)
