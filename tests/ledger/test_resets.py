"""Saved offsets, their windows, and what a range of the tape is to a group, on both databases."""

from msgspec import structs

from hooktape.ledger.checks import State, Waiting
from hooktape.ledger.handlers import Known
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.resets import Mix, ResetState, Saved
from hooktape.schemas.event import Coordinates

from .conftest import Owner, key
from .test_catalogue import LOG, entry, record

PLACE = (LOG, 0)


def saved(id_: str, at: float = 1.0, old: int | None = 10, new: int = 0, **fields: object) -> Saved:
    return Saved(id_, "g", at, "ann@desk", "bad deploy", True, {PLACE: old}, {PLACE: new}, **fields)  # type: ignore[arg-type]


def test_a_reset_is_kept_with_its_offsets_its_windows_and_in_the_audit_trail(ledger: Ledger) -> None:
    ledger.resets.save(saved("a"), [(LOG, 0, 0, 10)], {PLACE: 10})
    ledger.resets.save(saved("b", old=None), [], {PLACE: 0})
    assert ledger.resets.list("g") == [saved("b", old=None), saved("a")]
    assert ledger.resets.list("other") == []
    ledger.resets.done("a")
    assert ledger.resets.get("a") == saved("a", state=ResetState.DONE)
    (window,) = ledger.outcomes.reprocess("g")
    assert (window.generation, window.from_offset, window.to_offset) == ("a", 0, 10)
    latest, first = ledger.audit.list()
    assert (first.action, first.detail["offsets"], first.detail["reprocess"]) == ("reset", [[LOG, 0, 10, 0]], "a")
    assert latest.detail["reprocess"] is None


def test_taking_one_back_forgets_its_windows_and_the_next_one_what_was_passed(ledger: Ledger) -> None:
    ledger.resets.save(saved("a"), [(LOG, 0, 0, 10), (LOG, 1, 0, 5)], {PLACE: 10})
    ledger.resets.save(saved("b"), [(LOG, 0, 2, 8)], {PLACE: 9})
    assert [w.generation for w in ledger.outcomes.reprocess("g")] == ["a", "a", "b"]  # neither is passed: they end at 10 and 8
    ledger.resets.save(saved("c", undoes="a"), [], {PLACE: 8})
    assert ledger.outcomes.reprocess("g") == []  # a's taken back, b's passed
    assert [(s.id, s.state) for s in ledger.resets.list("g")] == [("c", "begun"), ("b", "begun"), ("a", "undone")]
    assert ledger.audit.list()[0].action == "reset undo"


def test_windows_are_told_by_the_age_of_their_resets_and_forgotten_one_by_one(ledger: Ledger) -> None:
    ledger.resets.save(saved("a", at=100), [(LOG, 0, 0, 10), (LOG, 1, 0, 5)], {})
    ledger.resets.save(saved("b", at=200), [(LOG, 0, 0, 7)], {})
    assert [w.generation for w in ledger.resets.windows(201)["g"]] == ["a", "a", "b"]
    assert ledger.resets.windows(100) == {}
    first, _ = ledger.resets.windows(101)["g"]
    assert ledger.resets.forget("g", [first]) == 1
    assert ledger.resets.forget("g", [first]) == 0
    assert {(w.generation, w.partition) for w in ledger.outcomes.reprocess("g")} == {("a", 1), ("b", 0)}


def test_a_range_is_counted_by_what_became_of_its_events(ledger: Ledger) -> None:
    record(ledger, *(structs.replace(entry(n), key=key(f"w{n}"), offset=n) for n in range(10)),
           structs.replace(entry(3), key=key("elsewhere"), partition=1))  # fmt: skip
    me = Owner(ledger)
    for name, state in (("w1", State.SUCCEEDED), ("w2", State.STALE), ("w3", State.DEAD), ("w9", State.SUCCEEDED)):
        assert me.finish(name, state)
    assert me.finish("w4", State.WAITING, wait=Waiting(key("w4"), None, 1, 30, 99.0, Coordinates(LOG, 0, 4)))
    assert ledger.resets.mix("g", PLACE, 0, 9, 9) == Mix(unhandled=5, finished=2, dead=1, in_retry=1)
    assert ledger.resets.mix("other", PLACE, 0, 9, 9) == Mix(unhandled=9)
    assert ledger.resets.mix("g", PLACE, 3, 5, 5) == Mix(dead=1, in_retry=1)
    assert ledger.resets.waiting("g") == 1
    assert ledger.resets.mix("g", (LOG, 7), 0, 9, 0).events == 0


def test_events_for_which_the_group_has_no_handler_arent_its_own(ledger: Ledger) -> None:
    record(ledger, *(structs.replace(entry(n), key=key(f"w{n}"), offset=n, topic="themes/publish" if n % 2 else "orders/create")
                     for n in range(6)))  # fmt: skip
    assert ledger.resets.mix("g", PLACE, 0, 6, 0) == Mix(unhandled=6)  # no worker of it ever started
    ledger.handlers.record("g", [Known("one", ("orders/create",), True, True), Known("two", ("orders/edited",), True, True)], 1.0)
    assert ledger.resets.mix("g", PLACE, 0, 6, 0) == Mix(unhandled=3)


def test_what_an_earlier_reset_still_marks_is_told_apart(ledger: Ledger) -> None:
    record(ledger, *(structs.replace(entry(n), key=key(f"w{n}"), offset=n) for n in range(6)))
    me = Owner(ledger)
    for n in range(6):
        assert me.finish(f"w{n}", State.DEAD if n == 5 else State.SUCCEEDED, generation="b" if n == 3 else "")
    ledger.resets.save(saved("a"), [(LOG, 0, 0, 6)], {})
    ledger.resets.save(saved("b"), [(LOG, 0, 2, 4)], {})
    # 3 has run for the newest window that holds it.
    assert ledger.resets.mix("g", PLACE, 0, 6, 0) == Mix(finished=5, dead=1, marked=5)
    assert ledger.resets.mix("g", PLACE, 0, 6, 4) == Mix(finished=5, dead=1, marked=6)
    assert ledger.resets.mix("g", PLACE, 0, 6, 6) == Mix(finished=5, dead=1)


def test_a_living_worker_is_known_by_its_lease(ledger: Ledger) -> None:
    ledger.ownership.heartbeat("g", "desk:7:x", 100, 3)
    assert ledger.ownership.living("g", 102) == {"desk:7:x": 1}
    assert ledger.ownership.living("g", 103) == {}
    assert ledger.ownership.living("other", 101) == {}
