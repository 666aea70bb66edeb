import json
import threading
import time

from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.figures import export, figures
from hooktape.settings import Settings
from hooktape.tape import groups
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader
from tests.replayer.kit import GROUP, SHOP, bury, cli, event, record, settle


def test_events_are_listed_by_selection_and_status(tape: Settings, ledger: Ledger, url: str) -> None:
    events = [event(i, topic="orders/updated" if i % 2 else "orders/create") for i in range(10)]
    record(tape, events)
    settle(ledger, events[:4], State.SUCCEEDED)
    rows = json.loads(cli(tape, url, "events", "list", "--topic", "orders/create", "--json").stdout)["events"]
    assert [r["webhook_id"] for r in rows] == [f"w{i:06}" for i in (8, 6, 4, 2, 0)]
    unseen = cli(tape, url, "events", "list", "--group", GROUP, "--status", "never-seen", "--count")
    assert unseen.stdout.strip() == "6"
    assert "w000009" in cli(tape, url, "events", "list", "--group", GROUP).stdout
    assert cli(tape, url, "events", "list", "--shop", "nobody").exit_code == 3
    assert cli(tape, url, "events", "list", "--status", "dead").exit_code == 2  # whose status?
    record(tape, [event(11)])
    assert cli(tape, url, "events", "list", "--count", "--no-catch-up").stdout.strip() == "10"
    assert cli(tape, url, "events", "list", "--count").stdout.strip() == "11"


def test_one_event_is_shown_with_body_and_history(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(1, payload=b'{"name": "\x1b[31mred"}'), event(2, payload=b'{"a": "' + b"x" * 9000 + b'"}')])
    settle(ledger, [event(1)], State.DEAD, cause="KeyError")
    assert cli(tape, url, "replay", "plan", "--group", GROUP, "--id", "w000001").exit_code == 0
    shown = json.loads(cli(tape, url, "events", "show", "w000001", "--json").stdout)
    assert (shown["shop"], shown["verified_by"]) == (SHOP, event(1).secret_id)
    assert [(o["group"], o["status"], o["error_type"]) for o in shown["outcomes"]] == [(GROUP, "dead", "KeyError")]
    assert [(r["kind"], r["decision"]) for r in shown["replays"]] == [("replay", "run")]
    text = cli(tape, url, "events", "show", "w000001").stdout
    assert "\x1b" not in text
    assert "--full" in cli(tape, url, "events", "show", "w000002").stdout
    assert "x" * 9000 in cli(tape, url, "events", "show", "w000002", "--full").stdout
    assert cli(tape, url, "events", "show", "nobody").exit_code == 3


def test_the_tail_shows_events_as_they_are_recorded(tape: Settings, url: str) -> None:
    record(tape, [event(0)])
    found: list[str] = []
    words = ("events", "tail", "--topic", "orders/create", "--since", "1h", "--limit", "3", "--timeout", "30", "--json")
    tail = threading.Thread(target=lambda: found.append(cli(tape, url, *words).stdout))
    tail.start()
    record(tape, [event(1), event(2, topic="orders/updated"), b"alien", event(3)])
    tail.join(30)
    assert sorted(json.loads(line)["webhook_id"] for line in found[0].splitlines()) == ["w000000", "w000001", "w000003"]


def test_the_figures_tell_lag_failures_and_depth_by_group(tape: Settings, ledger: Ledger, url: str) -> None:
    names = Names(tape.topic_prefix)
    events = [event(i) for i in range(10)]
    record(tape, events)
    with Reader(tape) as reader:
        groups.alter(tape, GROUP, reader.ends([names.log("orders.create")]))
    record(tape, [event(i) for i in range(10, 14)])
    bury(tape, ledger, events[:2])
    settle(ledger, events[2:5], State.WAITING)
    now = time.time() + 60
    found = figures(tape, ledger, now)
    (group,) = found.groups
    assert (group.name, group.state, group.members) == (GROUP, "empty", 0)
    assert {topic: lag.events for topic, lag in group.lag.items()} == {"orders/create": 4}
    assert 60 <= group.lag["orders/create"].seconds < 90
    assert (group.waiting, group.dead, group.dlq_depth) == ({"orders/create": 3}, {"orders/create": 2}, 2)
    assert group.dlq_oldest_seconds is not None
    assert 60 <= group.dlq_oldest_seconds < 90
    assert found.catalogue_lag == 14
    export(found)
    from hooktape.metrics import exposition

    text = exposition()[0].decode()
    assert f'hooktape_pending_events{{group="{GROUP}",topic="orders/create"}} 4.0' in text
    assert f'hooktape_failed_events{{group="{GROUP}",topic="orders/create"}} 5.0' in text
    assert "hooktape_catalog_lag_events 14.0" in text
