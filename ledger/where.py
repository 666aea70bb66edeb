"""`--where`: a JMESPath expression over an event's body. Pure.

The expression comes from whoever may search, the body from whoever may post to a shop, so neither may cost more than a look at
the body does. JMESPath has no loops; what could still build something far larger than the body is refused beforehand.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from hooktape.errors import UsageError

# Nobody types more; each part of it is at most one walk over the body.
_LENGTH = 1000
# How many times larger than the body what an expression builds may be. `[@, @] | [@, @] | …` doubles at each step.
_GROWTH = 64


class Where:
    """A compiled expression. Raises UsageError that shows the place for one that can't be read, or that could build too much."""

    __slots__ = ("_expression", "text")

    def __init__(self, text: str) -> None:
        # Imported here: 16 ms, of which no command without an expression needs any.
        import jmespath

        if len(text) > _LENGTH:
            raise UsageError(f"`where` has {len(text):,} characters; {_LENGTH:,} are the most.")
        try:
            self._expression = jmespath.compile(text)
        except jmespath.exceptions.EmptyExpressionError:
            raise UsageError("`where` is empty.") from None
        except jmespath.exceptions.ParseError as error:
            raise UsageError(_pointed(text, error)) from None
        except (ValueError, RecursionError) as error:
            why = "it's nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise UsageError(f"`where` can't be read: {why}.") from None
        self.text = text
        _check(text, self._expression.parsed)

    def matches(self, payload: bytes) -> bool | None:
        """Whether a body is wanted, by JMESPath's own truth: null, false, and empty texts, lists and objects are false; 0 is true.

        None where that can't be said: the body isn't JSON, or the expression fails on it (`length` of null).
        """
        from jmespath.exceptions import JMESPathError

        try:
            found = self._expression.search(msgspec.json.decode(payload))
        except (msgspec.DecodeError, JMESPathError, ArithmeticError, TypeError, ValueError, RecursionError):
            return None
        return not (found is None or found is False or (isinstance(found, str | list | dict) and not found))


@lru_cache(maxsize=64)
def compiled(text: str) -> Where:
    """The expression, compiled once. Raises as `Where` does."""
    return Where(text)


def _pointed(text: str, error: Any) -> str:
    at = min(getattr(error, "lexer_position", None) or error.lex_position or 0, len(text))
    # jmespath's own sentence goes on with the token and the expression, which follow here.
    why = str(getattr(error, "message", None) or error.msg).rstrip(": ")
    why = "it ends too early" if at == len(text) else why[:1].lower() + why[1:]
    hint = ' A number in it is written `100`, a text \'paid\'.' if text[at : at + 1].isdigit() else ""
    return f"`where` can't be read at character {at + 1}: {why}.{hint}\n  {text}\n  {' ' * at}^"


def _check(text: str, tree: Any) -> None:
    from jmespath.functions import Functions

    growth = 1
    for node in _nodes(tree):
        kind, children = node["type"], node["children"]
        if kind in ("multi_select_list", "multi_select_dict"):
            growth *= max(1, sum(child["type"] != "literal" for child in children))
        if kind != "function_expression":
            continue
        name = node["value"]
        known = Functions.FUNCTION_TABLE.get(name)
        if known is None or name == "join":
            # `join` puts its first text between all the others: a long one makes gigabytes of a body.
            offered = ", ".join(sorted(Functions.FUNCTION_TABLE.keys() - {"join"}))
            raise UsageError(f"`where` calls {name}(), at character {text.find(name) + 1}, which isn't offered. There are {offered}.")
        wanted = known["signature"]
        many = bool(wanted) and bool(wanted[-1].get("variadic"))
        if len(children) < len(wanted) or (len(children) > len(wanted) and not many):
            raise UsageError(f"`where`: {name}() takes {len(wanted)} argument{'s' * (len(wanted) != 1)}, not {len(children)}.")
        if name == "to_string":
            growth *= 2  # the quotes of a text within a text are escaped anew each time
    if growth > _GROWTH:
        raise UsageError(f"`where` could build {growth:,} times the body ([…], {{…}} and to_string multiply); {_GROWTH} times is the most.")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    todo: list[Any] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, dict) and "type" in node:
            yield node
            todo += node.get("children", ())
