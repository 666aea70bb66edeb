"""Whether an address leads to an ingestor, asked of servers on real sockets."""

import asyncio
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from hooktape.reconciler.doctor.facts import Reached
from hooktape.reconciler.doctor.reaching import reach
from tests.ingest.conftest import base, in_background

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def answering(tls: ssl.SSLContext | None = None, **answers: str) -> AsyncIterator[str]:
    """The address of a server that answers each method so; one that isn't named is never answered."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = (await reader.readline()).split()[0].decode()
        if method in answers:
            writer.write(f"HTTP/1.1 {answers[method]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/webhooks"
    finally:
        server.close()


async def asked(address: str, trusted: Path | None = None) -> Reached:
    verify = ssl.create_default_context(cafile=str(trusted)) if trusted else True
    async with httpx.AsyncClient(verify=verify, trust_env=False) as http:
        return await reach(address, http)


@pytest.mark.kafka
async def test_an_ingestor_is_known_by_its_answer_and_records_and_refuses_nothing(kafka: str, tmp_path: Path) -> None:
    with in_background(base(kafka, tmp_path)) as ingest:
        refused = ingest.metric('hooktape_requests_total{outcome="bad_signature"}')
        assert await asked(f"{ingest.url}/webhooks") == Reached()
        assert ingest.metric('hooktape_requests_total{outcome="bad_signature"}') == refused


async def test_behind_a_proxy_that_lets_only_posts_through_the_unsigned_one_tells() -> None:
    async with answering(GET="404 Not Found", POST="401 Unauthorized") as address:
        assert await asked(address) == Reached()


@pytest.mark.parametrize(("answer", "says"), [
    ("404 Not Found", "answered with 404"), ("200 OK", "answered with 200"), ("502 Bad Gateway", "answered with 502"),
    ("304 Not Modified", "answered with 304"), ("301 Moved Permanently", "answered with 301"),
    ("301 Moved Permanently\r\nLocation: https://elsewhere.example/", "redirects to https://elsewhere.example/")])  # fmt: skip
async def test_another_answer_is_told(answer: str, says: str) -> None:
    async with answering(GET=answer, POST=answer) as address:
        assert says in (await asked(address)).why


async def test_where_nothing_listens_or_nothing_is_served_it_says_so() -> None:
    async with answering() as address:
        pass
    assert "can't be connected to" in (await asked(address)).why
    assert "no address" in (await asked("https://[::1/webhooks")).why
    assert await asked("arn:aws:events:us-east-1::event-source/aws.partner/shopify.com/1/hooks") == Reached()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for ten days that nobody has signed, and its key."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "10", "-keyout",
                    key, "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)  # fmt: skip
    return certificate, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate is made with openssl")
async def test_a_certificate_that_nobody_trusts_is_told_and_of_a_good_one_when_it_ends(certificate: tuple[Path, Path]) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    async with answering(tls, GET="405 Method Not Allowed") as address:
        assert "certificate isn't valid: self-signed" in (await asked(address)).why
        good = await asked(address, certificate[0])
    assert good.why == ""
    assert good.expires == pytest.approx(time.time() + 10 * 86_400, abs=3600)
