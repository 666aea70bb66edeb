"""Which events: the one place where a selection is read from options, kept as JSON, and told to people.

`FIELDS` is the table that every face builds its options from, so that commands and the API take the same words.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from hooktape.errors import UsageError
from hooktape.ledger.where import compiled
from hooktape.times import iso, micros, parse_time

# A selection is kept with its job and goes into SQL: so many webhook ids (2 MB), so many of anything else.
_MOST_IDS = 50_000
_MOST = 1_000
# A listing names so many values of a field; a file of ids would fill the screen.
_SHOWN = 5
# Microseconds, both ways: the year 1, which is the first that Python can tell people of.
_FARTHEST = 62_135_596_800_000_000


class Status(StrEnum):
    """An event's status in a group, in the words of commands and pages."""

    PENDING = "pending"
    """Not handled yet; the group will come to it."""
    NEVER_SEEN = "never-seen"
    """No outcome, though the group has gone past it, or never read its topic: it won't be handled by itself."""
    HELD = "held"
    """Behind an earlier event of its resource that waits for its retry."""
    FAILED = "failed"
    """Failed, and waiting in a retry topic."""
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    STALE = "stale"
    DISCARDED = "discarded"


NO_ROW = (Status.PENDING, Status.NEVER_SEEN)
"""What SQL can't tell apart: the group has no outcome. Its committed offsets say which of the two it is."""


class Clock(StrEnum):
    """The time that `since` and `until` speak of."""

    RECEIVED = "received"
    TRIGGERED = "triggered"


class Kind(StrEnum):
    """What a field's value is."""

    TEXT = "text"
    TIME = "time"
    """ISO 8601, or a time ago (`2h`)."""
    NUMBER = "number"
    """A whole number, from 1."""
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Field:
    """A way to select: `name` is the option's and the query parameter's (with `_`), `attribute` the Selection's."""

    name: str
    attribute: str
    help: str
    kind: Kind = Kind.TEXT
    repeatable: bool = False
    choices: tuple[str, ...] = ()


FIELDS: tuple[Field, ...] = (
    Field("id", "ids", "Webhook id; repeatable.", repeatable=True),
    Field("topic", "topics", "Shopify topic, as in orders/create or orders/*; repeatable.", repeatable=True),
    Field("shop", "shops", "The shop's domain; acme is acme.myshopify.com; repeatable.", repeatable=True),
    Field("resource", "resources", "type/id, as in order/1001, or what belongs to it; repeatable.", repeatable=True),
    Field("since", "since", "From this time on: ISO 8601, or a time ago (2h, 3d).", Kind.TIME),
    Field("until", "until", "Before this time.", Kind.TIME),
    Field("clock", "clock", "Whose time: ours (received, the default), or Shopify's (triggered).", Kind.CHOICE, choices=tuple(Clock)),
    Field("status", "statuses", "In the group. pending: still to come; never-seen: the group went past it, or never read its topic; "
          "held: behind an earlier event of its resource; failed: in a retry topic; succeeded, dead, stale, discarded; repeatable.",
          Kind.CHOICE, repeatable=True, choices=tuple(Status)),
    Field("error_group", "error_groups", "Failed of this cause in the group (`hooktape dlq groups`); repeatable.", repeatable=True),
    Field("attempts", "attempts", "Tried at least so often in the group.", Kind.NUMBER),
    Field("source", "sources", "webhook, reconciler or import; repeatable.", repeatable=True),
    Field("where", "where", "JMESPath over the body, as in \"to_number(total_price) > `100`\" (Shopify's money is text)."),
)  # fmt: skip
"""Every way to select, in the order in which help shows them."""


@dataclass(frozen=True, slots=True)
class Selection:
    """All fields given must hold; within a field, any of its values.

    `ids` are webhook ids; `topics` are Shopify's and may hold `*` (`orders/*`); `resources` are `type/id` and match the
    resource or what it belongs to. `since` is included, `until` isn't (microseconds UTC), by `clock`. `statuses`,
    `error_groups` and `attempts` (at least so many) need a group where the selection is used. `where` is JMESPath over the body.
    """

    ids: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    shops: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    clock: Clock = Clock.RECEIVED
    statuses: tuple[Status, ...] = ()
    error_groups: tuple[str, ...] = ()
    attempts: int | None = None
    sources: tuple[str, ...] = ()
    where: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing narrows it: it stands for every event."""
        return self == Selection(clock=self.clock)

    @property
    def needs_group(self) -> bool:
        """Whether it asks for what only a group's outcomes can answer."""
        return bool(self.statuses or self.error_groups or self.attempts)

    @property
    def takes_no_outcome(self) -> bool:
        """Whether a status that it asks for is that of events without an outcome."""
        return any(status in NO_ROW for status in self.statuses)

    @property
    def needs_tape(self) -> bool:
        """Whether SQL alone can't say what is selected: bodies and committed offsets lie on Kafka (`replayer.finding.Finder`)."""
        return bool(self.where) or len(set(NO_ROW).intersection(self.statuses)) == 1

    def in_sql(self) -> "Selection":
        """What SQL can say of it: as much or more is selected, and whoever asks so sorts out the rest."""
        without = tuple(dict.fromkeys(s for given in self.statuses for s in (NO_ROW if given in NO_ROW else (given,))))
        return replace(self, where="", statuses=without)

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
            return _checked(msgspec.convert(found, cls))
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise UsageError(f"This isn't a selection ({error}): {text[:200]}") from None

    @classmethod
    def parse(cls, options: Mapping[str, Any], now: datetime | None = None) -> "Selection":
        """From a command's options or a request's query: names in the singular or the plural, `-` or `_`.

        A value is a text or a list of texts; those of repeatable fields may hold several, with commas between; empty ones and None
        are left out. `since` and `until` are times as `hooktape.times.parse_time` reads them; `now` is what `2h` counts from
        (None: the clock). Raises UsageError.
        """
        given: dict[str, list[str]] = {}
        for name, value in options.items():
            if value is None or value in ("", [], ()):
                continue
            if (field := _NAMES.get(name.replace("-", "_"))) is None:
                raise UsageError(f"Events can't be selected by {name!r}. Use {', '.join(f.name for f in FIELDS)}.")
            given.setdefault(field.name, []).extend(_words(value, field.repeatable))
        return _checked(cls(**{field.attribute: _read(field, given[field.name], now) for field in FIELDS if given.get(field.name)}))

    def describe(self) -> str:
        """In words, for a confirmation or a list of jobs."""
        parts = [f"{field.name.replace('_', ' ')} {_listed(values)}" for field in FIELDS
                 if field.repeatable and (values := getattr(self, field.attribute))]  # fmt: skip
        if self.attempts is not None:
            parts.append(f"at least {self.attempts} attempts")
        if self.since is not None:
            parts.append(f"{self.clock} since {iso(self.since)}")
        if self.until is not None:
            parts.append(f"{self.clock} before {iso(self.until)}")
        if self.where:
            parts.append(f"where {self.where}")
        return ", ".join(parts) or "every event"


def read_ids(lines: Iterable[bytes], name: str) -> tuple[str, ...]:
    """Webhook ids from a file, one a line; empty lines are left out. Raises UsageError that names the line, or for a file without any.

    `name` is the file's, for the error.
    """
    found: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        try:
            word = line.decode().strip()
        except UnicodeDecodeError:
            raise UsageError(f"Line {number} of {name} isn't text in UTF-8.") from None
        # No longer than a header that ingest takes, and a byte order mark or a comma tells of another kind of file.
        if len(word) > 255 or not word.isprintable() or any(c in word for c in ' ,;"'):
            raise UsageError(f"Line {number} of {name} isn't a webhook id: {word[:60]!r}. Write one a line, and nothing else.")
        if word:
            found[word] = None
    if not found:
        raise UsageError(f"{name} holds no webhook id.")
    return tuple(found)


def shop_domain(word: str) -> str:
    """`acme` → `acme.myshopify.com`; a domain as it is, in lower case."""
    word = word.strip().lower()
    return word if "." in word else f"{word}.myshopify.com"


_NAMES = {name: field for field in FIELDS for name in (field.name, field.attribute)}
# What lies in retry topics, in one word.
_ALIASES = {"waiting": (Status.FAILED, Status.HELD)}


def _read(field: Field, words: list[str], now: datetime | None) -> Any:
    if not field.repeatable and len(words) != 1:
        raise UsageError(f"Give `{field.name}` once.")
    if field.kind is Kind.TIME:
        return micros(parse_time(words[0], now))
    if field.kind is Kind.NUMBER:
        if not re.fullmatch(r"0*[1-9][0-9]{0,5}", words[0]):
            raise UsageError(f"`{field.name}` is a whole number from 1, not {words[0]!r}.")
        return int(words[0])
    if field.attribute == "clock":
        return _choice(Clock, words[0], "clock")
    if field.attribute == "statuses":
        return tuple(dict.fromkeys(s for word in words for s in _ALIASES.get(word) or (_choice(Status, word, "status"),)))
    if field.attribute == "shops":
        return tuple(dict.fromkeys(shop_domain(word) for word in words))
    return tuple(dict.fromkeys(words)) if field.repeatable else words[0]


def _checked(chosen: Selection) -> Selection:
    for field in FIELDS:
        most = _MOST_IDS if field.attribute == "ids" else _MOST
        if field.repeatable and (number := len(getattr(chosen, field.attribute))) > most:
            raise UsageError(f"{number:,} values of `{field.name}` are too many: {most:,} are the most. Select in parts.")
    if chosen.attempts is not None and chosen.attempts < 1:
        raise UsageError("`attempts` is a whole number from 1.")
    if any(abs(moment or 0) > _FARTHEST for moment in (chosen.since, chosen.until)):
        raise UsageError("`since` and `until` are microseconds since 1970.")
    if chosen.since is not None and chosen.until is not None and chosen.since >= chosen.until:
        raise UsageError(f"`since` ({iso(chosen.since)}) must lie before `until` ({iso(chosen.until)}).")
    if chosen.where:
        compiled(chosen.where)
    return chosen


def _words(given: Any, repeatable: bool) -> list[str]:
    texts = [given] if isinstance(given, str | int) else list(given)
    parts = [part for text in texts for part in (str(text).split(",") if repeatable else [str(text)])]
    return [word for part in parts if (word := part.strip())]


def _choice(kind: type[StrEnum], word: str, name: str) -> Any:
    try:
        return kind(word)
    except ValueError:
        raise UsageError(f"{word!r} isn't a {name}. Use {', '.join(kind)}.") from None


def _listed(values: tuple[str, ...]) -> str:
    if len(values) <= _SHOWN:
        return " or ".join(values)
    return f"{' or '.join(values[:_SHOWN])} or {len(values) - _SHOWN:,} more"
