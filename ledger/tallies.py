"""How many resources were created, last changed and deleted by what the tape tells, minute by minute, and what a group has open of them.

From the catalogue alone: a walk along the index of a shop's topics, from the first minute asked for on. What came later counts, too: it
says which resources have changed again since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hooktape.ledger.checks import FINISHED
from hooktape.ledger.database import Database

MINUTE = 60_000_000
"""Microseconds. Days of every zone begin on a whole minute."""
_DAY = 86_400_000_000
# Our clock may be this far ahead of Shopify's or behind (microseconds), as everywhere in the reconciler.
_SKEW = 300_000_000
# The ledger's day of an event is Shopify's, unless it's over a week off: then it's ours.
_SCATTER = 7
_AT = "COALESCE(e.triggered_at, e.received_at)"
# A body is rendered after what it tells of, and a delivery is triggered after that; a synthetic creation bears its newest state's
# version and its own time. The earlier of the two is the closer one.
_BEGAN = f"CASE WHEN e.version < {_AT} THEN e.version ELSE {_AT} END"
_GONE = "(r.died > 0 AND r.died >= r.lived)"
_DONE = f"o.state IN ({', '.join(str(int(state)) for state in sorted(FINISHED))})"


@dataclass(frozen=True, slots=True)
class Asked:
    """One kind of resource of one shop. `topics`: all of its topics, `create` and `delete` ("": there's none) among them; `since` and
    `until`: microseconds, whole minutes. `group` with `taken`: the topics that its handlers take."""

    shop: str
    topics: Sequence[str]
    create: str
    delete: str
    since: int
    until: int
    group: str = ""
    taken: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Minute:
    """`what` of these resources happened in the minute that begins at `at` (microseconds); `open`: those that the group hasn't finished.

    `what`: "created" and "changed" (last) of what lives still, "deleted", and "moved": last changed then but for a change from `until` on.
    """

    what: str
    at: int
    count: int
    open: int


class Tallies:
    def __init__(self, database: Database) -> None:
        self._database = database

    def minutes(self, asked: Asked) -> list[Minute]:
        """All minutes of [since, until), and the one after it, in which something happened."""
        sql = f"""WITH r AS ({_of_resource(asked)})
            {_by_minute("created", "r.began", f"NOT {_GONE}", "r.began_open")} UNION ALL
            {_by_minute("changed", "r.version", f"NOT {_GONE}", "r.version_open")} UNION ALL
            {_by_minute("moved", "r.settled", f"NOT {_GONE} AND r.version >= :until", "0")} UNION ALL
            {_by_minute("deleted", "r.died", "r.died > 0", "r.died_open")}"""
        found = self._database.read(lambda t: t.rows(sql, _params(asked)))
        return [Minute(what, int(minute) * MINUTE, int(count), int(open_)) for what, minute, count, open_ in found]

    def created(self, asked: Asked, limit: int) -> dict[str, bool]:
        """The resources that the tape dates the creation of in [since, until), at most `limit` of them → whether the group hasn't finished
        it."""
        sql = f"""SELECT r.resource, r.began_open FROM ({_of_resource(asked)}) AS r
                  WHERE r.began >= :since AND r.began < :until AND NOT {_GONE} LIMIT :limit"""
        rows = self._database.read(lambda t: t.rows(sql, _params(asked) | {"limit": limit}))
        return {str(resource): bool(open_) for resource, open_ in rows}

    def begun(self, shop: str, topics: Sequence[str]) -> int | None:
        """When the oldest event of these topics was received that the catalogue has (microseconds); None: it has none."""
        found = self._database.read(lambda t: [t.row("SELECT MIN(received_at) FROM events WHERE shop = :shop AND topic = :topic",
                                                     {"shop": shop, "topic": topic}) for topic in topics])  # fmt: skip
        return min((row[0] for row in found if row and row[0] is not None), default=None)


def _of_resource(asked: Asked) -> str:
    """One row a resource: when it began, its newest version, and the newest before `until`, when it last lived and died."""
    state, open_ = "e.topic <> :delete", {"began": "0", "version": "0", "died": "0"}
    joined = ""
    if asked.group and asked.taken:
        joined = "LEFT JOIN outcomes o ON o.day = e.day AND o.grp = :grp AND o.id = e.id"
        told = f"{state} AND e.topic IN :taken"
        # What the group has finished of a newer version, it needn't finish of an older one.
        open_["version"] = f"""CASE WHEN COALESCE(MAX(CASE WHEN {told} AND {_DONE} THEN e.version END), -1)
                                       < MAX(CASE WHEN {told} THEN e.version END) THEN 1 ELSE 0 END"""
        for name, topic in (("began", asked.create), ("died", asked.delete)):
            if topic in asked.taken:
                key = "create" if name == "began" else "delete"
                open_[name] = f"1 - MAX(CASE WHEN e.topic = :{key} AND {_DONE} THEN 1 ELSE 0 END)"
    return f"""SELECT e.resource, MIN(CASE WHEN e.topic = :create THEN {_BEGAN} END) AS began,
            MAX(CASE WHEN {state} THEN e.version END) AS version,
            MAX(CASE WHEN {state} AND e.version < :until THEN e.version END) AS settled,
            MAX(CASE WHEN {state} THEN {_AT} ELSE 0 END) AS lived, MAX(CASE WHEN {state} THEN 0 ELSE {_AT} END) AS died,
            {", ".join(f"{sql} AS {name}_open" for name, sql in open_.items())}
        FROM events e {joined}
        WHERE e.day >= :first AND e.shop = :shop AND e.topic IN :topics AND e.received_at >= :received AND e.resource IS NOT NULL
        GROUP BY e.resource"""


def _by_minute(what: str, at: str, only: str, open_: str) -> str:
    return f"""SELECT '{what}', {at} / {MINUTE}, COUNT(*), SUM({open_}) FROM r
               WHERE {at} >= :since AND {at} < :beyond AND {only} GROUP BY {at} / {MINUTE}"""


def _params(asked: Asked) -> dict[str, Any]:
    received = asked.since - _SKEW
    return {"shop": asked.shop, "topics": list(asked.topics), "create": asked.create, "delete": asked.delete, "since": asked.since,
            "until": asked.until, "beyond": asked.until + MINUTE, "received": received, "first": received // _DAY - _SCATTER,
            "grp": asked.group, "taken": list(asked.taken)}  # fmt: skip
