"""What `hooktape soak` refuses, judges again, and reads of what it started."""

import json
from pathlib import Path

from hooktape.local.soak.operator import printed_by, totals
from hooktape.local.soak.watching import Effects
from tests.soak.running import soak


def test_an_unknown_fault_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done, _ = soak(tmp_path, "--fault", "worker-tickle")
    assert done.returncode == 2
    assert "worker-tickle" in done.stderr


def test_judging_a_kept_history_ends_with_1_when_a_rule_is_broken(tmp_path: Path) -> None:
    from tests.soak.histories import clean
    from tests.soak.test_checker import lost_ack

    history = clean(7, faults=False)
    history.write(tmp_path / "good.jsonl")
    lost_ack(history)
    history.write(tmp_path / "bad.jsonl")
    assert soak(tmp_path, "--judge", str(tmp_path / "good.jsonl"))[0].returncode == 0
    done, _ = soak(tmp_path, "--judge", str(tmp_path / "bad.jsonl"))
    assert done.returncode == 1
    assert "lost-ack" in done.stdout


def test_what_a_command_printed_is_found_among_its_progress(tmp_path: Path) -> None:
    log = tmp_path / "operator.log"
    account = {"selected": 9, "not_run": {"done": 2}, "succeeded": 4, "failed_again": 1, "skipped": {"held": 2}, "in_flight": 0,
               "not_sent": 0}  # fmt: skip
    log.write_text("running: 3 of 9\n" + json.dumps({"id": "j", "selected": 9, "account": account}, indent=2) + "\nhooktape: incomplete\n")
    printed = printed_by(log)
    assert printed["id"] == "j"
    told = {name: number for name, number in totals(printed).items() if number}
    assert told == {"succeeded": 4, "failed_again": 1, "not_run:done": 2, "skipped:held": 2}
    log.write_text('{\n  "id": "j",\n')  # killed while it printed
    assert printed_by(log) == {}
    assert totals({"decisions": {"run": 3}}) == {"run": 3}


def test_the_handlers_file_is_read_as_it_grows_half_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "effects.jsonl"
    effects = Effects(path)
    start = {"start": "1-0", "handler": "order", "wid": "w", "lane": "s/order/1", "resource": "order/1", "version": 5, "attempt": 1,
             "generation": "", "pid": 1, "t": 10.0}  # fmt: skip
    end = json.dumps({"end": "1-0", "t": 10.5, "ok": True}) + "\n"
    with path.open("a") as file:
        file.write(json.dumps(start) + "\n" + json.dumps(start | {"start": "1-1", "wid": "x"}) + "\n" + end[:9])
        file.flush()
        assert effects.look() == 2
        file.write(end[9:])
    done, died = effects.attempts()
    assert (done.wid, done.start, done.end, done.ok) == ("w", 10.0, 10.5, True)
    assert (died.wid, died.end, died.ok) == ("x", None, False)
    assert effects.pids == {1}
    effects.close()
