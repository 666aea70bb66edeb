"""The newest version of each of many resources that a group has handled, in a shape that leaves a planner no choice.

PostgreSQL knows nothing of a table until it's analysed, minutes after a large write, and takes a list of two thousand resources to match
most of it: it would begin with all that the group has ever handled. A scalar subquery isn't turned into a join, so each resource is looked
up by itself, and so is the outcome of each of its events.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from hooktape.ledger.checks import State
from hooktape.ledger.database import Transaction

Of = tuple[str, str, str]
"""Shop, topic and resource."""
# Most resources are their own root, and are in the index of these alone.
_BY_INDEX = ("e.root = r.column3 AND e.resource = r.column3", "e.resource = r.column3 AND e.resource <> COALESCE(e.root, '')")


def statements(group: str, days: Sequence[int], wanted: Sequence[Of]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The queries: rows of shop, topic, resource and version, None where there is none. Both may know a version of one resource, where
    its events don't agree on its root."""
    params: dict[str, Any] = {"days": days, "grp": group}
    for number, each in enumerate(wanted):
        params |= {f"{name}{number}": value for name, value in zip("str", each, strict=True)}
    values = ", ".join(f"(:s{number}, :t{number}, :r{number})" for number in range(len(wanted)))
    for index in _BY_INDEX:
        # COALESCE keeps the indexes of shops and topics out of it: each holds too much of one.
        yield f"""SELECT r.column1, r.column2, r.column3,
                      (SELECT MAX(e.version) FROM events e
                       WHERE e.day IN :days AND {index} AND COALESCE(e.shop, '') = r.column1 AND COALESCE(e.topic, '') = r.column2 AND
                           {State.SUCCEEDED:d} = (SELECT o.state FROM outcomes o WHERE o.day = e.day AND o.grp = :grp AND o.id = e.id))
                  FROM (VALUES {values}) r""", params


def newest_succeeded(t: Transaction, group: str, first: int, wanted: Sequence[Of]) -> dict[Of, int]:
    """Their newest versions, in microseconds, among the events of the day `first` and later ones."""
    t.step_by_index()
    days = [day for (day,) in t.rows("SELECT day FROM event_days WHERE day >= :first ORDER BY day", {"first": first})]
    # A group that has handled nothing of these days needn't be asked about each resource.
    if not t.row("SELECT 1 FROM outcomes WHERE day IN :days AND grp = :grp LIMIT 1", {"days": days, "grp": group}):
        return {}
    found: dict[Of, int] = {}
    for sql, params in statements(group, days, wanted):
        for shop, topic, resource, version in t.rows(sql, params):
            if version is not None:
                found[shop, topic, resource] = max(version, found.get((shop, topic, resource), version))
    return found
