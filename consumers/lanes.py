"""Who runs next: one FIFO per key with one event in flight, limits per handler, its shops and the process, shares per rank.

    add ──▶ waiting ──the one before ended──▶ ready ──start──▶ running ──end──▶ (gone; the next of the lane is ready)
                                               ▲ ▲ ▲             │
                                               │ │ └─ aside ◀────┤ start, but its topic is closed; or put_aside
                                               │ └── cooled ◀────┤ start, but the handler's shop is cooling
                                               └──── parked ◀────┤ postpone(until): keeps the lane, frees the slot
                                                                 └─ hold ──▶ held ──release──▶ (gone)

Pure: `now` comes in, tasks come out. Any clock that doesn't run backwards will do.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Hashable
from math import inf

from hooktape.consumers.shops import Places, Turns
from hooktape.consumers.task import Bounds, Rank, Task

# Starts per round when every rank has work. Live goes first, and a replay of millions still moves.
_SHARES = {Rank.LIVE: 16, Rank.RETRY: 4, Rank.REPLAY: 1}
# What cools longer than this belongs in a retry topic: cooling events fill the bounded buffer and would stop everyone's intake.
LONGEST_COOLING = 60.0


class Shares:
    """Takes turns by weight: the lowest rank first, each as often as its share in a round, nobody never."""

    def __init__(self) -> None:
        self._credit = dict(_SHARES)
        self._order = tuple(Rank)

    def order(self) -> tuple[Rank, ...]:
        """Ranks to try, best first: those with credit, then the spent ones (used only where no other has work)."""
        return self._order

    def spend(self, rank: Rank) -> None:
        """Records a start. Taking from a spent rank means that the others had nothing: a new round begins."""
        left = self._credit[rank]
        if left > 1:
            self._credit[rank] = left - 1
            return
        if left == 1:
            self._credit[rank] = 0
        else:
            self._credit = {**_SHARES, rank: _SHARES[rank] - 1}
        self._order = tuple(sorted(Rank, key=lambda r: (self._credit[r] == 0, r)))


class Lanes:
    """All events that wait or run in a process. At most `limit` run at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.ready = 0
        """Events that could start if a slot were free (some of them may be cooling, or of a shop that has all it may)."""
        self.seized = 0
        """Slots taken by threads whose event has ended otherwise."""
        self.held = 0
        """Events on their way to a retry or dead-letter topic."""
        self._shares = Shares()
        self._waiting: dict[Hashable, deque[Task]] = {}
        self._ready: dict[Rank, dict[Bounds, Turns]] = {rank: {} for rank in Rank}
        self._places: dict[Bounds, Places] = {}
        self._parked: list[tuple[float, int, Task]] = []
        self._cooling: dict[tuple[Bounds, str], float] = {}
        self._aside: dict[str, deque[Task]] = {}
        self._wanted: set[str] = set()
        self._probes: dict[str, Task] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return self.running + self.ready + self.held + len(self._parked) + sum(map(len, self._waiting.values())) + self.aside()

    def add(self, task: Task) -> None:
        """Queues an event behind all of its key that came before."""
        if task.lane is not None:
            waiting = self._waiting.get(task.lane)
            if waiting is not None:
                waiting.append(task)
                return
            self._waiting[task.lane] = deque()
        self._make_ready(task)

    def start(self, now: float) -> Task | None:
        """The next event to run, which now counts as running; None when nothing may start."""
        self._wake(now)
        if self.running + self.seized >= self.limit or not self.ready:
            return None
        for rank in self._shares.order():
            task = self._pick(rank, now)
            if task is not None:
                self._shares.spend(rank)
                self.running += 1
                self._places[task.handler].enter(task.event.shop)
                return task
        return None

    def end(self, task: Task) -> None:
        """A running event has ended: its slot and its lane are free."""
        self._vacate(task)
        self._free_lane(task)

    def hold(self, task: Task) -> None:
        """A running event is on its way elsewhere: its slot is free, its lane isn't until `release`."""
        self._vacate(task)
        self.held += 1

    def release(self, task: Task) -> None:
        """A held event has arrived elsewhere: its lane is free."""
        self.held -= 1
        self._free_lane(task)

    def postpone(self, task: Task, until: float) -> None:
        """A running event waits until `until` at the head of its lane, without its slot."""
        self._vacate(task)
        self._park(task, until)

    def seize(self, handler: Bounds) -> None:
        """Takes a slot for what isn't an event of ours any more: a thread that outlives its time-out."""
        self.seized += 1
        self._places[handler].running += 1

    def give_back(self, handler: Bounds) -> None:
        """A seized slot is free."""
        self.seized -= 1
        self._places[handler].running -= 1

    def cool(self, handler: Bounds, scope: str, now: float, seconds: float) -> None:
        """Nothing of `scope` (a shop; "" is everything of the handler) starts before `now + seconds`, at most a minute."""
        until = now + min(seconds, LONGEST_COOLING)
        self._cooling[handler, scope] = max(until, self._cooling.get((handler, scope), 0.0))

    def close_topic(self, topic: str) -> None:
        """Events of a Shopify topic that would start are put aside instead, with their lanes, until it's opened. No probe is let
        through any more; what runs isn't touched."""
        self._aside.setdefault(topic, deque())
        self._wanted.discard(topic)
        self._probes.pop(topic, None)

    def open_topic(self, topic: str) -> None:
        """What was put aside is ready again, the first first; nothing happens to a topic that is open."""
        for task in self._aside.pop(topic, ()):
            self._make_ready(task)
        self._wanted.discard(topic)
        self._probes.pop(topic, None)

    def let_probe(self, topic: str) -> None:
        """Of a closed topic, the next event starts: the first put aside of the best rank, or else the first to come."""
        aside = self._aside.get(topic)
        if aside is None or topic in self._wanted or topic in self._probes:
            return
        if not aside:
            self._wanted.add(topic)
            return
        # One that failed before goes behind all others: were it first each time, one bad event could keep its topic closed.
        task = self._probes[topic] = min(aside, key=lambda task: task.rank)
        aside.remove(task)
        self._make_ready(task)

    def is_probe(self, task: Task) -> bool:
        """Whether an event was let through a closed topic."""
        return self._probes.get(task.event.topic) is task

    def probing(self, topic: str) -> bool:
        """Whether an event of a closed topic has been let through, or the next to come will be."""
        return topic in self._wanted or topic in self._probes

    def awaits_probe(self, topic: str) -> bool:
        """Whether the next event of a closed topic to come would be let through."""
        return topic in self._wanted

    def put_aside(self, task: Task) -> None:
        """A running event waits at the head of its lane until its topic is opened, without its slot."""
        self._vacate(task)
        self._drop_probe(task)
        aside = self._aside.get(task.event.topic)
        if aside is None:
            self._make_ready(task)
        else:
            aside.append(task)
            # Whoever waits for the next to come may wait for ever: with something aside, nothing of the topic is fetched.
            self._wanted.discard(task.event.topic)

    def aside(self, topic: str | None = None) -> int:
        """Events put aside, of a topic or of all. Their lanes' later events aren't counted."""
        return sum(map(len, self._aside.values())) if topic is None else len(self._aside.get(topic, ()))

    def wake_at(self) -> float | None:
        """When `start` may have something that it hasn't now, apart from what ends and is added; None: never."""
        return self._parked[0][0] if self._parked else None

    def drop_abandoned(self) -> list[Task]:
        """Forgets the events that are another worker's now and haven't begun; which they are."""
        dropped: list[Task] = []
        for waiting in self._waiting.values():
            if any(task.abandoned for task in waiting):
                dropped += [task for task in waiting if task.abandoned]
                kept = [task for task in waiting if not task.abandoned]
                waiting.clear()
                waiting.extend(kept)
        self._parked, parked = [], self._parked
        for entry in parked:
            if entry[2].abandoned:
                dropped.append(entry[2])
                self._free_lane(entry[2])
            else:
                heapq.heappush(self._parked, entry)
        for queues in self._ready.values():
            for turns in list(queues.values()):
                for task in [task for task in turns if task.abandoned]:
                    turns.remove(task)
                    self.ready -= 1
                    dropped.append(task)
                    self._free_lane(task)
        for topic, aside in self._aside.items():
            self._aside[topic] = deque(task for task in aside if not task.abandoned)
            for task in aside:
                if task.abandoned:
                    dropped.append(task)
                    self._free_lane(task)
        return dropped

    def _pick(self, rank: Rank, now: float) -> Task | None:
        queues = self._ready[rank]
        for handler in list(queues):
            turns, places = queues[handler], self._places[handler]
            if places.running >= handler.concurrency:
                continue
            while (task := turns.take(places.full)) is not None:
                self.ready -= 1
                if self._aside and self._kept_aside(task):
                    continue
                until = self._cool_until(task, now) if self._cooling else 0.0
                if until > now:
                    self._park(task, until)
                    continue
                # The handler goes to the back of the row: of two busy ones, each gets its turn.
                queues[handler] = queues.pop(handler)
                return task
        return None

    def _cool_until(self, task: Task, now: float) -> float:
        until = 0.0
        for scope in ("", task.event.shop):
            moment = self._cooling.get((task.handler, scope), -inf)
            if moment > now:
                until = max(until, moment)
            elif moment != -inf:
                del self._cooling[task.handler, scope]
        return until

    def _kept_aside(self, task: Task) -> bool:
        topic = task.event.topic
        aside = self._aside.get(topic)
        if aside is None or self._probes.get(topic) is task:
            return False
        if topic in self._wanted:
            self._wanted.remove(topic)
            self._probes[topic] = task
            return False
        aside.append(task)
        return True

    def _drop_probe(self, task: Task) -> None:
        if self._probes and self.is_probe(task):
            del self._probes[task.event.topic]

    def _wake(self, now: float) -> None:
        while self._parked and self._parked[0][0] <= now:
            self._make_ready(heapq.heappop(self._parked)[2])

    def _make_ready(self, task: Task) -> None:
        turns = self._ready[task.rank].get(task.handler)
        if turns is None:
            turns = self._ready[task.rank][task.handler] = Turns()
            self._places.setdefault(task.handler, Places(task.handler))
        turns.add(task)
        self.ready += 1

    def _vacate(self, task: Task) -> None:
        self.running -= 1
        if self._places[task.handler].leave(task.event.shop):
            for queues in self._ready.values():
                if task.handler in queues:
                    queues[task.handler].readmit(task.event.shop)

    def _park(self, task: Task, until: float) -> None:
        heapq.heappush(self._parked, (until, next(self._numbers), task))

    def _free_lane(self, task: Task) -> None:
        self._drop_probe(task)
        if task.lane is None:
            return
        waiting = self._waiting[task.lane]
        if waiting:
            self._make_ready(waiting.popleft())
        else:
            del self._waiting[task.lane]
