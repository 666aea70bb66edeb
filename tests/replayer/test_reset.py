import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.errors import UsageError
from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.reset import Places, Target, To, decide
from hooktape.settings import Settings
from hooktape.tape import clients, groups
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader
from tests.replayer.kit import GROUP, cli, event, record, settle

P = ("t", 0)


def _committed(settings: Settings) -> dict[tuple[str, int], int]:
    """The group's offsets under this test's prefix: the tests share their groups' names."""
    return {p: offset for p, offset in groups.committed(settings, GROUP).items() if p[0].startswith(settings.topic_prefix)}


@pytest.mark.parametrize(
    ("target", "new"),
    [
        (Target(To.EARLIEST), 10),
        (Target(To.LATEST), 100),
        (Target(To.TIME, 12345), 33),
        (Target(To.OFFSET, 40), 40),
        (Target(To.OFFSET, 5), 10),
        (Target(To.OFFSET, 500), 100),
        (Target(To.SHIFT, -20), 30),
        (Target(To.SHIFT, 5), 55),
        (Target(To.SHIFT, -1000), 10),
    ],
)
def test_each_target_becomes_an_offset_within_what_the_partition_has(target: Target, new: int) -> None:
    (move,) = decide(target, Places({P: 50}, {P: 10}, {P: 100}, {P: 33}))
    assert (move.current, move.new, move.again, move.skipped) == (50, new, max(0, 50 - new), max(0, new - 50))


@given(st.sampled_from(To), st.integers(-1000, 1000), st.none() | st.integers(0, 200), st.integers(0, 100), st.integers(0, 100))
def test_no_target_leaves_the_partition(to: To, value: int, current: int | None, low: int, length: int) -> None:
    places = Places({} if current is None else {P: current}, {P: low}, {P: low + length}, {P: low + length // 2})
    if to is To.SHIFT and current is None:
        with pytest.raises(UsageError, match="shift"):
            decide(Target(to, value), places)
        return
    (move,) = decide(Target(to, value), places)
    assert low <= move.new <= low + length
    assert not (move.again and move.skipped)


@pytest.fixture
def consumed(tape: Settings, ledger: Ledger) -> Settings:
    """Forty events that the group has committed, half of them done."""
    events = [event(i) for i in range(40)]
    record(tape, events)
    settle(ledger, events[:20], State.SUCCEEDED)
    topic = Names(tape.topic_prefix).log("orders.create")
    with Reader(tape) as reader:
        groups.alter(tape, GROUP, reader.ends([topic]))
    return tape


def test_a_dry_run_says_what_would_happen_and_changes_nothing(consumed: Settings, ledger: Ledger, url: str) -> None:
    before = _committed(consumed)
    result = cli(consumed, url, "reset", "--group", GROUP, "--topic", "orders/create", "--to-earliest", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert not answer["executed"]
    assert {(m["partition"], m["current"], m["new"]) for m in answer["moves"]} == {(p, before[t, p], 0) for t, p in before}
    assert (sum(m["again"] for m in answer["moves"]), sum(m["done"] for m in answer["moves"])) == (40, 20)
    assert _committed(consumed) == before
    assert (ledger.audit.list(), ledger.outcomes.reprocess(GROUP)) == ([], [])


def test_a_reset_moves_an_empty_group_saves_the_old_offsets_and_marks_the_window(consumed: Settings, ledger: Ledger, url: str) -> None:
    before = _committed(consumed)
    words = ("reset", "--group", GROUP, "--all-topics", "--to-earliest", "--execute")
    assert cli(consumed, url, *words, "--yes").exit_code == 2  # no reason
    assert cli(consumed, url, *words, "--reason", "x").exit_code == 4  # nobody to ask
    assert _committed(consumed) == before
    result = cli(consumed, url, *words, "--reason", "bad deploy", "--yes", "--json")
    assert result.exit_code == 0
    assert _committed(consumed) == dict.fromkeys(before, 0)
    (entry,) = ledger.audit.list()
    assert (entry.action, entry.target, entry.reason) == ("reset", GROUP, "bad deploy")
    assert sorted((t, p, old) for t, p, old, _ in entry.detail["offsets"]) == sorted((*p, old) for p, old in before.items())
    windows = ledger.outcomes.reprocess(GROUP)
    assert {w.generation for w in windows} == {json.loads(result.stdout)["reprocess"]}
    assert {((w.kafka_topic, w.partition), w.from_offset, w.to_offset) for w in windows} == {(p, 0, old) for p, old in before.items()}


def test_without_reprocessing_nothing_is_marked_and_forward_there_is_nothing_to_mark(consumed: Settings, ledger: Ledger, url: str) -> None:
    words = ("reset", "--group", GROUP, "--all-topics", "--execute", "--reason", "r", "--yes")
    assert cli(consumed, url, *words, "--shift-by", "-3", "--no-reprocess").exit_code == 0
    assert cli(consumed, url, *words, "--to-latest").exit_code == 0
    assert ledger.outcomes.reprocess(GROUP) == []
    with Reader(consumed) as reader:
        assert _committed(consumed) == reader.ends([Names(consumed.topic_prefix).log("orders.create")])


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_live_group_is_refused_by_its_members_names(consumed: Settings, ledger: Ledger, url: str, protocol: str) -> None:
    before = _committed(consumed)
    more = {"group.protocol": protocol, "auto.offset.reset": "earliest", "client.id": "worker-7"}
    consumer = clients.consumer(consumed, GROUP, **more)
    try:
        consumer.subscribe([Names(consumed.topic_prefix).log("orders.create")])
        deadline = time.monotonic() + 20
        while not groups.describe(consumed, GROUP).live:
            consumer.poll(0.05)
            assert time.monotonic() < deadline
        result = cli(consumed, url, "reset", "--group", GROUP, "--all-topics", "--to-earliest", "--execute", "--reason", "r", "--yes")
        assert result.exit_code == 4
        assert "worker-7" in str(result.exception)
    finally:
        consumer.close()
    assert _committed(consumed) == before
    assert (ledger.audit.list(), ledger.outcomes.reprocess(GROUP)) == ([], [])


def test_times_and_wrong_usage(consumed: Settings, url: str) -> None:
    ago = cli(consumed, url, "reset", "--group", GROUP, "--topic", "orders/create", "--by-duration", "1h", "--json")
    assert {m["new"] for m in json.loads(ago.stdout)["moves"]} == {0}
    ahead = cli(consumed, url, "reset", "--group", GROUP, "--topic", "orders/create", "--to-datetime", "2099-01-01", "--json")
    assert all(m["new"] == m["current"] for m in json.loads(ahead.stdout)["moves"])
    assert cli(consumed, url, "reset", "--group", GROUP, "--to-earliest").exit_code == 2
    assert cli(consumed, url, "reset", "--group", GROUP, "--all-topics").exit_code == 2
    assert cli(consumed, url, "reset", "--group", GROUP, "--topic", "orders/creat", "--to-latest").exit_code == 2
    assert cli(consumed, url, "reset", "--group", GROUP, "--topic", "no.such", "--to-latest").exit_code == 3
    assert cli(consumed, url, "reset", "--group", "never-seen", "--all-topics", "--to-latest").exit_code == 3
