"""Where tokens come from. Every source keeps the same promises, tried on a real file and over real HTTP."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from hooktape.errors import AdminApiError, SettingsError
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler.access.access import Access, configured, source_of
from hooktape.reconciler.access.asked import Asked
from hooktape.reconciler.access.grant import Grant
from hooktape.reconciler.access.source import Filed, Fixed, Source, parsed
from hooktape.reconciler.access.source import _log as source_log
from hooktape.reconciler.api import gate
from hooktape.reconciler.client import AdminClient
from hooktape.settings import Secret, Settings, load

pytestmark = pytest.mark.anyio
SHOP, OTHER = "acme.myshopify.com", "beta.myshopify.com"


# ── what every source promises ──────────────────────────────────────────────────────────────────────────────────────
@dataclass
class Driven:
    """A source, and how its token for SHOP is replaced by another (None: nothing but a restart can)."""

    settings: Settings
    source: Source
    replace: Callable[[], None] | None


@asynccontextmanager
async def fixed(shop: LocalShop, folder: Path, http: httpx.AsyncClient) -> AsyncIterator[Driven]:
    settings = Settings(shop_tokens={SHOP: Secret(shop.token)}, admin_url=shop.admin_url)
    yield Driven(settings, Fixed(settings.shop_tokens), None)


@asynccontextmanager
async def filed(shop: LocalShop, folder: Path, http: httpx.AsyncClient) -> AsyncIterator[Driven]:
    path = folder / "tokens"
    path.write_text(f"# handed out by hand\n\n{SHOP}=ended\n")

    def replace() -> None:
        (folder / "new").write_text(f"{SHOP}={shop.token}\n")
        (folder / "new").rename(path)

    settings = Settings(shop_tokens_file=path, admin_url=shop.admin_url)
    yield Driven(settings, Filed(path), replace)


@asynccontextmanager
async def asked(shop: LocalShop, folder: Path, http: httpx.AsyncClient) -> AsyncIterator[Driven]:
    async with app({SHOP: "ended"}, "let me in") as (url, tokens):
        settings = Settings(shop_tokens_url=url, shop_tokens_secret=Secret("let me in"), admin_url=shop.admin_url)
        yield Driven(settings, Asked(settings, http), lambda: tokens.update({SHOP: shop.token}))


@asynccontextmanager
async def granted(shop: LocalShop, folder: Path, http: httpx.AsyncClient) -> AsyncIterator[Driven]:
    settings = Settings(shopify_client_id="the-app", shopify_secrets=(Secret("not yet in use"), Secret("hush")), shops=(SHOP,),
                        admin_url=shop.admin_url)  # fmt: skip
    yield Driven(settings, Grant(settings, http), shop.tokens.revoke)


@asynccontextmanager
async def app(tokens: dict[str, str], secret: str = "", **more: Any) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """An app that answers for its shops, and what it answers with; `more` goes into each answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shop = parse_qs(urlsplit(self.path).query).get("shop", [""])[0]
            if secret and self.headers["Authorization"] != f"Bearer {secret}":
                status, found = 401, {}
            elif not shop:
                status, found = 200, {"shops": sorted(tokens)}
            elif shop in tokens:
                status, found = 200, {"access_token": tokens[shop], "expires_in": 3600, **more}
            else:
                status, found = 404, {}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/tokens?app=1", tokens
        finally:
            server.shutdown()


DRIVERS = [fixed, filed, asked, granted]
every_source = pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: str(driver.__name__))
Driver = Callable[[LocalShop, Path, httpx.AsyncClient], Any]


@asynccontextmanager
async def driven(driver: Driver, folder: Path) -> AsyncIterator[tuple[Driven, httpx.AsyncClient, LocalShop]]:
    async with (LocalShop(SHOP, secrets=("newest, unknown here", "hush"), client_id="the-app") as shop, httpx.AsyncClient() as http,
                driver(shop, folder, http) as made):  # fmt: skip
        yield made, http, shop


@every_source
async def test_a_source_lists_its_shops_and_knows_no_other(driver: Driver, tmp_path: Path) -> None:
    async with driven(driver, tmp_path) as (made, _, _):
        assert list(await made.source.shops()) == [SHOP]
        with pytest.raises(AdminApiError, match=OTHER) as refused:
            await made.source.token(OTHER)
        assert refused.value.reason == "no_token"


@every_source
async def test_the_admin_api_takes_the_token_after_it_has_been_replaced_while_it_was_in_use(driver: Driver, tmp_path: Path) -> None:
    async with driven(driver, tmp_path) as (made, http, _):
        access = Access(made.settings, http)
        before = await access.token(SHOP)
        if made.replace:
            made.replace()
        client = AdminClient(made.settings, SHOP, http, access)
        assert (await gate(client)).scopes
        assert (await access.token(SHOP) == before) == (made.replace is None)


@every_source
async def test_no_token_and_no_secret_is_told(driver: Driver, tmp_path: Path) -> None:
    async with driven(driver, tmp_path) as (made, http, _):
        access = Access(made.settings, http)
        token = await access.token(SHOP)
        shown = repr((token, await made.source.token(SHOP), access._kept, vars(made.source), made.settings))
        assert token.reveal() not in shown
        assert "hush" not in shown
        assert "let me in" not in shown


# ── what is refused, and why ────────────────────────────────────────────────────────────────────────────────────────
async def grant_told(answer: httpx.Response | Exception) -> AdminApiError:
    def answered(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    settings = Settings(shopify_client_id="the-app", shopify_secrets=(Secret("hush"),), shops=(SHOP,))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answered)) as http:
        with pytest.raises(AdminApiError) as refused:
            await Grant(settings, http).token(SHOP)
    return refused.value


@pytest.mark.parametrize(("answer", "reason", "says"), [
    (httpx.Response(400, text="<title>Oauth error shop_not_permitted: Client credentials cannot be performed on this shop.</title>"),
     "not_permitted", "one organisation"),
    (httpx.Response(400, json={"error": "app_not_installed"}), "not_permitted", "installed"),
    (httpx.Response(401, json={"error": "invalid_client"}), "credentials", "HOOKTAPE_SHOPIFY_SECRETS"),
    (httpx.Response(400, text="<title>Oauth error application_cannot_be_found: …</title>"), "credentials", "HOOKTAPE_SHOPIFY_CLIENT_ID"),
    (httpx.Response(400, text="<title>Oauth error something_new: …</title>"), "unauthorized", "something_new"),
    (httpx.Response(404, text="Not Found"), "unauthorized", "404"),
    (httpx.Response(503), "token_source", "503"),
    (httpx.Response(200, text="<html>"), "token_source", "something else"),
    (httpx.ConnectError("no way"), "unreachable", "ConnectError"), (httpx.DecodingError("garbled"), "unreachable", "DecodingError"),
])  # fmt: skip
async def test_a_grant_that_is_refused_says_what_to_do(answer: httpx.Response | Exception, reason: str, says: str) -> None:
    error = await grant_told(answer)
    assert error.reason == reason
    assert says in str(error)
    assert SHOP in str(error)


@pytest.mark.parametrize(("status", "body", "ask", "says"), [
    (500, "", "shops", "500"), (401, "", "token", "HOOKTAPE_SHOP_TOKENS_SECRET"), (404, "", "shops", "404"),
    (200, '{"shops": ["shpat_secret.example"]}', "shops", '{"shops"'), (200, "[]", "shops", '{"shops"'),
    (200, '{"token": "shpat_secret"}', "token", '{"access_token"'), (200, '{"access_token": ""}', "token", '{"access_token"'),
])  # fmt: skip
async def test_an_app_that_answers_otherwise_is_told_which_form_is_wanted(status: int, body: str, ask: str, says: str) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(status, text=body))) as http:
        source = Asked(Settings(shop_tokens_url="https://app.example/tokens"), http)
        question: Awaitable[object] = source.shops() if ask == "shops" else source.token(SHOP)
        with pytest.raises(AdminApiError) as refused:
            await question
    assert refused.value.reason == "token_source"
    assert says in str(refused.value)
    assert "shpat_secret" not in str(refused.value)


@pytest.mark.parametrize("fault", [httpx.ConnectError("no way"), httpx.DecodingError("garbled")])
async def test_an_app_that_cant_be_asked_or_understood_is_asked_again_later(fault: httpx.RequestError) -> None:
    def answered(request: httpx.Request) -> httpx.Response:
        raise fault

    async with httpx.AsyncClient(transport=httpx.MockTransport(answered)) as http:
        with pytest.raises(AdminApiError, match=type(fault).__name__) as refused:
            await Access(Settings(shop_tokens_url="https://app.example/tokens"), http).shops()
    assert refused.value.reason == "token_source"


async def test_a_token_that_never_expires_and_is_no_longer_accepted_is_told_apart_from_a_shop_that_bars_the_app(tmp_path: Path) -> None:
    async with driven(fixed, tmp_path) as (made, http, shop):
        client = AdminClient(made.settings, SHOP, http, Access(made.settings, http))
        for incident, reason in (("permanent_token_refused", "permanent_token"), ("forbidden", "forbidden")):
            shop.incidents.start(incident)
            with pytest.raises(AdminApiError) as refused:
                await gate(client)
            assert refused.value.reason == reason
            shop.incidents.stop()


async def test_a_token_ends_and_the_questions_go_on(tmp_path: Path) -> None:
    async with driven(granted, tmp_path) as (made, http, shop):
        shop.incidents.start("token_short", seconds=3600.0)
        client = AdminClient(made.settings, SHOP, http, Access(made.settings, http))
        await gate(client)
        shop.tokens.revoke()
        await gate(client)
        assert shop.tokens.granted == 2
        shop.incidents.start("grant_refused", error="app_not_installed")
        shop.tokens.revoke()
        with pytest.raises(AdminApiError, match="isn't installed") as refused:
            await gate(client)
        assert refused.value.reason == "not_permitted"


# ── settings and files ──────────────────────────────────────────────────────────────────────────────────────────────
async def test_none_or_two_sources_are_an_error_that_names_them() -> None:
    assert not configured(Settings())
    with pytest.raises(SettingsError, match="HOOKTAPE_SHOP_TOKENS, HOOKTAPE_SHOP_TOKENS_FILE"):
        source_of(Settings())
    both = Settings(shop_tokens={SHOP: Secret("t")}, shop_tokens_url="https://app.example/tokens")
    with pytest.raises(SettingsError, match="HOOKTAPE_SHOP_TOKENS and HOOKTAPE_SHOP_TOKENS_URL are set"):
        source_of(both)


@pytest.mark.parametrize(("settings", "says"), [
    (Settings(shopify_client_id="the-app", shopify_secrets=(Secret("s"),)), "HOOKTAPE_SHOPS isn't set"),
    (Settings(shopify_client_id="the-app", shops=(SHOP,)), "HOOKTAPE_SHOPIFY_SECRETS isn't set"),
    (Settings(shopify_client_id="the-app", shops=(SHOP,), shopify_secrets=(Secret("s"),), admin_url="https://proxy.example/graphql"),
     "HOOKTAPE_ADMIN_URL"),
    (Settings(shop_tokens_url="app.example/tokens"), "HOOKTAPE_SHOP_TOKENS_URL"),
    (Settings(shop_tokens_file=Path("/nowhere/tokens")), "HOOKTAPE_SHOP_TOKENS_FILE"),
])  # fmt: skip
async def test_a_source_that_is_set_in_part_says_what_it_lacks(settings: Settings, says: str) -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(SettingsError, match=says):
            Access(settings, http)


@pytest.mark.parametrize("name", ["evil.example", "acme.myshopify.com.evil.example", "acme.myshopify.com/x", "-a.myshopify.com", "acme"])
async def test_the_apps_secret_is_sent_to_no_address_but_a_shops(name: str) -> None:
    with pytest.raises(SettingsError, match=r"is no shop's domain"):
        load(environ={"HOOKTAPE_SHOPS": name})
    assert load(environ={"HOOKTAPE_SHOPS": "Acme.MyShopify.com, b2.myshopify.com"}).shops == (SHOP, "b2.myshopify.com")


async def test_a_line_of_a_file_that_cant_be_used_is_named_by_its_number_and_not_by_what_it_says() -> None:
    with pytest.raises(SettingsError, match=r"tokens, line 3 can't be used: write it as") as refused:
        parsed(f"# mine\n{SHOP}=good\nshpat_0123\n", "tokens")
    assert "shpat" not in str(refused.value)
    with pytest.raises(SettingsError, match="has no token"):
        parsed("# none yet\n", "tokens")


async def test_a_file_that_is_broken_later_leaves_the_last_pairs_in_force(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{SHOP}=one\n")
    source = Filed(path)
    path.write_text("half a li")
    assert (await source.token(SHOP)).secret.reveal() == "one"
    path.unlink()
    assert list(await source.shops()) == [SHOP]
    path.write_text(f"{SHOP}=two\n{OTHER}=three\n")
    assert (await source.token(SHOP)).secret.reveal() == "two"
    assert list(await source.shops()) == [SHOP, OTHER]


async def test_a_file_that_may_not_be_read_is_told_of_once_and_read_when_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told = tmp_path / "tokens", list[str]()
    path.write_text(f"{SHOP}=one\n")
    source = Filed(path)
    monkeypatch.setattr(source_log, "error", lambda message, **fields: told.append(message))
    path.write_text(f"{SHOP}=two\n{OTHER}=three\n")
    with monkeypatch.context() as denied:
        # Another user's, until it's handed over: neither its time nor its size changes by that.
        denied.setattr(Path, "read_text", Mock(side_effect=PermissionError(13, "Permission denied")))
        assert [(await source.token(SHOP)).secret.reveal() for _ in range(3)] == ["one"] * 3
    assert len(told) == 1
    assert (await source.token(SHOP)).secret.reveal() == "two"
    path.unlink()
    assert [len(await source.shops()) for _ in range(3)] == [2] * 3
    assert len(told) == 2


async def test_no_token_is_asked_for_what_is_no_shop_of_shopifys() -> None:
    asked: list[str] = []

    def any_shop(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["shop"])
        return httpx.Response(200, json={"access_token": "good"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(any_shop)) as http:
        source = Asked(Settings(shop_tokens_url="https://app.example/tokens"), http)
        assert (await source.token(SHOP)).secret.reveal() == "good"
        with pytest.raises(AdminApiError, match=r"'elsewhere\.example' is no shop's domain") as refused:
            await source.token("elsewhere.example")
    assert refused.value.reason == "no_token"
    assert asked == [SHOP]
