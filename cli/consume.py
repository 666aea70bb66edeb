"""`hooktape consume`: a worker that plays the tape to an app's handlers, or to an HTTP endpoint."""

from dataclasses import replace

import click

from hooktape.cli import common
from hooktape.consumers import serve
from hooktape.consumers.births import Start
from hooktape.consumers.options import Options
from hooktape.errors import UsageError
from hooktape.tape.clients import check_reachable
from hooktape.times import parse_duration


@click.command()
@click.argument("target", metavar="MODULE:APP", required=False, default="")
@click.option("--group", default="", help="The consumer group; default: the app's own. Needed with --forward.")
@click.option("--forward", metavar="URL", default="", help="Deliver to an HTTP endpoint, with Shopify's body and headers.")
@click.option("--topic", "topics", multiple=True, help="With --forward: which topics (orders/*); default: HOOKTAPE_TOPICS. Repeatable.")
@click.option("--concurrency", type=click.IntRange(1), default=16, show_default=True, help="With --forward: requests at once.")
@click.option("--from", "start", default="beginning", show_default=True,
              help="Where a new group begins on the log: beginning, now, or a time (2h, 2026-11-20T03:00Z).")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes. No more than partitions are of use.")
@click.option("--stop-within", metavar="TIME", default="15s", show_default=True, help="On SIGTERM: how long running handlers get.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve /metrics there; worker n on port + n; 0 takes a free one.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="The address to serve /metrics on.")
def command(target: str, group: str, forward: str, topics: tuple[str, ...], concurrency: int, start: str, workers: int,
            stop_within: str, metrics_port: int | None, metrics_host: str) -> None:  # fmt: skip
    """A worker that plays the tape to handlers. It stops cleanly on SIGTERM and Ctrl-C.

    \b
    Example: hooktape consume shop.handlers:app
             hooktape consume --group legacy --forward http://localhost:3000/webhooks
    """
    if bool(target) == bool(forward):
        raise UsageError("Name an app (hooktape consume shop.handlers:app) or an endpoint (--forward URL), one of the two.")
    if forward and not group:
        raise UsageError("--forward needs --group: the name under which progress, retries and dead letters are kept.")
    if topics and not forward:
        raise UsageError("--topic goes with --forward; an app says its topics in @app.on(…).")
    options = replace(Options(), start=Start.parse(start), stop_within=parse_duration(stop_within))
    settings = common.load()
    job = serve.Job(settings, options, target, group, forward, topics, concurrency, metrics_port, metrics_host)
    # Here too with several workers: a mistake in the app is told once, before any process is started.
    app, forwarder = job.app()
    check_reachable(settings)
    if workers == 1:
        serve.run(job, app, forwarder)
    else:
        serve.Supervisor(job, workers).run()
