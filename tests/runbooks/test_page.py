"""The reading of runbook pages, and what counts as the same output."""

from tests.runbooks.page import Act, Command, Names, read, rewritten, without_figures

PAGE = """# A page

<!-- world: the bug is deployed -->

```console
$ hooktape replay plan --since 2h
plan 019aabbccddeeff01122: 3 events
$ hooktape replay run 019aabbccddeeff01122 \\
>   --yes
failed
$ echo $?
5
```
"""


def test_a_page_is_read_as_acts_and_commands_in_their_order() -> None:
    assert read(PAGE) == [
        Act("the bug is deployed"),
        Command("hooktape replay plan --since 2h", ["plan 019aabbccddeeff01122: 3 events"]),
        Command("hooktape replay run 019aabbccddeeff01122 --yes", ["failed"], 5, True),
    ]


def test_an_id_in_the_page_stands_for_the_real_one_in_later_commands() -> None:
    names = Names()
    assert names.agree(["plan 019aabbccddeeff01122: 3 events"], ["plan 019bbbbbbbbbbbbbbbbb: 3 events"])
    assert names.typed("hooktape replay run 019aabbccddeeff01122") == "hooktape replay run 019bbbbbbbbbbbbbbbbb"
    assert names.typed("hooktape replay run 019aabbccd") == "hooktape replay run 019bbbbbbb"


def test_one_id_cannot_stand_for_two() -> None:
    names = Names()
    assert not names.agree(["019aabbccddeeff01122", "019aabbccddeeff01122"], ["019bbbbbbbbbbbbbbbbb", "019ccccccccccccccccc"])


def test_a_count_that_differs_is_a_difference_and_a_duration_is_none() -> None:
    names = Names()
    assert names.agree(["3 events in 1.2 s, 12%"], ["3 events in 14 s, 9%"])
    assert not names.agree(["3 events"], ["4 events"])
    assert not names.agree(["3 events"], ["3 events", "and more"])


def test_an_ellipsis_stands_for_any_lines() -> None:
    names = Names()
    assert names.agree(["a", "…", "z"], ["a", "b", "c", "z"])
    assert not names.agree(["a", "…", "z"], ["a", "b"])


def test_dots_in_a_line_stand_for_one_word() -> None:
    assert Names().agree(["⋯ succeeded since 2026-01-01T00:00Z"], ["18 succeeded since 2026-11-22T00:00Z"])
    assert not Names().agree(["⋯ succeeded"], ["18 of 20 succeeded"])


def test_figures_are_left_out_where_they_differ_and_names_are_not() -> None:
    assert without_figures(["102 shown, 3 of order/1001, 2,000 in 5m"]) == without_figures(["7 shown, 4 of order/1001, 1 in 5m"])
    assert without_figures(["order/1001"]) == ["order/1001"] != without_figures(["order/1002"])


def test_columns_may_be_wider() -> None:
    assert Names().agree(["ID   STATE", "019aabbccddeeff01122   done"], ["ID  STATE", "019bbbbbbbbbbbbbbbbb  done"])


def test_a_rewritten_page_reads_as_what_was_printed() -> None:
    steps = [step for step in read(PAGE) if isinstance(step, Command)]
    page = rewritten(PAGE, [(steps[0], ["plan x"], 0), (steps[1], ["nothing"], 4)])
    assert [s.output for s in read(page) if isinstance(s, Command)] == [["plan x"], ["nothing"]]
    assert "world: the bug is deployed" in page
