"""Sends webhooks as Shopify does: signed, retried with the same bytes and ids, with the faults that were planned."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from hooktape.errors import UsageError
from hooktape.local.shop.faults import Fate
from hooktape.local.shop.model import Change
from hooktape.local.shop.truth import Delivery, Outcome
from hooktape.local.shop.wire import Poster
from hooktape.schemas.signature import sign

Task = asyncio.Task[None]

RETRIES = 8
"""Tries after the first (shopify.dev/changelog/updates-to-webhook-retry-mechanism)."""
SHOPIFY_SPAN = 4 * 3600.0
"""Seconds over which Shopify spreads them."""


class Secrets:
    """An app's client secrets, newest first. The oldest one that isn't revoked signs. Raises UsageError for none."""

    def __init__(self, newest_first: Sequence[str]) -> None:
        if not newest_first or not all(newest_first):
            raise UsageError("the shop needs at least one secret to sign with.")
        self._secrets = list(newest_first)

    @property
    def signing(self) -> str:
        return self._secrets[-1]

    def has(self, secret: str) -> bool:
        """Whether it's one that isn't revoked."""
        return secret in self._secrets

    def revoke_oldest(self) -> None:
        """Ends a rotation: from now on the next newer secret signs, retries too. Raises UsageError when it's the only one."""
        if len(self._secrets) == 1:
            raise UsageError("the only secret can't be revoked: nothing would be left to sign with.")
        self._secrets.pop()


def backoff(attempt: int, span: float, retries: int = RETRIES) -> float:
    """Seconds to wait before retry `attempt` (from 0): each twice the one before, all of them together `span`."""
    return float(span * 2**attempt / (2**retries - 1))


class Sender:
    """Delivers changes to one address and writes what happened into their entries in the truth.

    At most `concurrency` requests are on their way (a doubled pair counts as one, so that its copies always leave
    together); `submit` waits for room, which is the back-pressure. `span`: seconds over which the 8 retries are spread.
    `on_gave_up(topic)` hears of each webhook that failed for good.
    """

    def __init__(
        self, target: str, secrets: Secrets, *, span: float = SHOPIFY_SPAN, concurrency: int = 64,
        on_gave_up: Callable[[str], None] = lambda topic: None,
    ) -> None:  # fmt: skip
        self._poster = Poster(target)
        self._secrets = secrets
        self._span = span
        self._on_gave_up = on_gave_up
        self._room = asyncio.Semaphore(concurrency)
        self._tasks: set[Task] = set()

    async def submit(self, change: Change, delivery: Delivery, after: Task | None = None) -> Task | None:
        """Takes a change with its entry in the truth; returns the task that delivers it, None for a dropped one.

        `after`: send it when that other delivery has ended.
        """
        if delivery.fate in (Fate.DROPPED, Fate.UNSUBSCRIBED):
            delivery.outcome = Outcome.DROPPED
            return None
        if after is not None or delivery.delay:
            return self._spawn(self._later(change, delivery, after))
        await self._room.acquire()
        return self._spawn(self._deliver(change, delivery))

    async def settle(self) -> None:
        """Waits until every delivery has ended, late ones and retries too."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Gives up what is still on its way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._poster.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> Task:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _later(self, change: Change, delivery: Delivery, after: Task | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        await asyncio.sleep(delivery.delay)
        await self._room.acquire()
        await self._deliver(change, delivery)

    async def _deliver(self, change: Change, delivery: Delivery) -> None:
        """Posts all copies at once until each got its 2xx or ran out of retries. Room for the first try is taken already."""
        copies = 2 if delivery.fate is Fate.DOUBLED else 1
        lines = headers(change)
        for attempt in range(RETRIES + 1):
            if attempt:
                await asyncio.sleep(backoff(attempt - 1, self._span))
                await self._room.acquire()
            try:
                signed = f"{lines}X-Shopify-Hmac-Sha256: {sign(change.body, self._secrets.signing)}\r\n"
                if copies == 1:
                    answers = [await self._post(signed, change.body)]
                else:
                    answers = await asyncio.gather(*(self._post(signed, change.body) for _ in range(copies)))
            finally:
                self._room.release()
            delivery.answers.extend(answers)
            # Anything outside 2xx is an error, a redirect too.
            accepted = sum(isinstance(answer, int) and 200 <= answer < 300 for answer in answers)
            delivery.accepted += accepted
            copies -= accepted
            if not copies:
                break
        delivery.outcome = Outcome.DELIVERED if delivery.accepted else Outcome.GAVE_UP
        if not delivery.accepted:
            self._on_gave_up(change.topic)

    async def _post(self, lines: str, body: bytes) -> int | str:
        try:
            return await self._poster.post(lines, body)
        except OSError as error:
            return type(error).__name__


def headers(change: Change) -> str:
    """All of a delivery's header lines but the signature, the host and the length."""
    return (
        "User-Agent: Shopify-Captain-Hook\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        f"X-Shopify-Topic: {change.topic}\r\nX-Shopify-Shop-Domain: {change.shop}\r\n"
        f"X-Shopify-API-Version: {change.api_version}\r\nX-Shopify-Webhook-Id: {change.webhook_id}\r\n"
        f"X-Shopify-Event-Id: {change.event_id}\r\nX-Shopify-Triggered-At: {change.triggered_at}\r\n"
    )
