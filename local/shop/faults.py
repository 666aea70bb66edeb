"""What goes wrong on the way, by percentage, and who suffers it. Pure and seeded: one seed, one list of fates.

`Faults` are planned when changes are asked for; `struck` adds what the table of incidents has on when a webhook leaves.
"""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from hooktape.errors import UsageError
from hooktape.local.shop.incidents import Incidents


class Fate(StrEnum):
    """What was planned for a change's webhook."""

    ON_TIME = "on_time"
    DROPPED = "dropped"
    """Never sent, as when Shopify loses it: only the Admin API shows the change."""
    DOUBLED = "doubled"
    """Two copies at the very same instant, on two connections (nozzlegear/ShopifySharp#919)."""
    LATE = "late"
    """Sent after a delay."""
    OUT_OF_ORDER = "out_of_order"
    """Sent after the next change of the same resource was answered."""
    UNSUBSCRIBED = "unsubscribed"
    """Never sent, as no subscription wants it (any more)."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares from 0 to 1, of which no change suffers two; `late_by` is the range of the delay in seconds.

    Raises UsageError when the shares are no shares, or together more than 1.
    """

    dropped: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    out_of_order: float = 0.0
    late_by: tuple[float, float] = (1.0, 5.0)

    def __post_init__(self) -> None:
        shares = [share for _, share in self.shares]
        if min(shares) < 0 or sum(shares) > 1:
            raise UsageError(f"faults are shares from 0 to 1, together at most 1; these are {shares}.")
        if not 0 <= self.late_by[0] <= self.late_by[1]:
            raise UsageError(f"late_by is a range of seconds, the smaller first; this is {self.late_by}.")

    @property
    def shares(self) -> tuple[tuple[Fate, float], ...]:
        return ((Fate.DROPPED, self.dropped), (Fate.DOUBLED, self.doubled), (Fate.LATE, self.late),
                (Fate.OUT_OF_ORDER, self.out_of_order))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """One change's fate; `delay` in seconds when late; `swaps_with`: places back to the change that it overtakes."""

    fate: Fate = Fate.ON_TIME
    delay: float = 0.0
    swaps_with: int | None = None


def plan(faults: Faults, rng: Random, changes: int, gap: int) -> list[Verdict]:
    """A verdict for each of the next `changes` changes.

    A change out of order is overtaken by one at least `gap` places on, which is then made a change of the same resource
    and goes out on time: far enough on to have a later `updated_at`. Near the end, where none is left to overtake it, it
    is itself the one that overtakes.
    """
    verdicts = [_judge(faults, rng) for _ in range(changes)]
    plain = Verdict()
    for place in [place for place, verdict in enumerate(verdicts) if verdict.fate is Fate.OUT_OF_ORDER]:
        later = next((at for at in range(place + gap, changes) if verdicts[at] == plain), None)
        if later is not None:
            verdicts[later] = Verdict(swaps_with=later - place)
            continue
        earlier = next((at for at in range(place - gap, -1, -1) if verdicts[at] == plain), None)
        verdicts[place] = plain
        if earlier is not None:
            verdicts[earlier], verdicts[place] = Verdict(Fate.OUT_OF_ORDER), Verdict(swaps_with=place - earlier)
    return verdicts


def struck(verdict: Verdict, topic: str, incidents: Incidents) -> Verdict:
    """The verdict on a webhook of this topic, with what is going wrong now; whoever has a fate already keeps it."""
    if verdict != Verdict():
        return verdict
    for name, fate in (("webhook_drop", Fate.DROPPED), ("webhook_double", Fate.DOUBLED), ("webhook_delay", Fate.LATE)):
        on = incidents.on(name)
        if on and (not on["topics"] or topic in on["topics"]) and incidents.strikes(name):
            return Verdict(fate, incidents.rng(name).uniform(on["low"], on["high"]) if fate is Fate.LATE else 0.0)
    return verdict


def _judge(faults: Faults, rng: Random) -> Verdict:
    # Two draws whatever comes out: the n-th change meets the same draws under any shares.
    draw, delay = rng.random(), rng.uniform(*faults.late_by)
    for fate, share in faults.shares:
        if draw < share:
            return Verdict(fate, delay if fate is Fate.LATE else 0.0)
        draw -= share
    return Verdict()
