"""What is judged of reconcilers: each fault has its rule, and what nobody could know is counted and no fault."""

import pytest

from hooktape.local.soak.checker import judge
from hooktape.local.soak.history import Fault, History
from tests.soak.histories import Plant, clean
from tests.soak.planting import change, swap
from tests.soak.shop_plants import GRACE, SHOP_PLANTS, Shop, late, own, with_shop


def shopped() -> History:
    return with_shop(clean(7, faults=False))


def rules(history: History) -> set[str]:
    return {violation.rule for violation in judge(history).violations}


def test_a_flawless_reconcilers_history_raises_no_alarm() -> None:
    verdict = judge(shopped())
    assert verdict.clean, [str(violation) for violation in verdict.violations]
    counts = verdict.counts
    assert (counts["dropped"], counts["synthetic"], counts["missed"], counts["false"], counts["late_after"]) == (5, 5, 0, 0, 0)
    assert verdict.delays == (GRACE + 1,) * 5


@pytest.mark.parametrize(("rule", "plant"), SHOP_PLANTS, ids=[plant.__name__ for _, plant in SHOP_PLANTS])
def test_a_planted_fault_trips_its_rule_and_no_other(rule: str, plant: Plant) -> None:
    history = shopped()
    plant(history)
    assert rules(history) == {rule}, [str(violation) for violation in judge(history).violations]


@pytest.mark.parametrize(("by", "name"), [(0.5, "late_after"), (-0.5, "crossed")])
def test_a_webhook_that_came_later_than_its_grace_is_counted_and_no_fault(by: float, name: str) -> None:
    history = shopped()
    late(history, by)
    assert rules(history) == set()
    assert judge(history).counts[name] == 1


def test_a_webhook_that_lay_there_for_long_before_its_event_is_a_fault_unless_the_reconciler_stood_still_meanwhile() -> None:
    history = shopped()
    event = own(history, "orders/updated")
    swap(history.records, event, change(event, at=event.at + 10))
    late(history, -8)
    assert rules(history) == {"false"}
    history.faults.append(Fault("stop", "reconciler", 7, event.at + 2, event.at + 9.5))
    assert rules(history) == set()


def test_a_newer_state_that_came_at_once_while_the_older_was_recorded_is_no_fault() -> None:
    history = shopped()
    event = own(history, "orders/updated")
    Shop(history).change("orders/updated", 1, 70_000_000, event.at - 0.4)
    assert rules(history) == set()
    assert judge(history).counts["crossed"] == 1


def test_what_changes_again_and_again_is_recorded_without_a_grace_of_its_own() -> None:
    history = shopped()
    shop, event = Shop(history), own(history, "orders/updated")
    history.records.remove(event)
    lost = next(c for c in history.changes if f"r-{c.wid}" == event.wid)
    for number in range(1, 18):
        newest = shop.change("orders/updated", 1, 80_000_000 + number * 1_000_000, lost.at + number, after=None)
    shop.found(newest, after=1.0)
    assert rules(history) == set()


@pytest.mark.parametrize(("apart", "broken"), [(0, set()), (1, {"too-soon"})])
def test_a_state_of_a_moment_ago_may_be_recorded_with_a_step_that_was_overdue_and_not_after_it(apart: int, broken: set[str]) -> None:
    history = shopped()
    shop = Shop(history)
    shop.change("orders/cancelled", 78, 90_000_000, 60.0, after=None)
    newest = shop.change("orders/updated", 78, 110_000_000, 80.0, after=None)
    together = round(80.5 * 1e6)
    shop.record("r-step", "orders/cancelled", newest.resource, newest.version, 80.5, "reconciler", together)
    shop.record("r-state", "orders/updated", newest.resource, newest.version, 80.6, "reconciler", together + apart)
    assert rules(history) == broken


def test_what_came_and_went_unseen_is_no_loss() -> None:
    history = shopped()
    shop = Shop(history)
    shop.change("orders/create", 77, 90_000_000, 60.0, after=None)
    assert rules(history) == {"missed", "missed-step"}
    shop.change("orders/delete", 77, None, 62.0, after=None)
    assert rules(history) == set()
