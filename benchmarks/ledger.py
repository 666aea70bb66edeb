"""What a batch of events costs in the ledger, check and record, when it holds ten thousand outcomes and when it holds ten million.

    python benchmarks/ledger.py [--rows 10000,10000000] [--databases sqlite,postgresql] [--batches 40]

Outcomes of thirty days, as retention leaves them, their ids in random order within a day; then batches of 500 new events through the
ledger's own methods, on disk when they return. Two days are measured in each: one that has just begun, which is equally large in all of
them, so that the ledger's size alone makes the difference; and one that has its full share, a thirtieth of all. Sizes and days
take turns batch by batch, so that what disturbs one disturbs all. Microseconds for an event are the mean of the batches but for the
tenth at each end: SQLite copies its log back in some batches and not in others, which a median would hide.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from common import folder, machine, parser, postgres, sqlite, statement, wanted
from results import Result, record

from hooktape.ledger.checks import Check, Finish, State
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.sqlite import SqliteDatabase

DAYS = 30  # the tape's retention, and so the ledger's
BATCH = 500
GROUP = "bench"
DAY_SECONDS = 86_400
# To be told of a full disk before it's full. SQLite's file took 140 for each of ten million; PostgreSQL's rows are larger.
BYTES_A_ROW = 250
# Batches before those that count: a worker doesn't live with the first one's caches.
WARM_UP = 5
NEW, FULL = "a new day", "a full day"
NUMBERS = {"sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)", "postgresql": ""}
SOURCE = {"sqlite": "n", "postgresql": "generate_series(1, :count)"}
RANDOM_ID = {"sqlite": "randomblob(16)", "postgresql": "uuid_send(gen_random_uuid())"}
COLUMNS = {
    "sqlite": "SELECT name FROM pragma_table_info('outcomes')",
    "postgresql": "SELECT column_name FROM information_schema.columns WHERE table_name = 'outcomes' AND table_schema = current_schema()",
}


class Bench:
    """A ledger, and the worker that uses it."""

    def __init__(self, url: str) -> None:
        self.ledger = Ledger.open(url)
        self.database = _database(url)
        self._owner = uuid.uuid4().hex
        full = int(time.time() // DAY_SECONDS)
        self.days = {FULL: full, NEW: full + 1}
        self.ledger.ownership.heartbeat(GROUP, self._owner, time.time(), 86_400.0)
        self._epoch = self.ledger.ownership.take(GROUP, self._owner, [0], time.time()).epochs[0]

    def batch(self, day: str) -> tuple[float, float]:
        """Seconds on the wall and of this process's CPU for a batch of new events: checked, then recorded as handled."""
        now = time.time()
        keys = [EventKey(self.days[day], os.urandom(16)) for _ in range(BATCH)]
        outcomes = self.ledger.outcomes
        start, cpu = time.perf_counter(), time.process_time()
        outcomes.check(GROUP, [Check(key) for key in keys])
        outcomes.finish(GROUP, self._owner, [Finish(key, State.SUCCEEDED, 1, 0, self._epoch, "orders/create") for key in keys], now)
        return time.perf_counter() - start, time.process_time() - cpu

    def fill(self, rows: int) -> None:
        """Makes it hold so many outcomes, copies of one that it wrote itself but for the key. The database does the work: Python
        would need minutes."""
        self.batch(FULL)
        dialect = self.database.dialect

        def template(t: Transaction) -> dict[str, object]:
            names = [name for (name,) in t.rows(COLUMNS[dialect])]
            return dict(zip(names, t.rows(f"SELECT {', '.join(names)} FROM outcomes LIMIT 1")[0], strict=True))

        values = self.database.read(template)
        places = ", ".join(RANDOM_ID[dialect] if name == "id" else f":{name}" for name in values)
        sql = f"INSERT INTO outcomes ({', '.join(values)}) {NUMBERS[dialect]} SELECT {places} FROM {SOURCE[dialect]}"
        left = rows - BATCH
        for back in range(DAYS - 1, -1, -1):
            count = left // (back + 1)
            left -= count
            given = {name: value for name, value in values.items() if name != "id"} | {"day": self.days[FULL] - back, "count": count}
            if count > 0:
                self.database.write(statement(sql, given), durable=False, days={self.days[FULL] - back})
        # What a server's autovacuum, or SQLite's own bookkeeping, would have done in those thirty days.
        self.database.write(lambda t: t.run("ANALYZE outcomes"))

    def count(self) -> int:
        """Its outcomes now."""
        return int(self.database.read(lambda t: t.rows("SELECT COUNT(*) FROM outcomes"))[0][0])

    def close(self) -> None:
        """Ends both connections."""
        self.database.close()
        self.ledger.close()


def _database(url: str) -> Database:
    if url.startswith("sqlite:///"):
        return SqliteDatabase(Path("/" + url.removeprefix("sqlite:///").lstrip("/")))
    from hooktape.ledger.postgres import PostgresDatabase

    return PostgresDatabase(url)


@contextmanager
def addresses(dialect: str, home: Path, count: int) -> Iterator[list[str]]:
    """So many empty databases of that kind."""
    if dialect == "sqlite":
        yield [sqlite(home) for _ in range(count)]
        return
    import psycopg

    with postgres(home) as url:
        names = [f"bench{number}" for number in range(count)]
        with psycopg.connect(url, autocommit=True) as connection:
            for name in names:
                connection.execute(f"CREATE DATABASE {name}".encode())
        yield [urlsplit(url)._replace(path=f"/{name}").geturl() for name in names]


def middle(values: Sequence[float]) -> float:
    """The mean without the tenth at each end."""
    cut = len(values) // 10
    kept = sorted(values)[cut : len(values) - cut]
    return sum(kept) / len(kept)


def measure(dialect: str, home: Path, sizes: list[int], batches: int) -> list[Result]:
    """Fills, measures in turns, prints."""
    results: list[Result] = []
    costs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with addresses(dialect, home, len(sizes)) as urls, ExitStack() as ends:
        benches = {}
        for size, url in zip(sizes, urls, strict=True):
            benches[size] = bench = Bench(url)
            ends.callback(bench.close)
            started = time.perf_counter()
            bench.fill(size)
            print(f"{dialect}: {bench.count():,} outcomes made in {time.perf_counter() - started:.0f} s", flush=True)
        for number in range(WARM_UP + batches):
            for size, bench in benches.items():
                for day in (NEW, FULL):
                    cost = bench.batch(day)
                    if number >= WARM_UP:
                        costs.setdefault((day, size), []).append(cost)
    found = {case: middle([wall for wall, _ in batch]) / BATCH * 1e6 for case, batch in costs.items()}
    for (day, size), wall in found.items():
        cpu = middle([cpu for _, cpu in costs[day, size]]) / BATCH * 1e6
        print(f"{dialect:10} {size:>12,} outcomes, {day:10}: {wall:6.1f} µs an event, {cpu:.1f} of it this process's CPU")
        results.append(Result(bench="ledger", case=f"{size} outcomes, {day}, check and record", system=f"hooktape ({dialect})",
                              value=round(wall, 1), unit="µs/event"))  # fmt: skip
    small, large = min(sizes), max(sizes)
    for day in (NEW, FULL):
        # A tenth is what two runs of one size differ by.
        print(wanted(f"{dialect}, {large:,} beside {small:,} outcomes, {day}", found[day, large] / found[day, small], 1.1, least=False))
    return results


def main() -> None:
    """Measures each database."""
    options = parser(__doc__)
    options.add_argument("--rows", default="10000,10000000", help="sizes, with commas between")
    options.add_argument("--databases", default="sqlite,postgresql")
    options.add_argument("--batches", type=int, default=40)
    chosen = options.parse_args()
    sizes = [int(word) for word in chosen.rows.split(",")]
    results: list[Result] = []
    print(f"batches of {BATCH} new events, outcomes of {DAYS} days; {machine()}")
    for dialect in chosen.databases.split(","):
        with folder() as home:
            need, free = sum(sizes) * BYTES_A_ROW, shutil.disk_usage(home).free
            if need > free:
                raise SystemExit(f"{home} needs {need >> 20:,} MiB and has {free >> 20:,}: choose fewer --rows, or another TMPDIR.")
            results += measure(dialect, home, sizes, chosen.batches)
    if not chosen.no_record:
        record("ledger", results)


if __name__ == "__main__":
    main()
