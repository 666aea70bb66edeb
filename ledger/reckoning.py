"""What became of the changes that Shopify shows: figures of one pass, and of many together, that add up. Pure.

A change is counted by several passes: their windows overlap, so that nothing falls between two. Together each is counted once, as
anew by the pass that moved the cursor beyond it, or by its end (late, recorded, gone), which comes once. What is pending is as the
last pass left it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from hooktape.times import iso

LOOKS = ("fast", "lookback")
"""Passes that compare states. A sweep only proposes deletions, and the next fast pass tells what became of them."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Every change that was looked at has exactly one outcome: `shown` is the sum of the others up to `untold`."""

    covered: int = 0
    """On the tape when it was compared."""
    late: int = 0
    """Looked missing before and came meanwhile."""
    pending: int = 0
    """Looks missing; may still come."""
    recorded: int = 0
    """Recorded as a synthetic event (in a dry run: would be)."""
    recorded_before: int = 0
    """An earlier pass recorded it and couldn't note so, or noted it and the tape no longer shows it: not recorded twice."""
    gone: int = 0
    """Not on the tape, and no longer shown by the API: deleted or hidden."""
    untold: int = 0
    """States that Shopify has no webhook for, or none that is wanted."""
    covered_anew: int = 0
    """Of the covered: those that no earlier pass has counted. None in a pass that leaves its window to the next."""
    untold_anew: int = 0
    """The same of the untold."""
    late_us_total: int = 0
    late_us_max: int = 0
    suspected: int = 0
    """Of the pending ones: for longer than prompt webhooks take."""
    late_after: int = 0
    """Webhooks that came after their synthetic event."""
    deleted: int = 0
    """Deletions recorded (in a dry run: that would be). Deletions aren't among `shown`."""
    doubted: int = 0
    """Perhaps deleted: to be looked at again."""
    held: int = 0
    """Deletions that wait for an operator: more than one pass may record."""
    alive: int = 0
    """Looked deleted, and are there."""

    @property
    def shown(self) -> int:
        """Changes that Shopify shows, each resource once."""
        return self.covered + self.late + self.pending + self.recorded + self.recorded_before + self.gone + self.untold

    @property
    def came(self) -> int:
        """Changes whose webhook is known to have come, each counted by one pass only."""
        return self.covered_anew + self.late

    @property
    def lacked(self) -> int:
        """Changes whose webhook never came."""
        return self.recorded + self.recorded_before

    def plus(self, other: "Tally") -> "Tally":
        """Both together, as of two looks at different things."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in self.__slots__}
        return Tally(**{**sums, "late_us_max": max(self.late_us_max, other.late_us_max)})

    def then(self, later: "Tally") -> "Tally":
        """What this pass and a later one over the same family found together: each change once, what is open as the later one left it."""
        both = self.plus(later)
        return replace(both, covered=both.covered_anew, untold=both.untold_anew,
                       **{name: getattr(later, name) for name in ("pending", "suspected", "doubted", "held")})  # fmt: skip


def share(came: int, lacked: int) -> float | None:
    """Coverage: of the changes whose webhook came or is known never to have come, the part that came. None: there are none."""
    return came / (came + lacked) if came + lacked else None


def streak(before: int, tally: Tally) -> int:
    """Passes in a row that recorded something, after one more. One that looked at nothing new says nothing either way."""
    return before + 1 if tally.recorded else 0 if tally.came else before


@dataclass(frozen=True, slots=True)
class Kept:
    """A pass over one family of one shop, as it's kept. `window` in microseconds, `ended_at` epoch seconds."""

    ended_at: float
    shop: str
    family: str
    kind: str
    """fast, lookback or sweep."""
    window: tuple[int, int] | None = None
    counted: int | None = None
    """What Shopify counts in the window; None: it doesn't say."""
    exact: bool = False
    """Shopify calls that count exact; otherwise it's an estimate."""
    tally: Tally = field(default_factory=Tally)
    complete: bool = False
    points: int = 0
    missing: int = 0
    """Resources recorded."""
    first_missing: str | None = None
    last_missing: str | None = None
    """By their numbers: in what Shopify numbers as it makes it, the ends of the gap."""
    unverifiable: Mapping[str, str] = field(default_factory=dict)
    """Topic → why it can't be checked."""
    reason: str = ""
    error: str = ""
    """Why the window stays open; "": it doesn't, or only since the counts don't agree."""
    seq: int = 0
    """Its place among those that are kept; the ledger gives it."""

    @property
    def state(self) -> str:
        """`complete`, `incomplete`, or the reason why nothing could be said."""
        return self.reason if self.error else "complete" if self.complete else "incomplete"


@dataclass(frozen=True, slots=True)
class Row:
    """What the passes over one family of one shop found together. `ended_at`, `counted` and `state` are the last one's."""

    shop: str
    family: str
    passes: int
    window: tuple[int, int] | None
    counted: int | None
    exact: bool
    tally: Tally
    points: int
    missing: int
    first_missing: str | None
    last_missing: str | None
    unverifiable: Mapping[str, str]
    ended_at: float
    state: str
    error: str
    streak: int
    """The latest passes in a row of which each recorded something."""
    trend: Sequence[tuple[float, float]]
    """(when a pass ended, its coverage), of those that looked at anything new; the oldest first."""
    halves: tuple[float | None, float | None]
    """Coverage in the earlier half of those passes, and in the later."""

    @property
    def coverage(self) -> float | None:
        """As `share`, over all of the passes."""
        return share(self.tally.came, self.tally.lacked)

    @property
    def direction(self) -> str:
        """`rising`, `falling` or `steady`: the later half of the passes beside the earlier. "": too little was looked at."""
        earlier, later = self.halves
        if earlier is None or later is None:
            return ""
        return "steady" if earlier == later else "rising" if later > earlier else "falling"

    def as_json(self) -> dict[str, Any]:
        """As JSON values; times as ISO 8601, durations in seconds."""
        tally = self.tally
        return {
            "shop": self.shop, "family": self.family, "passes": self.passes, "from": _edge(self.window, 0), "to": _edge(self.window, 1),
            "counted": self.counted, "exact": self.exact, "compared": tally.shown, "covered": tally.covered, "late": tally.late,
            "late_mean_seconds": tally.late_us_total / tally.late / 1e6 if tally.late else None,
            "late_max_seconds": tally.late_us_max / 1e6 if tally.late else None, "pending": tally.pending, "suspected": tally.suspected,
            "recorded": tally.recorded, "recorded_before": tally.recorded_before, "gone": tally.gone, "untold": tally.untold,
            "late_after_synthetic": tally.late_after, "deleted": tally.deleted, "held": tally.held, "doubted": tally.doubted,
            "alive": tally.alive, "unverifiable": dict(self.unverifiable), "points": self.points, "missing": self.missing,
            "first_missing": self.first_missing, "last_missing": self.last_missing, "coverage": self.coverage,
            "trend": self.direction or None, "coverage_by_pass": [{"ended_at": iso(round(at * 1e6)), "coverage": part}
                                                                  for at, part in self.trend],
            "missing_passes": self.streak, "ended_at": iso(round(self.ended_at * 1e6)), "state": self.state, "error": self.error,
        }  # fmt: skip


def together(passes: Sequence[Kept]) -> Row | None:
    """The passes over one family of one shop as a row; None where none of them compared states.

    From the first fast one on, of those that compare states: look-backs are kept for longer, and what lies between two old ones isn't.
    """
    looks = [one for one in sorted(passes, key=attrgetter("seq")) if one.kind in LOOKS]
    fast = [i for i, one in enumerate(looks) if one.kind == "fast"]
    looks = looks[fast[0] :] if fast else looks
    return _row(looks, all_points=sum(one.points for one in passes if not looks or one.seq >= looks[0].seq)) if looks else None


def alone(one: Kept) -> Row:
    """One pass as a row, with all that it compared, whichever pass counted it before."""
    row = _row([one], one.points)
    return replace(row, tally=one.tally)


def _row(looks: Sequence[Kept], all_points: int) -> Row:
    last, tally, running = looks[-1], Tally(), 0
    for one in looks:
        # A pass that failed before it looked leaves what is open as it was.
        tally = tally.plus(one.tally) if one.error and one.window is None else tally.then(one.tally)
        running = streak(running, one.tally)
    spans = [one.window for one in looks if one.window is not None]
    judged = [one for one in looks if one.tally.came + one.tally.lacked]
    half = len(judged) // 2
    return Row(
        shop=last.shop, family=last.family, passes=len(looks),
        window=(min(start for start, _ in spans), max(end for _, end in spans)) if spans else None,
        counted=last.counted, exact=last.exact, tally=tally, points=all_points, missing=sum(one.missing for one in looks),
        first_missing=ends(one.first_missing for one in looks)[0], last_missing=ends(one.last_missing for one in looks)[1],
        unverifiable=last.unverifiable, ended_at=last.ended_at, state=last.state, error=last.error, streak=running,
        trend=[(one.ended_at, part) for one in judged if (part := share(one.tally.came, one.tally.lacked)) is not None],
        halves=(_coverage(judged[:half]), _coverage(judged[half:])) if half else (None, None),
    )  # fmt: skip


def _coverage(passes: Iterable[Kept]) -> float | None:
    passes = list(passes)
    return share(sum(one.tally.came for one in passes), sum(one.tally.lacked for one in passes))


def ends(resources: Iterable[str | None]) -> tuple[str | None, str | None]:
    """The first and the last of them by number: `order/99` comes before `order/100`."""
    found = sorted({name for name in resources if name}, key=lambda name: (len(name), name))
    return (found[0], found[-1]) if found else (None, None)


def sentence(tallies: Iterable[Tally], topics: Collection[str] = (), *, dry: bool = False) -> str:
    """One line: how many changes Shopify shows and what became of each, so that the figures add up. `topics` can't be checked."""
    total = Tally()
    for tally in tallies:
        total = total.plus(tally)
    done = "would be" if dry else "were"
    parts = [
        f"{total.covered:,} were on the tape",
        f"{total.late:,} came late" + (f" (mean {span(total.late_us_total // total.late)})" if total.late else ""),
        f"{total.pending:,} may still come",
        f"{total.recorded:,} {done} recorded",
    ]
    parts += [f"{number:,} {what}" for number, what in (
        (total.recorded_before, "had been recorded before"), (total.gone, "are deleted or hidden"), (total.untold, "have no webhook"),
        (total.deleted, f"deletions {done} recorded"), (total.held, "deletions are held until --accept-deletes")) if number]  # fmt: skip
    text = f"Of {total.shown:,} changes Shopify shows, {', '.join(parts)}"
    return f"{text}; {len(topics)} topic{'' if len(topics) == 1 else 's'} cannot be checked." if topics else f"{text}."


def span(us: int) -> str:
    """Microseconds for people, to the second or the minute."""
    seconds = us / 1_000_000
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _edge(window: tuple[int, int] | None, side: int) -> str | None:
    return None if window is None else iso(window[side])
