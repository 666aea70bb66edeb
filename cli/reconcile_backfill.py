"""`hooktape reconcile backfill`: what was there before recording began, recorded as it is now."""

import asyncio
from typing import Any

import click

from hooktape import times
from hooktape.cli import asking, common
from hooktape.cli.operating import Progress
from hooktape.errors import AdminApiError, Incomplete
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.families import FAMILIES, of_topic
from hooktape.reconciler.report import Report
from hooktape.reconciler.schedule import Pass
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings

_COLUMNS = ("shop", "family", "up to", "listed", "on the tape", "recorded", "gone", "no topic", "left", "points", "state")


@click.command("backfill")
@click.option("--topic", "topics", multiple=True, required=True, help="The family to record, as in products; repeatable.")
@click.option("--shop", "shops", multiple=True, help="Only this shop; repeatable. Default: all that have a token.")
@click.option("--since", help="Only what changed last at or after this time (ISO 8601, or 90d ago). Default: everything.")
@click.option("--rate", type=click.FloatRange(min=0.1), default=50.0, show_default=True, help="Events a second for each shop, at most.")
@click.option("--dry-run", is_flag=True, help="Look and count; record nothing.")
@common.json_option
def command(topics: tuple[str, ...], shops: tuple[str, ...], since: str | None, rate: float, dry_run: bool, as_json: bool) -> None:
    """Record the present state of what the tape never had, for an integration that is new and has to know all there is.

    It looks at the time before the one that the reconciler's passes judge, and records each resource of which the tape has nothing, once,
    as an event with source "reconciler" that is marked as backfilled: no webhook was missed. What is stopped or killed goes on where it was
    when the same command is given again. The passes go on meanwhile.

    \b
    Examples:
      hooktape reconcile backfill --topic products --dry-run
      hooktape reconcile backfill --topic products --topic customers --rate 20
      hooktape reconcile backfill --topic orders --since 90d --shop acme.myshopify.com --json

    Exit code 5: some of it is left, or a shop couldn't be asked; give the command again. 1: nothing could be done.
    """
    settings = common.load()
    chosen = asking.shops(settings, shops)
    families = {family.name: family for family in (FAMILIES.get(topic) or of_topic(topic) for topic in topics)}
    begin = None if since is None else times.micros(times.parse_time(since))
    with Progress() as progress:
        done = 0

        def tell(family: str, events: int) -> None:
            nonlocal done
            done += events
            progress.show("recorded", done)

        looked = {"kind": Pass.BACKFILL, "families": tuple(families.values()), "since": begin, "dry_run": dry_run,
                  "rate": None if dry_run else rate, "progress": tell}  # fmt: skip
        reports = asyncio.run(_filled(settings, chosen, looked))
    if as_json:
        common.print_json({"reports": [report.as_json() for report in reports], "summary": _sentence(reports)})
    else:
        common.print_table([_row(report) for report in reports], _COLUMNS, "Nothing was looked at.")
        click.echo(_sentence(reports))
    _judge(reports)


async def _filled(settings: Settings, shops: list[str], looked: dict[str, Any]) -> list[Report]:
    with Ledger.open(settings.ledger_url) as ledger:
        async with Reconciler(settings, ledger) as reconciler:
            return await reconciler.round(shops, wait=True, **looked)


def _row(report: Report) -> dict[str, Any]:
    tally = report.tally
    state = report.reason if report.failed else "complete" if _done(report) else "incomplete"
    return {"shop": report.shop, "family": report.family, "up to": common.when(report.window[1] if report.window else None),
            "listed": tally.shown, "on the tape": tally.covered, "recorded": tally.recorded + tally.recorded_before, "gone": tally.gone,
            "no topic": tally.untold, "left": tally.pending, "points": report.points, "state": state}  # fmt: skip


def _done(report: Report) -> bool:
    return report.complete and not report.tally.pending


def _sentence(reports: list[Report]) -> str:
    tallies = [report.tally for report in reports]
    dry = any(report.dry_run for report in reports)
    left = sum(t.pending for t in tallies)
    return (f"Of {sum(t.shown for t in tallies):,} resources that changed last before recording began, {sum(t.covered for t in tallies):,} "
            f"were on the tape, {sum(t.recorded + t.recorded_before for t in tallies):,} {'would be' if dry else 'were'} recorded"
            + (f", {left:,} changed meanwhile or couldn't be read whole." if left else "."))  # fmt: skip


def _judge(reports: list[Report]) -> None:
    """Raises what the exit code comes from."""
    failed = [report for report in reports if report.failed]
    lines = sorted({f"{report.shop}: {report.error}" for report in failed})
    if failed and len(failed) == len(reports):
        raise AdminApiError("nothing could be recorded. " + "; ".join(lines))
    lines += sorted(f"{report.shop} {report.family}: the list wasn't whole, or some of it is left"
                    for report in reports if not report.failed and not _done(report))  # fmt: skip
    if lines:
        raise Incomplete("some of it is left; give the command again. " + "; ".join(lines) + ".")
