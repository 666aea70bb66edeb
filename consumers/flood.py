"""The flood breaker in a worker: votes and decisions at the end of each event, lanes closed and opened, the ledger told and asked.

    well ────────────────▶ vote
    about to leave ──────▶ vote ──may it? ── yes ─▶ letter
                                     └─ no ─▶ aside, at the head of its lane

Who votes: an event's first delivery, quick tries included, that came by the log. What comes back from a retry topic or a replay
has failed before: a topic that loses one event in twelve would look as if it lost half of them once each is on its twelfth
try, and a replay of dead letters would stop the live ones. They obey, as all do.
"""

from collections.abc import Awaitable, Callable, Mapping
from math import inf, isinf
from typing import Protocol, TypeVar

from hooktape import log, metrics
from hooktape.consumers.breaker import Breaker, Force, Override, Probe, Turn
from hooktape.consumers.causes import error_group, error_type
from hooktape.consumers.classify import Cause, Disposition
from hooktape.consumers.clock import Clock
from hooktape.consumers.deliveries import Fetched
from hooktape.consumers.lanes import Lanes
from hooktape.consumers.task import Rank, Task
from hooktape.errors import LedgerError, NotOurs
from hooktape.ledger import breakers
from hooktape.ledger.ledger import Ledger
from hooktape.tape.headers import Failure

_log = log.get("hooktape.consumers")
T = TypeVar("T")
# An operator waits so long at most for a word to be obeyed; a look is one short query of one worker.
_SYNC_SECONDS = 5.0


class Ask(Protocol):
    """Puts a question to the ledger, on the thread that owns it. Raises what it raises."""

    def __call__(self, question: Callable[[Ledger], T], /) -> Awaitable[T]: ...


class Flood:
    """One worker's. All methods belong on the event loop.

    `owner` names the worker in the ledger; `logs` are the Kafka topics that hold one Shopify topic each; `bury` sends an
    unreadable record to the dead letters, after asking `keeps_unreadable`.
    """

    def __init__(self, group: str, owner: str, lanes: Lanes, breaker: Breaker, ask: Ask, clock: Clock, logs: Mapping[str, str],
                 bury: Callable[[Fetched, NotOurs], None]) -> None:  # fmt: skip
        self._group, self._owner, self._lanes, self._breaker = group, owner, lanes, breaker
        self._ask, self._clock, self._logs, self._bury = ask, clock, logs, bury
        self._shut: set[str] = set()
        self._examples: dict[tuple[str, str], tuple[str, str]] = {}
        self._unreadable: dict[str, list[tuple[Fetched, NotOurs]]] = {}
        self._words: dict[str, breakers.Override] = {}
        self._said = False
        self._sync_at = 0.0
        self._syncing = False

    # ── at the end of each event ────────────────────────────────────────────────────────────────────────────────────
    def succeeded(self, task: Task) -> None:
        """An event has ended well; to be called while it still runs in the lanes."""
        event = task.event
        if self._shut and self._lanes.is_probe(task):
            self._vote(event.topic, None, event.shop, True, "", "")
        elif _votes(task):
            self._breaker.record(event.topic, None, event.shop, self._clock.monotonic())

    def keeps(self, task: Task, cause: Cause, failure: Failure) -> bool:
        """An event has failed and would leave for a retry or dead-letter topic: whether it stays instead.

        Then it has been put aside at the head of its lane, and the try isn't counted: the fault is the topic's. If its partition
        is going, it has ended in the lanes, and is whoever's gets the partition.
        """
        topic, shop, now = task.event.topic, task.event.shop, self._clock.monotonic()
        probe = bool(self._shut) and self._lanes.is_probe(task)
        if cause.disposition is Disposition.THROTTLED:
            # Too much at once is the lanes' matter: the destination cools, and nothing is broken.
            if probe:
                self._breaker.lose_probe(topic, now, wait=True)
                self._lanes.close_topic(topic)
        elif not cause.untried and (probe or _votes(task)):
            self._vote(topic, failure.group, shop, probe, failure.error_type, failure.message)
        if self._breaker.may_leave(topic, failure.group, now):
            return False
        self._close(topic)
        task.attempts -= 1
        if task.home.revoked:
            self._lanes.end(task)
        else:
            self._lanes.put_aside(task)
        return True

    def keeps_unreadable(self, record: Fetched, error: NotOurs, topic: str, shop: str) -> bool:
        """A record that can't be decoded would go to the dead letters: whether it's kept here, unfinished, instead.

        `topic` and `shop` as `Intake.labels` has them. It's buried when the topic opens, unless its partition has gone by then. What is of
        no topic isn't kept: no event of it would ever succeed, and end that.
        """
        if not topic:
            return False
        group = error_group(error)
        self._vote(topic, group, shop, self._lanes.awaits_probe(topic), error_type(error), str(error))
        if self._breaker.may_leave(topic, group, self._clock.monotonic()):
            return False
        self._close(topic)
        self._unreadable.setdefault(topic, []).append((record, error))
        return True

    def _vote(self, topic: str, group: str | None, shop: str, probe: bool, kind: str, message: str) -> None:
        now = self._clock.monotonic()
        turn = self._breaker.record(topic, group, shop, now, probe=probe)
        if turn is None:
            return
        self._sync_at = now
        if turn is Turn.CLOSED:
            _log.info("the topic goes on: its probe succeeded", topic=topic)
            self._open(topic)
            return
        assert group is not None
        self._examples[topic, group] = kind, message
        # Also where it's closed already: what was let through as a probe is one no more.
        self._lanes.close_topic(topic)
        self._shut.add(topic)
        if turn is Turn.OPENED:
            metrics.FLOOD_OPENINGS.labels(self._group, topic).inc()
        _log.error("the topic is held: most of its events fail with one cause" if not probe else "the topic stays held: its probe failed",
                   topic=topic, error=kind, group=group, action=f"hooktape breaker list --group {self._group}")  # fmt: skip

    # ── as time goes by ─────────────────────────────────────────────────────────────────────────────────────────────
    def tend(self) -> None:
        """Lets due probes through, and notices lost ones and what operators have said. Cheap; to be called several times a second,
        before events are started."""
        now = self._clock.monotonic()
        shut = self._breaker.shut(now)
        for topic in shut:
            self._close(topic)
            if isinstance(self._breaker.verdict(topic, now), Probe):
                self._breaker.take_probe(topic, now)
                self._lanes.let_probe(topic)
            elif not self._lanes.probing(topic):
                self._breaker.lose_probe(topic, now)
        for topic in self._shut.difference(shut):
            self._open(topic)

    def wake_at(self) -> float | None:
        """When `tend` will have something to do (monotonic), apart from what ends meanwhile; None: never."""
        return self._breaker.wake_at(self._clock.monotonic())

    def paused(self, kafka_topic: str) -> bool:
        """Whether fetching a log should pause: its topic is held, and a probe is there. What goes on coming would fill the buffer
        that all topics share."""
        topic = self._logs.get(kafka_topic)
        if topic is None or topic not in self._shut:
            return False
        return self._lanes.aside(topic) > 0 or (topic in self._unreadable and not self._lanes.awaits_probe(topic))

    def _close(self, topic: str) -> None:
        if topic not in self._shut:
            self._shut.add(topic)
            self._lanes.close_topic(topic)

    def _open(self, topic: str) -> None:
        self._shut.discard(topic)
        self._lanes.open_topic(topic)
        for record, error in self._unreadable.pop(topic, ()):
            if not record.home.revoked:
                self._bury(record, error)

    # ── the ledger ──────────────────────────────────────────────────────────────────────────────────────────────────
    def sync_due(self) -> bool:
        """Whether it's time for `sync`: every few seconds, and at once when a topic opens or closes."""
        return not self._syncing and self._clock.monotonic() >= self._sync_at

    async def sync(self) -> None:
        """Tells the ledger what is open and takes the operators' words. A ledger that can't be asked is said and borne: the breaker
        goes on by itself."""
        self._syncing = True
        self._sync_at = self._clock.monotonic() + _SYNC_SECONDS
        # Put together here: the question is asked on the ledger's thread, where nothing of this may be read.
        reports, now, told = self._reports(), self._clock.time(), self._said

        def talk(ledger: Ledger) -> dict[str, breakers.Override]:
            if reports or told:
                ledger.breakers.say(self._group, self._owner, reports, now)
            return ledger.breakers.overrides(self._group, now)

        self._said = told or bool(reports)
        try:
            self._obey(await self._ask(talk))
            self._said = bool(reports)
        except LedgerError as error:
            _log.warning("the ledger couldn't be told of the flood breakers, nor asked for the operators' word", error=str(error))
        finally:
            self._syncing = False

    async def close(self) -> None:
        """Takes this worker's reports back: it holds nothing any more."""
        if self._said:
            await self._ask(lambda ledger: ledger.breakers.say(self._group, self._owner, [], self._clock.time()))

    def _reports(self) -> list[breakers.Report]:
        trips = self._breaker.trips()
        ahead = self._clock.time() - self._clock.monotonic()
        self._examples = {(t.topic, t.group): self._examples.get((t.topic, t.group), ("", "")) for t in trips}
        return [breakers.Report(t.topic, t.group, t.state.value, t.since + ahead, None if isinf(t.until) else t.until + ahead,
                                t.failures, t.shops, *self._examples[t.topic, t.group]) for t in trips]  # fmt: skip

    def _obey(self, words: dict[str, breakers.Override]) -> None:
        ahead = self._clock.time() - self._clock.monotonic()
        for topic in self._words.keys() - words.keys():
            self._breaker.override(topic, None)
            _log.info("an operator's word on the topic is over", topic=topic)
        for topic, word in words.items():
            if word == self._words.get(topic):
                continue
            until = inf if word.until is None else word.until - ahead
            self._breaker.override(topic, Override(Force(word.state), until))
            if word.state == Force.OPEN:
                self._shut.add(topic)
                self._lanes.close_topic(topic)
            _log.info("an operator holds the topic" if word.state == Force.OPEN else "an operator lets the topic through", topic=topic,
                      who=word.who, why=word.reason)  # fmt: skip
        if words != self._words:
            # What a word has opened or closed is to be told at once.
            self._sync_at = self._clock.monotonic()
        self._words = words
        self.tend()


def _votes(task: Task) -> bool:
    # Tries that have ended, without the quick ones of this delivery: this one alone.
    return task.rank is not Rank.REPLAY and task.attempts - task.quick <= 1
