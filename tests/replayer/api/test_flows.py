"""What an operator does through the API, on a real tape: search, plan, run, watch, redrive, reset."""

import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from hooktape import metrics
from hooktape.errors import LedgerUnavailable
from hooktape.ledger.checks import State
from hooktape.ledger.jobs import Job, Kind
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer import control
from hooktape.replayer.api import replays
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.planning import HEARD, PLANNING, plan
from hooktape.replayer.proof import Answer, Present
from hooktape.settings import Settings
from hooktape.tape.names import Names
from tests.replayer.kit import GROUP, SHOP, Group, bury, event, record, settle

Serve = Callable[..., httpx.Client]


@pytest.fixture
def url(tape: Settings) -> str:
    return tape.ledger_url


def _catch_up(settings: Settings, ledger: Ledger) -> None:
    with Cataloguer(settings, ledger) as cataloguer:
        cataloguer.catch_up()


def _events(client: httpx.Client, path: str, last: str | None = None, method: str = "GET") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(id, event, data) of a stream of progress, until it ends."""
    with client.stream(method, path, headers={"Last-Event-ID": last} if last else {}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif not line and "data" in fields:
                yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                fields = {}


def _pages(client: httpx.Client, path: str, **params: Any) -> Iterator[list[dict[str, Any]]]:
    answer = client.get(path, params=params)
    while True:
        assert answer.status_code == 200, answer.text
        yield answer.json()["items"]
        following = answer.json()["next"]
        assert answer.links.get("next", {}).get("url") == following
        if following is None:
            return
        answer = client.get(httpx.URL(str(client.base_url)).join(following))


def test_pages_hold_each_of_a_thousand_events_once_while_new_ones_arrive(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n) for n in range(1000)])
    _catch_up(tape, ledger)
    client = serve(tape)
    seen: list[str] = []
    for number, page in enumerate(_pages(client, "/events", limit=90)):
        seen += [row["webhook_id"] for row in page]
        if number < 3:
            record(tape, [event(1000 + 10 * number + n) for n in range(10)])
            _catch_up(tape, ledger)
    assert seen == [f"w{n:06}" for n in reversed(range(1000))]
    oldest = [row["webhook_id"] for page in _pages(client, "/events", limit=500, oldest_first=True) for row in page]
    assert oldest == [f"w{n:06}" for n in range(1030)]
    assert client.get("/events/count", params={"topic": "orders/*"}).json() == {"count": 1030}


def test_an_event_is_shown_with_its_history_and_its_body_leaves_a_line_in_the_audit_trail(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(1), event(2, payload=b"\xff\xfe")])
    settle(ledger, [event(1)], State.SUCCEEDED)
    _catch_up(tape, ledger)
    client = serve(tape)
    shown = client.get("/events/w000001").json()
    assert shown["event"]["shop"] == SHOP
    assert "body" not in json.dumps(shown)
    assert [(o["group"], o["status"]) for o in shown["outcomes"]] == [(GROUP, "succeeded")]
    assert client.get("/events/w000001/body").json()["body"] == event(1).payload.decode()
    assert client.get("/events/w000002/body").json()["body_base64"] == "//4="
    deeds = client.get("/audit").json()["items"]
    assert [(d["action"], d["target"].split()[-1]) for d in deeds] == [("body read", "w000002"), ("body read", "w000001")]
    assert client.get("/events/w9").json()["type"] == "/problems/nothing-matched"


def test_a_replay_is_planned_confirmed_run_watched_and_accounted_for(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n) for n in range(20)])
    settle(ledger, [event(n) for n in range(5)], State.SUCCEEDED)
    client = serve(tape)
    made = client.post("/replays", json={"group": GROUP, "selection": {"topic": ["orders/*"]}})
    assert made.status_code == 201, made.text
    assert made.json()["decisions"] == {"done": 5, "run": 15}
    job = made.headers["location"].removeprefix("/api/v1")
    assert client.get(job).json()["job"]["state"] == "planned"

    unsure = client.post(f"{job}/run", json={"reason": "the warehouse was down"})
    assert (unsure.status_code, unsure.json()["type"], unsure.json()["needed"]) == (409, "/problems/confirmation", 15)
    assert client.get(job).json()["job"]["state"] == "planned"
    assert client.post(f"{job}/run", json={"reason": "  ", "confirm": 15}).status_code == 422

    with Group(tape, tape.ledger_url, lambda e: e.webhook_id != "w000007") as group:
        started = client.post(f"{job}/run", json={"reason": "the warehouse was down", "confirm": 15})
        assert started.json()["state"] == "running", started.text
        *_, (last, kind, end) = _events(client, f"{job}/progress")
    assert (kind, end["job"]["state"]) == ("end", "incomplete")
    assert end["account"] == {"selected": 20, "not_run": {"done": 5}, "succeeded": 14, "failed_again": 1, "skipped": {}, "in_flight": 0,
                              "not_sent": 0, "adds_up": True}  # fmt: skip
    assert len(group.runs) == 15
    seen = client.get(job).json()
    assert (seen["confirmation"], [d["action"] for d in seen["deeds"]]) == (None, ["replay run"])
    exported = [json.loads(line) for line in client.get(f"{job}/export", params={"outcome": "failed_again"}).text.splitlines()]
    assert [row["webhook_id"] for row in exported] == ["w000007"]
    assert client.get(f"{job}/progress", headers={"Last-Event-ID": last}).status_code == 204
    [failed] = client.get(f"{job}/items", params={"outcome": "failed_again"}).json()["items"]
    assert failed["error"] == "again"
    assert sum(len(page) for page in _pages(client, f"{job}/items", limit=7)) == 20
    assert client.post(f"{job}/cancel").json()["type"] == "/problems/not-allowed"


def test_a_trial_pauses_itself_and_the_rest_goes_on_from_there(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n) for n in range(6)])
    client = serve(tape)
    made = client.post("/replays", json={"group": GROUP, "selection": {"topic": ["orders/create"]}, "rate": None, "max_outstanding": 100})
    job = made.headers["location"].removeprefix("/api/v1")
    assert (made.json()["job"]["rate"], made.json()["job"]["max_outstanding"], made.json()["job"]["max_lag"]) == (None, 100, 5.0)
    assert client.get(f"{job}/drift").json() | {"age": 0} == {"stale": False, "age": 0, "looked_at": 6, "changes": {}}
    assert client.post(f"{job}/run", json={"reason": "x", "first": 2}).json()["needed"] == 2
    with Group(tape, tape.ledger_url):
        client.post(f"{job}/run", json={"reason": "x", "first": 2, "confirm": 2}).raise_for_status()
        deadline = time.monotonic() + 30
        while (seen := client.get(job).json())["job"]["state"] != "paused":
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        assert (seen["account"]["succeeded"], seen["account"]["not_sent"], seen["confirmation"]["number"]) == (2, 4, 4)
        assert client.post(f"{job}/resume", json={"reason": "the two are fine"}).json()["state"] == "running"
        *_, (_, _, end) = _events(client, f"{job}/progress")
    assert (end["job"]["state"], end["account"]["succeeded"]) == ("done", 6)


def test_a_backfill_makes_a_new_groups_topics_and_says_where_the_tape_begins(serve: Serve, tape: Settings):
    record(tape, [event(n) for n in range(3)])
    client = serve(tape)
    wanted = {"group": "newcomer", "kind": "backfill", "selection": {"topic": ["orders/*"]}}
    assert client.post("/replays", json=wanted).json()["type"] == "/problems/usage"
    made = client.post("/replays", json={**wanted, "selection": {"since": "1970-01-01"}}).json()
    assert (made["job"]["kind"], made["decisions"]) == ("backfill", {"run": 3})
    assert made["tape_begins"].startswith("2026-")
    assert "newcomer" in [g["name"] for g in client.get("/groups").json()["items"]]


def test_events_are_found_by_what_a_person_has_in_hand(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n, payload=b'{"id": %d, "name": "#%d"}' % (n, 1000 + n), topic=topic)
                  for n, topic in ((1, "orders/create"), (2, "orders/create"))])  # fmt: skip
    settle(ledger, [event(2)], State.SUCCEEDED)
    _catch_up(tape, ledger)
    client = serve(tape)
    [found] = client.get("/events/find", params={"text": "#1002", "shop": "acme"}).json()["items"]
    assert (found["rule"], found["resource"], found["shop"]) == ("the order name", "order/2", SHOP)
    assert [(f["event"]["webhook_id"], f["groups"]) for f in found["events"]] == [("w000002", {GROUP: "succeeded"})]
    assert client.get("/events/find", params={"text": "#9"}).json() == {"items": []}


def test_bodies_select_and_a_page_says_what_it_looked_at(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n) for n in range(30)])
    _catch_up(tape, ledger)
    client = serve(tape)
    wanted = {"where": "id < `5`", "status": "pending,never-seen", "group": GROUP}
    page = client.get("/events", params=wanted | {"limit": 3}).json()
    assert ([e["webhook_id"] for e in page["items"]], page["looked_at"]) == (["w000004", "w000003", "w000002"], 30)
    rest = client.get(httpx.URL(str(client.base_url)).join(page["next"])).json()
    assert ([e["webhook_id"] for e in rest["items"]], rest["next"], rest["whole"]) == (["w000001", "w000000"], None, True)
    assert client.get("/events/count", params=wanted).json() == {"count": 5}


def test_a_replay_is_proved_against_what_the_shop_has(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n, version=n * 1_000_000) for n in range(3)])
    with Cataloguer(tape, ledger) as cataloguer:
        job = plan(cataloguer, ledger, GROUP, Selection(topics=("orders/create",)), who="t", now=time.time()).job
    settle(ledger, [event(n, version=n * 1_000_000) for n in range(3)], State.SUCCEEDED)

    @asynccontextmanager
    async def shops() -> AsyncIterator[Present]:
        async def present(_: str, resources: Sequence[str]) -> dict[str, Answer]:
            return {name: {"order/0": 0, "order/1": 9_000_000, "order/2": None}[name] for name in resources}

        yield present

    assert serve(tape).post(f"/replays/{job.id}/verify").json()["type"] == "/problems/not-allowed"
    client = serve(tape, shops=shops)
    *_, (_, kind, proof) = _events(client, f"/replays/{job.id}/verify", method="POST")
    assert (kind, proof["recovered"]) == ("end", False)
    assert proof["counts"] == {"agrees": 1, "differs": 1, "gone": 1, "not_checkable": 0}
    assert [(f["resource"], f["verdict"]) for f in proof["findings"]] == [("order/1", "differs"), ("order/2", "gone")]


def test_progress_goes_on_where_it_was_broken_off_also_with_another_server(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n) for n in range(60)])
    first, second = serve(tape), serve(tape)
    made = first.post("/replays", json={"group": GROUP, "selection": {"topic": ["orders/create"]}, "rate": 30})
    job = made.headers["location"].removeprefix("/api/v1")
    gate = threading.Event()
    with Group(tape, tape.ledger_url, lambda _: gate.wait(20)):
        first.post(f"{job}/run", json={"reason": "try", "confirm": 60})
        stream = _events(first, f"{job}/progress")
        id_, kind, _ = next(stream)
        assert kind == "progress"
        stream.close()
        gate.set()
        rest = list(_events(second, f"{job}/progress", id_))
    ids = [i for i, _, _ in rest]
    assert id_ not in ids
    assert len(set(ids)) == len(ids)
    done = [data["account"]["succeeded"] for _, _, data in rest]
    assert done == sorted(done)
    assert (rest[-1][1], rest[-1][2]["job"]["state"], done[-1]) == ("end", "done", 60)


def test_a_job_whose_runner_was_killed_is_gone_on_with(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n) for n in range(5)])
    with Cataloguer(tape, ledger) as cataloguer:
        job = plan(cataloguer, ledger, GROUP, Selection(topics=("orders/create",)), who="t", now=time.time()).job
    # Started long ago by a process that is gone: its lease has ended.
    control.start(ledger, job.id, who="t", reason="x", now=time.time() - 60)
    client = serve(tape)
    with Group(tape, tape.ledger_url):
        *_, (_, kind, end) = _events(client, f"/replays/{job.id}/progress")
    assert (kind, end["job"]["state"], end["account"]["succeeded"]) == ("end", "done", 5)


def test_a_plan_that_takes_long_is_a_job_to_watch(serve: Serve, tape: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replays, "_SOON", 0.0)
    record(tape, [event(n) for n in range(3)])
    client = serve(tape)
    later = client.post("/replays", json={"group": GROUP, "selection": {"topic": ["orders/*"]}})
    assert (later.status_code, later.json()["state"]) == (202, "planning")
    *_, (_, kind, end) = _events(client, later.headers["location"].removeprefix("/api/v1") + "/progress")
    assert (kind, end["job"]["state"], end["job"]["selected"]) == ("end", "planned", 3)
    seen = client.get(later.headers["location"].removeprefix("/api/v1") + "/plan").json()
    assert (seen["decisions"], seen["topics"], seen["shops_in_all"]) == ({"run": 3}, {"orders/create": {"run": 3}}, 1)
    assert (seen["confirmation"], len(seen["examples"]["run"])) == ({"how": "type", "number": 3}, 3)

    nothing = client.post("/replays", json={"group": GROUP, "selection": {"shop": ["nobody"]}})
    assert nothing.status_code == 202
    *_, (_, kind, end) = _events(client, nothing.headers["location"].removeprefix("/api/v1") + "/progress")
    assert (kind, end["job"]["state"]) == ("end", "failed")
    assert "No event matches" in end["job"]["note"]


def test_a_plan_whose_planner_died_is_called_abandoned_and_never_run(serve: Serve, tape: Settings, ledger: Ledger):
    now = time.time()
    selection = Selection(topics=("orders/create",))
    for number, at in enumerate((now, now - HEARD)):
        ledger.jobs.create(Job(f"{number:020}", GROUP, Kind.REPLAY, selection, "", "t", at, note=PLANNING, alive_until=at + HEARD))
    client = serve(tape)
    assert [j["state"] for j in client.get("/replays").json()["items"]] == ["planning", "abandoned"]
    dead = client.get(f"/replays/{1:020}").json()
    assert dead["confirmation"] is None
    *_, (_, kind, end) = _events(client, f"/replays/{1:020}/progress")
    assert (kind, end["job"]["state"]) == ("end", "abandoned")
    assert client.post(f"/replays/{1:020}/run", json={"reason": "x", "confirm": 0}).json()["type"] == "/problems/not-allowed"


def test_dead_letters_are_grouped_listed_shown_exported_redriven_and_discarded(serve: Serve, tape: Settings, ledger: Ledger):
    events = [event(n) for n in range(6)]
    record(tape, events)
    bury(tape, ledger, events[:4])
    bury(tape, ledger, events[4:], cause="ValueError")
    record(tape, [b"nonsense"], Names(tape.topic_prefix).dlq(GROUP))
    _catch_up(tape, ledger)
    client = serve(tape)
    here = f"/groups/{GROUP}/dead-letters"
    causes = client.get(f"{here}/causes").json()["items"]
    assert [(c["error_type"], c["count"]) for c in causes] == [("KeyError", 4), ("ValueError", 2)]
    listed = [row for page in _pages(client, here, limit=4) for row in page]
    assert {row["webhook_id"] for row in listed} == {e.webhook_id for e in events}
    assert len(listed) == 6
    shown = client.get(f"{here}/w000001").json()
    assert (shown["letter"]["error_type"], shown["stack"], shown["state"]) == ("KeyError", "line 1\nline 2", "dead")
    assert {m["what"] for m in shown["history"]} >= {"recorded", "failed", "dead"}
    assert client.get(f"{here}/causes/group-V").json()["stack"] == "line 1\nline 2"
    assert client.get(f"{here}/w000001/body").json()["body"] == event(1).payload.decode()
    exported = client.get(f"{here}/export", params={"error_group": "group-ValueError"})
    assert exported.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["webhook_id"] for line in exported.text.splitlines()] == ["w000004", "w000005"]

    some = {"selection": {"error_group": ["group-ValueError"]}, "reason": "tests"}
    assert client.post(f"{here}/discard", json=some).json()["needed"] == 2
    done = {"done": 2, "held": 0, "jobs": [], "lost": 0, "said": []}
    assert client.post(f"{here}/discard", json={**some, "confirm": 2}).json() == done
    assert len(client.get(here, params={"status": "discarded"}).json()["items"]) == 2
    assert client.post(f"{here}/restore", json={**some, "confirm": 2}).json() == done
    assert client.post(f"{here}/discard", json={**some, "confirm": 2}).json() == done

    [poison] = client.get(f"{here}/poison").json()["items"]
    assert base64.b64decode(client.get(f"{here}/poison/body", params={"at": poison["at"]}).json()["value_base64"]) == b"nonsense"
    elsewhere = f"{Names(tape.topic_prefix).log('orders.create')}/0@0"
    assert client.get(f"{here}/poison/body", params={"at": elsewhere}).json()["type"] == "/problems/usage"
    assert json.loads(client.get(f"{here}/export", params={"poison": True}).text)["at"] == poison["at"]
    given_up = client.post(f"{here}/discard", json={"places": [poison["at"]], "reason": "not ours", "confirm": 1})
    assert given_up.json()["done"] == 1, given_up.text
    assert client.get(f"{here}/poison").json()["items"] == []
    assert len(client.get(f"{here}/poison", params={"discarded": True}).json()["items"]) == 1

    plan = client.post(f"{here}/redrive", json={"selection": {"status": ["dead"]}})
    assert (plan.status_code, plan.json()["decisions"], plan.json()["job"]["kind"]) == (201, {"run": 4}, "redrive")


def test_a_reset_is_previewed_and_done_only_with_what_the_preview_said(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n) for n in range(10)])
    client = serve(tape)
    wanted = {"topics": ["orders/create"], "to": "latest"}
    seen = client.post(f"/groups/{GROUP}/resets/preview", json=wanted).json()
    assert (seen["executed"], {m["current"] for m in seen["moves"]}) == (False, {None})
    done = client.post(f"/groups/{GROUP}/resets", json={**wanted, "reason": "new app", "confirm": 0})
    assert done.json()["executed"], done.text
    back = {"topics": ["orders/create"], "to": "earliest", "reason": "again", "reprocess": True}
    assert client.post(f"/groups/{GROUP}/resets", json=back).json()["needed"] == 10
    again = client.post(f"/groups/{GROUP}/resets", json={**back, "confirm": 10}).json()
    assert (again["brings"]["again"], again["brings"]["run"], again["reprocess"]) == (10, 10, True)
    assert client.post(f"/groups/{GROUP}/resets/undo/preview", json={}).json()["undoes"] == again["id"]
    undone = client.post(f"/groups/{GROUP}/resets/undo", json={"id": again["id"], "reason": "wrong", "confirm": 10}).json()
    assert (undone["executed"], undone["undoes"]) == (True, again["id"])
    listed = client.get(f"/groups/{GROUP}/resets").json()["items"]
    assert [(r["state"], r["undoes"]) for r in listed] == [("done", again["id"]), ("undone", None), ("done", None)]
    place = listed[0]["moves"][0] | {"offset": 3}
    places = [{name: place[name] for name in ("topic", "partition", "offset")}]
    [move] = client.post(f"/groups/{GROUP}/resets/preview", json={"to": "places", "places": places}).json()["moves"]
    assert move["wanted"] == 3
    assert client.post(f"/groups/{GROUP}/resets/preview", json={"to": "offset"}).json()["type"] == "/problems/usage"


def test_a_topic_is_held_and_let_go(serve: Serve, tape: Settings):
    client = serve(tape)
    word = {"topic": "orders/create", "state": "open", "reason": "the warehouse moves house"}
    [held] = client.post(f"/groups/{GROUP}/breakers", json=word).json()["items"]
    assert (held["topic"], held["override"]["state"]) == ("orders/create", "open")
    assert client.get("/breakers", params={"group": GROUP}).json()["items"] == [held]
    assert client.post(f"/groups/{GROUP}/breakers", json={**word, "state": "auto"}).json() == {"items": []}
    assert client.post(f"/groups/{GROUP}/breakers", json={**word, "state": "auto"}).status_code == 404
    assert len({line["who"] for line in client.get("/audit").json()["items"]}) == 1


def test_figures_say_how_far_a_group_and_the_catalogue_are(serve: Serve, tape: Settings, ledger: Ledger):
    record(tape, [event(n) for n in range(4)])
    bury(tape, ledger, [event(0)])
    client = serve(tape)
    [group] = client.get("/groups").json()["items"]
    assert (group["name"], group["dlq_depth"]) == (GROUP, 1)
    now = client.get(f"/groups/{GROUP}").json()
    assert now.pop("dlq_oldest_seconds") > group.pop("dlq_oldest_seconds") > 0
    assert now == group
    seen = client.get("/status").json()
    assert (seen["arrived"], seen["catalogue_lag"], len(seen["items"]), seen["reconciled"]) == (4, 4, 1, [])
    assert client.get("/groups/nobody").json()["type"] == "/problems/not-found"
    assert client.get("/catalogue").json()["lag"] == 4
    _catch_up(tape, ledger)
    assert client.get("/catalogue").json()["lag"] == 0
    assert client.get(httpx.URL(str(client.base_url)).copy_with(path="/readyz")).status_code == 200


def test_what_needs_kafka_says_so_when_it_is_away_and_the_rest_goes_on(serve: Serve, tape: Settings):
    client = serve(replace(tape, kafka="127.0.0.1:1", read_timeout=0.5))
    assert client.get("/events").status_code == 200
    away, ready = client.get("/catalogue"), client.get(httpx.URL(str(client.base_url)).copy_with(path="/readyz"))
    assert (away.status_code, away.json()["type"], away.headers["retry-after"]) == (503, "/problems/kafka-unavailable", "5")
    assert (ready.status_code, "kafka:" in ready.text) == (503, True)
    assert client.get(httpx.URL(str(client.base_url)).copy_with(path="/livez")).status_code == 200


def test_a_ledger_that_is_away_is_named(serve: Serve, tape: Settings, monkeypatch: pytest.MonkeyPatch):
    client = serve(tape)

    def away(*_: object) -> Ledger:
        raise LedgerUnavailable("The ledger's database can't be reached.")

    monkeypatch.setattr(Ledger, "open", away)
    answer = client.get("/events")
    assert (answer.status_code, answer.json()["type"], answer.headers["retry-after"]) == (503, "/problems/ledger-unavailable", "5")


def test_a_parameter_that_isnt_there_is_named_with_those_that_are(serve: Serve, tape: Settings):
    client = serve(tape)
    answer = client.get("/events", params={"shops": SHOP}).json()
    assert (answer["type"], answer["field"]) == ("/problems/unknown-parameter", "shops")
    assert {"shop", "topic", "since", "limit", "cursor"} <= set(answer["allowed"])
    assert client.get("/events?limit=1&limit=2").json()["field"] == "limit"
    assert client.get("/events?topic=a%00b").json()["type"] == "/problems/malformed"
    for cursor in ("nonsense", "kwE", "é", "a" * 300):
        assert client.get("/events", params={"cursor": cursor}).status_code == 400


def test_requests_are_counted_by_route_and_not_by_address(serve: Serve, tape: Settings):
    client = serve(tape)
    route = "/api/v1/events/{webhook_id}"
    before = metrics.API_REQUESTS.labels(route, "404")._value.get()
    client.get("/events/one")
    client.get("/events/two")
    # Counted once an answer has gone out, which its reader may see first.
    deadline = time.monotonic() + 10
    while metrics.API_REQUESTS.labels(route, "404")._value.get() < before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert metrics.API_REQUESTS.labels(route, "404")._value.get() == before + 2
