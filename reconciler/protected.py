"""What Shopify keeps from an app that isn't approved for it: the names, addresses, mail and phone numbers of customers. Pure.

Each such member is answered with null, and `errors` says where (shopify.dev/docs/apps/launch/protected-customer-data):

    {"data":   {"nodes": [{"id": …, "email": null}]},
     "errors": [{"message": "This app is not approved to use the email field. …", "path": ["nodes", 0, "email"]}]}

That null doesn't say that a customer has no mail: an event that did would have a handler erase what it knows. So the place is
marked, the mark goes through the mappers like any value, and the body ends up without that member.
"""

from collections.abc import Mapping, Sequence
from typing import Any

REASON = "protected"
"""Why a question was refused, where all that it asks for is withheld."""
_WORDS = "not approved to"
_KINDS = {
    "name": "firstName lastName name displayName recipient",
    "address": (
        "billingAddress shippingAddress defaultAddress address1 address2 city company country countryCodeV2 latitude longitude province "
        "provinceCode zip zoneCode"
    ),
    "email": "email emailAddress defaultEmailAddress",
    "phone": "phone phoneNumber defaultPhoneNumber",
    "customer": "customer",
    "order": "originOrder",
}
_KIND_OF = {field: kind for kind, fields in _KINDS.items() for field in fields.split()}


class Hidden:
    """Stands where something is withheld. False, as null is."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "HIDDEN"


HIDDEN = Hidden()


def is_refusal(message: str) -> bool:
    """Whether an error's message speaks of protected data, and not of scopes, which are asked for elsewhere."""
    return _WORDS in message


def hide(data: Any, errors: Sequence[Mapping[str, Any]]) -> frozenset[str] | None:
    """Marks in `data` what the errors say is withheld: of what kinds that is (`name`, `address`, `email`, `phone`,
    `customer`, `order`).

    None, and nothing is marked, where an error is about anything else, or about what no body can do without.
    """
    found: list[tuple[dict[str, Any], str]] = []
    for error in errors:
        path = error.get("path")
        place = _null(data, path) if is_refusal(str(error.get("message", ""))) and isinstance(path, list) else None
        if place is None or place[1] not in _KIND_OF:
            return None
        found.append(place)
    for holder, field in found:
        holder[field] = HIDDEN
    return frozenset(_KIND_OF[field] for _, field in found)


def shown(value: Any) -> Any:
    """A body without what is withheld."""
    if isinstance(value, dict):
        return {key: shown(one) for key, one in value.items() if one is not HIDDEN}
    return [shown(one) for one in value] if isinstance(value, list) else value


def _null(data: Any, path: Sequence[Any]) -> tuple[dict[str, Any], str] | None:
    """The object and its member that is null, on the way or at its end: what can't be null by the schema takes along what it's in."""
    for step in path:
        try:
            value = data[step]
        except (KeyError, IndexError, TypeError):
            return None
        if value is None:
            return (data, str(step)) if isinstance(data, dict) else None
        data = value
    return None
