"""`hooktape ingest`."""

import click

from hooktape.cli import common


@click.command("ingest")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64),
              help="Processes that share the port and /metrics; one takes a core.")  # fmt: skip
def command(host: str, port: int, workers: int) -> None:
    """Receive webhooks: verify, record on Kafka, answer 200 when every in-sync replica has them.

    Needs HOOKTAPE_SHOPIFY_SECRETS (the app's client secrets, newest first, with commas between) and the topics that
    `hooktape topics apply` makes. Point Shopify at https://…/webhooks; TLS is the load balancer's.

    \b
    Example:
      HOOKTAPE_SHOPIFY_SECRETS=… hooktape ingest --host 0.0.0.0 --port 8000 --workers 2
    """
    # Only here: `--help` needn't load a Kafka client.
    from hooktape.ingest import process

    process.run(common.load(), host, port, workers)
