"""The small things that every body is made of: amounts, ids, addresses, times."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any

from hooktape.schemas.resources import gid_number

Node = Mapping[str, Any]
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Home:
    """What bodies take from the shop: the zone that their times are told in, and the currency of prices that name none."""

    zone: tzinfo = UTC
    currency: str = "USD"


Mapper = Callable[[Node, Home], Body]

_WHOLE = frozenset(["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"])
"""Currencies without a minor unit (ISO 4217): their amounts have no decimals in webhooks, and one in GraphQL."""
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def money(bag: Node | None) -> Body | None:
    """A `…_set`."""
    if bag is None:
        return None
    return {name: {"amount": amount(bag[field]["amount"], bag[field]["currencyCode"]), "currency_code": bag[field]["currencyCode"]}
            for name, field in (("shop_money", "shopMoney"), ("presentment_money", "presentmentMoney"))}  # fmt: skip


def in_shop(bag: Node) -> str | None:
    """The amount alone, in the shop's currency."""
    return amount(bag["shopMoney"]["amount"], bag["shopMoney"]["currencyCode"])


def amount(text: str | None, currency: str) -> str | None:
    """As webhooks write it: two decimals at least, none where the currency has none; GraphQL leaves zeros out ("398.0")."""
    if text is None:
        return None
    value = Decimal(text)
    if currency in _WHOLE and value == value.to_integral_value():
        return str(int(value))
    exponent = value.as_tuple().exponent
    return f"{value:.2f}" if isinstance(exponent, int) and exponent > -2 else str(value)


def number_of(text: str) -> int | float:
    """An amount as a JSON number, where Shopify has one: 199, 17.5."""
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() else float(value)


def address(node: Node) -> Body:
    return {
        "first_name": node["firstName"], "address1": node["address1"], "phone": node["phone"], "city": node["city"],
        "zip": node["zip"], "province": node["province"], "country": node["country"], "last_name": node["lastName"],
        "address2": node["address2"], "company": node["company"], "latitude": node["latitude"], "longitude": node["longitude"],
        "name": node["name"], "country_code": node["countryCodeV2"], "province_code": node["provinceCode"],
    }  # fmt: skip


def lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def tags(found: list[str]) -> str:
    return ", ".join(found)


def number(gid: str) -> int:
    """The id inside a global one."""
    return int(gid_number(gid))


def maybe(node: Node | None) -> int | None:
    """The id of what may not be there."""
    return None if node is None else number(node["id"])


def millis(text: str) -> str:
    """A time in UTC with milliseconds, as the few webhooks have it that don't tell it in the shop's zone."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(body: Body, home: Home) -> Body:
    """The body with its times in the shop's zone, as webhooks have them; GraphQL's are in UTC."""
    return {key: _local(key, value, home) for key, value in body.items()}


def _local(key: str, value: Any, home: Home) -> Any:
    # The one list of a body whose times are in UTC in webhooks too.
    if isinstance(value, dict):
        return local(value, home)
    if isinstance(value, list) and key != "variant_gids":
        return [_local(key, one, home) for one in value]
    if isinstance(value, str) and key.endswith(("_at", "_since")) and _INSTANT.fullmatch(value):
        return datetime.fromisoformat(value).astimezone(home.zone).isoformat()
    return value


def plain(value: Any) -> Any:
    """A value of a body in a form that doesn't depend on the zone that its times are told in."""
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        return datetime.fromisoformat(value).astimezone(UTC).isoformat()
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    return [plain(one) for one in value] if isinstance(value, list) else value
