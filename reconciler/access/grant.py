"""Tokens by the client credentials grant: the app asks for one with its own secret, and asks again before it ends.

For an app and shops of one organisation. Shopify gives a token for 24 hours and nothing to refresh it by
(shopify.dev/docs/apps/build/authentication-authorization/client-credentials-grant, RFC 6749 section 4.4).
"""

import re
from collections.abc import Sequence

import httpx
import msgspec

from hooktape.errors import AdminApiError, SettingsError
from hooktape.reconciler.access.source import Token
from hooktape.settings import Secret, Settings

_TIMEOUT = httpx.Timeout(10.0)
_HEADERS = {"Accept": "application/json"}
# An answer without `expires_in`, which RFC 6749 allows: a fraction of what Shopify documents (86,399), so that a 401 isn't the rule.
_LASTS = 3600.0
# What the answer says, among more words or as `error`, whatever its status: reason, and what to do about it.
_REFUSALS = (
    ("shop_not_permitted", "not_permitted", "app and shop must be in one organisation for the client credentials grant: see both in the "
     "Dev Dashboard; an app for other merchants' shops hands its tokens over by HOOKTAPE_SHOP_TOKENS_URL"),
    ("app_not_installed", "not_permitted", "the app isn't installed in this shop, or its version with these scopes isn't released"),
    ("application_cannot_be_found", "credentials", "Shopify knows no app with this HOOKTAPE_SHOPIFY_CLIENT_ID"),
    ("invalid_client", "credentials", "HOOKTAPE_SHOPIFY_CLIENT_ID and HOOKTAPE_SHOPIFY_SECRETS aren't one app's, or the secret is revoked"),
)  # fmt: skip
_TITLE = re.compile(r"Oauth error ([a-z_]+)")


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


class Grant:
    """HOOKTAPE_SHOPIFY_CLIENT_ID and the secrets, for HOOKTAPE_SHOPS. Raises SettingsError where one of them is missing."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._shops: tuple[str, ...] = settings.require("shops", "tokens are asked for by the client credentials grant, shop by shop")
        self._secrets: tuple[Secret, ...] = settings.require("shopify_secrets", "the app proves with it who asks for a token")
        self._client_id, self._http = settings.shopify_client_id, http
        base, found, _ = settings.admin_url.partition("/admin/api/")
        if not found:
            raise SettingsError("HOOKTAPE_ADMIN_URL must lead to …/admin/api/…: tokens are asked for at …/admin/oauth/access_token.")
        self._url = f"{base}/admin/oauth/access_token"

    async def shops(self) -> Sequence[str]:
        return self._shops

    async def token(self, shop: str) -> Token:
        if shop not in self._shops:
            raise AdminApiError(f"HOOKTAPE_SHOPS doesn't name {shop}: add it", reason="no_token")
        # While secrets are rotated any of them may be the one that Shopify takes.
        for secret in self._secrets[:-1]:
            try:
                return await self._ask(shop, secret)
            except AdminApiError as error:
                if error.reason != "credentials":
                    raise
        return await self._ask(shop, self._secrets[-1])

    async def _ask(self, shop: str, secret: Secret) -> Token:
        asked = {"grant_type": "client_credentials", "client_id": self._client_id, "client_secret": secret.reveal()}
        try:
            answer = await self._http.post(self._url.format(shop=shop), data=asked, headers=_HEADERS, timeout=_TIMEOUT)
        except httpx.RequestError as error:
            raise AdminApiError(f"{shop} couldn't be asked for a token ({type(error).__name__})", reason="unreachable") from None
        if answer.status_code == 200:
            try:
                granted = msgspec.json.decode(answer.content, type=_Granted)
            except msgspec.MsgspecError:
                raise AdminApiError(f"{shop} answered the question for a token with something else", reason="token_source") from None
            return Token(Secret(granted.access_token), granted.expires_in or _LASTS)
        raise _refused(shop, answer)


def _refused(shop: str, answer: httpx.Response) -> AdminApiError:
    """Shopify's word for it stands in JSON or in a page's title."""
    text = answer.text[:20_000]
    for word, reason, advice in _REFUSALS:
        if word in text:
            return AdminApiError(f"{shop} gives no token ({word}): {advice}", reason=reason)
    if answer.status_code >= 500 or answer.status_code == 429:
        return AdminApiError(f"{shop} gives no token now (status {answer.status_code})", reason="token_source")
    title = _TITLE.search(text)
    said = title[1] if title else f"status {answer.status_code}"
    return AdminApiError(f"{shop} gives no token ({said}): see that the app is installed there, and HOOKTAPE_SHOPIFY_CLIENT_ID",
                         reason="unauthorized")  # fmt: skip
