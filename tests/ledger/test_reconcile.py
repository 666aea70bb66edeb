"""The reconciler's memory, leases and the audit trail, on both databases."""

from dataclasses import replace

from hooktape.ledger.ledger import Ledger
from hooktape.ledger.reconcile import Cursor, Intent, Pending
from hooktape.ledger.timetable import Parked

ROW = Pending("one", "orders", "order/1", 500, "update", "orders/updated", 10.0, {"hooktape.log.orders.updated/0": 41})


def test_a_cursor_begins_empty_keeps_its_coverage_and_never_goes_back(ledger: Ledger) -> None:
    assert ledger.reconcile.cursor("one", "orders") == Cursor()
    assert ledger.reconcile.cover_from("one", "orders", 100) == 100
    assert ledger.reconcile.cover_from("one", "orders", 50) == 100
    ledger.reconcile.advance("one", "orders", 300, 7.0)
    ledger.reconcile.advance("one", "orders", 200, 8.0)
    assert ledger.reconcile.cursor("one", "orders") == Cursor(100, 300, 8.0)
    ledger.reconcile.advance("one", "orders", 400, 8.0, steps_from=250)
    assert ledger.reconcile.cursor("one", "orders") == Cursor(100, 400, 8.0, 250)
    ledger.reconcile.advance("one", "orders", 500, 8.0)
    assert ledger.reconcile.cursor("one", "orders") == Cursor(100, 500, 8.0)
    ledger.reconcile.advance("one", "products", 900, 9.0)
    assert ledger.reconcile.cover_from("one", "products", 1) == 1
    assert ledger.reconcile.last_success() == {"one": 8.0}


def test_a_pending_change_is_replaced_but_keeps_when_it_was_first_seen(ledger: Ledger) -> None:
    ledger.reconcile.put_pending([ROW, replace(ROW, resource="order/2", first_seen=5.0)])
    newer = replace(ROW, version=600, topic="orders/create", first_seen=30.0, high_water={"hooktape.log.orders.updated/0": 50})
    ledger.reconcile.put_pending([newer])
    assert ledger.reconcile.pending() == [replace(ROW, resource="order/2", first_seen=5.0), replace(newer, first_seen=10.0)]
    assert [p.resource for p in ledger.reconcile.pending("one", "orders", seen_before=5.0)] == ["order/2"]
    assert ledger.reconcile.pending("two") == ledger.reconcile.pending("one", "products") == []


def test_another_kind_of_finding_waits_from_when_it_was_first_seen_itself(ledger: Ledger) -> None:
    # A deletion that was held for days, of what lives after all: its next change isn't days late.
    held = replace(ROW, kind="delete", first_seen=10.0, held=True)
    changed = replace(ROW, version=900, first_seen=9_000.0)
    ledger.reconcile.put_pending([held])
    ledger.reconcile.put_pending([changed])
    assert ledger.reconcile.pending() == [changed]


def test_a_pending_change_is_not_removed_once_a_newer_one_took_its_place(ledger: Ledger) -> None:
    deletion = replace(ROW, resource="order/2", version=None)
    ledger.reconcile.put_pending([replace(ROW, version=600), deletion])
    assert ledger.reconcile.remove_pending([ROW]) == 0
    assert ledger.reconcile.remove_pending([replace(ROW, version=600), deletion]) == 2
    assert ledger.reconcile.pending() == []


def test_what_is_proposed_changes_nothing_that_is_pending_already(ledger: Ledger) -> None:
    waiting = replace(ROW, kind="delete", nulled_at=20.0)
    ledger.reconcile.put_pending([waiting])
    other = replace(ROW, resource="order/2", first_seen=11.0)
    ledger.reconcile.put_pending([replace(ROW, version=900, kind="delete"), other], propose=True)
    assert ledger.reconcile.pending() == [waiting, other]
    ledger.reconcile.put_pending([replace(waiting, held=True)])
    assert ledger.reconcile.pending_counts(10.0) == {("one", "orders"): (2, 1, 1)}


def test_a_synthetic_event_is_intended_once_and_then_recorded_and_may_have_a_twin(ledger: Ledger) -> None:
    memory, one, two = ledger.reconcile, Intent("id-1", "order/1", 5, {"log/0": 7}), Intent("id-2", "order/2", -1, {})
    assert memory.intend("s", "orders", [one], 1.0) == {"id-1": "new"}
    assert memory.intend("s", "orders", [replace(one, marks={}), two], 2.0) == {"id-1": "intended", "id-2": "new"}
    assert memory.intents("s", "orders") == [one, two]
    assert memory.intents("s", "products") == memory.intents("other", "orders") == []
    memory.recorded("s", "orders", ["id-1"], 3.0)
    assert memory.intend("s", "orders", [one], 4.0) == {"id-1": "recorded"}
    assert (memory.intents("s", "orders"), memory.intents("s", "orders", "recorded")) == ([two], [one])
    assert [memory.twinned("s", "orders", ["id-1"], 5.0) for _ in range(2)] == [1, 0]
    memory.recorded("s", "orders", ["id-1"], 6.0)
    assert memory.intents("s", "orders", "recorded") == []
    assert [memory.forget_intents(before) for before in (5.0, 5.5)] == [0, 1]


def test_when_passes_are_due_is_set_once_and_moved_on_and_parked_shops_keep_their_beginning(ledger: Ledger) -> None:
    table = ledger.timetable
    latest = {"fast": 99.0, "sweep": 999.0}
    table.begin({("a", "fast"): 10.0, ("a", "sweep"): 20.0}, latest)
    table.begin({("a", "fast"): 99.0, ("b", "fast"): 30.0}, latest)
    table.set({("a", "sweep"): 25.0})
    assert table.due() == {("a", "fast"): 10.0, ("a", "sweep"): 25.0, ("b", "fast"): 30.0}
    assert table.due("b") == {("b", "fast"): 30.0}
    assert table.due_by(25.0) == ({("a", "fast"): 10.0, ("a", "sweep"): 25.0}, 30.0)
    assert table.due_by(30.0) == (table.due(), None)
    table.begin({("a", "sweep"): 5.0, ("b", "fast"): 5.0}, {"fast": 30.0, "sweep": 24.0})
    assert table.due() == {("a", "fast"): 10.0, ("a", "sweep"): 5.0, ("b", "fast"): 30.0}
    table.park("a", "locked", 5.0, 6.0)
    table.park("a", "forbidden", 7.0, 8.0)
    assert table.parked() == {"a": Parked("a", "forbidden", 5.0, 8.0)}
    assert [table.unpark("a") for _ in range(2)] == [True, False]


def test_a_lease_has_one_holder_and_each_new_one_a_higher_epoch(ledger: Ledger) -> None:
    leases = ledger.leases
    assert leases.acquire("reconciler", "a", 0, 10) == 1
    assert leases.acquire("reconciler", "b", 5, 10) is None
    assert leases.acquire("reconciler", "a", 5, 10) == 1
    assert leases.renew("reconciler", "a", 14, 10)
    assert leases.acquire("reconciler", "b", 24, 10) == 2
    assert not leases.renew("reconciler", "a", 25, 10)
    assert not leases.release("reconciler", "a")
    assert leases.release("reconciler", "b")
    assert leases.acquire("reconciler", "b", 26, 10) == 3
    assert not leases.renew("reconciler", "b", 36, 10)
    assert leases.acquire("other", "b", 26, 10) == 1


def test_the_audit_trail_is_read_the_latest_first(ledger: Ledger) -> None:
    ledger.audit.append(1.0, "ada", "replay run", "job-1", "fixed the size mapping", {"events": 3})
    ledger.audit.append(2.0, "bo", "reset", "g", "wrong\0 offsets")
    second, first = ledger.audit.list()
    assert (first.who, first.action, first.target, first.detail) == ("ada", "replay run", "job-1", {"events": 3})
    assert (second.seq > first.seq, second.reason, second.detail) == (True, "wrong offsets", {})
    assert ledger.audit.list(1) == [second]
