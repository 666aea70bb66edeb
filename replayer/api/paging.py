"""Cursors: opaque to clients, and nothing but the last row's place to us, so that what arrives meanwhile moves no page."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import msgspec
from fastapi import Query, Request, Response

from hooktape.replayer.api.problems import Refused

T = TypeVar("T")
MOST = 1000
"""Rows on a page at most: about a megabyte of events."""

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A number in a cursor that both databases take."""

Limit = Annotated[int, Query(ge=1, le=MOST, description="Rows on a page.")]
Cursor = Annotated[str | None, Query(alias="cursor", max_length=500, description="Where the page before ended, as its `next` has it.")]


def cursor(*place: Any) -> str:
    """The text of a place."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def place(text: str | None, kind: type[T]) -> T | None:
    """The place in a cursor; None for none. Raises Refused for what `cursor` never wrote."""
    if text is None:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found: T = msgspec.msgpack.decode(raw, type=kind)
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError):
        raise Refused("usage", "This isn't a cursor of this list. Leave it out to begin anew.", field="cursor") from None
    return found


def paged(request: Request, response: Response, rows: Sequence[T], limit: int, of: Callable[[T], str]) -> tuple[Sequence[T], str | None]:
    """A page of `limit` from rows read one further than that, and the address of the next (also as the header `Link`)."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], linked(request, response, of(rows[limit - 1]))


def linked(request: Request, response: Response, cursor: str) -> str:
    """The address of the page at a cursor of this list, which the header `Link` names too."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    following = f"{request.url.path}?{urlencode([*query, ('cursor', cursor)])}"
    response.headers["Link"] = f'<{following}>; rel="next"'
    return following
