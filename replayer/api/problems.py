"""Errors as RFC 9457 problem details: one table of kinds, and one mapping from `hooktape.errors` to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Route

from hooktape import errors, log

MEDIA_TYPE = "application/problem+json"
# The ledger's connection and Kafka's leader are back within seconds, or not for long.
_RETRY_AFTER = 5
_log = log.get("hooktape.api")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its `type` is `/problems/NAME`. `meaning` says what to do about it."""

    name: str
    status: int
    title: str
    meaning: str

    @property
    def uri(self) -> str:
        return f"/problems/{self.name}"


_KINDS = (
    Kind("malformed", 400, "The request can't be read", "The body or the address holds what no request does: mend the client."),
    Kind("unknown-parameter", 400, "No such query parameter", "`field` names it, `allowed` those that there are."),
    Kind("usage", 400, "That makes no sense", "`detail` says which value, and what it may be."),
    Kind("unauthenticated", 401, "A token is needed", "Send `Authorization: Bearer hkt_…`; `hooktape tokens create` makes one."),
    Kind("forbidden", 403, "Not with this token", "The token's role is read, and this needs operate."),
    Kind("foreign", 403, "The request came from elsewhere", "Without tokens, only this machine is answered: see docs/security.md."),
    Kind("not-found", 404, "There is no such thing", "`detail` says what isn't there."),
    Kind("nothing-matched", 404, "Nothing matched", "Widen the selection, or look how far back the tape reaches."),
    Kind("method", 405, "Not with this method", "The header `Allow` says which methods there are."),
    Kind("not-allowed", 409, "It would do harm now", "`detail` says what stands in the way, and what to do first."),
    Kind("confirmation", 409, "A confirmation is needed", "Send `confirm` with the number in `needed`, once a person has seen it."),
    Kind("slow", 408, "The body came too slowly", "Send it at once."),
    Kind("too-large", 413, "The body is too large", "Divide it, or select by time or topic instead of by ids."),
    Kind("media-type", 415, "JSON is needed", "Send the body as `Content-Type: application/json`."),
    Kind("invalid", 422, "A value can't be taken", "`errors` lists each field and what is the matter with it."),
    Kind("internal", 500, "A bug", "Look at the log of `hooktape console`, and report it."),
    Kind("refused", 502, "Kafka or the ledger said no", "`detail` says what; look at the broker or the database."),
    Kind("kafka-unavailable", 503, "Kafka can't be reached", "Try again after `Retry-After` seconds; check HOOKTAPE_KAFKA and the broker."),
    Kind("ledger-unavailable", 503, "The ledger can't be reached", "Try again after `Retry-After` seconds; check the database."),
    Kind("busy", 503, "Too much is asked at once", "Try again after `Retry-After` seconds; narrow slow searches."),
    Kind("timeout", 504, "It took too long", "Narrow the selection; what acts, goes on as a job."),
)  # fmt: skip
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _KINDS}

# The first that fits counts, so the narrower stand first.
_OF_ERRORS: tuple[tuple[type[errors.HooktapeError], str], ...] = (
    (errors.UsageError, "usage"), (errors.NothingMatched, "nothing-matched"), (errors.NotAllowed, "not-allowed"),
    (errors.Incomplete, "not-allowed"), (errors.TopicMissing, "not-found"), (errors.TapeUnavailable, "kafka-unavailable"),
    (errors.LedgerUnavailable, "ledger-unavailable"), (errors.TapeError, "refused"), (errors.LedgerError, "refused"),
    (errors.HooktapeError, "internal"),
)  # fmt: skip
_OF_STATUS = {400: "malformed", 404: "not-found", 405: "method", 413: "too-large", 415: "media-type"}


class FieldError(BaseModel):
    """What is the matter with one value of a request."""

    field: str = Field(description="Where it stands, as in `body.selection.since` or `query.limit`.")
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem. `detail` is a sentence for a person; further members depend on the type."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="One of the paths listed in docs/api.md.", examples=["/problems/not-allowed"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path of the request.")
    field: str | None = Field(default=None, description="The parameter that is the matter.")
    allowed: list[str] | None = Field(default=None, description="The values or names that there are.")
    needed: int | None = Field(default=None, description="The number that `confirm` must hold.")
    errors: list[FieldError] | None = None


class Refused(Exception):
    """Answers a request with a problem: a kind's name, a sentence, and what further members it has."""

    def __init__(self, name: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.kind = KINDS[name]
        self.headers = dict(headers or {})
        self.members = members


def kind_of(error: errors.HooktapeError) -> Kind:
    """What an error of ours is to a client. Pure."""
    return KINDS[next(name for of, name in _OF_ERRORS if isinstance(error, of))]


def answer(kind: Kind, detail: str, instance: str, headers: Mapping[str, str] | None = None, **members: Any) -> JSONResponse:
    """The response of a problem."""
    found = Problem(type=kind.uri, title=kind.title, status=kind.status, detail=_text(detail), instance=_text(instance), **members)
    more = {"Retry-After": str(_RETRY_AFTER)} if kind.status == 503 else {}
    return JSONResponse(found.model_dump(exclude_none=True), kind.status, {**more, **(headers or {})}, MEDIA_TYPE)


def _text(text: str) -> str:
    # Half a surrogate pair is no UTF-8, and may come from the request that the sentence speaks of.
    return text.encode("utf-8", "replace").decode()


async def of_refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return answer(error.kind, str(error), request.url.path, error.headers, **error.members)


async def of_ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.HooktapeError)
    kind = kind_of(error)
    if kind.status >= 500:
        _log.warning("a request failed", path=request.url.path, error=str(error))
    return answer(kind, str(error), request.url.path)


async def of_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Without the values: they may be secrets or bodies, and needn't be UTF-8.
    found = [FieldError(field=_text(".".join(map(str, e["loc"]))), message=_text(e["msg"])) for e in error.errors()]
    detail = "; ".join(f"{e.field}: {e.message}" for e in found[:5])
    return answer(KINDS["invalid"], detail, request.url.path, errors=found)


async def of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = KINDS[_OF_STATUS.get(error.status_code, "malformed")]
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # The router names the methods of the first route that has this path, and there may be several.
        headers["Allow"] = ", ".join(sorted({method for route in request.app.router.routes if isinstance(route, Route)
                                             and route.path_regex.match(request.url.path) for method in route.methods or ()}))  # fmt: skip
    details = {404: f"Nothing is at {request.url.path}.", 405: f"{request.method} isn't one of the methods of {request.url.path}."}
    return answer(kind, details.get(error.status_code, str(error.detail)), request.url.path, headers)


HANDLERS: dict[int | type[Exception], Any] = {
    Refused: of_refused, errors.HooktapeError: of_ours, RequestValidationError: of_validation, HTTPException: of_http,
}  # fmt: skip


def responses(*names: str) -> dict[int | str, dict[str, Any]]:
    """For a route's description: the problems that it may answer with, by status."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in (KINDS[name] for name in names):
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        so_far = found.setdefault(kind.status, {"description": "", "content": content})
        so_far["description"] = " ".join(filter(None, (so_far["description"], f"{kind.title} (`{kind.uri}`).")))
        if kind.status == 503:
            so_far["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait before the next try."}}
        if kind.status == 401:
            so_far["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return found


def page(kind: Kind) -> str:
    """What `/problems/NAME` shows."""
    return f"{kind.title}\n\nHTTP status {kind.status}. {kind.meaning}\n"
