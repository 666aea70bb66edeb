import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.errors import UsageError
from hooktape.ledger.selection import Clock, Selection, Status


def test_options_are_read_in_singular_and_plural_with_commas_and_lists() -> None:
    selection = Selection.parse({
        "topic": ["orders/*", "products/update, refunds/create"], "shop": "One.myshopify.com", "status": "failed,pending",
        "since": "2026-11-20", "until": "2026-11-21T00:00Z", "ids": None, "resource": "", "error-group": "ab12",
    })  # fmt: skip
    assert selection == Selection(
        topics=("orders/*", "products/update", "refunds/create"), shops=("one.myshopify.com",),
        statuses=(Status.DEAD, Status.PENDING), since=1_763_596_800_000_000 + 365 * 86_400_000_000,
        until=1_763_596_800_000_000 + 366 * 86_400_000_000, error_group="ab12",
    )  # fmt: skip


@pytest.mark.parametrize(("options", "said"), [
    ({"colour": "red"}, "can't be selected by 'colour'"),
    ({"status": "sleeping"}, "'sleeping' isn't a status. Use pending, waiting"),
    ({"clock": "sun"}, "'sun' isn't a clock"),
    ({"since": ["1h", "2h"]}, "Give `since` once"),
    ({"since": "1h", "until": "2h"}, "must lie before"),
    ({"since": "soon"}, "isn't a time"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Selection.parse(options)


def test_an_empty_selection_says_so_and_stands_for_every_event() -> None:
    assert Selection.parse({"topic": [], "shop": None}).is_empty
    assert Selection().describe() == "every event"
    assert Selection().to_json() == '{"clock": "received"}'
    assert not Selection(since=0).is_empty


def test_a_selection_tells_people_what_it_holds() -> None:
    selection = Selection(topics=("orders/*",), statuses=(Status.DEAD,), since=0, clock=Clock.TRIGGERED)
    assert selection.describe() == "topic orders/*, status dead, triggered since 1970-01-01T00:00:00.000Z"


_texts = st.lists(st.text(min_size=1, max_size=5), max_size=3).map(tuple)


@given(st.builds(
    Selection, ids=_texts, topics=_texts, shops=_texts, resources=_texts, sources=_texts, error_group=st.text(max_size=5),
    since=st.none() | st.integers(0, 2**60), until=st.none() | st.integers(0, 2**60), clock=st.sampled_from(Clock),
    statuses=st.lists(st.sampled_from(Status), unique=True).map(tuple)))  # fmt: skip
def test_a_selection_survives_json(selection: Selection) -> None:
    assert Selection.from_json(selection.to_json()) == selection


@pytest.mark.parametrize("text", [
    "", "[]", "3", "\ud800", '{"colour": 1}', '{"statuses": ["sleeping"]}', '{"topics": 3}', '{"since": "x"}'])  # fmt: skip
def test_json_that_is_no_selection_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Selection.from_json(text)
