"""Connections cut into pages. Cursors are positions, not counts: they hold while rows come and go. Pure."""

import base64
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import msgspec
from graphql import GraphQLError

from hooktape.local.shop.views import Page

PAGE = 250
"""Most rows of a page, and most ids of `nodes`."""
PROTECTED_PAGE = "See https://shopify.dev/docs/apps/launch/protected-customer-data for more details."
LONGEST = 25_000
"""Objects that one list can be paged through (shopify.dev/docs/api/usage/limits)."""
Row = tuple[str, Any, Any]
"""(cursor, position, node)."""


def cursor(value: int | str, row_id: int, passed: int = 0) -> str:
    """Where a row stands: its value under the sort key, its id, and how many rows of the list came up to it."""
    return base64.urlsafe_b64encode(msgspec.json.encode({"last_id": row_id, "last_value": value, "passed": passed})).decode()


def refused(message: str, code: str = "BAD_REQUEST", **extensions: Any) -> GraphQLError:
    """An error as Shopify words it: the text, and a code for machines."""
    return GraphQLError(message, extensions={"code": code, **extensions})


def size(arguments: Mapping[str, Any]) -> int:
    """How many rows are asked for. Raises GraphQLError for none, two answers, or too many."""
    first, last = arguments.get("first"), arguments.get("last")
    if (first is None) == (last is None):
        raise refused("you must provide one of first or last")
    found: int = first if first is not None else last or 0
    if not 0 <= found <= PAGE:
        raise refused(f"{'first' if last is None else 'last'} must be from 0 to {PAGE}; it is {found}")
    return found


def cut(rows: list[Row], arguments: Mapping[str, Any]) -> Page:
    """A page of rows that are sorted by position.

    Raises GraphQLError for wrong arguments, a foreign cursor, and beyond the longest list that can be paged through.
    """
    wanted, last = size(arguments), arguments.get("last")
    if arguments.get("reverse"):
        rows = rows[::-1]
    before = after = 0
    descending = bool(arguments.get("reverse"))
    if text := arguments.get("after"):
        mark = _position(text, rows)
        kept = [row for row in rows if (row[1] < mark if descending else row[1] > mark)]
        before, rows = len(rows) - len(kept), kept
        _bounded(before)
    if text := arguments.get("before"):
        mark = _position(text, rows)
        kept = [row for row in rows if (row[1] > mark if descending else row[1] < mark)]
        after, rows = len(rows) - len(kept), kept
    chosen = rows[:wanted] if last is None else rows[len(rows) - min(wanted, len(rows)):]
    left = len(rows) - len(chosen)
    return Page([(text, node) for text, _, node in chosen], (left if last is None else after) > 0,
                (before if last is None else left) > 0)  # fmt: skip


def forward(rows: Iterable[tuple[int, int, Any]], arguments: Mapping[str, Any]) -> Page:
    """The first page of rows (value, id, node) that come one by one and begin behind `after`: no more are looked at than it needs.

    Raises GraphQLError beyond the longest list that can be paged through; cursors say how far they have come.
    """
    wanted, passed = size(arguments), mark(arguments["after"])[2] if arguments.get("after") else 0
    _bounded(passed)
    taken = list(islice(rows, wanted + 1))
    shown = [(cursor(value, row_id, passed + place), node) for place, (value, row_id, node) in enumerate(taken[:wanted], 1)]
    return Page(shown, len(taken) > wanted, bool(arguments.get("after")))


def _bounded(passed: int) -> None:
    if passed >= LONGEST:
        raise refused(f"A list can be paged through up to {LONGEST} objects: narrow the search.")


def mark(text: str) -> tuple[Any, int, int]:
    """(value, id, rows passed) of a cursor. Raises GraphQLError for what is none."""
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(text))
        return found["last_value"], int(found["last_id"]), int(found.get("passed", 0))
    except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise refused("Invalid cursor for current pagination sort.") from error


def _position(text: str, rows: list[Row]) -> Any:
    value, row_id, _ = mark(text)
    if rows and isinstance(rows[0][1], int):
        return row_id
    if rows and type(rows[0][1][0]) is not type(value):
        raise refused("Invalid cursor for current pagination sort.")
    return value, row_id
