"""`hooktape replay`: plan a replay, run it, account for it."""

import json
import time
from pathlib import Path
from typing import Any

import click

from hooktape.cli import common, replay_verify
from hooktape.cli.operating import (
    Progress,
    account_row,
    confirm,
    confirm_run,
    counts,
    force_option,
    group_option,
    job_row,
    limiting,
    limits,
    moment,
    opened,
    print_account,
    selecting,
    taken,
    who,
    yes_option,
)
from hooktape.errors import UsageError
from hooktape.ledger.items import RUN
from hooktape.ledger.jobs import ENDED, Job, JobState, Kind
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import account as accounts
from hooktape.replayer import control, planning, runner
from hooktape.replayer.backfill import provide, reach
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.deciding import Decision
from hooktape.replayer.planning import Plan
from hooktape.settings import Settings
from hooktape.tape.reader import Reader
from hooktape.times import format_duration, iso, parse_duration

patience_option = click.option("--patience", default="60s", show_default=True,
                               help="After so long without any outcome, what is missing is called missing.")  # fmt: skip
first_option = click.option("--first", type=click.IntRange(1), help="A trial: hand over so many, show what became of them, pause.")
# Shops that a plan names; the rest is counted.
_SHOPS = 10


@click.group()
def command() -> None:
    """Send events of the tape to one group again: plan, try one, run, account.

    \b
    A bad hour, from beginning to end (a deploy at 03:00 broke orders, fixed at 04:10):
      1  what would happen? Nothing changes; each event gets a decision:
           hooktape replay plan --group fulfilment --topic 'orders/*' --since 2026-11-22T03:00Z --until 2026-11-22T04:10Z
      2  try one event of it, and look at what became of it:
           hooktape replay run PLAN --reason "size mapping fixed" --first 1
      3  the rest; it yields to live traffic, and pauses itself when too many fail:
           hooktape replay run PLAN --reason "size mapping fixed"
      4  every event accounted for; exit code 5 while anything failed again or is missing:
           hooktape replay show PLAN
    \b
    PLAN is the id that `plan` prints; its first digits are enough. While it runs, from any machine:
      hooktape replay pause PLAN · resume PLAN · cancel PLAN · show PLAN --follow
    \b
    What had succeeded isn't run again (--force at the plan does), nor what waits in a retry topic (it runs by itself), nor an
    event whose resource has a newer version handled. Only dead events: `hooktape dlq redrive`. A new group: `hooktape replay
    backfill`.
    """


@command.command("plan")
@group_option
@selecting
@force_option
@click.option("--again", is_flag=True, help="Also what died after three redrives.")
@limiting
@click.option("--show", default=3, show_default=True, help="Examples of each decision.")
@click.option("--export", type=click.Path(dir_okay=False, path_type=Path), help="Write every event as JSON Lines; - is standard output.")
@common.json_option
def plan_command(group: str, force: bool, again: bool, show: int, export: Path | None, as_json: bool, **options: Any) -> None:
    """Say for each selected event what a replay would do, and change nothing.

    \b
    Examples: hooktape replay plan --group fulfilment --topic 'orders/*' --since 2h
              hooktape replay plan --group fulfilment --shop acme.myshopify.com --status dead --rate 50
              hooktape replay plan --group fulfilment --since 1d --force --export plan.jsonl
    """
    bounds, selection = limits(options), taken(options)
    with opened() as (settings, ledger):
        with Cataloguer(settings, ledger) as cataloguer, Progress() as progress:
            made = planning.plan(cataloguer, ledger, group, selection, who=who(), now=time.time(), forced=force, again=again, limits=bounds,
                                 examples=max(show, 0), progress=progress.show)  # fmt: skip
        if export:
            _export(ledger, made.job, export)
        if str(export) != "-":
            print_plan(ledger, made, as_json, f'hooktape replay run {made.job.id} --reason "…"')


def _export(ledger: Ledger, job: Job, path: Path, outcome: str | None = None) -> None:
    with click.open_file(str(path), "w") as stream:
        for row in planning.exported(ledger, job, outcome=outcome):
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def print_plan(ledger: Ledger, plan: Plan, as_json: bool, then: str) -> None:
    """A plan's totals and examples; `then` is the command that runs it."""
    job = plan.job
    by_topic, by_shop, shops = ledger.jobs.totals(job.id, "topic"), ledger.jobs.totals(job.id, "shop", _SHOPS), ledger.jobs.shops(job.id)
    if as_json:
        common.print_json({
            **job_row(job), "decisions": dict(plan.decisions), "topics": dict(by_topic), "shops": dict(by_shop), "shops_in_all": shops,
            "seconds": plan.seconds, "handlers": [h.name for h in plan.handlers],
            "examples": {d: [planning.item_row(i) for i in found] for d, found in plan.examples.items()}})  # fmt: skip
        return
    click.echo(f"plan {job.id} for group {job.group}: {common.clean(job.selection.describe())}\n")
    for decision in Decision:
        if number := plan.decisions[decision]:
            click.echo(f"{number:>10,}  {decision.value.replace('_', ' '):<12} {_MEANING[decision]}")
            for item in plan.examples.get(decision, []):
                click.echo(f"{'':>12}{common.clean(f'{item.topic}  {item.resource or item.shop}  {item.webhook_id}')}")
    click.echo(f"{plan.selected:>10,}  selected\n")
    common.print_table([{"topic": topic, "events": counts(numbers)} for topic, numbers in by_topic], ["topic", "events"], "")
    common.print_table([{"shop": shop, "events": counts(numbers)} for shop, numbers in by_shop], ["shop", "events"], "")
    if shops > _SHOPS:
        click.echo(f"… and {shops - _SHOPS:,} more shops")
    if plan.decisions[Decision.RUN]:
        reached = ", ".join(common.clean(handler.name) for handler in plan.handlers)
        click.echo(f"\nreaches {reached or f'whatever handlers group {job.group} has: no worker of it has started yet'}")
        if plan.seconds is not None:
            took = format_duration(round(plan.seconds, 1 if plan.seconds < 10 else 0) or 0.1)
            click.echo(f"at {job.rate:g} events a second it takes {took}")
    click.echo(f"\nnothing has changed. To run it: {then}")


_MEANING = {
    Decision.RUN: "will run",
    Decision.DONE: "finished already (--force runs it again)",
    Decision.SUPERSEDED: "a newer version of the resource has succeeded (--force runs it nevertheless)",
    Decision.HELD: "waits behind an earlier event of its resource: runs by itself",
    Decision.WAITING: "in a retry topic: runs by itself",
    Decision.GONE: "retention has removed it, and no dead letter holds it",
    Decision.UNVERIFIED: "its signature doesn't hold: never runs",
    Decision.AGAIN: "died after three redrives (--again redrives it once more)",
    Decision.REFUSED: "its handler takes no replays (replay=False)",
}


@command.command("run")
@click.argument("plan")
@click.option("--reason", required=True, help="Why: kept in the audit trail, and seen by handlers.")
@first_option
@yes_option
@patience_option
@common.json_option
def run_command(plan: str, reason: str, first: int | None, yes: bool, patience: str, as_json: bool) -> None:
    """Run a plan, or let its job go on, to its end, and account for every event. Exit code 5 when some failed again or are missing.

    It takes a plan and nothing else: what runs is what was seen. A plan older than five minutes is looked at again first.

    \b
    Examples: hooktape replay run 0199a3 --reason "warehouse API was down" --first 10
              hooktape replay run 0199a3 --reason "warehouse API was down" --yes
    """
    with opened() as (settings, ledger):
        job = control.find_job(ledger, plan)
        if job.state in (JobState.PLANNED, JobState.PAUSED) and job.note != planning.PLANNING:
            _show_drift(settings, ledger, job)
            left = ledger.jobs.account(job.id).not_sent
            confirm_run(job, min(left, first) if first else left, yes)
        finish(settings, ledger, control.start(ledger, job.id, who=who(), reason=reason, now=time.time(), first=first), patience, as_json)


def _show_drift(settings: Settings, ledger: Ledger, job: Job) -> None:
    now = time.time()
    if now - job.created_at <= planning.STALE:
        return
    with Reader(settings) as reader:
        found = planning.drift(ledger, reader, job, now=now)
    age = format_duration(round(found.age / 60) * 60)
    if not found:
        click.echo(f"the plan is {age} old; nothing has changed for its events", err=True)
        return
    click.echo(f"the plan is {age} old, and of the first {found.looked_at:,} events that it would run:", err=True)
    for (_, decision), number in sorted(found.changes.items()):
        click.echo(f"{number:>10,}  now: {_MEANING[Decision(decision)]}", err=True)
    click.echo("they are skipped, each with its reason; a new plan says all of it beforehand", err=True)


def finish(settings: Settings, ledger: Ledger, job: Job, patience: str, as_json: bool) -> None:
    """Runs a started job here (or follows it where it's being run), shows how far it is, prints its account. Raises Incomplete."""
    with Progress() as progress:
        try:
            try:
                job, account = runner.run(settings, ledger, job.id, patience=parse_duration(patience), report=_shown(progress))
            except runner.RunElsewhere:
                click.echo(f"job {job.id} goes on where it's being run; this follows it", err=True)
                job, account = runner.watch(ledger, job.id, _shown(progress))
        except KeyboardInterrupt:
            click.echo(f"\nthe job stands where it is: `hooktape replay resume {job.id}` goes on", err=True)
            raise
    if as_json:
        common.print_json({**job_row(job), "account": account_row(account)})
    else:
        print_account(account)
        click.echo(f"job {job.id} is {job.state}{f': {common.clean(job.note)}' if job.note else ''}")
    accounts.check(job, account)


def _shown(progress: Progress) -> runner.Report:
    def report(status: runner.Status) -> None:
        account = status.account
        what = f"{status.job.state}: {account.planned - account.not_sent:,} handed over, ended"
        if status.holding:
            what = f"waits: {status.holding}; ended"
        progress.show(what, account.ended, account.planned)

    return report


@command.command("backfill")
@group_option
@click.option("--from", "start", required=True, help="From this time on (30d, 2026-11-01), or `beginning`: the whole tape.")
@selecting
@limiting
@click.option("--reason", default="backfill", show_default=True, help="Why: kept in the audit trail, and seen by handlers.")
@click.option("--dry-run", is_flag=True, help="Only the plan; `hooktape replay run` runs it.")
@first_option
@yes_option
@patience_option
@common.json_option
def backfill_command(group: str, start: str, reason: str, dry_run: bool, first: int | None, yes: bool, patience: str, as_json: bool,
                     **options: Any) -> None:  # fmt: skip
    """Bring a new group the past: the tape from a time on, at a rate, with progress and an end.

    \b
    The group begins from now on its own, and gets what came before from here:
      hooktape consume erp.handlers:app --group erp --from now
      hooktape replay backfill --group erp --from 30d --topic 'orders/*' --rate 100
    """
    bounds = limits(options)
    if options.get("since"):
        raise UsageError("A backfill says where it begins by --from: leave --since out.")
    selection = taken(options | {"since": "1970-01-01" if start == "beginning" else start})
    with opened() as (settings, ledger):
        provide(settings, group)
        with Cataloguer(settings, ledger) as cataloguer, Progress() as progress:
            made = planning.plan(cataloguer, ledger, group, selection, kind=Kind.BACKFILL, who=who(), now=time.time(), limits=bounds,
                                 progress=progress.show)  # fmt: skip
        if (oldest := reach(ledger, selection)) is not None:
            click.echo(f"the tape doesn't reach back so far: it begins at {iso(oldest)}", err=True)
        if dry_run:
            print_plan(ledger, made, as_json, f'hooktape replay run {made.job.id} --reason "{reason}"')
            return
        to_run = made.decisions[RUN]
        confirm_run(made.job, min(to_run, first) if first else to_run, yes)
        job = control.start(ledger, made.job.id, who=who(), reason=reason, now=time.time(), first=first)
        finish(settings, ledger, job, patience, as_json)


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
        common.print_table(rows, ["id", "kind", "group", "state", "selected", "sent", "who", "created", "reason", "selection"],
                           "no replays yet")  # fmt: skip


@command.command("show")
@click.argument("plan")
@click.option("--outcome", help="Only events with this outcome: succeeded, failed_again, …; `none` for those without.")
@click.option("--limit", default=20, show_default=True, help="Events that are listed.")
@click.option("--export", type=click.Path(dir_okay=False, path_type=Path), help="Write every event as JSON Lines; - is standard output.")
@click.option("--follow", is_flag=True, help="Follow a running job to its end.")
@common.json_option
def show_command(plan: str, outcome: str | None, limit: int, export: Path | None, follow: bool, as_json: bool) -> None:
    """A job with its account, its events that failed again or are missing, and who did what with it.

    \b
    Examples: hooktape replay show 0199a3 --follow
              hooktape replay show 0199a3 --outcome failed_again --limit 100
    """
    wanted = {"none": ""}.get(outcome or "", outcome)
    with opened() as (_, ledger):
        job = control.find_job(ledger, plan)
        if export:
            _export(ledger, job, export, wanted)
            return
        if follow:
            with Progress() as progress:
                job, _ = runner.watch(ledger, job.id, _shown(progress))
        account = ledger.jobs.account(job.id)
        if outcome:
            items = ledger.jobs.items(job.id, outcome=wanted, decision=None if wanted else RUN, limit=limit)
        else:
            items = ledger.jobs.items(job.id, outcome="failed_again", limit=limit)
            if job.state in ENDED:
                items += ledger.jobs.items(job.id, outcome="", decision=RUN, limit=limit)
        rows = [planning.item_row(item) for item in items[:limit]]
        deeds = [{"at": moment(d.at), "who": d.who, "action": d.action, "reason": d.reason} for d in control.deeds(ledger, job)]
    if as_json:
        common.print_json({**job_row(job), "account": account_row(account), "events": rows, "audit": deeds})
        return
    for name, value in job_row(job).items():
        if value not in (None, "", False):
            click.echo(f"{name:<16}{common.clean(value)}")
    click.echo()
    print_account(account)
    _print_events(rows)
    if deeds:
        click.echo()
        common.print_table(deeds, ["at", "who", "action", "reason"], "")


def _print_events(rows: list[dict[str, Any]]) -> None:
    if rows:
        click.echo()
        shown = [row | {"outcome": row["outcome"] or "missing"} for row in rows]
        common.print_table(shown, ["webhook_id", "topic", "shop", "resource", "at", "outcome", "error"], "")


@command.command("pause")
@click.argument("plan")
@click.option("--reason", default="", help="Why: kept in the audit trail.")
def pause_command(plan: str, reason: str) -> None:
    """Stop handing over; what is handed over goes on. Works from any machine.

    Example: hooktape replay pause 0199a3
    """
    with opened() as (_, ledger):
        job = control.pause(ledger, plan, who=who(), now=time.time(), reason=reason)
    click.echo(f"job {job.id} is paused; `hooktape replay resume {job.id}` goes on")


@command.command("resume")
@click.argument("plan")
@click.option("--reason", default="", help="Why: kept in the audit trail.")
@first_option
@patience_option
@common.json_option
def resume_command(plan: str, reason: str, first: int | None, patience: str, as_json: bool) -> None:
    """Let a paused job go on, or take over one whose runner has died.

    Example: hooktape replay resume 0199a3
    """
    with opened() as (settings, ledger):
        job = control.resume(ledger, plan, who=who(), now=time.time(), reason=reason, first=first)
        finish(settings, ledger, job, patience, as_json)


@command.command("cancel")
@click.argument("plan")
@click.option("--reason", default="", help="Why: kept in the audit trail.")
@yes_option
def cancel_command(plan: str, reason: str, yes: bool) -> None:
    """End a job, or throw a plan away. What is handed over already runs nevertheless.

    Example: hooktape replay cancel 0199a3
    """
    with opened() as (_, ledger):
        job = control.find_job(ledger, plan)
        confirm(f"Cancel job {job.id} ({job.state}, group {job.group})?", yes or job.state is JobState.PLANNED)
        control.cancel(ledger, job.id, who=who(), now=time.time(), reason=reason)
    click.echo(f"job {job.id} is cancelled")


command.add_command(replay_verify.command)
