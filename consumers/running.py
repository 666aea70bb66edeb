"""A worker inside one's own event loop, for tests, the demo and embedding; and whether a group has anything left to do."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from confluent_kafka import Consumer, TopicPartition

from hooktape.consumers import births
from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.consumers.worker import Worker
from hooktape.errors import Incomplete, NothingMatched
from hooktape.ledger.ledger import Ledger
from hooktape.settings import Settings
from hooktape.tape import clients, groups, topics
from hooktape.tape.publisher import Publisher
from hooktape.tape.reader import Partition, Reader

_LOOK_EVERY = 0.05


class Running(Worker):
    """A worker with a way to wait until its group has caught up."""

    async def idle(self, within: float = 60.0, retries: bool = True) -> None:
        """Returns when this group has finished every record on its topics, retries that aren't due yet included (unless
        `retries` is False), whichever worker did it.

        Raises what ended the worker, or Incomplete after `within` seconds, saying what is left.
        """
        end = time.monotonic() + within
        while True:
            if self.failed.done():
                self.failed.result()
            left: dict[Partition, int] = {}
            if self.quiet or not retries:
                self.commit()
                left = await asyncio.to_thread(lag, self, retries)
                if not left and self.quiet:
                    return
            if time.monotonic() > end:
                raise Incomplete(f"group {self.app.group} isn't idle after {within:g} s: {self.describe()}, behind on {left}")
            await asyncio.sleep(_LOOK_EVERY)


def lag(worker: Worker, retries: bool = True) -> dict[Partition, int]:
    """Partition → offsets that the group hasn't committed, where a record is among them. Blocks for some milliseconds.

    The marker of a transaction takes an offset too, and is nothing that could be finished. Committed offsets are read before the
    ends: what moves on to a retry topic is on it before its own offset is committed.
    """
    settings, admin = worker.settings, clients.admin(worker.settings)
    behind: dict[Partition, int] = {}
    plans = [plan for plan in worker.plans if retries or not any(plan.topics.values())]
    known = admin.list_topics(timeout=10).topics
    partitions = [(t, p) for plan in plans for t in plan.topics if t in known for p in known[t].partitions]
    committed = groups.committed(settings, worker.app.group, partitions)
    ends = births.resolve(settings, [TopicPartition(*p) for p in partitions], births.NOW)
    for partition, end in ends.items():
        if (at := committed.get(partition, 0)) < end:
            behind[partition] = end - at
    if not behind:
        return behind
    with contextlib.suppress(NothingMatched), Reader(settings) as reader:
        left = reader.first_times({partition: committed.get(partition, 0) for partition in behind})
        behind = {partition: count for partition, count in behind.items() if partition in left}
    return behind


@contextlib.asynccontextmanager
async def running(
    app: App,
    settings: Settings,
    ledger_url: str | None = None,
    options: Options | None = None,
    *,
    make: Callable[..., Consumer] = clients.consumer,
    publisher: Publisher | None = None,
) -> AsyncIterator[Running]:
    """A worker of `app` on the running loop, stopped at the block's end. The ledger is the settings' unless named.

    Makes the group's own topics where they're missing. Raises TapeUnavailable, TopicMissing, LedgerError; `make` and
    `publisher` stand in for the client in tests.
    """
    await asyncio.to_thread(topics.apply, settings, [app.group])
    ledger = await asyncio.to_thread(Ledger.open, ledger_url or settings.ledger_url)
    own = publisher or Publisher(settings)
    worker = Running(app, settings, ledger, own, options or Options(), make)
    try:
        await worker.start()
        yield worker
    finally:
        await worker.stop()
        if publisher is None:
            await own.close()
        ledger.close()
