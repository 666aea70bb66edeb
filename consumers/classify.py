"""What a failure means: transient, throttled, permanent, poison, bug or the handler's own word. Pure.

Errors of libraries are known by their class's name, so that none of them has to be installed or imported here; any error
that carries an HTTP status is judged by the status.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from hooktape.errors import LedgerUnavailable, NotOurs, Reject, Retry, SettingsError, TapeUnavailable, TransactionRefused


class Disposition(StrEnum):
    """Why an event is in a retry topic or the DLQ; the value of the header `hooktape-disposition`."""

    TRANSIENT = "transient"
    """May well succeed later: a time-out, a lost connection, a 5xx."""
    THROTTLED = "throttled"
    """Too much at once, as the other side said: its destination cools."""
    PERMANENT = "permanent"
    """Can't succeed however often it's tried: dead at once."""
    POISON = "poison"
    """The record or its body can't be read: dead at once."""
    BUG = "bug"
    """An exception that nobody foresaw. Retried: a deployment may mend it."""
    REJECTED = "rejected"
    """The handler raised `Reject`: dead at once."""
    EXHAUSTED = "exhausted"
    """Tried as often as allowed."""
    BEHIND = "behind"
    """Never tried: an earlier event of its resource waits for a retry."""


FINAL = frozenset({Disposition.PERMANENT, Disposition.POISON, Disposition.REJECTED, Disposition.EXHAUSTED})


@dataclass(frozen=True, slots=True)
class Cause:
    """`after`: seconds that the other side or the handler asked for. `whole_destination`: all of the handler cools, not just the
    event's shop. `untried`: the try says nothing about the event: it doesn't count, and the event waits in its lane."""

    disposition: Disposition
    after: float | None = None
    whole_destination: bool = False
    untried: bool = False


class HandlerTimeout(Exception):
    """The handler took longer than its `timeout`. Do: raise the timeout, or find out what it waits for."""


class Answered(Exception):
    """An HTTP endpoint answered with something else than 2xx."""

    def __init__(self, message: str, status: int, after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.after = after


class Unanswered(Exception):
    """The endpoint is down: nothing was sent, or what was sent says nothing about this event. `after` in seconds."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


Mapper = Callable[[BaseException], "Disposition | Retry | Reject | str | None"]

# Statuses whose request will get the same answer again. 401 and 403 aren't here: tokens get rotated and scopes granted.
_HOPELESS = {400, 404, 405, 406, 410, 411, 413, 414, 415, 422, 501}
# (module, class) of errors that say "not now". The first word of the module is enough: packages move their classes about.
_PASSING = {
    ("httpx", "TransportError"), ("httpcore", "NetworkError"), ("httpcore", "TimeoutException"), ("requests", "ConnectionError"),
    ("requests", "Timeout"), ("urllib3", "HTTPError"), ("aiohttp", "ClientConnectionError"), ("aiohttp", "ServerTimeoutError"),
    ("psycopg", "OperationalError"), ("psycopg2", "OperationalError"), ("asyncpg", "PostgresConnectionError"),
    ("sqlite3", "OperationalError"), ("sqlalchemy", "OperationalError"), ("redis", "ConnectionError"), ("redis", "TimeoutError"),
    ("pymysql", "OperationalError"), ("botocore", "ConnectionError"), ("grpc", "RpcError"),
}  # fmt: skip
# Wrong addresses, and called transport errors by httpx.
_OURS = {("httpx", "UnsupportedProtocol"), ("httpx", "LocalProtocolError")}
_BUILT_IN = (TimeoutError, ConnectionError, InterruptedError, LedgerUnavailable, TransactionRefused, TapeUnavailable, MemoryError,
             HandlerTimeout)  # fmt: skip


def classify(error: BaseException, now: float, own: Mapper | None = None) -> Cause:
    """The cause behind `error`; `own` (the app's `@app.classify`) is asked first. `now` in epoch seconds, for dates in Retry-After."""
    if isinstance(error, Unanswered):
        return Cause(Disposition.THROTTLED, error.after, whole_destination=True, untried=True)
    if own is not None and not isinstance(error, Retry | Reject):
        answer = own(error)
        if isinstance(answer, Retry | Reject):
            return _said(answer)
        if answer is not None:
            return Cause(Disposition(answer))
    if isinstance(error, Retry | Reject):
        return _said(error)
    if isinstance(error, NotOurs):
        return Cause(Disposition.POISON)
    if isinstance(error, SettingsError):
        return Cause(Disposition.PERMANENT)  # a process keeps its settings for as long as it runs
    if isinstance(error, Answered):
        return _forwarded(error)
    status, headers = _http(error)
    if status is not None:
        return _by_status(status, retry_after(headers.get("Retry-After") or headers.get("retry-after"), now))
    known = {(c.__module__.partition(".")[0], c.__name__) for c in type(error).__mro__}
    if isinstance(error, _BUILT_IN) or (known & _PASSING and not known & _OURS):
        return Cause(Disposition.TRANSIENT)
    # A handler's own task was cancelled from inside it: nothing says that it will be again.
    if type(error).__name__ == "CancelledError":
        return Cause(Disposition.TRANSIENT)
    return Cause(Disposition.BUG)


def retry_after(text: str | None, now: float) -> float | None:
    """Seconds in a Retry-After header: a number (Shopify writes `2.0`) or an HTTP date (RFC 9110 §10.2.3); None if unreadable."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now)
    return seconds if 0 <= seconds < float("inf") else None


def _said(word: Retry | Reject) -> Cause:
    if isinstance(word, Reject):
        return Cause(Disposition.REJECTED)
    return Cause(Disposition.TRANSIENT, max(0.0, word.after) if word.after is not None else None)


def _by_status(status: int, after: float | None) -> Cause:
    if status == 429 or (status == 503 and after is not None):
        return Cause(Disposition.THROTTLED, after)
    return Cause(Disposition.PERMANENT if status in _HOPELESS else Disposition.TRANSIENT, after)


def _forwarded(error: Answered) -> Cause:
    """As Shopify, Svix and Hookdeck treat an endpoint: every refusal is tried again, since a 404 is mostly a bad deployment.
    Only 410 says "never again"."""
    if error.status == 410:
        return Cause(Disposition.PERMANENT)
    if error.status == 429 or (error.status == 503 and error.after is not None):
        return Cause(Disposition.THROTTLED, error.after, whole_destination=True)
    return Cause(Disposition.TRANSIENT, error.after)


def _http(error: BaseException) -> tuple[int | None, Mapping[str, Any]]:
    """Status and headers of an error that carries an HTTP answer, as httpx, requests (`response`) and aiohttp (`status`) do."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) if response is not None else getattr(error, "status", None)
    headers = getattr(response if response is not None else error, "headers", None)
    if not isinstance(status, int) or isinstance(status, bool) or not 300 <= status <= 599:
        return None, {}
    return status, headers if isinstance(headers, Mapping) else {}
