"""`hooktape catalog`: keeps the catalogue of the tape, and exports the figures of lag and depth."""

import signal
import threading
import time

import click

from hooktape import log, metrics
from hooktape.cli import common
from hooktape.cli.operating import Progress, opened
from hooktape.errors import LedgerError, TapeError
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import adopting, figures, reset
from hooktape.replayer.catalogue import Cataloguer
from hooktape.settings import Settings

_log = log.get("hooktape.catalog")
# Prometheus scrapes every 15 s as a rule: figures a third as old are as good as new.
_EXPORT_SECONDS = 5.0
# Retention works by the hour at best.
_PRUNE_SECONDS = 600.0


@click.command()
@click.option("--once", is_flag=True, help="Catch up with the tape as it is now, say how far, and end.")
@click.option("--rebuild", is_flag=True, help="Forget the catalogue and read the tape from its beginning; outcomes stay. Then end.")
@click.option("--metrics-port", type=int, help="Answer /metrics on this port; 0 picks a free one.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Where to listen for scrapes.")
@common.json_option
def command(once: bool, rebuild: bool, metrics_port: int | None, metrics_host: str, as_json: bool) -> None:
    """Keep the ledger's catalogue of the tape, and export pending, failed and dead-letter figures.

    Example: hooktape catalog --metrics-port 9464
    """
    with opened() as (settings, ledger), Cataloguer(settings, ledger) as cataloguer:
        if once or rebuild:
            _once(settings, ledger, cataloguer, rebuild, as_json)
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if metrics_port is not None:
            _log.info("metrics", port=metrics.serve(metrics_port, metrics_host))
        worker = threading.Thread(target=_figures, args=(settings, ledger, cataloguer, stop), name="hooktape-figures")
        worker.start()
        # Somebody who is always there: a replay whose runner was killed goes on without an operator.
        adopter = threading.Thread(target=adopting.adopt, args=(settings, stop), name="hooktape-adopt")
        adopter.start()
        _log.info("keeping the catalogue", ledger=ledger.dialect)
        try:
            cataloguer.follow(stop)
        finally:
            stop.set()
            worker.join()
            adopter.join()
        _log.info("stopped", foreign_records=cataloguer.foreign)


def _once(settings: Settings, ledger: Ledger, cataloguer: Cataloguer, rebuild: bool, as_json: bool) -> None:
    with Progress() as progress:
        read = cataloguer.rebuild if rebuild else cataloguer.catch_up
        ends = read(progress=lambda done, of: progress.show("reading the tape", done, of))
    cataloguer.letters.catch_up()
    cataloguer.prune(time.time())
    reset.forget_passed(settings, ledger, time.time())
    found = figures.figures(settings, ledger, time.time())
    if as_json:
        common.print_json({"partitions": len(ends), "foreign": cataloguer.foreign, "lag": found.catalogue_lag})
    else:
        click.echo(f"the catalogue is at the end of {len(ends)} partitions; {cataloguer.foreign} records weren't events")


def _figures(settings: Settings, ledger: Ledger, cataloguer: Cataloguer, stop: threading.Event) -> None:
    prune_at = time.monotonic()
    replays: figures.Replays | None = None
    while not stop.is_set():
        try:
            replays = replays or figures.Replays(ledger)
            figures.export(figures.figures(settings, ledger, time.time()))
            replays.export()
            if time.monotonic() >= prune_at:
                cataloguer.prune(time.time())
                reset.forget_passed(settings, ledger, time.time())
                prune_at = time.monotonic() + _PRUNE_SECONDS
        except (TapeError, LedgerError) as error:
            figures.forget()
            _log.warning("the figures couldn't be had", error=str(error))
        stop.wait(_EXPORT_SECONDS)
