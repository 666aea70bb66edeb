"""Tokens from the app itself, which refreshes them for its own use anyway.

For public apps, whose tokens last an hour from 2027 on at the latest. Shopify keeps one pair of access and refresh token for an app and
shop, and a new one ends the other (shopify.dev/docs/apps/build/authentication-authorization/access-tokens/offline-access-tokens): two that
refresh take the shop away from each other, so Hooktape doesn't.
"""

from collections.abc import Sequence

import httpx
import msgspec

from hooktape.errors import AdminApiError, SettingsError
from hooktape.reconciler.access.source import Token
from hooktape.settings import Secret, Settings, shop_name

# The app may have to refresh the token at Shopify's first.
_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
# An answer that doesn't say how long: the app is asked once a minute, and after a 401.
_LASTS = 60.0


class _Shops(msgspec.Struct):
    shops: list[str]


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


class Asked:
    """HOOKTAPE_SHOP_TOKENS_URL: GET answers `{"shops": […]}`, and with `?shop=` the token as OAuth does (RFC 6749 section 5.1).

    HOOKTAPE_SHOP_TOKENS_SECRET is sent as a bearer token. Raises SettingsError for what is no address.
    """

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._url, self._http = _address(settings.shop_tokens_url), http
        self._secret = settings.shop_tokens_secret

    async def shops(self) -> Sequence[str]:
        answer = await self._get({})
        try:
            found = msgspec.json.decode(answer.content, type=_Shops).shops
            return tuple(shop_name(shop) for shop in found)
        except (msgspec.MsgspecError, ValueError) as error:
            raise self._wrong('{"shops": ["shop.myshopify.com", …]}', error) from None

    async def token(self, shop: str) -> Token:
        try:
            # An event's shop is an unsigned header's word, and the token is sent there, whatever the app answers to such names.
            shop_name(shop)
        except ValueError as error:
            raise AdminApiError(f"no token is asked for: {error}", reason="no_token") from None
        answer = await self._get({"shop": shop})
        if answer.status_code == 404:
            raise AdminApiError(f"the app has no token for {shop}: HOOKTAPE_SHOP_TOKENS_URL answered 404", reason="no_token")
        try:
            found = msgspec.json.decode(answer.content, type=_Token)
            if not found.access_token:
                raise ValueError("empty")
        except (msgspec.MsgspecError, ValueError) as error:
            raise self._wrong('{"access_token": "…", "expires_in": 3600}', error) from None
        # What has ended already is asked for again when it's refused.
        return Token(Secret(found.access_token), max(0.0, _LASTS if found.expires_in is None else found.expires_in))

    async def _get(self, asked: dict[str, str]) -> httpx.Response:
        headers = {"Accept": "application/json"}
        if self._secret:
            headers["Authorization"] = f"Bearer {self._secret.reveal()}"
        try:
            answer = await self._http.get(self._url.copy_merge_params(asked), headers=headers, timeout=_TIMEOUT)
        except httpx.RequestError as error:
            raise AdminApiError(f"the app couldn't be asked for tokens ({type(error).__name__}): see HOOKTAPE_SHOP_TOKENS_URL",
                                reason="token_source") from None  # fmt: skip
        if answer.status_code not in (200, 404) or (answer.status_code == 404 and not asked):
            raise AdminApiError(f"the app answered the question for tokens with {answer.status_code}: see HOOKTAPE_SHOP_TOKENS_URL and "
                                "HOOKTAPE_SHOP_TOKENS_SECRET", reason="token_source")  # fmt: skip
        return answer

    @staticmethod
    def _wrong(form: str, error: Exception) -> AdminApiError:
        # What it did answer may hold a token.
        return AdminApiError(f"HOOKTAPE_SHOP_TOKENS_URL must answer {form}, and didn't ({type(error).__name__})", reason="token_source")


def _address(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise SettingsError(f"HOOKTAPE_SHOP_TOKENS_URL is no address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise SettingsError("HOOKTAPE_SHOP_TOKENS_URL is no address: write it as https://app.example/shopify/tokens")
    return url
