"""What a client's statistics tell of a broker without KIP-848. Pure."""

from typing import Any

from hooktape.consumers.protocol import Silence


def statistics(at: int, sent: int, known: int, **group: object) -> dict[str, Any]:
    """The client's statistics `at` seconds, after it has sent so many requests, `known` of them broken down by kind."""
    found = {"state": "up", "stateage": 4000, "join_state": "init"} | group
    return {"ts": at * 1_000_000, "cgrp": found, "brokers": {"b": {"tx": sent, "req": {"Metadata": known}}}}


def test_a_member_that_has_sent_nothing_but_what_is_broken_down_by_kind_is_silent() -> None:
    assert Silence().lasts(statistics(4, 6, 6))
    assert not Silence().lasts(statistics(4, 6, 6, state="wait-coord"))
    assert not Silence().lasts(statistics(4, 6, 6, stateage=900))


def test_a_spare_member_sends_heartbeats_and_is_left_alone() -> None:
    silence = Silence()
    assert not silence.lasts(statistics(4, 7, 6))
    assert not silence.lasts(statistics(30, 9, 7))
    assert silence.over
    assert not silence.lasts(statistics(90, 9, 7))


def test_a_handshake_alone_is_no_heartbeat() -> None:
    silence = Silence()
    assert not silence.lasts(statistics(4, 8, 6))
    assert silence.lasts(statistics(30, 9, 7))


def test_a_member_that_has_partitions_is_never_silent_again() -> None:
    silence = Silence()
    assert not silence.lasts(statistics(4, 6, 6, join_state="steady"))
    assert not silence.lasts(statistics(6, 6, 6))
