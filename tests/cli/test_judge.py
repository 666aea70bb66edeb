"""The demo's judge, with one fault of each kind planted: a check that can't fail would prove nothing."""


import pytest

from hooktape.cli.demonstration.judge import judge
from hooktape.cli.demonstration.warehouse import Effect
from hooktape.local.shop.faults import Fate
from hooktape.local.shop.truth import Delivery, Outcome, Truth
from hooktape.schemas.event import Event


def delivery(number, resource, version, accepted=1, topic="orders/updated"):
    return Delivery(number, topic, resource, "gid", version, f"w{number}", f"e{number}", "", "", Fate.ON_TIME,
                    outcome=Outcome.DELIVERED if accepted else Outcome.DROPPED, accepted=accepted)  # fmt: skip


def event(id_, resource, version, source="webhook"):
    return Event(webhook_id=id_, shop="s", topic="orders/updated", payload=b"{}", received_us=1, resource=resource, version_us=version,
                 source=source)  # fmt: skip


def history():
    """Order 1 changed twice, both delivered; order 2 changed twice, the newest dropped and reconciled."""
    truth = Truth()
    truth.deliveries = [delivery(1, "order/1", 10), delivery(2, "order/1", 11), delivery(3, "order/2", 10), delivery(4, "order/2", 12, 0)]
    tape = [event("w1", "order/1", 10), event("w2", "order/1", 11), event("w3", "order/2", 10), event("s4", "order/2", 12, "reconciler")]
    effects = [Effect("w1", "order/1", 10, "webhook"), Effect("w2", "order/1", 11, "webhook"), Effect("w3", "order/2", 10, "webhook"),
               Effect("s4", "order/2", 12, "reconciler")]  # fmt: skip
    return truth, tape, effects


def test_a_clean_history_is_clean():
    truth, tape, effects = history()
    verdict = judge(truth, tape, effects)
    assert verdict.clean
    assert (verdict.changed, verdict.acknowledged, verdict.recorded, verdict.reconciled, verdict.handled) == (4, 3, 3, 1, 4)


def test_an_older_state_that_was_skipped_isnt_lost():
    truth, tape, effects = history()
    verdict = judge(truth, tape, [e for e in effects if e.webhook_id != "w1"])
    assert verdict.clean
    assert verdict.superseded == 1


@pytest.mark.parametrize(("gone", "named"), [("w2", "w2 (order/1)"), ("s4", "w4 (order/2)")])
def test_a_newest_state_without_an_effect_is_lost(gone, named):
    truth, tape, effects = history()
    verdict = judge(truth, tape, [e for e in effects if e.webhook_id != gone])
    assert verdict.lost == (named,)
    assert not verdict.clean


def test_an_acknowledged_webhook_that_isnt_on_the_tape_is_named():
    truth, tape, effects = history()
    verdict = judge(truth, [e for e in tape if e.webhook_id != "w1"], effects)
    assert verdict.unrecorded == ("w1",)
    assert not verdict.clean


def test_a_second_effect_of_one_webhook_is_named():
    truth, tape, effects = history()
    verdict = judge(truth, tape, [*effects, effects[0]])
    assert verdict.doubled == ("w1",)
    assert not verdict.clean


def test_a_dropped_state_that_wasnt_reconciled_is_missed():
    truth, tape, effects = history()
    verdict = judge(truth, tape[:3], effects)
    assert verdict.missed == ("order/2",)
    assert not verdict.clean


def test_a_synthetic_event_for_what_had_arrived_is_invented():
    truth, tape, effects = history()
    verdict = judge(truth, [*tape, event("s1", "order/1", 11, "reconciler")], effects)
    assert verdict.invented == ("order/1",)
    assert not verdict.clean


def test_a_creation_that_was_dropped_is_owed_although_a_later_state_arrived():
    truth, tape, effects = history()
    truth.deliveries.insert(0, delivery(5, "order/1", 9, accepted=0, topic="orders/create"))
    assert judge(truth, tape, effects).missed == ("order/1",)
    created = event("s5", "order/1", 11, "reconciler")
    assert judge(truth, [*tape, created], [*effects, Effect("s5", "order/1", 11, "reconciler")]).clean


def test_an_exit_code_of_one_is_what_a_loss_gives():
    from hooktape.cli.demo import _Unclean

    assert _Unclean("lost").exit_code == 1


def test_the_warehouses_own_count_of_recovered_orders():
    from hooktape.cli.demonstration.warehouse import Warehouse

    warehouse = Warehouse()
    warehouse.refused.update(["w1", "w1", "w2"])
    warehouse.effects.append(Effect("w1", "order/1", 1, "webhook"))
    assert warehouse.recovered == 1
