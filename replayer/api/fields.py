"""The ways to select, as the ledger's Selection reads them."""

from dataclasses import dataclass
from enum import StrEnum

from hooktape.ledger.selection import Clock, Status


class Kind(StrEnum):
    TEXT = "text"
    TIME = "time"
    NUMBER = "number"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    attribute: str
    help: str
    kind: Kind = Kind.TEXT
    repeatable: bool = False
    choices: tuple[str, ...] = ()


FIELDS: tuple[Field, ...] = (
    Field("id", "ids", "Webhook id; repeatable.", repeatable=True),
    Field("topic", "topics", "Shopify topic, as in orders/create or orders/*; repeatable.", repeatable=True),
    Field("shop", "shops", "The shop's domain; repeatable.", repeatable=True),
    Field("resource", "resources", "type/id, as in order/1001, or what belongs to it; repeatable.", repeatable=True),
    Field("since", "since", "From this time on: ISO 8601, or a time ago (2h, 3d).", Kind.TIME),
    Field("until", "until", "Before this time.", Kind.TIME),
    Field("clock", "clock", "Whose time: ours (received, the default), or Shopify's (triggered).", Kind.CHOICE, choices=tuple(Clock)),
    Field("status", "statuses", "In the group; repeatable.", Kind.CHOICE, repeatable=True, choices=tuple(Status)),
    Field("error_group", "error_group", "Failed of this cause in the group."),
    Field("source", "sources", "webhook, reconciler or import; repeatable.", repeatable=True),
)  # fmt: skip
