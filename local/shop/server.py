"""`LocalShop`: the shop on a free loopback port, with its webhooks on their way to a target."""

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from types import TracebackType
from typing import Any, Self

import msgspec
import uvicorn
from starlette.responses import FileResponse

from hooktape import log
from hooktape.errors import LocalStackError
from hooktape.guest import Guest
from hooktape.local.shop import control, oauth
from hooktape.local.shop.admin import Admin
from hooktape.local.shop.cost import STANDARD, Plan
from hooktape.local.shop.faults import Fate, Faults, Verdict, struck
from hooktape.local.shop.faults import plan as fates
from hooktape.local.shop.incidents import Incidents
from hooktape.local.shop.model import Change, Mix, Shop
from hooktape.local.shop.oauth import Tokens
from hooktape.local.shop.subscriptions import Subscriptions
from hooktape.local.shop.truth import Delivery, Truth
from hooktape.local.shop.webhooks import SHOPIFY_SPAN, Secrets, Sender
from hooktape.schemas.samples import SHOP_DOMAIN

_PATH = re.compile(r"/admin/api/([^/]+)/graphql\.json")
# A change out of order is overtaken at the earliest one whole second later, when `updated_at` has moved on.
_OVERTAKE_AFTER = 1.2
_REQUEST_LIMIT = 1024 * 1024  # bytes; Shopify's largest queries are far below

logger = log.get(__name__)
Progress = Callable[[int, int], None]
Held = dict[int, tuple[Change, Delivery]]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class LocalShop:
    """A Shopify shop for one app: `async with LocalShop(…) as shop: await shop.run(2000, rate=500); await shop.settle()`.

    `secrets`: the app's client secrets, newest first; the oldest one signs until `revoke_oldest()`. `target`: where the
    webhooks go. `subscribed`: the topics to which the app has subscribed by the API; None: to all, by its configuration,
    which the API doesn't show. `token`: an `X-Shopify-Access-Token` that never expires; others are granted to the app
    `client_id`. `plan`: the bucket of the Admin API. `retry_span`: seconds over which the 8 retries are spread (Shopify: 4 h).
    `search_lag`: seconds by which the Admin API's lists are behind. `port` 0 takes a free one. One seed, one list of fates;
    contents too, but for times. What goes wrong while it runs is switched at `incidents`. Raises LocalStackError when the port
    can't be had.
    """

    def __init__(
        self,
        domain: str = SHOP_DOMAIN,
        *,
        seed: int = 1,
        secrets: tuple[str, ...] = ("local-shop-secret",),
        target: str = "http://127.0.0.1:8000/webhooks",
        faults: Faults | None = None,
        token: str = "local-shop-token",
        client_id: str = "local-shop-app",
        plan: Plan = STANDARD,
        mix: Mix | None = None,
        ties: float = 0.0,
        retry_span: float = SHOPIFY_SPAN,
        search_lag: float = 0.0,
        concurrency: int = 64,
        subscribed: Iterable[str] | None = None,
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.domain, self.token = domain, token
        self.faults = faults or Faults()
        self.shop = Shop(domain, seed, clock, mix, ties)
        self.truth = Truth()
        self.incidents = Incidents(seed)
        self.subscriptions = Subscriptions(self.incidents)
        for topic in subscribed or ():
            self.subscriptions.create(topic, target, clock())
        self._secrets = Secrets(secrets)
        self.tokens = Tokens(token, client_id, self._secrets, self.incidents, clock)
        self.admin = Admin(self.shop, token, plan, search_lag, incidents=self.incidents, subscriptions=self.subscriptions,
                           tokens=self.tokens)  # fmt: skip
        self._sender = Sender(target, self._secrets, span=retry_span, concurrency=concurrency, on_gave_up=self.subscriptions.failed)
        # A generator of its own: how many draws a change takes must not move the fates.
        self._fates = Random(f"{seed}/fates")
        self._clock = clock
        self._asked_port, self._port = port, 0
        self._server: Guest | None = None
        self._serving: asyncio.Task[None] | None = None
        self._bulk: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Loopback only: whoever reads the truth needs no token.
            listener.bind(("127.0.0.1", self._asked_port))
        except OSError as error:
            listener.close()
            raise LocalStackError(f"the local shop can't listen on port {self._asked_port}: {error.strerror}.") from error
        self._port = listener.getsockname()[1]
        self.admin.bulk.base = self.url
        config = uvicorn.Config(self._app, interface="asgi3", http="httptools", lifespan="off", log_config=None, access_log=False,
                                date_header=False, timeout_graceful_shutdown=2)  # fmt: skip
        self._server = Guest(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        # The listener takes connections from here on; they are answered as soon as uvicorn's loop runs.
        listener.listen()
        logger.info("local shop is up", shop=self.domain, admin=self.admin_url)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._sender.close()
        if self._bulk is not None:
            self._bulk.cancel()
            await asyncio.gather(self._bulk, return_exceptions=True)
        self.admin.bulk.close()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

    @property
    def url(self) -> str:
        """The shop's own address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def admin_url(self) -> str:
        """For the setting `admin_url`: a template with `{version}`; the shop is this one whatever `{shop}` says."""
        return f"{self.url}/admin/api/{{version}}/graphql.json"

    @property
    def truth_url(self) -> str:
        """Where another process reads the ledger of truth as JSON."""
        return f"{self.url}/admin/truth"

    async def run(self, changes: int, rate: float | None = None, on_progress: Progress | None = None) -> None:
        """Makes `changes` changes, `rate` a second (None: as fast as they're taken), and sends their webhooks.

        Returns when the last one is on its way: `settle()` waits for the ends. `on_progress(done, changes)` is called
        after each.
        """
        gap = max(1, min(changes // 2, int((rate or changes) * _OVERTAKE_AFTER)))
        verdicts = fates(self.faults, self._fates, changes, gap)
        held: Held = {}
        start = time.monotonic()
        for place, verdict in enumerate(verdicts):
            if rate is not None and (wait := start + place / rate - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            overtaken = held.pop(place - verdict.swaps_with, None) if verdict.swaps_with else None
            change = await self._change(overtaken, held)
            # What can't change once more can't be overtaken either.
            if verdict.fate is Fate.OUT_OF_ORDER and change.repeatable and self.subscriptions.outgoing(change):
                held[place] = change, self.truth.add(change, verdict.fate, verdict.delay)
            else:
                sent = await self._send(change, Verdict() if verdict.fate is Fate.OUT_OF_ORDER else verdict)
                if overtaken is not None:
                    await self._sender.submit(*overtaken, after=sent)
            if on_progress is not None:
                on_progress(place + 1, changes)
        while self.shop.untold:
            # The last act's other webhooks: what has happened is told.
            await self._send(self.shop.change(self._clock()), Verdict())

    def missing(self, exact: bool = False) -> dict[str, Delivery]:
        """`order/123` → its last change, where the shop still shows what no delivered webhook did (or that it's gone).

        `exact`: by content too, so that a second change in the same second counts. An order's parts that went with it aren't
        missing: Shopify tells of the order only.
        """
        found = self.truth.unseen() if exact else self.truth.missing()
        return {name: delivery for name, delivery in found.items() if delivery.deleted or self.shop.get(name)}

    def silent(self) -> set[str]:
        """The resources whose `updatedAt` moved on after their last webhook, lost ones counted: Shopify has no topic for that.

        A fulfilment order that its fulfilment closes is one, a theme whose files are edited, a contract that is paid for. Nothing was
        missed, though the Admin API shows something newer.
        """
        last = self.truth.latest().items()
        return {name for name, delivery in last if (found := self.shop.get(name)) and found.updated * 1_000_000 > delivery.shows}

    async def settle(self) -> None:
        """Waits until every delivery has ended, late ones and retries too."""
        await self._sender.settle()

    def revoke_oldest(self) -> None:
        """Ends a rotation of secrets: the next newer one signs from now on. Raises UsageError for the only one."""
        self._secrets.revoke_oldest()

    async def _send(self, change: Change, verdict: Verdict) -> asyncio.Task[None] | None:
        """Writes a webhook down and sets it on its way, as its subscription and what goes wrong now have it."""
        outgoing = self.subscriptions.outgoing(change)
        verdict = struck(verdict, change.topic, self.incidents) if outgoing else Verdict(Fate.UNSUBSCRIBED)
        return await self._sender.submit(outgoing or change, self.truth.add(change, verdict.fate, verdict.delay))

    async def _work(self) -> None:
        """Advances the bulk operations until none runs, and tells of their ends."""
        bulk = self.admin.bulk
        # The clock may be a test's, turned by hand: nothing but looking tells that an operation's time has come.
        while bulk.advance():  # noqa: ASYNC110
            await asyncio.sleep(0 if any(not one.written for one in bulk.running) else 0.05)
        while bulk.finished:
            ended = bulk.finished.pop(0)
            if self.shop.whole and not self.incidents.is_on("bulk_finish_lost"):
                name = f"bulk_operation/{ended.number}"
                await self._send(self.shop.tell("bulk_operations/finish", name, ended.gid, ended.told(), self._clock()), Verdict())

    async def _change(self, overtaken: tuple[Change, Delivery] | None, held: Held) -> Change:
        if overtaken is not None and (again := self.shop.get(overtaken[0].resource)):
            # Without a rate, or in a short run, the second may not have passed yet.
            await asyncio.sleep(max(0.0, again.updated + 1 - self._clock()))
            return self.shop.change(max(self._clock(), again.updated + 1), again)
        return self.shop.change(self._clock(), keep=frozenset(change.resource for change, _ in held.values()))

    async def _app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/bulk/") and (path := self.admin.bulk.file(scope["path"].removeprefix("/bulk/"))):
            await FileResponse(path, media_type="application/jsonl")(scope, receive, send)
            return
        status, headers, body = await self._answer(scope, receive)
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> tuple[int, dict[str, str], bytes]:
        plain = {"content-type": "application/json"}
        if scope["path"] == "/admin/truth" and scope["method"] == "GET":
            return 200, plain, msgspec.json.encode(self.truth.document())
        match = _PATH.fullmatch(scope["path"])
        controls = scope["path"].startswith(control.ROOT)
        grants = scope["path"] == oauth.PATH
        if not match and not controls and not grants:
            return 404, plain, b'{"errors":"Not Found"}'
        if (match or grants) and scope["method"] != "POST":
            return 405, plain, b'{"errors":"Method Not Allowed"}'
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > _REQUEST_LIMIT:
                return 413, plain, b'{"errors":"Request Entity Too Large"}'
            if not message.get("more_body"):
                break
        if grants:
            status, granted = self.tokens.grant(body)
            return status, plain, msgspec.json.encode(granted)
        if not match:
            status, found = await control.answer(self, scope["method"], scope["path"], body)
            return status, plain, msgspec.json.encode(found)
        token = next((value for name, value in scope["headers"] if name == b"x-shopify-access-token"), b"")
        answer = self.admin.answer(match[1], token.decode("latin-1"), body)
        while self.admin.edited:
            await self._send(self.admin.edited.pop(0), Verdict())
        if self.admin.bulk.running and (self._bulk is None or self._bulk.done()):
            self._bulk = asyncio.create_task(self._work())
        return answer.status, answer.headers, answer.body


async def serve(
    shop: LocalShop, *, rate: float, changes: int | None = None, ready: Callable[[LocalShop], None] | None = None
) -> Truth:
    """Runs `shop` until `changes` changes are settled, or for ever; `ready` is called once it answers. Returns the truth."""
    async with shop:
        if ready is not None:
            ready(shop)
        left = changes
        while left is None or left > 0:
            # In portions of about ten seconds: fates are planned for one portion at a time.
            portion = max(1, int(rate * 10)) if left is None else min(left, max(1, int(rate * 10)))
            await shop.run(portion, rate)
            left = None if left is None else left - portion
        await shop.settle()
        return shop.truth
