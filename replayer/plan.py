"""What a replay would do, event by event, before it does anything: the decision is pure, the planning around it reads.

A plan is a job in the ledger that hasn't started. Its end is frozen: what is recorded after the plan began isn't in it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger.catalogue import After, Entry
from hooktape.ledger.checks import FINISHED, IN_RETRY, State
from hooktape.ledger.items import RUN, Item
from hooktape.ledger.jobs import Job, Kind
from hooktape.ledger.keys import EventKey, new_id
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, Status
from hooktape.replayer.catalogue import Cataloguer
from hooktape.tape.names import check_group
from hooktape.tape.reader import Partition

PLANNING = "planning"
"""A job's note while its plan is being made: one whose planner was killed is never run."""
_PAGE = 1000
# A redriven event that died so often again won't recover by itself: a person has to insist.
REDRIVES = 3


class Decision(StrEnum):
    """What will become of a selected event."""

    RUN = RUN
    DONE = "done"
    """The group has finished it: succeeded, or skipped it as stale, or a person discarded it. `--force` runs it again."""
    SUPERSEDED = "superseded"
    """A newer version of its resource, by the same topic, has succeeded already. `--force` runs it nevertheless."""
    WAITING = "waiting"
    """In a retry topic: it'll run by itself."""
    GONE = "gone"
    """Retention has removed it from the tape."""
    AGAIN = "needs_again"
    """Died after three redrives: `--again` redrives it once more."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the decision on one event depends on. `newest` is the newest version of its resource that has succeeded."""

    state: State | None
    on_tape: bool
    version: int | None = None
    newest: int | None = None
    redrives: int = 0


def decide(event: Candidate, *, forced: bool = False, again: bool = False) -> Decision:
    """Pure. An event that runs just now counts as not finished: its worker skips the second record once it has ended."""
    if not event.on_tape:
        return Decision.GONE
    if event.state in IN_RETRY:
        return Decision.WAITING
    if event.redrives >= REDRIVES and not again:
        return Decision.AGAIN
    if forced:
        return Decision.RUN
    if event.state in FINISHED:
        return Decision.DONE
    if event.version is not None and event.newest is not None and event.newest > event.version:
        return Decision.SUPERSEDED
    return Decision.RUN


@dataclass(slots=True)
class Plan:
    """The plan's totals; its events are the job's items. `seconds` is None without a rate."""

    job: Job
    decisions: Counter[str] = field(default_factory=Counter)
    topics: dict[str, Counter[str]] = field(default_factory=dict)
    shops: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[Item]] = field(default_factory=dict)

    @property
    def selected(self) -> int:
        return self.decisions.total()

    @property
    def seconds(self) -> float | None:
        """How long publishing takes at the job's rate."""
        return self.decisions[RUN] / self.job.rate if self.job.rate else None

    def add(self, item: Item, examples: int = 5) -> None:
        """Counts an item."""
        self.decisions[item.decision] += 1
        self.topics.setdefault(item.topic, Counter())[item.decision] += 1
        self.shops.setdefault(item.shop, Counter())[item.decision] += 1
        shown = self.examples.setdefault(item.decision, [])
        if len(shown) < examples:
            shown.append(item)


Progress = Callable[[str, int, int | None], None]
"""Gets what is being done, how much of it is done, and of how much (None: not known)."""


def plan_replay(cataloguer: Cataloguer, ledger: Ledger, group: str, selection: Selection, *, who: str, now: float,
                forced: bool = False, rate: float | None = None, progress: Progress | None = None,
                begun: Callable[[Job], None] | None = None) -> Plan:  # fmt: skip
    """Reads, decides, and writes a planned job; nothing else changes. Memory doesn't grow with the selection.

    `begun` gets the job before anything is read, for who tells its id at once.

    Raises UsageError for an empty selection, NothingMatched, SettingsError for a group that can't be one.
    """
    check_group(group)
    if selection.is_empty:
        raise UsageError("Nothing narrows the selection. To replay the whole tape, say so: --since 30d.")
    plan = Plan(new_job(Kind.REPLAY, group, selection, who=who, now=now, forced=forced, rate=rate))
    if begun:
        begun(plan.job)
    ends = cataloguer.catch_up(progress=(lambda done, of: progress("reading the tape", done, of)) if progress else None)
    lows = cataloguer.reader.lows({topic for topic, _ in ends})
    for entries in pages(ledger, selection, group):
        inside = [e for e in entries if e.offset < ends.get((e.kafka_topic, e.partition), 0)]
        candidates = candidates_of(ledger, group, inside, lows)
        items = [item(e, decide(c, forced=forced), plan.selected + i) for i, (e, c) in enumerate(zip(inside, candidates, strict=True), 1)]
        write(ledger, plan, items)
        if progress:
            progress("planning", plan.selected, None)
    return finished(ledger, plan)


def new_job(kind: Kind, group: str, selection: Selection, *, who: str, now: float, forced: bool, rate: float | None) -> Job:
    """A job to plan. Raises UsageError for a rate that isn't above 0."""
    if rate is not None and rate <= 0:
        raise UsageError("A rate is a number of events a second, above 0.")
    return Job(new_id(now), group, kind, selection, "", who, now, forced, rate, note=PLANNING)


def write(ledger: Ledger, plan: Plan, items: Sequence[Item]) -> None:
    """Adds planned items to the plan and its job, which is made with the first of them."""
    if items and not plan.selected:
        ledger.jobs.create(plan.job)
    for each in items:
        plan.add(each)
    if items:
        ledger.jobs.add_items(plan.job.id, items)


def finished(ledger: Ledger, plan: Plan) -> Plan:
    """Marks the plan as whole. Raises NothingMatched when it holds no event."""
    if not plan.selected:
        raise NothingMatched(f"No event matches: {plan.job.selection.describe()}. Widen it; `hooktape events list` takes the same options.")
    ledger.jobs.amend(plan.job.id, note="")
    plan.job = replace(plan.job, note="", selected=plan.selected)
    return plan


def pages(ledger: Ledger, selection: Selection, group: str | None) -> Iterator[list[Entry]]:
    """The selected events, oldest first, so that within a resource the older one is handed over first."""
    after = None
    while page := ledger.catalogue.find(selection, group, after=after, limit=_PAGE):
        yield page
        after = After.of(page[-1])


def candidates_of(ledger: Ledger, group: str, entries: Sequence[Entry], lows: Mapping[Partition, int]) -> list[Candidate]:
    """What the decisions on these events depend on."""
    states = ledger.outcomes.states(group, [e.key for e in entries])
    newest = newest_succeeded(ledger, group, entries)
    return [
        Candidate(states.get(e.key), e.offset >= lows.get((e.kafka_topic, e.partition), 2**62), e.version,
                  newest.get((e.shop, e.topic, e.resource or "")))
        for e in entries
    ]  # fmt: skip


def newest_succeeded(ledger: Ledger, group: str, entries: Iterable[Entry]) -> dict[tuple[str, str, str], int]:
    """(shop, topic, resource) → the newest version that the group has handled.

    Of the same topic only: an `orders/paid` isn't superseded by a later `orders/updated`, which another handler may take.
    """
    wanted = [e for e in entries if e.resource and e.version is not None]
    if not wanted:
        return {}
    selection = Selection(
        topics=tuple({e.topic for e in wanted}), shops=tuple({e.shop for e in wanted}),
        resources=tuple({e.resource for e in wanted if e.resource}), statuses=(Status.SUCCEEDED,),
    )  # fmt: skip
    found: dict[tuple[str, str, str], int] = {}
    for page in pages(ledger, selection, group):
        for e in page:
            if e.resource and e.version is not None:
                key = (e.shop, e.topic, e.resource)
                found[key] = max(found.get(key, e.version), e.version)
    return found


def item(entry: Entry, decision: Decision, seq: int) -> Item:
    """A planned event of a job."""
    return Item(seq, EventKey(*entry.key), entry.kafka_topic, entry.partition, entry.offset, entry.topic, entry.shop,
                entry.resource or "", decision.value)  # fmt: skip
