"""Reports of passes: kept in the ledger, bounded, and summed up so that every change counts once."""

import re
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape.ledger.ledger import Ledger
from hooktape.ledger.reckoning import Kept, Tally, alone, ends, sentence, share, streak, together
from hooktape.ledger.reports import KEPT

SHOP = "one.myshopify.com"


def kept(number: int, kind: str = "fast", family: str = "orders", shop: str = SHOP, **more: object) -> Kept:
    return Kept(float(number), shop, family, kind, complete=True, **more)  # type: ignore[arg-type]


def test_what_a_pass_found_is_read_as_it_was_kept(ledger: Ledger) -> None:
    whole = kept(7, window=(5, 9), counted=0, exact=True, tally=Tally(covered=3, covered_anew=2, recorded=1, held=4), points=12, missing=1,
                 first_missing="order/1", last_missing="order/1", unverifiable={"orders/edited": "a step"})  # fmt: skip
    failed = Kept(8.0, SHOP, "orders", "lookback", reason="scope", error="no scope")
    ledger.reports.add(whole)
    ledger.reports.add(failed)
    found = ledger.reports.of(SHOP, "orders")
    assert [asdict(one) | {"seq": 0} for one in found] == [asdict(whole), asdict(failed)]
    assert [one.seq for one in ledger.reports.latest()] == [one.seq for one in reversed(found)]
    assert ledger.reports.of(SHOP, "orders", kind="fast") == found[:1]
    assert ledger.reports.of(SHOP, "orders", since=8.0) == found[1:]
    assert ledger.reports.of(SHOP, "orders", last=1) == found[1:]


def test_of_each_kind_over_each_family_of_each_shop_the_latest_are_kept(ledger: Ledger) -> None:
    ledger.reports.add(kept(0, "sweep"))
    ledger.reports.add(kept(0, family="products"))
    ledger.reports.add(kept(0, shop="two.myshopify.com"))
    for number in range(KEPT + 3):
        ledger.reports.add(kept(number))
    assert [one.ended_at for one in ledger.reports.of(SHOP, "orders", "fast")] == [float(n) for n in range(3, KEPT + 3)]
    assert [len(ledger.reports.of(*pair)) for pair in ledger.reports.pairs()] == [KEPT + 1, 1, 1]


def test_shops_and_families_are_listed_page_by_page(ledger: Ledger) -> None:
    pairs = [(shop, family) for shop in ("a", "b") for family in ("orders", "products")]
    for shop, family in reversed(pairs):
        for number in range(2):
            ledger.reports.add(kept(number, shop=shop, family=family))
    assert ledger.reports.pairs() == pairs
    assert ledger.reports.pairs(limit=2) == pairs[:2]
    assert ledger.reports.pairs(after=pairs[1], limit=2) == pairs[2:]
    assert ledger.reports.pairs(["b"], ["orders", "customers"]) == [("b", "orders")]


def test_coverage_is_of_all_shops_passes_since(ledger: Ledger) -> None:
    ledger.reports.add(kept(1, tally=Tally(recorded=5)))
    ledger.reports.add(kept(5, tally=Tally(covered=9, covered_anew=7, late=2, recorded=1)))
    ledger.reports.add(kept(6, shop="two.myshopify.com", tally=Tally(recorded_before=2)))
    ledger.reports.add(kept(6, family="products"))
    assert ledger.reports.coverage(5.0) == {"orders": (9, 3)}


def test_the_family_that_is_furthest_behind_says_how_far_a_shop_is(ledger: Ledger) -> None:
    for family, position in (("orders", 30), ("products", 20), ("customers", 10), ("orders/deletions", 1)):
        ledger.reconcile.advance("s", family, position, 1.0)
    ledger.reconcile.cover_from("other", "orders", 5)
    assert ledger.reconcile.oldest_positions(["orders", "products"]) == {"s": 20}
    assert ledger.reconcile.oldest_positions([]) == {}


def test_bulk_operations_run_from_their_beginning_to_their_end(ledger: Ledger) -> None:
    ledger.bulk.begin("s", "orders", "q", None, 1.0)
    assert ledger.bulk.running() == 0
    ledger.bulk.began("s", "orders", "q", "gid://1")
    assert ledger.bulk.running() == 1
    ledger.bulk.end("s", "orders", "q")
    assert ledger.bulk.running() == 0


# ── sums ────────────────────────────────────────────────────────────────────────────────────────────────────────────
NUMBERS = st.integers(0, 50)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    covered, untold, late, longest, pending = (draw(NUMBERS) for _ in range(5))
    return Tally(
        covered, late, pending, draw(NUMBERS), draw(NUMBERS), draw(NUMBERS), untold, draw(st.integers(0, covered)),
        draw(st.integers(0, untold)), late * longest, longest if late else 0, draw(st.integers(0, pending)),
        *(draw(NUMBERS) for _ in range(5)),
    )  # fmt: skip


@st.composite
def passes(draw: st.DrawFn) -> list[Kept]:
    found = []
    for number in range(draw(st.integers(1, 6))):
        kind, failed = draw(st.sampled_from(["fast", "lookback", "sweep"])), draw(st.sampled_from([False, False, False, True]))
        found.append(Kept(float(number), SHOP, "orders", kind, error="closed", seq=number) if failed
                     else kept(number, kind, window=(1, 2), tally=draw(tallies()), points=3, seq=number))  # fmt: skip
    return found


@settings(deadline=None)  # whatever else the machine does meanwhile
@given(passes())
def test_the_figures_of_a_report_add_up(numbered: list[Kept]) -> None:
    row = together(numbered)
    looks = [one for one in numbered if one.kind != "sweep"]
    assert (row is None) == (not looks)
    if row is None:
        return
    fast = [one.seq for one in looks if one.kind == "fast"]
    looks = [one for one in looks if not fast or one.seq >= fast[0]]
    shown = row.as_json()
    assert shown["compared"] == sum(shown[name] for name in ("covered", "late", "pending", "recorded", "recorded_before", "gone", "untold"))
    assert row.passes == len(looks)
    # An end comes once, so that all of them count; what is open is as the last pass that could look left it.
    assert shown["recorded"] == sum(one.tally.recorded for one in looks)
    assert shown["covered"] == sum(one.tally.covered_anew for one in looks)
    looked = [one for one in looks if not one.error]
    assert shown["pending"] == (looked[-1].tally.pending if looked else 0)
    assert row.tally.came + row.tally.lacked <= shown["compared"]
    assert row.coverage == share(sum(one.tally.came for one in looks), sum(one.tally.lacked for one in looks))
    assert all(0 <= part <= 1 for _, part in row.trend)
    first, *rest = (int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d(?= (?!s\)|min\))[a-z])", sentence([row.tally])))
    listed = dict(zip(["covered", "late", "pending", "recorded"], rest, strict=False))
    assert (first, *listed.values()) == (shown["compared"], *(shown[name] for name in listed))


@settings(deadline=None)
@given(st.lists(tallies(), min_size=1, max_size=5))
def test_one_pass_alone_is_told_as_it_was(found: list[Tally]) -> None:
    for tally in found:
        row = alone(Kept(1.0, SHOP, "orders", "lookback", (1, 2), tally=tally, complete=True))
        assert (row.tally, row.tally.shown) == (tally, tally.shown)


def test_old_look_backs_without_the_fast_passes_around_them_are_left_out() -> None:
    old, first, second = (kept(n, kind, seq=n, window=(n, n + 1), tally=Tally(covered=9, covered_anew=n))
                          for n, kind in ((1, "lookback"), (2, "fast"), (3, "lookback")))  # fmt: skip
    row = together([second, old, first])
    assert row is not None
    assert (row.passes, row.window, row.tally.covered) == (2, (2, 4), 5)
    only = together([old])
    assert only is not None
    assert only.tally.covered == 1


def test_the_trend_sets_the_later_half_of_the_passes_beside_the_earlier() -> None:
    good, bad, idle = Tally(covered=4, covered_anew=4), Tally(recorded=1), Tally(covered=7)
    for found, direction, running in (([good, idle, bad], "falling", 1), ([bad, good, idle], "rising", 0), ([good, good], "steady", 0),
                                      ([good, bad, idle, bad, bad], "falling", 3), ([good], "", 0)):  # fmt: skip
        row = together([kept(n, seq=n, tally=tally) for n, tally in enumerate(found)])
        assert row is not None
        assert (row.direction, row.streak) == (direction, running)
    assert streak(2, Tally(covered=5)) == 2


@pytest.mark.parametrize(("names", "found"), [
    (["order/100", "order/99", "order/1000"], ("order/99", "order/1000")), ([None, "order/1"], ("order/1", "order/1")), ([], (None, None)),
])  # fmt: skip
def test_the_ends_of_a_gap_go_by_number(names: list[str | None], found: tuple[str | None, str | None]) -> None:
    assert ends(names) == found


def test_the_sentence_says_what_became_of_every_change_and_what_cannot_be_known() -> None:
    tally = Tally(covered=12_401, late=5, late_us_total=5 * 420_000_000, late_us_max=900_000_000, recorded=2)
    assert sentence([tally], ["a/b", "a/c", "a/d"]) == (
        "Of 12,408 changes Shopify shows, 12,401 were on the tape, 5 came late (mean 7 min), 0 may still come, 2 were recorded; "
        "3 topics cannot be checked.")  # fmt: skip
    more = sentence([Tally(gone=1, deleted=2, held=3)], dry=True)
    assert more.endswith("1 are deleted or hidden, 2 deletions would be recorded, 3 deletions are held until --accept-deletes.")
