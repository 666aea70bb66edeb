"""Events on the tape: search, one with its history, its body."""

import base64
from typing import Annotated

from fastapi import Path, Query, Request, Response

from hooktape.ledger.catalogue import After
from hooktape.replayer import history
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask
from hooktape.replayer.api.paging import Cursor, Limit, cursor, paged, place
from hooktape.replayer.api.selecting import Selecting
from hooktape.schemas.event import Coordinates, Event
from hooktape.tape import groups as kafka_groups
from hooktape.tape import headers
from hooktape.tape.reader import Reader, Record
from hooktape.tape.wire import Wire

WebhookId = Annotated[models.Text, Path(description="The webhook id.", examples=["b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"])]
Shop = Annotated[models.Text | None, Query(description="Where several shops have this webhook id.")]
GroupQuery = Annotated[models.Group | None, Query(description="The consumer group whose status is shown and selected by.")]


def list_events(ask: Ask, request: Request, response: Response, selection: Selecting, group: GroupQuery = None,
                oldest_first: Annotated[bool, Query(description="The newest first is the default.")] = False,
                limit: Limit = 50, cursor_: Cursor = None) -> models.Events:  # fmt: skip
    after = place(cursor_, tuple[int, bytes])
    with ask.ledger() as ledger:
        found = ledger.catalogue.find(selection, group, after=After(*after) if after else None, limit=limit + 1,
                                      newest_first=not oldest_first)  # fmt: skip
    rows, following = paged(request, response, found, limit, lambda e: cursor(*After.of(e)))
    return models.Events(items=[models.Event.of(e) for e in rows], next=following)


def count_events(ask: Ask, selection: Selecting, group: GroupQuery = None) -> models.Count:
    with ask.ledger() as ledger:
        return models.Count(count=ledger.catalogue.count(selection, group))


def show_event(ask: Ask, webhook_id: WebhookId, shop: Shop = None) -> models.EventHistory:
    with ask.ledger() as ledger:
        entry = history.find_event(ledger, webhook_id, shop)
        with Reader(ask.settings) as reader:
            names = kafka_groups.groups_of(ask.settings, reader.topics())
        return models.EventHistory(event=models.Event.of(entry),
                                   outcomes=[models.Outcome.of(o) for o in history.outcomes(ledger, entry, names)],
                                   replays=[models.Handover(**r) for r in history.replays(ledger, entry)])  # fmt: skip


def event_body(ask: Ask, webhook_id: WebhookId, shop: Shop = None) -> models.Body:
    with ask.ledger() as ledger:
        entry = history.find_event(ledger, webhook_id, shop)
    with Reader(ask.settings) as reader:
        record = reader.fetch(Coordinates(entry.kafka_topic, entry.partition, entry.offset))
    event = Wire(ask.settings).decode(record.value)
    disclosed(ask, event)
    return body_of(record, event)


def disclosed(ask: Ask, event: Event) -> None:
    """Notes in the audit trail that somebody was shown a body: most of them are personal data."""
    with ask.ledger() as ledger:
        ledger.audit.append(ask.now, ask.by.name, "body read", f"{event.shop} {event.topic} {event.webhook_id}", "")


def body_of(record: Record, event: Event) -> models.Body:
    """A record for JSON. Pure."""
    body: dict[str, str | None] = {"body": None, "body_base64": None}
    try:
        body["body"] = event.payload.decode()
    except UnicodeDecodeError:
        body["body_base64"] = base64.b64encode(event.payload).decode()
    return models.Body(webhook_id=event.webhook_id, shop=event.shop, topic=event.topic, headers=event.headers, **body,
                       relabelled=headers.read(record.headers).get(headers.RELABELLED) == "1", verified_by=event.secret_id)  # fmt: skip
