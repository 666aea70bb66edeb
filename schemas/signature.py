"""Shopify's webhook signature: base64(HMAC-SHA256(app's client secret, raw body)). Only the body is signed.

Source: shopify.dev/docs/apps/build/webhooks/verify-deliveries. Topic, shop and ids travel unsigned beside it.
"""

import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass


def sign(body: bytes, secret: str) -> str:
    """The value of `X-Shopify-Hmac-Sha256` for these exact bytes."""
    return binascii.b2a_base64(hmac.digest(secret.encode(), body, "sha256"), newline=False).decode()


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """One of the app's client secrets, under a short public name."""

    id: str
    key: bytes


def secret_id(secret: str) -> str:
    """A public name for a secret: 8 hex digits of its SHA-256. The secrets are 128-bit random, so it gives nothing away."""
    return hashlib.sha256(b"hooktape secret id\0" + secret.encode()).hexdigest()[:8]


class Verifier:
    """Checks signatures against all configured secrets: during a rotation Shopify signs with the oldest unrevoked one."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("at least one secret is needed")
        self._secrets = tuple(Secret(secret_id(text), text.encode()) for text in secrets)

    def verify(self, body: bytes, signature: bytes) -> str | None:
        """The id of the secret that signed `body`, or None.

        Strict base64 of exactly 32 bytes. Every secret is tried even after a match, and each comparison takes constant
        time, so that timing tells nothing.
        """
        try:
            given = binascii.a2b_base64(signature.strip(), strict_mode=True)
        except (binascii.Error, ValueError):
            return None
        found = None
        for secret in self._secrets:
            if hmac.compare_digest(hmac.digest(secret.key, body, "sha256"), given):
                found = secret.id
        return found
