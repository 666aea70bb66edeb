"""`hooktape kafka`: the local Kafka, started, stopped and looked at."""

import time

import click

from hooktape.cli.common import json_option, print_json
from hooktape.errors import UsageError
from hooktape.settings import load
from hooktape.times import iso

NOT_RUNNING = 3  # as everywhere: nothing matched


def _say(message: str) -> None:
    click.echo(message, err=True)


@click.group("kafka")
def command() -> None:
    """The local Kafka: a real Apache Kafka (KRaft, one node, on disk), from pip alone.

    \b
    Example:
      export HOOKTAPE_KAFKA=$(hooktape kafka start)
      hooktape kafka status
      hooktape kafka stop
    """


@command.command("start")
def start() -> None:
    """Starts it (or finds it running) and prints its bootstrap servers. It runs until `hooktape kafka stop`.

    \b
    Example:
      export HOOKTAPE_KAFKA=$(hooktape kafka start)
    """
    from hooktape.local import kafka

    settings = load()
    if settings.local_kafka == "container":
        raise UsageError(
            f"HOOKTAPE_LOCAL_KAFKA=container ({settings.origin('local_kafka')}): a container lives only as long as the command "
            "that started it. Use `docker compose up kafka` for one that stays, or unset it to take the Kafka from pip."
        )
    broker = kafka.start(settings.home / "kafka", lifetime="detached", progress=_say)
    if settings.kafka and settings.kafka != broker.bootstrap:
        _say(f"Other commands use {settings.kafka}, from {settings.origin('kafka')}, not this one.")
    _say(f"Process {broker.pid}, data in {broker.data}, log in {broker.log}")
    click.echo(broker.bootstrap)


@command.command("stop")
def stop() -> None:
    """Stops it, whoever uses it. Its data stay.

    \b
    Example:
      hooktape kafka stop
    """
    from hooktape.local import kafka

    home = load().home / "kafka"
    _say("Stopped." if kafka.stop(home) else f"No local Kafka runs in {home}.")


@command.command("status")
@json_option
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Whether it runs, and where. Exit status 0 when it answers, 1 when it runs but doesn't answer, 3 when it doesn't run.

    \b
    Example:
      hooktape kafka status --json
    """
    from hooktape.local import kafka

    home = load().home / "kafka"
    broker = kafka.status(home)
    answers = broker is not None and kafka.answers(broker.bootstrap, time.monotonic() + 5)
    if as_json:
        about = {} if broker is None else {
            "bootstrap": broker.bootstrap, "pid": broker.pid, "started": iso(int(broker.started * 1e6)),
            "lifetime": broker.lifetime, "data": str(broker.data), "log": str(broker.log),
        }  # fmt: skip
        print_json({"running": broker is not None, "answers": answers, **about})
    elif broker is None:
        click.echo(f"No local Kafka runs in {home}. Start it with `hooktape kafka start`.")
    else:
        click.echo(f"{broker.bootstrap} {'answers' if answers else 'does not answer'}: process {broker.pid}, log in {broker.log}")
    context.exit(NOT_RUNNING if broker is None else 0 if answers else 1)
