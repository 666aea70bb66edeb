"""`--forward` and endpoints that misbehave: down, endless, redirecting; over real sockets."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hooktape.consumers.circuit import Circuit
from hooktape.consumers.classify import Answered, Disposition, Unanswered, classify
from hooktape.consumers.forward import Forwarder, app
from hooktape.consumers.options import Options
from hooktape.consumers.running import running
from hooktape.settings import Settings
from hooktape.tape.names import Names
from hooktape.testing import TestApp, event

from .conftest import Tape, make_event, states, until

Talk = Callable[["Http", asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Http:
    """A server that reads requests and lets a test say, byte by byte, what comes back."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = self.requests = 0
        self.sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                self.requests += 1
                await self.talk(self, writer)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def http(talk: Talk, port: int = 0) -> AsyncIterator[tuple[Http, int]]:
    made = Http(talk)
    server = await asyncio.start_server(made.serve, "127.0.0.1", port)
    try:
        yield made, server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def forwarding(port: int, circuit: Circuit | None = None) -> AsyncIterator[Forwarder]:
    made = Forwarder(f"http://127.0.0.1:{port}/webhooks", Settings(), 4, circuit)
    try:
        yield made
    finally:
        await made.close()


async def fine(_: Http, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


def test_one_connection_serves_many_events() -> None:
    async def main() -> None:
        async with http(fine) as (server, port), forwarding(port) as forward:
            for n in range(20):
                await forward(make_event(n))
            assert (server.requests, server.connections) == (20, 1)

    asyncio.run(main())


def test_headers_in_any_bytes_that_http_knows_go_out_as_they_came() -> None:
    async def main() -> None:
        seen: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.extend((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
            writer.write(OK)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, forwarding(server.sockets[0].getsockname()[1]) as forward:
            await forward(make_event(1, webhook_id="caf\xe9", headers={"x-shopify-name": "b\xc3\xa9 \t", "x-shopify-empty": ""}))
        assert {b"x-shopify-webhook-id: caf\xe9", b"x-shopify-name: b\xc3\xa9", b"x-shopify-empty: "} <= set(seen)

    asyncio.run(main())


def test_a_probe_that_failed_on_this_side_doesnt_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        circuit, now = Circuit(failures=1, first_pause=1.0), 0.0
        async with http(fine) as (server, port):
            forward = Forwarder(f"http://127.0.0.1:{port}/webhooks", Settings(), 4, circuit, lambda: now)
            circuit.failed("another", True, now)
            now = 1.0
            with monkeypatch.context() as patch:
                patch.delattr("hooktape.consumers.forward.headers_of")
                with pytest.raises(NameError):
                    await forward(make_event(1))
            await forward(make_event(2))
            assert (server.requests, circuit.open) == (1, False)
            await forward.close()

    asyncio.run(main())


def test_a_redirect_is_not_followed() -> None:
    async def main() -> None:
        async def move(server: Http, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

        async with http(move) as (server, port), forwarding(port) as forward:
            with pytest.raises(Answered, match="302"):
                await forward(make_event(1))
            assert server.requests == 1

    asyncio.run(main())


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_never_ends_is_cut_and_its_status_counts(status: int) -> None:
    async def main() -> None:
        async def endless(server: Http, writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            while True:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                server.sent += 65536
                await writer.drain()

        async with http(endless) as (server, port), forwarding(port) as forward:
            if status == 200:
                await forward(make_event(1))
            else:
                with pytest.raises(Answered, match="answered 500: xxx") as caught:
                    await forward(make_event(1))
                assert len(str(caught.value)) < 400
            # What was read, and what the sockets' buffers took before the connection was cut.
            assert server.sent < 20_000_000

    asyncio.run(main())


def test_an_answer_that_drips_counts_by_its_status_and_isnt_waited_for() -> None:
    async def main() -> None:
        cut = asyncio.Event()

        async def drip(_: Http, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            await writer.drain()
            await asyncio.wait_for(cut.wait(), 30)

        async with http(drip) as (_, port), forwarding(port) as forward:
            before = time.monotonic()
            await forward(make_event(1))
            assert time.monotonic() - before < 15  # the handler's time-out is 35 s
            cut.set()

    asyncio.run(main())


def test_a_failure_while_the_circuit_is_open_is_untried_and_cools_the_whole_endpoint() -> None:
    cause = classify(Unanswered("down", 3.0), 0.0, lambda error: "permanent")
    assert (cause.disposition, cause.after, cause.whole_destination, cause.untried) == (Disposition.THROTTLED, 3.0, True, True)


def test_events_of_an_endpoint_that_is_down_keep_their_tries(unused_port: int) -> None:
    """Ten times as many waits as an event has tries; then the endpoint is there."""
    forwarder = Forwarder(f"http://127.0.0.1:{unused_port}/", Settings(), 4, Circuit(failures=3, longest_pause=1.0))

    async def main() -> None:
        test = TestApp(app("g", forwarder, ("orders/*",), 4), max_attempts=4, quick_tries=2)
        forwarder._clock = lambda: test.now
        events = [event("orders/create", {"id": n}) for n in range(20)]
        await test.play_async(*events)
        await test.advance_async(40)
        assert [o for o in test.outcomes if o.state != "waiting"] == []
        async with http(fine, unused_port) as (server, _):
            await test.advance_async("10m")
            assert server.requests == 20
        ended = [o for o in test.outcomes if o.state == "succeeded"]
        assert len(ended) == 20
        # Those of the three that opened it have tried before; nobody else has.
        assert sum(o.attempts > 1 for o in ended) <= 4
        await forwarder.close()

    asyncio.run(main())


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens: taken and given back."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_during_an_outage_events_wait_in_their_lanes_and_not_in_retry_topics(
    settings: Settings, tape: Tape, options: Options, unused_port: int
) -> None:
    events = [make_event(n) for n in range(60)]
    tape.record(events)

    async def main() -> None:
        forwarder = Forwarder(f"http://127.0.0.1:{unused_port}/", settings, 4, Circuit(first_pause=0.2, longest_pause=0.2))
        async with running(app("g", forwarder, ("orders/*",), 4), settings, options=options) as worker:
            await until(lambda: forwarder._circuit.open)
            for _ in range(5):  # five probes fail
                probed = forwarder._circuit._until
                await until(lambda seen=probed: forwarder._circuit._until != seen)
            async with http(fine, unused_port) as (server, _):
                await worker.idle()
                assert server.requests == 60
        await forwarder.close()

    asyncio.run(main())
    names = Names(settings.topic_prefix)
    retried = sum(len(tape.read(names.retry("g", delay))) for delay in settings.retry_delays)
    # The tries before it opened, and at most as many as were under way then.
    assert retried <= 9
    assert states(settings, "g", events) == Counter(succeeded=60)
