"""`hooktape demo`: the main job end to end on this machine."""

import asyncio
import os
import secrets
import shutil
import signal
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from hooktape import log, settings
from hooktape.cli import common
from hooktape.errors import Incomplete

if TYPE_CHECKING:
    from hooktape.cli.demonstration.stage import Stage
    from hooktape.cli.demonstration.story import Scene


@click.command()
@click.option("--changes", default=2000, show_default=True, type=click.IntRange(50), help="Changes that the shop makes.")
@click.option("--rate", default=200.0, show_default=True, type=click.FloatRange(1), help="Changes a second.")
@click.option("--keep", is_flag=True, help="Leave everything running at the end, and say where, until Ctrl-C.")
@common.json_option
def command(changes: int, rate: float, keep: bool, as_json: bool) -> None:
    """The main job, end to end, on this machine: a real Kafka, the real services, a shop with faults.

    A shop changes orders, products and customers. Webhooks are dropped, doubled, late and out of order; the system behind the
    handlers has an outage; a handler has a bug. In the end the shop's own state is compared with what the handlers did: the
    exit code is 1 if anything was lost or handled twice.

    Example: hooktape demo --changes 500
    """
    try:
        from hooktape.cli.demonstration import story
        from hooktape.cli.demonstration.stage import Stage
        from hooktape.local import kafka
    except ImportError as error:
        raise click.UsageError(f"the demo needs the local stack: pip install 'hooktape[local]' ({error}).") from None
    log.configure("warning")
    base = settings.load()
    stage = Stage(quiet=as_json)
    home = base.home / "demo" / f"{os.getpid()}-{secrets.token_hex(2)}"
    home.mkdir(parents=True)
    try:
        stage.say("Hooktape demo: starting a Kafka, an ingestor and a worker of its own")
        with kafka.broker(replace(base, home=home), progress=lambda text: stage.say(f"  {text}")) as broker:
            stage.say(f"  Kafka at {broker.bootstrap}")
            here = replace(base, kafka=broker.bootstrap, home=home, topic_prefix=f"demo-{secrets.token_hex(3)}", partitions=4,
                           retry_delays=(1.0, 3.0), database_url=settings.Secret(""),
                           topics=("orders/*", "products/*", "customers/*"))  # fmt: skip
            verdict = asyncio.run(story.play(stage, here, home, changes, rate, _linger(stage) if keep else None))
            if base.kafka:
                from hooktape.tape import topics

                topics.remove(here)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if as_json:
        common.print_json({**asdict(verdict), "clean": verdict.clean})
    if not verdict.clean:
        raise _Unclean("something was lost, doubled, missed or invented: see above.")


class _Unclean(Incomplete):
    """The demo found a loss or a double. Do: this is a bug in Hooktape; please report it with what was printed."""

    exit_code = 1


def _linger(stage: "Stage") -> Callable[["Scene"], Awaitable[None]]:
    async def wait(scene: "Scene") -> None:
        stage.say("\nEverything is still running. In another terminal:")
        for name in sorted(name for name in scene.env if name.startswith("HOOKTAPE_")):
            stage.say(f"  export {name}='{scene.env[name]}'")
        stage.say(f"  hooktape send orders/create --url {scene.ingest_url}/webhooks\n  hooktape status")
        stage.say("Ctrl-C stops it.")
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()

    return wait
