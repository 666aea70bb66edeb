"""Every kind of search is answered from an index, page by page: on SQLite as it is, on PostgreSQL with what autovacuum tells it."""

import re
from collections.abc import Iterator
from itertools import pairwise, takewhile

import pytest

from hooktape.ledger import search, versions
from hooktape.ledger.catalogue import COLUMNS, After, Entry
from hooktape.ledger.checks import Finish, State
from hooktape.ledger.database import Transaction
from hooktape.ledger.keys import EventKey, event_id16
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Clock, Selection, Status

from .conftest import DAY, Owner

MICROS = 86_400_000_000
TOPICS = ("orders/create", "orders/updated", "products/update", "refunds/create")
# Enough that reading all of them costs a planner more than an index does, and quickly made.
EVENTS = 3000
DAYS = 3
START = (DAY - 1) * MICROS
KINDS: dict[str, dict[str, object]] = {
    "nothing": {},
    "shop": {"shops": ("s1",)},
    "shops": {"shops": ("s1", "s2", "s3")},
    "topic": {"topics": ("orders/create",)},
    "topic with *": {"topics": ("orders/*",)},
    "shop and topic": {"shops": ("s1",), "topics": ("orders/create",)},
    "shops and topic with *": {"shops": ("s1", "s2"), "topics": ("orders/*",)},
    "resource": {"resources": ("order/7",)},
    "resources of a shop": {"resources": ("order/7", "refund/11"), "shops": ("s1",)},
    "id": {"ids": ("w5",)},
    "ids": {"ids": ("w5", "w6", "no")},
    "time": {"since": START + 5_000_000, "until": START + 2 * MICROS},
    "time triggered": {"since": START + 5_000_000, "until": START + 2 * MICROS, "clock": Clock.TRIGGERED},
    "shop and time": {"shops": ("s1",), "since": START + 5_000_000, "until": START + 2 * MICROS},
    "topic and time": {"topics": ("orders/create",), "since": START + 5_000_000, "until": START + 2 * MICROS},
    "dead": {"statuses": (Status.DEAD,)},
    "held": {"statuses": (Status.HELD,)},
    "dead, failed or held": {"statuses": (Status.DEAD, Status.FAILED, Status.HELD)},
    "dead of a shop": {"statuses": (Status.DEAD,), "shops": ("s1",)},
    "dead of topics": {"statuses": (Status.DEAD,), "topics": ("orders/*",)},
    "dead in a time": {"statuses": (Status.DEAD,), "since": START + 5_000_000, "until": START + 2 * MICROS},
    "succeeded": {"statuses": (Status.SUCCEEDED,)},
    "succeeded of a shop": {"statuses": (Status.SUCCEEDED,), "shops": ("s1",)},
    "succeeded of topics": {"statuses": (Status.SUCCEEDED,), "topics": ("orders/*",)},
    "error group": {"error_groups": ("e3",)},
    "error groups": {"error_groups": ("e3", "e4")},
    "attempts": {"attempts": 3},
    "dead after attempts": {"statuses": (Status.DEAD,), "attempts": 3},
    "no outcome": {"statuses": (Status.PENDING, Status.NEVER_SEEN)},
    "no outcome in a shop": {"statuses": (Status.PENDING, Status.NEVER_SEEN), "shops": ("s1",)},
    "no outcome or dead": {"statuses": (Status.PENDING, Status.NEVER_SEEN, Status.DEAD)},
}  # fmt: skip
# Few events by nature, which may be sorted.
SORTED = {"resource", "resources of a shop", "id", "ids"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[dict[str, Ledger]]:
    made: dict[str, Ledger] = {}
    yield made
    for ledger in made.values():
        ledger.close()


@pytest.fixture(params=["sqlite", "sqlite, analysed", pytest.param("postgresql", marks=pytest.mark.postgres)])
def full(request: pytest.FixtureRequest, filled: dict[str, Ledger], tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    kind: str = request.param
    if kind not in filled:
        filled[kind] = ledger = Ledger.open(_url(kind, request, tmp_path_factory))
        _fill(ledger)
        if kind == "postgresql":
            tables = ledger._database.read(lambda t: t.rows("SELECT inhrelid::regclass::text FROM pg_inherits i JOIN pg_class c "
                                                            "ON c.oid = inhrelid WHERE c.relkind = 'r'"))  # fmt: skip
            ledger._database.write(lambda t: [t.run(f"ANALYZE {name}") for (name,) in tables])
        elif kind != "sqlite":
            ledger._database.write(lambda t: t.run("ANALYZE"))
    return filled[kind]


def _url(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if kind != "postgresql":
        return f"sqlite:///{tmp_path_factory.mktemp('plans')}/ledger.db"
    import psycopg

    server: str = request.getfixturevalue("postgres_url")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA plans")
    return f"{server}{'&' if '?' in server else '?'}options=-csearch_path%3Dplans"


def _fill(ledger: Ledger) -> None:
    rows = []
    for n in range(EVENTS):
        at = START + n * (DAYS * MICROS // EVENTS)
        shop, root = f"s{n % 5}", f"order/{n % 700}"
        key, resource = EventKey(at // MICROS, event_id16(shop, f"w{n}")), f"refund/{n}" if n % 4 == 3 else root
        rows.append(Entry(key, shop, TOPICS[n % 4], f"w{n}", resource, root, 5, at - 1000, at, "webhook", "log", n % 2, n, 900))
    assert ledger.catalogue.record(rows, {("log", 0): EVENTS}, {("log", 0): None})
    me = Owner(ledger)
    ends = [Finish(r.key, _state(r.offset), 1 + r.offset // 100 % 4, 0, me.epoch, r.topic, error_group=f"e{r.offset % 9}",
                   error_type="KeyError", shop=r.shop, received_us=r.received_at) for r in rows if not _is_open(r.offset)]  # fmt: skip
    assert all(me.record(ends))


def _state(n: int) -> State:
    return State.DEAD if n % 20 == 1 else State.WAITING if n % 50 == 2 else State.BEHIND if n % 50 == 3 else State.SUCCEEDED


def _is_open(n: int) -> bool:
    """Whether the group has no outcome of it."""
    return n % 7 == 4


def _group(fields: dict[str, object]) -> str | None:
    return "g" if Selection(**fields).needs_group else None  # type: ignore[arg-type]


def _plan(t: Transaction, ledger: Ledger, fields: dict[str, object], after: After | None,
          beyond: dict[tuple[str, int], int] | None = None) -> str:  # fmt: skip
    t.step_by_index()
    query = search.compile(t, Selection(**fields), _group(fields), beyond)  # type: ignore[arg-type]
    assert query is not None
    sql, params = query.page(COLUMNS, after.by(query.clock) if after else None, 20, True)
    if ledger.dialect == "sqlite":
        return "\n".join(row[3] for row in t.rows(f"EXPLAIN QUERY PLAN {sql}", params))
    return "\n".join(line for (line,) in t.rows(f"EXPLAIN (COSTS OFF) {sql}", params))


@pytest.mark.parametrize("after", [None, After(START + MICROS, b"\x80" * 16, START + MICROS)], ids=["first page", "inside"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_search_walks_an_index_and_sorts_no_more_than_pages(full: Ledger, kind: str, after: After | None) -> None:
    text = full._database.read(lambda t: _plan(t, full, KINDS[kind], after))
    if full.dialect == "sqlite":
        # What is scanned without an index has been found by one: `e` where it's a subquery, `m` and others are pages.
        found = set(re.findall(r"^(?:CO-ROUTINE|MATERIALIZE) (\S+)", text, re.MULTILINE))
        scans = re.findall(r"^SCAN (?!\S+ USING )(\S+)", text, re.MULTILINE)
        assert set(scans) <= found, text
        sorts = len(re.findall("TEMP B-TREE FOR ORDER BY", text))
        assert kind in SORTED or sorts == len(scans), text
        # A page deep inside begins at its cursor, not at the beginning of what is searched.
        assert kind in SORTED or after is None or "<(?,?)" in text or "<expr><?" in text, text
    else:
        assert "Seq Scan" not in text, text
        assert kind in SORTED or not _sorts_tables(text.splitlines()), text


def test_what_lies_beyond_places_is_found_by_them(full: Ledger) -> None:
    beyond = {("log", 0): EVENTS - 40, ("log", 1): EVENTS - 20}
    text = full._database.read(lambda t: _plan(t, full, KINDS["no outcome"], None, beyond))
    assert "kafka_offset" in text, text
    assert "Seq Scan" not in text, text
    assert not re.search(r"^SCAN [eo]\b", text, re.MULTILINE), text
    found = full.catalogue.find(Selection(statuses=(Status.PENDING, Status.NEVER_SEEN)), "g", beyond=beyond)
    assert [e.offset for e in found] == [n for n in range(EVENTS - 40, EVENTS) if _is_open(n) and n >= beyond["log", n % 2]] != []


def _sorts_tables(lines: list[str]) -> list[str]:
    """Sorts with no limit between them and the tables that they read."""
    found = []
    for number, line in enumerate(lines):
        if "->  Sort" in line or line.startswith("Sort"):
            depth = line.index("Sort") - 4
            below = takewhile(lambda other, depth=depth: len(other) - len(other.lstrip()) > depth, lines[number + 1 :])  # type: ignore[misc]
            if not any("Limit" in other for other in below):
                found.append(line)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_hold_what_the_selection_means_in_order(full: Ledger, kind: str, newest_first: bool) -> None:
    fields = KINDS[kind]
    every = full.catalogue.find(Selection(), "g", limit=EVENTS + 1)
    assert len(every) == EVENTS
    wanted = [e for e in every if _holds(e, fields)]
    read: list[Entry] = []
    after = None
    selection = Selection(**fields)  # type: ignore[arg-type]
    while page := full.catalogue.find(selection, _group(fields), after=after, limit=97, newest_first=newest_first):
        read += page
        after = After.of(page[-1])
        if len(read) > EVENTS:
            break
    assert {e.key for e in read} == {e.key for e in wanted}
    assert len(read) == len(wanted) > 0
    assert all((a.received_at > b.received_at) is newest_first for a, b in pairwise(read))
    assert full.catalogue.count(selection, _group(fields)) == len(wanted)
    assert full.catalogue.count(selection, _group(fields), limit=5) == min(5, len(wanted))


def _holds(e: Entry, fields: dict[str, object]) -> bool:
    pick = Selection(**fields)  # type: ignore[arg-type]
    at = e.received_at if pick.clock is Clock.RECEIVED or e.triggered_at is None else e.triggered_at
    return (
        (not pick.shops or e.shop in pick.shops)
        and (not pick.topics or any(re.fullmatch(topic.replace("*", ".*"), e.topic) for topic in pick.topics))
        and (not pick.resources or e.resource in pick.resources or e.root in pick.resources)
        and (not pick.ids or e.webhook_id in pick.ids)
        and (pick.since is None or at >= pick.since) and (pick.until is None or at < pick.until)
        and (not pick.statuses or e.status in pick.statuses)
        and (not pick.error_groups or e.error_group in pick.error_groups)
        and (pick.attempts is None or e.attempts >= pick.attempts)
    )  # fmt: skip


def test_newest_versions_are_looked_up_one_by_one_by_a_database_that_knows_nothing_of_its_tables(ledger: Ledger) -> None:
    _fill(ledger)
    every = ledger.catalogue.find(Selection(), "g", limit=EVENTS + 1)
    wanted = sorted({(e.shop, e.topic, e.resource or "") for e in every[:2000]})
    text = "\n".join(ledger._database.read(lambda t: list(_newest_plans(t, ledger, wanted))))
    if ledger.dialect == "sqlite":
        assert re.findall(r"(?:SCAN|SEARCH) e USING INDEX (.*)", text) == ["events_root (day=? AND root=?)",
                                                                           "events_resource (day=? AND resource=?)"], text  # fmt: skip
        assert re.findall(r"(?:SCAN|SEARCH) o .*INDEX \S+ (.*)", text) == ["(day=? AND grp=? AND id=?)"] * 2, text
    else:
        assert "Seq Scan" not in text, text
        for column in ("root", "resource"):
            assert len(re.findall(rf'Index Cond: .*\({column} = "\*VALUES\*".column3', text)) == DAYS, text
        assert all("grp = " in line and "id = e.id" in line for line in re.findall(r"Index Cond: \(\(day = e.day.*", text)), text
    newest = ledger.catalogue.newest_succeeded("g", every[:2000])
    assert newest == dict.fromkeys(((e.shop, e.topic, e.resource) for e in every
                                    if e.status is Status.SUCCEEDED and (e.shop, e.topic, e.resource) in wanted), 5)  # fmt: skip


def _newest_plans(t: Transaction, ledger: Ledger, wanted: list[versions.Of]) -> Iterator[str]:
    t.step_by_index()
    for sql, params in versions.statements("g", [START // MICROS + day for day in range(DAYS)], wanted):
        if ledger.dialect == "sqlite":
            yield from (row[3] for row in t.rows(f"EXPLAIN QUERY PLAN {sql}", params))
        else:
            yield from (line for (line,) in t.rows(f"EXPLAIN (COSTS OFF) {sql}", params))
