"""Which resource a webhook is about, which version of it, and what it belongs to: best effort, from the body alone.

A typed decoder reads the few members that matter and skips the rest, so that a 4 KiB order costs microseconds. What
can't be found is None and never an error: the body is evidence, not input to validate.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from hooktape.times import LATEST, micros

_Scalar = int | str | None


@dataclass(frozen=True, slots=True)
class Resource:
    """`name` and `root` as `type/id`; `version` in microseconds since the epoch."""

    name: str | None = None
    root: str | None = None
    version: int | None = None


NOTHING = Resource()


class _Ref(msgspec.Struct):
    id: _Scalar = None
    order_id: _Scalar = None


class _Body(msgspec.Struct):
    """The members that any rule below looks at. An unexpected type makes the whole body "nothing found"."""

    id: _Scalar = None
    admin_graphql_api_id: str | None = None
    updated_at: str | None = None
    created_at: str | None = None
    order_id: _Scalar = None
    product_id: _Scalar = None
    customer_id: _Scalar = None
    inventory_item_id: _Scalar = None
    location_id: _Scalar = None
    token: str | None = None


class _CustomerBody(_Body):
    customer: _Ref | None = None
    customerId: _Scalar = None


class _SegmentBody(_Body):
    lastEditDate: str | None = None


class _OrderBody(_Body):
    order_edit: _Ref | None = None


class _FulfillmentOrderBody(_Body):
    fulfillment_order: _Ref | None = None
    original_fulfillment_order: _Ref | None = None
    submitted_fulfillment_order: _Ref | None = None
    moved_fulfillment_order: _Ref | None = None


class _ReturnBody(_Body):
    order: _Ref | None = None


# First word of the topic → (resource's type, member that names the root, the root's type). Everything else is its own root.
_BELONGS = {
    "refunds": ("refund", "order_id", "order"),
    "fulfillments": ("fulfillment", "order_id", "order"),
    "fulfillment_events": ("fulfillment_event", "order_id", "order"),
    "order_transactions": ("order_transaction", "order_id", "order"),
    "returns": ("return", "order_id", "order"),
    "variants": ("variant", "product_id", "product"),
    "inventory_levels": ("inventory_level", "inventory_item_id", "inventory_item"),
}
# Topics about the shop or the app itself: one lane per shop.
_SHOP_WIDE = {"app", "shop", "bulk_operations", "locales", "domains", "app_subscriptions", "app_purchases_one_time"}
_DECODERS: dict[str, msgspec.json.Decoder[_Body]] = {
    "customers": msgspec.json.Decoder(_CustomerBody),
    "customer": msgspec.json.Decoder(_CustomerBody),
    "orders": msgspec.json.Decoder(_OrderBody),
    "fulfillment_orders": msgspec.json.Decoder(_FulfillmentOrderBody),
    "returns": msgspec.json.Decoder(_ReturnBody),
    "segments": msgspec.json.Decoder(_SegmentBody),
}
_PLAIN: msgspec.json.Decoder[_Body] = msgspec.json.Decoder(_Body)


def find(topic: str, payload: bytes) -> Resource:
    """The resource of a webhook body; `NOTHING` for what isn't JSON, is nested too deeply or has none."""
    family = topic.partition("/")[0].partition(".")[0]
    try:
        body = _DECODERS.get(family, _PLAIN).decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return NOTHING
    name, root = _identify(topic, family, body)
    return Resource(name, root, _instant(body.updated_at) or _stamp(family, body))


def own_root(family: str) -> bool:
    """Whether what the webhooks of `family/…` are about is its own root, so that its name is in their Kafka key."""
    return family not in _BELONGS and family not in _SHOP_WIDE and family != "fulfillment_orders"


def _identify(topic: str, family: str, body: _Body) -> tuple[str | None, str | None]:
    if family in _SHOP_WIDE:
        # The body of app/uninstalled and of shop/update is the shop.
        return _join("shop" if family == "app" else singular(family), _id(body.id)), None
    if isinstance(body, _CustomerBody):
        found = _id(body.customer.id if body.customer else None) or _id(body.customerId) or _id(body.customer_id)
        name = _join("customer", found or _id(body.id))
        return name, name
    if isinstance(body, _FulfillmentOrderBody):
        nested = (body.fulfillment_order or body.original_fulfillment_order or body.submitted_fulfillment_order
                  or body.moved_fulfillment_order)  # fmt: skip
        name = _join("fulfillment_order", _id(nested.id if nested else body.id))
        order = _id(nested.order_id if nested else None) or _id(body.order_id)
        return name, _join("order", order) or name
    if isinstance(body, _OrderBody) and body.order_edit:
        return _join("order_edit", _id(body.order_edit.id)), _join("order", _id(body.order_edit.order_id))
    if family == "inventory_levels":
        item, location = _id(body.inventory_item_id), _id(body.location_id)
        return (f"inventory_level/{item}-{location}" if item and location else None), _join("inventory_item", item)
    if family in _BELONGS:
        kind, member, root_kind = _BELONGS[family]
        root = _id(getattr(body, member))
        if isinstance(body, _ReturnBody) and body.order:
            root = root or _id(body.order.id)
        name = _join(kind, _id(body.id) or _id(body.admin_graphql_api_id))
        return name, _join(root_kind, root) or name
    name = _join(singular(family), _id(body.id) or _id(body.admin_graphql_api_id) or _id(body.token))
    return name, name


def singular(word: str) -> str:
    """`orders` → `order`, `companies` → `company`; for Shopify's topic words, not for English at large."""
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def gid_number(gid: str) -> str:
    """The id inside a global id: `gid://shopify/Order/1?x=2` → `1`; any other text as it is."""
    return gid.rsplit("/", 1)[-1].partition("?")[0] if gid.startswith("gid://") else gid


def _id(value: _Scalar) -> str | None:
    if value is None or value == "":
        return None
    text = gid_number(str(value))
    # An id is part of the Kafka key and of a lane's name: what no Shopify id looks like isn't one.
    return text if len(text) <= 128 and text.isprintable() and "/" not in text else None


def _join(kind: str, found: str | None) -> str | None:
    return f"{kind}/{found}" if found else None


# Entities that are written once: their creation is their version (webhook bodies of refunds and transactions have no updated_at).
_WRITTEN_ONCE = {"refunds", "order_transactions", "fulfillment_events"}


def _stamp(family: str, body: _Body) -> int | None:
    if isinstance(body, _SegmentBody):
        return _instant(body.lastEditDate)
    return _instant(body.created_at) if family in _WRITTEN_ONCE else None


def _instant(text: str | None) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    value = micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    # Some write "never" as the year 1: as a version it would be older than nothing at all, and stale.
    return value if 0 <= value <= LATEST else None
