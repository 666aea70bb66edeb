"""`hooktape reconcile`: the reconciler as a service, or one pass by hand."""

import asyncio
import contextlib
import signal

import click

from hooktape import metrics, times
from hooktape.cli import common
from hooktape.errors import AdminApiError, Incomplete, SettingsError, UsageError
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.families import FAMILIES, Family, of_topic
from hooktape.reconciler.report import COLUMNS, Report, sentence
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings


@click.command("reconcile")
@click.option("--once", is_flag=True, help="One pass over each shop and the report; else one per HOOKTAPE_RECONCILE_INTERVAL.")
@click.option("--shop", "shops", multiple=True, help="Only this shop; repeatable. Default: all in HOOKTAPE_SHOP_TOKENS.")
@click.option("--topic", "topics", multiple=True, help="Only this topic's family (orders/updated, orders/*); repeatable.")
@click.option("--family", "names", multiple=True, type=click.Choice(list(FAMILIES)), help="Only this family; repeatable.")
@click.option("--since", help="Look from this time on (ISO 8601, or 2h, 3d ago), not from the last end. Implies --once.")
@click.option("--until", help="Look up to this time. Implies --once.")
@click.option("--now", is_flag=True, help="No grace period, for after a known outage. Implies --once.")
@click.option("--dry-run", is_flag=True, help="Compare and report; record nothing, move no cursor. Implies --once.")
@click.option("--metrics-port", type=int, help="Answer /metrics on this port.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Where to listen for scrapes.")
@common.json_option
def command(once: bool, shops: tuple[str, ...], topics: tuple[str, ...], names: tuple[str, ...], since: str | None,
            until: str | None, now: bool, dry_run: bool, metrics_port: int | None, metrics_host: str, as_json: bool) -> None:  # fmt: skip
    """Compare the Admin API with the tape, and record what Shopify never sent as events with source "reconciler".

    What looks missing waits out a grace period (HOOKTAPE_RECONCILE_GRACE), is fetched again by id, and is recorded once.

    \b
    Examples:
      hooktape reconcile
      hooktape reconcile --once --dry-run --since 1d --shop shop.myshopify.com
      hooktape reconcile --once --now --topic 'orders/*' --json

    Exit code 5: a window stayed open or a shop couldn't be reconciled; 1: none could.
    """
    settings = common.load()
    known = settings.require("shop_tokens", "it names the shops to reconcile and their tokens")
    if unknown := sorted({shop.lower() for shop in shops} - set(known)):
        raise SettingsError(f"HOOKTAPE_SHOP_TOKENS has no token for {', '.join(unknown)}.")
    families = tuple({family.name: family for family in (*map(of_topic, topics), *(FAMILIES[name] for name in names))}.values())
    start, end = (None if text is None else times.micros(times.parse_time(text)) for text in (since, until))
    if start is not None and end is not None and start >= end:
        raise UsageError("--since must be before --until.")
    if metrics_port is not None:
        metrics.serve(metrics_port, metrics_host)
    chosen = [shop.lower() for shop in shops]
    if not (once or dry_run or now or since or until):
        asyncio.run(_serve(settings, chosen, families))
        return
    reports = asyncio.run(_once(settings, chosen, families, start, end, now, dry_run))
    if as_json:
        common.print_json({"reports": [report.as_json() for report in reports], "summary": sentence(reports)})
    else:
        common.print_table([report.row() for report in reports], COLUMNS, "Nothing was compared.")
        click.echo(sentence(reports))
    _judge(reports)


async def _serve(settings: Settings, shops: list[str], families: tuple[Family, ...]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Where a loop can't take signals (Windows), Ctrl-C still ends the process.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with Ledger.open(settings.ledger_url) as ledger:
        async with Reconciler(settings, ledger) as reconciler:
            await reconciler.run(stop, shops, families=families)


async def _once(settings: Settings, shops: list[str], families: tuple[Family, ...], since: int | None, until: int | None,
                now: bool, dry_run: bool) -> list[Report]:  # fmt: skip
    with Ledger.open(settings.ledger_url) as ledger:
        async with Reconciler(settings, ledger) as reconciler:
            # By hand one waits: the service's pass, or the lease of one that was killed, ends soon.
            return await reconciler.round(shops, families=families, since=since, until=until, now=now, dry_run=dry_run, wait=True)


def _judge(reports: list[Report]) -> None:
    """Raises what the exit code comes from."""
    failed = [report for report in reports if report.failed]
    lines = sorted({f"{report.shop}: {report.error}" for report in failed})
    if failed and len(failed) == len(reports):
        raise AdminApiError("nothing could be reconciled. " + "; ".join(lines))
    open_windows = [f"{report.shop} {report.family}" for report in reports if not report.complete and not report.failed]
    if lines or open_windows:
        counts = [f"the counts of {', '.join(open_windows)} don't agree yet"] if open_windows else []
        raise Incomplete("some windows stay open and are looked at again by the next pass. " + "; ".join(lines + counts))
