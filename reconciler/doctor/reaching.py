"""Does the address that Shopify sends to lead to an ingestor? Asked over the same way, and so that nothing is recorded.

GET is answered with 405 by an ingestor. Where something before it answers otherwise, a POST without a signature tells: 401 is an
ingestor's. What is asked from here may go another way than Shopify's: that it fails is a hint, and webhooks that come are the proof.
"""

import ssl
from typing import Any
from urllib.parse import urlsplit

import httpx

from hooktape.reconciler.doctor.facts import Reached

TIMEOUT = httpx.Timeout(5.0)
"""Shopify gives up after 5 seconds (shopify.dev/docs/apps/build/webhooks)."""


async def reach(address: str, http: httpx.AsyncClient) -> Reached:
    """Asks it. Addresses of EventBridge and Pub/Sub can't be asked. Raises nothing: what goes wrong is the answer."""
    try:
        if urlsplit(address).scheme not in ("http", "https"):
            return Reached()
        answer = await http.get(address, timeout=TIMEOUT, follow_redirects=False)
        expires = _expiry(answer)
        if answer.status_code != httpx.codes.METHOD_NOT_ALLOWED:
            answer = await http.post(address, content=b"{}", timeout=TIMEOUT, follow_redirects=False)
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                return Reached(_told(answer), expires)
        return Reached("", expires)
    except httpx.TimeoutException:
        return Reached(f"it doesn't answer within {TIMEOUT.read:g} s, after which Shopify gives up")
    except httpx.HTTPError as error:
        return Reached(_broken(error))
    except (httpx.InvalidURL, ValueError) as error:
        return Reached(f"it's no address that can be asked: {error}")


def _told(answer: httpx.Response) -> str:
    if answer.has_redirect_location:
        return f"it redirects to {answer.headers['Location']}, and Shopify follows no redirect"
    return f"an unsigned POST is answered with {answer.status_code}, and an ingestor answers with 401"


def _broken(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return f"its certificate isn't valid: {cause.verify_message}"
    return f"it can't be connected to: {str(error) or type(error).__name__}"


def _expiry(answer: httpx.Response) -> float | None:
    stream = answer.extensions.get("network_stream")
    found: Any = stream.get_extra_info("ssl_object") if stream is not None else None
    certificate = found.getpeercert() if found is not None else None
    return float(ssl.cert_time_to_seconds(certificate["notAfter"])) if certificate else None
