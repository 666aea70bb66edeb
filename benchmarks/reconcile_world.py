"""A shop on a clock that only jumps: its changes, what becomes of their webhooks, its Admin API with its faults, and the tape.

Hours pass in seconds and a seed gives the same hours again. The shop and its Admin API are the local shop's own, without sockets; what is
missing is judged from outside, by what the shop changed and what was delivered, never by what a reconciler says of itself.
"""

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from hooktape.local.shop.admin import SCOPES, Admin, Request
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.faults import Fate, Verdict, struck
from hooktape.local.shop.model import DELETING, Change, Mix, Shop
from hooktape.reconciler.client import Answer
from hooktape.schemas import resources
from hooktape.schemas.event import Event
from hooktape.times import micros, parse_time

SHOP = "one.myshopify.com"
BEGAN = 1_770_000_000
SECOND = 1_000_000
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
ANSWERING = 0.5
"""Seconds that each answer of the Admin API takes: the shop goes on meanwhile."""


@dataclass(frozen=True)
class Weather:
    """What goes wrong, and how often: shares of webhooks, and bounds in seconds from which each hour draws anew.

    A late webhook comes within `late_by`; any other within `prompt`. `edits`: of a page's rows while it's read.
    """

    drop: float = 0.01
    double: float = 0.01
    late: float = 0.1
    late_by: float = 4 * HOUR
    prompt: float = 5.0
    lag: float = 30 * MINUTE
    edits: int = 2
    omission: float = 0.02
    inclusive: bool = True


CALM = Weather(drop=0.0, double=0.0, late=0.0, lag=0.0, edits=0, omission=0.0, inclusive=False)


@dataclass(slots=True)
class Webhook:
    """A change, when it happened, and when its copies came (epoch seconds)."""

    change: Change
    at: float
    came: list[float] = field(default_factory=list)


class Telling(NamedTuple):
    """What a reconciler tells of at `at` (epoch seconds) as missed: a state by its version (microseconds; None: a deletion), or, where
    `topic` is set, a step."""

    at: float
    resource: str
    version: int | None
    topic: str = ""


class Verdicts(NamedTuple):
    """By the shop's own truth. `to_find`: newest states and deletions that no webhook told of; `missed`: of these, by the reconciler
    neither; `false`: told of although the webhook came, early or late, or of what never was; `doubled`: told twice; `delays`: seconds
    from a change to the telling, of those that were rightly told."""

    to_find: set[str]
    missed: set[str]
    false: list[Telling]
    doubled: list[Telling]
    delays: list[float]


class World:
    """`now` in epoch seconds. `hours` of changes, `rate` an hour, at moments that the seed draws; then quiet.

    Whoever looks for what's missing asks through `ask`, and reads `tape`. `delivered` is called with each webhook that arrives.
    """

    def __init__(self, seed: int, weather: Weather, hours: float, rate: float, mix: Mix = DELETING, ties: float = 0.0) -> None:
        self.seed, self.weather, self.hours, self.now = seed, weather, hours, float(BEGAN)
        self.shop = Shop(SHOP, seed, lambda: self.now, mix, ties)
        self.admin = Admin(self.shop, "token", Plan("wide", 1e9, 1e9), scopes=SCOPES)
        self.truth: list[Webhook] = []
        self.tape: list[tuple[float, Event]] = []
        self.asked = 0
        self.delivered: Callable[[Event], None] = lambda event: None
        self._rng = Random(f"{seed}/world")
        self._ahead: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._begin(rate)

    @property
    def quiet_from(self) -> float:
        """When the last change has happened (epoch seconds)."""
        return BEGAN + self.hours * HOUR

    def _begin(self, rate: float) -> None:
        incidents, weather = self.admin.incidents, self.weather
        for name, share in (("webhook_drop", weather.drop), ("webhook_double", weather.double), ("sort_omission", weather.omission)):
            if share:
                incidents.start(name, share=share)
        if weather.late:
            incidents.start("webhook_delay", share=weather.late, low=0.0, high=weather.late_by)
        for hour in range(round(self.hours) + 48):
            self._at(BEGAN + hour * HOUR, self._hour)
        moment = float(BEGAN)
        while (moment := moment + self._rng.expovariate(rate / HOUR)) < self.quiet_from:
            self._at(moment, self._change)

    def _hour(self) -> None:
        incidents, rng = self.admin.incidents, self._rng
        if self.weather.lag:
            incidents.start("search_lag", seconds=rng.uniform(0, self.weather.lag))
        # A quarter of the hours: what is changed by being looked at is looked at again, and every pass would make work for the next.
        if rng.random() < 0.25 and self.weather.edits and self.now < self.quiet_from:
            incidents.start("edits_while_paging", edits=self.weather.edits)
        else:
            incidents.stop("edits_while_paging")
        if rng.random() < 0.5 and self.weather.inclusive:
            incidents.start("greater_is_at_least")
        else:
            incidents.stop("greater_is_at_least")

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def advance(self, until: float) -> None:
        """Lets everything happen that happens by then."""
        while self._ahead and self._ahead[0][0] <= until:
            moment, _, happens = heapq.heappop(self._ahead)
            self.now = max(self.now, moment)
            happens()
        self.now = max(self.now, until)

    def _at(self, moment: float, happens: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._ahead, (moment, self._number, happens))

    # ── the shop ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _change(self) -> None:
        self.send(self.shop.change(self.now))
        while self.shop.untold:
            self.send(self.shop.change(self.now))

    def send(self, change: Change) -> None:
        """Sets a webhook on its way, if it isn't lost."""
        webhook = Webhook(change, self.now)
        self.truth.append(webhook)
        verdict = struck(Verdict(), change.topic, self.admin.incidents)
        if verdict.fate is Fate.DROPPED:
            return
        delay = verdict.delay or self._rng.uniform(0.1, self.weather.prompt)
        for _ in range(2 if verdict.fate is Fate.DOUBLED else 1):
            self._at(self.now + delay, lambda: self.arrive(webhook))

    def arrive(self, webhook: Webhook) -> None:
        """A copy comes and is recorded."""
        webhook.came.append(self.now)
        event = event_of(webhook.change, self.now)
        self.record(event)
        self.delivered(event)

    def record(self, event: Event) -> None:
        """Puts an event on the tape."""
        self.tape.append((self.now, event))

    def tape_since(self, us: int) -> Iterable[Event]:
        """The records appended at or after (microseconds)."""
        return (event for _, event in self.tape[bisect_left(self.tape, us / SECOND, key=lambda entry: entry[0]) :])

    # ── the Admin API ───────────────────────────────────────────────────────────────────────────────────────────────
    async def ask(self, query: str, variables: dict[str, Any], points: int = 0) -> Answer:
        """An answer, and the time that it takes."""
        self.asked += 1
        self.advance(self.now + ANSWERING)
        answer = self.admin.execute(Request(query, variables))
        while self.admin.edited:
            self.send(self.admin.edited.pop(0))
        if "errors" in answer:
            raise AssertionError(answer["errors"])
        return Answer(answer["data"], int(self.now) * SECOND, 0)

    # ── the verdict ─────────────────────────────────────────────────────────────────────────────────────────────────
    def judge(self, tellings: Iterable[Telling]) -> Verdicts:
        """Compares what was told with what happened."""
        tellings = list(tellings)
        last: dict[str, Webhook] = {webhook.change.resource: webhook for webhook in self.truth}
        told = [w for w in self.truth if w.came]
        states = {(w.change.resource, None if w.change.deleted else w.change.version) for w in told}
        steps = {(w.change.resource, w.change.topic) for w in told}
        began: dict[tuple[str, int | str | None], float] = {}
        for webhook in self.truth:
            change = webhook.change
            began.setdefault((change.resource, None if change.deleted else change.version), webhook.at)
            began.setdefault((change.resource, change.topic), webhook.at)
        to_find = {name for name, webhook in last.items()
                   if (name, None if webhook.change.deleted else webhook.change.version) not in states}  # fmt: skip
        newest: dict[str, float] = {}
        for telling in tellings:
            newest[telling.resource] = max(newest.get(telling.resource, 0.0), float("inf") if telling.version is None else telling.version)
        missed = {name for name in to_find
                  if newest.get(name, 0.0) < (float("inf") if last[name].change.deleted else last[name].change.version or 0)}  # fmt: skip
        false, doubled, delays = list[Telling](), list[Telling](), list[float]()
        seen = set[tuple[str, int | str | None]]()
        for telling in tellings:
            key = (telling.resource, telling.topic or telling.version)
            if key in seen:
                doubled.append(telling)
            seen.add(key)
            if key not in began or (key in steps if telling.topic else key in states):
                false.append(telling)
            else:
                delays.append(telling.at - began[key])
        return Verdicts(to_find, missed, false, doubled, delays)


class Client:
    """What the reconciler asks through, in place of its own client over HTTP."""

    shop = SHOP

    def __init__(self, world: World) -> None:
        self.ask = world.ask


def event_of(change: Change, received: float) -> Event:
    """The record that ingest makes of a webhook."""
    found = resources.find(change.topic, change.body)
    return Event(
        webhook_id=change.webhook_id, shop=SHOP, topic=change.topic, payload=change.body, received_us=round(received * SECOND),
        event_id=change.event_id, api_version=change.api_version, resource=found.name, resource_root=found.root,
        version_us=found.version, triggered_us=micros(parse_time(change.triggered_at)), hmac="signed", secret_id="0",
    )  # fmt: skip
