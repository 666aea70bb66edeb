"""What can be counted on both sides, topic by topic and day by day, and what the figures mean. Pure.

Shopify counts resources and not events. Three figures have their like on the tape:

- created: resources created on that day: those of which the tape has a record of the creating topic, dated that day;
- changed: resources whose *last* change fell on that day: those whose newest version on the tape did;
- deleted: deletions, where the API's `events` tell of them: those of which the tape has the deleting topic.

What has been deleted since is counted by neither side among the first two, as far as the tape knows of the deletion.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

from hooktape.ledger.tallies import MINUTE, Minute
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import Counted
from hooktape.reconciler.unverifiable import REASONS
from hooktape.times import from_micros, iso, micros

Span = tuple[int, int]
"""[start, end) in microseconds, whole minutes."""


class Measure(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"


class Verdict(StrEnum):
    """What a figure says; the first two make the command's exit code."""

    GAP = "gap"
    """Shopify counts more than the tape can have."""
    OPEN = "open"
    """The tape has them, and the group hasn't finished all."""
    UNSURE = "unsure"
    """Shopify counts more, and as many may belong to another day."""
    MORE = "more"
    """The tape has more: deleted since and the tape wasn't told, or a later change of them is missing."""
    EQUAL = "equal"
    NOT_COUNTABLE = "not countable"


PARTS = "the Admin API counts orders, not what belongs to them"
UNCOUNTED = "the Admin API lists them and has no count of them"
NO_CREATED = "the Admin API's count has no filter for the time of creation"
NO_UPDATED = "the Admin API's count has no filter for the time of the last change"
NO_EVENTS = "the Admin API isn't known to tell of these deletions"
STEP = "Shopify counts resources, by creation and by last change, and this topic is neither"
WHOLE_DAYS = "Shopify documents this filter as one of whole days of the shop's zone: ask for whole days with --zone shop"
SCOPE = "the app has no scope "
BEFORE = "the tape begins later"


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure to find: `family`'s resources of one span. `why`: why not; "": it can be."""

    family: Family
    measure: Measure
    span: Span
    why: str = ""

    @property
    def topic(self) -> str:
        """The topic that stands for the figure."""
        family = self.family
        return {Measure.CREATED: family.create, Measure.CHANGED: family.update, Measure.DELETED: family.delete}[self.measure]


@dataclass(frozen=True, slots=True)
class Tape:
    """The tape's figure; `open`: those that the group hasn't finished (None: it has no handler for the topic, or no group was named).

    `slack`: how many more may belong there, because the two sides date a resource differently.
    """

    count: int
    open: int | None = None
    slack: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison."""

    shop: str
    cell: Cell
    shopify: Counted | None = None
    tape: Tape | None = None

    @property
    def missing(self) -> int | None:
        """How many more Shopify counts (negative: fewer); None where one side has no figure."""
        return None if self.shopify is None or self.tape is None else self.shopify.count - self.tape.count

    @property
    def finished(self) -> int | None:
        return None if self.tape is None or self.tape.open is None else self.tape.count - self.tape.open

    @property
    def open(self) -> int:
        """How many of what the tape has the group hasn't finished, whatever Shopify counts."""
        return (self.tape and self.tape.open) or 0

    @property
    def verdict(self) -> Verdict:
        missing, tape = self.missing, self.tape
        if missing is None or tape is None:
            return Verdict.NOT_COUNTABLE
        if missing > 0:
            return Verdict.GAP if missing > tape.slack else Verdict.UNSURE
        if self.open:
            return Verdict.OPEN
        if self.shopify is not None and not self.shopify.exact:
            return Verdict.UNSURE
        return Verdict.MORE if missing < 0 else Verdict.EQUAL

    def as_json(self) -> dict[str, Any]:
        """As JSON values; `shopify`, `tape`, `missing` and `finished` are null where there's no such figure."""
        start, end = self.cell.span
        return {
            "shop": self.shop, "topic": self.cell.topic, "counts": str(self.cell.measure), "from": iso(start), "to": iso(end),
            "shopify": self.shopify and self.shopify.count, "exact": self.shopify and self.shopify.exact,
            "tape": self.tape and self.tape.count, "finished": self.finished, "missing": self.missing, "open": self.open,
            "slack": self.tape.slack if self.tape else 0, "verdict": str(self.verdict), "why": self.cell.why,
        }  # fmt: skip


def days(since: int, until: int, zone: tzinfo) -> list[Span]:
    """The days of `zone` in [since, until): from the one that `since` lies in, the last one cut off at `until`."""
    day, found = _midnight(since, zone), list[Span]()
    while (start := micros(day)) < until:
        # By the calendar: a day on which clocks change has 23 hours or 25.
        day = (day + timedelta(days=1)).replace(tzinfo=zone)
        found.append((start, min(micros(day), until)))
    return found


def _midnight(us: int, zone: tzinfo) -> datetime:
    # The first of two, where clocks are set back to it (Atlantic/Azores).
    return from_micros(us).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def clipped(spans: Iterable[Span], begun: int) -> list[Span]:
    """What of these lies after `begun`, from its next whole minute on."""
    start = -(-begun // MINUTE) * MINUTE
    return [(max(span[0], start), span[1]) for span in spans if span[1] > start]


def cells(family: Family, wanted: Collection[str], spans: Sequence[Span], home: tzinfo) -> list[Cell]:
    """The figures to find of the wanted topics; `home`: the shop's zone. What can be counted on no day isn't among them."""
    whole = {span for span in spans if all(micros(_midnight(edge, home)) == edge for edge in span)}
    found = []
    for measure in Measure:
        for span in spans:
            cell = Cell(family, measure, span)
            if cell.topic in wanted and not uncountable(family, measure):
                found.append(replace(cell, why=WHOLE_DAYS) if family.whole_days and span not in whole else cell)
    return found


def uncountable(family: Family, measure: Measure) -> str:
    """Why the API can't count this; "": it can."""
    if measure is Measure.DELETED:
        return "" if family.subject else NO_EVENTS
    if family.parent:
        return PARTS
    if not family.count_query:
        return UNCOUNTED
    if measure is Measure.CREATED:
        return "" if family.created and family.listing.count_filtered else NO_CREATED
    return "" if family.listing.filtered and family.listing.count_filtered else NO_UPDATED


def reason(topic: str, family: Family | None) -> str:
    """Why nothing can be counted for a topic; "": something can."""
    if topic in REASONS:
        return REASONS[topic]
    if family is None:
        return STEP
    measures = [measure for measure in Measure if Cell(family, measure, (0, 0)).topic == topic]
    reasons = [uncountable(family, measure) for measure in measures]
    return "" if "" in reasons else "; ".join(dict.fromkeys(reasons)) or STEP


def search(cell: Cell, home: tzinfo) -> str:
    """The filter that the API counts by. `home`: the shop's zone.

    Times are quoted and in UTC, but where a filter is said to be read in the shop's zone: there they bear that zone's offset, so that
    whoever ignores the offset reads the same instant.
    """
    family, (start, end) = cell.family, cell.span
    local = family.whole_days or family.listing.pad
    begin, beyond = (from_micros(us).astimezone(home if local else UTC).isoformat().replace("+00:00", "Z") for us in (start, end))
    if cell.measure is Measure.DELETED:
        return f"subject_type:{family.subject} action:destroy created_at:>='{begin}' created_at:<'{beyond}'"
    field = "created_at" if cell.measure is Measure.CREATED else "updated_at"
    return f"{field}:>='{begin}' {field}:<'{beyond}'"


def least(cell: Cell, shown: Counted, hides: bool) -> Counted:
    """Shopify's figure, as the least that there is where it `hides` what was made before the family's horizon: some of it may have changed
    on the day, and is on the tape. One too many there makes up for one that is missing."""
    return replace(shown, exact=False) if hides and cell.measure is Measure.CHANGED else shown


def tape(cell: Cell, minutes: Iterable[Minute], handled: bool) -> Tape:
    """The tape's figure for a cell; `handled`: a group's handlers take the cell's topic.

    Slack: a deletion that the tape dates in the minute after the span may be of the span's last seconds; a resource that has changed again
    since the last day's end is counted under its earlier change by an index that lags.
    """
    start, end = cell.span
    count = open_ = slack = 0
    for minute in minutes:
        inside = start <= minute.at < end
        if minute.what == cell.measure and inside:
            count, open_ = count + minute.count, open_ + minute.open
        elif (minute.what == "moved" and cell.measure is Measure.CHANGED and inside) or (
            minute.what == cell.measure and minute.at == end and cell.measure is not Measure.CHANGED
        ):
            slack += minute.count
    return Tape(count, open_ if handled else None, slack)


def redated(rows: Sequence[Row], of: int, began: Mapping[str, int], unfinished: Collection[str] = ()) -> list[Row]:
    """The rows with what the tape dates in the minute from `of` on put where it belongs, by Shopify's own time of creation.

    `began`: resource → that, microseconds, of all of them; `unfinished`: those that the group hasn't finished.
    """
    found = [resource for resource, at in began.items() if at < of]
    earlier, waits = len(found), len({*found} & {*unfinished})

    def one(row: Row) -> Row:
        if row.cell.measure is not Measure.CREATED or row.tape is None or of not in row.cell.span:
            return row
        tape, here = row.tape, 1 if of == row.cell.span[1] else -1
        moved = replace(tape, count=tape.count + here * earlier, open=None if tape.open is None else tape.open + here * waits)
        return replace(row, tape=replace(moved, slack=0) if here > 0 else moved)

    return [one(row) for row in rows]


def doubtful(rows: Iterable[Row]) -> list[int]:
    """The ends of spans that look short of creations, which the tape may date in the next minute."""
    return sorted({row.cell.span[1] for row in rows if row.cell.measure is Measure.CREATED and row.tape and row.tape.slack
                   and (row.missing or 0) > 0})  # fmt: skip


COLUMNS = ("shop", "day", "topic", "counts", "shopify", "tape", "finished", "missing", "says")


def shown(row: Row, zone: tzinfo) -> dict[str, Any]:
    """As a row of a table."""
    start, end = (from_micros(us).astimezone(zone) for us in row.cell.span)
    # A whole day is its date; a part of one says which.
    part = "" if start.time() == end.time() else f" {start:%H:%M}–{'24:00' if end.date() > start.date() else f'{end:%H:%M}'}"
    says = row.cell.why or ", ".join(dict.fromkeys([row.verdict, *([Verdict.OPEN] if row.open else [])]))
    at_least = "" if row.shopify is None or row.shopify.exact else "≥ "
    return {"shop": row.shop, "day": f"{start:%Y-%m-%d}{part}", "topic": row.cell.topic, "counts": row.cell.measure,
            "shopify": None if row.shopify is None else f"{at_least}{row.shopify.count}", "tape": row.tape and row.tape.count,
            "finished": row.finished, "missing": row.missing, "says": says}  # fmt: skip
