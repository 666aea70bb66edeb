"""The breakers' reports and the operators' words, on both databases."""

from collections.abc import Callable
from dataclasses import replace

from hooktape.ledger.breakers import STALE_SECONDS, Cause, Override, Report
from hooktape.ledger.ledger import Ledger

T = "orders/create"
ROW = Report(T, "c0ffee", "open", 100.0, 130.0, 21, 3, "KeyError", "'customer'")


def test_a_worker_replaces_what_it_said_and_nobody_elses(ledger: Ledger) -> None:
    ledger.breakers.say("g", "w1", [ROW, replace(ROW, error_group="bad", failures=2)], 101.0)
    ledger.breakers.say("g", "w2", [replace(ROW, since=90.0, probe_at=None, state="half-open", failures=30, shops=7)], 101.0)
    ledger.breakers.say("other", "w3", [replace(ROW, topic="products/update")], 101.0)
    [status] = ledger.breakers.list(102.0, "g")
    assert (status.group, status.topic, status.workers, status.since, status.probe_at) == ("g", T, 2, 90.0, 130.0)
    assert status.causes == (Cause("c0ffee", "KeyError", "'customer'", 51, 7), Cause("bad", "KeyError", "'customer'", 2, 3))
    assert status.open
    assert [s.group for s in ledger.breakers.list(102.0)] == ["g", "other"]
    ledger.breakers.say("g", "w2", [], 103.0)
    assert [s.workers for s in ledger.breakers.list(103.0, "g")] == [1]
    ledger.breakers.say("g", "w1", [], 103.0)
    assert ledger.breakers.list(103.0, "g") == []


def test_what_a_dead_worker_said_is_forgotten(opened: Callable[[], Ledger]) -> None:
    ledger, other = opened(), opened()
    ledger.breakers.say("g", "dead", [ROW], 100.0)
    assert ledger.breakers.list(100.0 + STALE_SECONDS, "g")
    assert not ledger.breakers.list(100.1 + STALE_SECONDS, "g")
    other.breakers.say("g", "live", [], 100.1 + STALE_SECONDS)
    assert not ledger.breakers.list(100.0, "g")


def test_an_operators_word_is_kept_audited_and_taken_back(ledger: Ledger) -> None:
    breakers = ledger.breakers
    assert breakers.set_override("g", T, "closed", 500.0, who="ada", reason="the rest can go", now=10.0)
    assert breakers.set_override("g", T, "open", None, who="bo", reason="wait for the warehouse", now=20.0)
    word = Override(T, "open", None, "bo", "wait for the warehouse", 20.0)
    assert breakers.overrides("g", 21.0) == {T: word}
    assert breakers.overrides("other", 21.0) == {}
    [status] = breakers.list(21.0, "g")
    assert (status.override, status.workers, status.open, status.since) == (word, 0, False, None)
    assert breakers.set_override("g", T, None, None, who="bo", reason="it's back", now=30.0)
    assert not breakers.set_override("g", T, None, None, who="bo", reason="it's back", now=31.0)
    assert breakers.overrides("g", 31.0) == {}
    assert [(e.who, e.action, e.target, e.reason, e.detail) for e in ledger.audit.list()] == [
        ("bo", "breaker auto", f"g {T}", "it's back", {"until": None}),
        ("bo", "breaker open", f"g {T}", "wait for the warehouse", {"until": None}),
        ("ada", "breaker closed", f"g {T}", "the rest can go", {"until": 500.0}),
    ]


def test_a_topic_that_is_let_through_is_not_open_until_the_time_is_over(ledger: Ledger) -> None:
    ledger.breakers.say("g", "w", [ROW], 100.0)
    ledger.breakers.set_override("g", T, "closed", 110.0, who="ada", reason="known", now=100.0)
    assert [s.open for s in ledger.breakers.list(109.0, "g")] == [False]
    assert [(s.open, s.override) for s in ledger.breakers.list(110.0, "g")] == [(True, None)]


def test_messages_are_cut_and_cleaned(ledger: Ledger) -> None:
    ledger.breakers.say("g", "w", [replace(ROW, error_message="a\0b" + "é" * 1000)], 100.0)
    [status] = ledger.breakers.list(100.0)
    assert status.causes[0].error_message == "ab" + "é" * 149
