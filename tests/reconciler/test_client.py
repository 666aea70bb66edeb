"""The Admin API client: its pace, its patience, and what it says when a shop refuses."""

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from hooktape.errors import AdminApiError
from hooktape.ledger.budgets import admin_scope
from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.client import AdminClient, Answer
from hooktape.reconciler.pacing import Pace, share, share_scope
from hooktape.reconciler.protected import HIDDEN
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
            client = AdminClient(settings, SHOP, http, Access(settings, http), sleep=sleep, jitter=lambda: 1.0)
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
    faults = (httpx.Response(503), httpx.ConnectError("no"), httpx.ReadTimeout("slow"), httpx.DecodingError("garbled"))
    answer, pauses, _ = asked(*faults, ok())
    assert isinstance(answer, Answer)
    assert pauses == [0.5, 1.0, 2.0, 4.0]
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


def test_protected_data_that_is_withheld_is_marked_and_what_is_withheld_as_a_whole_has_a_reason_of_its_own() -> None:
    says = "This app is not approved to use the email field."
    error = {"message": says, "extensions": {"code": "ACCESS_DENIED"}, "path": ["nodes", 0, "email"]}
    headers = dict(ok().headers)
    answer, _, requests = asked(httpx.Response(200, json={"data": {"nodes": [{"email": None}]}, "errors": [error]}, headers=headers))
    assert isinstance(answer, Answer)
    assert answer.hidden == {"email"}
    assert answer.data == {"nodes": [{"email": HIDDEN}]}
    refused, _, _ = asked(httpx.Response(200, json={"data": None, "errors": [error]}, headers=headers))
    assert isinstance(refused, AdminApiError)
    assert refused.reason == "protected"
    assert says in str(refused)
    assert len(requests) == 1


def test_the_token_goes_into_the_header_and_into_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        _, _, requests = asked(httpx.Response(503), ok())
    assert requests[0].headers["X-Shopify-Access-Token"] == TOKEN
    assert all(TOKEN not in str(record.__dict__) for record in caplog.records if record.name.startswith("hooktape"))


_ASKS = """
import asyncio, sys
import httpx
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.pacing import Pace
from hooktape.settings import Secret, Settings
shop, url, token, ledger_url, count = sys.argv[1:]

async def main():
    settings = Settings(shop_tokens={shop: Secret(token)}, admin_url=url)
    with Ledger.open(ledger_url) as ledger:
        async with httpx.AsyncClient() as http:
            client = AdminClient(settings, shop, http, Access(settings, http), pace=Pace(ledger.budgets, shop))
            for _ in range(int(count)):
                await client.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ["gid://shopify/Order/1"] * 100}, 110)

asyncio.run(main())
"""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_three_processes_share_half_of_what_comes_back_and_none_is_ever_throttled(tmp_path: Path) -> None:
    rate, taken, refused = 500.0, [], []
    async with LocalShop(plan=Plan("middling", 1000, rate)) as shop:
        execute = shop.admin.execute

        def watched(request: Any) -> dict[str, Any]:
            answer = execute(request)
            (refused if "errors" in answer else taken).append((time.monotonic(), answer.get("extensions", {}).get("cost", {})))
            return answer

        shop.admin.execute = watched  # type: ignore[method-assign]
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        Ledger.open(url).close()
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        asks = (sys.executable, "-c", _ASKS, shop.domain, shop.admin_url, shop.token, url, "8")
        processes = [await asyncio.create_subprocess_exec(*asks, env=env) for _ in range(3)]
        assert [await process.wait() for process in processes] == [0, 0, 0]
    spent = sum(cost["actualQueryCost"] for _, cost in taken)
    assert refused == []
    assert len(taken) == 24
    # The bucket that a new shop is given at most, and then half of what comes back.
    assert spent <= 1900 + rate / 2 * (taken[-1][0] - taken[0][0]) + 110


@pytest.mark.parametrize(("level", "rate"), [(2000, 50.0), (1000, 50.0), (999, 10.0), (0, 10.0)])
def test_the_share_is_half_of_what_comes_back_and_a_tenth_while_the_bucket_is_low(level: int, rate: float) -> None:
    assert share({"maximumAvailable": 2000.0, "currentlyAvailable": level, "restoreRate": 100.0}) == (1000.0, rate)


def test_a_cost_that_shopify_puts_at_nothing_is_reckoned_as_estimated(tmp_path: Path) -> None:
    async def spent(actual: float) -> float:
        now = 1_770_000_000.0
        with Ledger.open(f"sqlite:///{tmp_path / f'{actual}.db'}") as ledger:
            pace = Pace(ledger.budgets, SHOP, clock=lambda: now)
            await pace.take(100)
            await pace.answered(100, actual, None)
            return 1900 - ledger.budgets.buckets([admin_scope(SHOP)])[admin_scope(SHOP)].held(now)

    assert [asyncio.run(spent(actual)) for actual in (100, 30, 0)] == [100, 30, 100]


def test_a_query_that_is_never_put_for_want_of_a_token_costs_nothing(tmp_path: Path) -> None:
    async def held(ledger: Ledger) -> list[float]:
        app = httpx.MockTransport(lambda request: httpx.Response(500))
        async with httpx.AsyncClient(transport=app) as http:
            access = Access(Settings(shop_tokens_url="https://app.example/tokens"), http)
            pace = Pace(ledger.budgets, SHOP, clock=lambda: 10.0)
            client = AdminClient(Settings(), SHOP, http, access, pace=pace, sleep=lambda seconds: asyncio.sleep(0))
            with pytest.raises(AdminApiError, match="didn't answer"):
                await client.ask(COUNT, {}, 300)
        return [bucket.held(10.0) for bucket in ledger.budgets.buckets([admin_scope(SHOP), share_scope(SHOP)]).values()]

    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        assert asyncio.run(held(ledger)) == [1900.0, 1900.0]


def test_a_page_of_somebody_on_the_way_says_nothing_of_the_api_version() -> None:
    answer, _, requests = asked(httpx.Response(200, text="<html>be right back"), ok())
    assert isinstance(answer, Answer)
    assert len(requests) == 2
    error, _, _ = asked(httpx.Response(200, text="<html>be right back"))
    assert isinstance(error, AdminApiError)
    assert error.reason == "unavailable"
