"""The app's access tokens: the one that never expires, and those that the client credentials grant gives."""

import hmac
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from hooktape.local.shop.incidents import Incidents
from hooktape.local.shop.webhooks import Secrets

PATH = "/admin/oauth/access_token"
LASTS = 86_399
"""Seconds (shopify.dev/docs/apps/build/dev-dashboard/get-api-access-tokens)."""
REFUSED = "[API] Invalid API key or access token (unrecognized login or wrong password)"
PERMANENT = ("[API] Non-expiring access tokens are no longer accepted for the Admin API. Start using expiring offline tokens: "
             "https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/offline-access-tokens")  # fmt: skip
_WORDS = {
    "shop_not_permitted": "Client credentials cannot be performed on this shop.",
    "app_not_installed": "The app is not installed on this shop.",
    "invalid_client": "Client authentication failed.",
    "unsupported_grant_type": "The authorization grant type is not supported.",
}


class Tokens:
    """Gives tokens for an app's `client_id` and any of its secrets, and knows which are good. `clock`: epoch seconds.

    `granted` counts what was given.
    """

    def __init__(self, permanent: str, client_id: str, secrets: Secrets, incidents: Incidents, clock: Callable[[], float]) -> None:
        self._permanent, self._client_id, self._secrets = permanent.encode(), client_id, secrets
        self._incidents, self._clock = incidents, clock
        self._ends: dict[str, float] = {}
        self.granted = 0

    def refused(self, token: str) -> tuple[int, str] | None:
        """Why a request with this token is refused, as (status, words); None: it isn't."""
        if hmac.compare_digest(token.encode(), self._permanent):
            return (403, PERMANENT) if self._incidents.is_on("permanent_token_refused") else None
        if self._ends.get(token, 0.0) > self._clock():
            return None
        return 401, REFUSED

    def grant(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """(status, JSON) of a question for a token."""
        asked = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        if refusal := self._incidents.on("grant_refused"):
            return _refusal(400, str(refusal["error"]))
        if asked.get("grant_type") != "client_credentials":
            return _refusal(400, "unsupported_grant_type")
        if asked.get("client_id") != self._client_id or not self._secrets.has(asked.get("client_secret", "")):
            return _refusal(401, "invalid_client")
        lasts = int((self._incidents.on("token_short") or {"seconds": LASTS})["seconds"])
        self.granted += 1
        token = f"granted-{self.granted}"
        self._ends[token] = self._clock() + lasts
        return 200, {"access_token": token, "scope": "", "expires_in": lasts}

    def revoke(self) -> None:
        """Ends all that were granted, before their time."""
        self._ends.clear()


def _refusal(status: int, error: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": error, "error_description": _WORDS.get(error, "")}
