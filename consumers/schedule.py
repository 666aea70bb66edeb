"""What happens next to an event that failed: again in its lane, later by a retry topic, or dead. Pure; chance is passed in."""

from collections.abc import Callable
from dataclasses import dataclass

from hooktape.consumers.classify import FINAL, Cause, Disposition

Chance = Callable[[], float]
"""A number in [0, 1): `random.random`, or a test's."""

# Longest pauses of the quick tries, in seconds; full jitter takes a part of each. Together under 5 s: that long the lane waits.
QUICK_PAUSES = (0.4, 1.2, 3.0)
# A pause that the other side asks for up to this long is sat out in the lane: Shopify's own Retry-After is mostly 2.0 s.
QUICK_AFTER = 5.0
# Retry topics only ever wait longer, never shorter, than their name; a tenth spreads what failed at one instant.
_JITTER = 0.1
LONGEST = 1 + _JITTER
"""A retry topic's records are due after at most so many of its delays."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again in the lane, after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Later:
    """Hand over to the retry topic of `delay` seconds; not before `due` (epoch seconds)."""

    delay: float
    due: float
    disposition: Disposition


@dataclass(frozen=True, slots=True)
class Dead:
    """Hand over to the dead-letter topic."""

    disposition: Disposition


Next = Again | Later | Dead


@dataclass(frozen=True, slots=True)
class Schedule:
    """`delays` are the retry topics' in seconds, ascending; `quick` is how often an event is tried again in its lane first."""

    delays: tuple[float, ...]
    quick: int = 2

    def next(self, cause: Cause, *, attempts: int, most: int, quick: int, previous: float | None, now: float,
             chance: Chance) -> Next:  # fmt: skip
        """What to do after the try number `attempts` of at most `most`.

        `quick`: quick tries already made since the event was fetched. `previous`: the delay of the retry topic that it came
        by, None for the log. Quick tries are made only the first time: whatever lasts longer is for the topics.
        """
        if cause.untried:
            return Again(cause.after or 0.0)
        if cause.disposition in FINAL:
            return Dead(cause.disposition)
        if attempts >= most:
            return Dead(Disposition.EXHAUSTED)
        if previous is None and quick < min(self.quick, len(QUICK_PAUSES)) and self._worth_a_quick_try(cause):
            pause = QUICK_PAUSES[quick] * chance()
            # With an answer's own pause, jitter comes on top: all who heard it would come back at once.
            return Again(pause if cause.after is None else cause.after + min(pause, 1.0))
        delay = self._delay(previous, cause.after)
        # The delay, even where a longer pause was asked for (there's no longer topic): a head that waits longer holds up the rest.
        return Later(delay, now + delay * (1 + _JITTER * chance()), cause.disposition)

    @staticmethod
    def _worth_a_quick_try(cause: Cause) -> bool:
        if cause.after is not None:
            return cause.after <= QUICK_AFTER
        return cause.disposition is Disposition.TRANSIENT

    def _delay(self, previous: float | None, after: float | None) -> float:
        """The next longer topic, or the first that covers `after`; the longest where there's none."""
        least = max(after or 0.0, 0.0)
        for delay in self.delays:
            if (previous is None or delay > previous) and delay >= least:
                return delay
        return self.delays[-1]
