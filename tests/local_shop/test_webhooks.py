import asyncio
import contextlib
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn

from hooktape.errors import LocalStackError, UsageError
from hooktape.local.shop.faults import Fate, Faults
from hooktape.local.shop.server import LocalShop, serve
from hooktape.local.shop.truth import Outcome
from hooktape.local.shop.webhooks import RETRIES, Secrets, backoff
from hooktape.local.shop.wire import Poster
from hooktape.schemas.signature import Verifier, sign


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes
    at: float
    """When it was read, in seconds since the epoch."""


@dataclass
class Receiver:
    """Answers each request with `status(request, how often this webhook id came before)`, once `gate` lets it."""

    status: Callable[[Received, int], int] = lambda request, before: 200
    gate: Callable[[], Coroutine[Any, Any, Any]] | None = None
    requests: list[Received] = field(default_factory=list)
    url: str = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        request = Received({name.decode(): value.decode() for name, value in scope["headers"]}, body, time.time())
        before = len(self.of(request.headers["x-shopify-webhook-id"]))
        self.requests.append(request)
        if self.gate is not None:
            await self.gate()
        headers = [(b"content-length", b"0"), (b"location", b"/elsewhere")]
        await send({"type": "http.response.start", "status": self.status(request, before), "headers": headers})
        await send({"type": "http.response.body"})

    def of(self, webhook_id: str) -> list[Received]:
        return [request for request in self.requests if request.headers["x-shopify-webhook-id"] == webhook_id]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Receiver"]:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/webhooks"
        server = _Quiet(uvicorn.Config(self, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield self
        finally:
            server.should_exit = True
            await serving


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


async def sent(changes: int, receiver: Receiver, rate: float | None = None, **options: Any) -> LocalShop:
    """A shop that has made `changes` changes and settled them with `receiver`."""
    async with receiver.listening(), LocalShop(target=receiver.url, **{"retry_span": 0.05, **options}) as shop:
        await shop.run(changes, rate)
        await shop.settle()
    return shop


def test_shopifys_official_vector_is_what_the_shop_signs_with() -> None:
    assert sign(b'{"foo": "bar"}', "test_secret_key") == "B23tXN681gZ0qIWNRrgtzBE9XSDo5yaUu6wfmhu3a7g="


def test_a_webhook_has_shopifys_headers_and_a_signature_of_its_bytes() -> None:
    async def work() -> None:
        shop = await sent(40, receiver := Receiver(), secrets=("test_secret_key",))
        assert len(receiver.requests) == 40
        first, truth = receiver.requests[0], shop.truth.deliveries[0]
        names = {name for name in first.headers if name.startswith("x-shopify-")}
        assert names == {f"x-shopify-{name}" for name in ("topic", "hmac-sha256", "shop-domain", "api-version", "webhook-id",
                                                           "event-id", "triggered-at")}  # fmt: skip
        assert first.headers["user-agent"] == "Shopify-Captain-Hook"
        assert (first.headers["x-shopify-topic"], first.headers["x-shopify-webhook-id"]) == (truth.topic, truth.webhook_id)
        verifier = Verifier(["test_secret_key"])
        for request in receiver.requests:
            assert verifier.verify(request.body, request.headers["x-shopify-hmac-sha256"].encode())
        assert all(delivery.outcome is Outcome.DELIVERED and delivery.answers == [200] for delivery in shop.truth.deliveries)

    run(work())


@pytest.mark.parametrize("status", [503, 302, 404])
def test_a_webhook_that_failed_comes_again_with_the_same_bytes_and_ids_and_is_delivered_once(status: int) -> None:
    async def work() -> None:
        receiver = Receiver(lambda request, before: status if before < 2 else 200)
        shop = await sent(5, receiver)
        for delivery in shop.truth.deliveries:
            copies = receiver.of(delivery.webhook_id)
            assert len(copies) == 3
            assert len({copy.body for copy in copies}) == 1
            for same in ("event-id", "triggered-at", "hmac-sha256"):
                assert len({copy.headers[f"x-shopify-{same}"] for copy in copies}) == 1
            assert (delivery.answers, delivery.accepted) == ([status, status, 200], 1)

    run(work())


def test_after_eight_retries_the_shop_gives_up() -> None:
    async def work() -> None:
        shop = await sent(3, receiver := Receiver(lambda request, before: 500))
        assert len(receiver.requests) == 3 * (1 + RETRIES)
        assert {delivery.outcome for delivery in shop.truth.deliveries} == {Outcome.GAVE_UP}
        assert shop.truth.missing().keys() == shop.truth.latest().keys()

    run(work())


def test_nobody_listening_is_an_error_like_any_other() -> None:
    async def work() -> None:
        receiver = Receiver()
        async with receiver.listening():
            pass
        async with LocalShop(target=receiver.url, retry_span=0.01) as shop:
            await shop.run(2)
            await shop.settle()
        assert {answer for delivery in shop.truth.deliveries for answer in delivery.answers} == {"ConnectionRefusedError"}

    run(work())


def test_the_retries_double_and_fill_the_span() -> None:
    waits = [backoff(attempt, 4 * 3600.0) for attempt in range(RETRIES)]
    assert sum(waits) == pytest.approx(4 * 3600)
    assert all(later == pytest.approx(2 * earlier) for earlier, later in itertools.pairwise(waits))


def test_both_copies_of_a_doubled_webhook_are_under_way_at_once() -> None:
    async def work() -> None:
        # No request is answered before a second one is there; with room for one delivery at a time that is its twin.
        receiver = Receiver(gate=asyncio.Barrier(2).wait)
        shop = await sent(20, receiver, faults=Faults(doubled=1), concurrency=1)
        for delivery in shop.truth.deliveries:
            first, second = receiver.of(delivery.webhook_id)
            assert first.body == second.body
            assert delivery.answers == [200, 200]

    run(work())


def test_a_dropped_webhook_is_never_sent_and_the_truth_knows_what_must_be_missing() -> None:
    async def work() -> None:
        shop = await sent(300, receiver := Receiver(), faults=Faults(dropped=0.2))
        dropped = [delivery for delivery in shop.truth.deliveries if delivery.fate is Fate.DROPPED]
        assert 30 < len(dropped) < 90
        assert not {delivery.webhook_id for delivery in dropped} & {r.headers["x-shopify-webhook-id"] for r in receiver.requests}
        missing = shop.truth.missing()
        assert missing
        assert all(delivery.fate is Fate.DROPPED for delivery in missing.values())
        for resource, delivery in missing.items():
            found = shop.shop.get(resource)
            assert found
            assert found.updated * 1_000_000 == delivery.version

    run(work())


def test_a_change_out_of_order_arrives_after_a_later_one_of_its_resource() -> None:
    async def work() -> None:
        shop = await sent(120, receiver := Receiver(), faults=Faults(out_of_order=0.1))
        order = {request.headers["x-shopify-webhook-id"]: place for place, request in enumerate(receiver.requests)}
        swapped = [delivery for delivery in shop.truth.deliveries if delivery.fate is Fate.OUT_OF_ORDER]
        assert swapped
        for delivery in swapped:
            overtaking = next(d for d in shop.truth.by_resource()[delivery.resource] if d.number > delivery.number)
            assert order[overtaking.webhook_id] < order[delivery.webhook_id]
            assert overtaking.version is not None
            assert delivery.version is not None
            assert overtaking.version > delivery.version
        assert shop.truth.missing() == {}

    run(work())


def test_a_late_webhook_arrives_no_earlier_than_its_delay_after_it_was_triggered() -> None:
    async def work() -> None:
        shop = await sent(60, receiver := Receiver(), faults=Faults(late=0.2, late_by=(0.2, 0.3)))
        late = [delivery for delivery in shop.truth.deliveries if delivery.fate is Fate.LATE]
        assert late
        for delivery in late:
            (request,) = receiver.of(delivery.webhook_id)
            assert delivery.delay >= 0.2
            # A hundredth of a second for the two clocks, the loop's and the wall's.
            assert request.at - datetime.fromisoformat(delivery.triggered_at).timestamp() >= delivery.delay - 0.01

    run(work())


def test_one_seed_gives_the_same_fates_over_real_sockets() -> None:
    async def work() -> None:
        faults = Faults(dropped=0.1, doubled=0.1, late=0.1, late_by=(0, 0.05))
        first, second, other = [await sent(100, Receiver(), faults=faults, seed=seed) for seed in (7, 7, 8)]
        fates = [[delivery.fate for delivery in shop.truth.deliveries] for shop in (first, second, other)]
        assert fates[0] == fates[1] != fates[2]

    run(work())


def test_in_a_rotation_the_oldest_secret_signs_until_it_is_revoked_retries_too() -> None:
    async def work() -> None:
        newer, older = Verifier(["newer"]), Verifier(["older"])

        all_came = asyncio.Event()

        def answer(request: Received, before: int) -> int:
            if len(receiver.requests) == 3:
                all_came.set()
            return 200 if newer.verify(request.body, request.headers["x-shopify-hmac-sha256"].encode()) else 401

        receiver = Receiver(answer)
        async with receiver.listening(), LocalShop(target=receiver.url, secrets=("newer", "older"), retry_span=0.5) as shop:
            await shop.run(3)
            await all_came.wait()
            assert all(older.verify(r.body, r.headers["x-shopify-hmac-sha256"].encode()) for r in receiver.requests[:3])
            shop.revoke_oldest()
            await shop.settle()
        assert {delivery.answers[-1] for delivery in shop.truth.deliveries} == {200}

    run(work())


def test_the_only_secret_cannot_be_revoked_and_none_is_refused() -> None:
    with pytest.raises(UsageError):
        Secrets(("one",)).revoke_oldest()
    with pytest.raises(UsageError):
        Secrets(())


def test_an_answer_that_is_no_http_and_one_that_never_comes_are_errors() -> None:
    async def work() -> None:
        says = [b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b""]

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if answer := says.pop(0):
                writer.write(answer)
            else:
                await reader.read()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        poster = Poster(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", total=0.1)
        for error in (ConnectionError, ConnectionError, TimeoutError):
            with pytest.raises(error):
                await poster.post("", b"{}")
        poster.close()
        server.close()

    run(work())


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError):
        Poster("localhost:8000/webhooks")


def test_another_process_reads_the_truth_and_asks_the_admin_api_over_http() -> None:
    async def work() -> None:
        receiver = Receiver()
        async with receiver.listening(), LocalShop(target=receiver.url, token="t") as shop, httpx.AsyncClient() as client:
            done: list[int] = []
            await shop.run(25, on_progress=lambda made, total: done.append(made))
            await shop.settle()
            assert done == list(range(1, 26))
            truth = (await client.get(shop.truth_url)).json()
            assert truth["counts"]["delivered"] == 25
            assert truth["deliveries"] == json.loads(msgspec.json.encode(shop.truth.deliveries))
            url = shop.admin_url.format(shop=shop.domain, version="2026-04")
            query = {"query": "{ shop { myshopifyDomain } }"}
            answer = await client.post(url, json=query, headers={"X-Shopify-Access-Token": "t"})
            assert answer.json()["data"] == {"shop": {"myshopifyDomain": shop.domain}}
            assert answer.headers["x-shopify-api-version"] == "2026-04"
            assert len(answer.headers.get_list("date")) == 1
            assert (await client.post(url, json=query)).status_code == 401
            assert (await client.get(url)).status_code == 405
            assert (await client.get(f"{shop.url}/elsewhere")).status_code == 404
            assert (await client.post(url, content=b" " * 2**21)).status_code == 413

    run(work())


def test_two_shops_run_side_by_side_and_a_taken_port_is_named() -> None:
    async def work() -> None:
        async with LocalShop() as first, LocalShop() as second:
            assert first.url != second.url
            with pytest.raises(LocalStackError, match=first.url.rpartition(":")[2]):
                async with LocalShop(port=int(first.url.rpartition(":")[2])):
                    pass

    run(work())


def test_leaving_the_shop_gives_up_what_is_still_under_way() -> None:
    async def work() -> None:
        receiver = Receiver(lambda request, before: 503)
        async with receiver.listening(), LocalShop(target=receiver.url) as shop:
            await shop.run(3)
        assert {delivery.outcome for delivery in shop.truth.deliveries} == {Outcome.PENDING}

    run(work())


def test_serve_runs_the_shop_to_its_end_and_returns_the_truth() -> None:
    async def work() -> None:
        receiver, ready = Receiver(), list[str]()
        async with receiver.listening():
            truth = await serve(LocalShop(target=receiver.url), rate=500, changes=30, ready=lambda shop: ready.append(shop.url))
        assert len(ready) == 1
        assert truth.counts()["delivered"] == len(receiver.requests) == 30

    run(work())
