"""`hooktape up`: everything at once, for development. Each service is a process of its own, as in production."""

import os
import signal
import sys
import threading
from dataclasses import replace

import click

from hooktape import log, settings
from hooktape.cli.common import clean
from hooktape.errors import UsageError
from hooktape.local.processes import Service, stop_all
from hooktape.reconciler.access.access import configured

_COLOURS = {"ingest": "cyan", "worker": "green", "catalog": "blue", "reconcile": "magenta"}


@click.command()
@click.argument("app", required=False)
@click.option("--group", help="The consumer group, with --forward.")
@click.option("--forward", metavar="URL", help="Deliver to this address instead of to handlers.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Where the ingestor listens, on loopback.")
def command(app: str | None, group: str | None, forward: str | None, port: int) -> None:
    """A local Kafka, the ingestor, a worker, the catalogue and, where shops have tokens, the reconciler. Ctrl-C stops all.

    APP is MODULE:APP, your handlers; without it and without --forward, webhooks are only recorded.

    Example: HOOKTAPE_SHOPIFY_SECRETS=hush hooktape up myapp.handlers:app
    """
    if app and forward:
        raise UsageError("give either MODULE:APP or --forward URL, not both.")
    if bool(forward) != bool(group):
        raise UsageError("--forward URL and --group go together: the group is the name under which deliveries are remembered.")
    try:
        from hooktape.local import kafka
    except ImportError as error:
        raise click.UsageError(f"`up` needs the local stack: pip install 'hooktape[local]' ({error}).") from None
    found = settings.load()
    log.configure(found.log_level, found.log_format)
    if app:
        from hooktape.consumers.app import load

        group = load(app).group
    found.require("shopify_secrets", "webhooks are verified with it")
    with kafka.broker(found, progress=lambda text: click.echo(text, err=True)) as broker:
        click.echo(f"Kafka at {broker.bootstrap} ({broker.origin})", err=True)
        here = replace(found, kafka=broker.bootstrap)
        _run(here, _commands(here, app, group, forward, port), group, port)


def _commands(found: settings.Settings, app: str | None, group: str | None, forward: str | None, port: int) -> dict[str, list[str]]:
    commands = {"ingest": ["ingest", "--port", str(port)], "catalog": ["catalog"]}
    if app:
        commands["worker"] = ["consume", app]
    elif forward and group:
        commands["worker"] = ["consume", "--group", group, "--forward", forward]
    if configured(found):
        commands["reconcile"] = ["reconcile"]
    return commands


def _run(found: settings.Settings, commands: dict[str, list[str]], group: str | None, port: int) -> None:
    from hooktape.tape import topics

    topics.apply(found, [group] if group else [])
    env = {**os.environ, "HOOKTAPE_KAFKA": found.kafka}
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    services: list[Service] = []
    try:
        for name, words in commands.items():
            services.append(Service(name, words, env, found.home / "logs" / f"{name}.log", _echo))
        if port:
            services[0].wait_for(f"http://127.0.0.1:{port}/readyz")
            click.echo(f"ready: POST http://127.0.0.1:{port}/webhooks (try: hooktape send orders/create). Ctrl-C stops.", err=True)
        while not ended.wait(0.5):
            for service in services:
                service.check()
    finally:
        click.echo("stopping", err=True)
        stop_all(services)


def _echo(name: str, line: str) -> None:
    label = click.style(f"{name:>9} │", fg=_COLOURS.get(name)) if sys.stderr.isatty() else f"{name:>9} |"
    click.echo(f"{label} {clean(line)}", err=True)
