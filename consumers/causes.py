"""Errors as they're kept: type, message, stack, and the group of failures that have one cause. Pure."""

import hashlib
import re
import traceback
from types import TracebackType

from hooktape.errors import HooktapeError, Reject, Retry

# What differs between two failures of one cause: addresses, ids, counts.
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|\d+")
# As many as tell a cause; deeper ones differ with the depth of recursion and with the versions of libraries.
_FRAMES = 8
_OWN = ("hooktape.consumers.", "hooktape.testing", "concurrent.futures.", "asyncio.")


def error_type(error: BaseException) -> str:
    """The class as people write it: `ValueError`, `httpx.ConnectTimeout`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"


def error_message(error: BaseException) -> str:
    """What it says. Text from a body may hold lone surrogates, which aren't UTF-8, and an exception's own `__str__` may fail: neither
    may keep its event from leaving."""
    try:
        return _encodable(str(error))
    except Exception as fault:  # noqa: BLE001 - the handler's code
        return f"({error_type(error)} can't be shown as text: {type(fault).__name__})"


def error_group(error: BaseException) -> str:
    """16 hex digits: the same for failures of one type from one place in the code, whatever the event.

    Line numbers aren't in it, or each deployment would make all groups anew. Where there's no frame of the handler (an
    HTTP answer, a time-out, the handler's own Retry or Reject), the message with its numbers taken out stands in.
    """
    parts = [error_type(error), *_frames(error.__traceback__)]
    if len(parts) == 1 or isinstance(error, HooktapeError | Reject | Retry):
        parts.append(_VARIABLE.sub("#", error_message(error))[:200])
    return hashlib.blake2b("\0".join(parts).encode(errors="replace"), digest_size=8).hexdigest()


def stack(error: BaseException) -> str:
    """The traceback without Hooktape's own frames; causes included. It holds source lines, never values of variables."""
    return _encodable("".join(traceback.format_exception(type(error), error, _beyond_own(error.__traceback__))).strip())


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _beyond_own(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and _is_own(trace):
        trace = trace.tb_next
    return trace


def _is_own(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__", "")).startswith(_OWN)


def _frames(trace: TracebackType | None) -> list[str]:
    found = []
    trace = _beyond_own(trace)
    while trace is not None:
        if not _is_own(trace):
            found.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}.{trace.tb_frame.f_code.co_qualname}")
        trace = trace.tb_next
    return found[-_FRAMES:]
