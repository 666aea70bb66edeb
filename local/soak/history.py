"""What was observed from outside, as plain values; a history is kept as JSON Lines, so that it can be judged again.

Every time is in seconds of one machine's monotonic clock, unless its name says otherwise. The letters are those of the file's `type`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import msgspec


class Handler(msgspec.Struct, frozen=True, tag="H"):
    """A handler under test, and what it asked for."""

    group: str
    name: str
    topics: tuple[str, ...]
    ordered: bool = True
    skip_stale: bool = False
    max_attempts: int = 12
    transactional: bool = False
    """Its effects are the `Row`s that its own transaction wrote, not the ends of its attempts."""


class Post(msgspec.Struct, frozen=True, tag="P"):
    """One request of one webhook. `status` None: no answer came; the webhook may or may not be on the tape."""

    wid: str
    shop: str
    topic: str
    lane: str
    resource: str
    version: int
    sha: str
    """SHA-256 of the body, in hex."""
    t0: float
    t1: float
    status: int | None
    imported: bool = False
    """Put on the tape without ingest: nobody waited for an answer."""


class Attempt(msgspec.Struct, frozen=True, tag="E"):
    """One call of a handler. `end` None: it never came to its end, so its process died, or still runs."""

    group: str
    handler: str
    wid: str
    lane: str
    resource: str
    version: int | None
    attempt: int
    generation: str
    """The replay that brought it, or ""."""
    pid: int
    start: float
    end: float | None
    ok: bool


class Row(msgspec.Struct, frozen=True, tag="X"):
    """An effect that a handler wrote inside `event.transaction`, as the database kept it. `at`: when the handler wrote it."""

    group: str
    handler: str
    wid: str
    lane: str
    resource: str
    version: int | None
    generation: str
    pid: int
    at: float


class Fault(msgspec.Struct, frozen=True, tag="F"):
    """What we did to a process, or (`ended`) what it did by itself. `healed`: when it ran again; for `term`, when it had ended."""

    kind: str
    """kill, crash, stop, term, cut; ended, by itself; gave-up, having found no server at its start; silent, a server that didn't
    answer the witness in time, whoever was to blame."""
    target: str
    """worker, ingest, replay, reconciler, broker, postgres."""
    pid: int
    t: float
    healed: float | None = None
    detail: str = ""
    """The crash point, or the exit status."""


class Commit(msgspec.Struct, frozen=True, tag="C"):
    """A group's committed offset, asked for after `t0` and told before `t1`."""

    group: str
    topic: str
    partition: int
    offset: int
    t0: float
    t1: float


class Record(msgspec.Struct, frozen=True, tag="T"):
    """A record on Kafka, read from offset 0 by a client that is in no group. `at`: the broker's time of its appending."""

    kind: str
    """log, retry, dlq, replay."""
    kafka_topic: str
    partition: int
    offset: int
    at: float
    wid: str
    shop: str
    topic: str
    sha: str
    key: str
    source: str = "webhook"
    group: str = ""
    attempts: int = 0
    due: float | None = None
    generation: str = ""
    received: int = 0
    """The event's own `received_at`, in microseconds since the epoch: what a time range selects by."""
    resource: str = ""
    version: int | None = None


class Outcome(msgspec.Struct, frozen=True, tag="O"):
    """What the ledger says became of a webhook: succeeded, stale, dead, discarded, waiting, …"""

    group: str
    wid: str
    state: str


class Item(msgspec.Struct, frozen=True, tag="R"):
    """A line of a replay's plan and its outcome ("" while there's none), as the ledger has it after the drain."""

    job: str
    group: str
    wid: str
    decision: str
    """run, or why it's skipped."""
    outcome: str = ""
    complete: bool = True
    """Whether the job says that it accounts for everything."""
    seq: int = 0
    """Its place in the plan."""


class Asked(msgspec.Struct, frozen=True):
    """The selection that an operator typed. `since` is included, `until` isn't: microseconds since the epoch, by `received_at`."""

    topics: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    dead: bool = False
    """`--status dead`."""
    forced: bool = False
    redrive: bool = False
    """By `dlq redrive`: dead events only."""


class Command(msgspec.Struct, frozen=True, tag="K"):
    """What an operator typed and got: `verb` is plan, run, resume, pause or cancel. `code` None: we ended it.

    `told` are the totals that it printed: of a plan by decision; of a run by outcome, `not run` under `not_run:` and what was skipped
    under `skipped:`, with `in_flight` and `not_sent`. Empty where it printed none.
    """

    verb: str
    job: str
    """"" where the plan's id was never printed."""
    pid: int
    t0: float
    t1: float
    code: int | None
    told: dict[str, int] = {}
    selected: int | None = None
    """The printed number of selected events."""
    asked: Asked | None = None
    """Of plans."""
    state: str = ""
    """The job's, as it was printed."""


class Change(msgspec.Struct, frozen=True, tag="S"):
    """One webhook of the local shop as the shop itself knows it, whether or not it was ever sent."""

    wid: str
    topic: str
    resource: str
    version: int | None
    """The state's `updated_at` in microseconds; None: it was deleted."""
    at: float
    """When it happened."""
    fate: str
    """sent, late, dropped."""


class Facts(msgspec.Struct, frozen=True, tag="M"):
    """What the rules measure against. Times in seconds."""

    seed: int = 0
    block: int = 0
    ledger: str = "sqlite"
    session: float = 1.5
    """After this long without a sign of life a worker's partitions are another's."""
    drain: float | None = 0.0
    """From healing until nothing was open any more; None: it never came."""
    drain_limit: float = 10.0
    ends: dict[str, int] = {}
    """`topic/partition` of each log → its end offset, once all was drained."""
    tries_a_run: int = 3
    """Tries of one event that a worker makes without telling anyone: a death may make them happen again."""
    versions: dict[str, str] = {}
    grace: float = 0.0
    """Of the reconciler; 0: none was there."""


Entry: TypeAlias = Handler | Post | Attempt | Row | Fault | Commit | Record | Outcome | Item | Command | Change | Facts


@dataclass(slots=True)
class History:
    """Everything observed of one block."""

    facts: Facts = field(default_factory=Facts)
    handlers: list[Handler] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def entries(self) -> Iterator[Entry]:
        """All of it, the facts first."""
        yield self.facts
        for entries in self._lists().values():
            yield from entries

    def add(self, entry: Entry) -> None:
        """Takes in one entry."""
        if isinstance(entry, Facts):
            self.facts = entry
        else:
            self._lists()[type(entry)].append(entry)

    def _lists(self) -> dict[type, list[Any]]:
        return {Handler: self.handlers, Post: self.posts, Attempt: self.attempts, Row: self.rows, Fault: self.faults,
                Commit: self.commits, Record: self.records, Outcome: self.outcomes, Item: self.items, Command: self.commands,
                Change: self.changes}  # fmt: skip

    def write(self, path: Path) -> None:
        """Keeps it as JSON Lines."""
        encode = msgspec.json.Encoder().encode
        with path.open("wb") as file:
            file.writelines(encode(entry) + b"\n" for entry in self.entries())

    @classmethod
    def read(cls, path: Path) -> "History":
        """A kept history. Raises OSError, msgspec.DecodeError."""
        with path.open("rb") as file:
            return cls.of(map(msgspec.json.Decoder(Entry).decode, file))

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "History":
        """A history of these entries."""
        history = cls()
        lists = history._lists()
        for entry in entries:
            if isinstance(entry, Facts):
                history.facts = entry
            else:
                lists[type(entry)].append(entry)
        return history
