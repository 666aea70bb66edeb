"""`hooktape dlq`: dead letters."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import click

from hooktape.cli import common
from hooktape.cli.events import body_text
from hooktape.cli.operating import (
    Progress,
    confirm,
    confirm_run,
    force_option,
    group_option,
    limiting,
    limits,
    moment,
    opened,
    selecting,
    taken,
    who,
    yes_option,
)
from hooktape.cli.replay import finish, first_option, patience_option, print_plan
from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger.failures import ErrorGroup
from hooktape.ledger.items import RUN
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.letters import Letter, Poison
from hooktape.ledger.selection import Selection, Status
from hooktape.replayer import control, deaths, history
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.dlq import Account, DeadLetters
from hooktape.schemas.event import Coordinates
from hooktape.settings import Settings
from hooktape.tape import groups as kafka_groups
from hooktape.tape import headers
from hooktape.tape.reader import Reader

at_option = click.option("--at", multiple=True, help="A record that holds no event, by its place (topic/partition@offset); repeatable.")
poison_option = click.option("--poison", is_flag=True, help="The records that hold no event.")


@click.group()
def command() -> None:
    """Dead letters: group by cause, list, show, redrive, discard, restore, export. Nothing here replays by itself."""


@contextmanager
def _letters(group: str) -> Iterator[tuple[Settings, Ledger, DeadLetters]]:
    with opened() as (settings, ledger), DeadLetters(settings, ledger, group) as letters:
        yield settings, ledger, letters


@command.command("list")
@group_option
@selecting
@click.option("--limit", default=50, show_default=True)
@poison_option
@common.json_option
def list_command(group: str, limit: int, poison: bool, as_json: bool, **options: Any) -> None:
    """Events that are dead now, the latest first. --status discarded lists those that were given up and can be restored.

    Example: hooktape dlq list --group fulfilment --topic orders/create
    """
    selection = taken(options)
    with _letters(group) as (_, _, letters):
        if poison:
            found = letters.poison(discarded=Status.DISCARDED in selection.statuses)
            rows = [_poison_row(p) for p in found]
        else:
            rows = [_letter_row(x) for x in letters.page(selection, limit=limit + 1)]
    if as_json:
        common.print_json(rows[:limit])
    elif poison:
        common.print_table(rows[:limit], ["at", "origin", "appended", "size", "why"], "no poison")
        click.echo("\nThese hold no event: they can't be redriven. `hooktape dlq discard --at PLACE` gives one up.", err=True)
    else:
        columns = ["died", "topic", "shop", "resource", "webhook_id", "attempts", "redrives", "error", "message"]
        common.print_table(rows[:limit], columns, "no dead letters")
    if len(rows) > limit:
        click.echo(f"… and more: --limit {limit * 10}", err=True)


def _letter_row(x: Letter) -> dict[str, Any]:
    e = x.entry
    return {"died": moment(x.died_at), "received": common.when(e.received_at) if e.webhook_id else None, "topic": e.topic, "shop": e.shop,
            "resource": e.resource, "webhook_id": e.webhook_id or None, "status": e.status and str(e.status), "attempts": e.attempts,
            "redrives": x.redrives, "disposition": x.disposition, "error": e.error_type, "message": e.error_message,
            "error_group": e.error_group, "job": x.job_id or None, "at": x.at and str(x.at),
            "origin": str(x.origin) if x.origin.topic else None}  # fmt: skip


def _poison_row(p: Poison) -> dict[str, Any]:
    return {"at": str(p.at), "origin": str(p.origin), "appended": moment(p.died_at), "size": p.size, "why": p.why,
            "discarded": moment(p.discarded_at)}  # fmt: skip


@command.command("groups")
@group_option
@click.option("--show", help="One cause in full: its stack, and whom it hit most. The beginning of its id is enough.")
@common.json_option
def groups_command(group: str, show: str | None, as_json: bool) -> None:
    """Dead events by cause, the most frequent first.

    Example: hooktape dlq groups --group fulfilment
    """
    with _letters(group) as (_, _, letters):
        if show:
            cause = letters.cause(show)
            row = {**_group_row(cause.group, cause.example), "topics": dict(cause.topics), "shops": dict(cause.shops), "stack": cause.stack}
            if as_json:
                common.print_json(row)
                return
            stack = row.pop("stack")
            for name, value in row.items():
                shown = ", ".join(f"{key} ({number:,})" for key, number in value.items()) if isinstance(value, dict) else value
                click.echo(f"{name:<12} {common.clean(shown)}")
            _echo_block("stack", stack or "no letter of it is retained")
            return
        rows = [_group_row(g, example) for g, example in letters.groups()]
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, ["error_group", "count", "error", "message", "first", "last", "topics", "shops", "example"],
                           "no dead letters")  # fmt: skip


def _group_row(g: ErrorGroup, example: str) -> dict[str, Any]:
    return {"error_group": g.error_group, "count": g.count, "error": g.error_type, "message": g.message, "first": moment(g.first),
            "last": moment(g.last), "topics": ", ".join(g.topics), "shops": g.shops, "example": example or None}  # fmt: skip


@command.command("show")
@group_option
@click.argument("what")
@click.option("--shop", help="Where several shops have this webhook id.")
@common.json_option
def show_command(group: str, what: str, shop: str | None, as_json: bool) -> None:
    """One dead letter: body, headers, stack, and the event's whole history.

    By webhook id or at least eight characters of its beginning, or by its place (topic/partition@offset).

    Example: hooktape dlq show --group fulfilment b54557e4
    """
    with _letters(group) as (settings, ledger, letters):
        if (at := Coordinates.parse(what)) is not None:
            record = letters.show_poison(at)
            value = record.value or b""
            found: dict[str, Any] = {"at": str(at), "size": len(value), "value": value[:2000].hex()}
            raw, parts = headers.read(record.headers), {"stack": headers.read(record.headers).get(headers.ERROR_STACK, ""), "body": ""}
            tables: dict[str, list[dict[str, Any]]] = {}
        else:
            shown = letters.show(what, shop)
            entry, event = shown.letter.entry, shown.event
            with Reader(settings) as reader:
                names = kafka_groups.groups_of(settings, reader.topics())
            raw = headers.read(shown.record.headers) if shown.record else {}
            state = shown.state.name.lower() if shown.state else None
            found = {**_letter_row(shown.letter), "status": state, "shopify_headers": event.headers if event else {}}
            gone = "" if as_json else "gone: neither the dead-letter topic nor the tape has it"
            parts = {"stack": shown.failure.stack if shown.failure else "",
                     "body": body_text(event, None if as_json else 4000) if event else gone}  # fmt: skip
            tables = {"history": [deaths.shown(m) for m in shown.history],
                      "outcomes": [{name: getattr(o, name) for name in o.__slots__} for o in history.outcomes(ledger, entry, names)],
                      "replays": history.replays(ledger, entry)}  # fmt: skip
    found["headers"] = {k: v for k, v in raw.items() if k != headers.ERROR_STACK}
    if as_json:
        common.print_json({**found, **parts, **tables})
        return
    for name, value in found.items():
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        for inner, text in pairs:
            click.echo(f"{f'{name} {inner}'.strip():<40} {common.clean(text)}")
    for title, text in parts.items():
        if text:
            _echo_block(title, text)
    for title, columns in (("history", ["at", "what", "detail"]), ("outcomes", ["group", "status", "attempts", "error_type"])):
        if tables.get(title):
            click.echo(f"\n{title}")
            common.print_table(tables[title], columns, "")


def _echo_block(title: str, text: str) -> None:
    click.echo(f"\n{title}\n" + "\n".join(common.clean(line) for line in text.splitlines()))


def _places(words: tuple[str, ...]) -> list[Coordinates]:
    found = [Coordinates.parse(word) for word in words]
    if None in found:
        raise UsageError(f"{words[found.index(None)]!r} isn't a place. `hooktape dlq list --poison` writes them: topic/partition@offset.")
    return [at for at in found if at is not None]


@command.command("redrive")
@group_option
@selecting
@force_option
@limiting
@click.option("--again", is_flag=True, help="Also what died after three redrives.")
@click.option("--reason", help="Why: kept in the audit trail, and seen by handlers.")
@click.option("--plan-only", is_flag=True, help="Only the plan; `hooktape replay run` runs it.")
@first_option
@yes_option
@patience_option
@common.json_option
def redrive_command(group: str, force: bool, again: bool, reason: str | None, plan_only: bool, first: int | None, yes: bool, patience: str,
                    as_json: bool, **options: Any) -> None:  # fmt: skip
    """Hand dead events to their group again, through the same plan, run and account as any replay.

    Example: hooktape dlq redrive --group fulfilment --error-group 3f2a --reason "fixed in 1.4.2"
    """
    bounds, selection = limits(options), taken(options)
    if not plan_only and not (reason or "").strip():
        raise UsageError("A redrive needs a --reason: it's kept in the audit trail. --plan-only only plans.")
    with _letters(group) as (settings, ledger, letters):
        with Cataloguer(settings, ledger) as cataloguer, Progress() as progress:
            plan = letters.plan_redrive(selection, cataloguer, who=who(), now=time.time(), forced=force, again=again, limits=bounds,
                                        progress=progress.show)  # fmt: skip
        if plan_only:
            print_plan(ledger, plan, as_json, f'hooktape replay run {plan.job.id} --reason "…"')
            return
        if not plan.decisions[RUN]:
            control.cancel(ledger, plan.job.id, who=who(), now=time.time())
            refused = ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in plan.decisions.items())
            raise NothingMatched(f"None of the selected events can be redriven: {refused}.")
        to_run = plan.decisions[RUN]
        confirm_run(plan.job, min(to_run, first) if first else to_run, yes)
        job = control.start(ledger, plan.job.id, who=who(), reason=reason or "", now=time.time(), first=first)
        finish(settings, ledger, job, patience, as_json)


@command.command("discard")
@group_option
@selecting
@at_option
@poison_option
@click.option("--reason", required=True, help="Why: kept in the audit trail.")
@yes_option
@common.json_option
def discard_command(group: str, at: tuple[str, ...], poison: bool, reason: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Give dead events up; `hooktape dlq restore` takes that back while their letters are retained.

    --at and --poison give up records that hold no event.

    Example: hooktape dlq discard --group fulfilment --id b54557e4-bdd9-4b37-8a5f-bf7d70bcd043 --reason "test order"
    """
    selection, places = taken(options), _places(at)
    with _letters(group) as (_, _, letters):
        if places or poison:
            _alone(selection)
            confirm(f"Discard {f'{len(places):,}' if places else 'all'} records of group {group} that hold no event?", yes)
            done = Account(letters.discard_poison(places or None, who=who(), reason=reason, now=time.time()))
        else:
            chosen = letters.chosen(selection)
            confirm(f"Discard {len(chosen):,} dead events of group {group} ({selection.describe()})?", yes)
            done = letters.discard(chosen, who=who(), reason=reason, now=time.time())
    _told(done, "discarded", as_json)


@command.command("restore")
@group_option
@selecting
@at_option
@click.option("--reason", required=True, help="Why: kept in the audit trail.")
@yes_option
@common.json_option
def restore_command(group: str, at: tuple[str, ...], reason: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Take a discard back: the events are dead again, as they were. As long as their letters are retained.

    Example: hooktape dlq restore --group fulfilment --id b54557e4-bdd9-4b37-8a5f-bf7d70bcd043 --reason "a real order"
    """
    selection, places = taken(options), _places(at)
    with _letters(group) as (_, _, letters):
        if places:
            _alone(selection)
            done = Account(letters.restore_poison(places, who=who(), reason=reason, now=time.time()))
        else:
            chosen = letters.discarded(selection)
            confirm(f"Restore {len(chosen):,} discarded events of group {group} ({selection.describe()})?", yes)
            done = letters.restore(chosen, who=who(), reason=reason, now=time.time())
    _told(done, "restored", as_json)


def _alone(selection: Selection) -> None:
    if not selection.is_empty:
        raise UsageError("A record that holds no event can't be selected like one: give --at or --poison alone.")


def _told(account: Account, verb: str, as_json: bool) -> None:
    refusals = account.refusals()
    if as_json:
        common.print_json({verb: account.done, "held": len(account.held), "jobs": sorted(set(account.held.values())), "lost": account.lost})
    else:
        click.echo("\n".join([f"{verb} {account.done:,}", *refusals]))
    account.check(verb)


@command.command("export")
@group_option
@selecting
@poison_option
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; standard output is the default.")
def export_command(group: str, poison: bool, output: Path | None, **options: Any) -> None:
    """Dead events as JSON Lines: fields, failure, and the body as text, or as base64 where it isn't UTF-8.

    Example: hooktape dlq export --group fulfilment > dead.jsonl
    """
    selection = taken(options)
    with _letters(group) as (_, _, letters):
        rows, number = letters.export_poison() if poison else letters.export(selection), 0
        if (first := next(rows, None)) is None:
            raise NothingMatched(f"No dead letter of group {group} matches: {selection.describe()}.")
        with click.open_file(str(output) if output else "-", "w") as stream:
            for row in chain([first], rows):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                number += 1
    click.echo(f"{number:,} {'records' if poison else 'events'}", err=True)
