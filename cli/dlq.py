"""`hooktape dlq`: dead letters."""

import json
import time
from dataclasses import replace
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
from hooktape.cli.replay import finish, patience_option, print_plan
from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger.items import RUN
from hooktape.ledger.selection import Status
from hooktape.replayer import control, history
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.dlq import DeadLetters, Letter, Poison
from hooktape.schemas.event import Coordinates
from hooktape.tape import groups as kafka_groups
from hooktape.tape import headers


@click.group()
def command() -> None:
    """Dead letters: list, show, group by cause, redrive, discard, export. Nothing here replays by itself."""


@command.command("list")
@group_option
@selecting
@click.option("--limit", default=50, show_default=True)
@click.option("--poison", is_flag=True, help="The records that aren't events: no id, so they can only be looked at.")
@common.json_option
def list_command(group: str, limit: int, poison: bool, as_json: bool, **options: Any) -> None:
    """Events that are dead now, the latest first; --poison lists the records that aren't events.

    Example: hooktape dlq list --group fulfilment --topic orders/create
    """
    selection = taken(options)
    with opened() as (settings, ledger):
        letters = DeadLetters(settings, ledger, group)
        poisoned = [_poison_row(p) for p in letters.poison()] if poison else []
        rows = poisoned if poison else [_letter_row(x) for x in reversed(letters.find(selection))]
    if as_json:
        common.print_json(rows[:limit])
    elif poison:
        common.print_table(rows[:limit], ["at", "origin", "appended", "size", "why"], "no poison")
        click.echo("\nThese hold no event: they can't be redriven or discarded, and retention removes them.", err=True)
    else:
        columns = ["died", "topic", "shop", "resource", "webhook_id", "attempts", "redrives", "error", "message"]
        common.print_table(rows[:limit], columns, "no dead letters")
        if len(rows) > limit:
            click.echo(f"… and {len(rows) - limit} more", err=True)


def _letter_row(letter: Letter) -> dict[str, Any]:
    e, failure = letter.entry, letter.failure
    return {"died": moment(letter.timestamp_ms / 1000), "received": common.when(e.received_at), "topic": e.topic, "shop": e.shop,
            "resource": e.resource, "webhook_id": e.webhook_id, "attempts": failure.attempts if failure else 0,
            "redrives": letter.redrives, "disposition": failure.disposition if failure else "",
            "error": failure.error_type if failure else "", "message": failure.message if failure else "",
            "error_group": failure.group if failure else "", "at": str(letter.at), "origin": str(letter.origin)}  # fmt: skip


def _poison_row(poison: Poison) -> dict[str, Any]:
    return {"at": str(poison.at), "origin": str(poison.origin), "appended": moment(poison.timestamp_ms / 1000),
            "size": poison.size, "why": poison.why}  # fmt: skip


@command.command("groups")
@group_option
@common.json_option
def groups_command(group: str, as_json: bool) -> None:
    """Dead events by cause, the most frequent first.

    Example: hooktape dlq groups --group fulfilment
    """
    with opened() as (_, ledger):
        rows = [{"error_group": g.error_group, "count": g.count, "error": g.error_type, "message": g.message,
                 "first": moment(g.first), "last": moment(g.last), "topics": ", ".join(g.topics), "shops": g.shops,
                 "example": next((e.webhook_id for e in ledger.catalogue.by_id(g.example.id)), None)}
                for g in ledger.outcomes.error_groups(group)]  # fmt: skip
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, ["error_group", "count", "error", "message", "first", "last", "topics", "shops", "example"],
                           "no dead letters")  # fmt: skip


@command.command("show")
@group_option
@click.argument("what")
@click.option("--shop", help="Where several shops have this webhook id.")
@common.json_option
def show_command(group: str, what: str, shop: str | None, as_json: bool) -> None:
    """One dead letter, by webhook id, or by its place (topic/partition@offset): body, headers, stack, history.

    Example: hooktape dlq show --group fulfilment b54557e4-bdd9-4b37-8a5f-bf7d70bcd043
    """
    with opened() as (settings, ledger):
        letters = DeadLetters(settings, ledger, group)
        if (at := _coordinates(what)) is not None:
            record = letters.show_poison(at)
            found: dict[str, Any] = {"at": str(at), "size": len(record.value or b""), "value": (record.value or b"")[:2000].hex()}
            stack, body, outcomes, replays = "", "", [], []
        else:
            record, letter, event = letters.show(what, shop)
            with Cataloguer(settings, ledger) as cataloguer:
                names = kafka_groups.groups_of(settings, cataloguer.reader.topics())
            found = {**_letter_row(letter), "shopify_headers": event.headers}
            stack, body = (letter.failure.stack if letter.failure else ""), body_text(event, None if as_json else 4000)
            outcomes = [{name: getattr(o, name) for name in o.__slots__} for o in history.outcomes(ledger, letter.entry, names)]
            replays = history.replays(ledger, letter.entry)
    found["headers"] = {k: v for k, v in headers.read(record.headers).items() if k != headers.ERROR_STACK}
    if as_json:
        common.print_json({**found, "stack": stack, "body": body, "outcomes": outcomes, "replays": replays})
        return
    for name, value in found.items():
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        for inner, text in pairs:
            click.echo(f"{f'{name} {inner}'.strip():<40} {common.clean(text)}")
    for title, text in (("stack", stack), ("body", body)):
        if text:
            click.echo(f"\n{title}\n" + "\n".join(common.clean(line) for line in text.splitlines()))
    if outcomes:
        click.echo()
        common.print_table(outcomes, ["group", "status", "attempts", "error_type", "error_message"], "")
    if replays:
        click.echo()
        common.print_table(replays, ["id", "kind", "decision", "outcome", "who", "reason"], "")


def _coordinates(text: str) -> Coordinates | None:
    place, at, offset = text.rpartition("@")
    topic, slash, partition = place.rpartition("/")
    return Coordinates(topic, int(partition), int(offset)) if at and slash and partition.isdigit() and offset.isdigit() else None


@command.command("redrive")
@group_option
@selecting
@force_option
@limiting
@click.option("--again", is_flag=True, help="Also what died after three redrives.")
@click.option("--reason", help="Why: kept in the audit trail, and seen by handlers.")
@click.option("--dry-run", is_flag=True, help="Only the plan; `hooktape replay run` runs it.")
@yes_option
@patience_option
@common.json_option
def redrive_command(group: str, force: bool, again: bool, reason: str | None, dry_run: bool, yes: bool, patience: str,
                    as_json: bool, **options: Any) -> None:  # fmt: skip
    """Hand dead events to their group again, through the same plan, run and account as any replay.

    Example: hooktape dlq redrive --group fulfilment --error-group 3f2a --reason "fixed in 1.4.2"
    """
    bounds, selection = limits(options), taken(options)
    if not dry_run and not (reason or "").strip():
        raise UsageError("A redrive needs a --reason: it's kept in the audit trail. --dry-run only plans.")
    with opened() as (settings, ledger):
        with Cataloguer(settings, ledger) as cataloguer, Progress() as progress:
            plan = DeadLetters(settings, ledger, group).plan_redrive(
                selection, cataloguer, who=who(), now=time.time(), forced=force, again=again, limits=bounds, progress=progress.show
            )
        if dry_run:
            print_plan(ledger, plan, as_json, f'hooktape replay run {plan.job.id} --reason "…"')
            return
        if not plan.decisions[RUN]:
            control.cancel(ledger, plan.job.id, who=who(), now=time.time())
            refused = ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in plan.decisions.items())
            raise NothingMatched(f"None of the selected events can be redriven: {refused}.")
        confirm_run(plan.job, plan.decisions[RUN], yes)
        job = control.start(ledger, plan.job.id, who=who(), reason=reason or "", now=time.time())
        finish(settings, ledger, job, patience, as_json)


@command.command("discard")
@group_option
@selecting
@click.option("--reason", required=True, help="Why: kept in the audit trail.")
@yes_option
@common.json_option
def discard_command(group: str, reason: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Give dead events up for good. Their letters stay until retention removes them.

    Example: hooktape dlq discard --group fulfilment --id b54557e4 --reason "test order"
    """
    selection = taken(options)
    with opened() as (settings, ledger):
        letters = DeadLetters(settings, ledger, group)
        chosen = letters.chosen(selection)
        confirm(f"Discard {len(chosen):,} dead events of group {group} ({selection.describe()})?", yes)
        gone = letters.discard(chosen, who=who(), reason=reason, now=time.time())
    common.print_json({"discarded": len(gone)}) if as_json else click.echo(f"discarded {len(gone):,} events")


@command.command("export")
@group_option
@selecting
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; standard output is the default.")
def export_command(group: str, output: Path | None, **options: Any) -> None:
    """Dead events as JSON Lines: fields, failure, and the body as text, or as base64 where it isn't UTF-8.

    Example: hooktape dlq export --group fulfilment > dead.jsonl
    """
    selection = taken(options)
    with opened() as (settings, ledger):
        letters = DeadLetters(settings, ledger, group)
        # Nothing narrows it: reading all of them does no harm, so it needn't be said.
        chosen = letters.chosen(replace(selection, statuses=(Status.DEAD,)) if selection.is_empty else selection)
        with click.open_file(str(output) if output else "-", "w") as stream:
            for row in letters.export(chosen):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    click.echo(f"{len(chosen):,} events", err=True)


