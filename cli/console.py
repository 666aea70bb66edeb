"""`hooktape console`: the HTTP API."""

import asyncio
import json
import signal

import click

from hooktape.cli import common


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; any but loopback needs a token.")
@click.option("--port", default=8010, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one.")
@click.option("--openapi", is_flag=True, help="Print the API's description (OpenAPI 3.1) and end.")
def command(host: str, port: int, openapi: bool) -> None:
    """Serve the HTTP API under /api/v1, and run the jobs that no other process runs.

    On 127.0.0.1, the default, whoever sits at this machine needs no token. Elsewhere everybody does: `hooktape tokens create`.

    \b
    Example:
      hooktape console
      curl -s http://127.0.0.1:8010/api/v1/groups
    """
    # Only here: `--help` needn't load a server.
    import uvloop

    from hooktape.reconciler.access.access import configured
    from hooktape.reconciler.present import Shops
    from hooktape.replayer.api import server
    from hooktape.replayer.api.app import create_app
    from hooktape.settings import Settings

    if openapi:
        click.echo(json.dumps(create_app(Settings(), local=True).openapi(), indent=2, sort_keys=True, ensure_ascii=False))
        return

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        settings = common.load()
        await server.serve(settings, host, port, shops=(lambda: Shops(settings)) if configured(settings) else None, stop=stop)

    uvloop.run(main())
