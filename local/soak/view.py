"""A history indexed for the rules, and the two questions that they all ask: who died when, and what fault was near. Pure."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from hooktape.local.soak.history import Attempt, Command, Fault, Handler, History, Item, Post, Record, Row
from hooktape.schemas.event import RECONCILER

DEADLY = frozenset({"kill", "crash", "cut"})
EXCUSE_SECONDS = 2.0
"""From the end of a run to the death that kept it from being recorded. A worker records every few milliseconds; two seconds allow for
a ledger that was away."""
# A worker's last sign of life may be one heartbeat old when it's frozen: it's forgotten that much sooner.
_HEARTBEAT_SHARE = 0.35


SLACK_SECONDS = 0.05
"""The broker stamps in milliseconds, and its clock is compared with ours."""
RESENT_SECONDS = 1.0
"""Less than the producer's `request.timeout.ms` (tape.clients) by the time that a request takes to leave: what took longer may have been
sent to the broker again. Where another record of that partition expired meanwhile, librdkafka starts a new epoch, and the broker can't
know the copy for one."""
SETTLED_SECONDS = 10.0
"""A group has divided its partitions anew, and a producer its requests, so long after a fault at the latest: on two cores shared by eight
others, the process that comes in a dead worker's place takes five seconds to start and to join."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that doesn't hold. `near`: the fault nearest in time; `where` (losses): prefix, middle or suffix of its topic."""

    rule: str
    what: str
    at: float | None
    near: str
    where: str = ""

    def __str__(self) -> str:
        when = "" if self.at is None else f" at {self.at:.3f}"
        return f"{self.rule}: {self.what}{when}{f', {self.where}' if self.where else ''}; nearest fault: {self.near}"


@dataclass(slots=True)
class Webhook:
    """All posts of one webhook."""

    first: Post
    acked_at: float | None = None
    maybe: int = 0
    """Posts that may have written it: answered with 2xx or 5xx, or not at all."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent, or recorded in its stead."""

    topic: str
    lane: str
    resource: str
    version: int
    at: float


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that a handler did to the world."""

    handler: Handler
    wid: str
    lane: str
    resource: str
    version: int | None
    generation: str
    pid: int
    start: float
    at: float


@dataclass(slots=True)
class Replay:
    """All that was asked, planned and told of one replay; `plan` None: whoever made it was killed before saying its id."""

    job: str
    plan: Command | None = None
    commands: list[Command] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    by_wid: dict[str, Item] = field(default_factory=dict)

    @property
    def forced(self) -> bool:
        """Whether what had succeeded was to run again."""
        return self.plan is not None and self.plan.asked is not None and self.plan.asked.forced


class View:
    """Built once; the rules only read it."""

    def __init__(self, history: History) -> None:
        self.history, self.facts = history, history.facts
        self.webhooks = _webhooks(history.posts)
        self.logs = [record for record in history.records if record.kind == "log"]
        self.copies: dict[str, list[Record]] = defaultdict(list)
        for record in self.logs:
            self.copies[record.wid].append(record)
        for copies in self.copies.values():
            copies.sort(key=lambda record: record.offset)
        self._stood_in = {(record.shop, record.resource, record.version) for record in self.logs if record.source == RECONCILER}
        self.letters: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
        """(kind, group, webhook id) → retry or dead-letter records."""
        self.handed: dict[tuple[str, str], list[float]] = defaultdict(list)
        """(group, webhook id) → when replays sent it to the group."""
        for record in history.records:
            if record.kind in ("retry", "dlq"):
                self.letters[record.kind, record.group, record.wid].append(record)
            elif record.kind == "replay":
                self.handed[record.group, record.wid].append(record.at)
        self.letters_of_lane: dict[tuple[str, str], list[float]] = defaultdict(list)
        """(group, lane) → when its letters came."""
        for (_, group, _), letters in self.letters.items():
            for letter in letters:
                self.letters_of_lane[group, letter.key].append(letter.at)
        self.states = {(outcome.group, outcome.wid): outcome.state for outcome in history.outcomes}
        self.handlers = {(handler.group, handler.name): handler for handler in history.handlers}
        self.by_topic = {(handler.group, topic): handler for handler in history.handlers for topic in handler.topics}
        self.groups = sorted({handler.group for handler in history.handlers})
        self._faults = sorted((fault for fault in history.faults), key=lambda fault: fault.t)
        self._times = [fault.t for fault in self._faults]
        self.of_pid: dict[int, list[Fault]] = defaultdict(list)
        for fault in self._faults:
            self.of_pid[fault.pid].append(fault)
        self.deaths = {fault.pid: fault.t for fault in reversed(self._faults) if fault.kind in DEADLY or fault.kind == "ended"}
        self.last = max([*self._times, *(a.end or a.start for a in history.attempts), *(p.t1 for p in history.posts)], default=0.0)
        self.attempts = sorted((a for a in history.attempts if (a.group, a.handler) in self.handlers), key=lambda a: a.start)
        self.effects = sorted(self._effects(), key=lambda effect: effect.at)
        self.runs: dict[tuple[str, str, str], list[Attempt]] = defaultdict(list)
        """(group, webhook id, generation) → its attempts by their start."""
        for attempt in self.attempts:
            self.runs[attempt.group, attempt.wid, attempt.generation].append(attempt)
        self.tries: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
        """(group, webhook id) → its attempts of all generations."""
        for attempt in self.attempts:
            self.tries[attempt.group, attempt.wid].append(attempt)
        self.effects_of: dict[str, dict[str, list[Effect]]] = defaultdict(lambda: defaultdict(list))
        """Replay → webhook id → its effects there, the first first."""
        self.done_at: dict[tuple[str, str], list[Effect]] = defaultdict(list)
        """(group, webhook id) → its effects of all generations, the first first."""
        self.applied: dict[tuple[str, str, str, str], list[tuple[float, int]]] = defaultdict(list)
        """(group, handler, lane, resource) → when which version was applied."""
        for effect in self.effects:
            self.done_at[effect.handler.group, effect.wid].append(effect)
            if effect.version is not None:
                self.applied[effect.handler.group, effect.handler.name, effect.lane, effect.resource].append((effect.at, effect.version))
            if effect.generation:
                self.effects_of[effect.generation][effect.wid].append(effect)
        self.replays = _replays(history)

    def _effects(self) -> Iterable[Effect]:
        for attempt in self.attempts:
            handler = self.handlers[attempt.group, attempt.handler]
            if attempt.ok and attempt.end is not None and not handler.transactional:
                yield Effect(handler, attempt.wid, attempt.lane, attempt.resource, attempt.version, attempt.generation, attempt.pid,
                             attempt.start, attempt.end)  # fmt: skip
        for row in self.history.rows:
            if (row.group, row.handler) in self.handlers:
                yield _effect_of(row, self.handlers[row.group, row.handler])

    def end_of(self, attempt: Attempt) -> float:
        """When an attempt was over: its end, else its process's death, else the end of all that was seen."""
        return attempt.end if attempt.end is not None else self.deaths.get(attempt.pid, self.last)

    def cut_short(self, pid: int, since: float, until: float) -> Fault | None:
        """What killed or froze a process between two times, or ended it while it couldn't tell the ledger; None: nothing did."""
        for fault in self.of_pid.get(pid, ()):
            if (fault.kind in DEADLY or fault.kind == "stop") and since <= fault.t <= until:
                return fault
            if fault.kind == "term" and (fault.healed or self.last) >= since and self._unheard(fault, since, until):
                return fault
        return None

    def _unheard(self, ending: Fault, since: float, until: float) -> bool:
        """Whether PostgreSQL was away between two times, and a process had to stop before it could be told: a stop has a deadline."""
        return any(fault.target == "postgres" and fault.t <= until and (back := fault.healed or self.last) >= since
                   and ending.t <= back + SETTLED_SECONDS for fault in self._faults)  # fmt: skip

    def frozen_out(self, pid: int, start: float, end: float) -> Fault | None:
        """The freeze within [start, end] of a process that lasted so long that its partitions may be another's by now."""
        for fault in self.of_pid.get(pid, ()):
            thawed = fault.healed if fault.healed is not None else self.last
            long = thawed - fault.t >= self.facts.session * (1 - _HEARTBEAT_SHARE)
            if fault.kind == "stop" and long and fault.t <= end and thawed >= start:
                return fault
        return None

    def sent(self, wid: str) -> Sent | None:
        """What was posted under that id, or recorded by a reconciler; None: neither.

        A reconciler's event, and the webhook that it stands for, are superseded by their own version, too: it's the same state.
        """
        if webhook := self.webhooks.get(wid):
            post = webhook.first
            stood_in = (post.shop, post.resource, post.version) in self._stood_in
            return Sent(post.topic, post.lane, post.resource, post.version - stood_in, post.t1)
        if (copies := self.copies.get(wid)) and copies[0].source == RECONCILER:
            first = copies[0]
            return Sent(first.topic, first.key, first.resource, (first.version or 0) - 1, first.at)
        return None

    def item(self, job: str, wid: str) -> Item | None:
        """A replay's line of a webhook."""
        replay = self.replays.get(job)
        return None if replay is None else replay.by_wid.get(wid)

    def is_forced(self, generation: str) -> bool:
        """Whether it's a replay that runs again what had succeeded."""
        return generation in self.replays and self.replays[generation].forced

    def away(self, server: str, since: float, until: float) -> bool:
        """Whether the broker or PostgreSQL was killed or frozen at any time between."""
        return any(fault.target == server and fault.t <= until and (fault.healed or self.last) >= since for fault in self._faults)

    def broker_away(self, since: float, until: float) -> bool:
        """The same of the broker: it may hold what nobody heard it acknowledge."""
        return self.away("broker", since, until)

    def regrouped(self, since: float, until: float) -> bool:
        """Whether workers came or went, or the broker was away, between two times or shortly before: partitions may have moved, and come
        back to who had them."""
        return any(fault.target in ("worker", "broker") and fault.t <= until and (fault.healed or fault.t) >= since - SETTLED_SECONDS
                   for fault in self._faults)  # fmt: skip

    def breach(self, rule: str, what: str, at: float | None, where: str = "") -> Violation:
        """A violation, with the fault that is nearest to it."""
        return Violation(rule, what, at, self._nearest(at), where)

    def _nearest(self, at: float | None) -> str:
        if at is None or not self._faults:
            return "none"
        index = bisect_left(self._times, at)
        fault = min(self._faults[max(0, index - 1) : index + 1], key=lambda f: abs(f.t - at))
        point = f" ({fault.detail})" if fault.kind == "crash" else ""
        return f"{fault.kind} of {fault.target} {fault.pid}{point} {fault.t - at:+.2f} s"

    def where(self, lost: Webhook) -> str:
        """Whether what is lost came before all that survived of its topic, after it, or in between."""
        moment = lost.acked_at or lost.first.t1
        kept = self._kept_times.get(lost.first.topic, (None, None))
        if kept[0] is None or kept[1] is None:
            return "everything"
        return "prefix" if moment < kept[0] else "suffix" if moment > kept[1] else "middle"

    @cached_property
    def _kept_times(self) -> dict[str, tuple[float | None, float | None]]:
        spans: dict[str, tuple[float | None, float | None]] = {}
        for wid, webhook in self.webhooks.items():
            if webhook.acked_at is not None and wid in self.copies:
                low, high = spans.get(webhook.first.topic, (None, None))
                at = webhook.acked_at
                spans[webhook.first.topic] = (at if low is None else min(low, at), at if high is None else max(high, at))
        return spans


def _webhooks(posts: Iterable[Post]) -> dict[str, Webhook]:
    found: dict[str, Webhook] = {}
    for post in posts:
        webhook = found.get(post.wid)
        if webhook is None:
            webhook = found[post.wid] = Webhook(post)
        if post.status is None or post.status >= 500 or 200 <= post.status < 300:
            webhook.maybe += 1
        if post.status is not None and 200 <= post.status < 300:
            webhook.acked_at = post.t1 if webhook.acked_at is None else min(webhook.acked_at, post.t1)
    return found


def _replays(history: History) -> dict[str, Replay]:
    found: dict[str, Replay] = {}
    for item in history.items:
        replay = found.setdefault(item.job, Replay(item.job))
        replay.items.append(item)
        replay.by_wid[item.wid] = item
    for command in history.commands:
        if command.job:
            replay = found.setdefault(command.job, Replay(command.job))
            replay.commands.append(command)
            if command.verb == "plan":
                replay.plan = command
    return found


def _effect_of(row: Row, handler: Handler) -> Effect:
    return Effect(handler, row.wid, row.lane, row.resource, row.version, row.generation, row.pid, row.at, row.at)


def hand_overs(history: History) -> list[float]:
    """How long each partition of a dead worker stood still, in seconds: from the death to the next start by another process.

    Only partitions on which it had started something within its last second, and whose events were still coming.
    """
    home = {record.wid: (record.kafka_topic, record.partition) for record in history.records if record.kind == "log"}
    starts: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
    for attempt in history.attempts:
        if attempt.wid in home:
            starts[home[attempt.wid]].append((attempt.start, attempt.pid))
    found = []
    deaths = {fault.pid: fault.t for fault in history.faults if fault.target == "worker" and fault.kind in DEADLY}
    for partition in starts.values():
        partition.sort()
        for (before, pid), (after, other) in pairwise(partition):
            death = deaths.get(pid)
            if death is not None and other != pid and before <= death < after and death - before < 1.0:
                found.append(after - death)
    return sorted(found)
