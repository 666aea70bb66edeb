"""Expressions over bodies: what they say, and what they may not cost."""

import time
import tracemalloc

import pytest

from hooktape.errors import UsageError
from hooktape.ledger.where import Where


@pytest.mark.parametrize(("text", "body", "wanted"), [
    ("to_number(total_price) > `100`", b'{"total_price": "100.01"}', True),
    ("to_number(total_price) > `100`", b'{"total_price": "99.9"}', False),
    ("to_number(total_price) > `100`", b'{"total_price": null}', False),
    ("line_items[?sku == 'X-1']", b'{"line_items": [{"sku": "X-1"}]}', True),
    ("line_items[?sku == 'X-1']", b'{"line_items": [{"sku": "X-2"}]}', False),
    ("cancelled_at", b'{"cancelled_at": ""}', False),
    ("number", b'{"number": 0}', True),
    ("flag", b'{"flag": false}', False),
    ("note", b"[1]", False),
    ("contains(['paid', 'pending'], status)", b'{"status": "paid"}', True),
    ("length(note) > `2`", b'{"note": null}', None),
    ("sum(prices) > `1`", b'{"prices": ["1"]}', None),
    ("a", b"{", None),
    ("a", b"[" * 100_000, None),
])  # fmt: skip
def test_an_expression_says_whether_a_body_is_wanted_or_that_it_cannot_be_said(text: str, body: bytes, wanted: bool | None) -> None:
    assert Where(text).matches(body) is wanted


@pytest.mark.parametrize(("text", "said"), [
    ("total_price > 100", "at character 15: .*A number in it is written `100`"),
    ("a[?b", "at character 5: it ends too early"),
    ("a['b", r"at character 3: .*\n  a\['b\n    \^"),
    ("a ==", "it ends too early"),
    ("lenght(a)", r"calls lenght\(\), at character 1, .*There are abs, .*length"),
    ("length(a, b)", r"length\(\) takes 1 argument, not 2"),
    ("starts_with(a)", r"starts_with\(\) takes 2 arguments, not 1"),
    ("(" * 900, "nested too deeply"),
    ("a" * 1001, "1,001 characters"),
    (" ", "character 2|empty|too early"),
])  # fmt: skip
def test_an_expression_that_cannot_be_read_is_refused_with_the_place(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Where(text)


@pytest.mark.parametrize("text", [
    "|".join(["[@, @][]"] * 30),
    "|".join(["{a: @, b: @}"] * 30) + " | to_string(@)",
    "|".join(["[@] | to_string(@)"] * 30),
    "join(note, keys(@))",
    "map(&[@, @, @, @, @, @, @, @, @], map(&[@, @, @, @, @, @, @, @], items))",
])  # fmt: skip
def test_an_expression_that_could_build_far_more_than_the_body_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"times the body|isn't offered"):
        Where(text)


def test_the_costliest_expression_stays_within_bounds_on_a_large_body() -> None:
    # A quarter of a mebibyte here, 8 at most on the tape: 64 times it, and what Python adds to each value.
    body = b"[" + b'"abcdefg",' * 25_000 + b'"z"]'
    tracemalloc.start()
    began = time.process_time()
    assert Where("|".join(["[@, @][]"] * 6)).matches(body) is True
    assert tracemalloc.get_traced_memory()[1] < 75 * 1024 * 1024
    tracemalloc.stop()
    assert time.process_time() - began < 20  # some seconds where it was measured
