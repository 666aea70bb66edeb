"""What answers look like: the ledger's values as JSON objects, times as ISO 8601 in UTC."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from hooktape.ledger import catalogue, failures
from hooktape.ledger import items as ledger_items
from hooktape.ledger import jobs as ledger_jobs
from hooktape.replayer import dlq, history, reset
from hooktape.replayer.plan import Plan as MadePlan
from hooktape.schemas.event import Coordinates
from hooktape.times import from_micros

Group = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]{1,9}(\.[0-9]{1,9})?(ms|[smhdw]))+$", max_length=50)]
Time = Annotated[
    str, StringConstraints(max_length=50, pattern=r"^(now|([0-9]{1,9}(\.[0-9]{1,9})?(ms|[smhdw]))+|[0-9]{4}-[0-9]{2}-[0-9]{2}"
                           r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?)$"),
]  # fmt: skip
"""As `hooktape.times.parse_time` reads it: ISO 8601, or a time ago."""
Reason = Annotated[
    str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"),
    Field(description="Why: kept in the audit trail, and seen by handlers.", examples=["warehouse API was down"]),
]  # fmt: skip
Confirm = Annotated[
    int | None, Field(ge=0, le=2**53, description="The number of events that a person has seen this concerns. Without the right one "
                      "nothing is done, and the answer is a problem whose `needed` says it."),
]  # fmt: skip


def moment(seconds: float | None) -> datetime | None:
    """Epoch seconds as a time."""
    return None if seconds is None else from_micros(int(seconds * 1_000_000))


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


class Strict(BaseModel):
    """A request's body: what it doesn't know is an error, since a misspelt field that's ignored replays too much."""

    model_config = ConfigDict(extra="forbid")


class Page(BaseModel):
    """A page of a list."""

    next: str | None = Field(description="The address of the next page; null: this is the last.")


class Status(BaseModel):
    """An event in a group."""

    status: str
    attempts: int
    error_type: str
    error_group: str


class Event(BaseModel):
    """An event on the tape, without its body."""

    webhook_id: str
    shop: str
    topic: str
    resource: str | None
    root: str | None = Field(description="What the resource belongs to: events of one root are handled in order.")
    version: datetime | None = Field(description="The resource's `updated_at`.")
    received_at: datetime
    triggered_at: datetime | None
    source: str
    size: int = Field(description="The body's bytes.")
    copies: int = Field(description="How often it was delivered.")
    at: str = Field(description="Its place on Kafka: topic/partition@offset.", examples=["hooktape.log.orders.create/3@17"])
    in_group: Status | None = Field(description="Where a group was asked about.")

    @classmethod
    def of(cls, e: catalogue.Entry) -> Self:
        status = None if e.status is None else Status(status=str(e.status), attempts=e.attempts, error_type=e.error_type,
                                                      error_group=e.error_group)  # fmt: skip
        return cls(webhook_id=e.webhook_id, shop=e.shop, topic=e.topic, resource=e.resource, root=e.root, version=_time(e.version),
                   received_at=from_micros(e.received_at), triggered_at=_time(e.triggered_at), source=e.source, size=e.size,
                   copies=e.copies, at=str(Coordinates(e.kafka_topic, e.partition, e.offset)), in_group=status)  # fmt: skip


class Events(Page):
    items: list[Event]


class Count(BaseModel):
    count: int


class Outcome(BaseModel):
    """What a group made of an event."""

    group: str
    status: str
    attempts: int
    error_type: str
    error_group: str
    error_message: str

    @classmethod
    def of(cls, o: history.Outcome) -> Self:
        return cls(**{name: getattr(o, name) for name in o.__slots__})


class Handover(BaseModel):
    """A job that selected an event."""

    id: str
    kind: str
    group: str
    who: str
    reason: str
    decision: str
    outcome: str | None
    error: str | None


class EventHistory(BaseModel):
    """An event with all that became of it."""

    event: Event
    outcomes: list[Outcome]
    replays: list[Handover]


class Body(BaseModel):
    """An event's record: its body byte for byte, as text where it's UTF-8 and as base64 where it isn't."""

    webhook_id: str
    shop: str
    topic: str
    headers: dict[str, str] = Field(description="Shopify's headers as they came.")
    body: str | None
    body_base64: str | None
    relabelled: bool = Field(description="Whether the same signed body was seen under another shop or topic.")
    verified_by: str | None = Field(description="The id of the secret that verified it; null for synthetic events.")


class Job(BaseModel):
    """A plan, and the run of it."""

    id: str
    kind: str
    group: str
    state: str = Field(description="planning, planned, running, paused, verifying, done, incomplete, cancelled or failed.")
    selection: str = Field(description="In words.")
    selected: int
    published_seq: int = Field(description="The last item that is known to be on Kafka.")
    forced: bool
    rate: float | None = Field(description="Events a second; null: as fast as it goes.")
    who: str
    reason: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    note: str

    @classmethod
    def of(cls, j: ledger_jobs.Job, state: str) -> Self:
        return cls(id=j.id, kind=str(j.kind), group=j.group, state=state, selection=j.selection.describe(), selected=j.selected,
                   published_seq=j.published_seq, forced=j.forced, rate=j.rate, who=j.who, reason=j.reason,
                   created_at=from_micros(int(j.created_at * 1_000_000)), started_at=moment(j.started_at),
                   ended_at=moment(j.ended_at), note=j.note)  # fmt: skip


class Jobs(Page):
    items: list[Job]


class Account(BaseModel):
    """Where every selected event of a job stands: each is in exactly one of the parts."""

    selected: int
    not_run: dict[str, int] = Field(description="By the plan's decision.")
    succeeded: int
    failed_again: int
    skipped: dict[str, int] = Field(description="By the reason met on the way.")
    in_flight: int
    not_sent: int
    adds_up: bool

    @classmethod
    def of(cls, a: ledger_items.Account) -> Self:
        return cls(selected=a.selected, not_run=dict(a.not_run), succeeded=a.succeeded, failed_again=a.failed_again,
                   skipped=dict(a.skipped), in_flight=a.in_flight, not_sent=a.not_sent, adds_up=a.adds_up)  # fmt: skip


class JobWithAccount(BaseModel):
    job: Job
    account: Account


class Item(BaseModel):
    """One selected event of a job."""

    seq: int
    topic: str
    shop: str
    resource: str
    at: str
    decision: str
    outcome: str | None = Field(description="null: none yet.")
    error: str | None

    @classmethod
    def of(cls, i: ledger_items.Item) -> Self:
        return cls(seq=i.seq, topic=i.topic, shop=i.shop, resource=i.resource, at=str(Coordinates(i.kafka_topic, i.partition, i.offset)),
                   decision=i.decision, outcome=i.outcome, error=i.error)  # fmt: skip


class Items(Page):
    items: list[Item]


class Plan(BaseModel):
    """What a run would do. Nothing has changed."""

    job: Job
    decisions: dict[str, int]
    topics: dict[str, dict[str, int]]
    shops: dict[str, dict[str, int]] = Field(description="The fifty with the most events.")
    seconds: float | None = Field(description="How long it takes at the rate.")
    examples: dict[str, list[Item]]

    @classmethod
    def of(cls, plan: MadePlan, state: str) -> Self:
        largest = sorted(plan.shops.items(), key=lambda pair: -sum(pair[1].values()))[:50]
        return cls(job=Job.of(plan.job, state), decisions=dict(plan.decisions), topics={t: dict(c) for t, c in plan.topics.items()},
                   shops={s: dict(c) for s, c in largest}, seconds=plan.seconds,
                   examples={d: [Item.of(i) for i in items] for d, items in plan.examples.items()})  # fmt: skip


class Cause(BaseModel):
    """Dead events with one cause."""

    error_group: str
    error_type: str
    message: str
    count: int
    first: datetime
    last: datetime
    topics: list[str]
    shops: int
    example: str | None = Field(description="The webhook id of the latest.")

    @classmethod
    def of(cls, g: failures.ErrorGroup, example: str | None) -> Self:
        return cls(error_group=g.error_group, error_type=g.error_type, message=g.message, count=g.count,
                   first=from_micros(int(g.first * 1e6)), last=from_micros(int(g.last * 1e6)), topics=list(g.topics), shops=g.shops,
                   example=example)  # fmt: skip


class Causes(BaseModel):
    items: list[Cause]


class Letter(BaseModel):
    """A dead event by its last letter, without its body."""

    webhook_id: str
    shop: str
    topic: str
    resource: str | None
    received_at: datetime
    died_at: datetime
    attempts: int
    redrives: int
    disposition: str
    error_type: str
    error_group: str
    error_message: str
    at: str
    origin: str = Field(description="Its place on the tape.")

    @classmethod
    def of(cls, x: dlq.Letter) -> Self:
        e, f = x.entry, x.failure
        return cls(webhook_id=e.webhook_id, shop=e.shop, topic=e.topic, resource=e.resource, received_at=from_micros(e.received_at),
                   died_at=from_micros(x.timestamp_ms * 1000), attempts=f.attempts if f else 0, redrives=x.redrives,
                   disposition=f.disposition if f else "", error_type=f.error_type if f else "", error_group=f.group if f else "",
                   error_message=f.message if f else "", at=str(x.at), origin=str(x.origin))  # fmt: skip


class Letters(Page):
    items: list[Letter]


class LetterHistory(BaseModel):
    """A dead letter with its stack and the event's history."""

    letter: Letter
    stack: str
    outcomes: list[Outcome]
    replays: list[Handover]


class Move(BaseModel):
    """A partition's offset, from `current` (null: never committed) to `new`."""

    topic: str
    partition: int
    current: int | None
    new: int
    again: int = Field(description="Events that the group sees again.")
    done: int | None = Field(description="Those of them that it has finished; null: not counted.")
    skipped: int = Field(description="Events that the group won't see.")


class Reset(BaseModel):
    """An offset reset: a preview, unless it was executed."""

    group: str
    executed: bool
    reprocess: str | None = Field(description="The id under which the window runs again; null: what is done is skipped.")
    again: int
    skipped: int
    moves: list[Move]

    @classmethod
    def of(cls, r: reset.Reset, counted: bool, executed: bool, reprocess: str | None) -> Self:
        moves = [Move(topic=m.topic, partition=m.partition, current=m.current, new=m.new, again=m.again,
                      done=r.done.get((m.topic, m.partition), 0) if counted else None, skipped=m.skipped) for m in r.moves]  # fmt: skip
        return cls(group=r.group, executed=executed, reprocess=reprocess, again=sum(m.again for m in r.moves),
                   skipped=sum(m.skipped for m in r.moves), moves=moves)  # fmt: skip


class Ended(BaseModel):
    """Why a plan came to nothing, in its last progress event."""

    type: str
    detail: str


NOTHING = ledger_items.Account(0)
"""The account of a job that has no events yet."""
