"""Faults are drawn by seed: the same again for the same seed, every kind at least once, and not all kinds in every block."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape import crash
from hooktape.errors import UsageError
from hooktape.local.soak import faults, run, workload
from hooktape.local.soak.shopping import Shopping

BOTH = ("sqlite", "postgresql")


@given(seed=st.integers(0, 2**32), block=st.integers(0, 50), rounds=st.integers(1, 60))
def test_a_seed_and_a_block_fix_every_draw(seed: int, block: int, rounds: int) -> None:
    cells = faults.chosen((), BOTH)
    first = faults.draws(seed, block, rounds, cells, "sqlite", ["worker-kill"])
    assert first == faults.draws(seed, block, rounds, cells, "sqlite", ["worker-kill"])
    assert len(first) == rounds
    assert all(draw.cell is None or draw.cell.ledger in ("", "sqlite") for draw in first)
    assert all(draw.passage >= 1 for draw in first)


@given(seed=st.integers(0, 2**32))
def test_48_rounds_on_both_ledgers_draw_every_kind(seed: int) -> None:
    cells = faults.chosen((), BOTH)
    missing = {cell.name for cell in cells}
    for number, rounds in enumerate(run.blocks(48, 2)):
        drawn = faults.draws(seed, number, rounds, cells, BOTH[number], missing)
        missing -= {draw.cell.name for draw in drawn if draw.cell}
    assert not missing


def test_a_quarter_of_the_rounds_is_quiet_once_every_kind_has_hit() -> None:
    cells = faults.chosen((), BOTH)
    drawn = [draw for block in range(10) for draw in faults.draws(1, block, 48, cells, "postgresql", ())]
    assert sum(draw.cell is None for draw in drawn) == 10 * 12


def test_a_block_leaves_about_half_of_the_kinds_out() -> None:
    cells = faults.chosen((), BOTH)
    kinds = [len({draw.cell.name for draw in faults.draws(1, block, 2000, cells, "postgresql", ()) if draw.cell}) for block in range(20)]
    assert len(cells) * 0.3 < sum(kinds) / len(kinds) < len(cells) * 0.7


@given(seed=st.integers(0, 2**32))
def test_200_rounds_of_reconcilers_draw_every_kind_of_theirs_and_no_other_draws_one(seed: int) -> None:
    cells = faults.chosen((), BOTH, reconcile=True)
    assert {cell.point for cell in cells if cell.act == "crash"} == set(crash.RECONCILE)
    assert {cell.target for cell in cells} == {"reconciler", "worker", "ingest", "broker", "postgres"}
    assert "reconciler" not in {cell.target for cell in faults.chosen((), BOTH)}
    missing = {cell.name for cell in cells}
    for number, rounds in enumerate(run.blocks(200, 2)):
        drawn = faults.draws(seed, number, rounds, cells, BOTH[number % 2], missing)
        missing -= {draw.cell.name for draw in drawn if draw.cell}
    assert not missing


def test_a_prefix_names_a_family_and_what_is_none_is_refused() -> None:
    assert {cell.target for cell in faults.chosen(["broker"], BOTH)} == {"broker"}
    assert [cell.name for cell in faults.chosen(["worker-kill"], BOTH)] == ["worker-kill"]
    assert not faults.chosen(["postgres"], ("sqlite",))
    with pytest.raises(UsageError, match="worker-tickle"):
        faults.chosen(["worker-tickle"], BOTH)


def test_every_crash_point_is_a_kind_of_fault() -> None:
    assert {cell.point for cell in faults.CELLS.values() if cell.point} == set(crash.POINTS)


@given(seed=st.integers(0, 2**32), number=st.integers(1, 60))
def test_a_replays_moments_are_drawn_by_seed_over_its_progress_with_its_targets_in_turn(seed: int, number: int) -> None:
    cells = faults.chosen((), BOTH)
    drawn = faults.moments(seed, number, cells, "postgresql")
    assert drawn == faults.moments(seed, number, cells, "postgresql")
    assert len(drawn) == number + number // 2
    shares = [moment.share for moment in drawn]
    assert shares == sorted(shares)
    assert all(0 <= share < 1 for share in shares)
    targets = [moment.draw.cell.target for moment in drawn if moment.draw.cell]
    assert targets == [("worker", "replay", "postgres", "broker")[i % 4] for i in range(len(drawn))]


def test_a_ledger_in_a_file_is_no_target_of_its_own() -> None:
    drawn = faults.moments(1, 30, faults.chosen((), ("sqlite",)), "sqlite")
    assert {moment.draw.cell.target for moment in drawn if moment.draw.cell} == {"worker", "replay", "broker"}
    with pytest.raises(UsageError, match="worker, replay, postgres, broker"):
        faults.moments(1, 3, faults.chosen(["ingest"], BOTH), "sqlite")


@given(rounds=st.integers(1, 1000), ledgers=st.sampled_from([1, 2]))
def test_blocks_are_of_at_most_fifty_rounds_and_differ_by_one_at_most(rounds: int, ledgers: int) -> None:
    sizes = run.blocks(rounds, ledgers)
    assert sum(sizes) == rounds
    assert max(sizes) <= 50
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) >= min(ledgers, rounds)


def test_a_seed_fixes_the_webhooks_and_their_fate() -> None:
    first, again, other = workload.webhooks(1, 0), workload.webhooks(1, 0), workload.webhooks(2, 0)
    some = [next(first) for _ in range(500)]
    assert some == [next(again) for _ in range(500)]
    assert some != [next(other) for _ in range(500)]
    assert len({webhook.wid for webhook in some}) == 500
    assert {webhook.topic for webhook in some} == set(workload.TOPICS)
    fates = [workload.fate(1, webhook.wid) for webhook in some]
    assert fates == [workload.fate(1, webhook.wid) for webhook in some]
    assert any(fate.failures for fate in fates)
    assert any(fate.rejected for fate in fates)


def test_a_shipment_shares_its_orders_lane() -> None:
    shipment = next(webhook for webhook in workload.webhooks(1, 0) if webhook.topic == workload.SHIPPING)
    assert shipment.lane.startswith(f"{shipment.shop}/order/")
    assert shipment.resource.startswith("fulfillment/")


def test_a_seed_fixes_which_of_a_shops_webhooks_get_lost() -> None:
    def fates(seed: int) -> list[str]:
        shopping = Shopping(seed, 0, grace=4.0)
        told = shopping.webhooks()
        calm = [next(told) for _ in range(20)]
        assert {change.fate for change in shopping.changes} == {"sent"}
        shopping.unreliable = True
        came = {webhook.wid for webhook in [*calm, *(next(told) for _ in range(300))]}
        assert came == {change.wid for change in shopping.changes if change.fate != "dropped"}
        return [change.fate for change in shopping.changes]

    first = fates(1)
    assert first == fates(1)
    assert first != fates(2)
    assert 0.1 < first.count("dropped") / len(first) < 0.2
    assert first.count("late") > 0


def test_every_topic_of_the_shop_has_its_handler() -> None:
    topics = [topic for handler in workload.handlers("postgresql", shop=True) for topic in handler.topics]
    assert sorted(topics) == sorted(workload.SHOP_TOPICS)
