"""Runs a planned job: hands its events to the group's replay lane, waits for their outcomes, and accounts for every one.

    planned ──▶ running ◀──▶ paused          who pauses or cancels may sit at another machine: the state is in the ledger
                   │
                   ▼
               verifying ──▶ done | incomplete

The cursor moves only after Kafka has acknowledged. A runner killed between the two hands a batch over again: the ledger's
check of the generation makes the second delivery harmless, since an item has one outcome.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from hooktape import log
from hooktape.errors import Incomplete, NotAllowed, TapeUnavailable
from hooktape.ledger.items import Account, Item
from hooktape.ledger.jobs import ENDED, Job, JobState, Kind
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.control import LEASE, find_job, lease_of, new_owner
from hooktape.replayer.plan import Decision
from hooktape.replayer.rate import Bucket
from hooktape.schemas.event import Coordinates, Replay
from hooktape.settings import Settings
from hooktape.tape import headers, topics
from hooktape.tape.names import Names
from hooktape.tape.publisher import Publisher
from hooktape.tape.reader import Reader, Record

_log = log.get("hooktape.replay")
T = TypeVar("T")
# Also the most that is outstanding: within the producer's queue, and what a killed runner may hand over twice.
_BATCH = 500
# How often a runner looks whether it was paused or cancelled, and at the account.
_LOOK = 0.25
# How often progress is told: an account counts every item of the job.
_SHOW = 1.0
# Kafka doesn't acknowledge: tries for about a minute (each waits for the producer's own 2 s), then gives the job up for later.
_TRIES = 20
# What of a record's own headers stays on a replayed one.
_KEPT = (headers.SHOP, headers.TOPIC, headers.WEBHOOK_ID, headers.SOURCE, headers.RELABELLED)

Report = Callable[[Job, Account], None]


def packed(record: Record, mark: Replay, redrives: int) -> headers.Packed:
    """The headers of a record in the replay lane: foreign ones as they were, where it lies on the tape, and the replay's mark."""
    old = headers.read(record.headers)
    new = {name: old[name] for name in _KEPT if name in old}
    new |= headers.of_origin(headers.origin(old, record.at)) | headers.of_replay(mark)
    if redrives:
        new[headers.REDRIVES] = str(redrives)
    return headers.replaced(record.headers, new)


class Runner:
    """One run of one job. `patience`: seconds without any progress after which what is missing is called missing."""

    def __init__(self, settings: Settings, ledger: Ledger, job: Job, *, patience: float = 60.0, report: Report | None = None) -> None:
        self._settings = settings
        self._ledger = ledger
        self._job = job
        self._patience = patience
        self._report = report
        self._owner = new_owner()
        self._mark = Replay(job.id, job.reason, job.who, job.forced)
        self._lane = Names(settings.topic_prefix).replay(job.group)

    async def run(self) -> tuple[Job, Account]:
        """The job and its account at its end, or when it was cancelled.

        Raises NotAllowed while another runner has this group, TopicMissing, TapeUnavailable (the job can be resumed).
        """
        lease = lease_of(self._job.group)
        await asyncio.to_thread(topics.require, self._settings, [self._lane])
        if await self._do(lambda: self._ledger.leases.acquire(lease, self._owner, time.time(), LEASE)) is None:
            raise NotAllowed(f"A replay of group {self._job.group} is being run already. See `hooktape replay list`; it can be paused.")
        keeper = asyncio.create_task(self._keep(lease))
        work = asyncio.create_task(self._work())
        try:
            await asyncio.wait({keeper, work}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await keeper  # raises: the lease was lost
            return await work
        finally:
            for task in (keeper, work):
                task.cancel()
            await asyncio.gather(keeper, work, return_exceptions=True)
            await self._do(lambda: self._ledger.leases.release(lease, self._owner))

    async def _keep(self, lease: str) -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            if not await self._do(lambda: self._ledger.leases.renew(lease, self._owner, time.time(), LEASE)):
                raise NotAllowed(f"Another runner has taken job {self._job.id} over: this one was silent for {LEASE:g} s.")

    async def _work(self) -> tuple[Job, Account]:
        # Again where it was paused at the very end: a paused job can't go on to its verification.
        while (await self._state()) in (JobState.RUNNING, JobState.PAUSED):
            publisher = Publisher(self._settings, **{"linger.ms": 20})  # batches, where ingest wants each one at once
            reader = Reader(self._settings)
            try:
                await self._publish_all(publisher, reader)
            finally:
                await publisher.close()
                reader.close()
            await self._move(JobState.RUNNING, JobState.VERIFYING)
        if (await self._state()) is JobState.VERIFYING:
            await self._verify()
        job, account = await self._look()
        return job, account

    async def _publish_all(self, publisher: Publisher, reader: Reader) -> None:
        bucket = Bucket(self._job.rate, time.monotonic()) if self._job.rate else None
        after = (await self._look())[0].published_seq
        look_at = time.monotonic() + _SHOW
        reading = asyncio.create_task(self._read(reader, after))
        try:
            while await self._may_go_on():
                items, records = await reading
                if not items:
                    return
                after = items[-1].seq
                reading = asyncio.create_task(self._read(reader, after))
                await self._publish(publisher, items, records, bucket)
                await self._do(lambda seq=after: self._ledger.jobs.published(self._job.id, seq))  # type: ignore[misc]
                if self._report and time.monotonic() > look_at:
                    await self._look()
                    look_at = time.monotonic() + _SHOW
        finally:
            # Not cancelled: a thread is inside the reader, which is closed next.
            await asyncio.gather(reading, return_exceptions=True)

    async def _may_go_on(self) -> bool:
        """Waits while the job is paused; False when it was cancelled."""
        # Asked again and again: who resumes it may be another process, and tells the ledger only.
        while (state := await self._state()) is JobState.PAUSED:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)
        return state is JobState.RUNNING

    async def _read(self, reader: Reader, after: int) -> tuple[list[Item], dict[Coordinates, Record]]:
        items = await self._do(lambda: self._ledger.jobs.next_items(self._job.id, after, _BATCH))
        return items, await asyncio.to_thread(reader.fetch_many, [_place(item) for item in items])

    async def _publish(self, publisher: Publisher, items: Sequence[Item], records: dict[Coordinates, Record],
                       bucket: Bucket | None) -> None:  # fmt: skip
        """In the items' order, until all are acknowledged. What can't be read any more is settled as gone."""
        gone = [(item.key, Decision.GONE.value, "retention removed it from the tape after the plan was made")
                for item in items if _place(item) not in records]  # fmt: skip
        if gone:
            await self._do(lambda: self._ledger.jobs.settle(self._job.id, gone))
        left = [records[_place(item)] for item in items if _place(item) in records]
        for attempt in range(_TRIES):
            left, error = await self._try(publisher, left, bucket)
            if error is None:
                return
            _log.warning("a batch of a replay wasn't acknowledged; it's sent again", job=self._job.id, error=str(error))
            await asyncio.sleep(min(5.0, 0.1 * 2**attempt))
        raise TapeUnavailable(f"Kafka doesn't acknowledge. Job {self._job.id} stands where it is: `hooktape replay resume {self._job.id}`.")

    async def _try(self, publisher: Publisher, records: list[Record], bucket: Bucket | None) -> tuple[list[Record], TapeUnavailable | None]:
        """What must be sent again: everything from the first that failed, so that a resource's events keep their order."""
        futures = []
        for record in records:
            while bucket and (wait := bucket.take(time.monotonic())):  # noqa: ASYNC110
                await asyncio.sleep(wait)
            redrives = headers.redrives(headers.read(record.headers)) + 1 if self._job.kind is Kind.REDRIVE else 0
            key = None if record.key is None else record.key.decode()
            futures.append(publisher.publish(self._lane, record.value or b"", key=key, extra=packed(record, self._mark, redrives)))
        results = await asyncio.gather(*futures, return_exceptions=True)
        for index, result in enumerate(results):
            if isinstance(result, TapeUnavailable):
                return records[index:], result
            if isinstance(result, BaseException):
                raise result
        return [], None

    async def _verify(self) -> None:
        """Waits for the outcomes: until all are there, or none came for as long as patience lasts."""
        _, account = await self._look()
        moved = time.monotonic()
        while not account.is_settled and time.monotonic() - moved < self._patience:
            await asyncio.sleep(_LOOK)
            if await self._state() is not JobState.VERIFYING:
                return
            before, (_, account) = account, await self._look()
            if account != before:
                moved = time.monotonic()
        missing = shortfall(account)
        note = f"{missing} (none came for {self._patience:g} s)" if missing and not account.is_settled else missing
        await self._move(JobState.VERIFYING, JobState.INCOMPLETE if missing else JobState.DONE, note)

    async def _state(self) -> JobState:
        job = await self._do(lambda: self._ledger.jobs.get(self._job.id))
        return job.state if job else JobState.CANCELLED

    async def _look(self) -> tuple[Job, Account]:
        job, account = await self._do(lambda: (self._ledger.jobs.get(self._job.id), self._ledger.jobs.account(self._job.id)))
        if self._report and job:
            self._report(job, account)
        return job or self._job, account

    async def _move(self, start: JobState, end: JobState, note: str | None = None) -> None:
        await self._do(lambda: self._ledger.jobs.move(self._job.id, [start], end, time.time(), note))

    @staticmethod
    async def _do(work: Callable[[], T]) -> T:
        """The ledger waits for a disk: never on the loop."""
        return await asyncio.to_thread(work)


def _place(item: Item) -> Coordinates:
    return Coordinates(item.kafka_topic, item.partition, item.offset)


def shortfall(account: Account) -> str:
    """What keeps an account from being complete, in words; "" when nothing does."""
    parts = []
    if not account.adds_up:
        known = account.planned + sum(account.not_run.values())
        parts.append(f"the account holds {known} of {account.selected} selected events")
    for number, words in ((account.failed_again, "failed again"), (account.in_flight, "have no outcome yet"),
                          (account.not_sent, "were not handed over")):  # fmt: skip
        if number:
            parts.append(f"{number} {words}")
    return ", ".join(parts)


async def run(settings: Settings, ledger: Ledger, job_id: str, *, patience: float = 60.0,
              report: Report | None = None) -> tuple[Job, Account]:  # fmt: skip
    """Runs a started job, from where it stands, to its end. Raises as `Runner.run`; Incomplete is the caller's to raise."""
    job = find_job(ledger, job_id)
    if job.state in ENDED or job.state is JobState.PLANNED:
        raise NotAllowed(f"Job {job.id} is {job.state}: there's nothing to run.")
    return await Runner(settings, ledger, job, patience=patience, report=report).run()


def check(job: Job, account: Account) -> None:
    """Raises Incomplete (exit code 5) unless every event has its outcome and none failed again."""
    if job.state is not JobState.DONE:
        raise Incomplete(f"Job {job.id} is {job.state}: {job.note or shortfall(account) or 'it was stopped'}. "
                         f"`hooktape replay show {job.id}` lists the events.")  # fmt: skip
