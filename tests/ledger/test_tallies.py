"""What was created, changed and deleted in which minute, and what a group has open of it, on both databases."""

from dataclasses import replace

from hooktape.ledger.catalogue import Entry
from hooktape.ledger.checks import Finish, State
from hooktape.ledger.keys import EventKey, event_id16
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.tallies import MINUTE, Asked, Minute

from .conftest import DAY, Owner
from .test_catalogue import entry, record

SHOP = "one.myshopify.com"
T0 = DAY * 86_400_000_000
TOPICS = ("orders/create", "orders/updated", "orders/delete")


def at(number: int, topic: str, order: int, minute: float, *, received: float | None = None, version: float | None = None) -> Entry:
    """Event `number` tells of an order in a minute of the day; it came `received` minutes into it."""
    moment = T0 + round(minute * MINUTE)
    came = moment + 1_000_000 if received is None else T0 + round(received * MINUTE)
    told = None if topic == "orders/delete" else moment if version is None else T0 + round(version * MINUTE)
    return entry(number, topic=topic, resource=f"order/{order}", root=f"order/{order}", version=told, triggered_at=moment, received_at=came)


def minutes(ledger: Ledger, until: int = 100, **more: object) -> list[Minute]:
    asked = Asked(SHOP, TOPICS, "orders/create", "orders/delete", T0, T0 + until * MINUTE, **more)  # type: ignore[arg-type]
    return sorted(ledger.tallies.minutes(asked), key=lambda m: (m.what, m.at))


def minute(what: str, number: int, count: int, open_: int = 0) -> Minute:
    return Minute(what, T0 + number * MINUTE, count, open_)


def test_each_resource_counts_once_where_it_began_and_where_it_last_changed(ledger: Ledger) -> None:
    record(ledger, *(at(*event) for event in [
        (1, "orders/create", 1, 3.0), (2, "orders/create", 1, 3.5), (3, "orders/create", 2, 3.9), (4, "orders/updated", 1, 7.0),
        (5, "orders/updated", 1, 9.0), (6, "orders/updated", 1, 8.0),
    ]))  # fmt: skip
    assert minutes(ledger) == [minute("changed", 3, 1), minute("changed", 9, 1), minute("created", 3, 2)]


def test_a_creation_is_dated_by_the_earlier_of_its_version_and_its_delivery(ledger: Ledger) -> None:
    record(ledger, at(1, "orders/create", 1, 5.0, version=4.9), at(2, "orders/create", 2, 5.0, version=50.0, received=60.0))
    assert [m for m in minutes(ledger) if m.what == "created"] == [minute("created", 4, 1), minute("created", 5, 1)]


def test_what_was_deleted_is_no_longer_among_the_living_and_what_lives_again_is(ledger: Ledger) -> None:
    record(ledger, *(at(*event) for event in [
        (1, "orders/create", 1, 1.0), (2, "orders/delete", 1, 2.0), (3, "orders/create", 2, 1.0), (4, "orders/delete", 2, 2.0),
        (5, "orders/updated", 2, 3.0),
    ]))  # fmt: skip
    assert minutes(ledger) == [minute("changed", 3, 1), minute("created", 1, 1), minute("deleted", 2, 2)]


def test_what_changed_again_since_the_end_has_moved_away(ledger: Ledger) -> None:
    record(ledger, at(1, "orders/create", 1, 1.0), at(2, "orders/updated", 1, 120.0), at(3, "orders/create", 2, 1.0))
    assert minutes(ledger) == [minute("changed", 1, 1), minute("created", 1, 2), minute("moved", 1, 1)]


def test_the_minute_after_the_end_is_told_too_and_nothing_later_nor_of_other_shops_and_topics(ledger: Ledger) -> None:
    rows = [at(1, "orders/create", 1, 100.0), at(2, "orders/create", 2, 101.0), at(3, "products/create", 3, 1.0)]
    record(ledger, *rows, entry(4, shop="two.myshopify.com", key=EventKey(DAY, event_id16("two", "w4"))))
    assert minutes(ledger) == [minute("changed", 100, 1), minute("created", 100, 1)]


def test_what_a_group_has_not_finished_is_open(ledger: Ledger) -> None:
    record(ledger, *(at(*event) for event in [
        (1, "orders/create", 1, 1.0), (2, "orders/create", 2, 1.0), (3, "orders/create", 3, 1.0), (4, "orders/updated", 1, 2.0),
        (5, "orders/updated", 2, 2.0), (6, "orders/updated", 3, 2.0), (7, "orders/delete", 4, 3.0),
    ]))  # fmt: skip
    worker = Owner(ledger)
    ends = [Finish(EventKey(DAY, event_id16(SHOP, f"w{number}")), state, 1, worker.part, worker.epoch, "any")
            for number, state in ((1, State.SUCCEEDED), (2, State.DEAD), (4, State.STALE), (5, State.DEAD), (7, State.SUCCEEDED))]
    assert worker.record(ends) == [True] * len(ends)
    every = {"group": "g", "taken": list(TOPICS)}
    assert minutes(ledger, **every) == [minute("changed", 2, 3, 2), minute("created", 1, 3, 2), minute("deleted", 3, 1)]
    # Of a topic that the group has no handler for nothing is open: its newest state is that of the topics that it has.
    assert minutes(ledger, group="g", taken=["orders/create"]) == [minute("changed", 2, 3, 2), minute("created", 1, 3, 2),
                                                                  minute("deleted", 3, 1)]  # fmt: skip
    assert minutes(ledger, group="other", taken=["orders/create"])[1] == minute("created", 1, 3, 3)


def test_creations_of_a_minute_are_told_by_name(ledger: Ledger) -> None:
    record(ledger, at(1, "orders/create", 1, 5.1), at(2, "orders/create", 2, 5.2), at(3, "orders/create", 3, 6.0))
    asked = Asked(SHOP, TOPICS, "orders/create", "orders/delete", T0 + 5 * MINUTE, T0 + 6 * MINUTE)
    assert ledger.tallies.created(asked, 10) == {"order/1": False, "order/2": False}
    worker = Owner(ledger)
    assert worker.record([Finish(EventKey(DAY, event_id16(SHOP, "w1")), State.SUCCEEDED, 1, worker.part, worker.epoch, "any")])
    of_group = replace(asked, group="g", taken=["orders/create"])
    assert ledger.tallies.created(of_group, 10) == {"order/1": False, "order/2": True}
    assert len(ledger.tallies.created(asked, 1)) == 1


def test_the_oldest_event_says_when_recording_began(ledger: Ledger) -> None:
    assert ledger.tallies.begun(SHOP, TOPICS) is None
    record(ledger, at(1, "orders/updated", 1, 7.0), at(2, "orders/create", 2, 9.0))
    assert ledger.tallies.begun(SHOP, TOPICS) == T0 + 7 * MINUTE + 1_000_000
    assert ledger.tallies.begun("two.myshopify.com", TOPICS) is None
