"""The Admin API over HTTP: one shop, with a token that's good, at the pace that the ledger grants."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from hooktape import log, metrics
from hooktape.errors import AdminApiError
from hooktape.reconciler import protected
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.pacing import Pace
from hooktape.settings import Secret, Settings
from hooktape.times import micros

_log = log.get("hooktape.reconciler")

# A shop that answers 5xx six times over half a minute is down: the window stays open and the next pass asks again.
_TRIES = 6
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# Shopify gives large list queries up to 30 s before it answers with a time-out of its own.
_TIMEOUT = httpx.Timeout(40.0, connect=10.0)
_RETRIABLE_STATUS = {408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 530}
_TRANSIENT = {"token_source", "unreachable"}
_RETRIABLE_CODES = {"INTERNAL_SERVER_ERROR", "TIMEOUT", "THROTTLED_DURING_CHECKOUT"}
# Shopify's words to a public app's old token (chatwoot/chatwoot#14462); how much of an answer is looked at for them.
_PERMANENT, _SHOWN = "Non-expiring access tokens", 2000
# Each is a different thing to do, so each is a reason of its own.
_STATUS = {
    401: ("unauthorized", "the token isn't accepted, and no other is to be had: after a new install or rotation the new one has to be set "
          "where tokens come from"),
    402: ("payment_required", "the shop is frozen for an unpaid bill; its API opens again when the merchant pays"),
    403: ("forbidden", "Shopify refuses this app or shop; see the app's access in the Partner Dashboard"),
    404: ("not_found", "there's no Admin API there: check the shop's domain and HOOKTAPE_ADMIN_URL"),
    423: ("locked", "Shopify has locked the shop; it opens again when Shopify or the merchant says so"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query returned. `date_us`: Shopify's clock by the `Date` header, microseconds since the epoch."""

    data: dict[str, Any]
    date_us: int
    points: int
    throttle: Mapping[str, Any] | None = None
    """Shopify's bucket, as it says."""
    hidden: frozenset[str] = frozenset()
    """Kinds of protected data that are withheld in it, their places marked: see `protected`."""


class AdminClient:
    """Asks one shop. `spent` counts the points that Shopify charged. `pace`: None asks as fast as it can.

    A token that is refused is asked for anew, once in a question: it may have ended, or been replaced.
    """

    def __init__(
        self,
        settings: Settings,
        shop: str,
        http: httpx.AsyncClient,
        access: Access,
        *,
        pace: Pace | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.shop = shop
        self.version = settings.admin_api_version
        self.spent = 0
        self._access = access
        self._url = settings.admin_url.format(shop=shop, version=self.version)
        self._http = http
        self._sleep, self._jitter = sleep, jitter
        self._pace = pace

    async def ask(self, query: str, variables: Mapping[str, Any], points: int, *, once: bool = False) -> Answer:
        """Runs `query`, which costs at most `points` by the published rules. Waits for its share of the budget first.

        `once`: it isn't asked again where nobody can tell whether Shopify has done it already.

        Raises AdminApiError with a reason: a status that only a person can change, a GraphQL error, another API version
        than the one asked for, or a shop that stays unreachable or throttled after several tries.
        """
        last, body = "", msgspec.json.encode({"query": query, "variables": variables})
        for attempt in range(_TRIES):
            if self._pace is not None:
                await self._pace.take(points)
            pause: float | None = None
            unsure = once
            try:
                response = await self._post(body)
            except AdminApiError as error:
                # There's no token. What a query would have cost is the handlers' as well, and Shopify has it still.
                if self._pace is not None:
                    await self._pace.unasked(points)
                if error.reason not in _TRANSIENT:
                    raise
                last, reason, unsure = str(error), error.reason, False
            except httpx.RequestError as error:
                last, reason = f"{type(error).__name__}", "unreachable"
            else:
                outcome = self._judge(response)
                if isinstance(outcome, Answer):
                    if self._pace is not None:
                        await self._pace.answered(points, outcome.points, outcome.throttle)
                    return outcome
                last, reason, pause = outcome.why, outcome.reason, outcome.after
                if reason == "throttled":
                    unsure = False
                    if self._pace is not None:
                        await self._pace.throttled(pause or _FIRST_PAUSE)
            if unsure:
                raise AdminApiError(f"{self.shop} didn't answer ({last}), and may have done what it was asked for", reason=reason)
            if attempt + 1 < _TRIES:
                backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt) * (0.5 + self._jitter() / 2)
                _log.debug("the Admin API is asked again", shop=self.shop, why=last, attempt=attempt + 1)
                await self._pause(backoff if pause is None else min(_LONGEST_PAUSE, pause))
        raise AdminApiError(f"{self.shop} didn't answer in {_TRIES} tries ({last}); the next pass asks again", reason=reason)

    async def _post(self, body: bytes) -> httpx.Response:
        """The answer; to a token that is refused, the one to another token, where there is one."""
        token = await self._access.token(self.shop)
        response = await self._send(body, token)
        if response.status_code == 401 and (other := await self._access.token(self.shop, refused=token)) != token:
            response = await self._send(body, other)
        return response

    async def _send(self, body: bytes, token: Secret) -> httpx.Response:
        headers = {"X-Shopify-Access-Token": token.reveal(), "Content-Type": "application/json"}
        return await self._http.post(self._url, content=body, timeout=_TIMEOUT, headers=headers)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self._sleep(seconds)

    def _judge(self, response: httpx.Response) -> "Answer | _Again":
        status = response.status_code
        if status in _RETRIABLE_STATUS:
            return _Again(f"status {status}", "throttled" if status == 429 else "unavailable", _retry_after(response))
        if status == 403 and _PERMANENT in response.text[:_SHOWN]:
            raise AdminApiError(f"{self.shop} refuses a token that never expires: public apps made since 2026-04, and from 2027 on all, "
                                "must use expiring ones (HOOKTAPE_SHOP_TOKENS_URL)", reason="permanent_token")  # fmt: skip
        if status != 200:
            reason, advice = _STATUS.get(status, ("refused", "see the Admin API's documentation for it"))
            raise AdminApiError(f"{self.shop} answered {status}: {advice}", reason=reason)
        try:
            body = msgspec.json.decode(response.content)
            data, errors = body.get("data"), body.get("errors") or []
            cost = (body.get("extensions") or {}).get("cost") or {}
        except (msgspec.DecodeError, AttributeError):
            # Not the API's at all, but somebody's on the way.
            return _Again("an answer that isn't JSON", "unavailable", None)
        served = response.headers.get("X-Shopify-API-Version")
        if served != self.version:
            # An unsupported version is answered by the oldest supported one, with status 200; only this header tells.
            other = served or "unknown"
            raise AdminApiError(f"{self.shop} answered with API version {other} and not {self.version}: set "
                                "HOOKTAPE_ADMIN_API_VERSION to a supported one", reason="api_version")  # fmt: skip
        hidden: frozenset[str] = frozenset()
        if errors:
            withheld = protected.hide(data, errors) if isinstance(errors, list) and all(isinstance(e, dict) for e in errors) else None
            if withheld is None:
                return self._refused(errors, cost)
            hidden = withheld
        points = int(cost.get("actualQueryCost") or 0)
        self.spent += points
        metrics.RECONCILE_COST.inc(points)
        throttle = cost.get("throttleStatus")
        if throttle and throttle.get("maximumAvailable"):
            metrics.RECONCILE_THROTTLE.labels(self.shop).set(float(throttle.get("currentlyAvailable") or 0) /
                                                             float(throttle["maximumAvailable"]))  # fmt: skip
        return Answer(data or {}, _date(response), points, throttle, hidden)

    def _refused(self, errors: Any, cost: Mapping[str, Any]) -> "_Again":
        # A list of objects from GraphQL; a bare text from what stands before it.
        listed: list[dict[str, Any]] = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []
        codes = {str((e.get("extensions") or {}).get("code", "")) for e in listed}
        if "THROTTLED" in codes:
            return _Again("throttled", "throttled", _refill(cost))
        if codes & _RETRIABLE_CODES:
            return _Again(", ".join(sorted(codes)), "unavailable", None)
        message = str(listed[0].get("message", "")) if listed else str(errors)
        shown = "".join(c if c.isprintable() else " " for c in message)[:200]
        reason = next((code.lower() for code in sorted(codes) if code), "graphql_error")
        if protected.is_refusal(message):
            # The same code as for a scope that is lacking, and another thing to do.
            reason = protected.REASON
        raise AdminApiError(f"{self.shop} refused a query: {shown or 'no message'}", reason=reason)


@dataclass(frozen=True, slots=True)
class _Again:
    why: str
    reason: str
    after: float | None


def _refill(cost: Mapping[str, Any]) -> float | None:
    """Seconds until Shopify's bucket holds what the query asks for; None where it doesn't say."""
    throttle = cost.get("throttleStatus") or {}
    size, level, rate = (float(throttle.get(name) or 0) for name in ("maximumAvailable", "currentlyAvailable", "restoreRate"))
    lacking = min(float(cost.get("requestedQueryCost") or 0), size) - level
    return lacking / rate if lacking > 0 and rate > 0 else None


def _retry_after(response: httpx.Response) -> float | None:
    # Shopify sends fractions ("2.0"), which a reader of whole numbers trips over.
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _date(response: httpx.Response) -> int:
    try:
        moment = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        # Without it the window's end can't be told in Shopify's time, and our clock may be wrong by any amount.
        raise AdminApiError("the answer has no usable Date header, so that the window has no end", reason="no_date") from None
    return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
