"""Brings back events whose retry records are lost: fetched from the tape again, and written to their retry topic, due at once.

    overdue in the ledger ──its retry topic isn't read past it──▶ left alone: its record is still to come
       │ read past it: no record of it is left
       ├──on the tape──▶ record acknowledged ──▶ the ledger says "due now" ──▶ runs as any retry does
       └──not on the tape any more──▶ DISCARDED, in the audit trail; its resource goes on

An event that waits holds its whole resource, so one whose record never comes would hold it for ever. A retry topic that is merely
behind is never swept, however late it is: the offset of the record is bounded by the time at which the ledger took the wait
down, which is after the record's acknowledgement. Where a record was there all the same, its copy is harmless: the ledger's check lets
one of the two run.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hooktape import log, metrics
from hooktape.consumers.classify import Disposition
from hooktape.consumers.clock import Clock
from hooktape.consumers.flow import Flow
from hooktape.consumers.intake import Intake
from hooktape.consumers.letters import Letter, Raw, letter
from hooktape.consumers.task import Rank, Tenure
from hooktape.errors import HooktapeError, NotOurs
from hooktape.ledger.checks import Finish, State, Waiting
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.stranded import Story
from hooktape.schemas.event import Coordinates, Event, Replay, event_id16
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.headers import Failure
from hooktape.tape.names import Names
from hooktape.tape.publisher import Publisher
from hooktape.tape.reader import Reader, Record
from hooktape.tape.wire import Wire

_log = log.get("hooktape.consumers")
# A look is one query for each partition, and what it may find has been late for ten minutes.
_EVERY = 30.0
# In one look, at most: a retry topic that was lost whole comes back at a thousand a minute, beside what runs.
_LIMIT = 500
# In memory at once: a body may have 8 MiB.
_CHUNK = 25
# The clocks of workers and brokers may be apart by this part of the grace: a minute of the default.
_SKEW = 0.1
# A stop waits for the thread that reads.
_READ_SECONDS = 5.0
_WHY_GONE = "its retry record was lost, and retention has removed it from the tape"


class Sweeper:
    """For one worker. `after` is the grace in seconds: what is overdue by less is nobody's business. `changed` is called when a
    resource may go on, `fail` with an error that isn't the tape's or the ledger's."""

    def __init__(self, settings: Settings, group: str, flow: Flow, intake: Intake, publisher: Publisher, clock: Clock, after: float,
                 fail: Callable[[BaseException], None], reader: Callable[[Settings, float], Reader] = Reader) -> None:  # fmt: skip
        self.wire: Wire | None = None
        self._settings, self._group, self._flow, self._intake, self._publisher = settings, group, flow, intake, publisher
        self._clock, self._after, self._fail, self._reader = clock, after, fail, reader
        self._custody, self._holds, self._names = flow.custody, flow.holds, Names(settings.topic_prefix)
        self._every = min(_EVERY, after / 2)
        self._next = clock.monotonic() + self._every
        self._round: asyncio.Task[None] | None = None

    def tick(self, now: float, tenures: Iterable[Tenure]) -> None:
        """To be called several times a second with what this worker owns; `now` by the monotonic clock."""
        if now >= self._next and self._round is None and self.wire is not None:
            self._next = now + self._every
            self._round = asyncio.get_running_loop().create_task(self._look(list(tenures), self.wire))

    async def close(self) -> None:
        """Ends what is under way."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait([self._round])

    async def _look(self, tenures: list[Tenure], wire: Wire) -> None:
        left = _LIMIT
        try:
            for tenure in tenures:
                if left > 0 and not (tenure.ending or tenure.lost):
                    left -= await self._heal(tenure, left, wire)
                    await self._reconcile(tenure)
        except HooktapeError as error:
            _log.warning("lost retry records couldn't be looked for; it's tried again", group=self._group, error=str(error))
        except Exception as error:  # noqa: BLE001 - silent, it would leave resources held for ever
            self._fail(error)
        finally:
            self._round = None

    # ── what the ledger has and Kafka hasn't ────────────────────────────────────────────────────────────────────────
    async def _heal(self, tenure: Tenure, limit: int, wire: Wire) -> int:
        # Before the question: a wait that stands in the answer, though its record had been finished by now, has lost that record.
        read = {delay: self._intake.position(Rank.RETRY, self._names.retry(self._group, delay), tenure.partition)
                for delay in self._settings.retry_delays}  # fmt: skip
        before = self._clock.time() - self._after
        stories = await self._custody.ask(lambda ledger: ledger.stranded.find(self._group, tenure.partition, before, limit))
        stories = [story for story in stories if not self._flow.is_here(story.wait.key)]
        ended = [story for story in stories if story.row is None]
        if ended:
            keys = [story.wait.key for story in ended]
            owner = self._custody.owner
            await self._custody.ask(lambda ledger: ledger.stranded.drop(self._group, owner, tenure.partition, tenure.epoch, keys))
            self._release(tenure, ended)
        told = [story for story in stories if story.row is not None]
        if told:
            bounds = await asyncio.to_thread(self._bounds, tenure.partition, told)
            lost = [story for story in told if is_lost(story.wait.delay, read, bounds)]
            for first in range(0, len(lost), _CHUNK):
                await self._bring_back(tenure, lost[first : first + _CHUNK], wire)
        return len(stories)

    def _bounds(self, partition: int, stories: Iterable[Story]) -> dict[float, int]:
        """Delay → the offset of its retry topic below which the records of `stories` lie, wherever there are any."""
        since: dict[float, float] = {}
        for story in stories:
            since[story.wait.delay] = max(since.get(story.wait.delay, 0.0), story.since)
        found: dict[float, int] = {}
        with self._reader(self._settings, _READ_SECONDS) as reader:
            for delay, at in since.items():
                topic = self._names.retry(self._group, delay)
                starts = reader.starts([topic], int((at + self._after * _SKEW) * 1000))
                if (topic, partition) in starts:
                    found[delay] = starts[topic, partition]
        return found

    async def _bring_back(self, tenure: Tenure, stories: list[Story], wire: Wire) -> None:
        found = await asyncio.to_thread(self._fetch, stories, wire)
        replays = await self._replays(stories)
        if tenure.ending or tenure.lost:
            return
        now, sent, gone = self._clock.time(), [], []
        for story in stories:
            fetched = found.get(story.wait.key)
            if isinstance(fetched, Found):
                delay = delay_for(story.wait.delay, self._settings.retry_delays)
                topic = self._names.retry(self._group, delay)
                written = again(topic, story, fetched, replays.get(story.wait.key), now)
                # All of them before the first is waited for, in their order.
                sent.append((story, delay, self._publisher.publish(written.topic, written.value, key=written.key, extra=written.headers)))
            elif fetched is None:
                gone.append(story)
        answers = await asyncio.gather(*(answer for _, _, answer in sent), return_exceptions=True)
        back = [(story, delay) for (story, delay, _), answer in zip(sent, answers, strict=True) if not isinstance(answer, BaseException)]
        owner = self._custody.owner
        if back:
            await self._custody.ask(lambda ledger: ledger.stranded.renew(self._group, owner, tenure.partition, tenure.epoch, back, now))
            for story, delay in back:
                if story.wait.lane is not None:
                    self._holds.renew(story.wait.lane, story.wait.key, delay, now)
            metrics.SWEPT.labels(self._group).inc(len(back))
            _log.warning("retry records were lost and are written again from the tape", group=self._group, partition=tenure.partition,
                         events=len(back))  # fmt: skip
        for error in answers:
            if isinstance(error, BaseException):
                raise error  # the others have been taken down
        for story in gone:
            await self._give_up(tenure, story)

    def _fetch(self, stories: list[Story], wire: Wire) -> "dict[EventKey, Found | Unsure]":
        """What is on the tape, by the event's key; nothing for what isn't any more."""
        places = {story.wait.origin for story in stories}
        with self._reader(self._settings, _READ_SECONDS) as reader:
            topics = {at.topic for at in places}
            lows, ends = reader.lows(topics), reader.ends(topics)
            records = reader.fetch_many(places)
        found: dict[EventKey, Found | Unsure] = {}
        for story in stories:
            at, record = story.wait.origin, records.get(story.wait.origin)
            if record is None:
                if not is_gone(at, lows, ends):
                    _log.error("an event waits for a retry whose record is lost, and its place on the tape can't be read: it's tried again",
                               at=str(at), group=self._group)  # fmt: skip
                    found[story.wait.key] = Unsure()
                continue
            try:
                event = wire.decode(record.value or b"")
            except NotOurs as error:
                # Another version, or the registry, may read it yet: it isn't gone.
                told = headers.read(record.headers)
                if event_id16(told.get(headers.SHOP, ""), told.get(headers.WEBHOOK_ID, "")) == story.wait.key.id:
                    _log.error("an event waits for a retry whose record is lost, and its record on the tape can't be read: it's tried "
                               "again", at=str(at), group=self._group, error=str(error))  # fmt: skip
                    found[story.wait.key] = Unsure()
                continue
            # Another event's, where the log was made anew.
            if event.key.id == story.wait.key.id:
                found[story.wait.key] = Found(record, event)
        return found

    async def _replays(self, stories: list[Story]) -> dict[EventKey, Replay]:
        sent = [(story.wait, story.row.generation) for story in stories if story.row is not None and story.row.generation]

        def work(ledger: Ledger) -> dict[EventKey, Replay]:
            return {wait.key: _replay(ledger, generation, wait) for wait, generation in sent}

        return await self._custody.ask(work) if sent else {}

    async def _give_up(self, tenure: Tenure, story: Story) -> None:
        row, key = story.row, story.wait.key
        assert row is not None
        replay = (await self._replays([story])).get(key)
        end = Finish(key, State.DISCARDED, row.attempts, tenure.partition, tenure.epoch, story.topic, row, row.generation,
                     seq=replay.seq if replay is not None else None)  # fmt: skip
        owner, now = self._custody.owner, self._clock.time()
        if await self._custody.ask(lambda ledger: ledger.stranded.discard(self._group, owner, end, "worker", _WHY_GONE, now)):
            _log.error("an event that waited for a retry is given up: " + _WHY_GONE, group=self._group, topic=story.topic,
                       shop=story.shop, key=f"{key.day}/{key.id.hex()}", at=str(story.wait.origin), attempts=row.attempts)  # fmt: skip
            metrics.PROCESSED.labels(self._group, story.topic, "discarded").inc()
            self._release(tenure, [story])

    def _release(self, tenure: Tenure, stories: Iterable[Story]) -> None:
        if tenure.ending or tenure.lost:
            return  # the holds of this partition aren't this worker's to keep any more
        for story in stories:
            if story.wait.lane is not None and not self._flow.is_here(story.wait.key):
                self._holds.leave(story.wait.lane, story.wait.key)
        self._flow.pump()

    # ── what this worker has and the ledger hasn't ──────────────────────────────────────────────────────────────────
    async def _reconcile(self, tenure: Tenure) -> None:
        """Heads that are long overdue and that the ledger knows nothing of any more hold nobody."""
        # What is here is on its way to the ledger, or has just come from its retry topic.
        heads = [head for head in self._holds.heads(tenure.partition, self._clock.time() - self._after) if not self._flow.is_here(head.key)]
        if not heads:
            return
        keys = [head.key for head in heads]
        known = await self._custody.ask(lambda ledger: ledger.stranded.waits(self._group, tenure.partition, keys))
        if tenure.ending or tenure.lost:
            return
        for head in heads:
            if head.key not in known and not self._flow.is_here(head.key) and self._holds.due(head.lane, head.key) == head.due:
                _log.warning("a resource was held for an event that the ledger doesn't have waiting: it goes on", group=self._group,
                             partition=tenure.partition, key=f"{head.key.day}/{head.key.id.hex()}")  # fmt: skip
                self._holds.leave(head.lane, head.key)
        self._flow.pump()


@dataclass(frozen=True, slots=True)
class Found:
    """An event as the tape has it."""

    record: Record
    event: Event


@dataclass(frozen=True, slots=True)
class Unsure:
    """The tape didn't say that the event is gone."""


def _replay(ledger: Ledger, generation: str, wait: Waiting) -> Replay:
    """What the lost record said of the replay that had brought it."""
    job = ledger.jobs.get(generation)
    if job is None:
        return Replay(generation, "the group's offsets were reset", "", True)
    items = ledger.jobs.of_event(job.id, wait.key.id, [wait.origin])
    return Replay(job.id, job.reason, job.who, job.forced, items[0].seq if items else None)


def is_lost(delay: float, read: Mapping[float, int | None], bounds: Mapping[float, int]) -> bool:
    """Whether no record of a wait can be to come. `read`: delay → the lowest unfinished offset of its retry topic, None where this
    worker doesn't read it yet; `bounds`: delay → the offset below which the record lay."""
    if delay not in read:
        return True  # the settings don't name the delay any more: nobody reads that topic
    position = read[delay]
    return position is not None and delay in bounds and position >= bounds[delay]


def is_gone(at: Coordinates, lows: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]) -> bool:
    """Whether a place on the tape is known to be empty. A partition that the broker doesn't name may be back in a moment."""
    partition = (at.topic, at.partition)
    return partition in lows and partition in ends and not lows[partition] <= at.offset < ends[partition]


def delay_for(delay: float, delays: tuple[float, ...]) -> float:
    """The retry topic to write to: that of `delay`, or where the settings don't name it any more, the next shorter one."""
    return delay if delay in delays else max((d for d in delays if d < delay), default=delays[0])


def again(topic: str, story: Story, found: Found, replay: Replay | None, now: float) -> Letter:
    """The retry record that was lost, as far as the ledger remembers it; due `now` (epoch seconds)."""
    failure, row, record = None, story.row, found.record
    if row is not None and row.state is State.WAITING:
        # Which class of error it was, and the stack, only the lost record knew.
        failure = Failure(row.attempts, int((row.first_failed_at or now) * 1e6), int((story.failed_at or now) * 1e6),
                          Disposition.TRANSIENT.value, story.error_type, story.error_message, "", story.error_group)  # fmt: skip
    return letter(topic, Raw(record.key, record.value, record.headers), found.event, story.wait.origin, failure, replay, now)
