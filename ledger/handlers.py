"""Which handlers a group has, as its workers told when they started: a plan says whom it reaches before anything is sent."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.texts import clean


@dataclass(frozen=True, slots=True)
class Known:
    """A handler. `ordered`: one event of a resource at a time; `replay` False: it refuses events that are sent again."""

    name: str
    topics: tuple[str, ...]
    ordered: bool
    replay: bool


def topics_of(t: Transaction, group: str) -> list[str]:
    """The Shopify topics that the group's handlers take; none where no worker of it ever started."""
    rows = t.rows("SELECT topics FROM handlers WHERE grp = :grp", {"grp": group})
    return sorted({topic for (topics,) in rows for topic in json.loads(topics)})


class Handlers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, group: str, known: Iterable[Known], now: float) -> None:
        """Replaces what was known of the group: a handler that has gone refuses and takes nothing any more."""
        rows = [{"grp": group, "name": clean(each.name), "topics": json.dumps(each.topics), "ordered": int(each.ordered),
                 "replay": int(each.replay), "now": now} for each in known]  # fmt: skip

        def work(t: Transaction) -> None:
            t.run("DELETE FROM handlers WHERE grp = :grp", {"grp": group})
            # Several workers of a group start together and say the same.
            t.many("""INSERT INTO handlers (grp, name, topics, ordered, replay, told_at) VALUES (:grp, :name, :topics, :ordered, :replay,
                      :now) ON CONFLICT (grp, name) DO UPDATE SET topics = excluded.topics, ordered = excluded.ordered,
                      replay = excluded.replay, told_at = excluded.told_at""", rows)  # fmt: skip

        self._database.write(work)

    def of(self, group: str) -> list[Known]:
        """The group's handlers by name; none where no worker of it ever started."""
        rows = self._database.read(lambda t: t.rows("SELECT name, topics, ordered, replay FROM handlers WHERE grp = :grp ORDER BY name",
                                                    {"grp": group}))  # fmt: skip
        return [Known(name, tuple(json.loads(topics)), bool(ordered), bool(replay)) for name, topics, ordered, replay in rows]
