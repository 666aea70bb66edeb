"""Dead letters of a group: by cause, listed, shown, redriven, discarded, restored, exported; and the records that hold no event."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger import failures, letters
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.letters import After
from hooktape.ledger.selection import Selection, Status, shop_domain
from hooktape.replayer import deaths, dlq, history
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask, Asked
from hooktape.replayer.api.events import Shop, WebhookId, body_of, disclosed
from hooktape.replayer.api.paging import Cursor, Limit, cursor, paged, place
from hooktape.replayer.api.replays import ToPlan, confirmed, planned
from hooktape.replayer.api.selecting import Selecting, SelectionBody, selection_of
from hooktape.replayer.api.streams import json_lines
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.dlq import DeadLetters
from hooktape.replayer.planning import Begun, Plan, Progress
from hooktape.schemas.event import Coordinates
from hooktape.tape import groups as kafka_groups
from hooktape.tape import headers
from hooktape.tape.reader import Reader
from hooktape.times import from_micros

GroupPath = Annotated[models.Group, Path(description="The consumer group.", examples=["fulfilment"])]
Place = Annotated[models.Text, Field(pattern=r"^[A-Za-z0-9._-]{1,249}/[0-9]{1,9}@[0-9]{1,18}$", examples=["hooktape.dlq.fulfilment/0@17"])]
_OfPoison = Annotated[bool, Query(description="The records that hold no event, instead of the events.")]


class Redrive(ToPlan):
    """Which dead events to hand to their group again."""


class Discard(models.Strict):
    """Which dead events to give up, why, and how many a person has seen they are."""

    selection: Annotated[SelectionBody | None, Field(description="Events; null where `places` names records that hold none.")] = (  # type: ignore[valid-type]
        None)  # fmt: skip
    places: Annotated[list[Place] | None, Field(min_length=1, max_length=1000, description="Records that hold no event.")] = None
    reason: models.Reason
    confirm: models.Confirm = None


class Restore(Discard):
    """What was discarded, to be dead again."""


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
    example: str | None = Field(description="The webhook id of one of them.")

    @classmethod
    def of(cls, g: failures.ErrorGroup, example: str) -> Self:
        return cls(error_group=g.error_group, error_type=g.error_type, message=g.message, count=g.count,
                   first=from_micros(int(g.first * 1e6)), last=from_micros(int(g.last * 1e6)), topics=list(g.topics), shops=g.shops,
                   example=example or None)  # fmt: skip


class CauseInFull(BaseModel):
    """A cause with the topics and shops that it hit most, and the stack of its example."""

    cause: Cause
    topics: dict[str, int]
    shops: dict[str, int]
    stack: str = Field(description="Empty where no letter of it is retained.")

    @classmethod
    def of(cls, c: dlq.Cause) -> Self:
        return cls(cause=Cause.of(c.group, c.example), topics=dict(c.topics), shops=dict(c.shops), stack=c.stack)


class Causes(BaseModel):
    items: list[Cause]


class Letter(BaseModel):
    """A dead event by its last letter, without its body."""

    webhook_id: str | None = Field(description="null where neither a letter nor the catalogue knows it any more.")
    shop: str
    topic: str
    resource: str | None
    received_at: datetime
    died_at: datetime
    status: str | None
    attempts: int
    redrives: int
    disposition: str
    error_type: str
    error_group: str
    error_message: str
    job: str | None = Field(description="The replay or redrive that it died in; null: it died live.")
    at: str | None = Field(description="Its place in the dead-letter topic; null: retention has removed it.")
    origin: str | None = Field(description="The event's place on the tape.")

    @classmethod
    def of(cls, x: letters.Letter) -> Self:
        e = x.entry
        return cls(webhook_id=e.webhook_id or None, shop=e.shop, topic=e.topic, resource=e.resource, received_at=from_micros(e.received_at),
                   died_at=from_micros(int(x.died_at * 1e6)), status=e.status and str(e.status), attempts=e.attempts, redrives=x.redrives,
                   disposition=x.disposition, error_type=e.error_type, error_group=e.error_group, error_message=e.error_message,
                   job=x.job_id or None, at=str(x.at) if x.at else None, origin=str(x.origin) if x.origin.topic else None)  # fmt: skip


class Letters(models.Page):
    items: list[Letter]


class Moment(BaseModel):
    """Something that happened to an event."""

    at: datetime
    what: str
    detail: str

    @classmethod
    def of(cls, m: deaths.Moment) -> Self:
        return cls(at=from_micros(int(m.at * 1e6)), what=m.what, detail=m.detail)


class LetterHistory(BaseModel):
    """A dead letter with its stack and the event's history."""

    letter: Letter
    state: str | None = Field(description="The event's state in the group now.")
    stack: str
    history: list[Moment]
    outcomes: list[models.Outcome]
    replays: list[models.Handover]


class Poison(BaseModel):
    """A record of a dead-letter topic that holds no event: it can be exported and discarded, and never redriven."""

    at: str = Field(description="Its place in the dead-letter topic.")
    origin: str
    appended_at: datetime
    size: int
    why: str
    discarded_at: datetime | None

    @classmethod
    def of(cls, p: letters.Poison) -> Self:
        return cls(at=str(p.at), origin=str(p.origin), appended_at=from_micros(int(p.died_at * 1e6)), size=p.size, why=p.why,
                   discarded_at=models.moment(p.discarded_at))  # fmt: skip


class Poisons(BaseModel):
    items: list[Poison]


class RawBody(BaseModel):
    """A record as it lies on Kafka."""

    at: str
    value_base64: str
    headers: dict[str, str] = Field(description="Ours.")


class Changed(BaseModel):
    """What came of a discard or a restore."""

    done: int
    held: int = Field(description="Left as they are, since they're on their way through `jobs`.")
    jobs: list[str]
    lost: int = Field(description="Can't be restored: retention has removed their letters.")
    said: list[str] = Field(description="Why some were left as they are.")

    @classmethod
    def of(cls, a: dlq.Account) -> Self:
        return cls(done=a.done, held=len(a.held), jobs=sorted(set(a.held.values())), lost=a.lost, said=a.refusals())


@contextmanager
def _letters(ask: Asked, group: str) -> Iterator[tuple[Ledger, DeadLetters]]:
    with ask.ledger() as ledger, DeadLetters(ask.settings, ledger, group) as found:
        yield ledger, found


def _all(selection: Selection) -> Selection:
    # Nothing narrows it: reading all of them does no harm, so it needn't be said.
    return replace(selection, statuses=(Status.DEAD,)) if selection.is_empty else selection


def list_causes(ask: Ask, group: GroupPath) -> Causes:
    with _letters(ask, group) as (_, found):
        return Causes(items=[Cause.of(g, example) for g, example in found.groups()])


def show_cause(
    ask: Ask, group: GroupPath,
    error_group: Annotated[models.Text, Path(description="The cause, or the beginning of its id where that's enough.", examples=["3f2a"])],
) -> CauseInFull:  # fmt: skip
    with _letters(ask, group) as (_, found):
        return CauseInFull.of(found.cause(error_group))


def list_letters(ask: Ask, request: Request, response: Response, group: GroupPath, selection: Selecting, limit: Limit = 50,
                 cursor_: Cursor = None) -> Letters:  # fmt: skip
    after = place(cursor_, tuple[float, bytes])
    with _letters(ask, group) as (_, letters_):
        found = letters_.page(selection, after=After(*after) if after else None, limit=limit + 1)
    rows, following = paged(request, response, found, limit, lambda x: cursor(*After.of(x)))
    return Letters(items=[Letter.of(x) for x in rows], next=following)


def show_letter(ask: Ask, group: GroupPath, webhook_id: WebhookId, shop: Shop = None) -> LetterHistory:
    with _letters(ask, group) as (ledger, found):
        shown = found.show(webhook_id, shop and shop_domain(shop))
        with Reader(ask.settings) as reader:
            names = kafka_groups.groups_of(ask.settings, reader.topics())
        return LetterHistory(
            letter=Letter.of(shown.letter), state=shown.state.name.lower() if shown.state else None,
            stack=shown.failure.stack if shown.failure else "", history=[Moment.of(m) for m in shown.history],
            outcomes=[models.Outcome.of(o) for o in history.outcomes(ledger, shown.letter.entry, names)],
            replays=[models.Handover(**r) for r in history.replays(ledger, shown.letter.entry)])  # fmt: skip


def letter_body(ask: Ask, group: GroupPath, webhook_id: WebhookId, shop: Shop = None) -> models.Body:
    with _letters(ask, group) as (_, found):
        shown = found.show(webhook_id, shop and shop_domain(shop))
    if shown.record is None or shown.event is None:
        raise NothingMatched(f"The body of {webhook_id} is gone: neither {found.topic} nor the tape has it.")
    disclosed(ask, f"{shown.event.shop} {shown.event.topic} {shown.event.webhook_id}")
    return body_of(shown.record, shown.event)


def list_poison(ask: Ask, group: GroupPath,
                discarded: Annotated[bool, Query(description="Those that a person has given up.")] = False) -> Poisons:  # fmt: skip
    with _letters(ask, group) as (_, found):
        return Poisons(items=[Poison.of(p) for p in found.poison(discarded=discarded)])


def poison_body(ask: Ask, group: GroupPath, at: Annotated[Place, Query(description="The record's place.")]) -> RawBody:
    with _letters(ask, group) as (_, found):
        if (where := _places([at])[0]).topic != found.topic:
            raise UsageError(f"{at} doesn't lie in {found.topic}.")
        record = found.show_poison(where)
    disclosed(ask, at)
    return RawBody(at=at, value_base64=base64.b64encode(record.value or b"").decode(), headers=headers.read(record.headers))


def redrive(ask: Ask, response: Response, group: GroupPath, body: Redrive) -> models.Plan | JSONResponse:
    selection, settings, who, now = selection_of(body.selection), ask.settings, ask.by.name, ask.now

    def make(ledger: Ledger, begun: Begun, progress: Progress) -> Plan:
        with DeadLetters(settings, ledger, group) as found, Cataloguer(settings, ledger) as cataloguer:
            return found.plan_redrive(selection, cataloguer, who=who, now=now, forced=body.forced, again=body.again, limits=body.limits,
                                      progress=progress, begun=begun)  # fmt: skip

    return planned(ask, response, make)


def discard(ask: Ask, group: GroupPath, body: Discard) -> Changed:
    with _letters(ask, group) as (_, found):
        if body.places is not None:
            places = _alone(body)
            confirmed(body.confirm, len(places), f"This gives {len(places):,} records of group {group} up that hold no event")
            done = dlq.Account(found.discard_poison(places, who=ask.by.name, reason=body.reason, now=ask.now))
        else:
            chosen = found.chosen(_selected(body))
            confirmed(body.confirm, len(chosen), f"This gives {len(chosen):,} dead events of group {group} up")
            done = found.discard(chosen, who=ask.by.name, reason=body.reason, now=ask.now)
    done.check("discarded")
    return Changed.of(done)


def restore(ask: Ask, group: GroupPath, body: Restore) -> Changed:
    with _letters(ask, group) as (_, found):
        if body.places is not None:
            places = _alone(body)
            confirmed(body.confirm, len(places), f"This restores {len(places):,} records of group {group} that hold no event")
            done = dlq.Account(found.restore_poison(places, who=ask.by.name, reason=body.reason, now=ask.now))
        else:
            chosen = found.discarded(_selected(body))
            confirmed(body.confirm, len(chosen), f"This makes {len(chosen):,} discarded events of group {group} dead again")
            done = found.restore(chosen, who=ask.by.name, reason=body.reason, now=ask.now)
    done.check("restored")
    return Changed.of(done)


def _selected(body: Discard) -> Selection:
    return Selection() if body.selection is None else selection_of(body.selection)


def _alone(body: Discard) -> list[Coordinates]:
    if not _selected(body).is_empty:
        raise UsageError("A record that holds no event can't be selected like one: give `places` alone.")
    return _places(body.places or [])


def _places(words: list[str]) -> list[Coordinates]:
    return [at for word in words if (at := Coordinates.parse(word))]


def export(ask: Ask, group: GroupPath, selection: Selecting, poison: _OfPoison = False) -> StreamingResponse:
    said = _all(selection)
    with ask.ledger() as ledger:
        ledger.audit.append(ask.now, ask.by.name, "dlq export", group, "", {"selection": "poison" if poison else said.describe()})

    def rows() -> Iterator[dict[str, Any]]:
        # Its own connection: whoever reads slowly mustn't keep one of those that requests share.
        with Ledger.open(ask.settings.ledger_url) as ledger, DeadLetters(ask.settings, ledger, group) as found:
            yield from found.export_poison() if poison else found.export(said)

    return json_lines(rows())
