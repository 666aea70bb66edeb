"""Dead letters: what died, found by the ledger; where its body lies, by the index of letters. Nothing here replays by itself.

The topic is read for bodies and stacks only, by their places. A dead event whose letter is gone is taken from the tape where that
still has it; one whose record is on neither is listed, and can be discarded.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from hooktape.errors import NotAllowed, NothingMatched, NotOurs, UsageError
from hooktape.ledger.catalogue import Entry
from hooktape.ledger.checks import State
from hooktape.ledger.discards import Changed
from hooktape.ledger.failures import ErrorGroup
from hooktape.ledger.jobs import STANDARD, Kind, Limits
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.letters import BEGINNING, After, Letter, Poison
from hooktape.ledger.selection import Selection, Status
from hooktape.ledger.where import Where, compiled
from hooktape.replayer import deaths
from hooktape.replayer.batches import by_size
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.letters import LetterIndex
from hooktape.replayer.planning import Begun, Plan, Progress, known, plan
from hooktape.schemas.event import Coordinates, Event
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.names import Names, check_group
from hooktape.tape.reader import Reader, Record
from hooktape.tape.wire import Wire

T = TypeVar("T")
# As many as one statement of the ledger takes comfortably.
_BATCH = 500
NOTHING_NARROWS = "Nothing narrows the selection. To take every dead event, say so: --status dead."


@dataclass(frozen=True, slots=True)
class Shown:
    """One event's letter with what only Kafka has: `record` and `event` are None where retention has taken letter and tape,
    `failure` where no letter is left. `state` is the event's in the group now, None for none."""

    letter: Letter
    state: State | None
    record: Record | None
    event: Event | None
    failure: headers.Failure | None
    history: tuple[deaths.Moment, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """An error group in full: the topics and shops that it hit most, and the stack of its example, "" where no letter is left."""

    group: ErrorGroup
    topics: tuple[tuple[str, int], ...]
    shops: tuple[tuple[str, int], ...]
    example: str
    stack: str


@dataclass(slots=True)
class Account:
    """What came of a discard or a restore: how many events were changed, and of the others why not."""

    done: int = 0
    held: dict[EventKey, str] = field(default_factory=dict)
    lost: int = 0

    def add(self, changed: Changed) -> None:
        """Counts a batch."""
        self.done += len(changed.done)
        self.held |= changed.held
        self.lost += len(changed.lost)

    def refusals(self) -> list[str]:
        """Why events were left as they are, a sentence for each reason."""
        found = []
        if self.held:
            jobs = ", ".join(sorted(set(self.held.values())))
            found.append(f"{len(self.held):,} are on their way through job {jobs}: wait for its end, or cancel it (`hooktape replay "
                         "cancel`) and wait for those that it has sent.")  # fmt: skip
        if self.lost:
            found.append(f"{self.lost:,} can't be restored: retention has removed their letters.")
        return found

    def check(self, verb: str) -> None:
        """Raises NotAllowed where nothing was changed, and says why."""
        if not self.done and (refusals := self.refusals()):
            raise NotAllowed(f"Nothing was {verb}. {' '.join(refusals)}")


class DeadLetters:
    """The dead letters of one group; `close` it, or use it as a context manager.

    The index is read on to the topic's end once, with the first question. Any method may raise TapeUnavailable and LedgerUnavailable.
    """

    def __init__(self, settings: Settings, ledger: Ledger, group: str) -> None:
        self._settings = settings
        self._ledger = ledger
        self.group = check_group(group)
        self.topic = Names(settings.topic_prefix).dlq(group)
        self._wire = Wire(settings)
        self._reader = Reader(settings)
        self._current = False

    def __enter__(self) -> "DeadLetters":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections to Kafka."""
        self._reader.close()

    def catch_up(self) -> None:
        """Reads the index on to the topic's end as it is now."""
        LetterIndex(self._settings, self._ledger, self._reader).catch_up(self.group)
        self._current = True

    def _refresh(self) -> None:
        if not self._current:
            self.catch_up()

    # ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def page(self, selection: Selection, *, after: After | None = None, limit: int = 100, newest_first: bool = True) -> list[Letter]:
        """The selected events that are dead now (or, by `--status discarded`, discarded with their letter retained), by when they died.

        `After.of(page[-1])` asks for the next page. Raises UsageError for any other status.
        """
        self._refresh()
        state, where = _state(selection), compiled(selection.where) if selection.where else None
        found: list[Letter] = []
        while True:
            size = _BATCH if where else limit
            batch = self._ledger.letters.find(self.group, selection, state, after=after, limit=size, newest_first=newest_first)
            found += self._judged(batch, where) if where else batch
            if len(batch) < size or len(found) >= limit:
                return found[:limit]
            after = After.of(batch[-1])

    def _judged(self, letters: Iterable[Letter], where: Where) -> Iterator[Letter]:
        """Those whose bodies match; what has none any more doesn't."""
        for batch in by_size(letters, _weight):
            records = self._records(batch)
            yield from (x for x in batch if x.key in records and where.matches(self._wire.decode(records[x.key].value).payload))

    def pages(self, selection: Selection) -> Iterator[list[Letter]]:
        """All of them, the first that died first, in pages. Raises as `page` does."""
        after: After | None = None
        while page := self.page(selection, after=after, limit=_BATCH, newest_first=False):
            yield page
            after = After.of(page[-1])

    def find(self, selection: Selection) -> list[Letter]:
        """All of them at once, oldest event first. Raises as `page` does."""
        found = [letter for page in self.pages(selection) for letter in page]
        return sorted(found, key=lambda letter: (letter.entry.received_at, letter.key))

    def chosen(self, selection: Selection) -> list[Letter]:
        """As `find`. Raises NothingMatched for none, UsageError for a selection that nothing narrows."""
        if selection.is_empty:
            raise UsageError(NOTHING_NARROWS)
        if not (letters := self.find(selection)):
            raise NothingMatched(f"No {_state(selection).name.lower()} event of group {self.group} matches: {selection.describe()}.")
        return letters

    def groups(self) -> list[tuple[ErrorGroup, str]]:
        """Dead events by cause, the most frequent first, each with the webhook id of its example ("" where nothing knows it)."""
        self._refresh()
        found = self._ledger.outcomes.error_groups(self.group)
        letters = self._ledger.letters.of(self.group, [g.example for g in found])
        return [(g, letters[g.example].entry.webhook_id if g.example in letters else self._catalogued(g.example)) for g in found]

    def _catalogued(self, key: EventKey) -> str:
        return next((e.webhook_id for e in self._ledger.catalogue.by_id(key.id)), "")

    def cause(self, error_group: str) -> Cause:
        """The error group with this id, or with the only one that begins so. Raises NothingMatched, UsageError for several."""
        found = [(g, example) for g, example in self.groups() if g.error_group.startswith(error_group)]
        found = [x for x in found if x[0].error_group == error_group] or found
        if len(found) != 1:
            what = f"{len(found)} causes begin with {error_group}: write more of it." if found else f"No dead event died of {error_group}."
            raise (UsageError if found else NothingMatched)(f"{what} `hooktape dlq groups --group {self.group}` shows them.")
        (group, example), *_ = found
        topics, shops = self._ledger.outcomes.affected(self.group, group.error_group)
        letter = self._ledger.letters.of(self.group, [group.example]).get(group.example)
        record = self._records([letter]).get(letter.key) if letter else None
        failure = headers.failure(headers.read(record.headers)) if record else None
        return Cause(group, tuple(topics), tuple(shops), example, failure.stack if failure else "")

    # ── one event ───────────────────────────────────────────────────────────────────────────────────────────────────

    def show(self, webhook_id: str, shop: str | None = None) -> Shown:
        """The last letter of an event, dead or not by now, by its webhook id or at least eight characters of its beginning.

        Raises NothingMatched, UsageError where several events are named so.
        """
        self._refresh()
        found = self._ledger.letters.named(self.group, webhook_id, shop)
        found = [x for x in found if x.entry.webhook_id == webhook_id] or found
        if not found:
            # Dead, and its letter gone: the catalogue knows it by its whole id.
            found = self._ledger.letters.find(self.group, Selection(ids=(webhook_id,), shops=(shop,) if shop else ()))
        if not found:
            short = f" Write at least {BEGINNING} characters of an id." if len(webhook_id) < BEGINNING else ""
            raise NothingMatched(f"No letter of webhook {webhook_id} lies in {self.topic}, and no dead event has this id.{short}")
        if len(found) > 1:
            several = ", ".join(f"{x.entry.webhook_id} of {x.entry.shop}" for x in found)
            raise UsageError(f"Several events are named so: {several}. Write more of the id, or say --shop.")
        letter = found[0]
        record = self._records([letter]).get(letter.key)
        event = self._wire.decode(record.value) if record else None
        failure = headers.failure(headers.read(record.headers)) if record else None
        state = self._ledger.outcomes.states(self.group, [letter.key]).get(letter.key)
        return Shown(letter, state, record, event, failure, tuple(deaths.history(self._ledger, letter)))

    def show_poison(self, at: Coordinates) -> Record:
        """The record at a place of the dead-letter topic, whatever it is. Raises NothingMatched."""
        return self._reader.fetch(at)

    def poison(self, *, discarded: bool = False) -> list[Poison]:
        """The records that hold no event, the latest first: those that wait for a person, or that one has discarded."""
        self._refresh()
        return self._ledger.letters.poison(self.group, discarded=discarded)

    def _records(self, letters: Sequence[Letter]) -> dict[EventKey, Record]:
        """The events' records: the letters, or where those are gone, what the tape has."""
        found: dict[EventKey, Record] = {}
        for of_letter in (True, False):
            places = {x.key: x.at if of_letter else x.origin for x in letters if x.key not in found}
            wanted = {at: key for key, at in places.items() if at is not None and at.topic}
            for at, record in self._reader.fetch_many(wanted).items() if wanted else ():
                if self._is(record, wanted[at]):
                    found[wanted[at]] = record
        return found

    def _is(self, record: Record, key: EventKey) -> bool:
        """Whether the record is of this event: what a letter's header says of its origin may be anything."""
        try:
            return self._wire.decode(record.value).key.id == key.id
        except NotOurs:
            return False

    # ── acting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def discard(self, letters: Sequence[Letter], *, who: str, reason: str, now: float) -> Account:
        """Gives these up, in the ledger and its audit trail. Raises UsageError without a reason."""
        _insist(reason, "Discarding")
        account = Account()
        for batch in _batches(letters):
            account.add(self._ledger.outcomes.discard(self.group, [letter.key for letter in batch], who, reason, now))
        return account

    def restore(self, letters: Sequence[Letter], *, who: str, reason: str, now: float) -> Account:
        """Makes discarded events dead again, in the ledger and its audit trail. Raises UsageError without a reason."""
        _insist(reason, "Restoring")
        account = Account()
        for batch in _batches(letters):
            account.add(self._ledger.outcomes.restore(self.group, [letter.key for letter in batch], who, reason, now))
        return account

    def discarded(self, selection: Selection) -> list[Letter]:
        """The selected events that were discarded and can be restored. Raises NothingMatched that says why there is none, UsageError."""
        if selection.is_empty:
            raise UsageError("Nothing narrows the selection. To take every discarded event, say so: --status discarded.")
        if set(selection.statuses) - {Status.DISCARDED}:
            raise UsageError("Only what was discarded can be restored: leave --status out, or say --status discarded.")
        selection = of_status(selection, Status.DISCARDED)
        if letters := self.find(selection):
            return letters
        if lost := self._ledger.catalogue.count(replace(selection, where=""), self.group):
            raise NothingMatched(f"{lost:,} discarded events match, and retention has removed their letters from {self.topic}: they can't "
                                 "be restored. What the tape still has can be run again: `hooktape replay plan --force`.")  # fmt: skip
        raise NothingMatched(f"No discarded event of group {self.group} whose letter is retained matches: {selection.describe()}.")

    def discard_poison(self, places: Sequence[Coordinates] | None, *, who: str, reason: str, now: float) -> int:
        """Gives up records that hold no event: these, or all (None). Raises UsageError without a reason, NothingMatched."""
        _insist(reason, "Discarding")
        wanted = [p.at for p in self.poison()] if places is None else list(places)
        self._refresh()
        if done := self._ledger.letters.discard_poison(self.group, wanted, who, reason, now):
            return len(done)
        raise NothingMatched(f"{_places(places)} in {self.topic} holds no event and waits for a person. A letter is discarded by its "
                             "event: --id.")  # fmt: skip

    def restore_poison(self, places: Sequence[Coordinates], *, who: str, reason: str, now: float) -> int:
        """Takes that back. Raises UsageError without a reason, NothingMatched."""
        _insist(reason, "Restoring")
        if done := self._ledger.letters.restore_poison(self.group, places, who, reason, now):
            return len(done)
        raise NothingMatched(f"{_places(places)} in {self.topic} was discarded, or retention has removed it.")

    def plan_redrive(self, selection: Selection, cataloguer: Cataloguer, *, who: str, now: float, forced: bool = False, again: bool = False,
                     limits: Limits = STANDARD, progress: Progress | None = None, begun: Begun | None = None) -> Plan:  # fmt: skip
        """Plans a job of the selected dead events; run it as any other. Nothing but the planned job is written.

        As any plan does, it takes a record from the tape, or where that has lost it, from its letter. Oldest event first, so that a
        resource's keep their order. Raises UsageError, NothingMatched.
        """
        if _state(selection) is not State.DEAD:
            raise UsageError("Only dead events are redriven. What was discarded is made dead again by `hooktape dlq restore`.")
        if selection.is_empty:
            raise UsageError(NOTHING_NARROWS)
        return plan(cataloguer, self._ledger, self.group, selection, kind=Kind.REDRIVE, who=who, now=now, forced=forced, again=again,
                    limits=limits, pages=self._entries(selection), progress=progress, begun=begun)  # fmt: skip

    def _entries(self, selection: Selection) -> Iterator[list[Entry]]:
        for batch in _batches(self.chosen(selection)):
            found = known(self._ledger, self.group, [letter.key for letter in batch])
            yield [found.get(letter.key, letter.entry) for letter in batch]

    # ── taking away ─────────────────────────────────────────────────────────────────────────────────────────────────

    def export(self, selection: Selection) -> Iterator[dict[str, Any]]:
        """One object an event: its fields, its failure, its body as text, as base64 where that isn't UTF-8, or null where it's gone."""
        for page in self.pages(selection):
            for batch in by_size(page, _weight):
                records = self._records(batch)
                for letter in batch:
                    yield self._exported(letter, records.get(letter.key))

    def _exported(self, letter: Letter, record: Record | None) -> dict[str, Any]:
        event = self._wire.decode(record.value) if record else None
        return exported(letter, event, headers.failure(headers.read(record.headers)) if record else None)

    def export_poison(self) -> Iterator[dict[str, Any]]:
        """One object for each record that holds no event, its bytes as base64."""
        found = self.poison()
        for batch in _batches(found):
            records = self._reader.fetch_many([p.at for p in batch])
            for p in batch:
                value = records[p.at].value if p.at in records else None
                yield {"at": str(p.at), "origin": str(p.origin), "why": p.why, "size": p.size,
                       "value_base64": None if value is None else base64.b64encode(value).decode()}  # fmt: skip


def exported(letter: Letter, event: Event | None, failure: headers.Failure | None) -> dict[str, Any]:
    """A dead event for a JSON line. Pure."""
    e = letter.entry
    body: dict[str, str | None] = {"body": None}
    if event is not None:
        try:
            body = {"body": event.payload.decode()}
        except UnicodeDecodeError:
            body = {"body_base64": base64.b64encode(event.payload).decode()}
    return {
        "webhook_id": e.webhook_id, "shop": e.shop, "topic": e.topic, "resource": e.resource,
        "received_at": event.received_at.isoformat() if event else None, "source": e.source, "headers": event.headers if event else {},
        "at": str(letter.at) if letter.at else None, "origin": str(letter.origin) if e.kafka_topic else None,
        "redrives": letter.redrives, "attempts": e.attempts, "disposition": letter.disposition, "error_type": e.error_type,
        "error_message": failure.message if failure else e.error_message, "error_stack": failure.stack if failure else "",
        "error_group": e.error_group, **body,
    }  # fmt: skip


def of_status(selection: Selection, status: Status) -> Selection:
    """The selection with this status, for a command that means it without being told."""
    return replace(selection, statuses=(status,))


def _state(selection: Selection) -> State:
    if set(selection.statuses) <= {Status.DEAD}:
        return State.DEAD
    if set(selection.statuses) == {Status.DISCARDED}:
        return State.DISCARDED
    raise UsageError("Dead letters are of dead events (the default), or of discarded ones: --status dead or --status discarded.")


def _insist(reason: str, what: str) -> None:
    if not reason.strip():
        raise UsageError(f"{what} needs a --reason: it's kept in the audit trail.")


def _places(places: Sequence[Coordinates] | None) -> str:
    return f"None of {', '.join(map(str, places[:5]))}" if places else "Nothing"


def _weight(letter: Letter) -> int:
    return letter.entry.size


def _batches(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _BATCH):
        yield list(items[start : start + _BATCH])
