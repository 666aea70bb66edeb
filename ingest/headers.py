"""What a delivery's headers say. Nothing of it is signed: a name is looked for, checked for shape, and believed no further.

Shopify has two families, `X-Shopify-*` and (Events) `Shopify-*`; its test helpers send both at once, so the newer is looked
for first. Events name the resource (`Product`) and the action (`update`) apart.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from hooktape.ingest.outcome import Outcome
from hooktape.schemas.topics import from_events_header
from hooktape.times import LATEST, micros

Raw = Iterable[tuple[bytes, bytes]]
"""Names in lower case, as ASGI gives them."""

_OLD, _NEW = "x-shopify-", "shopify-"
_FAMILIES = (_OLD.encode(), _NEW.encode())
_ONCE = frozenset(
    family + name
    for family in (_OLD, _NEW)
    for name in ("hmac-sha256", "topic", "action", "shop-domain", "webhook-id")
)
_SIGNATURES = frozenset((_OLD + "hmac-sha256", _NEW + "hmac-sha256"))
# RFC 1123 labels, at least two: the shop becomes part of Kafka keys and of lanes' names.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})+")
# Far beyond any of Shopify's, and short enough for a Kafka header and a log line.
_LONGEST = 255


class Claims(msgspec.Struct, gc=False):
    """The Shopify headers of a request by lower-case name, and which of them stood more than once."""

    found: dict[str, str]
    repeated: frozenset[str]
    content_length: int


class Delivery(msgspec.Struct, gc=False):
    """The headers that name a delivery. `headers` holds, verbatim, all that these fields don't."""

    shop: str
    topic: str
    webhook_id: str
    event_id: str | None
    api_version: str | None
    triggered_us: int | None
    headers: dict[str, str]


_NONE: frozenset[str] = frozenset()


def collect(raw: Raw) -> Claims:
    """One pass over the request's headers. Repeated ones are joined as HTTP says (RFC 9110 §5.3)."""
    found: dict[str, str] = {}
    repeated = _NONE
    length = 0
    for name, value in raw:
        if name.startswith(_FAMILIES):
            key = name.decode("latin-1")
            if key in found:
                repeated |= {key}
                found[key] += ", " + value.decode("latin-1")
            else:
                found[key] = value.decode("latin-1")
        elif name == b"content-length":
            length = int(value)  # the HTTP parser let digits through only
    return Claims(found, repeated, length)


def signature(claims: Claims) -> bytes | Outcome:
    """The signature as received, or why there's none."""
    if claims.repeated and claims.repeated & _SIGNATURES:
        return Outcome.REPEATED_HEADER
    text = _pick(claims.found, "hmac-sha256")
    return text.encode("latin-1") if text else Outcome.BAD_SIGNATURE


def identify(claims: Claims) -> Delivery | Outcome:
    """The delivery that the headers claim to be, or what's wrong with them."""
    if claims.repeated and claims.repeated & _ONCE:
        return Outcome.REPEATED_HEADER
    found = claims.found
    topic, domain, webhook_id = _topic(found), _pick(found, "shop-domain"), _pick(found, "webhook-id")
    if not (topic and domain and webhook_id):
        return Outcome.MISSING_HEADER
    shop = host_name(domain)
    if shop is None or not _sane(topic) or not _sane(webhook_id):
        return Outcome.BAD_HEADER
    event_id, version = _pick(found, "event-id") or None, _pick(found, "api-version") or None
    kept = found.copy()
    # A header whose value a field holds letter for letter needn't be stored twice; any other stays as it came.
    for name, value in (("x-shopify-hmac-sha256", _pick(found, "hmac-sha256")), ("x-shopify-topic", topic),
                        ("x-shopify-shop-domain", shop), ("x-shopify-webhook-id", webhook_id),
                        ("x-shopify-event-id", event_id), ("x-shopify-api-version", version)):  # fmt: skip
        if value is not None and kept.get(name) == value:
            del kept[name]
    return Delivery(shop, topic, webhook_id, event_id, version, _instant(_pick(found, "triggered-at")), kept)


@lru_cache(maxsize=4096)  # shops repeat; an attacker's inventions push each other out
def host_name(domain: str) -> str | None:
    """`domain` in lower case, or None when it's no host name."""
    lower = domain.lower()
    return lower if _HOST.fullmatch(lower) else None


def _topic(found: dict[str, str]) -> str:
    classic = found.get("x-shopify-topic", "").strip()
    named, action = found.get("shopify-topic", "").strip(), found.get("shopify-action", "").strip()
    if not named:
        return classic
    if not action:
        return named
    # An event of a resource that has no classic topic keeps Shopify's own words, and goes to the log of others.
    return classic or from_events_header(named, action) or f"{named}/{action}"


def _pick(found: dict[str, str], name: str) -> str:
    return (found.get(_NEW + name) or found.get(_OLD + name) or "").strip()


def _sane(text: str) -> bool:
    return len(text) <= _LONGEST and text.isprintable()


def _instant(text: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        value = micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
    return value if 0 <= value <= LATEST else None
