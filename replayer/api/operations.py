"""The figures of the groups, flood breakers, the audit trail, how far the catalogue is, and who asks."""

from typing import Annotated, Literal

from fastapi import Request, Response
from pydantic import Field

from hooktape.errors import NothingMatched, UsageError
from hooktape.replayer import figures
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask
from hooktape.replayer.api.events import GroupQuery
from hooktape.replayer.api.letters import GroupPath
from hooktape.replayer.api.paging import Cursor, Limit, cursor, paged, place
from hooktape.replayer.api.problems import Refused
from hooktape.replayer.catalogue import log_topics
from hooktape.tape.reader import Reader
from hooktape.times import from_micros, parse_duration


class Word(models.Strict):
    """An operator's word on a topic, which goes before its breaker's."""

    topic: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,100}/[a-z0-9_]{1,100}$", description="Shopify's name.", examples=["orders/create"])]
    state: Annotated[Literal["open", "closed", "auto"], Field(description="open: hold the topic; closed: let it through for a time; auto: "
                                                              "the breaker decides again.")]  # fmt: skip
    lasting: Annotated[models.Duration | None, Field(description="With closed: for so long, as in 30m.")] = None
    reason: models.Reason


def list_groups(ask: Ask) -> models.Groups:
    with ask.ledger() as ledger:
        found = figures.figures(ask.settings, ledger, ask.now)
    return models.Groups(at=from_micros(int(found.at * 1e6)), catalogue_lag=found.catalogue_lag,
                         items=[models.GroupFigures.of(g) for g in found.groups])  # fmt: skip


def show_group(ask: Ask, group: GroupPath) -> models.GroupFigures:
    found = next((g for g in list_groups(ask).items if g.name == group), None)
    if found is None:
        raise Refused("not-found", f"There is no group {group}: a group has a dead-letter topic, which its workers make.")
    return found


def list_breakers(ask: Ask, group: GroupQuery = None) -> models.Breakers:
    with ask.ledger() as ledger:
        return models.Breakers(items=[models.Breaker.of(s) for s in ledger.breakers.list(ask.now, group)])


def set_breaker(ask: Ask, group: GroupPath, body: Word) -> models.Breakers:
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


def list_audit(ask: Ask, request: Request, response: Response, limit: Limit = 100, cursor_: Cursor = None) -> models.Deeds:
    before = place(cursor_, tuple[int])
    with ask.ledger() as ledger:
        found = ledger.audit.list(limit + 1, before=before[0] if before else None)
    rows, following = paged(request, response, found, limit, lambda e: cursor(e.seq))
    return models.Deeds(items=[models.Deed.of(e) for e in rows], next=following)


def show_catalogue(ask: Ask) -> models.Positions:
    with ask.ledger() as ledger:
        positions = ledger.catalogue.positions()
    with Reader(ask.settings) as reader:
        topics = log_topics(ask.settings, reader)
        lows, ends = reader.lows(topics), reader.ends(topics)
    rows = [models.Position(topic=p[0], partition=p[1], next_offset=max(positions.get(p, 0), lows.get(p, 0)), end=end,
                            lag=max(0, end - max(positions.get(p, 0), lows.get(p, 0)))) for p, end in sorted(ends.items())]  # fmt: skip
    return models.Positions(lag=sum(row.lag for row in rows), items=rows)


def me(ask: Ask) -> models.Me:
    return models.Me(name=ask.by.name, role=str(ask.by.role))
