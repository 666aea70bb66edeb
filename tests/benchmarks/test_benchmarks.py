"""A benchmark that doesn't notice a wrong run would publish its speed."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """Scripts import their neighbours by bare names. At the path's end: some have the names of folders of the project."""
    sys.path.append(BENCHMARKS)
    yield
    sys.path.remove(BENCHMARKS)


@pytest.fixture
def parallel() -> ModuleType:
    return import_module("parallel")


def steps(parallel: ModuleType, text: str) -> list[object]:
    """`+3 -3`: offset 3 starts, offset 3 ends."""
    return [parallel.Step(int(word[1:]), float(at), word[0] == "+") for at, word in enumerate(text.split())]


def test_a_run_of_every_event_in_its_keys_order_is_right(parallel: ModuleType) -> None:
    assert parallel.judge(steps(parallel, "+0 +1 -1 +3 -0 +2 -3 -2"), keys=2, events=4) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("+0 +2 -0 -2 +1 -1 +3 -3", "one key ran at a time"),
        ("+2 -2 +0 -0 +1 -1 +3 -3", "after offset 2 of its key"),
        ("+0 -0 +0 -0 +2 -2 +1 -1 +3 -3", "handled twice"),
        ("+0 -0 +1 -1 +3 -3", "3 of 4 events"),
    ],
)
def test_a_wrong_run_is_named(parallel: ModuleType, text: str, fault: str) -> None:
    (found,) = parallel.judge(steps(parallel, text), keys=2, events=4)
    assert fault in found


def test_more_handlers_at_a_time_than_allowed_are_noticed(parallel: ModuleType) -> None:
    numbers = range(parallel.AT_ONCE + 1)
    text = " ".join([f"+{n}" for n in numbers] + [f"-{n}" for n in numbers])
    (found,) = parallel.judge(steps(parallel, text), keys=100, events=len(numbers))
    assert f"{parallel.AT_ONCE + 1} handlers" in found


def test_what_is_weighed_is_a_worker_with_all_the_events_in_its_hands(kafka: str, tmp_path: Path) -> None:
    common, memory = import_module("common"), import_module("memory")
    settings = common.tape(kafka, tmp_path)
    common.fill(settings, 300, 300)
    weight = common.apart(memory.weigh, "fetched", settings, common.sqlite(tmp_path), 300)
    assert weight.calls == 16
    assert 0 < weight.idle < weight.loaded <= weight.peak


def test_results_of_one_bench_replace_its_own_and_keep_the_others(tmp_path: Path) -> None:
    results = import_module("results")
    path = tmp_path / "latest.json"
    for bench, value in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        results.record(bench, [{"bench": bench, "case": "c", "system": "s", "value": value, "unit": "ms"}], path)
    assert '"bench": "a", "case": "c", "system": "s", "value": 3.0' in path.read_text()
    assert '"value": 1.0' not in path.read_text()
    assert '"bench": "b"' in path.read_text()
