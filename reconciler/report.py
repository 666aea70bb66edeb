"""What a pass found, for people and as JSON: one row per shop and family, and the sentence that sums them up."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from hooktape.ledger import reckoning
from hooktape.ledger.reckoning import Tally as Tally
from hooktape.times import iso


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
    exact: bool = False
    """Shopify calls that count exact; otherwise it's an estimate."""
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

    def kept(self, now: float) -> reckoning.Kept:
        """As the ledger keeps it: of what was recorded the ends, since the audit trail has each. `now` in epoch seconds."""
        first, last = reckoning.ends(self.missing)
        return reckoning.Kept(now, self.shop, self.family, self.kind, self.window, self.counted, self.exact, self.tally, self.complete,
                              self.points, len(self.missing), first, last, self.unverifiable, self.reason, self.error)  # fmt: skip

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
    topics = {topic for report in reports for topic in report.unverifiable}
    return reckoning.sentence((report.tally for report in reports), topics, dry=any(report.dry_run for report in reports))


def _when(window: tuple[int, int] | None, side: int) -> str | None:
    return None if window is None else iso(window[side])
