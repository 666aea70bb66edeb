"""Who gets in, and what each role may do: the table of routes is walked as everybody."""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.errors import SettingsError
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.tokens import Role
from hooktape.replayer.api import access, protocol
from hooktape.replayer.api.problems import KINDS, Refused
from hooktape.replayer.api.routes import ROUTES, Route
from hooktape.settings import Secret, Settings

NOWHERE = "127.0.0.1:1"
Serve = Callable[..., httpx.Client]


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Of a Kafka that isn't there: who gets in is decided without it."""
    return Settings(kafka=NOWHERE, home=tmp_path)


def _token(settings: Settings, name: str, role: Role) -> dict[str, str]:
    with Ledger.open(settings.ledger_url) as ledger:
        return {"Authorization": f"Bearer {ledger.tokens.create(name, role, who='test', now=1.0)}"}


def _ask(client: httpx.Client, route: Route, headers: Mapping[str, str] | None = None) -> httpx.Response:
    path = route.path.format(job_id="0" * 20, group="g", webhook_id="w1", error_group="e1")
    # Nothing that could be done: what's asked here is only whether the door opens.
    return client.request(route.method, path, headers=headers, json={"nonsense": 1} if route.method == "POST" else None)


def test_every_route_wants_a_token_and_its_role(serve: Serve, settings: Settings):
    read, operate = _token(settings, "looker", Role.READ), _token(settings, "ana", Role.OPERATE)
    client = serve(settings, "0.0.0.0")
    for route in ROUTES:
        nobody = _ask(client, route)
        assert nobody.status_code == 401, route
        assert nobody.headers["www-authenticate"].startswith("Bearer")
        assert nobody.headers["content-type"] == "application/problem+json"
        assert _ask(client, route, {"Authorization": "Bearer hkt_guessed"}).status_code == 401
        refused = route.role is Role.OPERATE
        if refused:
            assert _ask(client, route, read).json()["type"] == "/problems/forbidden", route
        elif route.method == "POST":
            assert _ask(client, route, read).status_code == 422, route
        if route.method == "POST" and not route.path.endswith("verify"):  # takes no body
            assert _ask(client, route, operate).status_code == 422, route


def test_what_changes_anything_needs_operate():
    assert [r.path for r in ROUTES if r.method != "GET" and r.role is not Role.OPERATE] == [
        "/groups/{group}/resets/preview", "/groups/{group}/resets/undo/preview"]  # fmt: skip
    assert all(r.role is Role.OPERATE for r in ROUTES if r.path.endswith(("/body", "/export")))


def test_a_revoked_token_is_out_at_once_and_its_use_was_noted(serve: Serve, settings: Settings):
    ana = _token(settings, "ana", Role.READ)
    client = serve(settings, "0.0.0.0")
    assert client.get("/me", headers=ana).json() == {"name": "ana", "role": "read"}
    with Ledger.open(settings.ledger_url) as ledger:
        assert ledger.tokens.list()[0].used_at
        ledger.tokens.revoke("ana", who="test", now=2.0)
        assert client.get("/me", headers=ana).status_code == 401
        assert [e.action for e in ledger.audit.list()] == ["token revoke", "token create"]


def test_the_settings_token_is_called_env_and_may_do_everything(serve: Serve, settings: Settings, tmp_path):
    secret = "s" * 32
    client = serve(Settings(kafka=NOWHERE, home=tmp_path, api_token=Secret(secret)), "0.0.0.0")
    assert client.get("/me", headers={"Authorization": f"Bearer {secret}"}).json() == {"name": "env", "role": "operate"}
    assert client.get("/me").status_code == 401


def test_it_refuses_to_be_reached_by_others_while_nobody_has_a_token(serve: Serve, settings: Settings):
    with pytest.raises(SettingsError, match="hooktape tokens create"):
        serve(settings, "0.0.0.0")


def test_a_token_that_can_be_guessed_is_refused(serve: Serve, tmp_path):
    with pytest.raises(SettingsError, match="shorter than") as refused:
        serve(Settings(kafka=NOWHERE, home=tmp_path, api_token=Secret("hunter2")), "0.0.0.0")
    assert "hunter2" not in str(refused.value)


def test_on_loopback_the_machines_user_needs_no_token(serve: Serve, settings: Settings):
    me = serve(settings).get("/me").json()
    assert me == {"name": access.local_user().name, "role": "operate"}


@pytest.mark.parametrize(("headers", "status"), [
    ({"Host": "rebound.example:80"}, 403),
    ({"Host": "127.0.0.1.evil.example"}, 403),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"X-Forwarded-For": "203.0.113.7"}, 401),
    ({"Host": "localhost:1", "Origin": "http://localhost:1", "Sec-Fetch-Site": "same-origin"}, 200),
    ({"Host": "[::1]:8010"}, 200),
    ({"Authorization": "Bearer hkt_wrong"}, 401),
])  # fmt: skip
def test_on_loopback_pages_of_others_and_proxies_stay_out(serve: Serve, settings: Settings, headers: dict[str, str], status: int):
    answer = serve(settings).get("/me", headers=headers)
    assert answer.status_code == status, answer.text


def test_a_body_is_json_and_says_so(serve: Serve, settings: Settings):
    client = serve(settings)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.post("/replays", content=b'{"group": "g"}', headers={"Content-Type": kind}).status_code == 415
    large = client.post("/replays", content=b" " * (1024 * 1024 + 1), headers={"Content-Type": "application/json"})
    assert large.json()["type"] == "/problems/too-large"


@pytest.mark.parametrize(("sent", "status"), [
    (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", b"431"),
    (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(120)) + b"\r\n", b"431"),
    (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000, b"431"),
    (b"nonsense\r\n\r\n", b"400"),
    (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200"),
])  # fmt: skip
def test_the_size_and_number_of_headers_is_bounded(serve: Serve, settings: Settings, sent: bytes, status: bytes):
    url = serve(settings).base_url
    with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
        connection.sendall(sent)
        assert connection.recv(4096).split()[1] == status


def test_a_request_that_stays_half_sent_is_hung_up_on(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.2)
    url = serve(settings).base_url
    for half in (b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: local"):
        with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
            connection.sendall(half)
            assert connection.recv(4096) == b""


def test_no_secret_reaches_a_log_or_an_answer(serve: Serve, settings: Settings, caplog: pytest.LogCaptureFixture):
    ana = _token(settings, "ana", Role.OPERATE)
    client = serve(settings, "0.0.0.0")
    with caplog.at_level("DEBUG"):
        client.get("/events", params={"nope": "1"}, headers=ana)
        client.get("/me", headers={"Authorization": "Bearer hkt_wrong-but-real-elsewhere"})
    secret = ana["Authorization"].split()[1]
    assert caplog.records
    assert secret not in caplog.text
    assert "real-elsewhere" not in caplog.text
    assert secret.encode() not in (settings.home / "ledger.db").read_bytes()


def test_every_kind_of_problem_is_documented_and_has_its_page(serve: Serve, settings: Settings):
    page = (Path(__file__).parents[3] / "docs/api.md").read_text()
    client = serve(settings)
    for kind in KINDS.values():
        assert f"`{kind.uri}`" in page
        answer = client.get(httpx.URL(str(client.base_url)).copy_with(path=kind.uri))
        assert answer.status_code == 200
        assert kind.meaning in answer.text


@given(st.text(), st.text())
def test_no_headers_break_the_door(host: str, origin: str):
    for local in (True, False):
        with suppress(Refused):
            access.refuse_foreign({"host": host, "origin": origin}, local)
            assert not local or access.is_loopback(access.host_of(host))


def test_only_loopback_is_loopback():
    assert all(map(access.is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST.")))
    assert not any(map(access.is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "", "localhost.example.com", "127.0.0.1.nip.io")))
