"""`hooktape reset`: moves a group's offsets; a dry run unless told otherwise."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from hooktape.cli import common
from hooktape.cli.operating import Progress, moment, opened, who
from hooktape.errors import NotAllowed, UsageError
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import reset
from hooktape.replayer.offsets import Target, To, from_csv, to_csv
from hooktape.replayer.reset import Reset
from hooktape.settings import Settings
from hooktape.times import micros, parse_duration, parse_time

_COLUMNS = ["topic", "partition", "current", "new", "again", "skipped", "run", "finished", "dead", "in_retry"]
group_option = click.option("--group", help="The consumer group. Several only with --export.", multiple=True)
execute_option = click.option("--execute", is_flag=True, help="Do it. Without this nothing changes.")
reason_option = click.option("--reason", default="", help="Why: kept in the audit trail. Needed with --execute.")
count_option = click.option("--no-count", is_flag=True, help="Don't count what has been handled in the window.")
yes_option = click.option("--yes", is_flag=True, help="Don't ask for the group's name. Needed where there's no terminal.")


@click.group(invoke_without_command=True)
@group_option
@click.option("--topic", multiple=True,
              help="Shopify's name (orders/create, orders/*) or Kafka's; with :0,2 only these partitions; repeatable.")
@click.option("--all-topics", is_flag=True, help="Every topic of the tape that the group has committed.")
@click.option("--to-earliest", is_flag=True, help="To the first record that retention has left.")
@click.option("--to-latest", is_flag=True, help="To the end: what lies between is skipped.")
@click.option("--to-current", is_flag=True, help="To where it is: for --export.")
@click.option("--to-datetime", help="To the first record appended at or after this time (ISO 8601; UTC where no zone is given).")
@click.option("--by-duration", help="To so long ago: 2h, or ISO 8601's PT2H.")
@click.option("--to-offset", type=int, help="To this offset.")
@click.option("--shift-by", type=int, help="By so many records; negative: back.")
@click.option("--from-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="To the offsets in a file that --export wrote, here or by kafka-consumer-groups.")  # fmt: skip
@click.option("--export", is_flag=True, help="Print the new offsets as kafka-consumer-groups does: topic,partition,offset.")
@click.option("--reprocess", is_flag=True, help="Let what has been handled in the window run again. Without this the ledger skips it.")
@execute_option
@reason_option
@count_option
@yes_option
@common.json_option
@click.pass_context
def command(ctx: click.Context, group: tuple[str, ...], topic: tuple[str, ...], all_topics: bool, to_earliest: bool, to_latest: bool,
            to_current: bool, to_datetime: str | None, by_duration: str | None, to_offset: int | None, shift_by: int | None,
            from_file: Path | None, export: bool, reprocess: bool, execute: bool, reason: str, no_count: bool, yes: bool,
            as_json: bool) -> None:  # fmt: skip
    """Reset a consumer group's offsets, in the language of kafka-consumer-groups. A dry run unless --execute.

    Only topics of the tape move. What the group has handled is skipped by its ledger when it comes again, unless --reprocess.

    \b
    Examples:
      hooktape reset --group fulfilment --topic orders/create --by-duration 2h
      hooktape reset --group fulfilment --all-topics --to-datetime 2026-11-22T06:00Z --reprocess --execute --reason "bad deploy"
      hooktape reset --group fulfilment --all-topics --to-current --export > offsets.csv
      hooktape reset undo --group fulfilment --execute --reason "wrong hour"
    """
    if ctx.invoked_subcommand is not None:
        if group:
            raise UsageError(f"Write --group behind the word: hooktape reset {ctx.invoked_subcommand} --group {group[0]}")
        return
    if not group or (len(group) > 1 and (execute or not export)):
        raise UsageError("Say which group: --group, once. (Several go with --export, as a dry run.)")
    if from_file is None and bool(topic) == all_topics:
        raise UsageError("Say which topics: --topic, once or more, or --all-topics.")
    _check(execute, reason)
    text = from_file.read_text(encoding="utf-8") if from_file else ""
    target = _target(to_earliest, to_latest, to_current, to_datetime, by_duration, to_offset, shift_by, from_file is not None)
    with opened() as (settings, ledger):
        plans: dict[str, Reset] = {}
        for each in group:
            if execute:
                reset.refuse_live(settings, ledger, each, time.time())
            places = Target(To.PLACES, places=from_csv(text, each)) if target is None else target
            with Progress() as progress:
                plans[each] = reset.plan(settings, ledger, each, places, topic or None, reprocess=reprocess,
                                         count=not (no_count or (export and not execute)), progress=_showing(progress))  # fmt: skip
        if export:
            click.echo(to_csv({each: planned.moves for each, planned in plans.items()}), nl=False)
            if not execute:
                return
        _carry_out(settings, ledger, plans[group[0]], execute, reason, yes, as_json, quiet=export)


@command.command("undo")
@click.option("--group", required=True, help="The consumer group.")
@click.option("--id", "reset_id", help="The reset to take back (`hooktape reset list`); without it, the latest.")
@execute_option
@reason_option
@count_option
@yes_option
@common.json_option
def undo_command(group: str, reset_id: str | None, execute: bool, reason: str, no_count: bool, yes: bool, as_json: bool) -> None:
    """Go back to the offsets that a reset replaced. A dry run unless --execute; what it marked and hasn't run, won't.

    Example: hooktape reset undo --group fulfilment --execute --reason "wrong hour"
    """
    _check(execute, reason)
    with opened() as (settings, ledger):
        if execute:
            reset.refuse_live(settings, ledger, group, time.time())
        saved = reset.find_saved(ledger, group, reset_id)
        with Progress() as progress:
            planned = reset.plan_undo(settings, ledger, saved, count=not no_count, progress=_showing(progress))
        if not as_json:
            click.echo(f"takes back reset {saved.id} of {moment(saved.at)} by {common.clean(saved.who)}: {common.clean(saved.reason)}\n",
                       err=True)  # fmt: skip
            if unborn := sum(old is None for old in saved.old.values()):
                click.echo(f"{unborn} partitions had no offset before it, and keep the one they have.", err=True)
        _carry_out(settings, ledger, planned, execute, reason, yes, as_json)


@command.command("list")
@click.option("--group", required=True, help="The consumer group.")
@click.option("--limit", default=20, show_default=True)
@common.json_option
def list_command(group: str, limit: int, as_json: bool) -> None:
    """The group's resets with the offsets that they replaced, the latest first.

    Example: hooktape reset list --group fulfilment
    """
    with opened() as (_, ledger):
        rows = [
            {"id": s.id, "at": moment(s.at), "state": str(s.state), "partitions": len(s.new), "reprocess": s.reprocess,
             "undoes": s.undoes or None, "who": s.who, "reason": s.reason,
             "offsets": [[*place, s.old[place], s.new[place]] for place in s.new]}
            for s in ledger.resets.list(group, limit)
        ]  # fmt: skip
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, ["id", "at", "state", "partitions", "reprocess", "undoes", "who", "reason"], "no resets yet")


def _carry_out(settings: Settings, ledger: Ledger, planned: Reset, execute: bool, reason: str, yes: bool, as_json: bool,
               quiet: bool = False) -> None:  # fmt: skip
    rows = [_row(planned, i) for i in range(len(planned.moves))]
    told = planned.foresight
    if not (as_json or quiet):
        common.print_table(rows, _COLUMNS if planned.mixes else _COLUMNS[:6], "")
        click.echo("\n" + "\n".join(sentences(planned)), err=True)
    saved = None
    if execute and (planned.changes or planned.undoes):
        _confirm(planned.group, f"Move the offsets of group {planned.group}: {told.again:,} events again, {told.skipped:,} passed over, "
                 f"{told.never:,} of these never to be handled?", yes)  # fmt: skip
        saved = reset.execute(settings, ledger, planned, who=who(), reason=reason, now=time.time())
    if as_json and not quiet:
        common.print_json({"group": planned.group, "executed": saved is not None, "id": saved.id if saved else None,
                           "reprocess": saved.id if saved and saved.reprocess and told.again else None, "undoes": planned.undoes or None,
                           "again": told.again, "run": told.run, "finished": told.finished, "dead": told.dead,
                           "in_retry": told.in_retry, "other": told.other, "skipped": told.skipped, "never_handled": told.never,
                           "counted": bool(planned.mixes), "waiting": planned.waiting,
                           "left_alone": [list(place) for place in planned.left_alone], "moves": rows})  # fmt: skip
    elif saved:
        click.echo(f"done: the broker has stored {len(saved.new)} offsets, read back and compared. `hooktape reset undo --group "
                   f"{planned.group} --id {saved.id}` takes it back.", err=True)  # fmt: skip
    elif not quiet:
        click.echo("nothing has changed: " + ("--execute does it" if planned.changes else "the offsets are there already"), err=True)


def sentences(planned: Reset) -> list[str]:
    """What will happen, for people."""
    told, lines = planned.foresight, []
    if told.again and planned.mixes:
        parts = [(told.run, "run" + (" (also what was handled: --reprocess)" if planned.reprocess else "")),
                 (told.finished, "are skipped by the ledger, as handled (--reprocess runs them)"),
                 (told.dead, "are skipped by the ledger, as dead letters (--reprocess runs them)"),
                 (told.in_retry, "are in retry topics, and run from there when they're due"),
                 (told.other, "are copies, no events, or of topics without a handler in this group")]  # fmt: skip
        lines += [f"{told.again:,} records are seen again:", *(f"{number:>10,}  {what}" for number, what in parts if number)]
    elif told.again:
        lines.append(f"{told.again:,} records are seen again.")
    if told.skipped:
        never = f": {told.never:,} of them were never handled and NEVER WILL BE" if told.never else ", none of which is left to handle"
        lines.append(f"{told.skipped:,} records are passed over" + (never if planned.mixes else "") + ".")
    if planned.waiting:
        lines.append(f"{planned.waiting:,} events of the group wait in its retry topics: a reset leaves these alone, and they run when "
                     "they're due.")  # fmt: skip
    if clamped := [m for m in planned.moves if m.wanted != m.new]:
        first = clamped[0]
        lines.append(f"{len(clamped)} partitions don't reach that far: {first.topic}/{first.partition} goes to {first.new}, not "
                     f"{first.wanted}.")  # fmt: skip
    if planned.left_alone:
        lines.append(f"{len(planned.left_alone)} partitions aren't the tape's and are left alone: "
                     f"{', '.join(sorted({topic for topic, _ in planned.left_alone}))}.")  # fmt: skip
    return lines


def _row(planned: Reset, index: int) -> dict[str, Any]:
    move = planned.moves[index]
    told = reset.foresee([move], planned.mixes, reprocess=planned.reprocess)
    known = bool(planned.mixes) or not (move.again or move.skipped)
    counts = {"run": told.run, "finished": told.finished, "dead": told.dead, "in_retry": told.in_retry, "never_handled": told.never}
    return {"topic": move.topic, "partition": move.partition, "current": move.current, "new": move.new, "again": move.again,
            "skipped": move.skipped, **(counts if known else dict.fromkeys(counts))}  # fmt: skip


def _check(execute: bool, reason: str) -> None:
    if execute and not reason.strip():
        raise UsageError("A reset needs a --reason: it's kept in the audit trail.")


def _confirm(group: str, question: str, yes: bool) -> None:
    """Has the group's name typed. Raises NotAllowed for another word, or when nobody can be asked and `--yes` isn't given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotAllowed(f"{question} Nobody can be asked here: say --yes.")
    if click.prompt(f"{question}\nType the group's name to do it", default="", show_default=False, err=True) != group:
        raise NotAllowed("That isn't the group's name. Nothing was done.")


def _showing(progress: Progress) -> Any:
    return lambda done, of: progress.show("bringing the catalogue up to date", done, of)


def _target(to_earliest: bool, to_latest: bool, to_current: bool, to_datetime: str | None, by_duration: str | None,
            to_offset: int | None, shift_by: int | None, from_file: bool) -> Target | None:  # fmt: skip
    """Where to; None: a file says it for each group."""
    now = time.time()
    chosen: list[Target | None] = [
        *([Target(To.EARLIEST)] if to_earliest else []),
        *([Target(To.LATEST)] if to_latest else []),
        *([Target(To.CURRENT)] if to_current else []),
        *([Target(To.TIME, micros(parse_time(to_datetime)) // 1000)] if to_datetime else []),
        *([Target(To.TIME, int((now - parse_duration(by_duration)) * 1000))] if by_duration else []),
        *([Target(To.OFFSET, to_offset)] if to_offset is not None else []),
        *([Target(To.SHIFT, shift_by)] if shift_by is not None else []),
        *([None] if from_file else []),
    ]
    if len(chosen) != 1:
        raise UsageError("Say once where to: --to-earliest, --to-latest, --to-current, --to-datetime, --by-duration, --to-offset, "
                         "--shift-by or --from-file.")  # fmt: skip
    return chosen[0]
