"""Each incident of the table, switched on: what it does, and that it does no more."""

import json
from pathlib import Path
from typing import Any

import pytest

from hooktape.errors import UsageError
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.faults import Fate, Verdict, struck
from hooktape.local.shop.incidents import STATUS, TABLE, Incidents
from hooktape.local.shop.model import DELETING
from hooktape.schemas import samples

from .kit import START, Client

TINY = Plan("tiny", 1_000, 10)
EVERYTHING = f"updated_at:>='{samples.utc(int(START) - 10)}'"


def shop(name: str = "", changes: int = 600, **parameters: Any) -> Client:
    client = Client(DELETING, seed=11)
    client.change(changes)
    if name:
        client.admin.incidents.start(name, **parameters)
    return client


def live(client: Client, kind: str = "order") -> set[str]:
    return {one.gid for one in client.shop.live(kind)}


def test_one_seed_gives_one_sequence_of_chances_whatever_else_is_on() -> None:
    alone, among = Incidents(4), Incidents(4)
    for one in (alone, among):
        one.start("webhook_drop", share=0.3)
    among.start("throttled", share=0.5)
    first = [alone.strikes("webhook_drop") for _ in range(200)]
    second = [among.strikes("throttled") is None or among.strikes("webhook_drop") for _ in range(200)]
    assert first == second
    assert 30 < sum(first) < 90
    assert [alone.chosen("ids_missing", str(n)) for n in range(9)] == [False] * 9


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("no_such", {}), ("webhook_drop", {"often": 1}), ("webhook_drop", {"share": -1}), ("webhook_drop", {"share": "half"}),
     ("webhook_drop", {"topics": "orders/create"}), ("bulk_empty", {"url": 1}), ("webhook_drop", {"share": True})],
)  # fmt: skip
def test_what_is_not_in_the_table_is_refused(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Incidents(1).start(name, **parameters)


def test_incidents_stop_one_by_one_and_all_at_once() -> None:
    incidents = Incidents(1)
    for name in TABLE:
        incidents.start(name)
    assert incidents.active().keys() == TABLE.keys()
    incidents.stop("locked")
    assert not incidents.is_on("locked")
    incidents.stop()
    incidents.stop("locked")
    assert incidents.active() == {}


@pytest.mark.parametrize(("name", "fate"), [("webhook_drop", Fate.DROPPED), ("webhook_double", Fate.DOUBLED), ("webhook_delay", Fate.LATE)])
def test_a_webhook_that_leaves_meets_what_is_on_for_its_topic_and_keeps_a_planned_fate(name: str, fate: Fate) -> None:
    incidents = Incidents(2)
    incidents.start(name, share=1.0, topics=["orders/create"])
    verdict = struck(Verdict(), "orders/create", incidents)
    assert verdict.fate is fate
    assert (0 < verdict.delay < 14_400) == (fate is Fate.LATE)
    assert struck(Verdict(), "orders/updated", incidents) == Verdict()
    planned = Verdict(Fate.DOUBLED)
    assert struck(planned, "orders/create", incidents) == planned


def test_search_lag_hides_what_is_new_and_shows_what_it_was() -> None:
    client = shop("search_lag", seconds=30.0)
    shown = {node["id"] for node in client.data("{ orders(first: 250) { nodes { id } } }")["orders"]["nodes"]}
    assert shown < live(client)
    moved = next(one for one in client.shop.live("order") if one.updated < client.now - 31)
    before = moved.updated
    client.shop.change(client.now, again=moved)
    old = f"updated_at:>='{samples.utc(before)}' updated_at:<='{samples.utc(before)}'"
    assert moved.gid in client.ids(query=old)
    client.now += 31
    assert moved.gid not in client.ids(query=old)
    assert set(client.ids()) == live(client)


def test_edits_happen_to_rows_of_the_page_and_give_webhooks() -> None:
    client = shop("edits_while_paging", edits=3)
    listed = [node["id"] for node in client.data("{ orders(first: 20) { nodes { id } } }")["orders"]["nodes"]]
    edited = client.admin.edited
    assert len(edited) == 3
    assert {change.gid for change in edited} <= set(listed)
    assert set(client.ids()) == live(client)
    client.admin.edited.clear()
    assert client.data('{ events(first: 100, query: "action:destroy") { nodes { id } } }')["events"]["nodes"]
    assert client.admin.edited == [], "what is deleted isn't edited"


def test_sorted_by_updated_at_and_filtered_rows_are_omitted_and_else_none() -> None:
    client = shop("sort_omission", share=0.2)
    assert set(client.ids(query=EVERYTHING, sortKey="UPDATED_AT")) < live(client)
    assert set(client.ids(query=EVERYTHING, sortKey="ID")) == set(client.ids(sortKey="UPDATED_AT")) == live(client)


def test_missing_ids_are_the_same_in_every_list_and_there_by_id() -> None:
    client = shop("ids_missing", share=0.2, types=["order"])
    once, again = client.ids(), client.ids(query=EVERYTHING)
    assert set(once) == set(again) < live(client)
    assert set(client.ids("products")) == live(client, "product")
    gone = (live(client) - set(once)).pop()
    assert client.data("query($i: ID!) { node(id: $i) { id } }", i=gone)["node"] == {"id": gone}
    roots = client.bulk("{ orders { edges { node { id } } } }")["rootObjectCount"]
    assert int(roots) == len(once)


def test_greater_is_at_least_and_whole_days_are_whole() -> None:
    client = shop()
    second = samples.utc(client.shop.live("order")[3].updated)
    after = set(client.ids(query=f"updated_at:>'{second}'"))
    client.admin.incidents.start("greater_is_at_least")
    assert set(client.ids(query=f"updated_at:>'{second}'")) == set(client.ids(query=f"updated_at:>='{second}'")) > after
    client.admin.incidents.stop()
    late = samples.utc(int(client.now) + 5)
    assert client.ids("customers", query=f"updated_at:>='{late}'") == []
    client.admin.incidents.start("whole_days")
    assert set(client.ids("customers", query=f"updated_at:>='{late}'")) == live(client, "customer")
    assert client.ids("orders", query=f"updated_at:>='{late}'") == []


def test_a_nested_list_is_cut_and_says_that_it_is_whole() -> None:
    client = shop("nested_truncated", limit=1)
    product = next(one for one in client.shop.live("product") if len(one.body["variants"]) > 1)
    query = "query($i: ID!) { product(id: $i) { variants(first: 50) { nodes { id } pageInfo { hasNextPage } } } }"
    shown = client.data(query, i=product.gid)
    assert shown["product"]["variants"] == {"nodes": [{"id": product.body["variants"][0]["admin_graphql_api_id"]}],
                                            "pageInfo": {"hasNextPage": False}}  # fmt: skip


def test_counts_are_off_and_nodes_are_null_now_and_then() -> None:
    client = shop("counts_off", share=0.5)
    counts = {client.data("{ ordersCount { count } }")["ordersCount"]["count"] for _ in range(5)}
    assert len(counts) > 1
    client.admin.incidents.start("node_null", share=0.3)
    ids = sorted(live(client))[:100]
    first, second = (client.data("query($i: [ID!]!) { nodes(ids: $i) { id } }", i=ids)["nodes"] for _ in range(2))
    assert 10 < first.count(None) < 60
    assert [one is None for one in first] != [one is None for one in second]


def test_events_come_late_or_never() -> None:
    client = shop()
    query = '{ events(first: 100, query: "action:destroy") { nodes { id } } eventsCount { count } }'
    assert len(client.data(query)["events"]["nodes"]) == len(client.shop.destroyed) > 5
    client.admin.incidents.start("events_lag", seconds=30.0)
    late = client.data(query)["eventsCount"]["count"]
    assert 0 < late < len(client.shop.destroyed)
    client.admin.incidents.stop()
    client.admin.incidents.start("events_lost")
    assert client.data(query)["events"]["nodes"] == []


def test_throttled_and_drained_leave_fewer_points() -> None:
    client = shop("throttled", share=1.0)
    assert client.ask("{ shop { name } }")["errors"][0]["extensions"]["code"] == "THROTTLED"
    client = Client(plan=TINY)
    client.ask("{ customers(first: 250) { nodes { id } } }")
    client.admin.incidents.start("points_drained", points=90.0)
    client.now += 2
    assert client.ask("{ shop { name } }")["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] < 1_000 - 150


def test_a_cost_of_zero_is_taken_nonetheless() -> None:
    client = shop("cost_zero")
    before = client.admin.bucket.available(client.now)
    cost = client.ask("{ customers(first: 250) { nodes { id } } }")["extensions"]["cost"]
    assert (cost["requestedQueryCost"], cost["actualQueryCost"]) == (0, 0)
    assert client.admin.bucket.available(client.now) < before


@pytest.mark.parametrize(("name", "status"), STATUS.items())
def test_a_closed_shop_answers_with_its_own_status(name: str, status: int) -> None:
    client = shop(name)
    answer = client.admin.answer("2026-04", "t", b'{"query": "{ shop { name } }"}')
    assert answer.status == status
    assert json.loads(answer.body)["errors"]


ASKED = b"grant_type=client_credentials&client_id=app&client_secret=t"


def test_a_token_is_granted_to_the_app_and_its_secret_for_a_day_and_an_hour_where_that_is_the_rule() -> None:
    client, body = shop(), b'{"query": "{ shop { name } }"}'
    for lasts, incident in ((86_399, None), (3600, "token_short")):
        if incident:
            client.admin.incidents.start(incident)
        status, granted = client.admin.tokens.grant(ASKED)
        assert (status, granted["expires_in"]) == (200, lasts)
        assert client.admin.answer("2026-04", granted["access_token"], body).status == 200
        client.now += lasts
        assert client.admin.answer("2026-04", granted["access_token"], body).status == 401


@pytest.mark.parametrize(("asked", "status", "error"), [
    (ASKED.replace(b"=t", b"=x"), 401, "invalid_client"), (ASKED.replace(b"=app", b"=x"), 401, "invalid_client"),
    (ASKED.replace(b"client_credentials", b"refresh_token"), 400, "unsupported_grant_type"),
    (b"", 400, "unsupported_grant_type")])  # fmt: skip
def test_nobody_else_is_granted_one(asked: bytes, status: int, error: str) -> None:
    found, said = shop().admin.tokens.grant(asked)
    assert (found, said["error"]) == (status, error)


def test_no_token_is_granted_to_a_shop_that_isnt_permitted_and_a_permanent_one_is_refused_in_shopifys_words() -> None:
    assert shop("grant_refused").admin.tokens.grant(ASKED)[1]["error"] == "shop_not_permitted"
    answer = shop("permanent_token_refused").admin.answer("2026-04", "t", b"{}")
    assert answer.status == 403
    assert b"Non-expiring access tokens are no longer accepted" in answer.body


def test_inactive_failing_and_falling_forward() -> None:
    client, body = shop("shop_inactive"), b'{"query": "{ shop { name } }"}'
    assert client.ask("{ shop { name } }")["errors"][0]["extensions"]["code"] == "SHOP_INACTIVE"
    client = shop("server_errors", share=1.0, status=503)
    assert client.admin.answer("2026-04", "t", body).status == 503
    client = shop("version_falls_forward", version="2026-07")
    answer = client.admin.answer("2026-04", "t", body)
    assert (answer.status, answer.headers["x-shopify-api-version"]) == (200, "2026-07")


def test_without_read_all_orders_two_months_are_seen_in_lists_counts_and_by_id() -> None:
    client = Client(stock=900)
    client.admin.incidents.start("scopes_lost")
    recent = {one.gid for one in client.shop.live("order") if one.created >= START - 60 * 86_400}
    assert set(client.ids()) == recent
    assert client.data("{ ordersCount(limit: null) { count } }")["ordersCount"]["count"] == len(recent) < 900
    old = client.shop.shelves["order"].at(0)
    assert old
    assert client.data("query($i: [ID!]!) { nodes(ids: $i) { id } }", i=[old.gid])["nodes"] == [None]
    scopes = client.data("{ currentAppInstallation { accessScopes { handle } } }")["currentAppInstallation"]["accessScopes"]
    assert {"handle": "read_all_orders"} not in scopes


def test_a_lost_scope_denies_what_it_was_for_also_inside_other_objects() -> None:
    client = shop("scopes_lost", scopes=["read_customers"])
    for query in ("{ customers(first: 1) { nodes { id } } }", "{ customersCount { count } }",
                  f'{{ node(id: "{client.shop.live("customer")[0].gid}") {{ id }} }}'):  # fmt: skip
        assert client.ask(query)["errors"][0]["extensions"]["code"] == "ACCESS_DENIED", query
    answer = client.ask("{ orders(first: 1) { nodes { id customer { id } } } }")
    assert answer["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"
    assert answer["data"]["orders"]["nodes"][0]["customer"] is None


def test_personal_data_is_null_and_the_rest_is_not_and_the_answer_says_where() -> None:
    client = shop("personal_data_hidden", fields=["name", "email"])
    asked = "{ orders(first: 1) { nodes { name email phone customer { id firstName defaultEmailAddress { emailAddress } } } } }"
    answer = client.ask(asked)
    (order,) = answer["data"]["orders"]["nodes"]
    # An address of mail can't be null in the schema, so that all of it is.
    assert order["email"] is order["customer"]["firstName"] is order["customer"]["defaultEmailAddress"] is None
    assert order["name"]
    assert order["customer"]["id"]
    above = ["orders", "nodes", 0]
    assert [error["path"] for error in answer["errors"]] == [
        [*above, "email"], [*above, "customer", "firstName"], [*above, "customer", "defaultEmailAddress", "emailAddress"]]  # fmt: skip
    assert answer["errors"][0]["message"].startswith("This app is not approved to use the email field.")


def test_an_app_that_is_approved_for_no_protected_data_is_shown_no_orders_and_products_all_the_same() -> None:
    client = shop("personal_data_hidden", fields=["all"])
    answer = client.ask("{ orders(first: 1) { nodes { id } } }")
    assert answer["data"] is None
    assert answer["errors"][0]["message"].startswith("This app is not approved to access the Order object.")
    assert client.data("{ products(first: 1) { nodes { id } } }")["products"]["nodes"]
    begun = client.ask("mutation($q: String!) { bulkOperationRunQuery(query: $q) { bulkOperation { id } userErrors { message } } }",
                       q="{ customers { edges { node { id } } } }")  # fmt: skip
    assert begun["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"
    assert client.admin.bulk.operations == []


def test_a_bulk_operation_that_asks_for_withheld_data_fails() -> None:
    client = shop("personal_data_hidden")
    found = client.bulk("{ customers { edges { node { id firstName } } } }")
    assert (found["status"], found["errorCode"], found["url"]) == ("FAILED", "ACCESS_DENIED", None)


SEEN_ELSEWHERE = {
    # Bulk operations and deliveries have files of their own.
    *(name for name, row in TABLE.items() if row.where == "bulk"), "subscription_removed", "subscription_changed",
    "subscription_removed_after_failures",
}  # fmt: skip


def test_every_incident_has_a_test() -> None:
    text = Path(__file__).read_text()
    untested = [name for name in TABLE if f'"{name}"' not in text and name not in SEEN_ELSEWHERE and name not in STATUS]
    assert untested == []


