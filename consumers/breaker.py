"""The flood breaker: when most of a topic's events fail with one cause, the topic stops before its tape is emptied into the DLQ.

                       most fail with one cause
            closed ──────────────────────────────▶ open ──its time is up──▶ half-open (one probe runs)
              ▲                                    ▲  ▲                       │   │
      60 s    │                          interval  │  └── it failed: twice ───┘   │ it succeeded
      passed  │                          doubled   │      the interval            │
              └────────────── on trial ────────────┘                              │
                              (closed, but three failures in five                 │
                               with the old cause open it again) ◀────────────────┘

One machine for each Shopify topic, with the causes (error groups, `causes.error_group`) that it's open for. What fails with
one of them stays at the head of its lane; what fails with another leaves as ever, since nothing says that it's a flood.

A topic opens when, of its last votes, more than half failed with one cause, and that cause is also the latest news from at
least half of the shops: one shop's odd bulk edit is that shop's matter, and mustn't stop the others. Votes are the last
hundred of the last minute. By time alone, a thousand events a second would lose half a minute's (30,000) before a total
failure was most of the minute; by number it's a hundred, whatever the rate.

A probe's success closes the topic at once, not by degrees: the lanes' own limits bound what starts, and the trial bounds
what a lucky probe lets out, to four events each interval where everything fails.

Pure: `now` comes in as seconds of any clock that doesn't run backwards, chance as a function.
"""

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from math import inf

from hooktape.consumers.schedule import Chance

# Fewer tries than this are no statistic: with one event in ten failing by itself, eleven of twenty do so less than once in a million.
ENOUGH_TRIES = 20
# Fewer tries are enough where so many shops are hit: that's no one shop's data, and a quiet topic must be protected too.
ENOUGH_SHOPS = 8
# Votes older than a minute tell of another deploy; more than a hundred would only make a busy topic slower to stop.
WINDOW_SECONDS = 60.0
MOST_VOTES = 100
# As many shops as votes: a fault that hits all of them is half of the news after fifty.
MOST_SHOPS = 100
# On trial a cause is known already: three failures in five are enough to believe that it's still there.
TRIAL_TRIES = 5
# Long enough for a restart of what failed downstream, and short enough that nobody needs to be woken for one.
FIRST_INTERVAL = 30.0
# A mended cause is found after five minutes at worst; till then one event in five minutes is all that it costs.
LONGEST_INTERVAL = 300.0
# The workers of a group open together. Apart by a fifth, they don't all probe a recovering service at one instant.
JITTER = 0.2
# Causes that one topic is open for. A bug whose message differs each time has endless ones, and the probes go on without them.
MOST_CAUSES = 16


class State(StrEnum):
    """What a topic's machine is in."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Closed:
    """Events of the topic may start."""


@dataclass(frozen=True, slots=True)
class Open:
    """No event of the topic may start before `until`; inf: before somebody or something else says so."""

    until: float


@dataclass(frozen=True, slots=True)
class Probe:
    """One event may start, by `take_probe`."""


Verdict = Closed | Open | Probe


class Turn(Enum):
    """What a vote has done to its topic."""

    OPENED = "opened"
    REOPENED = "reopened"
    CLOSED = "closed"


class Force(StrEnum):
    """An operator's word, which goes before the machine's."""

    OPEN = "open"
    """Hold the topic."""
    CLOSED = "closed"
    """Let it through, whatever fails."""


@dataclass(frozen=True, slots=True)
class Override:
    """`until`: when it ends by itself."""

    force: Force
    until: float = inf


@dataclass(frozen=True, slots=True)
class Trip:
    """A cause that a topic is open for. `since` when it opened, `until` when the next probe is due (inf: one runs)."""

    topic: str
    group: str
    state: State
    since: float
    until: float
    failures: int
    shops: int


@dataclass(slots=True)
class _Cause:
    since: float
    failures: int
    shops: int


class _Window:
    """The last votes, and the latest news from each of the last shops. Everything is counted as it comes and goes."""

    def __init__(self) -> None:
        self._well: deque[tuple[float, str]] = deque(maxlen=MOST_VOTES)
        """Votes that something went well and that nobody has looked at yet: almost all of them never matter."""
        self._votes: deque[tuple[float, str | None]] = deque()
        self._shops: OrderedDict[str, tuple[float, str | None]] = OrderedDict()
        self._failed: Counter[str] = Counter()
        self._sick: Counter[str] = Counter()

    def well(self, shop: str, now: float) -> None:
        self._well.append((now, shop))

    def failed(self, group: str, shop: str, now: float) -> None:
        while self._well:
            moment, of = self._well.popleft()
            self._add(None, of, moment)
        self._add(group, shop, now)

    def _add(self, group: str | None, shop: str, now: float) -> None:
        self._drop_shop(shop)
        self._votes.append((now, group))
        self._shops[shop] = now, group
        if group is not None:
            self._failed[group] += 1
            self._sick[group] += 1
        while self._votes and (len(self._votes) > MOST_VOTES or self._votes[0][0] <= now - WINDOW_SECONDS):
            _less(self._failed, self._votes.popleft()[1])
        while self._shops and (len(self._shops) > MOST_SHOPS or next(iter(self._shops.values()))[0] <= now - WINDOW_SECONDS):
            self._drop_shop(next(iter(self._shops)))

    def clear(self) -> None:
        for part in (self._well, self._votes, self._shops, self._failed, self._sick):
            part.clear()

    def __len__(self) -> int:
        return len(self._votes)

    def failures(self, group: str) -> int:
        return self._failed[group]

    def shops(self, group: str) -> int:
        return self._sick[group]

    def most(self, group: str) -> bool:
        """Whether it's the cause of more than half of the votes, and the latest news from half of the shops."""
        return 2 * self._failed[group] > len(self._votes) and 2 * self._sick[group] >= len(self._shops)

    def _drop_shop(self, shop: str) -> None:
        if (old := self._shops.pop(shop, None)) is not None:
            _less(self._sick, old[1])


def _less(counter: Counter[str], group: str | None) -> None:
    if group is not None:
        counter[group] -= 1
        if not counter[group]:
            del counter[group]


@dataclass(slots=True)
class _Topic:
    state: State = State.CLOSED
    until: float = 0.0
    """Open: when the next probe is due. Closed: when the trial ends."""
    interval: float = FIRST_INTERVAL
    causes: dict[str, _Cause] = field(default_factory=dict)
    """Open: what stays. Closed: what it's on trial for."""
    window: _Window = field(default_factory=_Window)


class Breaker:
    """The breakers of one worker. `chance` spreads the probes of several. Topics are the app's: as many as it has handlers for."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._topics: dict[str, _Topic] = {}
        self._overrides: dict[str, Override] = {}

    # ── votes ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def record(self, topic: str, group: str | None, shop: str, now: float, *, probe: bool = False) -> Turn | None:
        """An event of `shop` has ended: well (`group` None), or failed with an error group. What that changed.

        `probe`: it's the one that `take_probe` let start; its word decides.
        """
        machine = self._topics.get(topic)
        if machine is None:
            machine = self._topics[topic] = _Topic()
        if probe and machine.state is State.HALF_OPEN:
            return self._judge_probe(machine, group, now)
        if machine.state is not State.CLOSED:
            # Started before it opened. What they met is counted where it's known, and opens nothing more.
            if group in machine.causes:
                machine.causes[group].failures += 1
            return None
        if machine.causes and now >= machine.until:
            machine.causes.clear()
            machine.interval = FIRST_INTERVAL
        if group is None:
            machine.window.well(shop, now)
            return None
        machine.window.failed(group, shop, now)
        if not self._guilty(machine, group) or self._forced(topic, now) is Force.CLOSED:
            return None
        turn = Turn.REOPENED if machine.causes else Turn.OPENED
        if turn is Turn.REOPENED:
            machine.interval = min(2 * machine.interval, LONGEST_INTERVAL)
        self._open(machine, group, machine.window.failures(group), machine.window.shops(group), now)
        return turn

    def may_leave(self, topic: str, group: str, now: float) -> bool:
        """Whether an event that failed with `group` may go to a retry or dead-letter topic. If not, it stays in its lane.

        To be asked after the event's own `record`, and before anything is produced.
        """
        force = self._forced(topic, now)
        if force is not None:
            return force is Force.CLOSED
        machine = self._topics.get(topic)
        return machine is None or machine.state is State.CLOSED or group not in machine.causes

    @staticmethod
    def _guilty(machine: _Topic, group: str) -> bool:
        window = machine.window
        enough = len(window) >= (TRIAL_TRIES if group in machine.causes else ENOUGH_TRIES) or window.shops(group) >= ENOUGH_SHOPS
        return enough and window.most(group)

    def _open(self, machine: _Topic, group: str, failures: int, shops: int, now: float) -> None:
        known = machine.causes.get(group)
        if known is not None:
            known.failures += failures
            known.shops = max(known.shops, shops)
        elif len(machine.causes) < MOST_CAUSES:
            machine.causes[group] = _Cause(now, failures, shops)
        machine.state = State.OPEN
        machine.until = now + machine.interval * (1 + JITTER * self._chance())
        machine.window.clear()

    # ── probes ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def verdict(self, topic: str, now: float) -> Verdict:
        """Whether events of `topic` may start."""
        force = self._forced(topic, now)
        machine = self._topics.get(topic)
        if force is Force.OPEN:
            return Open(self._overrides[topic].until)
        if force is Force.CLOSED or machine is None or machine.state is State.CLOSED:
            return Closed()
        if machine.state is State.HALF_OPEN:
            return Open(inf)
        return Probe() if now >= machine.until else Open(machine.until)

    def take_probe(self, topic: str, now: float) -> bool:
        """Takes the one probe of an open topic whose time is up; False when it isn't to be had."""
        if not isinstance(self.verdict(topic, now), Probe):
            return False
        self._topics[topic].state = State.HALF_OPEN
        return True

    def lose_probe(self, topic: str, now: float, wait: bool = False) -> None:
        """The probe ended without a word on the cause: its partition went, it had been done before. Another may start now.

        With `wait` (the other side throttled it), after the first interval.
        """
        machine = self._topics.get(topic)
        if machine is not None and machine.state is State.HALF_OPEN:
            machine.state = State.OPEN
            machine.until = now + FIRST_INTERVAL * (1 + JITTER * self._chance()) if wait else now

    def _judge_probe(self, machine: _Topic, group: str | None, now: float) -> Turn:
        if group is None:
            machine.state, machine.until = State.CLOSED, now + WINDOW_SECONDS
            machine.window.clear()
            return Turn.CLOSED
        # Another cause counts as failed too: it proves nothing mended, and if a bug's groups differ each time, going on at once
        # would empty the tape one probe after the other.
        machine.interval = min(2 * machine.interval, LONGEST_INTERVAL)
        self._open(machine, group, 1, 1, now)
        return Turn.REOPENED

    # ── operators ───────────────────────────────────────────────────────────────────────────────────────────────────
    def override(self, topic: str, override: Override | None) -> None:
        """An operator's word on `topic`, or none any more. Letting it through forgets what it was open for."""
        if override is None:
            self._overrides.pop(topic, None)
            return
        self._overrides[topic] = override
        machine = self._topics.get(topic)
        if override.force is Force.CLOSED and machine is not None and machine.state is not State.CLOSED:
            self._topics[topic] = _Topic()

    def _forced(self, topic: str, now: float) -> Force | None:
        override = self._overrides.get(topic)
        return override.force if override is not None and now < override.until else None

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def shut(self, now: float) -> list[str]:
        """The topics whose events may not start freely."""
        known = dict.fromkeys((*self._topics, *self._overrides))
        return [topic for topic in known if not isinstance(self.verdict(topic, now), Closed)]

    def wake_at(self, now: float) -> float | None:
        """When the next verdict changes by itself: a probe is due (`now`: it is, and not taken), an override ends. None: never."""
        verdicts = [self.verdict(topic, now) for topic in self.shut(now)]
        waiting = [verdict.until if isinstance(verdict, Open) else now for verdict in verdicts]
        ends = [override.until for override in self._overrides.values() if override.until > now]
        soonest = min((*waiting, *ends), default=inf)
        return None if soonest == inf else soonest

    def trips(self) -> list[Trip]:
        """What is open by the machine's own word, a row for each cause."""
        return [Trip(topic, group, machine.state, cause.since, inf if machine.state is State.HALF_OPEN else machine.until,
                     cause.failures, cause.shops)
                for topic, machine in self._topics.items() if machine.state is not State.CLOSED
                for group, cause in machine.causes.items()]  # fmt: skip
