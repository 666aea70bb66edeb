"""Shopify's search syntax, as far as a reconciler needs it. Pure.

Source: shopify.dev/docs/api/usage/search-syntax; the traps are from threads: an unquoted time loses its time part and is
read in the shop's zone; a search on an unknown field gives everything back, with a warning in `extensions.search`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, floor
from typing import Any

from hooktape.local.shop.store import EVER
from hooktape.schemas.resources import gid_number
from hooktape.schemas.samples import SHOP_ZONE

Predicate = Callable[[Any], bool]
Field = Callable[[Any], int | str | None]
"""What a row holds under a field: whole seconds for a time, a number for an id, else a text."""

_TOKEN = re.compile(r"""\s*(?:(?P<paren>[()])|(?P<term>(?:[^\s()'"]|'[^']*'|"[^"]*")+))""")
_FIELD = re.compile(r"(?P<name>[A-Za-z_][\w.]*):(?P<op>>=|<=|>|<|)(?P<value>.*)", re.DOTALL)
_TIMES = ("created_at", "updated_at", "processed_at")
_DAY = timedelta(days=1)


class SearchError(ValueError):
    """The query is no search; Shopify answers with a GraphQL error."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a search departs from what is documented: `>` acts as `>=`; times compare as whole days of the shop's zone."""

    inclusive: bool = False
    whole_days: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """What a query asks for, and the names in it that no field has (each makes the whole search be ignored).

    All that match have an `updated_at` in `window` (first and last second); `only_window`: and all that have, match.
    """

    matches: Predicate
    unknown: tuple[str, ...] = ()
    window: tuple[int, int] = EVER
    only_window: bool = False


def parse(query: str | None, fields: Mapping[str, Field], now: float, quirks: Quirks = Quirks()) -> Search:
    """The rows that `query` selects among those whose `fields` are given; `now` in seconds since the epoch.

    Raises SearchError for a quote or parenthesis left open, or a time that is none.
    """
    parser = _Parser(_tokens(query or ""), fields, now, quirks)
    matches = parser.any_of() if parser.more() else _everything
    if parser.more():
        raise SearchError("a closing parenthesis stands alone")
    if parser.unknown:
        return Search(_everything, tuple(parser.unknown), only_window=True)
    if not parser.plain:
        return Search(matches)
    low, high = max([EVER[0], *(low for low, _ in parser.windows)]), min([EVER[1], *(high for _, high in parser.windows)])
    return Search(matches, (), (low, high), len(parser.windows) == parser.terms)


def _everything(row: Any) -> bool:
    return True


def _tokens(query: str) -> list[str]:
    tokens, place = [], 0
    while place < len(query.rstrip()):
        match = _TOKEN.match(query, place)
        if not match:
            raise SearchError("a quote isn't closed")
        tokens.append(match["paren"] or match["term"])
        place = match.end()
    return tokens


class _Parser:
    """any_of = all_of {OR all_of}; all_of = one {[AND] one}; one = [NOT | -] (term | "(" any_of ")")."""

    def __init__(self, tokens: list[str], fields: Mapping[str, Field], now: float, quirks: Quirks) -> None:
        self._tokens, self._place, self._fields, self._now, self._quirks = tokens, 0, fields, now, quirks
        self.unknown: list[str] = []
        self.windows: list[tuple[int, int]] = []
        self.terms = 0
        self.plain = True
        """Nothing but terms, all of which must hold: only then does each of them narrow the whole."""

    def more(self) -> bool:
        return self._place < len(self._tokens)

    def _take(self, *expected: str) -> bool:
        found = self.more() and self._tokens[self._place] in expected
        self._place += found
        return found

    def any_of(self) -> Predicate:
        choices = [self._all_of()]
        while self._take("OR"):
            self.plain = False
            choices.append(self._all_of())
        return choices[0] if len(choices) == 1 else lambda row: any(choice(row) for choice in choices)

    def _all_of(self) -> Predicate:
        parts = [self._one()]
        while self._take("AND") or (self.more() and self._tokens[self._place] not in ("OR", ")")):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _one(self) -> Predicate:
        if self._take("NOT"):
            self.plain = False
            inner = self._one()
            return lambda row: not inner(row)
        if self._take("("):
            inner = self.any_of()
            if not self._take(")"):
                raise SearchError("a parenthesis isn't closed")
            return inner
        if not self.more() or self._tokens[self._place] in ("AND", "OR", ")"):
            raise SearchError("a term is missing")
        token = self._tokens[self._place]
        self._place += 1
        if token.startswith("-") and len(token) > 1:
            self.plain = False
            positive = self._term(token[1:])
            return lambda row: not positive(row)
        return self._term(token)

    def _term(self, token: str) -> Predicate:
        self.terms += 1
        match = _FIELD.fullmatch(token)
        if not match:
            word, default = _unquote(token)[0].lower(), self._fields["default"]
            return lambda row: word in str(default(row)).lower()
        name, (value, quoted) = match["name"], _unquote(match["value"])
        if name not in self._fields or name == "default":
            self.unknown.append(name)
            return _everything
        field, op = self._fields[name], match["op"]
        if name in _TIMES:
            low, high = _instants(value, quoted, self._now, self._quirks.whole_days)
            if op == ">" and self._quirks.inclusive:
                op = ">="
            if name == "updated_at":
                self.windows.append(_window(op, low, high))
            return _range(field, op, low, high)
        if name == "id":
            if not gid_number(value).isdecimal():
                raise SearchError(f"id:{value} isn't a number")
            return _range(field, op, int(gid_number(value)), int(gid_number(value)))
        wanted = [word.strip().lower() for word in value.split(",")]
        return lambda row: value == "*" or bool({*str(field(row)).lower().split(", ")} & {*wanted})


def _range(field: Field, op: str, low: float, high: float) -> Predicate:
    """`low` to `high` is what the value stands for: one second, one id, or for a mere date its first instant and its last."""
    tests: dict[str, Callable[[float], bool]] = {
        ">": lambda v: v > low, ">=": lambda v: v >= low, "<": lambda v: v < low, "<=": lambda v: v <= high,
        "": lambda v: low <= v <= high,
    }  # fmt: skip
    test = tests[op]

    def matches(row: Any) -> bool:
        value = field(row)
        return isinstance(value, int) and test(value)

    return matches


def _window(op: str, low: float, high: float) -> tuple[int, int]:
    """The whole seconds that `_range` lets through."""
    return {">": (floor(low) + 1, EVER[1]), ">=": (ceil(low), EVER[1]), "<": (EVER[0], ceil(low) - 1), "<=": (EVER[0], floor(high)),
            "": (ceil(low), floor(high))}[op]  # fmt: skip


def _instants(value: str, quoted: bool, now: float, whole_days: bool) -> tuple[float, float]:
    if value == "now":
        return now, now
    # Unquoted, the time part is lost: only the date counts, in the shop's zone.
    text = value if quoted else value[:10]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SearchError(f"{value!r} isn't a time") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=SHOP_ZONE)
    whole_day = len(text) <= 10 or whole_days
    if whole_days:
        moment = moment.astimezone(SHOP_ZONE).replace(hour=0, minute=0, second=0)
    return moment.timestamp(), (moment + _DAY).timestamp() - 1 if whole_day else moment.timestamp()


def _unquote(text: str) -> tuple[str, bool]:
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return (text[1:-1], True) if quoted else (text, False)
