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
# Neither ended nor failed: no row, or waiting for another one.
_STATES = {s: State.BEHIND if s is Status.PENDING else State[s.name] for s in Status}
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


def compile(t: Transaction, selection: Selection, group: str | None) -> Query | None:
    """The search for a selection; None when nothing can match. Raises UsageError when it needs a group."""
    if selection.needs_group and group is None:
        raise UsageError("A status or an error group is a consumer group's: name the group too.")
    query = Query(_tables(selection, group), outcomes=group is not None)
    query.params["grp"] = group
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
    return bool(selection.error_group) or (bool(selection.statuses) and Status.PENDING not in selection.statuses)


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
    states = [_STATES[status].value for status in selection.statuses]
    if not _has_outcome(selection):
        query.terms.append("(o.state IS NULL OR o.state IN :states)")
        query.params["states"] = states
        return
    if states:
        query.terms.append("o.state IN :states")
        query.params["states"] = states
    if selection.error_group:
        query.terms.append("o.error_group = :error_group")
        query.params["error_group"] = selection.error_group
    if selection.error_group or set(selection.statuses) <= {Status.WAITING, Status.DEAD}:
        # Redundant, and what lets the planner take the partial index.
        query.terms.append("o.failed_at IS NOT NULL")
