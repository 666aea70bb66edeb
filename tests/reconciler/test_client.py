"""The Admin API client: its pace, its patience, and what it says when a shop refuses."""

import asyncio
import logging
from typing import Any

import httpx
import pytest

from hooktape.errors import AdminApiError
from hooktape.local.shop.admin import Admin
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.model import Shop
from hooktape.reconciler.client import AdminClient, Answer
from hooktape.settings import Secret, Settings

SHOP = "one.myshopify.com"
TOKEN = "shpat_secret"
COUNT = "query($q: String) { ordersCount(query: $q, limit: null) { count precision } }"


def ok(data: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(200, json={"data": data or {"x": 1}, "extensions": {"cost": {"actualQueryCost": 3}}},
                          headers={"X-Shopify-API-Version": "2026-04", "Date": "Sun, 22 Nov 2026 10:00:00 GMT", **headers})  # fmt: skip


def asked(*answers: httpx.Response | Exception) -> tuple[Answer | AdminApiError, list[float], list[httpx.Request]]:
    """The outcome of one question to which these answers are given in turn, the pauses, and the requests."""
    left, pauses, requests = list(answers), list[float](), list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, Exception):
            raise given
        return httpx.Response(given.status_code, content=given.content, headers=given.headers)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def run() -> Answer | AdminApiError:
        settings = Settings(shop_tokens={SHOP: Secret(TOKEN)})
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            client = AdminClient(settings, SHOP, http, clock=lambda: 0.0, sleep=sleep, jitter=lambda: 1.0)
            try:
                return await client.ask(COUNT, {}, 5)
            except AdminApiError as error:
                return error

    return asyncio.run(run()), pauses, requests


@pytest.mark.parametrize(("status", "reason"), [(401, "unauthorized"), (402, "payment_required"), (403, "forbidden"),
                                                (404, "not_found"), (423, "locked"), (302, "refused")])  # fmt: skip
def test_each_status_that_only_a_person_can_change_has_its_reason_and_is_asked_once(status: int, reason: str) -> None:
    error, pauses, requests = asked(httpx.Response(status, headers={"Location": "https://elsewhere.example/"}))
    assert isinstance(error, AdminApiError)
    assert (error.reason, len(requests), pauses) == (reason, 1, [])
    assert TOKEN not in str(error)


def test_another_api_version_than_asked_for_fails_closed() -> None:
    for served in ({"X-Shopify-API-Version": "2025-10"}, {"X-Shopify-API-Version": ""}):
        error, _, requests = asked(ok(**served))
        assert isinstance(error, AdminApiError)
        assert (error.reason, len(requests)) == ("api_version", 1)


def test_retry_after_is_read_as_a_fraction_and_kept_to() -> None:
    answer, pauses, _ = asked(httpx.Response(429, headers={"Retry-After": "2.5"}), ok())
    assert isinstance(answer, Answer)
    assert pauses == [2.5]


def test_server_errors_and_lost_connections_are_asked_again_with_growing_pauses_and_not_for_ever() -> None:
    answer, pauses, _ = asked(httpx.Response(503), httpx.ConnectError("no"), httpx.ReadTimeout("slow"), ok())
    assert isinstance(answer, Answer)
    assert pauses == [0.5, 1.0, 2.0]
    error, pauses, requests = asked(httpx.Response(502))
    assert isinstance(error, AdminApiError)
    assert (error.reason, len(requests), len(pauses)) == ("unavailable", 6, 5)


def test_an_answer_that_is_no_json_is_asked_again() -> None:
    page = httpx.Response(200, text="<html>", headers={"X-Shopify-API-Version": "2026-04"})
    answer, _, requests = asked(page, ok())
    assert isinstance(answer, Answer)
    assert len(requests) == 2


def test_a_throttled_answer_waits_until_the_bucket_holds_what_it_costs() -> None:
    cost = {"requestedQueryCost": 100, "throttleStatus": {"maximumAvailable": 100.0, "currentlyAvailable": 40, "restoreRate": 20.0}}
    throttled = httpx.Response(200, json={"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
                                          "extensions": {"cost": cost}}, headers={"X-Shopify-API-Version": "2026-04"})  # fmt: skip
    answer, pauses, requests = asked(throttled, ok())
    assert isinstance(answer, Answer)
    assert len(requests) == 2
    assert pauses[0] == pytest.approx(3.0)


def test_a_refused_query_says_why_in_shopifys_words_and_with_its_code() -> None:
    denied = httpx.Response(200, json={"errors": [{"message": "Access denied for orders\x1b[2J", "extensions": {"code": "ACCESS_DENIED"}}]},
                            headers={"X-Shopify-API-Version": "2026-04"})  # fmt: skip
    error, _, requests = asked(denied)
    assert isinstance(error, AdminApiError)
    assert (error.reason, len(requests)) == ("access_denied", 1)
    assert "Access denied for orders [2J" in str(error)


def test_the_token_goes_into_the_header_and_into_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        _, _, requests = asked(httpx.Response(503), ok())
    assert requests[0].headers["X-Shopify-Access-Token"] == TOKEN
    assert all(TOKEN not in str(record.__dict__) for record in caplog.records if record.name.startswith("hooktape"))


def test_it_never_takes_more_than_half_of_the_bucket_and_is_never_throttled() -> None:
    now = [1_770_000_000.0]
    shop = Shop(SHOP, 1, lambda: now[0])
    for _ in range(20):
        shop.change(now[0])
    admin = Admin(shop, TOKEN, Plan("small", 1000, 50))
    levels: list[float] = []
    codes: list[bool] = []

    def answer(request: httpx.Request) -> httpx.Response:
        found = admin.answer("2026-04", request.headers["X-Shopify-Access-Token"], request.content)
        levels.append(admin.bucket.available(now[0]))
        codes.append(b"THROTTLED" in found.body)
        return httpx.Response(found.status, headers=found.headers, content=found.body)

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def run() -> int:
        settings = Settings(shop_tokens={SHOP: Secret(TOKEN)})
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            client = AdminClient(settings, SHOP, http, clock=lambda: now[0], sleep=sleep)
            ids = [resource.gid for resource in shop.live("order")]
            for _ in range(300):
                await client.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": (ids * 100)[:100]}, 110)
            return client.spent

    spent = asyncio.run(run())
    assert not any(codes)
    assert min(levels) >= 500 - 1
    assert spent > 1000
    assert now[0] - 1_770_000_000.0 == pytest.approx((spent - 500) / 50, rel=0.1)
