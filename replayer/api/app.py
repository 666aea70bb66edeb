"""The application: the table of routes behind one door, described by OpenAPI.

    Front   every request: foreign pages refused, a line in the log, metrics, a problem instead of a traceback
    Guarded every route of the table: who asks, their role, the query's names, the body's type, size and time
"""

import asyncio
import contextlib
import functools
import inspect
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hooktape import log, metrics
from hooktape.errors import HooktapeError
from hooktape.ledger.tokens import Role
from hooktape.replayer.api import access, problems
from hooktape.replayer.api.desk import Asked, Desk, Shops
from hooktape.replayer.api.problems import KINDS, Problem, Refused
from hooktape.replayer.api.routes import PREFIX, ROUTES, Route
from hooktape.settings import Settings
from hooktape.tape.reader import Reader

_log = log.get("hooktape.api")
# 10,000 webhook ids take 400 KB.
BODY_BYTES = 1024 * 1024
BODY_SECONDS = 10.0
_ANY = ("malformed", "unknown-parameter", "usage", "unauthenticated", "forbidden", "foreign", "invalid", "refused", "ledger-unavailable",
        "busy", "timeout")  # fmt: skip
_BODY = ("slow", "too-large", "media-type")
_ROLE = "x-required-role"
_SAID = """What operators see and do, as the command `hooktape` does it: the same functions, the same words.

Lists are paged by `next`; errors are RFC 9457 problems whose types docs/api.md lists; what takes long is a job with progress as
server-sent events."""
_TAGS = {"me": "Access", "audit": "Access", "events": "Events", "replays": "Replays", "groups": "Groups", "breakers": "Groups",
         "catalogue": "Events", "status": "Groups", "reconcile": "Reconciler"}  # fmt: skip


def create_app(settings: Settings, *, local: bool, shops: Shops | None = None) -> FastAPI:
    """The application. `local`: it's served on loopback only, so requests without a token are the machine's user's. `shops`: opens what
    asks the shops for their present state, None where nothing can.

    Its lifespan begins to run jobs that have no runner. Needs `kafka` among the settings. Opens nothing before its first request.
    """
    desk = Desk(settings, local, shops)
    app = _Api(title="Hooktape", version="1", description=_SAID, docs_url=None, redoc_url=None,
               openapi_url=f"{PREFIX}/openapi.json", lifespan=_lifespan, exception_handlers={**problems.HANDLERS})  # fmt: skip
    app.state.desk = desk
    for route in ROUTES:
        _add(app, route)
    for path, function in (("/livez", _livez), ("/readyz", _readyz), ("/problems/{name}", _problem)):
        app.add_route(path, function, methods=["GET"], include_in_schema=False)
    app.router.add_api_route("/metrics", _metrics, methods=["GET"], include_in_schema=False, route_class_override=Guarded,
                             openapi_extra={_ROLE: str(Role.READ)})  # fmt: skip
    app.add_middleware(Front, desk=desk)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    desk: Desk = app.state.desk
    desk.work.start()
    try:
        yield
    finally:
        desk.stopping = True
        await asyncio.to_thread(desk.work.stop)
        desk.close()


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            found = get_openapi(title=self.title, version=self.version, description=self.description, routes=self.routes)
            schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            parts = found.setdefault("components", {})
            parts.setdefault("schemas", {}).update({**schema.pop("$defs", {}), "Problem": schema})
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "description": "`hooktape tokens create` makes one. "
                                                  "Not needed where the API listens on loopback only."}}  # fmt: skip
            found["security"] = [{"token": []}]
            self.openapi_schema = found
        return self.openapi_schema


def _add(app: FastAPI, route: Route) -> None:
    names = (*_ANY, *route.problems, *(_BODY if route.method == "POST" else ()))
    streamed: dict[str, Any] = {}
    if route.media:
        streamed["response_class"] = type("Streamed", (StreamingResponse,), {"media_type": route.media})
    app.router.add_api_route(
        PREFIX + route.path, _in_thread(route.function), methods=[route.method], status_code=route.status, summary=route.summary,
        response_model=route.model, responses=problems.responses(*names) | route.also, operation_id=route.function.__name__,
        tags=[_TAGS[route.path.split("/")[1]]], openapi_extra={_ROLE: str(route.role)}, route_class_override=Guarded,
        **streamed,
    )  # fmt: skip


def _in_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The ledger and Kafka block: what isn't a coroutine runs in the desk's threads, with its time limit."""
    if inspect.iscoroutinefunction(function):
        return function

    async def answer(**values: Any) -> Any:
        desk: Desk = values["ask"].desk
        return await desk.do(functools.partial(function, **values))

    answer.__name__, answer.__doc__ = function.__name__, function.__doc__
    answer.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return answer


class Guarded(APIRoute):
    """Lets a request in before anything of it is read, and not by the functions' own care."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()
        role = Role((self.openapi_extra or {})[_ROLE])

        async def handle(request: Request) -> Response:
            desk: Desk = request.app.state.desk

            def identify() -> access.Identity:
                with desk.ledgers.borrowed() as ledger:
                    return access.identify(desk.settings, ledger, request.headers, desk.local, time.time())

            by = await desk.do(identify)
            request.state.ask = Asked(desk, by)
            access.require(by, role)
            _check_query(request, self)
            return await inner(await _with_body(request) if request.method == "POST" else request)

        return handle


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _check_query(request: Request, route: APIRoute) -> None:
    """Raises Refused for a parameter that the route hasn't, for one given twice that takes one value, and for control characters."""
    known = _query_of(request.app, route)
    for name in request.query_params:
        if name not in known:
            raise Refused("unknown-parameter", f"There is no query parameter {name!r} here.", field=name[:100], allowed=sorted(known))
        values = request.query_params.getlist(name)
        if len(values) > 1 and not known[name]:
            raise Refused("usage", f"Give `{name}` once.", field=name)
        if any(_CONTROL.search(value) for value in values):
            raise Refused("malformed", f"`{name}` holds a control character.", field=name)
    if _CONTROL.search(request.url.path):
        raise Refused("malformed", "The path holds a control character.")


def _query_of(app: FastAPI, route: APIRoute) -> dict[str, bool]:
    """The query parameters that the description lists for a route, and whether each may be given several times."""
    operation = app.openapi()["paths"].get(route.path_format, {}).get("get" if "GET" in (route.methods or ()) else "post", {})
    return {p["name"]: p["schema"].get("type") == "array" for p in operation.get("parameters", ()) if p["in"] == "query"}


async def _with_body(request: Request) -> Request:
    """The request with its body read. Raises Refused for one that isn't JSON, is too large or too slow."""
    body = bytearray()

    async def read() -> None:
        async for chunk in request.stream():
            body.extend(chunk)
            if len(body) > BODY_BYTES:
                raise Refused("too-large", f"A body may have {BODY_BYTES:,} bytes.")

    try:
        await asyncio.wait_for(read(), BODY_SECONDS)
    except TimeoutError:
        raise Refused("slow", f"The body wasn't there within {BODY_SECONDS:g} s.") from None
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # Also what a form of a foreign page can send without being asked is refused by this.
        raise Refused("media-type", "Send the body as Content-Type: application/json.")

    async def again() -> Message:
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return Request(request.scope, again)


async def _livez(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _readyz(request: Request) -> Response:
    """Ready looks at the ledger and at Kafka; live never does."""
    desk: Desk = request.app.state.desk

    def problems_now() -> list[str]:
        found = []
        try:
            with desk.ledgers.borrowed() as ledger:
                ledger.tokens.any_in_force()
        except (HooktapeError, Refused) as error:
            found.append(f"ledger: {error}")
        try:
            with Reader(desk.settings, timeout=min(5.0, desk.settings.read_timeout)) as reader:
                reader.topics()
        except HooktapeError as error:
            found.append(f"kafka: {error}")
        return found

    try:
        found = await desk.do(problems_now)
    except Refused as error:
        found = [str(error)]
    return PlainTextResponse("\n".join(["not ready" if found else "ready", *found, ""]), 503 if found else 200)


async def _metrics(_: Request) -> Response:
    body, content_type = metrics.exposition()
    return Response(body, headers={"content-type": content_type})


async def _problem(request: Request) -> Response:
    kind = KINDS.get(request.path_params["name"])
    if kind is None:
        raise Refused("not-found", "There is no such problem.")
    return PlainTextResponse(problems.page(kind))


class Front:
    """Sees every request first and every answer last."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            access.refuse_foreign(Headers(scope=scope), self._desk.local)
            await self._app(scope, receive, sent)
        except Refused as error:
            await problems.answer(error.kind, str(error), scope["path"], error.headers, **error.members)(scope, receive, sent)
        except Exception as error:  # noqa: BLE001 - a bug is answered too, and logged once
            _log.error("a request met a bug", exc=error, path=scope["path"])
            if not status:
                answer = problems.answer(KINDS["internal"], "Something in Hooktape is broken: its log says what.", scope["path"])
                await answer(scope, receive, sent)
        finally:
            self._note(scope, status, time.monotonic() - began)

    @staticmethod
    def _note(scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        ask: Asked | None = scope.get("state", {}).get("ask")
        metrics.API_REQUESTS.labels(route, str(status)).inc()
        if not route.endswith("/progress"):
            metrics.API_SECONDS.labels(route).observe(seconds)
        _log.info("request", who=ask.by.name if ask else "-", method=scope["method"], route=route, status=status,
                  ms=round(seconds * 1000, 1))  # fmt: skip
