import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from hooktape.errors import UsageError
from hooktape.ledger.checks import State
from hooktape.ledger.items import Item
from hooktape.ledger.jobs import Job, JobState, Kind
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, Status
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.dlq import DeadLetters
from hooktape.replayer.figures import figures
from hooktape.replayer.letters import LetterIndex
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Names
from tests.replayer.kit import GROUP, Group, bury, cli, event, in_lane, record, settle


@pytest.fixture
def dead(tape: Settings, ledger: Ledger) -> Settings:
    """Six dead events of two causes, one that died and was handled since, and one record that is none."""
    events = [event(i, topic="orders/updated" if i % 2 else "orders/create") for i in range(7)]
    record(tape, events)
    bury(tape, ledger, events[:4], cause="KeyError")
    bury(tape, ledger, events[4:6], cause="TypeError")
    bury(tape, ledger, events[6:])
    settle(ledger, events[6:], State.SUCCEEDED, generation="later")
    record(tape, [b"alien"], Names(tape.topic_prefix).dlq(GROUP))
    return tape


def _json(*words: str):
    result = cli(*words)
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_the_list_holds_what_is_dead_now_and_poison_is_listed_apart(dead: Settings, url: str) -> None:
    rows = _json(dead, url, "dlq", "list", "--group", GROUP, "--json")
    assert [row["webhook_id"] for row in rows] == [f"w{i:06}" for i in (5, 4, 3, 2, 1, 0)]
    assert (rows[0]["error"], rows[0]["attempts"], rows[0]["error_group"]) == ("TypeError", 3, "group-TypeError")
    narrowed = _json(dead, url, "dlq", "list", "--group", GROUP, "--json", "--topic", "orders/c*", "--error-group", "group-KeyError")
    assert [row["webhook_id"] for row in narrowed] == ["w000002", "w000000"]
    (poison,) = _json(dead, url, "dlq", "list", "--group", GROUP, "--json", "--poison")
    shown = _json(dead, url, "dlq", "show", "--group", GROUP, poison["at"], "--json")
    assert bytes.fromhex(shown["value"]) == b"alien"
    assert "can't be redriven" in cli(dead, url, "dlq", "list", "--group", GROUP, "--poison").stderr


def test_causes_are_grouped_with_counts(dead: Settings, url: str) -> None:
    assert cli(dead, url, "catalog", "--once").exit_code == 0
    rows = _json(dead, url, "dlq", "groups", "--group", GROUP, "--json")
    assert [(r["error_group"], r["count"], r["topics"], r["example"] in {"w000000", "w000001", "w000002", "w000003"}) for r in rows] == [
        ("group-KeyError", 4, "orders/create, orders/updated", True),
        ("group-TypeError", 2, "orders/create, orders/updated", False),
    ]


def test_a_letter_is_shown_with_body_stack_headers_and_history(dead: Settings, url: str) -> None:
    assert cli(dead, url, "catalog", "--once").exit_code == 0
    shown = _json(dead, url, "dlq", "show", "--group", GROUP, "w000003", "--json")
    assert (shown["stack"], json.loads(shown["body"])["note"]) == ("line 1\nline 2", "n3")
    assert shown["headers"][headers.DISPOSITION] == "permanent"
    assert [(o["group"], o["status"]) for o in shown["outcomes"]] == [(GROUP, "dead")]
    text = cli(dead, url, "dlq", "show", "--group", GROUP, "w000003").stdout
    assert "line 2" in text
    assert cli(dead, url, "dlq", "show", "--group", GROUP, "nobody").exit_code == 3


def test_a_redrive_runs_what_is_dead_counts_itself_and_accounts_for_it(dead: Settings, ledger: Ledger, url: str) -> None:
    words = ("dlq", "redrive", "--group", GROUP, "--error-group", "group-KeyError")
    assert cli(dead, url, *words).exit_code == 2  # no reason
    assert cli(dead, url, *words, "--reason", "fixed").exit_code == 4  # nobody to ask
    with Group(dead, url, lambda e: e.webhook_id != "w000002") as group:
        result = cli(dead, url, *words, "--reason", "fixed", "--yes", "--json")
    assert result.exit_code == 5
    answer = json.loads(result.stdout)
    assert (answer["kind"], answer["account"]["succeeded"], answer["account"]["failed_again"]) == ("redrive", 3, 1)
    assert sorted(w for _, w in group.runs) == [f"w{i:06}" for i in range(4)]
    for each in in_lane(dead, Names(dead.topic_prefix).replay(GROUP)):
        ours = headers.read(each.headers)
        assert headers.redrives(ours) == 1
        assert headers.origin(ours, each.at).topic.startswith(f"{dead.topic_prefix}.log.")
        assert headers.ATTEMPTS not in ours
    assert [f.key for f in ledger.outcomes.dead(GROUP)].count(event(2).key) == 1
    assert cli(dead, url, *words[:-2], "--id", "w000006", "--reason", "r", "--yes").exit_code == 3  # handled since


def test_an_event_that_died_after_three_redrives_needs_more_than_a_redrive(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(1)])
    bury(tape, ledger, [event(1)], redrives=3)
    words = ("dlq", "redrive", "--group", GROUP, "--status", "dead", "--reason", "r", "--yes", "--json")
    refused = cli(tape, url, *words)
    assert refused.exit_code == 3
    assert "needs again" in str(refused.exception)
    with Group(tape, url):
        assert cli(tape, url, *words, "--again").exit_code == 0
    (again,) = in_lane(tape, Names(tape.topic_prefix).replay(GROUP))
    assert headers.redrives(headers.read(again.headers)) == 4


def test_a_dead_event_whose_letter_is_gone_is_redriven_from_the_tape(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(1)])
    settle(ledger, [event(1)], State.DEAD)
    with Group(tape, url):
        answer = _json(tape, url, "dlq", "redrive", "--group", GROUP, "--status", "dead", "--reason", "r", "--yes", "--json")
    assert answer["account"]["succeeded"] == 1


def test_discarding_is_audited_and_what_is_discarded_is_not_redriven(dead: Settings, ledger: Ledger, url: str) -> None:
    words = ("dlq", "discard", "--group", GROUP, "--id", "w000000,w000001", "--reason", "test orders")
    assert cli(dead, url, *words).exit_code == 4
    assert _json(dead, url, *words, "--yes", "--json") == {"discarded": 2}
    (entry,) = ledger.audit.list()
    assert (entry.action, entry.target, entry.reason, entry.detail["count"]) == ("dlq discard", GROUP, "test orders", 2)
    assert len(_json(dead, url, "dlq", "list", "--group", GROUP, "--json")) == 4
    assert cli(dead, url, *words, "--yes").exit_code == 3
    assert cli(dead, url, "dlq", "discard", "--group", GROUP, "--reason", "all", "--yes").exit_code == 2


def test_an_export_holds_every_dead_event_and_binary_bodies_as_base64(tape: Settings, ledger: Ledger, url: str, tmp_path) -> None:
    events = [event(1, payload='{"name": "Zoë"}'.encode()), event(2, payload=b"\xff\x00")]
    bury(tape, ledger, events)
    assert cli(tape, url, "dlq", "export", "--group", GROUP, "--output", str(tmp_path / "dead.jsonl")).exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    assert [r["webhook_id"] for r in rows] == ["w000001", "w000002"]
    assert rows[0]["body"] == '{"name": "Zoë"}'
    assert base64.b64decode(rows[1]["body_base64"]) == b"\xff\x00"
    assert rows[0]["error_stack"] == "line 1\nline 2"


