"""`hooktape reset`: moves a group's offsets; a dry run unless told otherwise."""

import time

import click

from hooktape.cli import common
from hooktape.cli.operating import Progress, confirm, group_option, opened, who, yes_option
from hooktape.errors import UsageError
from hooktape.replayer import reset
from hooktape.replayer.reset import Target, To
from hooktape.times import micros, parse_duration, parse_time


@click.command()
@group_option
@click.option("--topic", multiple=True, help="Shopify's name (orders/create) or Kafka's; repeatable.")
@click.option("--all-topics", is_flag=True, help="Every log topic that the group has committed.")
@click.option("--to-earliest", is_flag=True, help="To the first record that retention has left.")
@click.option("--to-latest", is_flag=True, help="To the end: what lies between is skipped.")
@click.option("--to-datetime", help="To the first record appended at or after this time (ISO 8601).")
@click.option("--by-duration", help="To so long ago, as in 2h.")
@click.option("--to-offset", type=int, help="To this offset.")
@click.option("--shift-by", type=int, help="By so many records; negative: back.")
@click.option("--execute", is_flag=True, help="Do it. Without this nothing changes.")
@click.option("--reprocess/--no-reprocess", default=True,
              help="Whether what has succeeded runs again (the default), or is skipped by the ledger.")  # fmt: skip
@click.option("--reason", default="", help="Why: kept in the audit trail. Needed with --execute.")
@click.option("--no-count", is_flag=True, help="Don't read the window to count what is done already.")
@yes_option
@common.json_option
def command(group: str, topic: tuple[str, ...], all_topics: bool, to_earliest: bool, to_latest: bool, to_datetime: str | None,
            by_duration: str | None, to_offset: int | None, shift_by: int | None, execute: bool, reprocess: bool, reason: str,
            no_count: bool, yes: bool, as_json: bool) -> None:  # fmt: skip
    """Reset a consumer group's offsets, in the language of kafka-consumer-groups. A dry run unless --execute.

    \b
    Example: hooktape reset --group fulfilment --topic orders/create --by-duration 2h
    """
    target = _target(to_earliest, to_latest, to_datetime, by_duration, to_offset, shift_by)
    if bool(topic) == all_topics:
        raise UsageError("Say which topics: --topic, once or more, or --all-topics.")
    if execute and not reason.strip():
        raise UsageError("A reset needs a --reason: it's kept in the audit trail.")
    with opened() as (settings, ledger):
        if execute:
            reset.refuse_live(settings, group)
        with Progress() as progress:
            planned = reset.plan(settings, ledger, group, None if all_topics else topic, target, count_done=not no_count,
                                 progress=lambda done, of: progress.show("reading the window", done, of))  # fmt: skip
        again, skipped = sum(m.again for m in planned.moves), sum(m.skipped for m in planned.moves)
        rows = [{"topic": m.topic, "partition": m.partition, "current": m.current, "new": m.new, "again": m.again,
                 "done": planned.done.get((m.topic, m.partition), 0 if not no_count else None), "skipped": m.skipped}
                for m in planned.moves]  # fmt: skip
        if not as_json:
            common.print_table(rows, ["topic", "partition", "current", "new", "again", "done", "skipped"], "")
            rerun = "all run again" if reprocess else "those done are skipped by the ledger"
            click.echo(f"\n{again:,} events are seen again, {sum(planned.done.values()):,} of them done already: {rerun}."
                       + (f" {skipped:,} events are skipped." if skipped else ""), err=True)  # fmt: skip
        generation = None
        if execute:
            confirm(f"Move the offsets of group {group}: {again:,} events again, {skipped:,} skipped?", yes)
            generation = reset.execute(settings, ledger, planned, who=who(), reason=reason, now=time.time(), reprocess=reprocess)
    if as_json:
        common.print_json({"group": group, "executed": execute, "reprocess": generation, "moves": rows})
    else:
        click.echo("done; the broker has stored it" if execute else "nothing has changed: --execute does it", err=True)


def _target(to_earliest: bool, to_latest: bool, to_datetime: str | None, by_duration: str | None, to_offset: int | None,
            shift_by: int | None) -> Target:  # fmt: skip
    now = time.time()
    chosen = [
        *([Target(To.EARLIEST)] if to_earliest else []),
        *([Target(To.LATEST)] if to_latest else []),
        *([Target(To.TIME, micros(parse_time(to_datetime)) // 1000)] if to_datetime else []),
        *([Target(To.TIME, int((now - parse_duration(by_duration)) * 1000))] if by_duration else []),
        *([Target(To.OFFSET, to_offset)] if to_offset is not None else []),
        *([Target(To.SHIFT, shift_by)] if shift_by is not None else []),
    ]
    if len(chosen) != 1:
        raise UsageError("Say once where to: --to-earliest, --to-latest, --to-datetime, --by-duration, --to-offset or --shift-by.")
    return chosen[0]
