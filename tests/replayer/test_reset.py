import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from confluent_kafka import TopicPartition

from hooktape.errors import NotAllowed, TapeError
from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.resets import Saved
from hooktape.replayer import reset
from hooktape.replayer.offsets import Target, To
from hooktape.settings import Settings
from hooktape.tape import clients, groups
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader
from tests.replayer.kafka_tools import consumer_groups, described, first_by_kcat, rows_of
from tests.replayer.kit import GROUP, cli, event, record, settle

WORDS = ("reset", "--group", GROUP, "--all-topics")
DO = ("--execute", "--reason", "bad deploy", "--yes")


def _committed(settings: Settings) -> dict[tuple[str, int], int]:
    """The group's offsets under this test's prefix: the tests share their groups' names."""
    return {p: offset for p, offset in groups.committed(settings, GROUP).items() if p[0].startswith(settings.topic_prefix)}


def _ran(settings: Settings, url: str, *words: str) -> dict[str, Any]:
    result = cli(settings, url, *words, "--json")
    assert result.exit_code == 0, result.exception
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def _commit(settings: Settings, place: tuple[str, int], offset: int, metadata: str = "") -> None:
    """A commit with metadata, as a worker makes it."""
    consumer = clients.consumer(settings, GROUP)
    consumer.commit(offsets=[TopicPartition(*place, offset, metadata)], asynchronous=False)
    consumer.close()


@pytest.fixture
def consumed(tape: Settings, ledger: Ledger) -> Settings:
    """Forty events that the group has committed: twenty done, three dead, the others without an outcome."""
    events = [event(i) for i in range(40)]
    record(tape, events)
    settle(ledger, events[:20], State.SUCCEEDED)
    settle(ledger, events[20:23], State.DEAD)
    topic = Names(tape.topic_prefix).log("orders.create")
    with Reader(tape) as reader:
        groups.alter(tape, GROUP, reader.ends([topic]))
    return tape


def test_a_dry_run_says_what_would_happen_and_changes_nothing(consumed: Settings, ledger: Ledger, url: str) -> None:
    record(consumed, [event(1), event(39)])  # copies, beyond what is committed
    before = _committed(consumed)
    answer = _ran(consumed, url, *WORDS, "--to-earliest")
    assert not answer["executed"]
    assert {(m["partition"], m["current"], m["new"]) for m in answer["moves"]} == {(p, before[t, p], 0) for t, p in before}
    told = {name: answer[name] for name in ("again", "run", "finished", "dead", "in_retry", "other", "skipped")}
    assert told == {"again": 40, "run": 17, "finished": 20, "dead": 3, "in_retry": 0, "other": 0, "skipped": 0}
    assert _ran(consumed, url, *WORDS, "--to-earliest", "--reprocess")["run"] == 40
    shown = cli(consumed, url, *WORDS, "--to-earliest").stderr
    assert "20  are skipped by the ledger, as handled" in shown
    assert "nothing has changed" in shown
    assert _committed(consumed) == before
    assert (ledger.audit.list(), ledger.outcomes.reprocess(GROUP), ledger.resets.list(GROUP)) == ([], [], [])


def test_a_reset_moves_an_empty_group_saves_the_old_offsets_and_marks_the_window(consumed: Settings, ledger: Ledger, url: str) -> None:
    before = _committed(consumed)
    words = (*WORDS, "--to-earliest", "--reprocess", "--execute")
    assert cli(consumed, url, *words, "--yes").exit_code == 2  # no reason
    assert cli(consumed, url, *words, "--reason", "x").exit_code == 4  # nobody to ask
    assert _committed(consumed) == before
    answer = _ran(consumed, url, *WORDS, "--to-earliest", "--reprocess", *DO)
    assert _committed(consumed) == dict.fromkeys(before, 0)
    (entry,) = ledger.audit.list()
    assert (entry.action, entry.target, entry.reason) == ("reset", GROUP, "bad deploy")
    assert sorted((t, p, old) for t, p, old, _ in entry.detail["offsets"]) == sorted((*p, old) for p, old in before.items())
    windows = ledger.outcomes.reprocess(GROUP)
    assert {w.generation for w in windows} == {answer["reprocess"]}
    assert {((w.kafka_topic, w.partition), w.from_offset, w.to_offset) for w in windows} == {(p, 0, old) for p, old in before.items()}
    (row,) = _ran(consumed, url, "reset", "list", "--group", GROUP)  # type: ignore[misc]
    assert (row["id"], row["state"], row["reason"]) == (answer["id"], "done", "bad deploy")  # type: ignore[index]


def test_undo_restores_the_offsets_and_takes_the_marks_back(consumed: Settings, ledger: Ledger, url: str) -> None:
    before = _committed(consumed)
    first = _ran(consumed, url, *WORDS, "--to-earliest", "--reprocess", *DO)
    undo = ("reset", "undo", "--group", GROUP)
    dry = _ran(consumed, url, *undo)
    assert (dry["executed"], dry["undoes"], dry["skipped"], dry["never_handled"]) == (False, first["id"], 40, 17)
    assert cli(consumed, url, *undo, "--execute", "--yes").exit_code == 2  # no reason
    assert cli(consumed, url, *undo, "--execute", "--reason", "x").exit_code == 4  # nobody to ask
    done = _ran(consumed, url, *undo, *DO)
    assert (_committed(consumed), ledger.outcomes.reprocess(GROUP)) == (before, [])
    assert cli(consumed, url, *undo, *DO).exit_code == 3  # an undo is only taken back by its id
    assert cli(consumed, url, *undo, "--id", first["id"], *DO).exit_code == 2
    _ran(consumed, url, *undo, "--id", done["id"], *DO)
    assert _committed(consumed) == dict.fromkeys(before, 0)
    assert [entry.action for entry in ledger.audit.list()] == ["reset undo", "reset undo", "reset"]


def test_forward_it_says_what_would_never_be_handled(consumed: Settings, ledger: Ledger, url: str) -> None:
    _ran(consumed, url, *WORDS, "--to-earliest", *DO)
    assert ledger.outcomes.reprocess(GROUP) == []
    shown = cli(consumed, url, *WORDS, "--to-latest")
    assert "40 records are passed over: 17 of them were never handled and NEVER WILL BE" in shown.stderr
    answer = _ran(consumed, url, *WORDS, "--to-latest", *DO)
    assert (answer["skipped"], answer["never_handled"], answer["reprocess"]) == (40, 17, None)
    with Reader(consumed) as reader:
        assert _committed(consumed) == reader.ends([Names(consumed.topic_prefix).log("orders.create")])


def test_the_groups_name_is_typed_on_a_terminal(consumed: Settings, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hooktape.cli.reset import _confirm

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for typed, refused in ((GROUP, False), ("y", True), ("", True)):
        monkeypatch.setattr(click, "prompt", lambda *_, typed=typed, **__: typed)
        if refused:
            with pytest.raises(NotAllowed, match="isn't the group's name"):
                _confirm(GROUP, "Move?", yes=False)
        else:
            _confirm(GROUP, "Move?", yes=False)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_live_group_is_refused_by_its_members_names(consumed: Settings, ledger: Ledger, url: str, protocol: str) -> None:
    before = _committed(consumed)
    topic = Names(consumed.topic_prefix).log("orders.create")
    more = {"group.protocol": protocol, "auto.offset.reset": "earliest", "client.id": "worker-7"}
    consumer = clients.consumer(consumed, GROUP, **more)
    ledger.ownership.heartbeat(GROUP, "desk:4711:x", time.time(), 60)
    try:
        consumer.subscribe([topic])
        deadline = time.monotonic() + 20
        while not (found := groups.describe(consumed, GROUP)).live or not found.members[0].partitions:
            consumer.poll(0.05)
            assert time.monotonic() < deadline
        for words in (WORDS[:3], ("reset", "undo", "--group", GROUP)):
            more_words = () if "undo" in words else ("--all-topics", "--to-earliest")
            result = cli(consumed, url, *words, *more_words, *DO)
            assert result.exit_code == 4
            said = str(result.exception)
            assert f"worker-7 at 127.0.0.1 ({found.members[0].id}): {topic}:0,1" in said
            assert "PID 4711 on desk" in said
            assert "docker compose stop consume" in said
    finally:
        consumer.close()
    assert _committed(consumed) == before
    assert (ledger.audit.list(), ledger.outcomes.reprocess(GROUP)) == ([], [])


def test_a_worker_that_kafka_has_given_up_keeps_the_group_live_while_its_lease_lasts(
    consumed: Settings, ledger: Ledger, url: str
) -> None:
    ledger.ownership.heartbeat(GROUP, "desk:4711:x", time.time(), 600)
    result = cli(consumed, url, *WORDS, "--to-earliest", *DO)
    assert result.exit_code == 4
    assert "PID 4711 on desk" in str(result.exception)
    ledger.ownership.release(GROUP, "desk:4711:x")
    assert cli(consumed, url, *WORDS, "--to-earliest", *DO).exit_code == 0


def test_a_moved_offset_carries_no_metadata_of_the_old_one_and_others_keep_theirs(
    consumed: Settings, ledger: Ledger, url: str
) -> None:
    names = Names(consumed.topic_prefix)
    log, lane = names.log("orders.create"), (names.replay(GROUP), 0)
    record(consumed, [event(100)], names.replay(GROUP))
    for number in (0, 1):
        _commit(consumed, (log, number), 5, "ht1:finished")
    _commit(consumed, lane, 0, "ht1:finished")
    _ran(consumed, url, "reset", "--group", GROUP, "--topic", "orders/create:0", "--shift-by", "-2", *DO)
    stored = groups.stored(consumed, GROUP, [(log, 0), (log, 1), lane])
    assert stored == {(log, 0): (3, ""), (log, 1): (5, "ht1:finished"), lane: (0, "ht1:finished")}
    refused = cli(consumed, url, "reset", "--group", GROUP, "--topic", names.replay(GROUP), "--to-latest")
    assert refused.exit_code == 2


def test_what_the_broker_stores_otherwise_is_an_error_that_names_the_way_back(consumed: Settings) -> None:
    place = (Names(consumed.topic_prefix).log("orders.create"), 0)
    saved = Saved("abc", GROUP, 1.0, "me", "why", False, {place: 9}, {place: 3})
    with pytest.raises(TapeError, match=r"not offset 3: did a worker start meanwhile.* --id abc"):
        reset.verify(consumed, saved)
    _commit(consumed, place, 3, "ht1:finished")
    with pytest.raises(TapeError, match="offset 3 with metadata"):
        reset.verify(consumed, saved)
    groups.alter(consumed, GROUP, {place: 3})
    reset.verify(consumed, saved)


def test_a_plan_whose_group_has_moved_since_and_a_second_reset_at_once_are_refused(consumed: Settings, ledger: Ledger) -> None:
    topic = Names(consumed.topic_prefix).log("orders.create")
    planned = reset.plan(consumed, ledger, GROUP, Target(To.EARLIEST), [topic])
    now = time.time()
    assert ledger.leases.acquire(f"reset:{GROUP}", "another", now, 60)
    with pytest.raises(NotAllowed, match="Somebody else"):
        reset.execute(consumed, ledger, planned, who="me", reason="r", now=now)
    ledger.leases.release(f"reset:{GROUP}", "another")
    groups.alter(consumed, GROUP, {(topic, 0): 1})
    with pytest.raises(NotAllowed, match="has moved since"):
        reset.execute(consumed, ledger, planned, who="me", reason="r", now=now)
    assert (ledger.audit.list(), ledger.resets.list(GROUP)) == ([], [])


def test_windows_that_the_group_has_passed_are_forgotten_once_their_reset_is_over(consumed: Settings, ledger: Ledger, url: str) -> None:
    before, now = _committed(consumed), time.time()
    _ran(consumed, url, *WORDS, "--to-earliest", "--reprocess", *DO)
    assert reset.forget_passed(consumed, ledger, now + 7200) == 0  # not passed
    first, second = sorted(before)
    groups.alter(consumed, GROUP, {first: before[first], second: before[second] - 1})
    assert reset.forget_passed(consumed, ledger, now) == 0  # it may be under way
    assert reset.forget_passed(consumed, ledger, now + 7200) == 1
    (left,) = ledger.outcomes.reprocess(GROUP)
    assert (left.kafka_topic, left.partition) == second
    assert reset.forget_passed(consumed, ledger, now + 40 * 86400) == 1  # retention has taken its records


def test_kafkas_own_tool_and_kcat_agree_and_files_go_both_ways(consumed: Settings, ledger: Ledger, url: str, tmp_path: Path) -> None:
    kafka, prefix, topic = consumed.kafka, consumed.topic_prefix, Names(consumed.topic_prefix).log("orders.create")
    tool, file = ("--reset-offsets", "--group", GROUP), tmp_path / "offsets.csv"
    answer = _ran(consumed, url, "reset", "--group", GROUP, "--topic", f"{topic}:0,1", "--shift-by", "-4", *DO)
    shown = {(m["topic"], m["partition"]): m["new"] for m in answer["moves"]}
    assert described(kafka, GROUP, prefix) == shown
    assert first_by_kcat(kafka, GROUP, topic) == {number: offset for (_, number), offset in shown.items()}

    # Of one group: ours is byte for byte what Kafka's tool writes, and each reads the other's.
    ours = cli(consumed, url, *WORDS, "--to-earliest", "--export").stdout
    theirs = consumer_groups(kafka, *tool, "--topic", topic, "--to-earliest", "--export", "--dry-run")
    assert sorted(ours.splitlines()) == sorted(line for line in theirs.splitlines() if line)
    file.write_text(ours)
    consumer_groups(kafka, *tool, "--from-file", str(file), "--execute")
    assert described(kafka, GROUP, prefix) == _committed(consumed) == dict.fromkeys(shown, 0)
    file.write_text(consumer_groups(kafka, *tool, "--topic", topic, "--shift-by", "3", "--export", "--dry-run"))
    moved = _ran(consumed, url, "reset", "--group", GROUP, "--from-file", str(file), *DO)
    assert _committed(consumed) == {(m["topic"], m["partition"]): m["new"] for m in moved["moves"]} == dict.fromkeys(shown, 3)

    # Of two groups: the group's name stands in front.
    other = f"{prefix}-mail"
    groups.alter(consumed, other, dict.fromkeys(shown, 1))
    both = ("--group", GROUP, "--group", other)
    ours = cli(consumed, url, "reset", *both, "--topic", topic, "--to-current", "--export").stdout
    theirs = consumer_groups(kafka, "--reset-offsets", *both, "--topic", topic, "--to-current", "--export", "--dry-run")
    assert rows_of(ours) == rows_of(theirs) == sorted([g, t, str(p), o] for t, p in shown for g, o in ((GROUP, "3"), (other, "1")))
    _ran(consumed, url, *WORDS, "--to-earliest", *DO)
    file.write_text(theirs)
    assert {m["new"] for m in _ran(consumed, url, "reset", "--group", GROUP, "--from-file", str(file), *DO)["moves"]} == {3}
    file.write_text(ours.replace(",3\n", ",2\n"))
    consumer_groups(kafka, *tool, "--from-file", str(file), "--execute")
    assert set(_committed(consumed).values()) == {2}


def test_a_file_of_all_a_groups_topics_moves_the_tapes_alone(consumed: Settings, url: str, tmp_path: Path) -> None:
    names, file = Names(consumed.topic_prefix), tmp_path / "offsets.csv"
    file.write_text(f"{names.log('orders.create')},0,2\n{names.retry(GROUP, 30)},0,0\n{names.replay(GROUP)},1,0\n")
    answer = _ran(consumed, url, "reset", "--group", GROUP, "--from-file", str(file))
    assert [m["new"] for m in answer["moves"]] == [2]
    assert {topic for topic, _ in answer["left_alone"]} == {names.retry(GROUP, 30), names.replay(GROUP)}


def test_times_and_wrong_usage(consumed: Settings, url: str) -> None:
    topic = ("--topic", "orders/create")
    for ago in ("1h", "PT1H"):
        assert {m["new"] for m in _ran(consumed, url, "reset", "--group", GROUP, *topic, "--by-duration", ago)["moves"]} == {0}
    ahead = _ran(consumed, url, "reset", "--group", GROUP, *topic, "--to-datetime", "2099-01-01")
    assert all(m["new"] == m["current"] for m in ahead["moves"])
    wrong = [
        (2, ("--group", GROUP, "--to-earliest")),
        (2, ("--group", GROUP, "--all-topics")),
        (2, ("--group", GROUP, "--all-topics", "--to-latest", "--to-current")),
        (2, ("--group", GROUP, *topic, "--by-duration", "P1H")),
        (2, ("--all-topics", "--to-latest")),
        (2, ("--group", GROUP, "--group", "h", "--all-topics", "--to-latest")),
        (2, ("--group", GROUP, "list", "--group", GROUP)),
        (2, ("--group", GROUP, "--topic", "orders/creat", "--to-latest")),
        (3, ("--group", GROUP, "--topic", "no.such", "--to-latest")),
        (3, ("--group", "never-seen", "--all-topics", "--to-latest")),
        (3, ("undo", "--group", "never-seen")),
    ]
    for code, words in wrong:
        assert cli(consumed, url, "reset", *words).exit_code == code, words
