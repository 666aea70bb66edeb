"""The great replay: a full tape, handled once, is replayed as a whole while everything that takes part is killed in turn.

The moments are drawn over the replay's own progress, not over a clock: each of them falls into it, however fast the machine.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hooktape.errors import LocalStackError
from hooktape.ledger.ledger import Ledger
from hooktape.local.soak import operator as operating
from hooktape.local.soak import workload
from hooktape.local.soak.faults import Moment
from hooktape.local.soak.history import Post
from hooktape.local.soak.operator import Operator
from hooktape.local.soak.services import LOOK_SECONDS, Servers
from hooktape.local.soak.watching import Sampler, Shelf
from hooktape.local.soak.witness import Block, Plan, Played
from hooktape.schemas import resources, signature
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Names
from hooktape.tape.publisher import Publisher
from hooktape.tape.wire import Wire

DRAIN_SECONDS = 120.0
"""After the replay: it waits for its own outcomes, and what its last faults held up has seconds of retries."""
STALL_SECONDS = 120.0
"""So long without a single handler's end: it won't come any more. A broker that was killed is back in 12 s."""
RUNNER_PATIENCE = "100s"
"""Of the runner, for the same."""
OF_A_RESOURCE = 8
"""Events of each resource, on average: enough for order to matter."""
_BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Great:
    """How many events, and what is done to their replay."""

    events: int
    moments: tuple[Moment, ...]
    faults: int
    """That have to hit; moments after so many are spare."""


class Recovery(Block):
    """A block of one replay."""

    def __init__(self, plan: Plan, great: Great, servers: Servers, home: Path, progress: Callable[[str], None]) -> None:
        super().__init__(plan, servers, home, progress)
        self._great = great
        self._drain_limit = DRAIN_SECONDS
        self._ended = 0
        self._moved_at = 0.0

    async def _play(self, ledger: Ledger, shelf: Shelf, sampler: Sampler) -> Played:
        posts = await fill(self._settings, self._secret, self._plan, self._great.events)
        self._say(f"{len(posts):,} events are on the tape")
        async with self._staged(0):
            if await self._drain(shelf, sampler) is None:
                raise LocalStackError(f"{len(posts):,} events weren't all handled, in calm: the workers' logs say why.")
            self._say("all have been handled; now their replay")
            async with self._operated(ledger, RUNNER_PATIENCE) as operator:
                operator.stop_soon()
                await self._replay(operator)
                await self._heal()
        return Played(posts, operator.commands, idle=operator.idle)

    def _say(self, what: str) -> None:
        self._progress(f"{time.monotonic() - self._began:6.1f} s  {what}")

    async def _replay(self, operator: Operator) -> None:
        """Plans and runs one, hurts everybody meanwhile, and waits for its end."""
        job = ""
        while not job:
            job = await operator.plan(*operating.everything(self._great.events))
        self._moved_at = time.monotonic()
        running = asyncio.create_task(operator.run(job))
        try:
            for moment in self._great.moments:
                if self.hits.total() >= self._great.faults or not await self._reached(job, moment.share, running):
                    break
                await self._do(moment.draw)
            self._say(f"{self.hits.total()} faults have hit; {self._ended:,} ends of handlers so far")
            await self._reached(job, math.inf, running)
            if running.done():
                running.result()
                self._say("the replay has ended")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _reached(self, job: str, share: float, running: "asyncio.Task[None]") -> bool:
        """Waits until so much of the replay has been handled; False when it has ended before, or stands still."""
        while not running.done() and time.monotonic() - self._moved_at < STALL_SECONDS:
            self._effects.look()
            if (ended := self._effects.ended[job]) > self._ended:
                self._ended, self._moved_at = ended, time.monotonic()
            if ended >= share * self._great.events:
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False


async def fill(settings: Settings, secret: str, plan: Plan, number: int) -> list[Post]:
    """Puts webhooks straight on the tape, as ingest would, and waits for every acknowledgement. Raises TapeError."""
    wire, names = Wire(settings), Names(settings.topic_prefix)
    # Nobody waits for an answer here, as Shopify does: a broker that's slow on a busy machine may take its time.
    publisher = Publisher(settings, **{"linger.ms": 20, "delivery.timeout.ms": 60_000})
    webhooks = workload.webhooks(plan.seed, plan.block, max(workload.RESOURCES, number // (OF_A_RESOURCE * workload.KINDS)))
    posts: list[Post] = []
    try:
        while batch := list(islice(webhooks, min(_BATCH, number - len(posts)))):
            t0 = time.monotonic()
            events = [event_of(webhook, secret) for webhook in batch]
            await asyncio.gather(*(publisher.publish(names.log(e.topic.replace("/", ".")), wire.encode(e), key=e.lane,
                                                     extra=headers.of_event(e)) for e in events))  # fmt: skip
            t1 = time.monotonic()
            posts += [Post(w.wid, w.shop, w.topic, w.lane, w.resource, w.version, w.sha, t0, t1, 200, imported=True) for w in batch]
    finally:
        await publisher.close()
    return posts


def event_of(webhook: workload.Webhook, secret: str) -> Event:
    """The event that ingest would make of it, received now."""
    found = resources.find(webhook.topic, webhook.body)
    return Event(
        webhook_id=webhook.wid, shop=webhook.shop, topic=webhook.topic, payload=webhook.body, received_us=time.time_ns() // 1000,
        event_id=webhook.wid, api_version="2026-04", resource=found.name, resource_root=found.root, version_us=found.version,
        hmac=signature.sign(webhook.body, secret), secret_id=signature.secret_id(secret),
    )  # fmt: skip
