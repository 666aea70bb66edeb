"""Subscriptions: those that the API shows and those that it doesn't, what they let through, and how they are lost."""

import json
from typing import Any

import pytest

from hooktape.local.shop.model import WHOLE, Change

from .kit import Client

CREATE = """mutation($topic: WebhookSubscriptionTopic!, $input: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $input) {
    webhookSubscription { id topic uri filter format includeFields apiVersion { handle supported } legacyResourceId }
    userErrors { field message } } }"""
LIST = """query($topics: [WebhookSubscriptionTopic!]) { webhookSubscriptions(first: 50, topics: $topics) { nodes {
  id topic uri filter includeFields apiVersion { handle } } } webhookSubscriptionsCount { count } }"""


def made(*topics: str, **given: Any) -> Client:
    client = Client(WHOLE, seed=6)
    for topic in topics:
        answer = client.data(CREATE, topic=topic, input={"uri": "https://example.com/hooks", **given})
        assert not answer["webhookSubscriptionCreate"]["userErrors"]
    return client


def order(client: Client, topic: str = "orders/updated") -> Change:
    return next(change for change in client.change(500) if change.topic == topic)


def test_those_of_the_apps_file_send_everything_and_are_not_listed() -> None:
    client = Client(WHOLE)
    assert client.data(LIST) == {"webhookSubscriptions": {"nodes": []}, "webhookSubscriptionsCount": {"count": 0}}
    changes = client.change(100)
    assert [client.admin.subscriptions.outgoing(change) for change in changes] == changes


def test_those_made_by_the_api_are_listed_changed_deleted_and_nothing_else_is_sent() -> None:
    client = made("ORDERS_UPDATED", "PRODUCTS_UPDATE")
    (first,) = client.data(LIST, topics=["ORDERS_UPDATED"])["webhookSubscriptions"]["nodes"]
    assert (first["topic"], first["uri"], first["apiVersion"]["handle"]) == ("ORDERS_UPDATED", "https://example.com/hooks", "2026-04")
    outgoing = client.admin.subscriptions.outgoing
    assert outgoing(order(client))
    assert outgoing(order(client, "orders/create")) is None
    update = """mutation($id: ID!, $input: WebhookSubscriptionInput!) { webhookSubscriptionUpdate(id: $id, webhookSubscription: $input) {
        webhookSubscription { includeFields } userErrors { message } } }"""
    fields = {"includeFields": ["id", "updated_at"]}
    assert client.data(update, id=first["id"], input=fields)["webhookSubscriptionUpdate"]["webhookSubscription"] == fields
    narrowed = outgoing(order(client))
    assert narrowed
    assert json.loads(narrowed.body).keys() == {"id", "updated_at"}
    delete = "mutation($id: ID!) { webhookSubscriptionDelete(id: $id) { deletedWebhookSubscriptionId userErrors { message } } }"
    assert client.data(delete, id=first["id"])["webhookSubscriptionDelete"]["deletedWebhookSubscriptionId"] == first["id"]
    assert client.data(delete, id=first["id"])["webhookSubscriptionDelete"]["userErrors"]
    assert client.data(update, id=first["id"], input=fields)["webhookSubscriptionUpdate"]["userErrors"]
    assert outgoing(order(client)) is None


def test_an_address_is_needed() -> None:
    answer = Client().data(CREATE, topic="ORDERS_CREATE", input={"filter": "id:1"})["webhookSubscriptionCreate"]
    assert answer["webhookSubscription"] is None
    assert answer["userErrors"][0]["field"] == ["webhookSubscription", "uri"]


@pytest.mark.parametrize(
    ("text", "passes"),
    [("financial_status:pending OR financial_status:paid OR financial_status:partially_refunded OR financial_status:voided", True),
     ("id:>1", True), ("id:<1", False), ("name:nobody", False), ("no_such_member:1", False), ("(id:1", False)],
)  # fmt: skip
def test_a_filter_lets_through_what_it_says_and_a_wrong_one_nothing(text: str, passes: bool) -> None:
    client = made("ORDERS_UPDATED", filter=text)
    assert (client.admin.subscriptions.outgoing(order(client)) is not None) == passes


def test_a_removed_one_is_neither_listed_nor_sent_and_back_when_the_incident_ends() -> None:
    for client in (made("ORDERS_UPDATED"), Client(WHOLE)):
        change = order(client)
        client.admin.incidents.start("subscription_removed", topics=("orders/updated",))
        assert client.data(LIST)["webhookSubscriptions"]["nodes"] == []
        assert client.admin.subscriptions.outgoing(change) is None
        client.admin.incidents.stop()
        assert client.admin.subscriptions.outgoing(change) == change


def test_a_changed_one_shows_its_change_and_sends_by_it() -> None:
    client = made("ORDERS_UPDATED")
    change = order(client)
    client.admin.incidents.start("subscription_changed", include_fields=["id"], api_version="2025-10")
    (shown,) = client.data(LIST)["webhookSubscriptions"]["nodes"]
    assert (shown["includeFields"], shown["apiVersion"]) == (["id"], {"handle": "2025-10"})
    sent = client.admin.subscriptions.outgoing(change)
    assert sent
    assert (json.loads(sent.body).keys(), sent.api_version) == ({"id"}, "2025-10")
    client.admin.incidents.start("subscription_changed", uri="https://example.com/elsewhere")
    assert client.admin.subscriptions.outgoing(change) is None
    client.admin.incidents.start("subscription_changed", filter="id:<1")
    assert client.admin.subscriptions.outgoing(change) is None


def test_a_webhook_that_failed_for_good_takes_the_apis_subscription_along_and_not_the_files() -> None:
    client, filed = made("ORDERS_UPDATED", "PRODUCTS_UPDATE"), Client(WHOLE)
    for one in (client, filed):
        one.admin.subscriptions.failed("orders/updated")
    assert client.data(LIST)["webhookSubscriptionsCount"]["count"] == 2
    for one in (client, filed):
        one.admin.incidents.start("subscription_removed_after_failures")
        one.admin.subscriptions.failed("orders/updated")
    assert [one["topic"] for one in client.data(LIST)["webhookSubscriptions"]["nodes"]] == ["PRODUCTS_UPDATE"]
    assert filed.admin.subscriptions.outgoing(order(filed))
