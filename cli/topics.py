"""`hooktape topics`: provisions the Kafka topics and shows them."""

import click

from hooktape.cli import common
from hooktape.settings import Settings
from hooktape.tape import sessions, topics
from hooktape.tape.names import Kind, Names


@click.group()
def command() -> None:
    """Provision and list the Kafka topics."""


@command.command("apply")
@click.option("--group", "groups", multiple=True, help="Also the retry, DLQ and replay topics of this consumer group; repeatable.")
@common.json_option
def apply(groups: tuple[str, ...], as_json: bool) -> None:
    """Make and mend the topics that the settings ask for; what is right already is left alone.

    Example: hooktape topics apply --group fulfilment
    """
    settings = common.load()
    done = topics.apply(settings, groups)
    moved = sessions.lower(settings, groups)
    odd = differing(settings, {name: found.partitions for name, found in topics.look(settings).items()})
    replicas, least = topics.durability(settings, Names(settings.topic_prefix).other)
    if as_json:
        common.print_json({"created": sorted(done.create), "configured": done.alter, "partitions_added": done.grow,
                           "too_many_partitions": done.too_many, "right": list(done.right), "differing_partitions": odd,
                           "sessions": {group: {"seconds": s.seconds, "note": s.note} for group, s in moved.items()},
                           "replicas": replicas, "min_insync_replicas": least})  # fmt: skip
        return
    for name in sorted(done.create):
        click.echo(f"created    {name}")
    for name, changes in sorted(done.alter.items()):
        click.echo(f"configured {name}: {', '.join(f'{k}={v}' for k, v in changes.items())}")
    for name, count in sorted(done.grow.items()):
        click.echo(f"grown      {name} to {count} partitions")
    for name, count in sorted(done.too_many.items()):
        click.echo(f"left       {name} with {count} partitions; the settings say {settings.partitions}, and Kafka takes none away")
    click.echo(f"{len(done.right)} topics were right already")
    for group, session in moved.items():
        seconds = "unknown" if session.seconds is None else f"{session.seconds:g} s"
        note = f"; {session.note}" if session.note else ""
        click.echo(f"group {group}: the partitions of a worker that dies move on after {seconds}{note}")
    _tell(odd)
    if replicas < 2 or least < 2:
        click.echo(f"note: {replicas} replicas, {least} of them must acknowledge. Losing a broker's disk loses events; "
                   "in production use 3 replicas with min.insync.replicas=2.", err=True)  # fmt: skip


@command.command("list")
@common.json_option
def list_(as_json: bool) -> None:
    """The topics under our prefix, as the broker has them.

    Example: hooktape topics list --json
    """
    settings = common.load()
    found = topics.look(settings)
    rows = [{"topic": name, "partitions": topic.partitions, "replicas": topic.replicas,
             "retention_days": _days(topic.config.get("retention.ms"))} for name, topic in sorted(found.items())]  # fmt: skip
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, ["topic", "partitions", "replicas", "retention_days"], "no topics yet: `hooktape topics apply`")
        _tell(differing(settings, {name: topic.partitions for name, topic in found.items()}))


def differing(settings: Settings, found: dict[str, int]) -> dict[str, int]:
    """Topics with fewer partitions than others of ours; those of dead letters may have any number. Pure."""
    names = Names(settings.topic_prefix)
    kinds = {name: parsed.kind for name in found if (parsed := names.parse(name)) is not None}
    return topics.odd_partitions({name: found[name] for name, kind in kinds.items() if kind is not Kind.DLQ})[1]


def _tell(odd: dict[str, int]) -> None:
    if odd:
        shown = ", ".join(f"{name} has {number}" for name, number in [*odd.items()][:5])
        click.echo(f"note: topics differ in their number of partitions, and workers refuse to start: {shown}. Apply again with "
                   "HOOKTAPE_PARTITIONS at the highest and --group for each group, once nothing is pending; Kafka takes none away.",
                   err=True)  # fmt: skip


def _days(milliseconds: str | None) -> float | None:
    return None if milliseconds is None else round(int(milliseconds) / 86_400_000, 2)
