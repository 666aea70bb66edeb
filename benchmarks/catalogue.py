"""How fast the catalogue is written, and how fast it answers with ten million events.

    python benchmarks/catalogue.py [--events 100000] [--rounds 3] [--rows 10000000] [--databases sqlite,postgresql]

Writing: a tape of 1 KiB events on four partitions is read into an empty ledger by a process of its own, beside a bare loop that
consumes and decodes the same tape; rounds take turns, the median of the rates and of the rounds' own ratios counts.

Searches: a ledger of so many events over thirty days (2,000 shops and 40 topics, both by Zipf's law; a fifth of the events on
resources that have many; a group that handled all of them, with about 1 % dead and 0.5 % in retry). Then pages of a hundred, newest first:
the first page, and one that begins somewhere inside; fifty of each kind of search, with parameters drawn at random from a fixed seed.
Milliseconds on the wall; the plan of one of each goes to `results/catalogue-plans-DATABASE.txt`.

`--rows 0` leaves out the searches, `--rounds 0` the writing. With `--keep FOLDER` SQLite's ledger of so many rows is made there once
and used again.
"""

import random
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from catalogue_rows import DAY, DAYS, ERRORS, GROUP, SHOPS, TOPICS, Rows, fill
from common import SIZE, Span, apart, broker, folder, machine, parser, postgres, sqlite, tape, wanted
from common import fill as fill_tape
from consume import KEYS, bare
from results import Result, record

from hooktape.ledger import search
from hooktape.ledger.catalogue import COLUMNS, After
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Clock, Selection, Status
from hooktape.replayer.catalogue import Cataloguer
from hooktape.settings import Settings

PAGE = 100
DRAWS = 50
# A person waits for it.
WANTED_MS = 100
WANTED_RATE = 20_000
# SQLite's file took 1,100 for an event and its outcome; PostgreSQL's tables take as much.
BYTES_A_ROW = 1_200
PARTITION = re.compile(r"-> .* on (events|outcomes)_d\d+")
Draw = Callable[[random.Random, Rows], Selection]


def _shop(rnd: random.Random) -> str:
    # By rank, evenly: as many rare ones as a person with a rare shop's question would ask for.
    return rnd.choice(SHOPS)


def _hours(selection: Selection, rnd: random.Random, rows: Rows, hours: int) -> Selection:
    """The selection within so many hours, somewhere."""
    since = rows.first_day * DAY + rnd.randrange((DAYS - 1) * DAY)
    return replace(selection, since=since, until=since + hours * DAY // 24)


KINDS: dict[str, Draw] = {
    "nothing": lambda rnd, rows: Selection(),
    "shop": lambda rnd, rows: Selection(shops=(_shop(rnd),)),
    "one of 5 shops": lambda rnd, rows: Selection(shops=tuple(rnd.sample(SHOPS, 5))),
    "topic": lambda rnd, rows: Selection(topics=(rnd.choice(TOPICS),)),
    "topic with *": lambda rnd, rows: Selection(topics=(rnd.choice(TOPICS).partition("/")[0] + "/*",)),
    "shop and topic": lambda rnd, rows: Selection(shops=(_shop(rnd),), topics=(rnd.choice(TOPICS),)),
    "shop and topic with *": lambda rnd, rows: Selection(shops=(_shop(rnd),), topics=("*/" + rnd.choice(TOPICS).partition("/")[2],)),
    "rare shop and rare topic": lambda rnd, rows: Selection(shops=(rnd.choice(SHOPS[-500:]),), topics=(rnd.choice(TOPICS[-10:]),)),
    "resource": lambda rnd, rows: Selection(resources=(rnd.choice(rows.resources),)),
    "webhook id": lambda rnd, rows: Selection(ids=(rnd.choice(rows.webhooks),)),
    "time range": lambda rnd, rows: _hours(Selection(), rnd, rows, 6),
    "time triggered": lambda rnd, rows: _hours(Selection(clock=Clock.TRIGGERED), rnd, rows, 6),
    "shop and time range": lambda rnd, rows: _hours(Selection(shops=(_shop(rnd),)), rnd, rows, 48),
    "topic and time range": lambda rnd, rows: _hours(Selection(topics=(rnd.choice(TOPICS),)), rnd, rows, 6),
    "dead": lambda rnd, rows: Selection(statuses=(Status.DEAD,)),
    "waiting": lambda rnd, rows: Selection(statuses=(Status.FAILED, Status.HELD)),
    "succeeded": lambda rnd, rows: Selection(statuses=(Status.SUCCEEDED,)),
    "dead and shop": lambda rnd, rows: Selection(statuses=(Status.DEAD,), shops=(_shop(rnd),)),
    "dead and topic": lambda rnd, rows: Selection(statuses=(Status.DEAD,), topics=(rnd.choice(TOPICS),)),
    "dead and time range": lambda rnd, rows: _hours(Selection(statuses=(Status.DEAD,)), rnd, rows, 6),
    "succeeded and shop": lambda rnd, rows: Selection(statuses=(Status.SUCCEEDED,), shops=(_shop(rnd),)),
    "error group": lambda rnd, rows: Selection(error_groups=(f"error-{rnd.randrange(ERRORS)}",)),
}


def written(settings: Settings, url: str, events: int) -> Span:
    """Seconds from an empty catalogue to one that has them all, on disk."""
    with Ledger.open(url) as ledger, Cataloguer(settings, ledger) as cataloguer:
        start, cpu = time.perf_counter(), time.process_time()
        cataloguer.catch_up()
        span = Span(time.perf_counter() - start, time.process_time() - cpu)
        if (got := ledger.catalogue.count(Selection())) != events:
            raise SystemExit(f"{got} events were catalogued, {events} are on the tape: this run is no measurement.")
    return span


def emptied(url: str) -> str:
    """The same PostgreSQL with nothing in it."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


def writing(events: int, rounds: int) -> list[Result]:
    """Measures in turns, prints."""
    spans: dict[str, list[Span]] = {}
    with folder() as home, broker(home) as bootstrap, postgres(home) as url:
        settings = tape(bootstrap, home)
        fill_tape(settings, events, KEYS)
        everyone: dict[str, Callable[[], Span]] = {
            "bare consume + decode": lambda: apart(bare, settings, events, True),
            "hooktape (sqlite)": lambda: apart(written, settings, sqlite(home), events),
            "hooktape (postgresql)": lambda: apart(written, settings, emptied(url), events),
        }
        for number in range(rounds):
            for name, measure in everyone.items():
                spans.setdefault(name, []).append(span := measure())
                print(f"round {number + 1}: {name}: {events / span.seconds:,.0f} events/s", file=sys.stderr, flush=True)
    print(f"{events:,} events of {SIZE} bytes, one process, median of {rounds}; {machine()}")
    results: list[Result] = []
    for name, found in spans.items():
        rate = statistics.median(events / span.seconds for span in found)
        cpu = statistics.median(span.cpu / events * 1e6 for span in found)
        ratio = statistics.median(b.seconds / s.seconds for b, s in zip(spans["bare consume + decode"], found, strict=True))
        print(f"{name:24} {rate:>9,.0f} events/s   {ratio:4.2f} of bare + decode   {cpu:5.1f} µs of CPU an event")
        for case, value, unit in (("writing", round(rate), "events/s"), ("writing, CPU", round(cpu, 1), "µs/event")):
            results.append(Result(bench="catalogue", case=f"{case}, {SIZE} bytes", system=name, value=value, unit=unit))
        if name == "hooktape (sqlite)":
            print(wanted("events/s on SQLite", rate, WANTED_RATE, least=True))
    return results


@contextmanager
def filled(dialect: str, count: int, keep: str | None) -> Iterator[tuple[str, Rows]]:
    """The address of a ledger with the rows, and where they came from."""
    rows = Rows(count)
    with folder() as home:
        kept = Path(keep) / f"catalogue-{count}.db" if keep and dialect == "sqlite" else None
        if count * BYTES_A_ROW > (free := shutil.disk_usage(kept.parent if kept else home).free):
            raise SystemExit(f"{count * BYTES_A_ROW >> 20:,} MiB are needed and {free >> 20:,} free: fewer --rows, or another TMPDIR.")
        if dialect == "sqlite":
            url = f"sqlite:///{kept}" if kept else sqlite(home)
            _once(url, rows)
            yield url, rows
        else:
            with postgres(home) as url:
                _once(url, rows)
                _settled(url)
                yield url, rows


def _once(url: str, rows: Rows) -> None:
    with Ledger.open(url) as ledger:
        database = ledger._database
        if not database.read(lambda t: t.row("SELECT 1 FROM event_days LIMIT 1")):
            fill(database, rows)
        (rows.first_day,) = database.read(lambda t: t.row("SELECT MIN(day) FROM event_days")) or (0,)
        sample = "SELECT webhook_id, root FROM events WHERE day = :day LIMIT 1000"
        found = database.read(lambda t: t.rows(sample, {"day": rows.first_day + 9}))
        rows.webhooks, rows.resources = [row[0] for row in found], [row[1] for row in found]


def _settled(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for (name,) in connection.execute("SELECT inhrelid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid "
                                          "WHERE c.relkind = 'r'").fetchall():  # fmt: skip
            connection.execute(f"VACUUM ANALYZE {name}".encode())


def searches(dialect: str, count: int, keep: str | None) -> list[Result]:
    """Times each kind of search, keeps its plans, prints."""
    results: list[Result] = []
    plans: list[str] = []
    with filled(dialect, count, keep) as (url, rows), Ledger.open(url) as ledger:
        print(f"{dialect}: pages of {PAGE} of {count:,} events, {DRAWS} of each kind, milliseconds; {machine()}")
        worst = 0.0
        for kind, draw in KINDS.items():
            for where in ("first page", "inside"):
                rnd = random.Random(f"{kind} {where}")  # the same for both databases
                times: list[float] = []
                lengths: list[int] = []
                for _ in range(DRAWS):
                    selection = draw(rnd, rows)
                    group = GROUP if selection.needs_group else None
                    at = rows.first_day * DAY + rnd.randrange(DAYS * DAY // 4, DAYS * DAY * 3 // 4)
                    if selection.since is not None and selection.until is not None:
                        at = (selection.since + selection.until) // 2
                    after = None if where == "first page" else After(at, rnd.randbytes(16), at - 500_000)
                    start = time.perf_counter()
                    lengths.append(len(ledger.catalogue.find(selection, group, after=after, limit=PAGE, newest_first=True)))
                    times.append((time.perf_counter() - start) * 1e3)
                p50, p95, most = statistics.median(times), sorted(times)[int(DRAWS * 0.95)], max(times)
                worst = max(worst, p95)
                print(f"{kind:26} {where:10} p50 {p50:7.1f}   p95 {p95:7.1f}   max {most:7.1f}   events {statistics.mean(lengths):5.1f}"
                      f"{'' if p95 < WANTED_MS else '   MISSED'}", flush=True)  # fmt: skip
                results.append(Result(bench="catalogue", case=f"page of {PAGE} of {count}, {kind}, {where}, p95",
                                      system=f"hooktape ({dialect})", value=round(p95, 1), unit="ms"))  # fmt: skip
                plans.append(f"== {kind}, {where}: {selection.describe()}\n{plan(ledger._database, selection, group, after)}\n")
        print(wanted(f"{dialect}, p95 of the slowest kind in ms", worst, WANTED_MS, least=False))
    text = f"{count:,} events, one page of {PAGE} of each kind of search, newest first.\n\n" + "\n".join(plans)
    (Path(__file__).parent / "results" / f"catalogue-plans-{dialect}.txt").write_text(text)
    return results


def plan(database: Database, selection: Selection, group: str | None, after: After | None) -> str:
    """How the database answers; PostgreSQL's with what it did."""

    def asked(t: Transaction) -> list[tuple[object, ...]]:
        t.step_by_index()
        query = search.compile(t, selection, group)
        if query is None:
            raise SystemExit(f"nothing can match: {selection.describe()}")
        sql, params = query.page(COLUMNS, after.by(query.clock) if after else None, PAGE, True)
        how = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF)"
        return t.rows(f"{how} {sql}", params)

    found = database.read(asked)
    if database.dialect == "postgresql":
        return "\n".join(shortened([str(line) for (line,) in found]))
    depth: dict[object, int] = {0: -1}
    lines = []
    for number, parent, _, text in found:
        depth[number] = depth.get(parent, -1) + 1
        lines.append("  " * depth[number] + str(text))
    return "\n".join(lines)


def shortened(lines: list[str]) -> list[str]:
    """A plan of which each Append shows the first of its partitions that was read, and how many more there are."""
    kept: list[str] = []
    more: dict[int, int] = {}  # indent of a partition's node → how many there were at that place
    dropping: int | None = None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if dropping is not None and indent > dropping:
            continue
        dropping = None
        for deeper in sorted((depth for depth in more if depth > indent), reverse=True):
            if (hidden := more.pop(deeper) - 1) > 0:
                kept.append(f"{' ' * deeper}(and {hidden} more partitions)")
        if PARTITION.search(line):
            more[indent] = more.get(indent, 0) + 1
            if more[indent] > 1:
                dropping = indent
                continue
        kept.append(line)
    return kept


def main() -> None:
    """Measures what is asked for."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--databases", default="sqlite,postgresql")
    options.add_argument("--keep")
    chosen = options.parse_args()
    results = writing(chosen.events, chosen.rounds) if chosen.rounds else []
    for dialect in chosen.databases.split(",") if chosen.rows else ():
        results += searches(dialect, chosen.rows, chosen.keep)
    if not chosen.no_record:
        record("catalogue", results)


if __name__ == "__main__":
    main()
