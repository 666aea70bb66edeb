"""What failed in a group: lists and causes, read by the partial index on `failed_at`."""

from dataclasses import dataclass

from hooktape.ledger.checks import State
from hooktape.ledger.database import Transaction
from hooktape.ledger.keys import EventKey


@dataclass(frozen=True, slots=True)
class Failure:
    """A dead event. Times are epoch seconds; `shop` and the error are what its last finish said."""

    key: EventKey
    topic: str
    shop: str
    attempts: int
    first_failed_at: float
    failed_at: float
    error_type: str
    error_group: str
    error_message: str
    generation: str


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Dead events with one cause. `message` is the latest's, `example` the latest's key; times are epoch seconds."""

    error_group: str
    error_type: str
    message: str
    count: int
    first: float
    last: float
    topics: tuple[str, ...]
    shops: int
    example: EventKey


def counts(t: Transaction, group: str) -> dict[str, dict[State, int]]:
    found: dict[str, dict[State, int]] = {}
    for topic, state, number in t.rows(
        "SELECT topic, state, COUNT(*) FROM outcomes WHERE grp = :grp AND failed_at IS NOT NULL GROUP BY topic, state",
        {"grp": group},
    ):
        found.setdefault(topic, {})[State(state)] = number
    return found


def dead(t: Transaction, group: str, topic: str | None, shop: str | None, error_group: str | None, since: float | None,
         limit: int) -> list[Failure]:  # fmt: skip
    wanted = {"topic": topic, "shop": shop, "error_group": error_group}
    terms = "".join(f" AND {column} = :{column}" for column, value in wanted.items() if value is not None)
    if since is not None:
        terms += " AND failed_at >= :since"
    rows = t.rows(
        f"""SELECT day, id, topic, shop, attempts, first_failed_at, failed_at, error_type, error_group, error_message, generation
            FROM outcomes WHERE grp = :grp AND failed_at IS NOT NULL AND state = {State.DEAD:d}{terms}
            ORDER BY failed_at DESC, id LIMIT :limit""",
        {"grp": group, "since": since, "limit": limit, **wanted},
    )
    return [Failure(EventKey(day, id_), *rest) for day, id_, *rest in rows]


def error_groups(t: Transaction, group: str) -> list[ErrorGroup]:
    rows = t.rows(
        f"""SELECT error_group, topic, COUNT(*), MIN(first_failed_at), MAX(failed_at) FROM outcomes
            WHERE grp = :grp AND failed_at IS NOT NULL AND state = {State.DEAD:d} GROUP BY error_group, topic""",
        {"grp": group},
    )
    shops = dict(t.rows(
        f"""SELECT error_group, COUNT(DISTINCT shop) FROM outcomes
            WHERE grp = :grp AND failed_at IS NOT NULL AND state = {State.DEAD:d} GROUP BY error_group""",
        {"grp": group},
    ))  # fmt: skip
    latest = t.rows(
        f"""SELECT error_group, error_type, error_message, day, id FROM (
                SELECT error_group, error_type, error_message, day, id,
                    ROW_NUMBER() OVER (PARTITION BY error_group ORDER BY failed_at DESC, id) AS place
                FROM outcomes WHERE grp = :grp AND failed_at IS NOT NULL AND state = {State.DEAD:d}) ranked WHERE place = 1""",
        {"grp": group},
    )
    found = []
    for name, error_type, message, day, id_ in latest:
        of_name = [row for row in rows if row[0] == name]
        found.append(ErrorGroup(
            name, error_type, message, sum(row[2] for row in of_name), min(row[3] for row in of_name), max(row[4] for row in of_name),
            tuple(sorted(row[1] for row in of_name)), shops[name], EventKey(day, id_),
        ))  # fmt: skip
    return sorted(found, key=lambda g: (-g.count, g.error_group))


def affected(t: Transaction, group: str, error_group: str, limit: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    topics, shops = (
        t.rows(f"""SELECT {column}, COUNT(*) FROM outcomes
                   WHERE grp = :grp AND failed_at IS NOT NULL AND state = {State.DEAD:d} AND error_group = :error_group
                   GROUP BY {column} ORDER BY COUNT(*) DESC, {column} LIMIT :limit""",
               {"grp": group, "error_group": error_group, "limit": limit})
        for column in ("topic", "shop"))  # fmt: skip
    return [(name, number) for name, number in topics], [(name, number) for name, number in shops]
