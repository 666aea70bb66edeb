"""Tokens of the shared budgets in one process: granted by the ledger in small batches, spent before a handler starts. Pure.

    wait ─┬─ tokens at hand ────────────────────────────────▶ 0: start
          ├─ tokens promised for later: reserved ───────────▶ park until then, once
          └─ none: noted as wanted ─▶ the ledger is asked ──▶ park for a moment, ask again

An event that waits holds no slot: its lane is parked until the moment that its tokens are there. Tokens that nobody has spent a
second after they were there go back: however many processes hold some, all of them together start at most what the
bucket holds, plus a second of what comes back. `now` is seconds of any clock that doesn't run backwards.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from hooktape.ledger.bucket import KEEP, Grant

# How far ahead tokens are promised, in seconds: a worker that dies takes this much of the shop's pace with it, no more.
WITHIN = 2.0
# The most that is asked for beyond what's wanted, in seconds of the bucket's rate. Half a second: two asks a second under load.
_AHEAD = 0.5
# A ledger answers in milliseconds; asking again sooner would only cost.
_SOON, _LATEST = 0.02, KEEP / 2
# Sums of fractions of tokens differ by less.
_TINY = 1e-6


@dataclass(slots=True)
class _Part:
    """One grant, taken at `base`; `used` of its tokens are spent, reserved or given back."""

    grant: Grant
    base: float
    used: float = 0.0

    @property
    def spent(self) -> bool:
        return self.used >= self.grant.tokens - _TINY

    def lapsed(self, now: float) -> float:
        """How many of its tokens have been there for longer than they may be kept."""
        over = now - KEEP - self.base - self.grant.start
        if over < 0:
            return 0.0
        return min(self.grant.tokens, max(0.0, self.grant.level) + over * self.grant.rate)


@dataclass(frozen=True, slots=True)
class Ask:
    """What to ask the ledger for a shop: `tokens` to take, of which fewer than `least` are of no use, and `back` to put back."""

    shop: str
    tokens: float
    least: float
    back: float


class Purse:
    """One shop's tokens in this process, and its events that wait for some, first come, first served."""

    def __init__(self, shop: str) -> None:
        self.back = 0.0
        """To be put back; below zero: used without having been taken."""
        self._shop = shop
        self._wanted: dict[Hashable, float] = {}
        self._asked: dict[Hashable, float] = {}
        self._asking = False
        self._parts: deque[_Part] = deque()
        self._rate = self._spent = self._asked_at = self._again = 0.0

    def spend(self, event: Hashable, cost: float, now: float) -> float | None:
        """The moment when `cost` tokens are there, which are the event's now; None: there aren't enough, and they're wanted."""
        if event in self._asked:
            return None
        self.expire(now)
        # What is left over isn't for those who come later, while others wait.
        if self._asked or self._wanted or self._left() < cost:
            self._wanted[event] = cost
            return None
        return self._take(cost, now)

    def patience(self, now: float) -> float:
        """Seconds until trying again makes sense, when `spend` had nothing: longer, the longer the ledger hasn't answered."""
        if self._asking:
            return min(max(_SOON, now - self._asked_at), _LATEST)
        return max(_SOON, self._again - now)

    def ask(self, now: float) -> Ask | None:
        """What to ask the ledger; None: nothing, or not yet. `granted` or `refused` answers it."""
        self.expire(now)
        due = bool(self._wanted) and now >= self._again
        if self._asking or not (self.back or due):
            return None
        tokens = least = 0.0
        if due:
            # As much again as was spent lately: a shop with a steady stream asks twice a second, not once for each event.
            lately = self._spent if now - self._asked_at < 2 * KEEP else 0.0
            least = next(iter(self._wanted.values()))
            tokens = sum(self._wanted.values()) + min(lately, self._rate * _AHEAD)
            self._asked, self._wanted = self._wanted, {}
            self._spent, self._asked_at = 0.0, now
        back, self.back, self._asking = self.back, 0.0, True
        return Ask(self._shop, tokens, least, back)

    def granted(self, grant: Grant, now: float) -> list[tuple[Hashable, float, float]]:
        """The ledger's answer to `ask`: (event, moment, cost) for each that has its tokens now."""
        self._asking, self._rate, self._again = False, grant.rate, now + grant.again
        if grant.tokens > 0:
            self._parts.append(_Part(grant, now))
        served = []
        for event, cost in self._asked.items():
            if self._left() < cost:
                break
            served.append((event, self._take(cost, now), cost))
        # The others come back by themselves, in the order in which they were parked.
        self._asked = {}
        return served

    def refused(self, back: float) -> None:
        """The ledger couldn't be reached: nothing was taken, and `back` is still to be put back."""
        self._asking, self._wanted, self._asked = False, {**self._asked, **self._wanted}, {}
        self.back += back

    def expire(self, now: float) -> None:
        """Puts by for the ledger what has been kept too long."""
        for part in list(self._parts):
            lapsed = part.lapsed(now)
            if lapsed > part.used:
                self.back += lapsed - part.used
                part.used = lapsed
            if part.spent:
                self._parts.remove(part)

    @property
    def idle(self) -> bool:
        """Whether there's nothing in it."""
        return not (self._parts or self.back or self._wanted or self._asking)

    def _left(self) -> float:
        return sum(part.grant.tokens - part.used for part in self._parts) + _TINY

    def _take(self, cost: float, now: float) -> float:
        moment, missing = now, cost
        while missing > _TINY and self._parts:
            part = self._parts[0]
            taken = min(missing, part.grant.tokens - part.used)
            part.used += taken
            missing -= taken
            moment = max(moment, part.base + part.grant.wait(part.used))
            if part.spent:
                self._parts.popleft()
        self._spent += cost
        return moment


class Purses:
    """All shops' tokens in this process, and the reservations of events that wait for theirs."""

    def __init__(self) -> None:
        self._purses: dict[str, Purse] = {}
        self._reserved: dict[Hashable, tuple[str, float, float]] = {}

    def wait(self, event: Hashable, shop: str, cost: float, now: float) -> float:
        """0.0: `cost` tokens are spent, start. Otherwise the seconds to park the event before asking again. `event` names it."""
        if (reserved := self._reserved.get(event)) is not None:
            _, moment, tokens = reserved
            if moment > now:
                return moment - now
            del self._reserved[event]
            if now - moment <= KEEP:
                return 0.0
            # It got no slot in time. Spending them now would be a burst on top of what others were promised meanwhile.
            self.settle(shop, tokens)
        purse = self._purse(shop)
        due = purse.spend(event, cost, now)
        if due is None:
            return purse.patience(now)
        if due <= now:
            return 0.0
        self._reserved[event] = shop, due, cost
        return due - now

    def settle(self, shop: str, tokens: float) -> None:
        """Tokens that a handler took and didn't need; below zero: used beyond what it took."""
        if tokens:
            self._purse(shop).back += tokens

    def asks(self, now: float) -> list[Ask]:
        """What to ask the ledger now; `granted` or `refused` answers each."""
        return [ask for purse in self._purses.values() if (ask := purse.ask(now)) is not None]

    def granted(self, ask: Ask, grant: Grant, now: float) -> None:
        """What the ledger promised."""
        for event, moment, cost in self._purses[ask.shop].granted(grant, now):
            self._reserved[event] = ask.shop, moment, cost

    def refused(self, ask: Ask) -> None:
        """The ledger couldn't be reached."""
        self._purses[ask.shop].refused(ask.back)

    def sweep(self, now: float) -> None:
        """Puts by what nobody came back for, and forgets shops that have nothing; to be called every second or so."""
        for event, (shop, moment, tokens) in list(self._reserved.items()):
            if now - moment > KEEP:
                del self._reserved[event]
                self.settle(shop, tokens)
        for shop, purse in list(self._purses.items()):
            purse.expire(now)
            if purse.idle:
                del self._purses[shop]

    def _purse(self, shop: str) -> Purse:
        purse = self._purses.get(shop)
        if purse is None:
            purse = self._purses[shop] = Purse(shop)
        return purse


@dataclass(frozen=True, slots=True)
class Spent:
    """What Shopify said of one event's calls: points charged, and its bucket after the last of them (None: it didn't say)."""

    points: float
    status: tuple[float, float, float] | None
    """Available, restored per second, maximum."""


def spent(costs: Sequence[Any]) -> Spent | None:
    """Reads `extensions.cost` of GraphQL answers; None when none of them can be read. What a handler passes on is never trusted."""
    points, status, read = 0.0, None, False
    for cost in costs:
        try:
            charged = cost.get("actualQueryCost")
            points += _points(cost["requestedQueryCost"] if charged is None else charged)
            read = True
            if throttle := cost.get("throttleStatus"):
                status = (_points(throttle["currentlyAvailable"]), _points(throttle["restoreRate"]), _points(throttle["maximumAvailable"]))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            continue
    return Spent(points, status) if read else None


def _points(value: Any) -> float:
    if not 0 <= (points := float(value)) < inf:
        raise ValueError("no number of points")
    return points
