"""Which events: the one place where a selection is read from options, kept as JSON, and told to people."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from hooktape.errors import UsageError
from hooktape.times import iso, micros, parse_time


class Status(StrEnum):
    """An event's status in a group, in the words of commands and pages."""

    PENDING = "pending"
    """Not handled yet, or being handled."""
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    STALE = "stale"
    DISCARDED = "discarded"


class Clock(StrEnum):
    """The time that `since` and `until` speak of."""

    RECEIVED = "received"
    TRIGGERED = "triggered"


@dataclass(frozen=True, slots=True)
class Selection:
    """All fields given must hold; within a field, any of its values.

    `ids` are webhook ids; `topics` are Shopify's and may hold `*` (`orders/*`); `resources` are `type/id` and match the
    resource or what it belongs to. `since` is included, `until` isn't (microseconds UTC), by `clock`. `statuses` and
    `error_group` need a group where the selection is used.
    """

    ids: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    shops: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    clock: Clock = Clock.RECEIVED
    statuses: tuple[Status, ...] = ()
    sources: tuple[str, ...] = ()
    error_group: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing narrows it: it stands for every event."""
        return self == Selection(clock=self.clock)

    @property
    def needs_group(self) -> bool:
        """Whether it asks for what only a group's outcomes can answer."""
        return bool(self.statuses or self.error_group)

    def to_json(self) -> str:
        """The fields that are set, as JSON; `from_json` reads it back."""
        return json.dumps({k: v for k, v in asdict(self).items() if v not in ((), None, "")}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Selection":
        """Raises UsageError when the text isn't a selection."""
        try:
            found = msgspec.json.decode(text, type=dict[str, Any])
            if unknown := set(found) - {f.name for f in fields(cls)}:
                raise UsageError(f"A selection has no field {', '.join(sorted(unknown))}.")
            return msgspec.convert(found, cls)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise UsageError(f"This isn't a selection ({error}): {text[:200]}") from None

    @classmethod
    def parse(cls, options: Mapping[str, Any], now: datetime | None = None) -> "Selection":
        """From a command's options or a request's query: names in the singular or the plural, `-` or `_`.

        A value is a text or a list of texts; texts may hold several, with commas between; empty ones and None are left
        out. `since` and `until` are times as `hooktape.times.parse_time` reads them; `now` is
        what `2h` counts from (None: the clock). Raises UsageError.
        """
        values: dict[str, Any] = {}
        for name, given in options.items():
            if given is None or given == "" or given == [] or given == ():
                continue
            field_name = _FIELDS.get(name.replace("-", "_"))
            if field_name is None:
                raise UsageError(f"Events can't be selected by {name!r}. Use {', '.join(sorted(set(_FIELDS.values())))}.")
            words = _words(given)
            if field_name in ("since", "until", "clock", "error_group"):
                if len(words) != 1 or field_name in values:
                    raise UsageError(f"Give `{name}` once.")
                values[field_name] = words[0]
            else:
                values[field_name] = (*values.get(field_name, ()), *words)
        for name in ("since", "until"):
            if name in values:
                values[name] = micros(parse_time(values[name], now))
        if "clock" in values:
            values["clock"] = _choice(Clock, values["clock"], "clock")
        if "statuses" in values:
            values["statuses"] = tuple(dict.fromkeys(_choice(Status, _ALIASES.get(s, s), "status") for s in values["statuses"]))
        if "shops" in values:
            values["shops"] = tuple(shop.lower() for shop in values["shops"])
        chosen = cls(**values)
        if chosen.since is not None and chosen.until is not None and chosen.since >= chosen.until:
            raise UsageError(f"`since` ({iso(chosen.since)}) must lie before `until` ({iso(chosen.until)}).")
        return chosen

    def describe(self) -> str:
        """In words, for a confirmation or a list of jobs."""
        parts = [f"{label} {' or '.join(values)}" for label, values in (
            ("id", self.ids), ("topic", self.topics), ("shop", self.shops), ("resource", self.resources),
            ("status", self.statuses), ("source", self.sources)) if values]  # fmt: skip
        if self.error_group:
            parts.append(f"error group {self.error_group}")
        if self.since is not None:
            parts.append(f"{self.clock} since {iso(self.since)}")
        if self.until is not None:
            parts.append(f"{self.clock} before {iso(self.until)}")
        return ", ".join(parts) or "every event"


_FIELDS = {
    "id": "ids", "ids": "ids", "webhook_id": "ids", "topic": "topics", "topics": "topics", "shop": "shops", "shops": "shops",
    "resource": "resources", "resources": "resources", "since": "since", "until": "until", "clock": "clock",
    "status": "statuses", "statuses": "statuses", "source": "sources", "sources": "sources", "error_group": "error_group",
}  # fmt: skip
# "failed" is what most people call it.
_ALIASES = {"failed": "dead"}


def _words(given: Any) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str | int) else list(given)
    return tuple(word.strip() for text in texts for word in str(text).split(",") if word.strip())


def _choice(kind: type[StrEnum], word: str, name: str) -> Any:
    try:
        return kind(word)
    except ValueError:
        raise UsageError(f"{word!r} isn't a {name}. Use {', '.join(kind)}.") from None
