"""The Admin API over HTTP: one shop, one token, at a pace that leaves half of the shop's points to everybody else."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from hooktape import log, metrics
from hooktape.errors import AdminApiError
from hooktape.settings import Settings
from hooktape.times import micros

_log = log.get("hooktape.reconciler")

# A shop that answers 5xx six times over half a minute is down: the window stays open and the next pass asks again.
_TRIES = 6
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# Shopify gives large list queries up to 30 s before it answers with a time-out of its own.
_TIMEOUT = httpx.Timeout(40.0, connect=10.0)
_RETRIABLE_STATUS = {408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 530}
_RETRIABLE_CODES = {"INTERNAL_SERVER_ERROR", "TIMEOUT", "THROTTLED_DURING_CHECKOUT"}
# Each is a different thing to do, so each is a reason of its own.
_STATUS = {
    401: ("unauthorized", "the token isn't accepted: after a new install or rotation set the new one in HOOKTAPE_SHOP_TOKENS"),
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


class AdminClient:
    """Asks one shop. `spent` counts the points that Shopify charged. One query at a time: the pace is reckoned from the last."""

    def __init__(
        self,
        settings: Settings,
        shop: str,
        http: httpx.AsyncClient,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.shop = shop
        self.version = settings.admin_api_version
        self.spent = 0
        token = settings.shop_tokens.get(shop)
        if not token:
            raise AdminApiError(f"HOOKTAPE_SHOP_TOKENS has no token for {shop}: add {shop}=TOKEN to it", reason="no_token")
        self._token = token
        self._url = settings.admin_url.format(shop=shop, version=self.version)
        self._http = http
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._bucket: _Bucket | None = None

    async def ask(self, query: str, variables: Mapping[str, Any], points: int) -> Answer:
        """Runs `query`, which costs at most `points` by the published rules. Waits for its share of the bucket first.

        Raises AdminApiError with a reason: a status that only a person can change, a GraphQL error, another API version
        than the one asked for, or a shop that stays unreachable or throttled after several tries.
        """
        last = ""
        for attempt in range(_TRIES):
            if self._bucket is not None:
                await self._pause(self._bucket.wait(points, self._clock()))
            pause: float | None = None
            try:
                response = await self._http.post(
                    self._url, content=msgspec.json.encode({"query": query, "variables": variables}), timeout=_TIMEOUT,
                    headers={"X-Shopify-Access-Token": self._token.reveal(), "Content-Type": "application/json"},
                )  # fmt: skip
            except httpx.TransportError as error:
                last, reason = f"{type(error).__name__}", "unreachable"
            else:
                outcome = self._judge(response)
                if isinstance(outcome, Answer):
                    return outcome
                last, reason, pause = outcome.why, outcome.reason, outcome.after
            if attempt + 1 < _TRIES:
                backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt) * (0.5 + self._jitter() / 2)
                _log.debug("the Admin API is asked again", shop=self.shop, why=last, attempt=attempt + 1)
                await self._pause(backoff if pause is None else min(_LONGEST_PAUSE, pause))
        raise AdminApiError(f"{self.shop} didn't answer in {_TRIES} tries ({last}); the next pass asks again", reason=reason)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self._sleep(seconds)

    def _judge(self, response: httpx.Response) -> "Answer | _Again":
        status = response.status_code
        if status in _RETRIABLE_STATUS:
            return _Again(f"status {status}", "throttled" if status == 429 else "unavailable", _retry_after(response))
        if status != 200:
            reason, advice = _STATUS.get(status, ("refused", "see the Admin API's documentation for it"))
            raise AdminApiError(f"{self.shop} answered {status}: {advice}", reason=reason)
        served = response.headers.get("X-Shopify-API-Version")
        if served != self.version:
            # An unsupported version is answered by the oldest supported one, with status 200; only this header tells.
            other = served or "unknown"
            raise AdminApiError(f"{self.shop} answered with API version {other} and not {self.version}: set "
                                "HOOKTAPE_ADMIN_API_VERSION to a supported one", reason="api_version")  # fmt: skip
        try:
            body = msgspec.json.decode(response.content)
            data, errors = body.get("data"), body.get("errors") or []
            cost = (body.get("extensions") or {}).get("cost") or {}
        except (msgspec.DecodeError, AttributeError):
            return _Again("an answer that isn't JSON", "unavailable", None)
        requested = cost.get("requestedQueryCost") or 0
        if throttle := cost.get("throttleStatus"):
            self._bucket = _Bucket.of(throttle, self._clock())
        if errors:
            return self._refused(errors, requested)
        points = int(cost.get("actualQueryCost") or 0)
        self.spent += points
        metrics.RECONCILE_COST.inc(points)
        return Answer(data or {}, _date(response), points)

    def _refused(self, errors: Any, requested: float) -> "_Again":
        # A list of objects from GraphQL; a bare text from what stands before it.
        listed: list[dict[str, Any]] = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []
        codes = {str((e.get("extensions") or {}).get("code", "")) for e in listed}
        if "THROTTLED" in codes:
            return _Again("throttled", "throttled", self._bucket.refill(requested, self._clock()) if self._bucket else None)
        if codes & _RETRIABLE_CODES:
            return _Again(", ".join(sorted(codes)), "unavailable", None)
        message = str(listed[0].get("message", "")) if listed else str(errors)
        shown = "".join(c if c.isprintable() else " " for c in message)[:200]
        reason = next((code.lower() for code in sorted(codes) if code), "graphql_error")
        raise AdminApiError(f"{self.shop} refused a query: {shown or 'no message'}", reason=reason)


@dataclass(frozen=True, slots=True)
class _Again:
    why: str
    reason: str
    after: float | None


@dataclass(frozen=True, slots=True)
class _Bucket:
    """The shop's bucket of points as Shopify last showed it, `at` by our monotonic clock."""

    size: float
    level: float
    restore: float
    at: float

    @classmethod
    def of(cls, throttle: Mapping[str, Any], now: float) -> "_Bucket":
        return cls(float(throttle.get("maximumAvailable") or 0), float(throttle.get("currentlyAvailable") or 0),
                   float(throttle.get("restoreRate") or 0), now)  # fmt: skip

    def wait(self, points: float, now: float) -> float:
        """Seconds until `points` can be taken and half of the bucket is still there for the app's other work."""
        return self.refill(self.size / 2 + points, now)

    def refill(self, level: float, now: float) -> float:
        """Seconds until the bucket holds `level`, or is full."""
        held = min(self.size, self.level + (now - self.at) * self.restore)
        lacking = min(level, self.size) - held
        return lacking / self.restore if lacking > 0 and self.restore > 0 else 0.0


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
