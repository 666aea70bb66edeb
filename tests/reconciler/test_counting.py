"""What is counted, by which filter, and what the figures say: pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from hooktape.cli import counts as command
from hooktape.errors import NothingMatched
from hooktape.ledger.tallies import MINUTE, Minute
from hooktape.reconciler import counting
from hooktape.reconciler.counting import Cell, Measure, Row, Tape, Verdict
from hooktape.reconciler.counts import Counts
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.moves import Counted
from hooktape.times import micros

ORDERS, PRODUCTS, CUSTOMERS, DISCOUNTS = (FAMILIES[name] for name in ("orders", "products", "customers", "discounts"))
DAY = (micros(datetime(2026, 11, 16, tzinfo=UTC)), micros(datetime(2026, 11, 17, tzinfo=UTC)))
NEXT = (DAY[1], micros(datetime(2026, 11, 18, tzinfo=UTC)))
EASTERN = timezone(timedelta(hours=-5))


@pytest.mark.parametrize(("shopify", "exact", "tape", "open_", "slack", "says"), [
    (10, True, 10, None, 0, Verdict.EQUAL),
    (10, True, 9, None, 0, Verdict.GAP),
    (10, True, 9, 0, 0, Verdict.GAP),
    (10, True, 9, 3, 1, Verdict.UNSURE),
    (10, True, 8, None, 1, Verdict.GAP),
    (10, True, 10, 0, 5, Verdict.EQUAL),
    (10, True, 10, 2, 0, Verdict.OPEN),
    (10, True, 12, None, 0, Verdict.MORE),
    (10, True, 12, 1, 0, Verdict.OPEN),
    (10, False, 9, None, 0, Verdict.GAP),
    (10, False, 12, None, 0, Verdict.UNSURE),
    (0, True, 0, 0, 0, Verdict.EQUAL),
])  # fmt: skip
def test_what_two_figures_say(shopify: int, exact: bool, tape: int, open_: int | None, slack: int, says: Verdict) -> None:
    row = Row("s", Cell(ORDERS, Measure.CREATED, DAY), Counted(shopify, exact), Tape(tape, open_, slack))
    assert (row.verdict, row.missing) == (says, shopify - tape)
    assert row.finished == (None if open_ is None else tape - open_)


def test_a_figure_without_what_shopify_hides_is_the_least_and_makes_nothing_equal() -> None:
    # An old order that changed on the day is on the tape and not in the count, and makes up for a missing one.
    cell = Cell(ORDERS, Measure.CHANGED, DAY)
    said = [Row("s", cell, counting.least(cell, Counted(10, True), True), Tape(count)).verdict for count in (9, 10, 12)]
    assert said == [Verdict.GAP, Verdict.UNSURE, Verdict.UNSURE]
    assert counting.least(cell, Counted(10, True), False).exact
    # Of what was made on the day nothing is hidden: older days aren't counted.
    assert counting.least(Cell(ORDERS, Measure.CREATED, DAY), Counted(10, True), True).exact


def test_one_side_alone_says_nothing() -> None:
    assert Row("s", Cell(ORDERS, Measure.CREATED, DAY, "why")).verdict is Verdict.NOT_COUNTABLE


@pytest.mark.parametrize(("topic", "says"), [
    ("orders/create", ""), ("orders/updated", ""), ("orders/delete", counting.NO_EVENTS), ("orders/cancelled", counting.STEP),
    ("products/delete", ""), ("collections/create", counting.NO_CREATED), ("collections/update", ""),
    ("refunds/create", counting.PARTS), ("inventory_items/update", counting.UNCOUNTED), ("locations/update", counting.NO_UPDATED),
    ("locations/create", ""), ("companies/create", counting.NO_CREATED), ("companies/update", counting.NO_UPDATED),
    ("companies/delete", counting.NO_EVENTS), ("company_locations/update", counting.UNCOUNTED), ("themes/publish", counting.UNCOUNTED),
    ("segments/create", counting.NO_CREATED), ("segments/update", counting.NO_UPDATED),
    ("subscription_contracts/update", counting.UNCOUNTED), ("carts/update", "the Admin API doesn't show what it tells of"),
])  # fmt: skip
def test_what_cannot_be_counted_says_why(topic: str, says: str) -> None:
    assert counting.reason(topic, FAMILIES.get(topic.partition("/")[0])) == says


def test_days_are_the_calendars_of_the_zone() -> None:
    since, until = DAY[0] + 5 * 3600 * 1_000_000, NEXT[0] + 90 * MINUTE
    assert counting.days(since, until, UTC) == [DAY, (NEXT[0], until)]
    assert [start for start, _ in counting.days(since, until, EASTERN)] == [DAY[0] + 5 * 60 * MINUTE]
    assert counting.days(until, until, UTC) == [(NEXT[0], until)]
    assert counting.days(until + 1, NEXT[0], UTC) == []
    noon, later = (micros(datetime(2026, 3, day, hour, tzinfo=UTC)) for day, hour in ((28, 12), (30, 0)))
    spring = counting.days(noon, later, ZoneInfo("Europe/Berlin"))
    assert [(end - start) // (60 * MINUTE) for start, end in spring] == [24, 23, 2]
    assert [end for _, end in spring[:-1]] == [start for start, _ in spring[1:]]


def test_a_day_that_begins_twice_has_both_of_its_first_hours() -> None:
    # On 2026-10-25 clocks in the Azores are set back from 1:00 to 0:00, at 1:00 UTC.
    azores, second_half_past = ZoneInfo("Atlantic/Azores"), micros(datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    (start, end), *_ = counting.days(second_half_past, second_half_past + 48 * 60 * MINUTE, azores)
    assert (start, (end - start) // (60 * MINUTE)) == (micros(datetime(2026, 10, 25, 0, tzinfo=UTC)), 25)


def test_a_day_on_which_recording_began_is_counted_from_the_next_minute_on() -> None:
    assert counting.clipped([DAY, NEXT], DAY[1] + 1) == [(DAY[1] + MINUTE, NEXT[1])]
    assert counting.clipped([DAY, NEXT], DAY[0]) == [DAY, NEXT]


def test_filters_are_quoted_and_say_an_instant_that_reads_alike_in_both_zones() -> None:
    assert counting.search(Cell(ORDERS, Measure.CREATED, DAY), EASTERN) == (
        "created_at:>='2026-11-16T00:00:00Z' created_at:<'2026-11-17T00:00:00Z'")  # fmt: skip
    assert counting.search(Cell(PRODUCTS, Measure.DELETED, DAY), EASTERN) == (
        "subject_type:PRODUCT action:destroy created_at:>='2026-11-16T00:00:00Z' created_at:<'2026-11-17T00:00:00Z'")  # fmt: skip
    assert counting.search(Cell(DISCOUNTS, Measure.CHANGED, DAY), EASTERN) == (
        "updated_at:>='2026-11-15T19:00:00-05:00' updated_at:<'2026-11-16T19:00:00-05:00'")  # fmt: skip


def test_whole_days_of_the_shop_are_all_that_customers_can_be_counted_by() -> None:
    wanted = {"customers/create"}
    local = counting.days(DAY[0], NEXT[0] + 60 * MINUTE, EASTERN)
    assert [cell.why for cell in counting.cells(CUSTOMERS, wanted, local, EASTERN)] == ["", counting.WHOLE_DAYS]
    assert {cell.why for cell in counting.cells(CUSTOMERS, wanted, [DAY], EASTERN)} == {counting.WHOLE_DAYS}
    assert {cell.why for cell in counting.cells(CUSTOMERS, wanted, [DAY], UTC)} == {""}


def minute(what: str, at: int, count: int, open_: int = 0) -> Minute:
    return Minute(what, at, count, open_)


def test_the_tapes_figure_is_that_of_the_cells_minutes() -> None:
    minutes = [minute("created", DAY[0], 2, 1), minute("created", DAY[1] - MINUTE, 3), minute("created", DAY[1], 4),
               minute("changed", DAY[0], 7, 7), minute("moved", DAY[0], 5), minute("moved", DAY[1], 9)]  # fmt: skip
    assert counting.tape(Cell(ORDERS, Measure.CREATED, DAY), minutes, True) == Tape(5, 1, 4)
    assert counting.tape(Cell(ORDERS, Measure.CHANGED, DAY), minutes, True) == Tape(7, 7, 5)
    assert counting.tape(Cell(ORDERS, Measure.CREATED, DAY), minutes, False).open is None
    assert counting.tape(Cell(PRODUCTS, Measure.DELETED, DAY), minutes, True) == Tape(0, 0, 0)


def test_what_was_delivered_after_midnight_goes_to_the_day_of_its_creation() -> None:
    rows = [Row("s", Cell(ORDERS, Measure.CREATED, DAY), Counted(10, True), Tape(8, None, 3)),
            Row("s", Cell(ORDERS, Measure.CREATED, NEXT), Counted(5, True), Tape(6)),
            Row("s", Cell(ORDERS, Measure.CHANGED, DAY), Counted(5, True), Tape(4, None, 1))]  # fmt: skip
    assert counting.doubtful(rows) == [DAY[1]]
    found = counting.redated(rows, DAY[1], {"order/1": DAY[1] - 1, "order/2": DAY[1], "order/3": DAY[1] + 5})
    assert [row.tape for row in found] == [Tape(9, None, 0), Tape(5), Tape(4, None, 1)]
    assert [row.verdict for row in found] == [Verdict.GAP, Verdict.EQUAL, Verdict.UNSURE]
    assert counting.doubtful(found) == []


def test_what_goes_to_another_day_takes_along_that_the_group_has_not_finished_it() -> None:
    rows = [Row("s", Cell(ORDERS, Measure.CREATED, DAY), Counted(3, True), Tape(1, 0, 2)),
            Row("s", Cell(ORDERS, Measure.CREATED, NEXT), Counted(0, True), Tape(2, 1))]  # fmt: skip
    found = counting.redated(rows, DAY[1], {"order/1": DAY[1] - 1, "order/2": DAY[1] - 2}, ["order/2", "order/9"])
    assert [(row.tape, row.finished) for row in found] == [(Tape(3, 1, 0), 2), (Tape(0, 0), 0)]


def test_a_part_of_a_day_says_which() -> None:
    whole, part = (Row("s", Cell(ORDERS, Measure.CREATED, span), Counted(1, False), Tape(1)) for span in (DAY, (DAY[0], DAY[0] + MINUTE)))
    assert (counting.shown(whole, UTC)["day"], counting.shown(part, UTC)["day"]) == ("2026-11-16", "2026-11-16 00:00–00:01")
    assert counting.shown(whole, UTC)["shopify"] == "≥ 1"
    late = Row("s", Cell(ORDERS, Measure.CREATED, (DAY[1] - MINUTE, DAY[1])), Counted(3, True), Tape(2, 1))
    assert counting.shown(late, UTC)["day"] == "2026-11-16 23:59–24:00"
    assert counting.shown(late, UTC)["says"] == "gap, open"


def test_a_check_that_has_compared_nothing_does_not_end_well() -> None:
    cell = Cell(ORDERS, Measure.CREATED, DAY)
    nothing, equal = Row("s", replace(cell, why=counting.SCOPE)), Row("s", cell, Counted(1, True), Tape(1))
    for rows in ([], [nothing]):
        with pytest.raises(NothingMatched, match="No figure could be compared"):
            command._judge(Counts(rows), ["s"])
    command._judge(Counts([nothing, equal]), ["s"])
