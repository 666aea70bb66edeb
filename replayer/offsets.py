"""Where an offset reset takes a group, in the words and the files of `kafka-consumer-groups`. Pure."""

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from hooktape.errors import NothingMatched, UsageError
from hooktape.schemas import topics as shopify
from hooktape.tape.names import Kind, Names
from hooktape.tape.reader import Partition

_PARTITIONS = re.compile(r"\d+(,\d+)*")
# Kafka's writer puts longer texts into quotes without looking at them (jackson-dataformat-csv, MAX_QUOTE_CHECK).
_QUOTED = 24


class To(StrEnum):
    """Where the offsets go; `Target.value` is what the comment says."""

    EARLIEST = "earliest"
    LATEST = "latest"
    CURRENT = "current"  # where they are; the end where nothing was ever committed
    TIME = "time"  # milliseconds since the epoch: the first record appended at or after
    OFFSET = "offset"  # the offset
    SHIFT = "shift"  # how many records, negative: back
    PLACES = "places"  # `Target.places` says it for each partition: a file, or offsets that were saved


@dataclass(frozen=True, slots=True)
class Target:
    """What `--to-…`, `--shift-by` and `--from-file` say."""

    to: To
    value: int = 0
    places: Mapping[Partition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """One partition: from `current` (None: never committed) to `new`, which is `wanted` held within what the partition has.

    `end` is where the group would come to the end: what a group without an offset will see reaches up to there.
    """

    topic: str
    partition: int
    current: int | None
    new: int
    wanted: int
    end: int

    @property
    def place(self) -> Partition:
        return self.topic, self.partition

    @property
    def seen_to(self) -> int:
        """Up to where the group has come already."""
        return self.end if self.current is None else self.current

    @property
    def again(self) -> int:
        """Records that the group will see (again, unless it never committed an offset here)."""
        return max(0, self.seen_to - self.new)

    @property
    def skipped(self) -> int:
        """Records that the group won't see."""
        return max(0, self.new - self.seen_to)

    @property
    def between(self) -> tuple[int, int]:
        """The offsets [low, high) that it's about."""
        return min(self.new, self.seen_to), max(self.new, self.seen_to)


@dataclass(frozen=True, slots=True)
class Places:
    """What deciding needs of the broker; `at_time` only for a time."""

    committed: Mapping[Partition, int]
    lows: Mapping[Partition, int]
    ends: Mapping[Partition, int]
    at_time: Mapping[Partition, int] = field(default_factory=dict)


def decide(target: Target, places: Places) -> list[Move]:
    """The new offset of each partition in `places.ends`, held within what the partition has.

    Raises UsageError for a shift where nothing was ever committed: there's nothing to shift from.
    """
    return [_move(target, partition, places) for partition in sorted(places.ends)]


def _move(target: Target, partition: Partition, places: Places) -> Move:
    current = places.committed.get(partition)
    low, end = places.lows[partition], places.ends[partition]
    match target.to:
        case To.EARLIEST:
            wanted = low
        case To.LATEST:
            wanted = end
        case To.CURRENT:
            wanted = end if current is None else current
        case To.TIME:
            wanted = places.at_time[partition]
        case To.OFFSET:
            wanted = target.value
        case To.PLACES:
            wanted = target.places[partition]
        case To.SHIFT:
            if current is None:
                raise UsageError(f"{partition[0]}/{partition[1]} has no committed offset to shift from. Use --to-earliest or a time.")
            wanted = current + target.value
    return Move(*partition, current, min(end, max(low, wanted)), wanted, end)


# ── which partitions ────────────────────────────────────────────────────────────────────────────────────────────────
def choose(names: Names, words: Iterable[str], known: Collection[Partition]) -> set[Partition]:
    """The partitions that `--topic` means: `orders/create`, `orders/*`, a Kafka topic's name, each with `:0,2` behind it or not.

    `known` are the partitions of all topics on the broker. Raises UsageError for a topic that Shopify doesn't know or that isn't
    of the log, NothingMatched for one that Kafka hasn't got.
    """
    chosen: set[Partition] = set()
    for word in words:
        name, colon, numbers = word.partition(":")
        if colon and not _PARTITIONS.fullmatch(numbers):
            raise UsageError(f"{word!r} names no partitions. Write {name}:0,2 for partitions 0 and 2, or {name} for all.")
        wanted = {int(number) for number in numbers.split(",")} if colon else None
        for topic in _topics(names, name, {topic for topic, _ in known}):
            held = {number for of, number in known if of == topic}
            if missing := (wanted or set()) - held:
                raise NothingMatched(f"{topic} has no partition {min(missing)}: it has {len(held)}, counted from 0.")
            chosen |= {(topic, number) for number in (held if wanted is None else wanted)}
    return chosen


def _topics(names: Names, name: str, known: set[str]) -> list[str]:
    if "*" in name or "/" in name:
        # fnmatch's other wildcards mean themselves here.
        pattern = name.replace("[", "[[]").replace("?", "[?]")
        rows = [row for row in shopify.table().values() if fnmatchcase(row.topic, pattern)]
        if not rows:
            raise UsageError(f"{name!r} is no Shopify topic. Write orders/create, orders/*, or the Kafka topic's name.")
        found = [names.log(row.kafka_name) for row in rows if names.log(row.kafka_name) in known]
        if not found:
            raise NothingMatched(f"{name} has no topic of its own on this Kafka. Its events, if there are any, are in {names.other}.")
        return found
    if name not in known:
        raise NothingMatched(f"Kafka has no topic {name}.")
    if not is_log(names, name):
        raise UsageError(f"{name} isn't a part of the tape. Only the offsets of {names.log('*')} are reset: what lies in retry, "
                         "replay and dead-letter topics has had its turn.")  # fmt: skip
    return [name]


def is_log(names: Names, topic: str) -> bool:
    """Whether a Kafka topic is a part of the tape."""
    parsed = names.parse(topic)
    return parsed is not None and parsed.kind is Kind.LOG


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def to_csv(plans: Mapping[str, Sequence[Move]]) -> str:
    """Group → moves, as `kafka-consumer-groups --export` writes them: `topic,partition,offset`, with the group in front where there
    are several groups. No header."""
    lines = [
        ",".join([*([_text(group)] if len(plans) > 1 else []), _text(move.topic), str(move.partition), str(move.new)])
        for group, moves in plans.items() for move in moves
    ]  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def _text(text: str) -> str:
    # Names of groups and topics hold nothing that would need to be escaped.
    return f'"{text}"' if len(text) > _QUOTED else text


def from_csv(text: str, group: str) -> dict[Partition, int]:
    """The offsets of `group` in a file that `--export` or `kafka-consumer-groups --export` wrote, of one group or of several.

    Raises UsageError for anything else, NothingMatched where the file is of other groups.
    """
    found: dict[Partition, int] = {}
    others: set[str] = set()
    rows = [(number, row) for number, row in enumerate(csv.reader(io.StringIO(text)), 1) if row]
    width = len(rows[0][1]) if rows else 0
    for number, row in rows:
        if width not in (3, 4) or len(row) != width:
            raise UsageError(f"line {number} of the file isn't topic,partition,offset or group,topic,partition,offset.")
        *of, topic, partition, offset = row
        try:
            place, value = (topic, int(partition)), int(offset)
        except ValueError:
            raise UsageError(f"line {number} of the file has a partition or an offset that isn't a number.") from None
        if of and of[0] != group:
            others.add(of[0])
        elif found.setdefault(place, value) != value:
            raise UsageError(f"line {number} of the file gives {topic}/{partition} a second offset.")
    if not found:
        whose = f": it's of {', '.join(sorted(others))}" if others else ": it's empty"
        raise NothingMatched(f"The file has no offsets of group {group}{whose}.")
    return found
