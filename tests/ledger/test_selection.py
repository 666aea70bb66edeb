from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.cli.main import root
from hooktape.errors import UsageError
from hooktape.ledger.selection import FIELDS, Clock, Field, Kind, Selection, Status, read_ids
from hooktape.times import iso

REPLAY_PAGE = Path(__file__).parents[2] / "docs" / "replay.md"


def test_options_are_read_in_singular_and_plural_with_commas_and_lists() -> None:
    selection = Selection.parse({
        "topic": ["orders/*", "products/update, refunds/create"], "shop": "One.myshopify.com,acme", "status": "failed,never-seen",
        "since": "2026-11-20", "until": "2026-11-21T00:00Z", "ids": None, "resource": "", "error-group": ["ab12", "cd34"],
        "attempts": "3", "where": "contains(['a','b'], note)",
    })  # fmt: skip
    assert selection == Selection(
        topics=("orders/*", "products/update", "refunds/create"), shops=("one.myshopify.com", "acme.myshopify.com"),
        statuses=(Status.FAILED, Status.NEVER_SEEN), since=1_763_596_800_000_000 + 365 * 86_400_000_000,
        until=1_763_596_800_000_000 + 366 * 86_400_000_000, error_groups=("ab12", "cd34"), attempts=3,
        where="contains(['a','b'], note)",
    )  # fmt: skip


def test_waiting_is_everything_in_the_retry_topics() -> None:
    assert Selection.parse({"status": "waiting"}).statuses == (Status.FAILED, Status.HELD)


@pytest.mark.parametrize(("options", "said"), [
    ({"colour": "red"}, "can't be selected by 'colour'"),
    ({"status": "sleeping"}, "'sleeping' isn't a status. Use pending, never-seen, held, failed"),
    ({"clock": "sun"}, "'sun' isn't a clock"),
    ({"since": ["1h", "2h"]}, "Give `since` once"),
    ({"where": ["a", "b"]}, "Give `where` once"),
    ({"since": "1h", "until": "2h"}, "must lie before"),
    ({"since": "soon"}, "isn't a time"),
    ({"attempts": "0"}, "whole number from 1"),
    ({"attempts": "-1"}, "whole number from 1"),
    ({"attempts": "many"}, "whole number from 1"),
    ({"where": "total_price >"}, "character 14: it ends too early"),
    ({"resource": [f"order/{n}" for n in range(1001)]}, "1,001 values of `resource` are too many"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Selection.parse(options)


def test_an_empty_selection_says_so_and_stands_for_every_event() -> None:
    assert Selection.parse({"topic": [], "shop": None}).is_empty
    assert Selection().describe() == "every event"
    assert Selection().to_json() == '{"clock": "received"}'
    assert not Selection(since=0).is_empty
    assert not Selection(where="a").is_empty


def test_a_selection_tells_people_what_it_holds() -> None:
    selection = Selection(topics=("orders/*",), statuses=(Status.DEAD,), since=0, clock=Clock.TRIGGERED, attempts=2, where="a.b")
    assert selection.describe() == (
        "topic orders/*, status dead, at least 2 attempts, triggered since 1970-01-01T00:00:00.000Z, where a.b")  # fmt: skip
    assert Selection(ids=tuple(f"w{n}" for n in range(1005))).describe() == "id w0 or w1 or w2 or w3 or w4 or 1,000 more"


def test_a_selection_knows_what_must_be_asked_for_it() -> None:
    assert [Selection(**{name: value}).needs_group for name, value in (  # type: ignore[arg-type]
        ("statuses", (Status.DEAD,)), ("error_groups", ("x",)), ("attempts", 1), ("where", "a"), ("ids", ("x",)))
    ] == [True, True, True, False, False]  # fmt: skip
    assert [Selection(statuses=s).needs_tape for s in (
        (), (Status.DEAD,), (Status.PENDING,), (Status.NEVER_SEEN, Status.DEAD), (Status.PENDING, Status.NEVER_SEEN))
    ] == [False, False, True, True, False]  # fmt: skip
    assert Selection(where="a").needs_tape


_words = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1, max_size=5)
_texts = st.lists(_words, max_size=3, unique=True).map(tuple)


@st.composite
def _selections(draw: st.DrawFn) -> Selection:
    since, until = sorted(draw(st.lists(st.integers(-(10**13), 10**13).map(lambda n: n * 1000), min_size=2, max_size=2, unique=True)))
    shops = draw(st.lists(st.sampled_from(["a.myshopify.com", "b.myshopify.com"]), unique=True).map(tuple))
    return Selection(
        draw(_texts), draw(_texts), shops, draw(_texts), draw(st.sampled_from([None, since])), draw(st.sampled_from([None, until])),
        draw(st.sampled_from(Clock)), draw(st.lists(st.sampled_from(Status), unique=True).map(tuple)), draw(_texts),
        draw(st.none() | st.integers(1, 999_999)), draw(_texts), draw(st.sampled_from(["", "contains(tags, 'x, y')"])))  # fmt: skip


@given(_selections())
def test_a_selection_survives_json(selection: Selection) -> None:
    assert Selection.from_json(selection.to_json()) == selection


@given(_selections(), st.booleans())
def test_a_selection_survives_being_given_as_options(selection: Selection, plural: bool) -> None:
    def given_as(field: Field) -> Any:
        value = getattr(selection, field.attribute)
        return iso(value) if field.kind is Kind.TIME and value is not None else value

    options = {(f.attribute if plural else f.name.replace("_", "-")): given_as(f) for f in FIELDS}
    assert Selection.parse(options) == selection


@pytest.mark.parametrize("text", [
    "", "[]", "3", "\ud800", '{"colour": 1}', '{"statuses": ["sleeping"]}', '{"topics": 3}', '{"since": "x"}', '{"where": "["}',
    '{"attempts": 0}', '{"until": 9007199254740993000}', '{"since": 2, "until": 1}'])  # fmt: skip
def test_json_that_is_no_selection_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Selection.from_json(text)


def test_a_file_of_ids_is_read_line_by_line() -> None:
    assert read_ids([b"w1\r\n", b"\n", b"  w2 \n", b"w1\n", b"b54557e4-bdd9"], "f") == ("w1", "w2", "b54557e4-bdd9")


@pytest.mark.parametrize(("lines", "said"), [
    ([b"w1", b"w2,w3"], "Line 2 of f isn't a webhook id: 'w2,w3'"),
    ([b"w1", b"", b'{"id": 3}'], "Line 3 of f"),
    ([b"x" * 256], "Line 1 of f"),
    (["\ufeffw1".encode()], "Line 1 of f"),
    ([b"\xff\xfe"], "Line 1 of f isn't text in UTF-8"),
    ([b"\n"], "f holds no webhook id"),
])  # fmt: skip
def test_a_line_that_is_no_id_is_named(lines: list[bytes], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_ids(lines, "f")


@pytest.mark.parametrize("words", ["events list", "replay plan", "dlq list", "dlq redrive", "dlq discard", "dlq export"])
def test_every_command_that_selects_takes_the_same_options_in_the_same_words(words: str) -> None:
    command: Any = root
    for word in words.split():
        command = command.get_command(click.Context(command), word)
    options = {option.opts[0]: option for option in command.params if isinstance(option, click.Option)}
    for field in FIELDS:
        option = options[f"--{field.name.replace('_', '-')}"]
        assert (option.help, option.multiple) == (field.help, field.repeatable)
    assert options["--id-file"].type.name == "filename"


def test_every_field_of_a_selection_can_be_given() -> None:
    assert sorted(field.attribute for field in FIELDS) == sorted(Selection.__slots__)


def selection_table() -> str:
    rows = "".join(f"| `--{field.name.replace('_', '-')}` | {field.help.replace('|', chr(92) + '|')} |\n" for field in FIELDS)
    return f"| option | selects |\n| --- | --- |\n{rows}"


def test_the_page_on_replay_lists_the_ways_to_select() -> None:
    assert selection_table() in REPLAY_PAGE.read_text()
