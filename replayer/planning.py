"""Makes a plan: reads, decides, and writes a job that hasn't started. Its end is frozen: what is recorded later isn't in it.

Replay, redrive and backfill are the same plan: they differ in where their events come from (`pages`) and in who kept the bodies.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from hooktape import crash
from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger.catalogue import REPLAYABLE, After, Entry, Proof
from hooktape.ledger.checks import State
from hooktape.ledger.handlers import Known
from hooktape.ledger.items import RUN, START, Item, Row, Total
from hooktape.ledger.jobs import STANDARD, Job, Kind, Limits
from hooktape.ledger.keys import EventKey, new_id
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.deciding import URGENT, Candidate, Decision, decide, urgency
from hooktape.schemas.event import Coordinates
from hooktape.tape.names import check_group
from hooktape.tape.reader import Partition, Reader

PLANNING = "planning"
"""A job's note while its plan is being made: one whose planner was killed is never run."""
# One page's rows are all that a plan holds in memory.
_PAGE = 2000
# A drift is shown, not acted on: workers and runner check every event again. More would take longer than a person waits.
_DRIFT = 20_000

Progress = Callable[[str, int, int | None], None]
"""Gets what is being done, how much of it is done, and of how much (None: not known)."""
Pages = Iterable[Sequence[Entry]]
"""Selected events, oldest first: within a resource the older one is handed over first."""


# The value of an enum's member costs more than looking it up here.
_WORDS = {decision: decision.value for decision in Decision}


class Kept(NamedTuple):
    """What is known of a dead event's letter: where it lies, and how often its event was redriven."""

    at: Coordinates
    redrives: int


Letters = Callable[[Sequence[EventKey]], Mapping[EventKey, Kept]]
"""The letters of dead events, where there are any (still)."""


def no_letters(_: Sequence[EventKey]) -> Mapping[EventKey, Kept]:
    """For a plan that needn't know of letters."""
    return {}


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

    def __init__(self, ledger: Ledger, reader: Reader, group: str, letters: Letters) -> None:
        self._ledger, self._reader, self._group, self._letters = ledger, reader, group, letters
        self._lows: dict[Partition, int] = {}
        self._topics: set[str] = set()
        self.handlers = ledger.handlers.of(group)
        self._refusing = {topic for handler in self.handlers if not handler.replay for topic in handler.topics}

    def reached(self, topics: Iterable[str]) -> list[Known]:
        wanted = set(topics)
        return [handler for handler in self.handlers if wanted & set(handler.topics)]

    def weigh(self, entries: Sequence[Entry]) -> list[tuple[Candidate, Coordinates | None]]:
        """Each event's candidate, and where its letter lies if its body is taken from there."""
        if new := {e.kafka_topic for e in entries} - self._topics:
            self._topics |= new
            self._lows |= self._reader.lows(new)
        keys = [e.key for e in entries]
        states = self._ledger.outcomes.states(self._group, keys)
        letters = self._letters([k for k in keys if states.get(k) is State.DEAD]) if states else {}
        newest = self._ledger.catalogue.newest_succeeded(self._group, entries)
        found: list[tuple[Candidate, Coordinates | None]] = []
        lows, refusing, none = self._lows, self._refusing, 1 << 62
        for key, e in zip(keys, entries, strict=True):
            letter = letters.get(key) if letters else None
            kept = e.offset >= lows.get((e.kafka_topic, e.partition), none)
            version = newest.get((e.shop, e.topic, e.resource or "")) if newest else None
            found.append((Candidate(states.get(key), kept or letter is not None, e.version, version, letter.redrives if letter else 0,
                                    e.topic in refusing, e.proof in REPLAYABLE), letter.at if letter and not kept else None))  # fmt: skip
        return found

def plan(cataloguer: Cataloguer, ledger: Ledger, group: str, selection: Selection, *, who: str, now: float, kind: Kind = Kind.REPLAY,
         forced: bool = False, again: bool = False, limits: Limits = STANDARD, pages: Pages | None = None,
         letters: Letters = no_letters, examples: int = 5, progress: Progress | None = None) -> Plan:  # fmt: skip
    """Reads, decides, and writes a planned job; nothing else changes. Memory doesn't grow with the selection.

    `pages` stands in for the search of the catalogue: what a dead-letter topic holds isn't always in it. The catalogue is brought up to
    the tape's end first; what is recorded meanwhile isn't selected. Raises UsageError for an empty selection, NothingMatched,
    SettingsError for a group that can't be one, TapeUnavailable, LedgerUnavailable.
    """
    check_group(group)
    if selection.is_empty:
        raise UsageError("Nothing narrows the selection. To replay the whole tape, say so: --since 30d.")
    ends = cataloguer.catch_up(progress=(lambda done, of: progress("reading the tape", done, of)) if progress else None)
    made = Plan(Job(new_id(now), group, kind, selection, "", who, now, forced, again, limits, note=PLANNING))
    known = _Group(ledger, cataloguer.reader, group, letters)
    ranks = urgency(ledger.catalogue.newest_failures(group, URGENT))
    for page in pages if pages is not None else find(ledger, selection, group):
        # A partition that the tape hasn't got can't have an end: a letter's, say.
        inside = [e for e in page if e.offset < ends.get((e.kafka_topic, e.partition), 1 << 62)]
        if not inside:
            continue
        if not made.selected:
            made.job = ledger.jobs.create(made.job)
        rows, totals, shown = _rows(made, inside, known, ranks, examples)
        ledger.jobs.add_items(made.job, rows, totals)
        for decision, item in shown:
            made.examples.setdefault(decision, []).append(item)
        made.decisions.update(row[-1] for row in rows)
        crash.point("replay-planning")
        if progress:
            progress("planning", made.selected, None)
    if not made.selected:
        raise NothingMatched(f"No event matches: {selection.describe()}. Widen it; `hooktape events list` takes the same options.")
    ledger.jobs.amend(made.job.id, note="")
    made.job = replace(made.job, note="", selected=made.selected)
    made.handlers = known.reached(ledger.jobs.topics_to_run(made.job.id))
    return made


def _rows(made: Plan, entries: Sequence[Entry], known: _Group, ranks: Mapping[str, int],
          examples: int) -> tuple[list[Row], list[Total], list[tuple[str, Item]]]:  # fmt: skip
    forced, again, seq, number = made.job.forced, made.job.again, made.selected, made.job.number
    totals: Counter[tuple[str, str, str]] = Counter()
    rows: list[Row] = []
    shown: list[tuple[str, Item]] = []
    more = Counter({decision: examples - len(items) for decision, items in made.examples.items()})
    for e, (candidate, letter) in zip(entries, known.weigh(entries), strict=True):
        seq += 1
        decision = _WORDS[decide(candidate, forced=forced, again=again)]
        place = seq + ranks[lane] if ranks and (lane := f"{e.shop}/{e.root}" if e.root else e.shop) in ranks else seq
        dead = candidate.redrives + 1 if candidate.state is State.DEAD else 0
        topic, partition, offset = letter or (e.kafka_topic, e.partition, e.offset)
        proven = int(letter is None and e.proof is Proof.VERIFIED)
        rows.append((number, place, *e.key, topic, partition, offset, e.size, proven, dead, decision))
        totals[decision, e.topic, e.shop] += 1
        if more.setdefault(decision, examples) > 0:
            more[decision] -= 1
            shown.append((decision, Item(place, e.key, topic, partition, offset, decision, None, None, e.topic, e.shop,
                                         e.resource or "", e.webhook_id)))  # fmt: skip
    return rows, [Total(*names, events) for names, events in totals.items()], shown


def find(ledger: Ledger, selection: Selection, group: str | None) -> Iterator[list[Entry]]:
    """The selected events, oldest first."""
    after = None
    # Without a status to select by, the outcomes needn't be joined: they're looked up once, for the decision.
    asked = group if selection.needs_group else None
    while page := ledger.catalogue.find(selection, asked, after=after, limit=_PAGE):
        yield page
        after = After.of(page[-1])


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


def drift(ledger: Ledger, reader: Reader, job: Job, *, now: float, letters: Letters = no_letters) -> Drift:
    """Decides again on the plan's first 20,000 events to run, and changes nothing. What the catalogue has forgotten counts as gone.

    Raises TapeUnavailable, LedgerUnavailable.
    """
    known = _Group(ledger, reader, job.group, letters)
    changes: Counter[tuple[str, str]] = Counter()
    looked_at, after = 0, job.published_seq
    while looked_at < _DRIFT and (items := ledger.jobs.items(job.id, decision=RUN, after_seq=after, limit=_PAGE)):
        entries = ledger.catalogue.of_keys([item.key for item in items])
        for candidate, _ in known.weigh(entries):
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

