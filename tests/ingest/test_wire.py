"""What only a raw socket can do: smuggled, slow, endless and broken requests. None stops the process."""

import contextlib
import socket
import time
import uuid

import pytest

from hooktape.ingest import protocol
from hooktape.schemas.signature import sign

from .conftest import LIMIT, SECRET, Ingest, eventually, headers

BODY = b'{"id":1}'


def connect(ingest: Ingest) -> socket.socket:
    return socket.create_connection(ingest.address, timeout=10)


def head(body: bytes, *extra: str, length: bool = True, **changes: str | None) -> bytes:
    lines = ["POST /webhooks HTTP/1.1", "Host: x", *(f"{n}: {v}" for n, v in headers(body, **changes).items()), *extra]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def until_closed(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def status(connection: socket.socket) -> int:
    """The status of the next answer."""
    return int(connection.recv(65536).split(b" ", 2)[1])


def chunked(body: bytes, size: int = 3) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that a test can wait for; the ones in use are bounded in `test_the_times_leave_room_within_shopifys_limit`."""
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.3)


def test_a_chunked_body_without_a_length_is_accepted_as_it_was_signed(ingest: Ingest) -> None:
    webhook_id = str(uuid.uuid4())
    with connect(ingest) as connection:
        connection.sendall(head(BODY, "Transfer-Encoding: chunked", length=False, webhook_id=webhook_id) + chunked(BODY))
        assert status(connection) == 200
    assert ingest.recorded(webhook_id)[0].payload == BODY


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(ingest: Ingest) -> None:
    body = b"1" * (LIMIT + 1)
    with connect(ingest) as connection:
        connection.sendall(head(body, "Transfer-Encoding: chunked", length=False) + chunked(body, 1 << 16))
        assert status(connection) == 413


def test_after_a_413_the_connection_can_be_used_again(ingest: Ingest) -> None:
    body = b"1" * (LIMIT + 1)
    with connect(ingest) as connection:
        connection.sendall(head(body) + body)
        assert status(connection) == 413
        connection.sendall(head(BODY) + BODY)
        assert status(connection) == 200


def test_trailers_cannot_pose_as_headers(ingest: Ingest) -> None:
    trailer = f"X-Shopify-Hmac-Sha256: {sign(BODY, SECRET)}\r\n\r\n".encode()
    with connect(ingest) as connection:
        start = head(BODY, "Transfer-Encoding: chunked", length=False, hmac_sha256=None)
        connection.sendall(start + chunked(BODY).removesuffix(b"\r\n") + trailer)
        assert status(connection) == 401


@pytest.mark.parametrize(
    "request_line_and_headers",
    [
        "POST /webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /webhooks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
        "POST /webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        "POST /webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\n",
        "POST /webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 0x4\r\n\r\n",
        "POST /webhooks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST /webhooks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST /webhooks HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
        "POST /webhooks HTTP/1.1\nHost: x\n\n",
        "POST /webhooks HTTP/9.9\r\nHost: x\r\n\r\n",
        "POST /webhooks HTTP/1.1\r\nHost: x\r\nX-\x00A: b\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["CL+TE", "TE+CL", "two lengths", "signed length", "hexadecimal length", "chunked not last", "space before the colon",
         "folded header", "bare line feeds", "unknown version", "NUL in a name", "TLS"],
)  # fmt: skip
def test_an_ambiguous_request_is_refused_and_what_follows_it_is_not_read(ingest: Ingest, request_line_and_headers: str) -> None:
    webhook_id = str(uuid.uuid4())
    smuggled = head(BODY, webhook_id=webhook_id) + BODY
    with connect(ingest) as connection:
        connection.sendall(request_line_and_headers.encode("latin-1") + b"0\r\n\r\n" + smuggled)
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert webhook_id not in ingest.tape.events()


def test_100_headers_are_taken_and_more_are_refused_with_431(ingest: Ingest) -> None:
    # With Host, seven of Shopify's and Content-Length: nine.
    with connect(ingest) as connection:
        connection.sendall(head(BODY, *(f"X-{i}: a" for i in range(91))) + BODY)
        assert status(connection) == 200
        connection.sendall(head(BODY, *(f"X-{i}: a" for i in range(92))) + BODY)
        assert until_closed(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("size", [protocol.HEADER_BYTES, 1024 * 1024], ids=["just over", "a megabyte"])
def test_headers_over_32_kib_are_refused_with_431(ingest: Ingest, size: int) -> None:
    with connect(ingest) as connection:
        connection.sendall(head(BODY, f"X-Long: {'a' * size}")[:-4])  # it needn't be complete to be refused
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"\r\n\r\n" + BODY)
        assert until_closed(connection).startswith(b"HTTP/1.1 431 ")


def test_large_headers_in_the_wake_of_another_request_are_refused_too(ingest: Ingest) -> None:
    first = head(BODY, hmac_sha256=None) + BODY
    with connect(ingest) as connection:
        connection.sendall(first + head(BODY, f"X-Long: {'a' * (protocol.HEADER_BYTES + 1)}") + BODY)
        assert b"HTTP/1.1 431 " in until_closed(connection)


def test_headers_that_stay_half_sent_are_refused_with_408(ingest: Ingest) -> None:
    with connect(ingest) as connection:
        connection.sendall(head(BODY)[:-20])
        assert until_closed(connection).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_never_says_a_word_is_closed(ingest: Ingest) -> None:
    with connect(ingest) as connection:
        assert until_closed(connection) == b""


def test_a_body_that_stays_half_sent_is_refused_with_408(ingest: Ingest) -> None:
    with connect(ingest) as connection:
        connection.sendall(head(BODY) + BODY[:-1])
        assert until_closed(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_drips_is_refused_with_408_though_it_never_pauses(ingest: Ingest) -> None:
    body = b"1" * 10_000
    with connect(ingest) as connection:
        connection.settimeout(0.01)
        connection.sendall(head(body))
        answer = b""
        for i in range(1000):
            try:
                connection.sendall(body[i : i + 1])
                answer += connection.recv(65536)
            except TimeoutError:
                continue
            break
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_refused_body_that_never_ends_is_not_read_for_ever(ingest: Ingest) -> None:
    with connect(ingest) as connection:
        connection.sendall(head(b"x" * 100, hmac_sha256=None))
        assert until_closed(connection).startswith(b"HTTP/1.1 401 ")


def test_a_webhook_is_recorded_though_its_sender_left_before_the_answer(ingest: Ingest) -> None:
    webhook_id = str(uuid.uuid4())
    connection = connect(ingest)
    connection.sendall(head(BODY, webhook_id=webhook_id) + BODY)
    connection.close()
    eventually(lambda: webhook_id in ingest.tape.events(), "the webhook is on the tape")


def test_a_body_cut_short_is_not_recorded(ingest: Ingest) -> None:
    webhook_id = str(uuid.uuid4())
    before = ingest.metric('hooktape_requests_total{outcome="incomplete"}')
    connection = connect(ingest)
    connection.sendall(head(BODY, webhook_id=webhook_id) + BODY[:-1])
    connection.close()
    eventually(lambda: ingest.metric('hooktape_requests_total{outcome="incomplete"}') == before + 1, "the cut is counted")
    assert webhook_id not in ingest.tape.events()


def test_pipelined_webhooks_are_answered_in_order(ingest: Ingest) -> None:
    with connect(ingest) as connection:
        connection.sendall(head(BODY) + BODY + head(BODY, hmac_sha256=None) + BODY + head(BODY, "Connection: close") + BODY)
        answers = until_closed(connection)
    assert [part.split(b" ", 1)[0] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"401", b"200"]


def test_hundreds_of_idle_connections_do_not_keep_a_webhook_waiting(ingest: Ingest) -> None:
    idle = [connect(ingest) for _ in range(300)]
    try:
        start = time.monotonic()
        assert ingest.post(BODY).status_code == 200
        assert time.monotonic() - start < 4.5
        assert all(until_closed(connection) == b"" for connection in idle)
    finally:
        for connection in idle:
            connection.close()
