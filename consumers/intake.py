"""What comes in: which topics to read, which record belongs to which handler, and what has become of its offset."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Histogram

from hooktape import log, metrics
from hooktape.consumers.app import App, Handler
from hooktape.consumers.births import BEGINNING
from hooktape.consumers.deliveries import Commits, Fetched, Plan
from hooktape.consumers.lanes import Shares
from hooktape.consumers.options import Options
from hooktape.consumers.source import Source
from hooktape.consumers.task import Home, Rank, Task
from hooktape.consumers.tracker import REACH, Tracker
from hooktape.errors import NotOurs, Reject, SettingsError, TopicMissing
from hooktape.ledger.checks import State
from hooktape.ledger.windows import Window
from hooktape.schemas import topics as shopify
from hooktape.schemas.event import Coordinates, Event, Replay
from hooktape.settings import Settings
from hooktape.tape import headers, topics
from hooktape.tape.names import Names

_log = log.get("hooktape.consumers")
_OUTCOMES = {State.SUCCEEDED: "succeeded", State.STALE: "stale", State.WAITING: "retried", State.DEAD: "dead",
             State.BEHIND: "held"}  # fmt: skip
# librdkafka prefetches so many records per partition. Retry and replay partitions get paused, which throws that away.
_PREFETCH, _SIDE_PREFETCH = 2000, 100

Dead = tuple[Fetched, NotOurs]


async def _gone(event: Event) -> None:
    raise Reject(f"the app has no handler for {event.topic} any more")


_GONE = Handler("(no handler)", _gone, (), 1, True, False, 30.0, None, True)


@dataclass(frozen=True, slots=True)
class Meter:
    """The metrics of one topic, looked up once: `labels()` on each event costs as much as the rest of its accounting."""

    seconds: Histogram
    outcomes: Mapping[State, Counter]


class Intake:
    """The fetched and unchecked events, and the offsets of all."""

    def __init__(self, app: App, settings: Settings, options: Options) -> None:
        self._app, self._settings, self._options = app, settings, options
        self._windows: dict[tuple[str, int], list[Window]] = {}
        self.start_seconds: Histogram = metrics.START_SECONDS.labels(app.group)
        self._trackers = {rank: Tracker() for rank in Rank}
        self._backlog: dict[Rank, deque[Task]] = {rank: deque() for rank in Rank}
        self._shares = Shares()
        self._own = self.logs_of()
        self._held: set[Home] = set()
        self._stopped: set[Home] = set()
        self._meters: dict[str, Meter] = {}
        self.logs: tuple[str, ...] = ()
        """The log topics that the group reads."""
        self.partitions = 0
        """How many each of its topics has."""

    # ── what to read ────────────────────────────────────────────────────────────────────────────────────────────────
    def check_topics(self) -> None:
        """Finds the log topics to read.

        Raises TopicMissing that names what isn't there, SettingsError where topics differ in partitions, TapeUnavailable.
        """
        names, table = Names(self._settings.topic_prefix), shopify.table()
        wanted = {topic: names.log(table[topic].kafka_name) for topic in self._app.handlers if topic in table}
        found = topics.look(self._settings, [*wanted.values()])
        # What isn't provisioned, or is newer than our table, arrives in the log of other topics; and so does what came before ingest
        # knew of a topic's own log, or while Kafka said that there was none.
        logs = [*(name for name in wanted.values() if name in found), names.other]
        own = list(topics.of_group(self._settings, self._app.group))
        found |= topics.look(self._settings, [*own, names.other])
        missing = sorted({*own, names.other} - set(found))
        if missing:
            raise TopicMissing(f"group {self._app.group} needs topics that Kafka hasn't: {', '.join(missing[:5])}. Run "
                               f"`hooktape topics apply --group {self._app.group}`.")  # fmt: skip
        self.logs = tuple(logs)
        # Nobody would read the partitions that only a retry topic has, and an order's events would meet two workers.
        most, odd = topics.odd_partitions({topic: found[topic].partitions for plan in self.plans() for topic in plan.topics})
        self.partitions = most
        if odd:
            shown = ", ".join(f"{topic} has {number}" for topic, number in [*odd.items()][:5])
            raise SettingsError(f"group {self._app.group} needs topics with the same number of partitions: some have {most}, and {shown}. "
                                f"Kafka takes none away: set HOOKTAPE_PARTITIONS to {most} and run `hooktape topics apply --group "
                                f"{self._app.group}`, once nothing of it is pending: keys move with the number.")  # fmt: skip

    def plans(self) -> list[Plan]:
        """One plan for each consumer: the member's first. All commit under the group's name."""
        group, options, names = self._app.group, self._options, Names(self._settings.topic_prefix)
        log: dict[str, float | None] = dict.fromkeys(self.logs)
        retry: dict[str, float | None] = {names.retry(group, delay): delay for delay in self._settings.retry_delays}
        replay: dict[str, float | None] = {names.replay(group): None}
        wants = frozenset(self._app.handlers)
        return [
            Plan(group, log, Rank.LIVE, options.start, options.buffer, _PREFETCH, True, wants, names.other, options.revoke_within),
            Plan(group, retry, Rank.RETRY, BEGINNING, options.side_buffer, _SIDE_PREFETCH),
            Plan(group, replay, Rank.REPLAY, BEGINNING, options.side_buffer, _SIDE_PREFETCH),
        ]

    def logs_of(self) -> dict[str, str]:
        """Kafka topic → the Shopify topic whose log it is."""
        names, table = Names(self._settings.topic_prefix), shopify.table()
        return {names.log(table[topic].kafka_name): topic for topic in self._app.handlers if topic in table}

    # ── records in, tasks out ───────────────────────────────────────────────────────────────────────────────────────
    def take(self, source: Source, records: Iterable[Fetched]) -> list[Dead]:
        """Queues a batch's events; returns the records that can't be read."""
        tracker, backlog, handlers = self._trackers[source.plan.rank], self._backlog[source.plan.rank], self._app.handlers
        live = source.plan.rank is Rank.LIVE
        dead: list[Dead] = []
        for record in records:
            home, event = record.home, record.event
            if home.revoked or not tracker.add(home, record.offset):
                continue
            if event is None:
                if record.error is not None:
                    dead.append((record, record.error))
                else:
                    tracker.finish(home, record.offset)
                continue
            handler = handlers.get(event.topic)
            if handler is None:
                if live:
                    tracker.finish(home, record.offset)
                    continue
                # It failed or was replayed while its topic had a handler: silently dropping it would lose it.
                handler = _GONE
            task = Task(home, record.offset, event, event.key, handler, event.lane if handler.ordered else None, home.rank,
                        record.message)  # fmt: skip
            if live:
                task.origin = Coordinates(home.topic, home.partition, record.offset)
                if self._windows:
                    self._mark_window(task)
            else:
                self._mark(task)
            if handler.skip_stale and event.resource and event.version_us is not None:
                task.versioned = handler.name, event.shop, event.resource
            event.at, event.replay = task.origin, task.replay
            backlog.append(task)
        source.held = self._load(source.plan.rank)
        return dead

    def mark_again(self, windows: Iterable[Window]) -> None:
        """The offset ranges to run again, done or not; the newest last."""
        self._windows = {}
        for window in windows:
            self._windows.setdefault((window.kafka_topic, window.partition), []).append(window)

    def next(self) -> Task | None:
        """The next event to check, by the ranks' shares."""
        for rank in self._shares.order():
            backlog = self._backlog[rank]
            if backlog:
                self._shares.spend(rank)
                return backlog.popleft()
        return None

    def drop_abandoned(self) -> None:
        """Forgets unchecked events of partitions that have gone."""
        for rank, backlog in self._backlog.items():
            self._backlog[rank] = deque(task for task in backlog if not task.abandoned)

    def labels(self, record: Fetched) -> tuple[str, str]:
        """Shopify topic and shop of a record that can't be decoded, as its headers say. Whoever wrote it may have given it none, or any:
        what isn't a topic of the app is its log's, or "" in those that many topics share."""
        read = headers.read(record.message.headers())  # type: ignore[arg-type]
        topic = read.get(headers.TOPIC, "")
        if topic not in self._app.handlers:
            topic = self._own.get(record.home.topic, "")
        return topic, read.get(headers.SHOP, "")

    def provenance(self, record: Fetched) -> tuple[Coordinates, Replay | None]:
        """Where a record lies on the tape, and the replay that it belongs to."""
        read = headers.read(record.message.headers())  # type: ignore[arg-type]
        return headers.origin(read, Coordinates(record.home.topic, record.home.partition, record.offset)), headers.replay(read)

    def _mark(self, task: Task) -> None:
        read = headers.read(task.message.headers())
        task.origin = headers.origin(read, Coordinates(task.home.topic, task.home.partition, task.offset))
        task.replay = headers.replay(read)
        if task.replay is not None:
            task.generation, task.forced = task.replay.id, task.replay.forced
        failure = headers.failure(read)
        if failure is not None and task.rank is Rank.RETRY:
            task.attempts, task.first_failed = failure.attempts, failure.first_failed_us / 1e6

    def _mark_window(self, task: Task) -> None:
        for window in reversed(self._windows.get(task.home.key, ())):
            if window.holds(*task.home.key, task.offset):
                task.generation, task.forced = window.generation, True
                task.replay = Replay(window.generation, "the group's offsets were reset", "", True)
                return

    # ── offsets ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def open(self, source: Source, homes: list[Home]) -> None:
        """Assignments begin."""
        for home in homes:
            if not self._trackers[source.plan.rank].open(home):
                metrics.BAD_METADATA.labels(self._app.group).inc()
                _log.warning("a commit's metadata isn't ours: what it tells of finished events is done without", group=self._app.group,
                             topic=home.topic, partition=home.partition, offset=home.base)  # fmt: skip

    def close(self, homes: list[Home]) -> None:
        """Assignments have ended."""
        for home in homes:
            self._trackers[home.rank].close(home)
            self._held.discard(home)
            self._stopped.discard(home)

    def finish(self, home: Home, offset: int) -> None:
        """A record needs no more."""
        self._trackers[home.rank].finish(home, offset)

    def note_lost(self, home: Home, first: int, to: int) -> None:
        """Records [first, to) were gone before they were read."""
        self._trackers[home.rank].jump(home, to)
        _log.error("records were gone before this group had read them", topic=home.topic, partition=home.partition, first=first, to=to,
                   records=to - first)  # fmt: skip

    def position(self, rank: Rank, topic: str, partition: int) -> int | None:
        """The lowest unfinished offset of a partition, or the next to be fetched; None: it isn't read here."""
        tracker = self._trackers[rank]
        return next((tracker.position(home) for home in tracker.homes() if home.key == (topic, partition)), None)

    def commits(self) -> Commits:
        """What has changed since this was last asked."""
        found: Commits = {}
        for tracker in self._trackers.values():
            found |= tracker.commits()
        return found

    def snapshot(self, homes: list[Home] | None = None) -> Commits:
        """What to commit now for `homes`, or for all."""
        found: Commits = {}
        for home in self.homes if homes is None else homes:
            found |= self._trackers[home.rank].snapshot([home])
        return found

    @property
    def homes(self) -> list[Home]:
        """The assignments that are running."""
        return [home for tracker in self._trackers.values() for home in tracker.homes()]

    @property
    def incomplete(self) -> int:
        """Events fetched and not finished."""
        return sum(tracker.incomplete for tracker in self._trackers.values())

    def update_held(self, sources: list[Source]) -> None:
        """Tells the sources how much is held, so that they fetch on."""
        for source in sources:
            source.held = self._load(source.plan.rank)
            source.wake()

    def _load(self, rank: Rank) -> int:
        # What was fetched of a held topic before its partitions paused waits beside the buffer, or the other topics would fetch nothing.
        tracker = self._trackers[rank]
        return tracker.incomplete - sum(tracker.pending(home) for home in self._stopped if home.rank is rank)

    def hold_windows(self, sources: list[Source], paused: Callable[[str], bool]) -> None:
        """Stops fetching partitions whose lowest unfinished offset lies too far behind, and resumes at half; and those whose topic the
        flood breaker holds (`paused`)."""
        for source in sources:
            tracker = self._trackers[source.plan.rank]
            for home in tracker.homes():
                if home.tenure is None:
                    continue  # not this worker's yet, and held back for that
                window, stopped = tracker.window(home), paused(home.topic)
                (self._stopped.add if stopped else self._stopped.discard)(home)
                if (stopped or window > REACH) and home not in self._held:
                    self._held.add(home)
                    source.hold(home, True)
                elif not stopped and window < REACH // 2 and home in self._held:
                    self._held.discard(home)
                    source.hold(home, False)

    def meter(self, topic: str) -> Meter:
        """The metrics of a topic that has a handler: a bounded set."""
        found = self._meters.get(topic)
        if found is None:
            group, processed = self._app.group, metrics.PROCESSED
            counters: dict[State, Any] = {state: processed.labels(group, topic, name) for state, name in _OUTCOMES.items()}
            found = self._meters[topic] = Meter(metrics.PROCESSING_SECONDS.labels(group, topic), counters)
        return found
