"""The whole shop over real HTTP: incidents by its controls, webhooks in families, bulk files, and what is missing in the end."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import httpx

from hooktape.local.shop.cost import Plan
from hooktape.local.shop.faults import Fate, Faults
from hooktape.local.shop.model import WHOLE
from hooktape.local.shop.server import LocalShop
from hooktape.local.shop.truth import Outcome

from .test_webhooks import Receiver

WIDE = Plan("wide", 1e9, 1e9)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_every_webhook_of_an_act_is_sent_and_exactly_the_dropped_states_are_missing() -> None:
    async def work() -> None:
        receiver = Receiver()
        async with receiver.listening(), LocalShop(target=receiver.url, mix=WHOLE, seed=5, faults=Faults(doubled=0.02)) as shop:
            shop.incidents.start("webhook_drop", share=0.1)
            await shop.run(600)
            shop.incidents.stop()
            await shop.run(200)
            await shop.settle()
            assert shop.shop.untold == 0
            deliveries = shop.truth.deliveries
            assert {delivery.outcome for delivery in deliveries} == {Outcome.DELIVERED, Outcome.DROPPED}
            got = {request.headers["x-shopify-webhook-id"] for request in receiver.requests}
            assert got == shop.truth.accepted_ids()
            shown: dict[str, int] = {}
            ended = {delivery.resource for delivery in deliveries if delivery.deleted and delivery.accepted}
            for delivery in deliveries:
                if delivery.accepted and not delivery.deleted:
                    shown[delivery.resource] = max(shown.get(delivery.resource, 0), delivery.state)
            lost = {d.resource for d in deliveries if d.deleted} - ended
            for kind in shop.shop.shelves:
                # No topic tells of a variant by itself.
                live = shop.shop.live(kind) if kind != "variant" else []
                lost |= {one.name for one in live if one.updated * 1_000_000 > shown.get(one.name, 0)}
            # What no topic tells of was never a webhook's to lose.
            assert shop.missing().keys() | shop.silent() == lost
            assert {name.partition("/")[0] for name in shop.silent()} <= {"fulfillment_order", "theme", "subscription_contract"}
            assert len(lost) > 10

    run(work())


def test_a_second_change_in_the_same_second_is_missing_only_when_asked_exactly() -> None:
    async def work() -> None:
        receiver = Receiver()
        async with receiver.listening(), LocalShop(target=receiver.url, ties=1.0, clock=lambda: 1_790_000_000.0) as shop:
            await shop.run(60)
            order = shop.shop.live("order")[0]
            shop.incidents.start("webhook_drop", share=1.0)
            shop.truth.add(shop.shop.change(1_790_000_000.5, again=order), Fate.DROPPED).outcome = Outcome.DROPPED
            await shop.settle()
            assert shop.missing() == {}
            assert shop.missing(exact=True).keys() == {order.name}

    run(work())


def test_incidents_and_changes_are_switched_from_another_process() -> None:
    async def work() -> None:
        receiver = Receiver()
        async with receiver.listening(), LocalShop(target=receiver.url) as shop, httpx.AsyncClient(base_url=shop.url) as client:
            there = (await client.get("/control/incidents")).json()
            assert there["active"] == {}
            assert there["known"]["search_lag"]["parameters"] == {"seconds": 30.0}
            put = await client.put("/control/incidents/webhook_drop", content=json.dumps({"share": 1, "topics": ["orders/create"]}))
            assert put.json()["active"] == {"webhook_drop": {"share": 1, "topics": ["orders/create"]}}
            assert (await client.post("/control/changes", content='{"count": 40}')).json() == {"changes": 40}
            await shop.settle()
            topics = {request.headers["x-shopify-topic"] for request in receiver.requests}
            assert "orders/create" not in topics
            assert topics
            missing = (await client.get("/control/missing")).json()["missing"]
            assert missing == {name: delivery.topic for name, delivery in shop.missing().items()} != {}
            assert (await client.delete("/control/incidents")).json()["active"] == {}
            for method, path, content, status in (("PUT", "incidents/nothing", "", 400), ("PUT", "incidents/locked", "[", 400),
                                                  ("POST", "incidents", "", 405), ("POST", "changes", '{"count": "x"}', 400),
                                                  ("GET", "elsewhere", "", 404)):  # fmt: skip
                answer = await client.request(method, f"/control/{path}", content=content)
                assert (answer.status_code, bool(answer.json()["errors"])) == (status, True)

    run(work())


def test_a_bulk_operation_runs_beside_everything_else_and_its_file_is_streamed() -> None:
    async def work() -> None:
        receiver = Receiver()
        asked_for = ["bulk_operations/finish"]
        async with receiver.listening(), LocalShop(target=receiver.url, mix=WHOLE, plan=WIDE, subscribed=asked_for) as shop:
            await shop.run(300)
            url = shop.admin_url.format(shop=shop.domain, version="2026-04")
            async with httpx.AsyncClient(headers={"X-Shopify-Access-Token": shop.token}) as client:
                run_it = 'mutation { bulkOperationRunQuery(query: "{ orders { edges { node { id } } } }") { bulkOperation { id } } }'
                begun = (await client.post(url, json={"query": run_it})).json()["data"]["bulkOperationRunQuery"]["bulkOperation"]["id"]
                asked = f'{{ bulkOperation(id: "{begun}") {{ status url rootObjectCount fileSize }} }}'
                while True:
                    operation = (await client.post(url, json={"query": asked})).json()["data"]["bulkOperation"]
                    if operation["status"] == "COMPLETED":
                        break
                async with client.stream("GET", operation["url"]) as answer:
                    lines = [json.loads(line) async for line in answer.aiter_lines()]
                    assert int(answer.headers["content-length"]) == int(operation["fileSize"])
                assert len(lines) == int(operation["rootObjectCount"]) == len(shop.shop.live("order"))
                assert (await client.get(f"{shop.url}/bulk/1.jsonl")).status_code == 404
            assert shop._bulk
            await shop._bulk
            await shop.settle()
            (told,) = receiver.requests
            assert told.headers["x-shopify-topic"] == "bulk_operations/finish"
            assert json.loads(told.body)["admin_graphql_api_id"] == begun
            assert {d.fate for d in shop.truth.deliveries if d.topic != "bulk_operations/finish"} == {Fate.UNSUBSCRIBED}

    run(work())


def test_edits_while_somebody_pages_are_sent_and_known_to_the_truth() -> None:
    async def work() -> None:
        receiver = Receiver()
        async with receiver.listening(), LocalShop(target=receiver.url, plan=WIDE) as shop, httpx.AsyncClient() as client:
            await shop.run(50)
            await shop.settle()
            before = len(shop.truth.deliveries)
            shop.incidents.start("edits_while_paging", edits=2)
            url, query = shop.admin_url.format(shop=shop.domain, version="2026-04"), {"query": "{ orders(first: 5) { nodes { id } } }"}
            await client.post(url, json=query, headers={"X-Shopify-Access-Token": shop.token})
            await shop.settle()
            assert len(shop.truth.deliveries) == before + 2
            assert shop.missing() == {}

    run(work())
