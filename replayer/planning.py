"""Makes a plan: reads, decides, and writes a job that hasn't started. Its end is frozen: what is recorded later isn't in it.

Replay, redrive and backfill are the same plan: they differ in where their events come from (`pages`).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from hooktape import crash
from hooktape.errors import HooktapeError, LedgerError, NotAllowed, NothingMatched, TopicMissing, UsageError
from hooktape.ledger.catalogue import REPLAYABLE, After, Entry, Proof
from hooktape.ledger.checks import State
from hooktape.ledger.copying import Alike
from hooktape.ledger.handlers import Known
from hooktape.ledger.items import RUN, START, Item, Row, Total
from hooktape.ledger.jobs import STANDARD, Job, JobState, Kind, Limits
from hooktape.ledger.keys import EventKey, new_id
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.deciding import URGENT, Candidate, Decision, decide, urgency
from hooktape.replayer.finding import Finder
from hooktape.schemas.event import Coordinates
from hooktape.tape.names import check_group
from hooktape.tape.reader import Partition, Reader

PLANNING = "planning"
"""A job's note while its plan is being made: one whose planner was killed is never run."""
HEARD = 300.0
"""A planner that hasn't been heard of for so many seconds is taken for dead. It's heard of with each page of events: a `where` that few
bodies match reads some minutes of tape between two."""
# One page's rows are all that a plan holds in memory.
_PAGE = 2000
# Above every offset: a topic that has gone keeps nothing.
_NEVER = 1 << 62
# A drift is shown, not acted on: workers and runner check every event again. More would take longer than a person waits.
_DRIFT = 20_000

Progress = Callable[[str, int, int | None], None]
"""Gets what is being done, how much of it is done, and of how much (None: not known)."""
Begun = Callable[[Job], None]
"""Gets the job once it's in the ledger, before anything has been read: for whoever wants to be asked about a plan that takes long."""
Pages = Iterable[Sequence[Entry]]
"""Selected events, oldest first: within a resource the older one is handed over first."""


# The value of an enum's member costs more than looking it up here.
_WORDS = {decision: decision.value for decision in Decision}


@dataclass(slots=True)
class Plan:
    """A plan's totals; its events are the job's items, counted by topic and shop in the ledger (`Jobs.totals`).

    `handlers` are those that it reaches, as far as workers have told. `seconds`: how long handing over takes; None without a rate.
    """

    job: Job
    decisions: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Item]] = field(default_factory=dict)
    handlers: list[Known] = field(default_factory=list)

    @property
    def selected(self) -> int:
        return self.decisions.total()

    @property
    def seconds(self) -> float | None:
        return self.decisions[RUN] / self.job.rate if self.job.rate else None


class _Group:
    """What a group's decisions are made from."""

    def __init__(self, ledger: Ledger, reader: Reader, group: str) -> None:
        self._ledger, self._reader, self._group = ledger, reader, group
        self._lows: dict[Partition, int] = {}
        self._topics: set[str] = set()
        self.handlers = ledger.handlers.of(group)
        self._refusing = {topic for handler in self.handlers if not handler.replay for topic in handler.topics}

    def reached(self, topics: Iterable[str]) -> list[Known]:
        wanted = set(topics)
        return [handler for handler in self.handlers if wanted & set(handler.topics)]

    def runs(self, events: Alike, ends: Mapping[Partition, int]) -> bool:
        """Whether all of these run, provided that the group has no outcomes at all."""
        place = events.kafka_topic, events.partition
        self._learn({events.kafka_topic})
        candidate = Candidate(None, events.lowest >= self._lows.get(place, _NEVER), refused=events.topic in self._refusing,
                              sound=events.proof in REPLAYABLE)  # fmt: skip
        return events.highest < ends.get(place, 0) and decide(candidate) is Decision.RUN

    def _learn(self, topics: set[str]) -> None:
        if new := topics - self._topics:
            self._topics |= new
            # What a dead letter says of its origin may be a topic that has gone.
            self._lows |= self._reader.lows(new.intersection(self._reader.topics()))

    def weigh(self, entries: Sequence[Entry]) -> list[tuple[Candidate, Coordinates | None]]:
        """Each event's candidate, and where its letter lies if its body is taken from there."""
        self._learn({e.kafka_topic for e in entries})
        keys = [e.key for e in entries]
        states = self._ledger.outcomes.states(self._group, keys)
        letters = self._ledger.letters.of(self._group, [k for k in keys if states.get(k) is State.DEAD]) if states else {}
        newest = self._ledger.catalogue.newest_succeeded(self._group, entries)
        found: list[tuple[Candidate, Coordinates | None]] = []
        lows, refusing = self._lows, self._refusing
        for key, e in zip(keys, entries, strict=True):
            letter = letters.get(key) if letters else None
            kept = e.offset >= lows.get((e.kafka_topic, e.partition), _NEVER)
            version = newest.get((e.shop, e.topic, e.resource or "")) if newest else None
            sound = e.proof is Proof.VERIFIED or e.proof in REPLAYABLE  # the first is what most are, and costs nothing to say
            found.append((Candidate(states.get(key), kept or letter is not None, e.version, version, letter.redrives if letter else 0,
                                    e.topic in refusing, sound), letter.at if letter and not kept else None))  # fmt: skip
        return found


def plan(cataloguer: Cataloguer, ledger: Ledger, group: str, selection: Selection, *, who: str, now: float, kind: Kind = Kind.REPLAY,
         forced: bool = False, again: bool = False, limits: Limits = STANDARD, pages: Pages | None = None,
         examples: int = 5, progress: Progress | None = None, begun: Begun | None = None) -> Plan:  # fmt: skip
    """Reads, decides, and writes a planned job; nothing else changes. Memory doesn't grow with the selection.

    With `begun` the job is written at once, and otherwise with its first event. One that was written and comes to nothing is FAILED, and
    its note says why: that's all that those who wait for it elsewhere learn.

    The catalogue and the index of letters are read on first; what is recorded meanwhile isn't selected. `pages` stands in for the
    search of the catalogue, and is begun after that: what a dead-letter topic holds isn't always in it. Raises UsageError for an empty
    selection, NothingMatched, NotAllowed when it's cancelled meanwhile, SettingsError for a group that can't be one, TapeUnavailable,
    LedgerUnavailable.
    """
    check_group(group)
    if selection.is_empty:
        raise UsageError("Nothing narrows the selection. To replay the whole tape, say so: --since 30d.")
    made = Plan(Job(new_id(now), group, kind, selection, "", who, now, forced, again, limits, note=PLANNING, alive_until=now + HEARD))
    try:
        if begun:
            made.job = ledger.jobs.create(made.job)
            begun(made.job)
        _fill(made, cataloguer, ledger, pages, _heard(made, ledger, progress))
    except BaseException as error:
        if made.job.number:
            with suppress(LedgerError):
                ledger.jobs.move(made.job.id, [JobState.PLANNED], JobState.FAILED, time.time(),
                                 str(error) if isinstance(error, HooktapeError) else "its planning was broken off")  # fmt: skip
        raise
    return planned(ledger, replace(made.job, note="", selected=made.selected), examples)


def _heard(made: Plan, ledger: Ledger, progress: Progress | None) -> Progress:
    """Tells of the planner's life, in the ledger too."""
    said = time.monotonic()

    def tell(what: str, done: int, of: int | None) -> None:
        nonlocal said
        if made.job.number and time.monotonic() - said > HEARD / 30:
            ledger.jobs.alive(made.job.id, time.time() + HEARD)
            said = time.monotonic()
        if progress:
            progress(what, done, of)

    return tell


def _fill(made: Plan, cataloguer: Cataloguer, ledger: Ledger, pages: Pages | None, progress: Progress) -> None:
    group, selection = made.job.group, made.job.selection
    ends = cataloguer.catch_up(progress=lambda done, of: progress("reading the tape", done, of))
    with suppress(TopicMissing):  # a group without a dead-letter topic has no letters
        cataloguer.letters.catch_up(group)
    of_group = _Group(ledger, cataloguer.reader, group)
    ranks = urgency(ledger.catalogue.newest_failures(group, URGENT))
    if pages is None:
        finder = Finder(cataloguer.settings, ledger, cataloguer)
        pages = _pages(made, finder, ledger, of_group, ends, ranked=bool(ranks), progress=progress)
    for page in pages:
        if not made.job.number:
            made.job = ledger.jobs.create(made.job)
        rows, totals = _rows(made, page, of_group, ranks)
        ledger.jobs.add_items(made.job, rows, totals)
        _count(made, (row[-1] for row in rows), progress)
    if not made.selected:
        raise NothingMatched(f"No event matches: {selection.describe()}. Widen it; `hooktape events list` takes the same options.")
    if not ledger.jobs.amend(made.job.id, note=""):
        raise NotAllowed(f"The plan {made.job.id} was cancelled while it was made.")


def _count(made: Plan, decisions: Iterable[str] | Mapping[str, int], progress: Progress) -> None:
    """A page is in the ledger."""
    made.decisions.update(decisions)
    crash.point("replay-planning")
    progress("planning", made.selected, None)


def _pages(made: Plan, finder: Finder, ledger: Ledger, group: _Group, ends: Mapping[Partition, int], *, ranked: bool,
           progress: Progress) -> Iterator[Sequence[Entry]]:  # fmt: skip
    """The catalogue's pages that are decided event by event. Those of which nothing but RUN would come, as of most when the group is new,
    the ledger copies by itself on the way."""
    selection = made.job.selection
    if ranked or selection.needs_group or selection.needs_tape or selection.ids or selection.resources:
        # Without a status to select by, the outcomes needn't be joined: they're looked up once, for the decision.
        yield from finder.pages(selection, made.job.group if selection.needs_group else None, limit=_PAGE, ends=ends)
        return
    entries = next(finder.pages(selection, limit=_PAGE, ends=ends), None)
    while entries is not None:
        yield entries
        after = After.of(entries[-1])
        while page := ledger.jobs.copy_items(made.job, after, _PAGE, made.selected, lambda events: group.runs(events, ends)):
            _count(made, {RUN: page.events}, progress)
            after = page.last
        entries = next(finder.pages(selection, after=after, limit=_PAGE, ends=ends), None)


def planned(ledger: Ledger, job: Job, examples: int = 5) -> Plan:
    """A job's plan again, as the ledger has it."""
    found, wanted = Plan(job), set(ledger.jobs.topics_to_run(job.id))
    for _, numbers in ledger.jobs.totals(job.id, "topic"):
        found.decisions.update(numbers)
    found.examples = {decision: ledger.jobs.items(job.id, decision=decision, limit=examples) for decision in found.decisions}
    found.handlers = [handler for handler in ledger.handlers.of(job.group) if wanted & set(handler.topics)]
    return found


def known(ledger: Ledger, group: str, keys: Sequence[EventKey]) -> dict[EventKey, Entry]:
    """These events by the catalogue, or else by their letters: without a place on the tape then, since a header may claim any."""
    catalogued = {e.key.id: e for e in ledger.catalogue.of_keys(keys)}
    found = {key: catalogued[key.id] for key in keys if key.id in catalogued}
    letters = ledger.letters.of(group, [key for key in keys if key not in found])
    return found | {key: msgspec.structs.replace(x.entry, kafka_topic="", partition=0, offset=0) for key, x in letters.items()}


def _rows(made: Plan, entries: Sequence[Entry], group: _Group, ranks: Mapping[str, int]) -> tuple[list[Row], list[Total]]:
    forced, again, seq, number = made.job.forced, made.job.again, made.selected, made.job.number
    totals: Counter[tuple[str, str, str]] = Counter()
    rows: list[Row] = []
    for e, (candidate, letter) in zip(entries, group.weigh(entries), strict=True):
        seq += 1
        decision = _WORDS[decide(candidate, forced=forced, again=again)]
        place = seq + ranks[lane] if ranks and (lane := f"{e.shop}/{e.root}" if e.root else e.shop) in ranks else seq
        dead = candidate.redrives + 1 if candidate.state is State.DEAD else 0
        proven = int(letter is None and e.proof is Proof.VERIFIED)
        rows.append((number, place, *e.key, *(letter or (e.kafka_topic, e.partition, e.offset)), e.size, proven, dead, decision))
        totals[decision, e.topic, e.shop] += 1
    return rows, [Total(*names, events) for names, events in totals.items()]


@dataclass(frozen=True, slots=True)
class Drift:
    """What would be decided differently now: (decision in the plan, decision now) → how many of the `looked_at` first events."""

    changes: Mapping[tuple[str, str], int]
    looked_at: int
    age: float

    def __bool__(self) -> bool:
        return bool(self.changes)


STALE = 300.0
"""A plan older than so many seconds is looked at again before it runs: live traffic goes on, retries end, retention moves."""


def drift(ledger: Ledger, reader: Reader, job: Job, *, now: float) -> Drift:
    """Decides again on the plan's first 20,000 events to run, and changes nothing. What nothing knows any more counts as gone.

    Raises TapeUnavailable, LedgerUnavailable.
    """
    of_group = _Group(ledger, reader, job.group)
    changes: Counter[tuple[str, str]] = Counter()
    looked_at, after = 0, job.published_seq
    while looked_at < _DRIFT and (items := ledger.jobs.items(job.id, decision=RUN, after_seq=after, limit=_PAGE)):
        entries = list(known(ledger, job.group, [item.key for item in items]).values())
        for candidate, _ in of_group.weigh(entries):
            now_says = decide(candidate, forced=job.forced, again=job.again).value
            if now_says != RUN:
                changes[RUN, now_says] += 1
        looked_at, after = looked_at + len(items), items[-1].seq
        if missing := len(items) - len(entries):
            changes[RUN, Decision.GONE.value] += missing
    return Drift(dict(changes), looked_at, now - job.created_at)


def exported(ledger: Ledger, job: Job, *, outcome: str | None = None, decision: str | None = None) -> Iterator[dict[str, Any]]:
    """Every event of a job as a dictionary for a JSON line, in the order of publishing; narrowed as in `Jobs.items`."""
    after = START
    while page := ledger.jobs.items(job.id, outcome=outcome, decision=decision, after_seq=after, limit=_PAGE):
        for item in page:
            yield item_row(item)
        after = page[-1].seq


def item_row(item: Item) -> dict[str, Any]:
    """An event of a job for a table or JSON."""
    return {"seq": item.seq, "webhook_id": item.webhook_id, "topic": item.topic, "shop": item.shop, "resource": item.resource,
            "at": f"{item.kafka_topic}/{item.partition}@{item.offset}", "decision": item.decision, "outcome": item.outcome,
            "error": item.error}  # fmt: skip

