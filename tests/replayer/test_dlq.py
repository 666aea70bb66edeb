"""Dead letters by the commands, on a real Kafka."""

import base64
import json
import time
from random import Random

import pytest

from hooktape.errors import UsageError
from hooktape.ledger.checks import State
from hooktape.ledger.jobs import Job, JobState, Kind
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, Status
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.dlq import DeadLetters
from hooktape.replayer.figures import figures
from hooktape.replayer.planning import drift
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Names
from tests.replayer.kit import GROUP, Group, bury, cli, event, expire, in_lane, record, settle


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
    assert {row["webhook_id"] for row in rows[:2]} == {"w000005", "w000004"}  # the latest first
    assert {row["webhook_id"] for row in rows[2:]} == {f"w{i:06}" for i in range(4)}
    assert (rows[0]["error"], rows[0]["attempts"], rows[0]["error_group"]) == ("TypeError", 1, "group-TypeError")
    narrowed = _json(dead, url, "dlq", "list", "--group", GROUP, "--json", "--topic", "orders/c*", "--error-group", "group-KeyError")
    assert {row["webhook_id"] for row in narrowed} == {"w000002", "w000000"}
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
    cause = _json(dead, url, "dlq", "groups", "--group", GROUP, "--show", "group-K", "--json")
    assert (cause["count"], cause["topics"], cause["stack"]) == (4, {"orders/create": 2, "orders/updated": 2}, "line 1\nline 2")
    assert "acme.myshopify.com (4)" in cli(dead, url, "dlq", "groups", "--group", GROUP, "--show", "group-KeyError").stdout
    assert cli(dead, url, "dlq", "groups", "--group", GROUP, "--show", "group").exit_code == 2
    assert cli(dead, url, "dlq", "groups", "--group", GROUP, "--show", "none").exit_code == 3


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
    assert _json(dead, url, *words, "--yes", "--json") == {"discarded": 2, "held": 0, "jobs": [], "lost": 0}
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


def test_what_the_catalogue_has_forgotten_is_listed_shown_redriven_and_exported(tape: Settings, ledger: Ledger, url: str) -> None:
    bury(tape, ledger, [event(1, webhook_id="b54557e4-bdd9-4b37")])  # its log holds nothing at that place
    (row,) = _json(tape, url, "dlq", "list", "--group", GROUP, "--json")
    assert (row["webhook_id"], row["resource"]) == ("b54557e4-bdd9-4b37", "order/1")
    shown = _json(tape, url, "dlq", "show", "--group", GROUP, "b54557e4", "--json")
    assert (json.loads(shown["body"])["note"], shown["status"]) == ("n1", "dead")
    (line,) = [json.loads(line) for line in cli(tape, url, "dlq", "export", "--group", GROUP).stdout.splitlines()]
    assert json.loads(line["body"])["note"] == "n1"
    with Group(tape, url):
        answer = _json(tape, url, "dlq", "redrive", "--group", GROUP, "--id", row["webhook_id"], "--reason", "r", "--yes", "--json")
    assert answer["account"]["succeeded"] == 1


def test_a_letter_that_claims_a_place_where_another_event_lies_is_redriven_itself(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(i) for i in range(9)])  # one of them lies where the letter says that its event did: the topic was made anew
    bury(tape, ledger, [event(100)])
    with DeadLetters(tape, ledger, GROUP) as letters, Cataloguer(tape, ledger) as cataloguer:
        plan = letters.plan_redrive(Selection(statuses=(Status.DEAD,)), cataloguer, who="ana", now=time.time())
        assert plan.decisions == {"run": 1}
        (item,) = ledger.jobs.items(plan.job.id)
        assert (item.kafka_topic, item.offset) == (letters.topic, 0)
        assert not drift(ledger, cataloguer.reader, plan.job, now=time.time())
        expire(tape, letters.topic)
        cataloguer.prune(time.time())
        assert drift(ledger, cataloguer.reader, plan.job, now=time.time()).changes == {("run", "gone"): 1}


def test_a_redrive_keeps_the_order_of_each_resource(tape: Settings, ledger: Ledger, url: str) -> None:
    events = [event(i, resource=1 + i % 3) for i in range(30)]
    shuffled = events.copy()
    Random(7).shuffle(shuffled)
    for some in (shuffled[:10], shuffled[10:]):
        bury(tape, ledger, some)
    with Group(tape, url) as group:
        _json(tape, url, "dlq", "redrive", "--group", GROUP, "--status", "dead", "--reason", "r", "--yes", "--json")
    ran = [webhook for _, webhook in group.runs]
    for resource in range(3):
        mine = [e.webhook_id for e in events if int(e.webhook_id[1:]) % 3 == resource]
        assert [webhook for webhook in ran if webhook in mine] == mine


def test_redrives_are_counted_by_the_letter_that_counts_most(tape: Settings, ledger: Ledger, url: str) -> None:
    bury(tape, ledger, [event(1)], redrives=3)
    settle(ledger, [event(1)], State.SUCCEEDED, generation="by hand")
    bury(tape, ledger, [event(1)], generation="replayed")  # a replay counts no redrive, and it died once more
    (row,) = _json(tape, url, "dlq", "list", "--group", GROUP, "--json")
    assert row["redrives"] == 3
    refused = cli(tape, url, "dlq", "redrive", "--group", GROUP, "--status", "dead", "--reason", "r", "--yes")
    assert (refused.exit_code, "needs again" in str(refused.exception)) == (3, True)


def test_an_events_history_tells_its_deaths_its_jobs_and_what_people_decided(dead: Settings, ledger: Ledger, url: str) -> None:
    one = ("--group", GROUP, "--id", "w000003")
    assert cli(dead, url, "dlq", "discard", *one, "--reason", "a test", "--yes").exit_code == 0
    assert _json(dead, url, "dlq", "show", "--group", GROUP, "w000003", "--json")["status"] == "discarded"
    (listed,) = _json(dead, url, "dlq", "list", "--group", GROUP, "--status", "discarded", "--json")
    assert (listed["webhook_id"], listed["status"]) == ("w000003", "discarded")
    assert cli(dead, url, "dlq", "restore", *one, "--reason", "not a test").exit_code == 4  # nobody to ask
    assert _json(dead, url, "dlq", "restore", *one, "--reason", "not a test", "--yes", "--json")["restored"] == 1
    with Group(dead, url):
        assert cli(dead, url, "dlq", "redrive", *one, "--reason", "fixed", "--yes").exit_code == 0
    shown = _json(dead, url, "dlq", "show", "--group", GROUP, "w000003", "--json")
    assert shown["status"] == "succeeded"
    assert [m["what"] for m in shown["history"]] == ["failed", "triggered", "recorded", "dead", "discarded", "restored", "redrive"]
    assert shown["history"] == sorted(shown["history"], key=lambda m: m["at"])
    assert "not a test" in shown["history"][5]["detail"]
    assert shown["history"][6]["detail"].endswith("(fixed): run, succeeded")
    assert "restored" in cli(dead, url, "dlq", "show", "--group", GROUP, "w000003").stdout


def test_what_is_in_a_jobs_hands_is_left_there_and_said(dead: Settings, ledger: Ledger, url: str) -> None:
    job = ledger.jobs.create(Job("job1", GROUP, Kind.REDRIVE, Selection(statuses=(Status.DEAD,)), "fixed", "ana", time.time()))
    ledger.jobs.add_items(job, [(job.number, 1, *event(0).key, "t", 0, 0, 9, 0, 1, "run")], [])
    ledger.jobs.move("job1", {JobState.PLANNED}, JobState.RUNNING, time.time())
    refused = cli(dead, url, "dlq", "discard", "--group", GROUP, "--id", "w000000", "--reason", "no", "--yes")
    assert (refused.exit_code, "on their way through job job1" in str(refused.exception)) == (4, True)
    some = _json(dead, url, "dlq", "discard", "--group", GROUP, "--id", "w000000,w000001", "--reason", "no", "--yes", "--json")
    assert some == {"discarded": 1, "held": 1, "jobs": ["job1"], "lost": 0}


def test_records_that_hold_no_event_are_exported_discarded_and_restored_by_their_place(dead: Settings, ledger: Ledger, url: str) -> None:
    assert cli(dead, url, "catalog", "--once").exit_code == 0
    (group,) = figures(dead, ledger, time.time()).groups
    assert (group.dead["unreadable"], group.dlq_depth) == (1, 7)
    (line,) = [json.loads(x) for x in cli(dead, url, "dlq", "export", "--group", GROUP, "--poison").stdout.splitlines()]
    assert base64.b64decode(line["value_base64"]) == b"alien"
    at = ("--group", GROUP, "--at", line["at"], "--reason", "garbage", "--yes")
    assert cli(dead, url, "dlq", "discard", *at, "--id", "w000001").exit_code == 2
    assert cli(dead, url, "dlq", "discard", "--group", GROUP, "--at", "nowhere", "--reason", "r", "--yes").exit_code == 2
    assert cli(dead, url, "dlq", "discard", *at).exit_code == 0
    assert cli(dead, url, "dlq", "discard", *at).exit_code == 3
    assert _json(dead, url, "dlq", "list", "--group", GROUP, "--poison", "--json") == []
    assert cli(dead, url, "dlq", "discard", "--group", GROUP, "--status", "dead", "--reason", "all", "--yes").exit_code == 0
    (group,) = figures(dead, ledger, time.time()).groups
    assert (group.dlq_depth, group.dlq_oldest_seconds) == (0, None)
    assert cli(dead, url, "dlq", "restore", *at).exit_code == 0
    (given_back,) = _json(dead, url, "dlq", "list", "--group", GROUP, "--poison", "--json")
    assert (given_back["at"], given_back["discarded"]) == (line["at"], None)
    assert cli(dead, url, "dlq", "discard", "--group", GROUP, "--poison", "--reason", "all", "--yes").exit_code == 0


def test_restoring_after_retention_says_why_not(dead: Settings, ledger: Ledger, url: str) -> None:
    assert cli(dead, url, "catalog", "--once").exit_code == 0
    one = ("--group", GROUP, "--id", "w000002", "--reason", "r", "--yes")
    assert cli(dead, url, "dlq", "discard", *one).exit_code == 0
    expire(dead, Names(dead.topic_prefix).dlq(GROUP))
    with Cataloguer(dead, ledger) as cataloguer:
        assert cataloguer.prune(time.time()) == 8
    refused = cli(dead, url, "dlq", "restore", *one)
    assert (refused.exit_code, "retention has removed their letters" in str(refused.exception)) == (3, True)
    rows = _json(dead, url, "dlq", "list", "--group", GROUP, "--json")
    assert [(row["at"], row["disposition"]) for row in rows] == [(None, "")] * 5
    shown = _json(dead, url, "dlq", "show", "--group", GROUP, "w000001", "--json")  # from the tape
    assert (json.loads(shown["body"])["note"], shown["stack"]) == ("n1", "")


def test_only_what_is_dead_or_discarded_has_letters_to_select(dead: Settings, ledger: Ledger) -> None:
    with DeadLetters(dead, ledger, GROUP) as letters, Cataloguer(dead, ledger) as cataloguer:
        with pytest.raises(UsageError, match="Dead letters are of dead events"):
            letters.page(Selection(statuses=(Status.SUCCEEDED,)))
        with pytest.raises(UsageError, match="dlq restore"):
            letters.plan_redrive(Selection(statuses=(Status.DISCARDED,)), cataloguer, who="ana", now=time.time())
        with pytest.raises(UsageError, match="Only what was discarded"):
            letters.discarded(Selection(statuses=(Status.DEAD,)))
