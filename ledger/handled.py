"""What a group has handled of a replay's resources: the newest version of each, by the catalogue and the outcomes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hooktape.ledger.checks import State
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.texts import clean

Named = tuple[str, str]
"""A shop and a resource (`type/id`)."""


class Last(NamedTuple):
    """The newest of a resource's events that a group has handled. `version` in microseconds, None: no event of it has one;
    `deleted`: its deletion was among them."""

    version: int | None
    deleted: bool


class Handled:
    def __init__(self, database: Database) -> None:
        self._database = database

    def resources(self, job_id: str, after: Named, limit: int) -> list[Named]:
        """A page of the resources that a job's events are about, by shop and resource; `("", "")` begins. An empty resource stands
        for the events of a shop that name none."""
        return [(shop, resource) for shop, resource in self._database.read(lambda t: t.rows(
            # What the tape has lost, its dead letter knows.
            """SELECT DISTINCT n.shop, n.resource FROM (
                   SELECT COALESCE(e.shop, l.shop, '') AS shop, COALESCE(e.resource, l.resource, '') AS resource
                   FROM jobs j JOIN replay_items i ON i.job = j.number
                   LEFT JOIN events e ON e.day = i.day AND e.id = i.id
                   LEFT JOIN letters l ON e.id IS NULL AND l.grp = j.grp AND l.id = i.id
                   WHERE j.id = :job_id) AS n
               WHERE (n.shop, n.resource) > (:shop, :resource) ORDER BY n.shop, n.resource LIMIT :limit""",
            {"job_id": job_id, "shop": after[0], "resource": after[1], "limit": limit}))]  # fmt: skip

    def last(self, group: str, shop: str, resources: Sequence[str]) -> Mapping[str, Last]:
        """Resource → the last of it that `group` has handled with success; nothing for one of which it has handled none."""

        def work(t: Transaction) -> dict[str, Last]:
            days = [day for (day,) in t.rows("SELECT day FROM event_days ORDER BY day")]
            return {resource: Last(version, bool(deleted)) for resource, version, deleted in t.rows(
                """SELECT e.resource, MAX(e.version), MAX(CASE WHEN e.topic LIKE :deletion THEN 1 ELSE 0 END)
                   FROM events e JOIN outcomes o ON o.day = e.day AND o.grp = :grp AND o.id = e.id
                   WHERE e.day IN :days AND e.resource IN :resources AND e.shop = :shop AND o.state = :succeeded
                   GROUP BY e.resource""",
                {"grp": group, "days": days, "resources": [clean(r) for r in resources], "shop": clean(shop),
                 "succeeded": State.SUCCEEDED.value, "deletion": "%/delete"})} if days else {}  # fmt: skip

        return self._database.read(work) if resources else {}
