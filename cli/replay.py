"""`hooktape replay`: plan a replay, run it, account for it."""

import asyncio
import time
from typing import Any

import click

from hooktape.cli import common, replay_verify
from hooktape.cli.operating import (
    Progress,
    account_row,
    confirm,
    counts,
    force_option,
    group_option,
    job_row,
    opened,
    print_account,
    rate_option,
    selecting,
    taken,
    who,
    yes_option,
)
from hooktape.ledger.items import Account, Item
from hooktape.ledger.jobs import ENDED, Job, JobState
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import control
from hooktape.replayer import run as running
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.plan import Decision, Plan, plan_replay
from hooktape.settings import Settings
from hooktape.times import format_duration, parse_duration

patience_option = click.option("--patience", default="60s", show_default=True,
                               help="After so long without any outcome, what is missing is called missing.")  # fmt: skip


@click.group()
def command() -> None:
    """Plan a replay, run it, account for it.

    \b
    A bad hour, replayed:
      hooktape replay plan --group fulfilment --since 2h --until 1h --status dead
      hooktape replay run PLAN --reason "warehouse API was down"
      hooktape replay show PLAN
    """


@command.command("plan")
@group_option
@selecting
@force_option
@rate_option
@click.option("--show", default=3, show_default=True, help="Examples of each decision.")
@common.json_option
def plan_command(group: str, force: bool, rate: float | None, show: int, as_json: bool, **options: Any) -> None:
    """Say for each selected event what a replay would do, and change nothing.

    Example: hooktape replay plan --group fulfilment --topic 'orders/*' --since 2h
    """
    selection = taken(options)
    with opened() as (settings, ledger), Cataloguer(settings, ledger) as cataloguer, Progress() as progress:
        made = plan_replay(cataloguer, ledger, group, selection, who=who(), now=time.time(), forced=force, rate=rate,
                           progress=progress.show)  # fmt: skip
    print_plan(made, show, as_json, f'hooktape replay run {made.job.id} --reason "…"')


def print_plan(plan: Plan, show: int, as_json: bool, then: str) -> None:
    """A plan's totals and examples."""
    if as_json:
        common.print_json({**job_row(plan.job), "decisions": dict(plan.decisions), "seconds": plan.seconds,
                           "topics": {t: dict(c) for t, c in plan.topics.items()},
                           "shops": {s: dict(c) for s, c in plan.shops.items()},
                           "examples": {d: [_item_row(i) for i in items[:show]] for d, items in plan.examples.items()}})  # fmt: skip
        return
    click.echo(f"plan {plan.job.id} for group {plan.job.group}: {common.clean(plan.job.selection.describe())}\n")
    for decision in Decision:
        if number := plan.decisions[decision]:
            click.echo(f"{number:>10,}  {decision.value.replace('_', ' '):<12} {_MEANING[decision]}")
            for item in plan.examples[decision][:show]:
                click.echo(f"{'':>12}{common.clean(f'{item.topic}  {item.resource or item.shop}  {_at(item)}')}")
    click.echo(f"{plan.selected:>10,}  selected\n")
    common.print_table([{"topic": topic, "events": counts(numbers)} for topic, numbers in sorted(plan.topics.items())],
                       ["topic", "events"], "")  # fmt: skip
    shops = sorted(plan.shops.items(), key=lambda pair: -pair[1].total())
    common.print_table([{"shop": shop, "events": counts(numbers)} for shop, numbers in shops[:10]], ["shop", "events"], "")
    if len(shops) > 10:
        click.echo(f"… and {len(shops) - 10} more shops")
    if plan.seconds is not None:
        click.echo(f"\nat {plan.job.rate:g} events a second it takes {format_duration(round(plan.seconds, 1) or 0.1)}")
    click.echo(f"\nnothing has changed. To run it: {then}")


_MEANING = {
    Decision.RUN: "will run",
    Decision.DONE: "finished already (--force runs it again)",
    Decision.SUPERSEDED: "a newer version of the resource has succeeded (--force runs it nevertheless)",
    Decision.WAITING: "in a retry topic: runs by itself",
    Decision.GONE: "retention has removed it",
    Decision.AGAIN: "died after three redrives (--again redrives it once more)",
}


def _at(item: Item) -> str:
    return f"{item.kafka_topic}/{item.partition}@{item.offset}"


def _item_row(item: Item) -> dict[str, Any]:
    return {"seq": item.seq, "topic": item.topic, "shop": item.shop, "resource": item.resource, "at": _at(item),
            "decision": item.decision, "outcome": item.outcome, "error": item.error}  # fmt: skip


@command.command("run")
@click.argument("plan")
@click.option("--reason", required=True, help="Why: kept in the audit trail, and seen by handlers.")
@yes_option
@patience_option
@common.json_option
def run_command(plan: str, reason: str, yes: bool, patience: str, as_json: bool) -> None:
    """Run a plan to its end, and account for every event. Exit code 5 when some failed again or have no outcome.

    Example: hooktape replay run 0199a3 --reason "warehouse API was down" --yes
    """
    with opened() as (settings, ledger):
        job = control.find_job(ledger, plan)
        if job.state is JobState.PLANNED:
            account = ledger.jobs.account(job.id)
            forced = "; what succeeded before RUNS AGAIN" if job.forced else ""
            confirm(f"Hand {account.not_sent:,} events to group {job.group} again ({job.selection.describe()}{forced})?", yes)
        finish(settings, ledger, control.start(ledger, job, who=who(), reason=reason, now=time.time()), patience, as_json)


def finish(settings: Settings, ledger: Ledger, job: Job, patience: str, as_json: bool) -> None:
    """Runs a started job here, shows how far it is, prints its account. Raises Incomplete."""
    with Progress() as progress:
        def report(now: Job, account: Account) -> None:
            ended = account.planned - account.in_flight - account.not_sent
            what = f"{now.state}: {account.planned - account.not_sent:,} handed over, ended"
            progress.show(what, ended, account.planned)

        try:
            job, account = asyncio.run(running.run(settings, ledger, job.id, patience=parse_duration(patience), report=report))
        except KeyboardInterrupt:
            click.echo(f"\nthe job stands where it is: `hooktape replay resume {job.id}` goes on", err=True)
            raise
    if as_json:
        common.print_json({**job_row(job), "account": account_row(account)})
    else:
        print_account(account)
        click.echo(f"job {job.id} is {job.state}")
    running.check(job, account)


@command.command("list")
@click.option("--group", help="Only this consumer group's.")
@click.option("--limit", default=20, show_default=True)
@common.json_option
def list_command(group: str | None, limit: int, as_json: bool) -> None:
    """Plans and runs, the latest first.

    Example: hooktape replay list --group fulfilment
    """
    with opened() as (_, ledger):
        rows = [job_row(job) for job in ledger.jobs.list(limit, group=group)]
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, ["id", "kind", "group", "state", "selected", "who", "created", "reason", "selection"], "no replays yet")


@command.command("show")
@click.argument("plan")
@click.option("--outcome", help="Only events with this outcome: succeeded, failed_again, …; `none` for those without.")
@click.option("--limit", default=20, show_default=True, help="Events that are listed.")
@common.json_option
def show_command(plan: str, outcome: str | None, limit: int, as_json: bool) -> None:
    """A job with its account, and its events that failed again or are missing.

    Example: hooktape replay show 0199a3 --outcome failed_again
    """
    with opened() as (_, ledger):
        job = control.find_job(ledger, plan)
        account = ledger.jobs.account(job.id)
        if outcome:
            items = ledger.jobs.items(job.id, outcome="" if outcome == "none" else outcome, limit=limit)
        else:
            items = ledger.jobs.items(job.id, outcome="failed_again", limit=limit)
            if job.state in ENDED:
                items += ledger.jobs.items(job.id, outcome="", decision="run", limit=limit)
    rows = [_item_row(item) for item in items[:limit]]
    if as_json:
        common.print_json({**job_row(job), "account": account_row(account), "events": rows})
        return
    for name, value in job_row(job).items():
        if value not in (None, ""):
            click.echo(f"{name:<10} {common.clean(value)}")
    click.echo()
    print_account(account)
    if rows:
        click.echo()
        common.print_table(rows, ["seq", "topic", "shop", "resource", "at", "outcome", "error"], "")


@command.command("pause")
@click.argument("plan")
def pause_command(plan: str) -> None:
    """Stop handing over; what is handed over goes on. Works from any machine.

    Example: hooktape replay pause 0199a3
    """
    with opened() as (_, ledger):
        job = control.find_job(ledger, plan)
        control.pause(ledger, job, who=who(), now=time.time())
    click.echo(f"job {job.id} is paused")


@command.command("resume")
@click.argument("plan")
@patience_option
@common.json_option
def resume_command(plan: str, patience: str, as_json: bool) -> None:
    """Let a paused job go on, or take over one whose runner has died.

    Example: hooktape replay resume 0199a3
    """
    with opened() as (settings, ledger):
        job = control.resume(ledger, control.find_job(ledger, plan), who=who(), now=time.time())
        if control.is_running(ledger, job):
            click.echo(f"job {job.id} goes on where it's being run", err=as_json)
            return
        finish(settings, ledger, job, patience, as_json)


@command.command("cancel")
@click.argument("plan")
@yes_option
def cancel_command(plan: str, yes: bool) -> None:
    """End a job, or throw a plan away. What is handed over already runs nevertheless.

    Example: hooktape replay cancel 0199a3
    """
    with opened() as (_, ledger):
        job = control.find_job(ledger, plan)
        confirm(f"Cancel job {job.id} ({job.state}, group {job.group})?", yes or job.state is JobState.PLANNED)
        control.cancel(ledger, job, who=who(), now=time.time())
    click.echo(f"job {job.id} is cancelled")


command.add_command(replay_verify.command)
