"""Requests that wait for their turn on a connection, with a transport and a tape that the test holds."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from hooktape.errors import RecordTooLarge, TapeError, TapeUnavailable, TopicMissing
from hooktape.ingest.protocol import WebhookProtocol
from hooktape.ingest.receiver import BREAKER_FAILURES, Receiver
from hooktape.ingest.routes import Routes
from hooktape.schemas.event import Coordinates
from hooktape.settings import Secret, Settings
from hooktape.tape.wire import Wire

from .conftest import SECRET, headers

BODY = b'{"id":1}'


@dataclass
class Transport:
    """A connection without a network."""

    written: bytes = b""
    closing: bool = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> None:
        return None

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


@dataclass
class Tape:
    """Acknowledges when the test says so."""

    futures: list[asyncio.Future[Coordinates]] = field(default_factory=list)

    def publish(self, *_: Any, **__: Any) -> asyncio.Future[Coordinates]:
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]


def post(body: bytes) -> bytes:
    lines = ["POST /webhooks HTTP/1.1", "Host: x", *(f"{n}: {v}" for n, v in headers(body).items()), f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def connected() -> tuple[Receiver, Tape, Transport, WebhookProtocol]:
    tape, settings = Tape(), Settings(shopify_secrets=(Secret(SECRET),))
    receiver = Receiver(settings, tape, Wire(settings), Routes("p"))  # type: ignore[arg-type]
    config = uvicorn.Config(lambda: None, lifespan="off", log_config=None)
    config.load()
    transport = Transport()
    protocol = WebhookProtocol.for_receiver(receiver)(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return receiver, tape, transport, protocol


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_what_had_its_turn_as_the_connection_ended_holds_no_memory() -> None:
    async def main() -> None:
        receiver, tape, transport, protocol = connected()
        protocol.data_received(post(BODY) + post(BODY))
        tape.futures[0].set_result(Coordinates("t", 0, 1))
        await asyncio.sleep(0)
        transport.close()
        await turns()
        protocol.connection_lost(None)
        assert (receiver._held, len(tape.futures)) == (0, 1)

    asyncio.run(main())


def test_what_waited_for_its_turn_when_the_connection_ended_holds_no_memory() -> None:
    async def main() -> None:
        receiver, tape, transport, protocol = connected()
        protocol.data_received(post(BODY) + post(BODY) + post(BODY) + post(BODY)[:-1])
        assert receiver._held == 4 * len(BODY) - 1
        transport.close()
        protocol.connection_lost(None)
        assert receiver._held == len(BODY)
        [first] = tape.futures
        first.set_result(Coordinates("t", 0, 1))
        await asyncio.sleep(0)
        assert (receiver._held, len(tape.futures), transport.written) == (0, 1, b"")

    asyncio.run(main())


def test_a_webhook_behind_another_is_recorded_when_that_one_is_answered() -> None:
    async def main() -> None:
        receiver, tape, transport, protocol = connected()
        protocol.data_received(post(BODY) + post(BODY))
        for number in range(2):
            assert transport.written.count(b"HTTP/1.1 200 OK") == number
            tape.futures[number].set_result(Coordinates("t", 0, number))
            await turns()
        assert (receiver._held, transport.written.count(b"HTTP/1.1 200 OK")) == (0, 2)
        protocol.connection_lost(None)

    asyncio.run(main())


@pytest.mark.parametrize(("error", "said", "status"), [
    (TopicMissing("gone"), "the log of others has gone", b"503"), (RecordTooLarge("1 MB"), "larger than its topic takes", b"413"),
])  # fmt: skip
def test_what_only_an_operator_can_mend_is_said_as_it_is(
    caplog: pytest.LogCaptureFixture, error: TapeError, said: str, status: bytes
) -> None:
    async def main() -> None:
        _, tape, transport, protocol = connected()
        protocol.data_received(post(BODY))
        tape.futures[0].set_exception(error)
        await asyncio.sleep(0)
        assert transport.written.startswith(b"HTTP/1.1 " + status)
        protocol.connection_lost(None)

    asyncio.run(main())
    assert said in caplog.text


def test_a_fault_of_our_own_is_no_malformed_request_and_leaves_the_breaker_as_it_was(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        receiver, tape, transport, protocol = connected()
        for number in range(BREAKER_FAILURES):
            protocol.data_received(post(BODY))
            tape.futures[number].set_exception(TapeUnavailable("away"))
            await asyncio.sleep(0)
        assert receiver.failing
        receiver._breaker._pause = 0.0
        with monkeypatch.context() as patch:
            patch.setattr("hooktape.ingest.receiver.resources.find", lambda *_: 1 / 0)
            protocol.data_received(post(BODY))
        assert transport.written.rpartition(b"HTTP/1.1 ")[2].startswith(b"503")
        protocol.data_received(post(BODY))
        tape.futures[-1].set_result(Coordinates("t", 0, 1))
        await asyncio.sleep(0)
        assert transport.written.rpartition(b"HTTP/1.1 ")[2].startswith(b"200")
        assert not receiver.failing
        protocol.connection_lost(None)

    asyncio.run(main())
    assert "ZeroDivisionError" in caplog.text


def test_thousands_of_requests_behind_a_slow_one_are_each_answered() -> None:
    async def main() -> None:
        _, tape, transport, protocol = connected()
        protocol.data_received(post(BODY) + 3000 * b"POST /webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + post(BODY))
        tape.futures[0].set_result(Coordinates("t", 0, 1))
        await turns(3010)
        assert transport.written.count(b"HTTP/1.1 401 ") == 3000
        tape.futures[1].set_result(Coordinates("t", 0, 2))
        await turns()
        assert transport.written.count(b"HTTP/1.1 200 ") == 2
        protocol.connection_lost(None)

    asyncio.run(main())
