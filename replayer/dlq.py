"""Dead letters: read from the dead-letter topic, judged by the ledger. Nothing here replays by itself.

The topic keeps every letter for its retention; whether one is still dead, the ledger knows. Of an event that died several
times the last letter counts. A record that isn't an event (poison) has no outcome: it's shown by where it lies.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from hooktape.errors import NothingMatched, NotOurs, UsageError
from hooktape.ledger.catalogue import Entry
from hooktape.ledger.checks import State
from hooktape.ledger.items import Item
from hooktape.ledger.jobs import Job, Kind
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Clock, Selection, Status
from hooktape.replayer.catalogue import entry as catalogue_entry
from hooktape.replayer.plan import (
    Candidate,
    Plan,
    Progress,
    decide,
    finished,
    item,
    new_job,
    newest_succeeded,
    pages,
    write,
)
from hooktape.schemas.event import Coordinates, Event
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Names, check_group
from hooktape.tape.reader import Reader, Record
from hooktape.tape.wire import Wire

T = TypeVar("T")
# As many as one statement of the ledger takes comfortably.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter without its body. `entry` is the event as the catalogue would have it, at its place in the DLQ topic."""

    at: Coordinates
    timestamp_ms: int
    entry: Entry
    failure: headers.Failure | None
    origin: Coordinates
    redrives: int

    @property
    def key(self) -> EventKey:
        return EventKey(*self.entry.key)


@dataclass(frozen=True, slots=True)
class Poison:
    """A record of the DLQ topic that holds no event: it can be looked at, and neither redriven nor discarded."""

    at: Coordinates
    timestamp_ms: int
    origin: Coordinates
    why: str
    size: int


def matches(selection: Selection, letter: Letter) -> bool:
    """Whether a letter is selected, as the catalogue's search would say. Pure."""
    e = letter.entry
    moment = e.received_at if selection.clock is Clock.RECEIVED or e.triggered_at is None else e.triggered_at
    group = letter.failure.group if letter.failure else ""
    return (
        (not selection.ids or e.webhook_id in selection.ids)
        and (not selection.topics or any(fnmatchcase(e.topic, _pattern(t)) for t in selection.topics))
        and (not selection.shops or e.shop in selection.shops)
        and (not selection.resources or e.resource in selection.resources or e.root in selection.resources)
        and (not selection.sources or e.source in selection.sources)
        and (not selection.statuses or Status.DEAD in selection.statuses)
        and (not selection.error_group or group == selection.error_group)
        and (selection.since is None or moment >= selection.since)
        and (selection.until is None or moment < selection.until)
    )


def _pattern(topic: str) -> str:
    return topic.replace("[", "[[]").replace("?", "[?]")  # only `*` is a wildcard here


class DeadLetters:
    """The dead letters of one group. Raises TopicMissing and TapeUnavailable from its methods."""

    def __init__(self, settings: Settings, ledger: Ledger, group: str) -> None:
        self._settings = settings
        self._ledger = ledger
        self.group = check_group(group)
        self.topic = Names(settings.topic_prefix).dlq(group)
        self._wire = Wire(settings)

    def read(self) -> Iterator[Letter | Poison]:
        """Everything that lies in the topic now, dead or not."""
        with Reader(self._settings) as reader:
            for records in reader.scan(reader.bounds([self.topic])):
                for record in records:
                    yield self._letter(record)

    def _letter(self, record: Record) -> Letter | Poison:
        ours = headers.read(record.headers)
        origin = headers.origin(ours, record.at)
        try:
            found = catalogue_entry(self._wire, record)
        except NotOurs as error:
            return Poison(record.at, record.timestamp_ms, origin, str(error), len(record.value or b""))
        return Letter(record.at, record.timestamp_ms, found, headers.failure(ours), origin, headers.redrives(ours))

    def find(self, selection: Selection) -> list[Letter]:
        """The selected events that are dead now, each by its last letter, oldest event first."""
        last: dict[EventKey, Letter] = {}
        for letter in self.read():
            if isinstance(letter, Letter):
                last[letter.key] = letter
        chosen = [letter for letter in last.values() if matches(selection, letter)]
        chosen = [letter for batch in _batches(chosen) for letter in self._still_dead(batch)]
        return sorted(chosen, key=lambda letter: (letter.entry.received_at, letter.key))

    def _still_dead(self, letters: list[Letter]) -> list[Letter]:
        states = self._ledger.outcomes.states(self.group, [letter.key for letter in letters])
        return [letter for letter in letters if states.get(letter.key) is State.DEAD]

    def poison(self) -> list[Poison]:
        """The records that hold no event."""
        return [letter for letter in self.read() if isinstance(letter, Poison)]

    def show(self, webhook_id: str, shop: str | None = None) -> tuple[Record, Letter, Event]:
        """The last letter of an event, dead or not by now, with its record. Raises NothingMatched."""
        letters = [x for x in self.read() if isinstance(x, Letter) and x.entry.webhook_id == webhook_id and shop in (None, x.entry.shop)]
        if not letters:
            raise NothingMatched(f"No letter of webhook {webhook_id} lies in {self.topic}.")
        last = max(letters, key=lambda letter: letter.timestamp_ms)
        record = self.records([last])[last.at]
        return record, last, self._wire.decode(record.value)

    def show_poison(self, at: Coordinates) -> Record:
        """The record at a place of the DLQ topic, whatever it is. Raises NothingMatched."""
        with Reader(self._settings) as reader:
            return reader.fetch(at)

    def records(self, letters: Iterable[Letter]) -> dict[Coordinates, Record]:
        """The records of letters, with their bodies."""
        with Reader(self._settings) as reader:
            return reader.fetch_many([letter.at for letter in letters])

    def discard(self, letters: list[Letter], *, who: str, reason: str, now: float) -> list[Letter]:
        """Gives these up, in the ledger and its audit trail; those that were dead still. Raises UsageError without a reason."""
        if not reason.strip():
            raise UsageError("Discarding needs a --reason: it's kept in the audit trail.")
        gone: set[EventKey] = set()
        for batch in _batches(letters):
            gone |= set(self._ledger.outcomes.discard(self.group, [letter.key for letter in batch], who, reason, now))
        return [letter for letter in letters if letter.key in gone]

    def chosen(self, selection: Selection) -> list[Letter]:
        """As `find`. Raises NothingMatched for none, UsageError for a selection that nothing narrows."""
        if selection.is_empty:
            raise UsageError("Nothing narrows the selection. To take every dead event, say so: --status dead.")
        letters = self.find(selection)
        if not letters:
            raise NothingMatched(f"No dead event of group {self.group} matches: {selection.describe()}.")
        return letters

    def plan_redrive(self, selection: Selection, *, who: str, now: float, forced: bool = False, again: bool = False,
                     rate: float | None = None, progress: Progress | None = None,
                     begun: Callable[[Job], None] | None = None) -> Plan:  # fmt: skip
        """Plans a job of the selected dead events; run it as any other. Nothing but the planned job is written.

        The records come from the DLQ topic: it keeps them longer than the tape, and knows how often each was redriven. A dead
        event whose letter is gone is taken from the tape. Raises UsageError, NothingMatched.
        """
        if selection.is_empty:
            raise UsageError("Nothing narrows the selection. To take every dead event, say so: --status dead.")
        plan = Plan(new_job(Kind.REDRIVE, self.group, selection, who=who, now=now, forced=forced, rate=rate))
        if begun:
            begun(plan.job)
        letters = self.find(selection)
        have = {letter.key for letter in letters}
        sources = [(letter.entry, letter.redrives, True) for letter in letters]
        with Reader(self._settings) as reader:
            for page in pages(self._ledger, replace(selection, statuses=(Status.DEAD,)), self.group):
                rest = [e for e in page if EventKey(*e.key) not in have]
                lows = reader.lows({e.kafka_topic for e in rest})
                sources += [(e, 0, e.offset >= lows.get((e.kafka_topic, e.partition), 2**62)) for e in rest]
        sources.sort(key=lambda source: (source[0].received_at, source[0].key))
        for batch in _batches(sources):
            newest = newest_succeeded(self._ledger, self.group, [e for e, _, _ in batch])
            items: list[Item] = []
            for e, redrives, on_tape in batch:
                candidate = Candidate(State.DEAD, on_tape, e.version, newest.get((e.shop, e.topic, e.resource or "")), redrives)
                items.append(item(e, decide(candidate, forced=forced, again=again), plan.selected + len(items) + 1))
            write(self._ledger, plan, items)
            if progress:
                progress("planning", plan.selected, len(sources))
        return finished(self._ledger, plan)

    def export(self, letters: Iterable[Letter]) -> Iterator[dict[str, Any]]:
        """One object a letter: the event, its failure, its body as text, or as base64 where it isn't UTF-8."""
        for batch in _batches(list(letters)):
            records = self.records(batch)
            for letter in batch:
                if letter.at in records:
                    yield exported(letter, self._wire.decode(records[letter.at].value))


def exported(letter: Letter, event: Event) -> dict[str, Any]:
    """A letter for a JSON line. Pure."""
    failure = letter.failure
    try:
        body = {"body": event.payload.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(event.payload).decode()}
    return {
        "webhook_id": event.webhook_id, "shop": event.shop, "topic": event.topic, "resource": event.resource,
        "received_at": event.received_at.isoformat(), "source": event.source, "headers": event.headers,
        "at": str(letter.at), "origin": str(letter.origin), "redrives": letter.redrives,
        "attempts": failure.attempts if failure else 0, "disposition": failure.disposition if failure else "",
        "error_type": failure.error_type if failure else "", "error_message": failure.message if failure else "",
        "error_stack": failure.stack if failure else "", "error_group": failure.group if failure else "", **body,
    }  # fmt: skip


def _batches(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
