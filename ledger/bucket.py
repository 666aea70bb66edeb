"""A token bucket that can promise tokens ahead of time. Pure: `now` is passed in, seconds of one clock.

The bucket is Shopify's own ("leaky bucket", shopify.dev: API limits): it holds `size` tokens at most and `rate` come back each
second. What is added is debt, as in Go's golang.org/x/time/rate (`Reserve`): a taker is promised tokens that aren't there yet and
told when they will be. So takers are served in the order in which they came, each asks once, and none sleeps while it holds a lock.

What it keeps to: of the tokens promised, at most `size + rate * t` fall due in any `t` seconds.
"""

from dataclasses import dataclass, replace

# Shopify's standard plan, the smallest: 2,000 points and 100 a second (FACTS; the sizes aren't published, answers show them).
STANDARD_SIZE, STANDARD_RATE = 2000.0, 100.0
# How long tokens may be kept before they're spent, in seconds. Whoever keeps them longer gives them back, or all could be spent
# in one instant. The bucket is smaller than Shopify's by what comes back in that time, and so never overdraws Shopify's.
KEEP = 1.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Tokens that were promised. The first `level` are there after `start` seconds, the others one by one, `rate` a second.

    `again`: where fewer were promised than asked for, the seconds after which asking again makes sense.
    """

    tokens: float
    level: float
    start: float
    rate: float
    again: float = 0.0

    def wait(self, count: float) -> float:
        """Seconds from the grant until the first `count` of its tokens are there."""
        return self.start + max(0.0, count - self.level) / self.rate


@dataclass(frozen=True, slots=True)
class Bucket:
    """`level` tokens at the instant `at` (below zero: promised ahead); an `at` to come means that nothing comes back before."""

    level: float
    at: float
    size: float = STANDARD_SIZE - STANDARD_RATE * KEEP
    rate: float = STANDARD_RATE

    @classmethod
    def full(cls) -> "Bucket":
        """That of a shop of which nothing is known: the smallest plan's, filled since any time."""
        new = cls(0.0, 0.0)
        return replace(new, level=new.size)

    def held(self, now: float) -> float:
        """Tokens that nobody has been promised, at `now`."""
        return min(self.size, self.level + max(0.0, now - self.at) * self.rate)

    def take(self, tokens: float, now: float, within: float, least: float = 0.0) -> "tuple[Bucket, Grant]":
        """Promises `tokens`, or as many of them as are there `within` seconds.

        `least`: with less the taker couldn't do anything. It gets that much, however long it takes, once others have been
        promised no more than falls due `within` seconds: else what is dear would wait for ever behind what is cheap.
        """
        held, start = self.held(now), max(0.0, self.at - now)
        room = held + max(0.0, within - start) * self.rate
        given = min(tokens, max(room, least)) if room > 0 else 0.0
        last = start + max(0.0, given - held) / self.rate
        again = max(0.0, last - within / 2) if given < tokens else 0.0
        return replace(self, level=held - given, at=max(now, self.at)), Grant(given, held, start, self.rate, again)

    def settle(self, tokens: float, now: float) -> "Bucket":
        """Tokens come back that were taken and not needed; below zero: more was used than taken."""
        return replace(self, level=min(self.size, self.held(now) + tokens), at=max(now, self.at))

    def report(self, available: float, rate: float, size: float, now: float) -> "Bucket":
        """What the other side said of its bucket: the `rate` and `size` are taken over, and its level where that's lower.

        Never where it's higher: what has been promised here and not spent yet is still in the other side's figure.
        """
        rate = rate if rate > 0 else self.rate
        size = max(size - rate * KEEP, rate * KEEP) if size > 0 else self.size
        return Bucket(min(self.held(now), available, size), max(now, self.at), size, rate)

    def drain(self, seconds: float, now: float) -> "Bucket":
        """The other side refused and asked for a pause: it's empty, and nothing comes back before `seconds` have gone."""
        return replace(self, level=min(self.held(now), 0.0), at=max(self.at, now + seconds))
