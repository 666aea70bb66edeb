"""A selection as SQL, written so that each kind of search is an index look-up on both databases.

A page is read from an index that ends in the page's order, and stops when it's full: what it costs follows from the page, not from how
many events match. Three shapes do that:

- one shop, one topic, both, or neither: one walk along the index of these;
- several (a topic with `*` becomes those that the catalogue has met): a walk for each, of which the pages are merged. One walk
  with `IN` would sort all that match before it knew the first;
- by a status other than succeeded: along the failures' index in the outcomes, which has the pages' order for this.

Ids and resources name few events, which are sorted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from hooktape.errors import UsageError
from hooktape.ledger.checks import FAILED, State
from hooktape.ledger.database import Transaction
from hooktape.ledger.selection import NO_ROW, Clock, Selection, Status

_DAY = 86_400_000_000  # microseconds
STATES = {Status.FAILED: State.WAITING, Status.HELD: State.BEHIND, Status.SUCCEEDED: State.SUCCEEDED, Status.STALE: State.STALE,
          Status.DEAD: State.DEAD, Status.DISCARDED: State.DISCARDED}  # fmt: skip
STATUSES = {state: status for status, state in STATES.items()}
# A plain OR makes SQLite walk whole days. The first term on `resource` is that of its partial index.
_PART = "resource <> COALESCE(root, '') AND resource IN :resources"
_OF_RESOURCES = f"""(SELECT * FROM events WHERE day IN :days AND {_PART}
    UNION ALL SELECT * FROM events WHERE day IN :days AND root IN :resources AND NOT COALESCE({_PART}, FALSE)) AS e"""
_ERROR = "o.error_type, o.error_group, o.error_message"
_OUTCOME = "outcomes o ON o.day = e.day AND o.grp = :grp AND o.id = e.id"
# Ids and resources name few events. The sum keeps the planner from walking along all events in the order that's wanted instead.
_FEW = "({} + 0)"
TIMES = {Clock.RECEIVED: "e.received_at", Clock.TRIGGERED: "COALESCE(e.triggered_at, e.received_at)"}
# Walks that are merged into one page: each costs a look-up, some twenty microseconds, and reads up to a page. Beyond that a walk
# along all events passes so many that match that it needn't go far.
_WALKS = 100


@dataclass(slots=True)
class Query:
    """`FROM` and `WHERE` of a search, with its parameters.

    Pages are ordered by `time`, which is `clock`'s, and `id`. `walks`: column and value of each walk of several, all with the same columns.
    """

    tables: str
    terms: list[str] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    outcomes: bool = False
    clock: Clock = Clock.RECEIVED
    time: str = TIMES[Clock.RECEIVED]
    id: str = "e.id"
    walks: list[dict[str, str]] = field(default_factory=list)
    lateral: bool = False

    def page(self, columns: str, after: tuple[int, bytes] | None, limit: int,
             newest_first: bool) -> tuple[str, Mapping[str, Any]]:  # fmt: skip
        """The events themselves, by time and id."""
        terms, params = [*self.terms], {**self.params, "limit": limit}
        order = "DESC" if newest_first else "ASC"
        if after is not None:
            # The cursor lies inside of the period and so is the closer bound. SQLite takes one for the index, and it might be the other:
            # each page of a long period would be walked to from its beginning.
            edge, sign = ("until", "<") if newest_first else ("since", ">=")
            if edge in params and (after[0] < params[edge] if newest_first else after[0] >= params[edge]):
                terms = [term for term in terms if term != f"{self.time} {sign} :{edge}"]
            terms.append(f"({self.time}, {self.id}) {'<' if newest_first else '>'} (:after_at, :after_id)")
            params |= {"after_at": after[0], "after_id": after[1]}
            if self.clock is Clock.TRIGGERED:
                # Redundant; SQLite knows no comparison of several values in an index on an expression.
                terms.append(f"{self.time} {'<=' if newest_first else '>='} :after_at")
        # What the page is ordered by is what it shows: the copy that a group handled needn't be the first.
        shown = {"received_at": self.time} if self.time.startswith("o.") else {}
        names = [column.strip() for column in columns.split(",")]
        wanted = ", ".join(shown.get(name, f"e.{name}") for name in names)
        state = f"o.state, o.attempts, {_ERROR}" if self.outcomes else "NULL, NULL, NULL, NULL, NULL"
        ordered = f"ORDER BY {self.time} {order}, {self.id} {order} LIMIT :limit"
        if not self.walks:
            return f"SELECT {wanted}, {state} FROM {self.tables} WHERE {_all(terms)} {ordered}", params
        walk = f"SELECT {self.time} AS at, e.day, e.id FROM {self.tables} WHERE {{}} {ordered}"
        merged = _lateral(walk, self.walks, terms, params) if self.lateral else _union(walk, self.walks, terms, params)
        joined = f" LEFT JOIN {_OUTCOME}" if self.outcomes else ""
        # The merged places first, the events of one page after that.
        page = f"SELECT at, day, id FROM ({merged}) AS w ORDER BY at {order}, id {order} LIMIT :limit"
        return (f"SELECT {wanted}, {state} FROM ({page}) AS m "
                f"JOIN events e ON e.day = m.day AND e.id = m.id{joined} ORDER BY m.at {order}, m.id {order}"), params  # fmt: skip

    def count(self, limit: int | None = None) -> tuple[str, Mapping[str, Any]]:
        """Their number, at most `limit`."""
        params = {**self.params, "limit": limit}
        terms = [*self.terms]
        for column in self.walks[0] if self.walks else ():
            terms.append(f"e.{column} IN :{column}_walks")
            params[f"{column}_walks"] = sorted({walk[column] for walk in self.walks})
        rows = f"FROM {self.tables} WHERE {_all(terms)}"
        return (f"SELECT COUNT(*) {rows}" if limit is None else f"SELECT COUNT(*) FROM (SELECT 1 {rows} LIMIT :limit) AS n"), params


def _all(terms: Sequence[str]) -> str:
    return " AND ".join(terms) or "1 = 1"


def _union(walk: str, walks: Sequence[Mapping[str, str]], terms: Sequence[str], params: dict[str, Any]) -> str:
    parts = []
    for number, values in enumerate(walks):
        own = [f"e.{column} = :{column}_{number}" for column in values]
        params |= {f"{column}_{number}": value for column, value in values.items()}
        parts.append(f"SELECT * FROM ({walk.format(_all([*terms, *own]))})")
    return " UNION ALL ".join(parts)


def _lateral(walk: str, walks: Sequence[Mapping[str, str]], terms: Sequence[str], params: dict[str, Any]) -> str:
    """Planned once for all walks: PostgreSQL would plan each part of a union over the partitions of all days."""
    columns = list(walks[0])
    params |= {f"{column}_each": [values[column] for values in walks] for column in columns}
    own = [f"e.{column} = v.{column}" for column in columns]
    arrays = ", ".join(f"CAST(:{column}_each AS text[])" for column in columns)
    return f"SELECT x.* FROM unnest({arrays}) AS v({', '.join(columns)}) CROSS JOIN LATERAL ({walk.format(_all([*terms, *own]))}) AS x"


def known_topics(t: Transaction) -> list[str]:
    return [topic for (topic,) in t.rows("SELECT topic FROM event_topics ORDER BY topic")]


def compile(t: Transaction, selection: Selection, group: str | None,
            beyond: Mapping[tuple[str, int], int] | None = None) -> Query | None:  # fmt: skip
    """The search for a selection; None when nothing can match. Raises UsageError when it needs a group, or the tape.

    `beyond`: only events at or behind these offsets of the tape's partitions, found by their places; for few of them.
    """
    if selection.needs_group and group is None:
        raise UsageError("A status, attempts and an error group are a consumer group's: name the group too.")
    if selection.needs_tape:
        raise UsageError("Bodies and committed offsets aren't in the catalogue: `replayer.finding.Finder` selects by them.")
    if beyond is not None and not beyond:
        return None
    few = bool(selection.ids or selection.resources)
    by_outcome = _is_by_outcome(selection) and not few
    query = Query(_tables(t, selection, group, by_outcome), outcomes=group is not None, clock=selection.clock, time=TIMES[selection.clock],
                  lateral=t.lateral)  # fmt: skip
    query.params["grp"] = group
    if beyond is not None:
        _beyond(query, beyond)
    if few or beyond is not None:
        query.time = _FEW.format(query.time)
    elif by_outcome:
        query.clock, query.time, query.id = Clock.RECEIVED, "o.received_at", "o.id"
    _text(query, "source", selection.sources)
    topics = _matching(t, selection.topics)
    if selection.topics and not topics:
        return None
    _walk(query, {"shop": selection.shops, "topic": topics}, one=few or by_outcome or beyond is not None)
    if few:
        days = _days(t)
        if not days:
            return None
        query.params["days"] = days
    if selection.ids:
        query.terms.append("e.day IN :days")
        _text(query, "webhook_id", selection.ids)
    if selection.resources:
        query.params["resources"] = list(selection.resources)
    _period(query, selection)
    if selection.needs_group:
        _status(query, selection)
    if by_outcome:
        _along_outcomes(query, selection, topics)
    return query


def of_prefix(t: Transaction, prefix: str) -> Query | None:
    """The search for events by the beginning of their webhook id."""
    days = _days(t)
    if not days:
        return None
    # Not LIKE: SQLite takes no index for it, since there it doesn't tell small letters from capitals.
    return Query("events e", ["e.day IN :days", "e.webhook_id >= :prefix", "e.webhook_id < :end"],
                 {"days": days, "prefix": prefix, "end": prefix[:-1] + chr(ord(prefix[-1]) + 1)})  # fmt: skip


def of_ids(t: Transaction, ids: Sequence[bytes], group: str | None) -> Query | None:
    """The search for events by their 16-byte ids."""
    days = _days(t)
    if not days:
        return None
    return Query(_tables(t, Selection(), group), ["e.day IN :days", "e.id IN :ids"], {"grp": group, "days": days, "ids": list(ids)},
                 group is not None)  # fmt: skip


def _tables(t: Transaction, selection: Selection, group: str | None, by_outcome: bool = False) -> str:
    events = _OF_RESOURCES if selection.resources else "events e"
    if group is None:
        return events
    # Only an event without an outcome needs the outer join. A search by status starts from the outcomes' index, any other from the
    # events': an analysed SQLite would scan and sort whichever table is the smaller one.
    join = "LEFT JOIN" if not _has_outcome(selection) else "JOIN" if by_outcome else t.stepwise_join
    return f"{events} {join} {_OUTCOME}"


def _has_outcome(selection: Selection) -> bool:
    return bool(selection.error_groups or selection.attempts) or (bool(selection.statuses) and not selection.takes_no_outcome)


def _beyond(query: Query, places: Mapping[tuple[str, int], int]) -> None:
    rows = []
    for i, ((topic, partition), offset) in enumerate(places.items()):
        rows.append(f"(:topic_{i}, CAST(:part_{i} AS INTEGER), CAST(:from_{i} AS BIGINT))")
        query.params |= {f"topic_{i}": topic, f"part_{i}": partition, f"from_{i}": offset}
    # CROSS JOIN: SQLite then begins with the places; PostgreSQL knows how few they are.
    query.tables = f"(VALUES {', '.join(rows)}) b CROSS JOIN {query.tables}"
    query.terms.append("e.kafka_topic = b.column1 AND e.kafka_partition = b.column2 AND e.kafka_offset >= b.column3")


def _is_by_outcome(selection: Selection) -> bool:
    """Whether all that it selects stands in the outcomes' index of what hasn't succeeded."""
    return _has_outcome(selection) and (bool(selection.error_groups)
                                        or (bool(selection.statuses) and Status.SUCCEEDED not in selection.statuses))  # fmt: skip


def _walk(query: Query, wanted: Mapping[str, Sequence[str]], *, one: bool) -> None:
    """Equality where there's one value, a walk for each where there are several; `IN` where these would be too many, or `one`."""
    several = {column: values for column, values in wanted.items() if len(values) > 1}
    while several and len(list(product(*several.values()))) > _WALKS:
        del several[max(several, key=lambda column: len(several[column]))]
    if one:
        several = {}
    for column, values in wanted.items():
        if len(values) == 1:
            query.terms.append(f"e.{column} = :{column}")
            query.params[column] = values[0]
        elif column not in several:
            _text(query, column, values)
    query.walks = [dict(zip(several, values, strict=True)) for values in product(*several.values())] if several else []


def _text(query: Query, column: str, values: Sequence[str]) -> None:
    if values:
        query.terms.append(f"e.{column} IN :{column}_values")
        query.params[f"{column}_values"] = list(values)


def _matching(t: Transaction, patterns: Sequence[str]) -> list[str]:
    """Topics with `*` become the topics that the catalogue has met: few, and each is an index look-up."""
    plain = {p for p in patterns if "*" not in p}
    # fnmatch's other wildcards mean themselves here.
    wild = [p.replace("[", "[[]").replace("?", "[?]") for p in patterns if "*" in p]
    return sorted(plain | {topic for topic in known_topics(t) if any(fnmatchcase(topic, p) for p in wild)} if wild else plain)


def _days(t: Transaction) -> list[int]:
    return [day for (day,) in t.rows("SELECT day FROM event_days ORDER BY day")]


def _period(query: Query, selection: Selection) -> None:
    time = query.time if selection.clock is Clock.RECEIVED else TIMES[selection.clock]
    for name, value, sign in (("since", selection.since, ">="), ("until", selection.until, "<")):
        if value is not None:
            query.terms.append(f"{time} {sign} :{name}")
            query.params[name] = value


def _status(query: Query, selection: Selection) -> None:
    states = [STATES[status].value for status in selection.statuses if status not in NO_ROW]
    terms = []
    if states:
        terms.append("o.state IN :states")
        query.params["states"] = states
    if selection.takes_no_outcome:
        terms.append("o.state IS NULL")
    if terms:
        query.terms.append(f"({' OR '.join(terms)})")
    if selection.attempts is not None:
        query.terms.append("o.attempts >= :attempts")
        query.params["attempts"] = selection.attempts
    if selection.error_groups:
        query.terms.append("o.error_group IN :error_groups")
        query.params["error_groups"] = list(selection.error_groups)


def _along_outcomes(query: Query, selection: Selection, topics: Sequence[str]) -> None:
    """Redundant terms: the first lets the planner take the partial index, the others look there and spare the events' rows."""
    query.terms.append("o.received_at IS NOT NULL")
    if topics:
        query.terms.append("o.topic IN :outcome_topics")
        query.params["outcome_topics"] = list(topics)
    # Only a failure's row tells its shop.
    if selection.shops and (selection.error_groups or {STATES[s] for s in selection.statuses} <= FAILED):
        query.terms.append("o.shop IN :outcome_shops")
        query.params["outcome_shops"] = list(selection.shops)
