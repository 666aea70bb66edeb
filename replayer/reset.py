"""Offset reset: the second way to replay, in the language of Kafka's own tool. Deciding where to is pure.

It refuses a live group, keeps the old offsets in the audit trail, marks what lies between as to be run again (the ledger
would skip it silently), and looks afterwards at what the broker really stored.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hooktape.errors import NotAllowed, NothingMatched, NotOurs, TapeError, UsageError
from hooktape.ledger.checks import FINISHED
from hooktape.ledger.keys import new_id
from hooktape.ledger.ledger import Ledger
from hooktape.schemas import topics as shopify
from hooktape.schemas.event import EventKey
from hooktape.settings import Settings
from hooktape.tape import groups
from hooktape.tape.names import Kind, Names, check_group
from hooktape.tape.reader import Partition, Reader, Span
from hooktape.tape.wire import Wire


class To(StrEnum):
    """Where the offsets go; `Target.value` is what the comment says."""

    EARLIEST = "earliest"
    LATEST = "latest"
    TIME = "time"  # milliseconds since the epoch: the first record appended at or after
    OFFSET = "offset"  # the offset
    SHIFT = "shift"  # how many records, negative: back


@dataclass(frozen=True, slots=True)
class Target:
    """What `--to-…` and `--shift-by` say."""

    to: To
    value: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """One partition: from `current` (None: never committed) to `new`."""

    topic: str
    partition: int
    current: int | None
    new: int

    @property
    def again(self) -> int:
        """Events that the group will see again."""
        return max(0, (self.current or 0) - self.new)

    @property
    def skipped(self) -> int:
        """Events that the group won't see."""
        return max(0, self.new - self.current) if self.current is not None else 0


@dataclass(frozen=True, slots=True)
class Places:
    """What deciding needs of the broker; `at_time` only for a time."""

    committed: Mapping[Partition, int]
    lows: Mapping[Partition, int]
    ends: Mapping[Partition, int]
    at_time: Mapping[Partition, int] = field(default_factory=dict)


def decide(target: Target, places: Places) -> list[Move]:
    """The new offset of each partition, held within what the partition has. Pure.

    Raises UsageError for a shift where nothing was ever committed: there's nothing to shift from.
    """
    moves = []
    for partition in sorted(places.ends):
        current = places.committed.get(partition)
        low, end = places.lows[partition], places.ends[partition]
        match target.to:
            case To.EARLIEST:
                new = low
            case To.LATEST:
                new = end
            case To.TIME:
                new = places.at_time[partition]
            case To.OFFSET:
                new = target.value
            case To.SHIFT:
                if current is None:
                    raise UsageError(f"{partition[0]}/{partition[1]} has no committed offset to shift from. Use --to-earliest or a time.")
                new = current + target.value
        moves.append(Move(*partition, current, min(end, max(low, new))))
    return moves


@dataclass(frozen=True, slots=True)
class Reset:
    """A reset as planned: its moves, and (topic, partition) → how many of the events seen again are done already."""

    group: str
    moves: tuple[Move, ...]
    done: Mapping[Partition, int] = field(default_factory=dict)


def kafka_topics(settings: Settings, wanted: Iterable[str]) -> list[str]:
    """Kafka names from Kafka's or Shopify's (`orders/create`). Raises UsageError for a topic that Shopify doesn't know."""
    names = Names(settings.topic_prefix)
    found = []
    for topic in wanted:
        if "/" in topic and topic not in shopify.table():
            raise UsageError(f"{topic!r} is no Shopify topic. Write orders/create, or the Kafka topic's name.")
        found.append(names.log(shopify.table()[topic].kafka_name) if topic in shopify.table() else topic)
    return found


def plan(settings: Settings, ledger: Ledger, group: str, topics: Sequence[str] | None, target: Target, *, count_done: bool = True,
         progress: Callable[[int, int], None] | None = None) -> Reset:  # fmt: skip
    """Reads and decides; changes nothing. `topics` None: the whole tape, as far as the group has committed it.

    Raises NothingMatched when there's no such topic, UsageError, TapeUnavailable.
    """
    check_group(group)
    committed = groups.committed(settings, group)
    if topics is None:
        # Not the replay lane or the retry topics: what lies in them has had its turn.
        names = Names(settings.topic_prefix)
        chosen = {topic for topic, _ in committed if (parsed := names.parse(topic)) and parsed.kind is Kind.LOG}
    else:
        chosen = set(kafka_topics(settings, topics))
    with Reader(settings) as reader:
        ends = reader.ends(chosen)
        if missing := chosen - {topic for topic, _ in ends}:
            raise NothingMatched(f"Kafka has no topic {', '.join(sorted(missing))}.")
        if not ends:
            raise NothingMatched(f"Group {group} has never committed an offset: name the topics with --topic.")
        at_time = reader.starts(chosen, target.value) if target.to is To.TIME else {}
        moves = decide(target, Places(committed, reader.lows(chosen), ends, at_time))
        done = _done(reader, Wire(settings), ledger, group, moves, progress) if count_done else {}
    return Reset(group, tuple(moves), done)


def _done(reader: Reader, wire: Wire, ledger: Ledger, group: str, moves: Iterable[Move],
          progress: Callable[[int, int], None] | None) -> dict[Partition, int]:  # fmt: skip
    """How many of the events that'd be seen again the group has finished."""
    spans = {(m.topic, m.partition): Span(m.new, m.current or 0) for m in moves if m.again}
    counts = dict.fromkeys(spans, 0)
    total, read = sum(span.end - span.start for span in spans.values()), 0
    for records in reader.scan(spans):
        keys: dict[EventKey, Partition] = {}
        for record in records:
            try:
                keys[wire.decode(record.value).key] = (record.at.topic, record.at.partition)
            except NotOurs:
                continue  # no event: it can't have been finished
        for key, state in ledger.outcomes.states(group, list(keys)).items():
            counts[keys[key]] += state in FINISHED
        read += len(records)
        if progress:
            progress(read, total)
    return counts


def refuse_live(settings: Settings, group: str) -> None:
    """Raises NotAllowed that names the members of the group."""
    if (found := groups.describe(settings, group)).live:
        members = ", ".join(f"{m.client} at {m.host}" for m in found.members[:5]) + (" …" if len(found.members) > 5 else "")
        raise NotAllowed(f"Group {group} is live: {len(found.members)} members ({members}). Stop its workers first, then reset.")


def execute(settings: Settings, ledger: Ledger, reset: Reset, *, who: str, reason: str, now: float, reprocess: bool = True) -> str | None:
    """Does it; the id under which the window is run again, None where nothing is.

    Raises NotAllowed for a live group (nothing is changed then), TapeError when the broker stored something else.
    """
    refuse_live(settings, reset.group)
    moves = [move for move in reset.moves if move.new != move.current]
    again = [(m.topic, m.partition, m.new, m.current or 0) for m in moves if m.again]
    generation = new_id(now) if reprocess and again else None
    ledger.audit.append(now, who, "reset", reset.group, reason, {
        "offsets": [[m.topic, m.partition, m.current, m.new] for m in moves], "reprocess": generation})  # fmt: skip
    if generation:
        # Before the offsets move: a worker that starts in between must find the mark.
        ledger.outcomes.add_reprocess(reset.group, generation, again)
    wanted = {(m.topic, m.partition): m.new for m in moves}
    if wanted:
        groups.alter(settings, reset.group, wanted)
    stored = groups.committed(settings, reset.group)
    if wrong := [p for p, offset in wanted.items() if stored.get(p) != offset]:
        topic, number = wrong[0]
        raise TapeError(f"The broker stored {stored.get(wrong[0])} for {topic}/{number}, not {wanted[wrong[0]]}: "
                        "did a worker start meanwhile? Stop it and reset again.")  # fmt: skip
    return generation
