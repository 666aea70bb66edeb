"""The figures of the groups, flood breakers, the audit trail, how far the catalogue is, and who asks."""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import Request, Response
from pydantic import BaseModel, Field

from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger import breakers
from hooktape.replayer import figures
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask
from hooktape.replayer.api.events import GroupQuery
from hooktape.replayer.api.letters import GroupPath
from hooktape.replayer.api.paging import Cursor, Limit, Whole, cursor, paged, place
from hooktape.replayer.api.problems import Refused
from hooktape.replayer.catalogue import log_topics
from hooktape.tape.reader import Reader
from hooktape.times import from_micros, parse_duration


class TopicFigures(BaseModel):
    """A topic in a group."""

    behind: int = Field(description="Events that the group hasn't committed.")
    oldest_seconds: float = Field(description="The age of the oldest of them.")
    waiting: int = Field(description="In a retry topic.")
    dead: int


class InOrder(BaseModel):
    """What waits behind an earlier event of its resource, which is in a retry topic."""

    events: int
    resources: int
    overdue_seconds: float = Field(description="How long the longest overdue of them has been due.")


class GroupFigures(BaseModel):
    """A consumer group as the broker and the ledger see it, alive or not."""

    name: str
    state: str
    members: int
    dlq_depth: int
    dlq_oldest_seconds: float | None = Field(description="How long the oldest of these has been there; null: there's none.")
    waiting_in_order: InOrder
    held: list[str] = Field(description="Topics that a breaker or an operator holds.")
    topics: dict[str, TopicFigures]

    @classmethod
    def of(cls, g: figures.GroupFigures, now: float) -> Self:
        none = figures.Lag(0, 0.0)
        topics = {t: TopicFigures(behind=g.lag.get(t, none).events, oldest_seconds=g.lag.get(t, none).seconds,
                                  waiting=g.waiting.get(t, 0), dead=g.dead.get(t, 0))
                  for t in sorted({*g.lag, *g.waiting, *g.dead})}  # fmt: skip
        return cls(name=g.name, state=g.state, members=g.members, dlq_depth=g.dlq_depth,
                   dlq_oldest_seconds=g.dlq_oldest_seconds, topics=topics,
                   waiting_in_order=InOrder(events=g.in_order.events, resources=g.in_order.resources,
                                            overdue_seconds=g.in_order.overdue(now)),
                   held=sorted(s.topic for s in g.held if s.open or (s.override and s.override.state == "open")))  # fmt: skip


class Groups(BaseModel):
    at: datetime = Field(description="How old the figures are.")
    catalogue_lag: int
    items: list[GroupFigures]


class Reconciled(BaseModel):
    """A shop, and when the oldest of its families' last complete passes ended."""

    shop: str
    at: datetime


class Status(Groups):
    """Everything at a glance."""

    arrived: int = Field(description="Events recorded in the last `seconds`.")
    seconds: int
    reconciled: list[Reconciled]


class BreakerCause(BaseModel):
    error_group: str
    error_type: str
    error_message: str
    failures: int
    shops: int


class BreakerOverride(BaseModel):
    """An operator's word on a topic."""

    state: str = Field(description="open: held; closed: let through.")
    until: datetime | None
    who: str
    reason: str
    at: datetime


class Breaker(BaseModel):
    """A topic that is held, or that an operator has spoken on."""

    group: str
    topic: str
    open: bool
    workers: int
    since: datetime | None
    next_probe: datetime | None
    causes: list[BreakerCause]
    override: BreakerOverride | None

    @classmethod
    def of(cls, s: breakers.Status) -> Self:
        word = s.override
        said = None if word is None else BreakerOverride(state=word.state, until=models.moment(word.until), who=word.who,
                                                         reason=word.reason, at=from_micros(int(word.at * 1e6)))  # fmt: skip
        return cls(group=s.group, topic=s.topic, open=s.open, workers=s.workers, since=models.moment(s.since),
                   next_probe=models.moment(s.probe_at),
                   causes=[BreakerCause(error_group=c.error_group, error_type=c.error_type, error_message=c.error_message,
                                        failures=c.failures, shops=c.shops) for c in s.causes], override=said)  # fmt: skip


class Breakers(BaseModel):
    items: list[Breaker]


class Deeds(models.Page):
    items: list[models.Deed]


class Position(BaseModel):
    """How far the catalogue has read a partition of the tape."""

    topic: str
    partition: int
    next_offset: int
    end: int
    lag: int


class Positions(BaseModel):
    lag: int
    items: list[Position]


class Me(BaseModel):
    """Who the token says you are."""

    name: str
    role: str


class Word(models.Strict):
    """An operator's word on a topic, which goes before its breaker's."""

    topic: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,100}/[a-z0-9_]{1,100}$", description="Shopify's name.", examples=["orders/create"])]
    state: Annotated[Literal["open", "closed", "auto"], Field(description="open: hold the topic; closed: let it through for a time; auto: "
                                                              "the breaker decides again.")]  # fmt: skip
    lasting: Annotated[models.Duration | None, Field(description="With closed: for so long, as in 30m.")] = None
    reason: models.Reason


def list_groups(ask: Ask) -> Groups:
    with ask.ledger() as ledger:
        found = figures.figures(ask.settings, ledger, ask.now)
    return Groups(at=from_micros(int(found.at * 1e6)), catalogue_lag=found.catalogue_lag,
                         items=[GroupFigures.of(g, ask.now) for g in found.groups])  # fmt: skip


def show_status(ask: Ask) -> Status:
    groups = list_groups(ask)
    with ask.ledger() as ledger:
        passes = ledger.reconcile.last_success()
    return Status(at=groups.at, catalogue_lag=groups.catalogue_lag, items=groups.items, seconds=figures.RATE_SECONDS,
                  arrived=figures.arrived(ask.settings, ask.now - figures.RATE_SECONDS),
                  reconciled=[Reconciled(shop=shop, at=from_micros(int(at * 1e6))) for shop, at in sorted(passes.items())])  # fmt: skip


def show_group(ask: Ask, group: GroupPath) -> GroupFigures:
    found = next((g for g in list_groups(ask).items if g.name == group), None)
    if found is None:
        raise Refused("not-found", f"There is no group {group}: a group has a dead-letter topic, which its workers make.")
    return found


def list_breakers(ask: Ask, group: GroupQuery = None) -> Breakers:
    with ask.ledger() as ledger:
        return Breakers(items=[Breaker.of(s) for s in ledger.breakers.list(ask.now, group)])


def set_breaker(ask: Ask, group: GroupPath, body: Word) -> Breakers:
    until = None
    if body.state == "closed":
        seconds = parse_duration(body.lasting or "1h")
        if not 0 < seconds <= 366 * 86400:
            raise UsageError("`lasting` must be above zero, and a year at most.")
        until = ask.now + seconds
    elif body.lasting is not None:
        raise UsageError("`lasting` goes with `closed` only.")
    state = None if body.state == "auto" else body.state
    with ask.ledger() as ledger:
        if not ledger.breakers.set_override(group, body.topic, state, until, who=ask.by.name, reason=body.reason, now=ask.now):
            raise NothingMatched(f"No operator's word on {body.topic} is in force in group {group}: its breaker decides already.")
    return list_breakers(ask, group)


def list_audit(ask: Ask, request: Request, response: Response, limit: Limit = 100, cursor_: Cursor = None) -> Deeds:
    before = place(cursor_, tuple[Whole])
    with ask.ledger() as ledger:
        found = ledger.audit.list(limit + 1, before=before[0] if before else None)
    rows, following = paged(request, response, found, limit, lambda e: cursor(e.seq))
    return Deeds(items=[models.Deed.of(e) for e in rows], next=following)


def show_catalogue(ask: Ask) -> Positions:
    with ask.ledger() as ledger:
        positions = ledger.catalogue.positions()
    with Reader(ask.settings) as reader:
        topics = log_topics(ask.settings, reader)
        lows, ends = reader.lows(topics), reader.ends(topics)
    rows = [Position(topic=p[0], partition=p[1], next_offset=max(positions.get(p, 0), lows.get(p, 0)), end=end,
                            lag=max(0, end - max(positions.get(p, 0), lows.get(p, 0)))) for p, end in sorted(ends.items())]  # fmt: skip
    return Positions(lag=sum(row.lag for row in rows), items=rows)


def me(ask: Ask) -> Me:
    return Me(name=ask.by.name, role=str(ask.by.role))
