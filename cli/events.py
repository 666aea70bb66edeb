"""`hooktape events`: search the tape, show one event with its history, follow the tape live."""

import json
import time
from typing import Any

import click

from hooktape.cli import common
from hooktape.cli.operating import Progress, opened, selecting, taken
from hooktape.errors import NothingMatched, NotOurs
from hooktape.ledger.catalogue import Entry
from hooktape.replayer import history
from hooktape.replayer.catalogue import Cataloguer, log_topics
from hooktape.schemas.event import Coordinates, Event
from hooktape.tape import groups, headers
from hooktape.tape.follower import Follower
from hooktape.tape.reader import Reader
from hooktape.tape.wire import Wire
from hooktape.times import micros, parse_time

# As much of a body as a screen shows; --full shows all of it.
_BODY = 4000
catch_up_option = click.option("--catch-up/--no-catch-up", default=True, help="Read the newest records of the tape first (the default).")


@click.group()
def command() -> None:
    """Search the tape; show one event with its history; follow it live."""


@command.command("list")
@selecting
@click.option("--group", help="The consumer group whose status is shown and selected by.")
@click.option("--limit", default=50, show_default=True)
@click.option("--oldest-first", is_flag=True, help="The oldest first; the newest is the default.")
@click.option("--count", is_flag=True, help="Only how many.")
@catch_up_option
@common.json_option
def list_command(group: str | None, limit: int, oldest_first: bool, count: bool, catch_up: bool, as_json: bool, **options: Any) -> None:
    """Events by topic, shop, resource, id, time, source, and by status in a group.

    Example: hooktape events list --shop acme.myshopify.com --topic 'orders/*' --since 2h
    """
    selection = taken(options)
    with opened() as (settings, ledger):
        if catch_up:
            with Cataloguer(settings, ledger) as cataloguer, Progress() as progress:
                cataloguer.catch_up(progress=lambda done, of: progress.show("reading the tape", done, of))
        if count:
            number = ledger.catalogue.count(selection, group)
            common.print_json({"count": number}) if as_json else click.echo(f"{number:,}")
            return
        rows = [_row(e) for e in ledger.catalogue.find(selection, group, limit=limit, newest_first=not oldest_first)]
    if as_json:
        common.print_json(rows)
    elif rows:
        columns = ["received", "topic", "shop", "resource", "webhook_id", "copies"]
        common.print_table(rows, [*columns, *(["status", "attempts", "error"] if group else [])], "")
    if not rows:
        raise NothingMatched(f"No event matches: {selection.describe()}.")


def _row(e: Entry) -> dict[str, Any]:
    return {"received": common.when(e.received_at), "triggered": common.when(e.triggered_at), "topic": e.topic, "shop": e.shop,
            "resource": e.resource, "root": e.root, "version": common.when(e.version), "webhook_id": e.webhook_id,
            "source": e.source, "copies": e.copies, "size": e.size, "at": str(_place(e)), "status": e.status and str(e.status),
            "attempts": e.attempts, "error": e.error_type, "error_group": e.error_group}  # fmt: skip


def _place(e: Entry) -> Coordinates:
    return Coordinates(e.kafka_topic, e.partition, e.offset)


@command.command("show")
@click.argument("webhook_id")
@click.option("--shop", help="Where several shops have this webhook id.")
@click.option("--full", is_flag=True, help="The whole body, however long.")
@catch_up_option
@common.json_option
def show_command(webhook_id: str, shop: str | None, full: bool, catch_up: bool, as_json: bool) -> None:
    """One event: its record, who verified it, its body, and its history in every group.

    Example: hooktape events show b54557e4-bdd9-4b37-8a5f-bf7d70bcd043
    """
    with opened() as (settings, ledger), Cataloguer(settings, ledger) as cataloguer:
        if catch_up:
            cataloguer.catch_up()
        entry = history.find_event(ledger, webhook_id, shop)
        record = cataloguer.reader.fetch(_place(entry))
        event = Wire(settings).decode(record.value)
        outcomes = history.outcomes(ledger, entry, groups.groups_of(settings, cataloguer.reader.topics()))
        replays = history.replays(ledger, entry)
    relabelled = headers.read(record.headers).get(headers.RELABELLED) == "1"
    about = {**{k: v for k, v in _row(entry).items() if k not in ("status", "attempts", "error", "error_group")},
             "event_id": event.event_id, "api_version": event.api_version, "relabelled": relabelled,
             "verified_by": event.secret_id or ("the Admin API's token" if event.hmac is None else None)}  # fmt: skip
    if as_json:
        common.print_json({**about, "headers": event.headers, "body": body_text(event, None),
                           "outcomes": [{name: getattr(o, name) for name in o.__slots__} for o in outcomes],
                           "replays": replays})  # fmt: skip
        return
    for name, value in about.items():
        click.echo(f"{name:<12} {common.clean(value)}")
    click.echo(f"\n{body_text(event, None if full else _BODY)}\n")
    common.print_table([{name: getattr(o, name) for name in o.__slots__} for o in outcomes],
                       ["group", "status", "attempts", "error_type", "error_message"], "no group has met it yet")  # fmt: skip
    if replays:
        click.echo()
        common.print_table(replays, ["id", "kind", "group", "decision", "outcome", "who", "reason"], "")


def body_text(event: Event, limit: int | None) -> str:
    """The body for people: JSON indented, control characters shown, cut at `limit` characters."""
    try:
        text = json.dumps(event.json(), indent=2, ensure_ascii=False)
    except (NotOurs, RecursionError):
        text = event.payload.decode(errors="replace")
    shown = "\n".join(common.clean(line) for line in text.splitlines())
    if limit is not None and len(shown) > limit:
        return f"{shown[:limit]}\n… {len(event.payload):,} bytes in all; --full shows them"
    return shown


@command.command("tail")
@click.option("--topic", multiple=True, help="Only this Shopify topic; repeatable.")
@click.option("--shop", multiple=True, help="Only this shop; repeatable.")
@click.option("--since", help="Begin at this time instead of now: ISO 8601, or a time ago (10m).")
@click.option("--limit", type=int, help="End after so many events.")
@click.option("--timeout", type=float, help="End after so many seconds.")
@common.json_option
def tail_command(topic: tuple[str, ...], shop: tuple[str, ...], since: str | None, limit: int | None, timeout: float | None,
                 as_json: bool) -> None:  # fmt: skip
    """Events as they are recorded, until Ctrl-C. With --json one object a line.

    Example: hooktape events tail --topic orders/create
    """
    settings = common.load()
    wire = Wire(settings)
    with Reader(settings) as reader, Follower(settings) as follower:
        logs = log_topics(settings, reader)
        follower.follow(reader.starts(logs, micros(parse_time(since)) // 1000) if since else reader.ends(logs))
        click.echo("following the tape; Ctrl-C ends it", err=True)
        deadline = None if timeout is None else time.monotonic() + timeout
        seen = 0
        while deadline is None or time.monotonic() < deadline:
            for record in follower.poll(0.5)[0]:
                try:
                    event = wire.decode(record.value)
                except NotOurs as error:
                    click.echo(f"{record.at}: {error}", err=True)
                    continue
                if (topic and event.topic not in topic) or (shop and event.shop not in shop):
                    continue
                line = {"received": common.when(event.received_us), "topic": event.topic, "shop": event.shop,
                        "resource": event.resource, "webhook_id": event.webhook_id, "source": event.source,
                        "size": len(event.payload), "at": str(record.at)}  # fmt: skip
                click.echo(json.dumps(line) if as_json else "  ".join(common.clean(v) for v in line.values()))
                seen += 1
                if seen == limit:
                    return
