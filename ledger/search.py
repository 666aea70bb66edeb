"""A selection as SQL, written so that each kind of search is an index look-up on both databases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from hooktape.errors import UsageError
from hooktape.ledger.checks import State
from hooktape.ledger.database import Transaction
from hooktape.ledger.selection import Clock, Selection, Status

_DAY = 86_400_000_000  # microseconds
NO_ROW = frozenset({Status.PENDING, Status.NEVER_SEEN})
"""What SQL can't tell apart: the group has no outcome. Its committed offsets say which of the two it is."""
STATES = {Status.FAILED: State.WAITING, Status.HELD: State.BEHIND, Status.SUCCEEDED: State.SUCCEEDED, Status.STALE: State.STALE,
          Status.DEAD: State.DEAD, Status.DISCARDED: State.DISCARDED}  # fmt: skip
STATUSES = {state: status for status, state in STATES.items()}
# A plain OR makes SQLite walk whole days.
_OF_RESOURCES = """ JOIN (
    SELECT day, id FROM events WHERE day IN :days AND resource IN :resources
    UNION SELECT day, id FROM events WHERE day IN :days AND root IN :resources) r ON r.day = e.day AND r.id = e.id"""
_ERROR = "o.error_type, o.error_group, o.error_message"


@dataclass(slots=True)
class Query:
    """`FROM` and `WHERE` of a search, with its parameters."""

    tables: str
    terms: list[str] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    outcomes: bool = False

    def page(self, columns: str, after: tuple[int, bytes] | None, limit: int,
             newest_first: bool) -> tuple[str, Mapping[str, Any]]:  # fmt: skip
        """The events themselves, by (received_at, id)."""
        terms, params = [*self.terms], {**self.params, "limit": limit}
        order = "DESC" if newest_first else "ASC"
        if after is not None:
            terms.append(f"(e.received_at, e.id) {'<' if newest_first else '>'} (:after_at, :after_id)")
            params |= {"after_at": after[0], "after_id": after[1]}
        wanted = ", ".join(f"e.{column.strip()}" for column in columns.split(","))
        state = f"o.state, o.attempts, {_ERROR}" if self.outcomes else "NULL, NULL, NULL, NULL, NULL"
        return (f"SELECT {wanted}, {state} FROM {self.tables} WHERE {_all(terms)} "
                f"ORDER BY e.received_at {order}, e.id {order} LIMIT :limit"), params  # fmt: skip

    def count(self) -> tuple[str, Mapping[str, Any]]:
        """Their number."""
        return f"SELECT COUNT(*) FROM {self.tables} WHERE {_all(self.terms)}", self.params


def _all(terms: Sequence[str]) -> str:
    return " AND ".join(terms) or "1 = 1"


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
    query = Query(_tables(selection, group), outcomes=group is not None)
    query.params["grp"] = group
    if beyond is not None:
        if not beyond:
            return None
        _beyond(query, beyond)
    _text(query, "shop", selection.shops)
    _text(query, "source", selection.sources)
    if selection.topics:
        topics = _matching(t, selection.topics)
        if not topics:
            return None
        _text(query, "topic", topics)
    if selection.ids or selection.resources:
        days = _days(t)
        if not days:
            return None
        query.params["days"] = days
    if selection.ids:
        query.terms.append("e.day IN :days")
        _text(query, "webhook_id", selection.ids)
    if selection.resources:
        query.tables += _OF_RESOURCES
        query.params["resources"] = list(selection.resources)
    _period(query, selection)
    if selection.needs_group:
        _status(query, selection)
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
    return Query(_tables(Selection(), group), ["e.day IN :days", "e.id IN :ids"], {"grp": group, "days": days, "ids": list(ids)},
                 group is not None)  # fmt: skip


def _tables(selection: Selection, group: str | None) -> str:
    if group is None:
        return "events e"
    # Only an event without an outcome needs the outer join; without it a search by status starts from the failures' index.
    join = "JOIN" if _has_outcome(selection) else "LEFT JOIN"
    return f"events e {join} outcomes o ON o.day = e.day AND o.grp = :grp AND o.id = e.id"


def _has_outcome(selection: Selection) -> bool:
    return bool(selection.error_groups or selection.attempts) or (bool(selection.statuses) and NO_ROW.isdisjoint(selection.statuses))


def _beyond(query: Query, places: Mapping[tuple[str, int], int]) -> None:
    rows = []
    for i, ((topic, partition), offset) in enumerate(places.items()):
        rows.append(f"(:topic_{i}, CAST(:part_{i} AS INTEGER), CAST(:from_{i} AS BIGINT))")
        query.params |= {f"topic_{i}": topic, f"part_{i}": partition, f"from_{i}": offset}
    # CROSS JOIN: SQLite then begins with the places; PostgreSQL knows how few they are.
    query.tables = f"(VALUES {', '.join(rows)}) b CROSS JOIN {query.tables}"
    query.terms.append("e.kafka_topic = b.column1 AND e.kafka_partition = b.column2 AND e.kafka_offset >= b.column3")


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
    column = "e.received_at"
    if selection.clock is Clock.TRIGGERED:
        column = "COALESCE(e.triggered_at, e.received_at)"
    for name, value, sign in (("since", selection.since, ">="), ("until", selection.until, "<")):
        if value is not None:
            query.terms.append(f"{column} {sign} :{name}")
            query.params[name] = value


def _status(query: Query, selection: Selection) -> None:
    states = [STATES[status].value for status in selection.statuses if status not in NO_ROW]
    terms = []
    if states:
        terms.append("o.state IN :states")
        query.params["states"] = states
    if not NO_ROW.isdisjoint(selection.statuses):
        terms.append("o.state IS NULL")
    if terms:
        query.terms.append(f"({' OR '.join(terms)})")
    if selection.attempts is not None:
        query.terms.append("o.attempts >= :attempts")
        query.params["attempts"] = selection.attempts
    if selection.error_groups:
        query.terms.append("o.error_group IN :error_groups")
        query.params["error_groups"] = list(selection.error_groups)
    if selection.error_groups or (selection.statuses and set(selection.statuses) <= {Status.FAILED, Status.DEAD}):
        # Redundant, and what lets the planner take the partial index.
        query.terms.append("o.failed_at IS NOT NULL")
