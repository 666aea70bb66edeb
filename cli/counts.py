"""`hooktape counts`: what Shopify counts, what the tape has, what a group has finished, per topic and day."""

import asyncio
from collections.abc import Sequence
from datetime import UTC
from fnmatch import fnmatchcase

import click
import httpx

from hooktape import times
from hooktape.cli import asking, common
from hooktape.cli.operating import Progress
from hooktape.errors import AdminApiError, Incomplete, UsageError
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.counting import COLUMNS, Row, Verdict, shown
from hooktape.reconciler.counts import Counter, Counts, Wish
from hooktape.replayer.catalogue import Cataloguer
from hooktape.schemas import topics as shopify
from hooktape.settings import Settings


@click.command()
@click.option("--shop", "shops", multiple=True, help="Only this shop; repeatable. Default: all that have a token.")
@click.option("--topic", "topics", multiple=True, help="Only this topic, as in orders/create or orders/*; repeatable.")
@click.option("--since", default="7d", show_default=True, help="From the day of this time on (ISO 8601, or 2h, 3d ago).")
@click.option("--until", help="Up to this time. Default: now less HOOKTAPE_RECONCILE_GRACE, within which webhooks may still come.")
@click.option("--group", default="", help="Also what this group's handlers have finished.")
@click.option("--zone", type=click.Choice(["utc", "shop"]), default="utc", show_default=True, help="Whose days.")
@common.json_option
def command(shops: tuple[str, ...], topics: tuple[str, ...], since: str, until: str | None, group: str, zone: str,
            as_json: bool) -> None:  # fmt: skip
    """Count on both sides, per topic and day: what Shopify shows, what the tape has, what a group's handlers have finished.

    Shopify counts resources, not events: those created on a day, those whose last change fell on it, and deletions of products and
    collections. The tape is counted alike, from its catalogue. A few points of the shop's budget for each figure.

    \b
    Examples:
      hooktape counts --group fulfilment
      hooktape counts --shop acme.myshopify.com --topic 'orders/*' --since 2026-11-01 --zone shop
      hooktape counts --since 30d --json

    Exit code 5: Shopify counts more than the tape has, or the group hasn't finished what the tape has; 1: no shop could be asked.
    """
    settings = common.load()
    chosen = asking.shops(settings, shops)
    start, end = times.micros(times.parse_time(since)), None if until is None else times.micros(times.parse_time(until))
    if end is not None and start >= end:
        raise UsageError("--since must be before --until.")
    for topic in topics:
        if not any(fnmatchcase(each, topic) for each in shopify.expand(settings.topics)):
            raise UsageError(f"{topic} is no topic in HOOKTAPE_TOPICS, so that nothing of it is expected on the tape. Write it like "
                             "orders/create or orders/*.")  # fmt: skip
    with Ledger.open(settings.ledger_url) as ledger:
        if group and not ledger.handlers.of(group):
            raise UsageError(f"No worker of group {group} has ever told its handlers to this ledger. Check the name, or start one.")
        with Progress() as progress, Cataloguer(settings, ledger) as cataloguer:
            # A catalogue that lags behind the tape would look like webhooks that never came.
            cataloguer.catch_up(progress=lambda done, of: progress.show("reading the tape", done, of))
        counts = asyncio.run(_count(settings, ledger, Wish(chosen, start, end, topics, group, zone == "shop")))
    if as_json:
        common.print_json({"rows": [row.as_json() for row in counts.rows], "uncountable": counts.uncountable, "errors": counts.errors,
                           "points": counts.points, "next": _next(counts.rows, group)})  # fmt: skip
    else:
        _print(counts, group)
    _judge(counts, chosen)


async def _count(settings: Settings, ledger: Ledger, wish: Wish) -> Counts:
    async with httpx.AsyncClient() as http:
        return await Counter(settings, ledger, http).count(wish)


def _print(counts: Counts, group: str) -> None:
    columns = [name for name in COLUMNS if group or name != "finished"]
    common.print_table([shown(row, counts.zones.get(row.shop, UTC)) for row in counts.rows], columns, "Nothing could be counted.")
    if counts.uncountable:
        click.echo("\nNot countable:")
        for why in sorted(set(counts.uncountable.values())):
            click.echo(f"  {', '.join(topic for topic, its in counts.uncountable.items() if its == why)}: {why}")
    for hint in _next(counts.rows, group):
        click.echo(f"\n{hint}")


def _next(rows: Sequence[Row], group: str) -> list[str]:
    """What to do about it: a sentence and its commands for each kind of finding."""
    hints = []
    if gaps := [row for row in rows if row.verdict is Verdict.GAP]:
        options = "".join(f" --shop {shop}" for shop in sorted({row.shop for row in gaps}))
        options += "".join(f" --family {name}" for name in sorted({row.cell.family.name for row in gaps}))
        since = f"--since {_first(gaps)}"
        hints.append(f"Of {_lines(gaps)} Shopify counts more than the tape has. Which resources; and to record them:\n"
                     f"  hooktape reconcile --once --dry-run {since}{options}\n  hooktape reconcile --once {since}{options}")  # fmt: skip
    if left := [row for row in rows if row.open]:
        topics = "".join(f" --topic '{name}/*'" for name in sorted({row.cell.family.name for row in left}))
        hints.append(f"Of {_lines(left)} group {group} hasn't finished all that the tape has. Which events, and why:\n"
                     f"  hooktape events list --group {group} --status failed,held,dead,pending,never-seen --since {_first(left)}"
                     f"{topics}")  # fmt: skip
    if any(row.verdict is Verdict.UNSURE for row in rows):
        hints.append('What says "unsure" may belong to another day: ask again in half an hour.')
    return hints


def _lines(rows: Sequence[Row]) -> str:
    return f"{len(rows)} lines" if len(rows) > 1 else "one line"


def _first(rows: Sequence[Row]) -> str:
    return times.iso(min(row.cell.span[0] for row in rows))


def _judge(counts: Counts, chosen: Sequence[str]) -> None:
    """Raises what the exit code comes from."""
    lines = "; ".join(f"{shop}: {why}" for shop, why in sorted(counts.errors.items()))
    if counts.errors and len(counts.errors) == len(chosen):
        raise AdminApiError(f"nothing could be counted. {lines}")
    verdicts = {row.verdict for row in counts.rows}
    says = ["the tape lacks what Shopify counts"] if Verdict.GAP in verdicts else []
    says += ["the group hasn't finished what the tape has"] if any(row.open for row in counts.rows) else []
    if says or lines:
        raise Incomplete("; ".join([*says, *([lines] if lines else [])]) + ".")
