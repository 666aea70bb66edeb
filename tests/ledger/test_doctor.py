"""What the doctor's findings are remembered by, on both databases."""

from dataclasses import replace

from hooktape.ledger.doctor import Found, Heard, Tape
from hooktape.ledger.ledger import Ledger

ONE = Found("a.myshopify.com", "missing", "orders/updated", "error", "no subscription", "make one")
TWO = replace(ONE, problem="scope", subject="read_orders", severity="warning")
HEARD = Heard("a.myshopify.com", "orders/updated", 500, "2026-04", ("updated_at",), 0, 0)


def test_a_finding_keeps_when_it_was_first_seen_and_takes_what_is_new(ledger: Ledger) -> None:
    assert ledger.doctor.find(ONE.shop, [ONE, TWO], 10.0) == (
        [replace(ONE, first_seen=10.0, last_seen=10.0), replace(TWO, first_seen=10.0, last_seen=10.0)], [])  # fmt: skip
    worse = replace(TWO, severity="error", what="lost\0")
    standing, over = ledger.doctor.find(ONE.shop, [ONE, worse], 20.0)
    assert over == []
    assert standing == [replace(ONE, first_seen=10.0, last_seen=20.0), replace(worse, what="lost", first_seen=10.0, last_seen=20.0)]
    assert ledger.doctor.findings() == standing
    assert ledger.doctor.looked() == {ONE.shop: 20.0}


def test_what_is_not_found_again_is_over_unless_it_could_not_be_judged(ledger: Ledger) -> None:
    ledger.doctor.find(ONE.shop, [ONE, TWO], 10.0)
    other = replace(ONE, shop="b.myshopify.com")
    ledger.doctor.find(other.shop, [other], 15.0)
    standing, over = ledger.doctor.find(ONE.shop, [], 20.0, keep=["scope"])
    assert [one.problem for one in standing] == ["scope"]
    assert over == [replace(ONE, first_seen=10.0, last_seen=10.0)]
    assert ledger.doctor.find(ONE.shop, [], 30.0)[0] == []
    assert [one.shop for one in ledger.doctor.findings()] == [other.shop]
    ledger.doctor.find(ONE.shop, [ONE], 40.0)
    assert ledger.doctor.findings(ONE.shop)[0].first_seen == 40.0


def test_of_two_readings_that_began_at_one_place_one_counts(ledger: Ledger) -> None:
    assert ledger.doctor.tape() == Tape()
    assert ledger.doctor.hear(Tape(0, {"log/0": 7}, ((1, 2),)), [HEARD])
    assert not ledger.doctor.hear(Tape(0, {"log/0": 9}), [replace(HEARD, triggered_at=900)])
    assert ledger.doctor.tape() == Tape(1, {"log/0": 7}, ((1, 2),))
    assert ledger.doctor.heard() == [HEARD]
    newer = replace(HEARD, triggered_at=600, lacks=(), recorded=3, recorded_at=550)
    assert ledger.doctor.hear(Tape(1, {"log/0": 9}), [newer, replace(HEARD, shop="b.myshopify.com")])
    assert ledger.doctor.heard(HEARD.shop) == [newer]
    assert len(ledger.doctor.heard()) == 2
