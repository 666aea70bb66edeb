from datetime import datetime
from typing import Any

import pytest

from hooktape.local.shop.search import SearchError, parse

FIELDS: dict[str, Any] = {
    "default": lambda row: row["name"], "id": lambda row: row["id"], "updated_at": lambda row: row["at"],
    "status": lambda row: row["status"],
}  # fmt: skip
NOW = datetime.fromisoformat("2026-11-22T12:00:00Z").timestamp()
ROWS = [
    {"id": place, "name": f"row {place}", "status": ("open", "closed")[place % 2],
     "at": int(datetime.fromisoformat(f"2026-11-22T0{place}:00:00Z").timestamp())}
    for place in range(1, 10)
]  # fmt: skip


def found(query: str | None) -> list[Any]:
    search = parse(query, FIELDS, NOW)
    return [row["id"] for row in ROWS if search.matches(row)]


EVERYTHING = list(range(1, 10))


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (None, EVERYTHING),
        ("  ", EVERYTHING),
        ("updated_at:>='2026-11-22T03:00:00Z' updated_at:<'2026-11-22T05:00:00Z'", [3, 4]),
        ("updated_at:>'2026-11-22T03:00:00Z' AND updated_at:<='2026-11-22T05:00:00Z'", [4, 5]),
        ('updated_at:"2026-11-22T03:00:00Z"', [3]),
        ("updated_at:>='2026-11-21T22:00:00-05:00' updated_at:<'2026-11-22T04:00:00Z'", [3]),
        ("updated_at:<now", EVERYTHING),
        ("id:3 OR id:5", [3, 5]),
        ("id:>=3 id:<6 -id:4", [3, 5]),
        ("NOT (id:<4 OR id:>5)", [4, 5]),
        ("status:open,closed id:2", [2]),
        ("status:OPEN", [2, 4, 6, 8]),
        ("'row 7'", [7]),
        ("id:gid://shopify/Order/4", [4]),
    ],
)
def test_a_search_finds(query: str | None, ids: list[int]) -> None:
    assert found(query) == ids


def test_the_time_part_of_an_unquoted_time_is_ignored_and_its_date_is_the_shops() -> None:
    # Midnight of the 22nd in the shop's zone is 05:00 UTC.
    assert found("updated_at:>=2026-11-22T08:00:00Z") == [5, 6, 7, 8, 9]
    assert found("updated_at:2026-11-22T08:00:00Z") == [5, 6, 7, 8, 9]


def test_an_unknown_field_gives_everything_back_and_is_named() -> None:
    search = parse("updatedat:>'2026-11-22T08:00:00Z' id:1", FIELDS, NOW)
    assert search.unknown == ("updatedat",)
    assert all(search.matches(row) for row in ROWS)


@pytest.mark.parametrize(
    "query", ["updated_at:>='2026", "updated_at:>=", "(id:1", "id:1)", "id:x", "id:1 AND", "OR", "updated_at:'soon'"]
)
def test_what_is_no_search_is_refused(query: str) -> None:
    with pytest.raises(SearchError):
        parse(query, FIELDS, NOW)
