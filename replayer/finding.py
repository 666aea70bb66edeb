"""Which events a selection means: the one way from a `Selection` to entries of the catalogue, for whoever lists, plans or counts.

The catalogue's SQL says most of it. Two things lie on Kafka and are added here: whether an event without an outcome is still to
come (its group's committed offsets), and what its body holds (`where`), read from the tape by the events' places and by nothing else.
So what it costs follows what the rest of the selection leaves, and memory holds one page.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from hooktape.errors import NotOurs
from hooktape.ledger.catalogue import After, Entry
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, Status
from hooktape.ledger.where import Where, compiled
from hooktape.replayer.batches import by_size
from hooktape.replayer.catalogue import Cataloguer, log_topics
from hooktape.schemas.event import Coordinates
from hooktape.settings import Settings
from hooktape.tape import groups
from hooktape.tape.reader import Partition
from hooktape.tape.wire import Wire
from hooktape.times import iso

# Webhook ids in one statement: SQLite takes 32,766 parameters, and each id is looked for in each of up to 92 days.
_IDS = 250
# A group so little behind is asked for by place, of which a page sorts all; one further behind by time, from its end.
_FEW = 20_000
# A listing looks at so many events for its page when bodies decide: some seconds.
LOOK = 10_000
# The page then: small, since the last one may be read in vain.
_PAGE = 500


@dataclass(slots=True)
class Looked:
    """What a search looked at: `events` that all but their bodies select. Of these `unreadable` couldn't be judged (no JSON, or the
    expression failed on them), and `gone` have no record on the tape any more; neither is selected."""

    events: int = 0
    unreadable: int = 0
    gone: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """A page. `after` asks for the next, None when there is none; `whole`: everything up to there was looked at for this page."""

    entries: list[Entry]
    after: After | None
    looked: Looked
    whole: bool

    def told(self) -> str:
        """`1 match, looked at all of it`, as a line under the page."""
        number = len(self.entries)
        text = f"{number:,} match{'es' * (number != 1)}"
        if self.whole:
            text += ", looked at all of it" if self.after is None else ", and there are more"
        else:
            text += f", looked at {self.looked.events:,} events so far"
        if self.looked.unreadable:
            text += f"; {self.looked.unreadable:,} bodies can't be judged by `where`"
        if self.looked.gone:
            text += f"; {self.looked.gone:,} bodies aren't on the tape any more"
        return text


@dataclass(frozen=True, slots=True)
class Passed:
    """How far a group has come: its committed offsets. Read them before the outcomes: a worker commits after it has written one."""

    committed: Mapping[Partition, int]

    def status(self, kafka_topic: str, partition: int, offset: int) -> Status:
        """PENDING or NEVER_SEEN, for an event that has no outcome. A group that has committed for some partition of a topic will come
        to the others, too."""
        if (passed := self.committed.get((kafka_topic, partition))) is None:
            return Status.PENDING if any(topic == kafka_topic for topic, _ in self.committed) else Status.NEVER_SEEN
        return Status.NEVER_SEEN if offset < passed else Status.PENDING


class Finder:
    """Turns selections into events. On the thread that uses the cataloguer, whose reader it reads bodies with.

    `looked` tells of the search begun last.
    """

    def __init__(self, settings: Settings, ledger: Ledger, cataloguer: Cataloguer) -> None:
        self._settings = settings
        self._ledger = ledger
        self._cataloguer = cataloguer
        self._wire = Wire(settings)
        self.looked = Looked()

    def pages(self, selection: Selection, group: str | None = None, *, after: After | None = None, limit: int = 1000,
              newest_first: bool = False, ends: Mapping[Partition, int] | None = None) -> Iterator[list[Entry]]:  # fmt: skip
        """The selected events by (received_at, id), in pages of at most `limit`, none of them empty; with their status in `group`.

        `ends`: only what lies before these offsets, as a plan froze them; a partition that isn't named has nothing there.
        Raises UsageError when the selection needs a group and there is none, TapeUnavailable, LedgerUnavailable.
        """
        return (kept for _, _, kept in self._walk(selection, group, after, limit, newest_first, ends) if kept)

    def count(self, selection: Selection, group: str | None = None) -> int:
        """How many events are selected. Raises as `pages` does."""
        if not selection.needs_tape and len(selection.ids) <= _IDS:
            return self._ledger.catalogue.count(selection, group)
        return sum(len(page) for page in self.pages(selection, group))

    def listed(self, selection: Selection, group: str | None = None, *, after: After | None = None, limit: int = 50,
               newest_first: bool = True, look: int = LOOK) -> Listing:  # fmt: skip
        """One page for a screen, which ends where `look` events have been looked at. Raises as `pages` does."""
        found: list[Entry] = []
        page = _PAGE if selection.needs_tape else limit + 1
        for last, read, kept in self._walk(selection, group, after, page, newest_first, None):
            found += kept
            if len(found) > limit:
                return Listing(found[:limit], After.of(found[limit - 1]), self.looked, True)
            if read == page and selection.needs_tape and self.looked.events >= look:
                return Listing(found, last, self.looked, False)
        return Listing(found, None, self.looked, True)

    def why_none(self, selection: Selection) -> str:
        """Why nothing was found, for people: nothing matches, the catalogue is behind, or it's older than the tape."""
        if behind := self._cataloguer.lag():
            return (f"No event in the catalogue matches: {selection.describe()}. It is {behind:,} records behind the tape: "
                    "`hooktape catalog` keeps it up.")  # fmt: skip
        begin = self.begin()
        if begin is None:
            return "There's no event on the tape yet."
        if selection.until is not None and selection.until <= begin:
            return f"What is asked for is older than the tape, which begins at {iso(begin)}: {selection.describe()}."
        if self.looked.gone:
            return f"Retention has just removed {self.looked.gone:,} events that `where` would have judged: {selection.describe()}."
        reach = f" The tape begins at {iso(begin)}." if selection.since is not None and selection.since < begin else ""
        return f"No event on the tape matches: {selection.describe()}.{reach}"

    def begin(self) -> int | None:
        """When the oldest record that is on the tape now was appended (microseconds), by the broker's clock; None for an empty tape."""
        reader = self._cataloguer.reader
        times = reader.first_times(reader.lows(log_topics(self._settings, reader)))
        return min(times.values()) * 1000 if times else None

    def _walk(self, selection: Selection, group: str | None, after: After | None, limit: int, newest_first: bool,
              ends: Mapping[Partition, int] | None) -> Iterator[tuple[After, int, list[Entry]]]:  # fmt: skip
        """Where a page of the catalogue ended, how many events it had, and those of them that are selected."""
        self.looked = looked = Looked()
        passed = self._passed(selection, group)
        beyond = None
        if passed is not None and set(selection.statuses) == {Status.PENDING}:
            beyond = self._little_behind(passed)
        for page in self._catalogue(selection.in_sql(), group, after, limit, newest_first, beyond):
            kept = [e for e in page if ends is None or e.offset < ends.get((e.kafka_topic, e.partition), 0)]
            if passed is not None:
                told = [msgspec.structs.replace(e, status=passed.status(*_place(e))) if e.status is Status.PENDING else e for e in kept]
                kept = [e for e in told if not selection.statuses or e.status in selection.statuses]
            looked.events += len(kept)
            if selection.where:
                where = compiled(selection.where)
                kept = [e for batch in by_size(kept, lambda e: e.size) for e in self._judged(batch, where, looked)]
            yield After.of(page[-1]), len(page), kept

    def _catalogue(self, selection: Selection, group: str | None, after: After | None, limit: int, newest_first: bool,
                   beyond: Mapping[Partition, int] | None) -> Iterator[list[Entry]]:  # fmt: skip
        find = self._ledger.catalogue.find
        if len(selection.ids) > _IDS:
            yield from self._of_many_ids(selection, group, after, limit, newest_first, beyond)
            return
        while page := find(selection, group, after=after, limit=limit, newest_first=newest_first, beyond=beyond):
            yield page
            if len(page) < limit:
                return
            after = After.of(page[-1])

    def _of_many_ids(self, selection: Selection, group: str | None, after: After | None, limit: int, newest_first: bool,
                     beyond: Mapping[Partition, int] | None) -> Iterator[list[Entry]]:  # fmt: skip
        """A file of ids: each is looked up once, and all are put in order here; a selection holds 50,000 at most."""
        found: list[Entry] = []
        ids = tuple(dict.fromkeys(selection.ids))
        for start in range(0, len(ids), _IDS):
            part = replace(selection, ids=ids[start : start + _IDS])
            for page in self._catalogue(part, group, after, 1000, newest_first, beyond):
                found += page
        found.sort(key=After.of, reverse=newest_first)
        for start in range(0, len(found), limit):
            yield found[start : start + limit]

    def _passed(self, selection: Selection, group: str | None) -> Passed | None:
        if group is None or (selection.statuses and not selection.takes_no_outcome):
            return None
        reader = self._cataloguer.reader
        return Passed(groups.committed(self._settings, group, reader.partitions(log_topics(self._settings, reader))))

    def _little_behind(self, passed: Passed) -> dict[Partition, int] | None:
        """Where the group stands in each partition that holds more, when it's little altogether."""
        topics = {topic for topic, _ in passed.committed}
        ends = self._ledger.catalogue.positions()
        places = {p: passed.committed.get(p, 0) for p, end in ends.items() if p[0] in topics and passed.committed.get(p, 0) < end}
        return places if sum(ends[p] - offset for p, offset in places.items()) <= _FEW else None

    def _judged(self, entries: Sequence[Entry], where: Where, looked: Looked) -> Iterator[Entry]:
        records = self._cataloguer.reader.fetch_many(_place(e) for e in entries)
        for e in entries:
            record = records.get(_place(e))
            try:
                event = None if record is None else self._wire.decode(record.value)
            except NotOurs:
                event = None
            if event is None or event.key.id != e.key.id:  # a topic that was made anew has other events at these places
                looked.gone += 1
                continue
            judged = where.matches(event.payload)
            looked.unreadable += judged is None
            if judged:
                yield e


def _place(e: Entry) -> Coordinates:
    return Coordinates(e.kafka_topic, e.partition, e.offset)
