"""What a pass found, for people and as JSON: one row per shop and family, and the sentence that sums them up."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from hooktape.times import iso


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

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in self.__slots__}
        return Tally(**{**sums, "late_us_max": max(self.late_us_max, other.late_us_max)})


@dataclass(frozen=True, slots=True)
class Report:
    """A pass over one family of one shop. Times in microseconds since the epoch; `error`: why the window stays open."""

    shop: str
    family: str
    kind: str = "fast"
    """Of the pass: fast, lookback or sweep."""
    window: tuple[int, int] | None = None
    counted: int | None = None
    """What Shopify counts in the window that was asked for, which may be wider than the window compared."""
    tally: Tally = field(default_factory=Tally)
    complete: bool = False
    """Everything up to the window's end is covered, pending or recorded, and the counts agreed."""
    behind: bool = False
    """So much had changed that the rest of the window is left to the next pass."""
    points: int = 0
    missing: tuple[str, ...] = ()
    """Resources recorded (in a dry run: that would be)."""
    unverifiable: dict[str, str] = field(default_factory=dict)
    """Topic → why it can't be checked."""
    reason: str = ""
    error: str = ""
    dry_run: bool = False
    epoch: int | None = None
    """The lease's: tells this pass's process from an earlier one's."""

    @property
    def failed(self) -> bool:
        return bool(self.error)

    def row(self) -> dict[str, Any]:
        """As a row of a table."""
        tally = self.tally
        return {
            "shop": self.shop, "family": self.family, "from": _when(self.window, 0), "to": _when(self.window, 1),
            "shown": tally.shown, "covered": tally.covered, "late": tally.late, "pending": tally.pending,
            "recorded": tally.recorded, "gone": tally.gone, "deleted": tally.deleted, "held": tally.held,
            "unverifiable": len(self.unverifiable), "points": self.points,
            "state": self.reason if self.failed else "complete" if self.complete else "incomplete",
        }  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        shown = asdict(self) | {"from": _when(self.window, 0), "to": _when(self.window, 1), "shown": self.tally.shown}
        return {**shown, "window": None if self.window is None else list(self.window), "missing": list(self.missing)}


COLUMNS = ("shop", "family", "from", "to", "shown", "covered", "late", "pending", "recorded", "gone", "deleted", "held", "unverifiable",
           "points", "state")  # fmt: skip


def sentence(reports: Iterable[Report]) -> str:
    """One line: how many changes Shopify shows and what became of each, so that the figures add up."""
    reports = list(reports)
    tallies = [report.tally for report in reports]
    late, late_us = sum(t.late for t in tallies), sum(t.late_us_total for t in tallies)
    shown, gone = sum(t.shown for t in tallies), sum(t.gone for t in tallies)
    before = sum(t.recorded_before for t in tallies)
    dry = any(report.dry_run for report in reports)
    parts = [
        f"{sum(t.covered for t in tallies):,} were on the tape",
        f"{late:,} came late" + (f" (mean {_minutes(late_us // late)})" if late else ""),
        f"{sum(t.pending for t in tallies):,} may still come",
        f"{sum(t.recorded for t in tallies):,} {'would be' if dry else 'were'} recorded",
    ]
    parts += [f"{before:,} had been recorded before"] if before else []
    parts += [f"{gone:,} are deleted or hidden"] if gone else []
    untold = sum(t.untold for t in tallies)
    parts += [f"{untold:,} have no webhook"] if untold else []
    deleted, held = sum(t.deleted for t in tallies), sum(t.held for t in tallies)
    parts += [f"{deleted:,} deletions {'would be' if dry else 'were'} recorded"] if deleted else []
    parts += [f"{held:,} deletions are held until --accept-deletes"] if held else []
    topics = {topic for report in reports for topic in report.unverifiable}
    text = f"Of {shown:,} changes Shopify shows, {', '.join(parts)}"
    return f"{text}; {len(topics)} topics cannot be checked." if topics else f"{text}."


def _when(window: tuple[int, int] | None, side: int) -> str | None:
    return None if window is None else iso(window[side])


def _minutes(us: int) -> str:
    seconds = us / 1_000_000
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
