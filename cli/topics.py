"""`hooktape topics`: provisions the Kafka topics and shows them."""

import click

from hooktape.cli import common
from hooktape.tape import topics
from hooktape.tape.names import Names


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
    replicas, least = topics.durability(settings, Names(settings.topic_prefix).other)
    if as_json:
        common.print_json({"created": sorted(done.create), "configured": done.alter, "partitions_added": done.grow,
                           "too_many_partitions": done.too_many, "right": list(done.right),
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
    if replicas < 2 or least < 2:
        click.echo(f"note: {replicas} replicas, {least} of them must acknowledge. Losing a broker's disk loses events; "
                   "in production use 3 replicas with min.insync.replicas=2.", err=True)  # fmt: skip


@command.command("list")
@common.json_option
def list_(as_json: bool) -> None:
    """The topics under our prefix, as the broker has them.

    Example: hooktape topics list --json
    """
    found = topics.look(common.load())
    rows = [{"topic": name, "partitions": topic.partitions, "replicas": topic.replicas,
             "retention_days": _days(topic.config.get("retention.ms"))} for name, topic in sorted(found.items())]  # fmt: skip
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, ["topic", "partitions", "replicas", "retention_days"], "no topics yet: `hooktape topics apply`")


def _days(milliseconds: str | None) -> float | None:
    return None if milliseconds is None else round(int(milliseconds) / 86_400_000, 2)
