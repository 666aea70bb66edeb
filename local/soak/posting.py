"""Posts webhooks as Shopify does, over real HTTP, and writes down every request and its answer."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence

from hooktape.local.shop.wire import Poster
from hooktape.local.soak.history import Post
from hooktape.local.soak.workload import Webhook
from hooktape.schemas.signature import sign

# Shopify's nine tries over four hours, as a soak's seconds; enough of them to outlast any outage of a block.
_PAUSES = (0.2, 0.4, 0.8, 1.5)
_TRIES = 60
MOST_OPEN = 200
"""Webhooks on their way at once. While nothing is taken no new ones come: a backlog of thousands would be a load test of its own."""
DOUBLED = 0.02
"""Webhooks that arrive twice at one instant, by two connections."""
FORGED = 0.01
"""Webhooks with a signature of someone who doesn't know the secret: refused, and never on the tape."""


class Posting:
    """Posts `webhooks` at `rate` a second to `urls` in turn, until told to stop; tries again what wasn't answered with 2xx."""

    def __init__(self, urls: Sequence[str], secret: str, webhooks: Iterator[Webhook], rate: float, seed: str) -> None:
        self.posts: list[Post] = []
        self.accepted: set[str] = set()
        self._posters = [Poster(f"{url}/webhooks") for url in urls]
        self._secret, self._webhooks, self._rate = secret, webhooks, rate
        self._dice = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MOST_OPEN)
        self._turn = 0

    async def run(self) -> None:
        """Posts until cancelled."""
        due = time.monotonic()
        while True:
            await self._room.acquire()
            webhook, chance = next(self._webhooks), self._dice.random()
            secret = "not the secret" if chance < FORGED else self._secret
            for _ in range(2 if FORGED <= chance < FORGED + DOUBLED else 1):
                task = asyncio.create_task(self._deliver(webhook, secret))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._room.release())
            due = max(due + 1 / self._rate, time.monotonic() - 0.5)  # what an outage held up isn't caught up on all at once
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def settle(self) -> None:
        """Waits until every webhook was answered for good."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def close(self) -> None:
        """Gives up what is still on its way."""
        for task in self._tasks:
            task.cancel()
        for poster in self._posters:
            poster.close()

    async def _deliver(self, webhook: Webhook, secret: str) -> None:
        lines = (
            f"Content-Type: application/json\r\nX-Shopify-Topic: {webhook.topic}\r\nX-Shopify-Shop-Domain: {webhook.shop}\r\n"
            f"X-Shopify-Webhook-Id: {webhook.wid}\r\nX-Shopify-Event-Id: {webhook.wid}\r\nX-Shopify-API-Version: 2026-04\r\n"
            f"X-Shopify-Hmac-Sha256: {sign(webhook.body, secret)}\r\n"
        )
        if webhook.triggered_at:
            lines += f"X-Shopify-Triggered-At: {webhook.triggered_at}\r\n"
        await asyncio.sleep(webhook.held)
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_PAUSES[min(attempt - 1, len(_PAUSES) - 1)])
            self._turn += 1
            poster, t0 = self._posters[self._turn % len(self._posters)], time.monotonic()
            status: int | None = None
            try:
                status = await poster.post(lines, webhook.body)
            except OSError:
                pass
            finally:
                self.posts.append(Post(webhook.wid, webhook.shop, webhook.topic, webhook.lane, webhook.resource, webhook.version,
                                       webhook.sha, t0, time.monotonic(), status))  # fmt: skip
            if status is not None and status < 500:
                if status < 300:
                    self.accepted.add(webhook.wid)
                return
