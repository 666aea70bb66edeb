"""What answers look like: the ledger's values as JSON objects, times as ISO 8601 in UTC."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from hooktape.ledger import audit, catalogue
from hooktape.ledger import items as ledger_items
from hooktape.ledger import jobs as ledger_jobs
from hooktape.ledger.jobs import STANDARD
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import control, history
from hooktape.replayer.planning import Plan as MadePlan
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


class Why(Strict):
    """Why something is done."""

    reason: Annotated[Text, Field(description="Kept in the audit trail.")] = ""


class Bounded(Strict):
    """What a run keeps to, as `hooktape replay plan` has it; null: no such bound."""

    rate: Annotated[float | None, Field(gt=0, le=1_000_000, allow_inf_nan=False, description="At most so many events a second.")] = (
        STANDARD.rate)  # fmt: skip
    max_lag: Annotated[float | None, Field(gt=0, le=86_400, allow_inf_nan=False, description="Wait while live events wait for more than so "
                                           "many seconds.")] = STANDARD.max_lag  # fmt: skip
    max_failures: Annotated[float | None, Field(ge=0, lt=1, allow_inf_nan=False, description="Pause when more than this share of the last "
                                                "hundred fail again.")] = STANDARD.max_failures  # fmt: skip
    max_outstanding: Annotated[int | None, Field(ge=1, le=1_000_000, description="At most so many handed over without an outcome.")] = (
        STANDARD.outstanding)  # fmt: skip

    @property
    def limits(self) -> ledger_jobs.Limits:
        """As a job keeps them."""
        return ledger_jobs.Limits(self.rate, self.max_outstanding, self.max_lag, self.max_failures)


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
    """A page of a search. With `where`, or by what a group hasn't come to, it may be short or empty and not the last."""

    items: list[Event]
    looked_at: int = Field(description="Events that all but their bodies select, and that were looked at for this page.")
    whole: bool = Field(description="Whether everything up to the end of this page was looked at for it.")
    unreadable: int = Field(description="Bodies that `where` can't judge.")
    gone: int = Field(description="Bodies that aren't on the tape any more.")


class Found(BaseModel):
    """An event, and its status in each group."""

    event: Event
    groups: dict[str, str]


class Find(Page):
    """A thing that the text names, with its newest events."""

    rule: str = Field(description="What the text is, as in `the order name`.")
    told: str = Field(description="The same as a sentence.")
    resource: str | None
    shop: str | None
    events: list[Found]


class Finds(BaseModel):
    items: list[Find]


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
    state: str = Field(description="planning, abandoned (a plan whose planner has died), planned, running, paused, verifying, done, "
                       "incomplete, cancelled or failed.")  # fmt: skip
    selection: str = Field(description="In words.")
    selected: int
    sent: int = Field(description="Handed over: known to be on Kafka.")
    forced: bool
    again: bool
    first: int | None = Field(description="A trial: it pauses by itself once so many are handed over.")
    rate: float | None
    max_lag: float | None
    max_failures: float | None
    max_outstanding: int | None
    who: str
    reason: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    note: str

    @classmethod
    def of(cls, j: ledger_jobs.Job, now: float) -> Self:
        bounds = j.limits
        return cls(id=j.id, kind=str(j.kind), group=j.group, state=control.state_of(j, now), selection=j.selection.describe(),
                   selected=j.selected, sent=j.sent, forced=j.forced, again=j.again, first=j.first, rate=bounds.rate,
                   max_lag=bounds.max_lag, max_failures=bounds.max_failures, max_outstanding=bounds.outstanding, who=j.who, reason=j.reason,
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


class Confirmation(BaseModel):
    """What a run needs to be told, before it hands events over."""

    how: str = Field(description="yes: one event, nothing to tell. count: a person sees the number. type: a person types it.")
    number: int = Field(description="What `confirm` must hold.")


class Deed(BaseModel):
    """A line of the audit trail."""

    seq: int
    at: datetime
    who: str
    action: str
    target: str
    reason: str
    detail: Mapping[str, Any]

    @classmethod
    def of(cls, e: audit.Entry) -> Self:
        return cls(seq=e.seq, at=from_micros(int(e.at * 1e6)), who=e.who, action=e.action, target=e.target, reason=e.reason,
                   detail=e.detail)  # fmt: skip


class JobWithAccount(BaseModel):
    job: Job
    account: Account
    confirmation: Confirmation | None = Field(description="Of a plan, and of a paused run: what `run` needs.")
    deeds: list[Deed] = Field(description="Who did what with it, the first first.")


class Item(BaseModel):
    """One selected event of a job."""

    seq: int = Field(description="Its place in the order of handing over; below zero for what goes first.")
    webhook_id: str = Field(description="Empty, as what follows, for what the catalogue has forgotten.")
    topic: str
    shop: str
    resource: str
    at: str
    decision: str
    outcome: str | None = Field(description="null: none yet.")
    error: str | None

    @classmethod
    def of(cls, i: ledger_items.Item) -> Self:
        return cls(seq=i.seq, webhook_id=i.webhook_id, topic=i.topic, shop=i.shop, resource=i.resource,
                   at=str(Coordinates(i.kafka_topic, i.partition, i.offset)),
                   decision=i.decision, outcome=i.outcome, error=i.error)  # fmt: skip


class Items(Page):
    items: list[Item]


class Plan(BaseModel):
    """What a run would do. Nothing has changed."""

    job: Job
    decisions: dict[str, int]
    topics: dict[str, dict[str, int]]
    shops: dict[str, dict[str, int]] = Field(description="The fifty with the most events.")
    shops_in_all: int
    handlers: list[str] = Field(description="Those that it reaches, as far as the group's workers have told.")
    tape_begins: datetime | None = Field(description="Of a backfill: from when on the tape reaches, where that is later than asked for.")
    confirmation: Confirmation | None
    seconds: float | None = Field(description="How long it takes at the rate.")
    examples: dict[str, list[Item]]

    @classmethod
    def of(cls, plan: MadePlan, ledger: Ledger, confirmation: Confirmation | None, tape_begins: int | None, now: float) -> Self:
        job = plan.job
        return cls(job=Job.of(job, now), decisions=dict(plan.decisions), topics=dict(ledger.jobs.totals(job.id, "topic")),
                   shops=dict(ledger.jobs.totals(job.id, "shop", 50)), shops_in_all=ledger.jobs.shops(job.id),
                   handlers=[handler.name for handler in plan.handlers], tape_begins=_time(tape_begins), confirmation=confirmation,
                   seconds=plan.seconds, examples={d: [Item.of(i) for i in items] for d, items in plan.examples.items()})  # fmt: skip


class Drift(BaseModel):
    """What would be decided differently now."""

    stale: bool = Field(description="Whether the plan is so old that this should be looked at before it runs.")
    age: float = Field(description="Of the plan, in seconds.")
    looked_at: int = Field(description="Events of the plan that were decided again: the first that would run.")
    changes: dict[str, int] = Field(description="By what they'd be now instead of run; they're skipped, each with its reason.")
