"""The index of dead letters: what it says of letters, of dead events without one, and of records that hold no event."""

from dataclasses import fields
from random import Random

import pytest

from hooktape.ledger.catalogue import Entry
from hooktape.ledger.checks import Check, Finish, State
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.letters import After, Letter, Poison
from hooktape.ledger.selection import Clock, Selection, Status
from hooktape.schemas.event import Coordinates, EventKey, event_id16
from tests.ledger.conftest import DAY, Owner

G, DLQ, SHOP = "g", "hooktape.dlq.g", "acme.myshopify.com"
MICROS = 1_000_000


def entry(name: str, at: int = 0, **how: object) -> Entry:
    values: dict[str, object] = {
        "key": EventKey(DAY, event_id16(SHOP, name)), "shop": SHOP, "topic": "orders/create", "webhook_id": name,
        "resource": f"order/{name}", "root": f"customer/{name}", "version": None, "triggered_at": (at + 5) * MICROS,
        "received_at": at * MICROS, "source": "webhook", "kafka_topic": "hooktape.log.orders.create", "partition": 0, "offset": at,
        "size": 9, "attempts": 3,
        "error_type": "KeyError", "error_group": "cause", "error_message": "no such key"}  # fmt: skip
    return Entry(**(values | how))  # type: ignore[arg-type]


def letter(name: str, offset: int, *, redrives: int = 0, died: float | None = None, job: str = "", **how: object) -> Letter:
    return Letter(G, entry(name, **how), Coordinates(DLQ, 0, offset), 100.0 + offset if died is None else died, 90.0, "permanent",
                  redrives, job)  # type: ignore[arg-type]  # fmt: skip


def poison(offset: int) -> Poison:
    return Poison(G, Coordinates(DLQ, 0, offset), 100.0 + offset, Coordinates("hooktape.log.orders.create", 0, 4), "not Avro", 5)


def index(ledger: Ledger, *letters: Letter | Poison) -> None:
    seen = ledger.catalogue.positions().get((DLQ, 0))
    assert ledger.letters.record(letters, {(DLQ, 0): (seen or 0) + 1}, {(DLQ, 0): seen})


def bury(ledger: Ledger, *letters: Letter, now: float = 200.0) -> None:
    """Outcomes as a worker writes them, for events that die one second after the other."""
    for i, each in enumerate(letters):
        end(ledger, each.entry, State.DEAD, now + i)


def end(ledger: Ledger, e: Entry, state: State, now: float) -> None:
    owner = Owner(ledger, now=now)
    (answer,) = ledger.outcomes.check(G, [Check(e.key, generation=str(now))])
    failed = {"error_type": e.error_type, "error_group": e.error_group, "error_message": e.error_message, "shop": e.shop}
    assert owner.record([Finish(e.key, state, e.attempts, 0, owner.epoch, e.topic, answer.seen, str(now),
                                **(failed if state is State.DEAD else {}))], now) == [True]  # fmt: skip


def names(letters: list[Letter]) -> list[str]:
    return [x.entry.webhook_id for x in letters]


def test_of_an_events_letters_the_last_counts_and_the_most_redrives(ledger: Ledger) -> None:
    index(ledger, letter("a", 0), letter("b", 1), letter("a", 2, redrives=2, job="j1"), letter("a", 3))
    found = ledger.letters.of(G, [entry("a").key, entry("nobody").key])
    assert [(x.at, x.redrives, x.job_id) for x in found.values()] == [(Coordinates(DLQ, 0, 3), 2, "")]
    assert ledger.letters.of("other", [entry("a").key]) == {}
    history = ledger.letters.all_of(G, entry("a").key.id)
    assert [(x.at.offset, x.redrives, x.job_id) for x in history if x.at] == [(0, 0, ""), (2, 2, "j1"), (3, 0, "")]


def test_what_is_dead_is_said_by_the_outcomes_with_a_letter_or_without(ledger: Ledger) -> None:
    a, b, later = letter("a", 0), letter("b", 1), letter("redriven", 2)
    index(ledger, a, b, later)
    bury(ledger, a, b, later)
    end(ledger, later.entry, State.SUCCEEDED, 300.0)
    bare, catalogued = entry("bare"), entry("catalogued", 7)
    end(ledger, bare, State.DEAD, 250.0)
    ledger.catalogue.record([catalogued], {("t", 0): 1}, {})
    end(ledger, catalogued, State.DEAD, 260.0)
    found = ledger.letters.find(G, Selection())
    assert names(found) == ["a", "b", "", "catalogued"]
    assert [x.at for x in found] == [a.at, b.at, None, None]
    assert [(x.entry.offset, x.entry.resource, x.died_at) for x in found[2:]] == [(0, None, 250.0), (7, "order/catalogued", 260.0)]
    assert {x.entry.status for x in found} == {Status.DEAD}
    assert found[0].entry.error_message == "no such key"
    assert ledger.letters.oldest(G) == 200.0


def test_pages_of_dead_events_hold_each_once_in_both_directions(ledger: Ledger) -> None:
    letters = [letter(f"w{i}", i) for i in range(7)]
    index(ledger, *letters)
    for each in letters:
        end(ledger, each.entry, State.DEAD, 200.0 + each.at.offset // 3)  # type: ignore[union-attr]
    for newest_first in (False, True):
        found, after = [], None
        while page := ledger.letters.find(G, Selection(), after=after, limit=2, newest_first=newest_first):
            found += names(page)
            after = After.of(page[-1])
        assert sorted(found) == sorted(x.entry.webhook_id for x in letters)
        assert len(found) == 7


@pytest.mark.parametrize(("selection", "selected"), [
    (Selection(ids=("a", "x")), "a"),
    (Selection(topics=("orders/*",)), "ab"),
    (Selection(topics=("orders/[cu]reate", "products/%")), ""),
    (Selection(shops=("other.myshopify.com",)), "c"),
    (Selection(resources=("order/a", "customer/c")), "ac"),
    (Selection(sources=("reconciler",)), "b"),
    (Selection(since=10 * MICROS, until=20 * MICROS), "b"),
    (Selection(since=25 * MICROS, clock=Clock.TRIGGERED), "c"),
    (Selection(error_groups=("other", "none")), "c"),
    (Selection(attempts=4), "b"),
])  # fmt: skip
def test_letters_are_selected_as_events_are(ledger: Ledger, selection: Selection, selected: str) -> None:
    letters = [letter("a", 0), letter("b", 1, at=10, source="reconciler", attempts=4),
               letter("c", 2, at=20, topic="products/update", error_group="other", shop="other.myshopify.com")]  # fmt: skip
    index(ledger, *letters)
    bury(ledger, *letters)
    assert "".join(names(ledger.letters.find(G, selection))) == selected


def test_an_event_is_named_by_eight_characters_of_its_webhook_id(ledger: Ledger) -> None:
    index(ledger, letter("b54557e4-1", 0), letter("b54557e4-2", 1), letter("short", 2), letter("b54557e4-1", 3))
    assert names(ledger.letters.named(G, "b54557e4")) == ["b54557e4-1", "b54557e4-2"]
    assert [x.at.offset for x in ledger.letters.named(G, "b54557e4-1") if x.at] == [3]
    assert names(ledger.letters.named(G, "short")) == ["short"]
    assert ledger.letters.named(G, "b54557") == ledger.letters.named(G, "b54557e4", "other") == []


def test_poison_is_counted_until_a_person_gives_it_up_and_again_when_that_is_taken_back(ledger: Ledger) -> None:
    index(ledger, poison(0), letter("a", 1), poison(2))
    assert [p.at.offset for p in ledger.letters.poison(G)] == [2, 0]
    assert ledger.letters.poison(G)[1] == poison(0)
    places = [poison(0).at, letter("a", 1).at, Coordinates(DLQ, 0, 9)]
    assert ledger.letters.discard_poison(G, places, "ana", "garbage", 500.0) == [poison(0).at]  # type: ignore[arg-type]
    assert ledger.letters.discard_poison(G, [poison(0).at], "ana", "garbage", 501.0) == []
    assert (ledger.letters.poison_count(G), ledger.letters.oldest(G)) == (1, 102.0)
    assert [(p.at.offset, p.discarded_at) for p in ledger.letters.poison(G, discarded=True)] == [(0, 500.0)]
    assert ledger.letters.restore_poison(G, [poison(0).at, poison(2).at], "ana", "not garbage", 502.0) == [poison(0).at]
    assert ledger.letters.poison_count(G) == 2
    assert [(e.action, e.reason, e.detail["records"]) for e in ledger.audit.list()] == [
        ("dlq restore", "not garbage", [str(poison(0).at)]), ("dlq discard", "garbage", [str(poison(0).at)])]  # fmt: skip


def test_retention_drops_letters_and_the_dead_stay_listed(ledger: Ledger) -> None:
    a, b = letter("a", 0), letter("b", 1)
    index(ledger, a, b, poison(2))
    bury(ledger, a, b)
    assert ledger.letters.prune(DLQ, 0, 1) == 1
    assert [x.at for x in ledger.letters.find(G, Selection())] == [None, b.at]
    assert ledger.letters.prune(DLQ, 1, 99) == 0
    assert ledger.letters.prune(DLQ, 0, 3) == 2
    assert (ledger.letters.oldest(G), ledger.letters.oldest("other")) == (200.0, None)
    assert ledger.letters.poison_count(G) == 0


def test_whoever_is_second_records_nothing(ledger: Ledger) -> None:
    place = (DLQ, 0)
    assert ledger.letters.record([letter("a", 0)], {place: 1}, {place: None})
    assert not ledger.letters.record([letter("b", 0)], {place: 1}, {place: None})
    assert not ledger.letters.record([letter("c", 1)], {place: 2}, {place: 0})
    assert names(ledger.letters.named(G, "a") + ledger.letters.named(G, "b") + ledger.letters.named(G, "c")) == ["a"]


@pytest.mark.parametrize("seed", range(5))
def test_the_index_read_again_is_the_index_kept(ledger: Ledger, seed: int) -> None:
    random = Random(seed)
    topic = [poison(i) if random.random() < 0.1 else letter(f"w{random.randrange(8)}", i, redrives=random.randrange(4),
             died=100.0 + i // 3) for i in range(60)]  # fmt: skip
    start = 0
    while start < len(topic):
        size = random.randint(1, 9)
        index(ledger, *topic[start : start + size])
        start += size
    low = random.randrange(60)
    ledger.letters.prune(DLQ, 0, low)
    kept = everything(ledger)
    ledger.letters.prune(DLQ, 0, 60)
    left = topic[low:]
    random.shuffle(left)
    index(ledger, *left[:20])
    index(ledger, *left[20:])
    assert everything(ledger) == kept
    given_up = [p.at for p in ledger.letters.poison(G)][:2]
    ledger.letters.discard_poison(G, given_up, "ana", "no", 900.0)
    index(ledger, *left)  # read once more, over what is there
    assert [p.at for p in ledger.letters.poison(G, discarded=True)] == given_up
    for name in {x.entry.webhook_id for x in topic if isinstance(x, Letter)}:
        mine = [x for x in topic[low:] if isinstance(x, Letter) and x.entry.webhook_id == name]
        found = ledger.letters.of(G, [entry(name).key]).values()
        assert [(x.at, x.redrives) for x in found] == [(x.at, max(y.redrives for y in mine)) for x in mine[-1:]]


def everything(ledger: Ledger) -> list[object]:
    return [ledger.letters.named(G, f"w{i}") + ledger.letters.all_of(G, entry(f"w{i}").key.id) for i in range(8)] + [
        ledger.letters.poison(G), ledger.letters.poison(G, discarded=True)]  # fmt: skip


def test_every_field_of_a_selection_is_looked_at() -> None:
    # A field that is added must be added to the search for letters (`where` to DeadLetters, which has the bodies): an option that is
    # ignored redrives too much.
    assert {f.name for f in fields(Selection)} == {"ids", "topics", "shops", "resources", "since", "until", "clock", "statuses", "sources",
                                                   "error_groups", "attempts", "where"}  # fmt: skip
