"""`hooktape events`: search the tape, show one event with its history, follow the tape live."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from hooktape.cli import common
from hooktape.cli.operating import Progress, opened, selecting, taken
from hooktape.errors import NothingMatched, NotOurs
from hooktape.ledger.catalogue import After, Entry
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import shop_domain
from hooktape.replayer import history, naming
from hooktape.replayer.catalogue import Cataloguer, log_topics
from hooktape.replayer.finding import LOOK, Finder
from hooktape.schemas.event import Coordinates, Event
from hooktape.settings import Settings
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


@contextmanager
def _finder(catch_up: bool) -> Iterator[tuple[Settings, Ledger, Cataloguer, Finder]]:
    with opened() as (settings, ledger), Cataloguer(settings, ledger) as cataloguer:
        if catch_up:
            with Progress() as progress:
                cataloguer.catch_up(progress=lambda done, of: progress.show("reading the tape", done, of))
        yield settings, ledger, cataloguer, Finder(settings, ledger, cataloguer)


@command.command("list")
@selecting
@click.option("--group", help="The consumer group whose status is shown and selected by.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Events on a page.")
@click.option("--after", help="The next page: the cursor that the page before ended with.")
@click.option("--oldest-first", is_flag=True, help="The oldest first; the newest is the default.")
@click.option("--look", type=click.IntRange(1), default=LOOK, show_default=True, help="With --where: read so many bodies for a page.")
@click.option("--count", is_flag=True, help="Only how many.")
@catch_up_option
@common.json_option
def list_command(group: str | None, limit: int, after: str | None, oldest_first: bool, look: int, count: bool, catch_up: bool,
                 as_json: bool, **options: Any) -> None:  # fmt: skip
    """Events by topic, shop, resource, id, time, source, by status in a group, and by what their bodies hold.

    \b
    Examples:
      hooktape events list --shop acme --topic 'orders/*' --since 2h
      hooktape events list --topic orders/create --where 'to_number(total_price) > `100`'
    """
    selection = taken(options)
    cursor = After.decode(after) if after else None
    with _finder(catch_up) as (_, _, _, finder):
        if count:
            number = finder.count(selection, group)
            common.print_json({"count": number}) if as_json else click.echo(f"{number:,}")
            return
        page = finder.listed(selection, group, after=cursor, limit=limit, newest_first=not oldest_first, look=look)
        why = "" if page.entries or page.after else finder.why_none(selection)
    rows, then = [_row(e) for e in page.entries], page.after and page.after.encode()
    if as_json:
        common.print_json({"events": rows, "after": then, "looked_at": page.looked.events, "whole": page.whole,
                           "unreadable": page.looked.unreadable, "gone": page.looked.gone})  # fmt: skip
    elif rows:
        columns = ["received", "topic", "shop", "resource", "webhook_id", "copies"]
        common.print_table(rows, [*columns, *(["status", "attempts", "error"] if group else [])], "")
    if why:
        raise NothingMatched("That was the last page." if cursor else why)
    click.echo(f"{page.told()}{f'; go on with --after {then}' if then else ''}", err=True)


@command.command("find")
@click.argument("what")
@click.option("--shop", help="Only of this shop: acme is acme.myshopify.com.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Events of each resource, the newest.")
@catch_up_option
@common.json_option
def find_command(what: str, shop: str | None, limit: int, catch_up: bool, as_json: bool) -> None:
    """Events by what you have in hand: an order's name or number, a confirmation number, a checkout, cart or order token, a draft
    order's name, a product's handle, an id (also gid://…), a webhook id or its first 8 characters, an address in the admin.

    \b
    Examples:
      hooktape events find '#1005' --shop acme
      hooktape events find https://admin.shopify.com/store/acme/orders/820982911946154508
    """
    with _finder(catch_up) as (settings, ledger, cataloguer, finder):
        names = groups.groups_of(settings, cataloguer.reader.topics())
        found = naming.find(finder, ledger, what, shop, names, limit)
        behind = 0 if found else cataloguer.lag()
    if not found:
        late = f" The catalogue is {behind:,} records behind the tape." if behind else ""
        raise NothingMatched(f"Nothing on the tape is called {what}{f' in {shop_domain(shop)}' if shop else ''}.{late}")
    tables = [[{**_row(e), "groups": {g: str(of[e.key].status) for g, of in f.groups.items() if e.key in of}} for e in f.listing.entries]
              for f in found]  # fmt: skip
    if as_json:
        common.print_json([{"rule": f.match.rule, "resource": f.match.resource, "shop": f.match.shop, "events": rows,
                            "after": f.listing.after and f.listing.after.encode()}
                           for f, rows in zip(found, tables, strict=True)])  # fmt: skip
        return
    for number, (f, rows) in enumerate(zip(found, tables, strict=True)):
        click.echo(f"{chr(10) * bool(number)}{common.clean(f.match.told(what))}")
        shown = [{**row, **row["groups"]} for row in rows]
        common.print_table(shown, ["received", "topic", *([] if f.match.shop else ["shop"]), "resource", "webhook_id", *names], "")
        if f.listing.after:
            select = f"--resource {f.match.resource}" if f.match.resource else " ".join(f"--id {i}" for i in f.match.ids[:1])
            click.echo(f"… and more: hooktape events list {select} --after {f.listing.after.encode()}", err=True)


def _row(e: Entry) -> dict[str, Any]:
    return {"received": common.when(e.received_at), "triggered": common.when(e.triggered_at), "topic": e.topic, "shop": e.shop,
            "resource": e.resource, "root": e.root, "version": common.when(e.version), "webhook_id": e.webhook_id,
            "source": e.source, "copies": e.copies, "size": e.size, "at": str(_place(e)), "status": e.status and str(e.status),
            "attempts": e.attempts, "error": e.error_type, "error_group": e.error_group}  # fmt: skip


def _place(e: Entry) -> Coordinates:
    return Coordinates(e.kafka_topic, e.partition, e.offset)


@command.command("show")
@click.argument("webhook_id")
@click.option("--shop", help="Where several shops have this webhook id: acme is acme.myshopify.com.")
@click.option("--full", is_flag=True, help="The whole body, however long.")
@catch_up_option
@common.json_option
def show_command(webhook_id: str, shop: str | None, full: bool, catch_up: bool, as_json: bool) -> None:
    """One event: its record, who verified it, its body, and its history in every group.

    The first 8 characters of the webhook id are enough, where they're one event's.

    Example: hooktape events show b54557e4-bdd9-4b37-8a5f-bf7d70bcd043
    """
    with _finder(catch_up) as (settings, ledger, cataloguer, _):
        entry = history.find_event(ledger, webhook_id, shop and shop_domain(shop))
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
