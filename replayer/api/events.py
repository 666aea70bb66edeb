"""Events on the tape: search, find by what a person has in hand, one with its history, its body."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Path, Query, Request, Response

from hooktape.ledger.catalogue import After
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import shop_domain
from hooktape.replayer import history, naming
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask, Asked
from hooktape.replayer.api.paging import Cursor, Limit, linked
from hooktape.replayer.api.selecting import Selecting
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.finding import LOOK, Finder
from hooktape.schemas.event import Coordinates, Event
from hooktape.tape import groups as kafka_groups
from hooktape.tape import headers
from hooktape.tape.reader import Reader, Record
from hooktape.tape.wire import Wire

WebhookId = Annotated[models.Text, Path(description="The webhook id, or its first eight characters where they're one event's.",
                                        examples=["b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"])]  # fmt: skip
Shop = Annotated[models.Text | None, Query(description="Only of this shop: acme is acme.myshopify.com.")]
GroupQuery = Annotated[models.Group | None, Query(description="The consumer group whose status is shown and selected by.")]


@contextmanager
def _finding(ask: Asked) -> Iterator[tuple[Ledger, Cataloguer, Finder]]:
    with ask.ledger() as ledger, Cataloguer(ask.settings, ledger) as cataloguer:
        yield ledger, cataloguer, Finder(ask.settings, ledger, cataloguer)


def list_events(ask: Ask, request: Request, response: Response, selection: Selecting, group: GroupQuery = None,
                oldest_first: Annotated[bool, Query(description="The newest first is the default.")] = False,
                look: Annotated[int, Query(ge=1, le=10 * LOOK, description="With `where`: read so many bodies for a page.")] = LOOK,
                limit: Limit = 50, cursor_: Cursor = None) -> models.Events:  # fmt: skip
    after = None if cursor_ is None else After.decode(cursor_)
    with _finding(ask) as (_, _, finder):
        page = finder.listed(selection, group, after=after, limit=limit, newest_first=not oldest_first, look=look)
    return models.Events(
        items=[models.Event.of(e) for e in page.entries], next=linked(request, response, page.after.encode()) if page.after else None,
        looked_at=page.looked.events, whole=page.whole, unreadable=page.looked.unreadable, gone=page.looked.gone)  # fmt: skip


def count_events(ask: Ask, selection: Selecting, group: GroupQuery = None) -> models.Count:
    with _finding(ask) as (_, _, finder):
        return models.Count(count=finder.count(selection, group))


def find_events(
    ask: Ask,
    text: Annotated[models.Text, Query(min_length=1, description="An order's name or number, a confirmation number, a checkout, cart or "
                                       "order token, a draft order's name, a product's handle, an id (also gid://…), a webhook id or its "
                                       "first eight characters, an address in the admin.", examples=["#1005"])],
    shop: Shop = None, limit: Limit = 20,
) -> models.Finds:  # fmt: skip
    with _finding(ask) as (ledger, cataloguer, finder):
        names = kafka_groups.groups_of(ask.settings, cataloguer.reader.topics())
        found = naming.find(finder, ledger, text, shop, names, limit)
    return models.Finds(items=[
        models.Find(rule=f.match.rule, told=f.match.told(text), resource=f.match.resource, shop=f.match.shop, next=_rest(f), events=[
            models.Found(event=models.Event.of(e), groups={g: str(of[e.key].status) for g, of in f.groups.items() if e.key in of})
            for e in f.listing.entries])
        for f in found])  # fmt: skip


def _rest(found: naming.Found) -> str | None:
    if found.listing.after is None:
        return None
    match = found.match
    query = [*(("id", i) for i in match.ids), ("resource", match.resource), ("shop", match.shop), ("cursor", found.listing.after.encode())]
    return f"/api/v1/events?{urlencode([(name, value) for name, value in query if value])}"


def show_event(ask: Ask, webhook_id: WebhookId, shop: Shop = None) -> models.EventHistory:
    with ask.ledger() as ledger:
        entry = history.find_event(ledger, webhook_id, shop and shop_domain(shop))
        with Reader(ask.settings) as reader:
            names = kafka_groups.groups_of(ask.settings, reader.topics())
        return models.EventHistory(event=models.Event.of(entry),
                                   outcomes=[models.Outcome.of(o) for o in history.outcomes(ledger, entry, names)],
                                   replays=[models.Handover(**r) for r in history.replays(ledger, entry)])  # fmt: skip


def event_body(ask: Ask, webhook_id: WebhookId, shop: Shop = None) -> models.Body:
    with ask.ledger() as ledger:
        entry = history.find_event(ledger, webhook_id, shop and shop_domain(shop))
    with Reader(ask.settings) as reader:
        record = reader.fetch(Coordinates(entry.kafka_topic, entry.partition, entry.offset))
    event = Wire(ask.settings).decode(record.value)
    disclosed(ask, f"{event.shop} {event.topic} {event.webhook_id}")
    return body_of(record, event)


def disclosed(ask: Asked, what: str) -> None:
    """Notes in the audit trail that somebody was shown a body: most of them are personal data."""
    with ask.ledger() as ledger:
        ledger.audit.append(ask.now, ask.by.name, "body read", what, "")


def body_of(record: Record, event: Event) -> models.Body:
    """A record for JSON. Pure."""
    body: dict[str, str | None] = {"body": None, "body_base64": None}
    try:
        body["body"] = event.payload.decode()
    except UnicodeDecodeError:
        body["body_base64"] = base64.b64encode(event.payload).decode()
    return models.Body(webhook_id=event.webhook_id, shop=event.shop, topic=event.topic, headers=event.headers, **body,
                       relabelled=headers.read(record.headers).get(headers.RELABELLED) == "1", verified_by=event.secret_id)  # fmt: skip
