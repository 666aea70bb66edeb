"""Answers that go on for a while: JSON Lines, and server-sent events."""

import itertools
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from fastapi.responses import StreamingResponse


def json_lines(rows: Iterator[Mapping[str, Any]]) -> StreamingResponse:
    """One object a line. The first is read before the answer begins: that Kafka is away can be told only until then."""
    lines = (json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in rows)
    first = next(lines, b"")
    return StreamingResponse(itertools.chain([first], lines), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


def events(frames: AsyncIterator[bytes]) -> StreamingResponse:
    """Server-sent events, which no proxy on the way holds back."""
    return StreamingResponse(frames, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


def frame(event: str, data: str, id_: str | None = None) -> bytes:
    """An event on the wire. JSON holds no line break, so it's one `data:` line."""
    return f"{f'id: {id_}{chr(10)}' if id_ else ''}event: {event}\ndata: {data}\n\n".encode()
