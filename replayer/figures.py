"""The figures of lag and depth, from the broker's offsets and the ledger alone: a dead worker can't silence its own alarm."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hooktape import metrics
from hooktape.ledger.breakers import Status
from hooktape.ledger.checks import State
from hooktape.ledger.items import Account
from hooktape.ledger.jobs import ENDED, Job
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.stranded import HeldFigures
from hooktape.replayer.catalogue import log_topics
from hooktape.schemas import topics as shopify
from hooktape.settings import Settings
from hooktape.tape import groups
from hooktape.tape.names import Names
from hooktape.tape.reader import Partition, Reader

UNREADABLE = "unreadable"
"""What stands for the Shopify topic of a record that holds no event; workers count it by the same word."""
_NOTHING_HELD = HeldFigures(0, 0, None)
RATE_SECONDS = 300
"""What a rate of arrival is taken over: long enough for a shop with a webhook a minute to show one, short enough to see a flood."""


@dataclass(frozen=True, slots=True)
class Lag:
    """What of a topic a group hasn't committed: how many records, and the age of the oldest in seconds (0: none)."""

    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """One group. `lag`, `waiting` and `dead` are by Shopify topic, and what of the dead holds no event is `unreadable`;
    `dlq_oldest_seconds` is how long the oldest of these has been there (None: there's none); `held` are the topics that a flood breaker
    holds or an operator has spoken on, `in_order` what resources wait for a retry."""

    name: str
    state: str
    members: int
    lag: Mapping[str, Lag] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    dead: Mapping[str, int] = field(default_factory=dict)
    dlq_oldest_seconds: float | None = None
    held: tuple[Status, ...] = ()
    in_order: HeldFigures = _NOTHING_HELD

    @property
    def dlq_depth(self) -> int:
        """Dead events and unreadable records that nobody has redriven or discarded."""
        return sum(self.dead.values())


@dataclass(frozen=True, slots=True)
class Figures:
    """All groups by name, and the records on the tape that the catalogue hasn't read. `at` is epoch seconds."""

    at: float
    groups: tuple[GroupFigures, ...]
    catalogue_lag: int


def figures(settings: Settings, ledger: Ledger, now: float) -> Figures:
    """Asks the broker and the ledger. Raises TapeUnavailable, LedgerUnavailable.

    A group's topics are those that it has committed or is assigned now; a partition of them without a commit counts from
    its beginning, since whoever dies before the first commit must be seen too.
    """
    names = Names(settings.topic_prefix)
    with Reader(settings) as reader:
        every = reader.topics()
        logs = log_topics(settings, reader)
        lows, ends = reader.lows(logs), reader.ends(logs)
        positions = ledger.catalogue.positions()
        found = []
        for name in groups.groups_of(settings, every):
            group = groups.describe(settings, name)
            committed = groups.committed(settings, name, ends)
            assigned = {p for member in group.members for p in member.partitions if p in ends}
            behind = pending({*committed} | assigned, committed, lows, ends)
            lag = _lag(names, behind, ends, reader.first_times(behind), now)
            failures = ledger.outcomes.failures(name)
            oldest, poison = ledger.letters.oldest(name), ledger.letters.poison_count(name)
            found.append(GroupFigures(
                name, group.state, len(group.members), lag, _of(failures, State.WAITING),
                _of(failures, State.DEAD) | ({UNREADABLE: poison} if poison else {}), None if oldest is None else max(0.0, now - oldest),
                tuple(ledger.breakers.list(now, name)), ledger.stranded.held(name),
            ))  # fmt: skip
    unread = sum(max(0, end - max(positions.get(p, 0), lows.get(p, 0))) for p, end in ends.items())
    return Figures(now, tuple(found), unread)


def arrived(settings: Settings, since: float) -> int:
    """Records appended to the tape since then (epoch seconds), from offsets alone. Raises TapeUnavailable."""
    with Reader(settings) as reader:
        spans = reader.bounds(log_topics(settings, reader), since_ms=int(since * 1000))
    return sum(span.end - span.start for span in spans.values())


def pending(known: Iterable[Partition], committed: Mapping[Partition, int], lows: Mapping[Partition, int],
            ends: Mapping[Partition, int]) -> dict[Partition, int]:  # fmt: skip
    """The first uncommitted offset of every partition of the topics in `known`; a finished one's is its end."""
    topics = {topic for topic, _ in known}
    return {p: min(end, max(committed.get(p, 0), lows[p])) for p, end in ends.items() if p[0] in topics}


def _lag(names: Names, behind: Mapping[Partition, int], ends: Mapping[Partition, int], times: Mapping[Partition, int],
         now: float) -> dict[str, Lag]:  # fmt: skip
    found: dict[str, Lag] = {}
    for partition, offset in behind.items():
        topic = shopify_topic(names, partition[0])
        so_far = found.get(topic, Lag(0, 0.0))
        if partition not in times:
            # Nothing is left but a transaction's marker, which takes an offset and is no event.
            found[topic] = so_far
            continue
        found[topic] = Lag(so_far.events + ends[partition] - offset, max(so_far.seconds, now - times[partition] / 1000, 0.0))
    return found


def shopify_topic(names: Names, kafka_topic: str) -> str:
    """`hooktape.log.orders.create` → `orders/create`; the log of others is `other`."""
    parsed = names.parse(kafka_topic)
    kafka_name = parsed.shopify if parsed else kafka_topic
    return next((row.topic for row in shopify.table().values() if row.kafka_name == kafka_name), kafka_name)


def _of(failures: Mapping[str, Mapping[State, int]], state: State) -> dict[str, int]:
    return {topic: counts[state] for topic, counts in failures.items() if counts.get(state)}


def export(found: Figures) -> None:
    """Sets the gauges. What has vanished (a group, a topic) is taken away, or its alarm would ring for ever."""
    forget()
    for group in found.groups:
        for topic, lag in group.lag.items():
            metrics.PENDING_SECONDS.labels(group.name, topic).set(lag.seconds)
            metrics.PENDING_EVENTS.labels(group.name, topic).set(lag.events)
        for topic in {*group.lag, *group.waiting, *group.dead}:
            metrics.FAILED_EVENTS.labels(group.name, topic).set(group.waiting.get(topic, 0) + group.dead.get(topic, 0))
        # 0 too: an alert must be seen to end, and a topic that was never held to be watched.
        stopped = {status.topic for status in group.held if status.open}
        for topic in {*group.lag, *stopped}:
            metrics.FLOOD_OPEN.labels(group.name, topic).set(topic in stopped)
        metrics.HELD_EVENTS.labels(group.name).set(group.in_order.events)
        metrics.HELD_RESOURCES.labels(group.name).set(group.in_order.resources)
        metrics.HELD_OVERDUE.labels(group.name).set(group.in_order.overdue(found.at))
        metrics.DLQ_DEPTH.labels(group.name).set(group.dlq_depth)
        metrics.DLQ_OLDEST.labels(group.name).set(group.dlq_oldest_seconds or 0.0)
    metrics.CATALOG_LAG.set(found.catalogue_lag)


# Not run, and nothing to worry about: it had succeeded, or a newer version of its resource had.
_FINE = {"done", "already_done", "superseded"}


class Replays:
    """Exports how replays ended. Here and not in the process that runs one: that is gone before anybody scrapes it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # Counted by the process before this one: a counter starts from zero, as Prometheus expects.
        self._counted = {job.id for job in self._ended()}

    def _ended(self) -> list[Job]:
        # More than can end between two looks.
        return self._ledger.jobs.list(200, states=ENDED)

    def export(self) -> None:
        """Counts the jobs that ended since the last look; the ratio is the last one's. Raises LedgerUnavailable."""
        ended = sorted((job for job in self._ended() if job.id not in self._counted), key=lambda job: job.ended_at or 0)
        for job in ended:
            account = self._ledger.jobs.account(job.id)
            outcomes = {"succeeded": account.succeeded, "failed_again": account.failed_again,
                        "missing": account.in_flight + account.not_sent, **account.skipped}  # fmt: skip
            for outcome, number in outcomes.items():
                metrics.REPLAY_EVENTS.labels(outcome).inc(number)
            metrics.REPLAY_SUCCESS.set(success_ratio(account))
            self._counted.add(job.id)


def success_ratio(account: Account) -> float:
    """Succeeded, done before or superseded, of all selected; 1 for a job that selected nothing."""
    fine = sum(number for why, number in (*account.skipped.items(), *account.not_run.items()) if why in _FINE)
    return (account.succeeded + fine) / account.selected if account.selected else 1.0


def forget() -> None:
    """Takes all gauges of lag and depth away: figures that can't be had must not go on saying what was true before."""
    for gauge in (metrics.PENDING_SECONDS, metrics.PENDING_EVENTS, metrics.FAILED_EVENTS, metrics.FLOOD_OPEN, metrics.DLQ_DEPTH,
                  metrics.DLQ_OLDEST, metrics.HELD_EVENTS, metrics.HELD_RESOURCES, metrics.HELD_OVERDUE):  # fmt: skip
        gauge.clear()
    metrics.CATALOG_LAG.set(float("nan"))
