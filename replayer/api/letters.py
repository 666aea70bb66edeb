"""Dead letters of a group: by cause, listed, shown, redriven, discarded, exported."""

import itertools
import json
from dataclasses import replace
from typing import Annotated

from fastapi import Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection, Status
from hooktape.replayer import history
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask
from hooktape.replayer.api.events import Shop, WebhookId, body_of, disclosed
from hooktape.replayer.api.paging import Cursor, Limit, cursor, paged, place
from hooktape.replayer.api.replays import Forced, Rate, confirmed, planned
from hooktape.replayer.api.selecting import Selecting, SelectionBody, selection_of
from hooktape.replayer.api.work import Begun
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.dlq import DeadLetters, Letter
from hooktape.replayer.plan import Plan, Progress
from hooktape.tape import groups as kafka_groups
from hooktape.tape.reader import Reader

GroupPath = Annotated[models.Group, Path(description="The consumer group.", examples=["fulfilment"])]


class Redrive(models.Strict):
    """Which dead events to hand to their group again."""

    selection: SelectionBody  # type: ignore[valid-type]
    forced: Forced = False
    again: Annotated[bool, Field(description="Also what died after three redrives.")] = False
    rate: Rate = None


class Discard(models.Strict):
    """Which dead events to give up, why, and how many a person has seen they are."""

    selection: SelectionBody  # type: ignore[valid-type]
    reason: models.Reason
    confirm: models.Confirm = None


def _all(selection: Selection) -> Selection:
    # Nothing narrows it: reading all of them does no harm, so it needn't be said.
    return replace(selection, statuses=(Status.DEAD,)) if selection.is_empty else selection


def list_causes(ask: Ask, group: GroupPath) -> models.Causes:
    with ask.ledger() as ledger:
        return models.Causes(items=[
            models.Cause.of(g, next((e.webhook_id for e in ledger.catalogue.by_id(g.example.id)), None))
            for g in ledger.outcomes.error_groups(group)])  # fmt: skip


def _place(letter: Letter) -> tuple[int, int, bytes]:
    return (letter.timestamp_ms, letter.key.day, letter.key.id)


def list_letters(ask: Ask, request: Request, response: Response, group: GroupPath, selection: Selecting, limit: Limit = 50,
                 cursor_: Cursor = None) -> models.Letters:  # fmt: skip
    before = place(cursor_, tuple[int, int, bytes])
    with ask.ledger() as ledger:
        found = sorted(DeadLetters(ask.settings, ledger, group).find(selection), key=_place, reverse=True)
    rest = [letter for letter in found if before is None or _place(letter) < before]
    rows, following = paged(request, response, rest, limit, lambda x: cursor(*_place(x)))
    return models.Letters(items=[models.Letter.of(x) for x in rows], next=following)


def show_letter(ask: Ask, group: GroupPath, webhook_id: WebhookId, shop: Shop = None) -> models.LetterHistory:
    with ask.ledger() as ledger:
        _, letter, _ = DeadLetters(ask.settings, ledger, group).show(webhook_id, shop)
        with Reader(ask.settings) as reader:
            names = kafka_groups.groups_of(ask.settings, reader.topics())
        return models.LetterHistory(
            letter=models.Letter.of(letter), stack=letter.failure.stack if letter.failure else "",
            outcomes=[models.Outcome.of(o) for o in history.outcomes(ledger, letter.entry, names)],
            replays=[models.Handover(**r) for r in history.replays(ledger, letter.entry)])  # fmt: skip


def letter_body(ask: Ask, group: GroupPath, webhook_id: WebhookId, shop: Shop = None) -> models.Body:
    with ask.ledger() as ledger:
        record, _, event = DeadLetters(ask.settings, ledger, group).show(webhook_id, shop)
    disclosed(ask, event)
    return body_of(record, event)


def redrive(ask: Ask, response: Response, group: GroupPath, body: Redrive) -> models.Plan | JSONResponse:
    selection, settings = selection_of(body.selection), ask.settings

    def make(ledger: Ledger, begun: Begun, progress: Progress) -> Plan:
        with Cataloguer(settings, ledger) as cataloguer:
            cataloguer.catch_up()
        return DeadLetters(settings, ledger, group).plan_redrive(
            selection, who=ask.by.name, now=ask.now, forced=body.forced, again=body.again, rate=body.rate, progress=progress, begun=begun)

    return planned(ask, response, make)


def discard(ask: Ask, group: GroupPath, body: Discard) -> models.Count:
    with ask.ledger() as ledger:
        letters = DeadLetters(ask.settings, ledger, group)
        chosen = letters.chosen(selection_of(body.selection))
        confirmed(body.confirm, len(chosen), f"This gives {len(chosen):,} dead events of group {group} up")
        return models.Count(count=len(letters.discard(chosen, who=ask.by.name, reason=body.reason, now=ask.now)))


def export(ask: Ask, group: GroupPath, selection: Selecting) -> StreamingResponse:
    with ask.ledger() as ledger:
        letters = DeadLetters(ask.settings, ledger, group)
        chosen = letters.chosen(_all(selection))
        ledger.audit.append(ask.now, ask.by.name, "dlq export", group, "", {"count": len(chosen), "selection": selection.describe()})

    lines = (json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in letters.export(chosen))
    # The first is read before the answer begins: that Kafka is away can be told only until then.
    first = next(lines, b"")
    return StreamingResponse(itertools.chain([first], lines), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})
