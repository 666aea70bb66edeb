"""`hooktape reconcile`: the reconciler as a service, or one pass by hand; its sub-commands stand in files of their own."""

import asyncio
import contextlib
import signal
from typing import Any

import click
from click.core import ParameterSource

from hooktape import metrics, times
from hooktape.cli import asking, common, reconcile_backfill, reconcile_report
from hooktape.errors import AdminApiError, Incomplete, UsageError
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.doctor.visiting import Doctor
from hooktape.reconciler.families import FAMILIES, Family, of_topic
from hooktape.reconciler.report import COLUMNS, Report, sentence
from hooktape.reconciler.running import Service
from hooktape.reconciler.schedule import SCHEDULED, Pass
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings


@click.group("reconcile", invoke_without_command=True)
@click.option("--once", is_flag=True, help="One pass over each shop and the report; else passes on a schedule.")
@click.option("--shop", "shops", multiple=True, help="Only this shop; repeatable. Default: all that have a token.")
@click.option("--topic", "topics", multiple=True, help="Only this topic's family (orders/updated, orders/*); repeatable.")
@click.option("--family", "names", multiple=True, type=click.Choice(list(FAMILIES)), help="Only this family; repeatable.")
@click.option("--since", help="Look from this time on (ISO 8601, or 2h, 3d ago), not from the last end. Implies --once.")
@click.option("--until", help="Look up to this time. Implies --once.")
@click.option("--pass", "kind", type=click.Choice([*map(str, SCHEDULED)]), help="Which pass to make. Implies --once; default: fast.")
@click.option("--now", is_flag=True, help="No grace period, for after a known outage. Implies --once.")
@click.option("--accept-deletes", "accept", is_flag=True, help="Record the deletions that are held. Implies --once.")
@click.option("--dry-run", is_flag=True, help="Compare and report; record nothing, move no cursor. Implies --once.")
@click.option("--metrics-port", type=int, help="Answer /metrics on this port.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Where to listen for scrapes.")
@common.json_option
@click.pass_context
def command(context: click.Context, once: bool, shops: tuple[str, ...], topics: tuple[str, ...], names: tuple[str, ...], since: str | None,
            until: str | None, kind: str | None, now: bool, accept: bool, dry_run: bool, metrics_port: int | None, metrics_host: str,
            as_json: bool) -> None:  # fmt: skip
    """Compare the Admin API with the tape, and record what Shopify never sent as events with source "reconciler".

    What looks missing waits out a grace period (HOOKTAPE_RECONCILE_GRACE), is fetched again by id, and is recorded once. On the
    schedule a fast pass goes on from the last one, a look-back covers more than a day again, a sweep compares all ids, and the doctor
    (`hooktape doctor`) looks at the subscriptions.

    \b
    Examples:
      hooktape reconcile
      hooktape reconcile --once --dry-run --since 1d --shop shop.myshopify.com
      hooktape reconcile --once --now --topic 'orders/*' --json
      hooktape reconcile --once --accept-deletes --family products

    Exit code 5: a window stayed open or a shop couldn't be reconciled; 1: none could.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    settings = common.load()
    families = tuple({family.name: family for family in (*map(of_topic, topics), *(FAMILIES[name] for name in names))}.values())
    start, end = (None if text is None else times.micros(times.parse_time(text)) for text in (since, until))
    if start is not None and end is not None and start >= end:
        raise UsageError("--since must be before --until.")
    if metrics_port is not None:
        metrics.serve(metrics_port, metrics_host)
    # A service goes on with shops that install the app meanwhile, where it isn't said which ones it's for.
    chosen = asking.shops(settings, shops) if shops else []
    if not (once or dry_run or now or since or until or kind or accept):
        asyncio.run(_serve(settings, chosen, families))
        return
    looked = {"kind": Pass(kind or Pass.FAST), "families": families, "since": start, "until": end, "now": now, "dry_run": dry_run,
              "accept": accept}  # fmt: skip
    reports = asyncio.run(_once(settings, chosen, looked))
    if as_json:
        common.print_json({"reports": [report.as_json() for report in reports], "summary": sentence(reports)})
    else:
        common.print_table([report.row() for report in reports], COLUMNS, "Nothing was compared.")
        click.echo(sentence(reports))
    _judge(reports)


def _refuse_options(context: click.Context) -> None:
    """What stands before a sub-command is a pass's: passed over in silence, it would leave more done, or shown, than was asked for."""
    given = [option.opts[0] for option in context.command.params
             if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE]  # fmt: skip
    if given:
        raise UsageError(f"{', '.join(given)} before `{context.invoked_subcommand}`: that belongs to a pass. The options of "
                         f"`hooktape reconcile {context.invoked_subcommand}` stand after its name.")  # fmt: skip


async def _serve(settings: Settings, shops: list[str], families: tuple[Family, ...]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Where a loop can't take signals (Windows), Ctrl-C still ends the process.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with Ledger.open(settings.ledger_url) as ledger:
        async with (Reconciler(settings, ledger) as reconciler,
                    Doctor(settings, ledger, look_back=reconciler.look_back, access=reconciler.access) as doctor):  # fmt: skip
            await Service(reconciler, doctor, settings, ledger.timetable, shops, families).run(stop)


async def _once(settings: Settings, shops: list[str], looked: dict[str, Any]) -> list[Report]:
    with Ledger.open(settings.ledger_url) as ledger:
        async with Reconciler(settings, ledger) as reconciler:
            # By hand one waits: the service's pass, or the lease of one that was killed, ends soon.
            return await reconciler.round(shops, wait=True, **looked)


def _judge(reports: list[Report]) -> None:
    """Raises what the exit code comes from."""
    failed = [report for report in reports if report.failed]
    lines = sorted({f"{report.shop}: {report.error}" for report in failed})
    if failed and len(failed) == len(reports):
        raise AdminApiError("nothing could be reconciled. " + "; ".join(lines))
    open_windows = [f"{report.shop} {report.family}" for report in reports if not report.complete and not report.failed]
    if lines or open_windows:
        lists = [f"the lists of {', '.join(open_windows)} aren't whole yet, by Shopify's counts or as the log says"] if open_windows else []
        raise Incomplete("some windows stay open and are looked at again by the next pass. " + "; ".join(lines + lists))


command.add_command(reconcile_report.command)
command.add_command(reconcile_backfill.command)
