"""What's on the tape, and the searches over it, on both databases."""

from collections.abc import Callable

import pytest
from msgspec import structs

from hooktape.errors import UsageError
from hooktape.ledger.catalogue import After, Entry
from hooktape.ledger.checks import State
from hooktape.ledger.keys import EventKey, event_id16
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Clock, Selection, Status

from .conftest import DAY, Owner

MICROS = 86_400_000_000
LOG = "hooktape.log.orders.create"


def entry(number: int, **other: object) -> Entry:
    shop, webhook = "one.myshopify.com", f"w{number}"
    received = DAY * MICROS + number * 1_000_000
    made = Entry(
        EventKey(DAY, event_id16(shop, webhook)), shop, "orders/create", webhook, f"order/{number}", f"order/{number}", 5,
        received - 1000, received, "webhook", LOG, 0, number, 900)  # fmt: skip
    return structs.replace(made, **other)  # type: ignore[arg-type]


def record(ledger: Ledger, *rows: Entry) -> None:
    seen = ledger.catalogue.positions()
    ends = {(r.kafka_topic, r.partition): r.offset + 1 for r in sorted(rows, key=lambda r: r.offset)}
    assert ledger.catalogue.record(rows, ends, {place: seen.get(place) for place in ends})


def found(ledger: Ledger, group: str | None = None, **fields: object) -> list[str]:
    selection = Selection(**fields)  # type: ignore[arg-type]
    ids = [e.webhook_id for e in ledger.catalogue.find(selection, group)]
    assert ledger.catalogue.count(selection, group) == len(ids)
    return ids


def test_recorded_events_are_found_with_all_their_fields(ledger: Ledger) -> None:
    rows = [entry(1), entry(2, resource=None, root=None, version=None, triggered_at=None)]
    record(ledger, *rows)
    assert ledger.catalogue.find(Selection()) == rows
    assert ledger.catalogue.positions() == {(LOG, 0): 3}


def test_a_batch_counts_once_however_many_processes_read_it(ledger: Ledger, opened: Callable[[], Ledger]) -> None:
    other = opened()
    assert ledger.catalogue.record([entry(1)], {(LOG, 0): 2}, {(LOG, 0): None})
    assert not other.catalogue.record([entry(1)], {(LOG, 0): 2}, {(LOG, 0): None})
    assert not other.catalogue.record([entry(1), entry(2)], {(LOG, 0): 3, (LOG, 1): 9}, {(LOG, 0): 1, (LOG, 1): None})
    assert other.catalogue.positions() == {(LOG, 0): 2}
    assert other.catalogue.record([entry(2)], {(LOG, 0): 3}, {(LOG, 0): 2})
    assert [e.copies for e in ledger.catalogue.find(Selection())] == [1, 1]


def test_a_second_copy_is_counted_and_the_first_keeps_its_place(ledger: Ledger) -> None:
    record(ledger, entry(1), entry(1, offset=7))
    record(ledger, entry(1, offset=9, received_at=DAY * MICROS * 2))
    assert ledger.catalogue.find(Selection()) == [entry(1, copies=3)]


def test_an_event_is_got_by_its_webhook_id_with_or_without_the_shop(ledger: Ledger) -> None:
    twin = entry(1, shop="two.myshopify.com", key=EventKey(DAY + 3, event_id16("two.myshopify.com", "w1")), offset=4)
    record(ledger, entry(1), entry(2), twin)
    assert ledger.catalogue.get("w1", "two.myshopify.com") == [twin]
    assert sorted(e.shop for e in ledger.catalogue.get("w1")) == ["one.myshopify.com", "two.myshopify.com"]
    assert ledger.catalogue.get("w9") == ledger.catalogue.get("w9", "one.myshopify.com") == []
    assert ledger.catalogue.by_id(twin.key.id) == [twin]


def test_each_field_of_a_selection_narrows_it(ledger: Ledger) -> None:
    record(ledger, entry(1), entry(2, topic="orders/updated", shop="two.myshopify.com"),
           entry(3, topic="products/update", resource="product/3", root="product/3", source="reconciler"),
           entry(4, topic="refunds/create", resource="refund/8", root="order/1", triggered_at=None))  # fmt: skip
    assert found(ledger, ids=("w1", "w3", "nothing")) == ["w1", "w3"]
    assert found(ledger, topics=("orders/*",)) == ["w1", "w2"]
    assert found(ledger, topics=("*/update", "refunds/create")) == ["w3", "w4"]
    assert found(ledger, topics=("customers/*",)) == []
    assert found(ledger, topics=("orders/?reate*",)) == []
    assert found(ledger, shops=("two.myshopify.com",)) == ["w2"]
    assert found(ledger, resources=("order/1",)) == ["w1", "w4"]
    assert found(ledger, sources=("reconciler",)) == ["w3"]
    second = DAY * MICROS + 2_000_000
    assert found(ledger, since=second, until=second + 1_000_000) == ["w2"]
    assert found(ledger, since=second, clock=Clock.TRIGGERED) == ["w3", "w4"]
    assert found(ledger, topics=("orders/*",), resources=("order/1",), shops=("two.myshopify.com",)) == []


def test_a_status_is_a_groups_own(ledger: Ledger) -> None:
    rows = [entry(n) for n in range(1, 8)]
    record(ledger, *rows)
    states = [State.SUCCEEDED, State.WAITING, State.DEAD, State.STALE, State.DISCARDED, State.BEHIND]
    me = Owner(ledger)
    ends = [me.end("", s, 2, error_type="KeyError", error_group="cause", error_message="no size") for s in states]
    assert all(me.record([structs.replace(end, key=r.key, received_us=r.received_at) for end, r in zip(ends, rows, strict=False)]))
    assert found(ledger, "g", statuses=(Status.SUCCEEDED,)) == ["w1"]
    assert found(ledger, "g", statuses=(Status.FAILED, Status.DEAD)) == ["w2", "w3"]
    assert found(ledger, "g", statuses=(Status.STALE, Status.DISCARDED)) == ["w4", "w5"]
    assert found(ledger, "g", statuses=(Status.HELD,)) == ["w6"]
    # Which of the two an event without an outcome is, SQL can't say.
    unmet = (Status.PENDING, Status.NEVER_SEEN)
    assert found(ledger, "g", statuses=unmet) == ["w7"]
    assert found(ledger, "g", statuses=(*unmet, Status.HELD, Status.DEAD)) == ["w3", "w6", "w7"]
    for selection in (Selection(statuses=unmet[:1]), Selection(statuses=unmet[1:]), Selection(where="a")):
        with pytest.raises(UsageError, match="aren't in the catalogue"):
            ledger.catalogue.find(selection, "g")
    assert found(ledger, "g", error_groups=("cause", "another")) == ["w2", "w3"]
    assert found(ledger, "g", attempts=2) == [r.webhook_id for r in rows[:6]]
    assert found(ledger, "g", attempts=3) == []
    assert found(ledger, "other", statuses=unmet) == [r.webhook_id for r in rows]
    third = ledger.catalogue.get("w3", group="g")[0]
    assert (third.status, third.attempts, third.error_type, third.error_message) == (Status.DEAD, 2, "KeyError", "no size")
    assert [e.status for e in ledger.catalogue.find(Selection(), "g")][5:] == [Status.HELD, Status.PENDING]
    with pytest.raises(UsageError, match="name the group"):
        ledger.catalogue.find(Selection(statuses=(Status.DEAD,)))


def test_events_behind_given_places_are_found_by_their_places(ledger: Ledger) -> None:
    record(ledger, *(entry(n, partition=n % 2) for n in range(10)))

    def behind(places: dict[tuple[str, int], int], **fields: object) -> list[str]:
        selection = Selection(**fields)  # type: ignore[arg-type]
        return [e.webhook_id for e in ledger.catalogue.find(selection, "g", beyond=places)]

    assert behind({(LOG, 0): 6, (LOG, 1): 9}) == ["w6", "w8", "w9"]
    assert behind({(LOG, 1): 2**40}) == behind({}) == []
    assert behind({(LOG, 0): 0}, resources=("order/4", "order/5"), statuses=(Status.PENDING, Status.NEVER_SEEN)) == ["w4"]


def test_an_event_is_found_by_the_beginning_of_its_webhook_id(ledger: Ledger) -> None:
    for n, name in enumerate(("b54557e9-1", "b54557e9-2", "b54557e", "B54557E9-1", "b54557ez", "b54557e:")):
        record(ledger, entry(n, webhook_id=name, key=EventKey(DAY, event_id16("one.myshopify.com", name))))
    assert [e.webhook_id for e in ledger.catalogue.starting("b54557e9")] == ["b54557e9-1", "b54557e9-2"]
    assert [e.webhook_id for e in ledger.catalogue.starting("b54557e9-")] == ["b54557e9-1", "b54557e9-2"]
    assert [e.webhook_id for e in ledger.catalogue.starting("b54557ez")] == ["b54557ez"]
    assert ledger.catalogue.starting("b54557f") == []


def test_a_cursor_survives_being_handed_out_and_nothing_else_is_one() -> None:
    for after in (After(0, bytes(16)), After(2**62, b"\xff" * 16), After(-1, b"?>" * 8)):
        assert After.decode(after.encode()) == after
    for text in ("", "x", "ä" * 32, After(0, bytes(16)).encode()[:-4], After(0, bytes(16)).encode() + "AAAA"):
        with pytest.raises(UsageError, match="isn't a cursor"):
            After.decode(text)


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_hold_every_event_once_even_where_times_are_equal(ledger: Ledger, newest_first: bool) -> None:
    rows = [entry(n, received_at=DAY * MICROS + n // 4) for n in range(22)]
    record(ledger, *rows)
    read: list[Entry] = []
    after = None
    while page := ledger.catalogue.find(Selection(), after=after, limit=5, newest_first=newest_first):
        read += page
        after = After.of(page[-1])
    assert read == sorted(rows, key=lambda r: (r.received_at, r.key.id), reverse=newest_first)


def test_what_retention_deleted_is_forgotten_and_a_reset_forgets_all(ledger: Ledger) -> None:
    record(ledger, *(entry(n) for n in range(1, 6)), entry(9, partition=1, offset=0))
    assert ledger.catalogue.prune(LOG, 0, 4) == 3
    assert found(ledger) == ["w4", "w5", "w9"]
    assert ledger.catalogue.topics() == ["orders/create"]
    ledger.catalogue.reset()
    assert (found(ledger), ledger.catalogue.positions(), ledger.catalogue.topics()) == ([], {}, [])
    record(ledger, entry(1))
    assert found(ledger) == ["w1"]


def test_odd_texts_from_outside_are_kept_as_far_as_they_can_be(ledger: Ledger) -> None:
    record(ledger, entry(1, resource="order/\0\ud800", topic="odd\0/*"))
    (kept,) = ledger.catalogue.find(Selection())
    assert (kept.resource, kept.topic) == ("order/?", "odd/*")
