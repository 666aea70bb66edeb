"""From a selection to events, on a real tape: what SQL says, what committed offsets say, what bodies say."""

from typing import Any

import jmespath
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from hooktape.errors import UsageError
from hooktape.ledger.catalogue import Entry
from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, Status
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.finding import Finder, Passed
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import groups
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader
from tests.replayer.kit import GROUP, T0, bury, event, record, settle
from tests.tape.kit import delete_before

SECOND = 1_000_000


def _ids(entries: list[Entry]) -> list[str]:
    return [e.webhook_id for e in entries]


def _all(finder: Finder, selection: Selection, group: str | None = None, **more: Any) -> list[str]:
    return [name for page in finder.pages(selection, group, **more) for name in _ids(page)]


def _price(number: int) -> Event:
    tags = b'"vip"' if number % 4 else b"null"
    return event(number, topic="orders/updated" if number % 3 else "orders/create", resource=number % 7 + 1,
                 payload=b'{"id": %d, "total_price": "%d.50", "tags": %s}' % (number, number, tags))  # fmt: skip


@pytest.fixture
def finder(tape: Settings, ledger: Ledger) -> Any:
    with Cataloguer(tape, ledger) as cataloguer:
        yield Finder(tape, ledger, cataloguer)


def test_what_is_found_is_what_a_look_at_every_record_finds(tape: Settings, ledger: Ledger, finder: Finder) -> None:
    events = [_price(n) for n in range(60)]
    record(tape, events)
    settle(ledger, events[:20], State.SUCCEEDED)
    settle(ledger, events[20:30], State.WAITING, cause="KeyError")
    settle(ledger, events[30:35], State.BEHIND)
    finder._cataloguer.catch_up()
    states = [Status.SUCCEEDED] * 20 + [Status.FAILED] * 10 + [Status.HELD] * 5 + [Status.NEVER_SEEN] * 25
    searched = [Status.SUCCEEDED, Status.FAILED, Status.HELD, Status.NEVER_SEEN, Status.PENDING]
    wheres = ["", "to_number(total_price) > `20`", "tags", "contains(tags, 'vip')", "ends_with(total_price, '7.50')"]

    @how(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.sampled_from(["orders/*", "orders/create", "orders/updated", "products/*"]), max_size=2, unique=True),
        st.lists(st.integers(1, 8).map(lambda n: f"order/{n}"), max_size=2, unique=True),
        st.lists(st.sampled_from(searched), max_size=3, unique=True),
        st.lists(st.integers(0, 60), min_size=2, max_size=2, unique=True).map(sorted), st.sampled_from(wheres),
        st.sampled_from([3, 1000]), st.booleans())  # fmt: skip
    def compare(topics: list[str], resources: list[str], statuses: list[Status], span: list[int], where: str, limit: int,
                newest_first: bool) -> None:  # fmt: skip
        selection = Selection(topics=tuple(topics), resources=tuple(resources), statuses=tuple(statuses), where=where,
                              since=T0 + span[0] * SECOND, until=T0 + span[1] * SECOND)  # fmt: skip

        def wanted(n: int, e: Event) -> bool:
            if where:
                try:
                    if not jmespath.search(where, e.json()):
                        return False
                except jmespath.exceptions.JMESPathError:
                    return False
            return ((not topics or e.topic in topics or "orders/*" in topics) and (not resources or e.resource in resources)
                    and (not statuses or states[n] in statuses) and span[0] <= n < span[1])  # fmt: skip

        naive = [e.webhook_id for n, e in enumerate(events) if wanted(n, e)]
        found = _all(finder, selection, GROUP, limit=limit, newest_first=newest_first)
        assert found == (naive[::-1] if newest_first else naive)
        assert finder.count(selection, GROUP) == len(naive)

    compare()


def test_pending_is_still_to_come_and_never_seen_was_passed_or_is_of_a_topic_never_read(
    tape: Settings, ledger: Ledger, finder: Finder
) -> None:
    names = Names(tape.topic_prefix)
    early, late = [event(n) for n in range(12)], [event(n) for n in range(12, 20)]
    record(tape, early)
    with Reader(tape) as reader:
        groups.alter(tape, GROUP, reader.ends([names.log("orders.create")]))
    record(tape, late + [event(n, topic="orders/updated") for n in range(20, 23)])
    settle(ledger, [*early[:9], late[0]], State.SUCCEEDED)
    finder._cataloguer.catch_up()
    assert _all(finder, Selection(statuses=(Status.PENDING,)), GROUP) == [e.webhook_id for e in late[1:]]
    missed = [e.webhook_id for e in early[9:]] + [f"w{n:06}" for n in range(20, 23)]
    assert _all(finder, Selection(statuses=(Status.NEVER_SEEN,)), GROUP) == missed
    assert finder.count(Selection(statuses=(Status.PENDING, Status.NEVER_SEEN)), GROUP) == 13
    shown = {e.webhook_id: e.status for page in finder.pages(Selection(), GROUP) for e in page}
    assert [shown[f"w{n:06}"] for n in (0, 9, 12, 13, 20)] == [
        Status.SUCCEEDED, Status.NEVER_SEEN, Status.SUCCEEDED, Status.PENDING, Status.NEVER_SEEN]  # fmt: skip
    assert finder.count(Selection(statuses=(Status.PENDING,)), "stranger") == 0
    with pytest.raises(UsageError, match="name the group"):
        _all(finder, Selection(statuses=(Status.PENDING,)))


def test_a_group_that_reads_a_topic_will_come_to_all_its_partitions() -> None:
    passed = Passed({("t", 0): 5})
    places = [("t", 0, 4), ("t", 0, 5), ("t", 1, 0), ("u", 0, 0)]
    assert [passed.status(*p) for p in places] == [Status.NEVER_SEEN, Status.PENDING, Status.PENDING, Status.NEVER_SEEN]


def test_a_frozen_end_leaves_out_what_came_later(tape: Settings, ledger: Ledger, finder: Finder) -> None:
    record(tape, [event(n) for n in range(5)])
    ends = finder._cataloguer.catch_up()
    record(tape, [event(n) for n in range(5, 9)])
    finder._cataloguer.catch_up()
    assert len(_all(finder, Selection(since=T0), ends=ends)) == 5
    assert len(_all(finder, Selection(since=T0))) == 9


def test_bodies_that_the_tape_lost_or_that_cannot_be_judged_are_counted_and_not_selected(
    tape: Settings, ledger: Ledger, finder: Finder
) -> None:
    record(tape, [event(n, payload=b'{"n": "x"}' if n % 2 else b"no json") for n in range(20)])
    ends = finder._cataloguer.catch_up()
    assert len(_all(finder, Selection(where="length(n) == `1`"))) == 10
    assert (finder.looked.events, finder.looked.unreadable, finder.looked.gone) == (20, 10, 0)
    for (name, partition), end in ends.items():
        if end:
            delete_before(tape, name, partition, end)
    page = finder.listed(Selection(where="n"))
    assert (page.entries, page.looked.gone) == ([], 20)
    assert "20 bodies aren't on the tape any more" in page.told()


def test_a_page_ends_with_a_cursor_and_the_pages_together_hold_everything_once(tape: Settings, ledger: Ledger, finder: Finder) -> None:
    record(tape, [_price(n) for n in range(40)])
    finder._cataloguer.catch_up()
    for selection in (Selection(), Selection(where="to_number(total_price) > `9`")):
        found: list[str] = []
        after, pages = None, 0
        while pages == 0 or after is not None:
            page = finder.listed(selection, after=after, limit=7)
            found, after, pages = found + _ids(page.entries), page.after, pages + 1
        assert found == _all(finder, selection, newest_first=True)
        assert pages == -(-len(found) // 7)
    one = finder.listed(Selection(where="total_price == '3.50'"))
    assert one.told() == "1 match, looked at all of it"


def test_a_listing_stops_looking_and_says_how_far_it_came(
    tape: Settings, ledger: Ledger, finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hooktape.replayer.finding._PAGE", 10)
    record(tape, [_price(n) for n in range(50)])
    finder._cataloguer.catch_up()
    selection = Selection(where="total_price == '3.50'")
    page = finder.listed(selection, look=20)
    assert (page.entries, page.whole, page.told()) == ([], False, "0 matches, looked at 20 events so far")
    rest = finder.listed(selection, after=page.after)
    assert (_ids(rest.entries), rest.after) == (["w000003"], None)


def test_a_long_list_of_ids_is_found_in_order_and_in_pages(tape: Settings, ledger: Ledger, finder: Finder) -> None:
    record(tape, [event(n) for n in range(40)])
    finder._cataloguer.catch_up()
    ids = tuple(f"w{n:06}" for n in (*range(39, -1, -2), *range(1000, 1400), 39))
    wanted = [f"w{n:06}" for n in range(1, 40, 2)]
    assert _all(finder, Selection(ids=ids), limit=6) == wanted
    assert finder.count(Selection(ids=ids)) == 20
    first = finder.listed(Selection(ids=ids), limit=5)
    assert _ids(first.entries) == wanted[:-6:-1]
    assert _ids(finder.listed(Selection(ids=ids), limit=50, after=first.after).entries) == wanted[-6::-1]


def test_why_nothing_was_found_tells_which_kind_of_nothing(tape: Settings, ledger: Ledger, finder: Finder) -> None:
    assert finder.why_none(Selection(since=T0)) == "There's no event on the tape yet."
    record(tape, [event(n) for n in range(3)])
    assert "3 records behind the tape" in finder.why_none(Selection(since=T0))
    finder._cataloguer.catch_up()
    assert finder.why_none(Selection(shops=("x.myshopify.com",))).startswith("No event on the tape matches: shop x")
    assert "older than the tape, which begins at 20" in finder.why_none(Selection(until=1))
    assert "The tape begins at 20" in finder.why_none(Selection(since=0))


def test_dead_letters_are_selected_by_causes_attempts_and_bodies_too(tape: Settings, ledger: Ledger) -> None:
    from hooktape.replayer.dlq import DeadLetters

    bury(tape, ledger, [_price(n) for n in range(4)])
    letters = DeadLetters(tape, ledger, GROUP)

    def found(**fields: Any) -> list[str]:
        return [letter.entry.webhook_id for letter in letters.find(Selection(**fields))]

    assert found(where="to_number(total_price) > `1`") == ["w000001", "w000002", "w000003"]
    assert (len(found(attempts=1)), len(found(attempts=2))) == (4, 0)
    assert (len(found(error_groups=("group-KeyError", "x"))), found(error_groups=("x",))) == (4, [])
