"""`hooktape soak`: real processes, killed and frozen by seed, watched from outside and judged."""

import json
import random
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hooktape import __version__, log, settings
from hooktape.errors import Incomplete

if TYPE_CHECKING:
    from hooktape.local.soak.checker import Verdict

HANDLERS = "hooktape.cli.soak_app.handlers:app"
_LEDGERS = {"sqlite": ("sqlite",), "postgresql": ("postgresql",), "both": ("sqlite", "postgresql")}
# As many violations as fit a screen; the report has more.
_SHOWN = 20


class Unclean(Incomplete):
    """A rule was broken, or a fault never hit. Do: judge the kept history again; a broken rule is a bug in Hooktape."""

    exit_code = 1


@click.command()
@click.option("--rounds", default=50, show_default=True, type=click.IntRange(1), help="Faults and quiet spells, in blocks of up to 50.")
@click.option("--seed", type=int, help="Fixes workload, faults and crash points. Default: a new one, which is printed.")
@click.option("--replay", "events", type=click.IntRange(100), help="No rounds: fill the tape with so many events and replay them all.")
@click.option("--faults", "number", default=50, show_default=True, type=click.IntRange(1), help="With --replay: faults that hit it.")
@click.option("--reconcile", is_flag=True, help="Rounds with reconcilers, which look for what a local shop's webhooks have lost.")
@click.option("--ledger", type=click.Choice(list(_LEDGERS)), help="Where the ledger is. Default: both; postgresql with --replay.")
@click.option("--fault", "names", multiple=True, metavar="KIND", help="Only these: worker-kill, broker, worker-crash:checked … Repeatable.")
@click.option("--json", "report_to", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to this file.")
@click.option("--judge", "kept", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Judge a kept history; run nothing.")
@click.option("--keep", is_flag=True, help="Keep the histories of clean blocks, too.")
def command(rounds: int, seed: int | None, events: int | None, number: int, reconcile: bool, ledger: str | None,
            names: tuple[str, ...], report_to: Path | None, kept: Path | None, keep: bool) -> None:  # fmt: skip
    """Kill, freeze and restart everything at random while webhooks come in; then prove that none was lost, doubled or overtaken.

    Runs its own Kafka, PostgreSQL, ingestors and workers on this machine; touches nothing else. The exit code is 1 if a rule was
    broken or a fault never hit. docs/soak.md says what is checked.

    \b
    Example: hooktape soak --rounds 30 --seed 7 --json report.json
             hooktape soak --replay 50000 --faults 50 --seed 7
             hooktape soak --reconcile --rounds 200 --seed 7
             hooktape soak --judge history.jsonl
    """
    try:
        from hooktape.local.soak import faults, run
    except ImportError as error:
        raise click.UsageError(f"the soak needs the local stack: pip install 'hooktape[local]' ({error}).") from None
    log.configure("error")
    if kept is not None:
        _judge(kept)
        return
    if reconcile and events:
        raise click.UsageError("--reconcile makes rounds, and --replay makes none: one of them.")
    ledgers = _LEDGERS[ledger or ("postgresql" if events else "both")]
    cells = faults.chosen(names, ledgers, reconcile)
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    click.echo(f"seed {seed}", err=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it stops its servers and removes its folder, as on Ctrl-C
    kept_at = settings.load().home / "soak"
    order = run.Order(rounds, seed, ledgers, cells, HANDLERS, kept_at, __version__, keep, events or 0, number, reconcile)
    # Not under the user's home: PostgreSQL, as root, runs as a user of its own that must be able to get there.
    home = Path(tempfile.mkdtemp(prefix="hooktape-soak-"))
    report = None
    try:
        report = run.run(order, home, lambda text: click.echo(f"  {text}", err=True))
    finally:
        if report is None or not report.clean:
            _keep_logs(home, order.kept / f"{seed}-logs")
        shutil.rmtree(home, ignore_errors=True)
    found = report.as_json()
    if report_to is not None:
        report_to.write_text(json.dumps(found, indent=2) + "\n")
    _tell(found)
    if not report.clean:
        raise Unclean("the soak wasn't clean: see above.")


def _keep_logs(home: Path, folder: Path) -> None:
    """What the processes said, beside the history that broke a rule."""
    for path in home.rglob("*.log"):
        there = folder / path.relative_to(home)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, there)
    click.echo(f"  the processes' logs: {folder}", err=True)


def _tell(found: dict[str, object]) -> None:
    counts, faults = found["counts"], found["faults"]
    assert isinstance(counts, dict)
    assert isinstance(faults, dict)
    done = f"{found['rounds'] or 'no'} rounds in {found['seconds']} s, seed {found['seed']}"
    click.echo(f"{done}: {sum(faults.values())} faults of {len(faults)} kinds")
    for name in ("acknowledged", "recovered", "effects", "retried", "dead", "superseded", "replays", "replayed",
                 "replayed_succeeded", "replayed_failed_again", "replayed_skipped", "replayed_open", "not_replayed", "changes", "dropped",
                 "synthetic", "missed", "false", "recorded_twice", "late_after", "lost",
                 "transactional_twice", "unexcused_repeats", "excused_repeats", "out_of_order", "overlap", "violations"):  # fmt: skip
        click.echo(f"  {name.replace('_', ' '):<22} {counts.get(name, 0):>8,}")
    violations, histories, missing, skipped = found["violations"], found["histories"], found["never_hit"], found["skipped"]
    assert isinstance(skipped, dict)
    assert isinstance(violations, list)
    assert isinstance(histories, list)
    assert isinstance(missing, list)
    for line in violations[:_SHOWN]:
        click.echo(f"  {line}")
    if missing:
        click.echo(f"  never hit, so nothing is proven about them: {', '.join(missing)}")
    for name, why in skipped.items():
        click.echo(f"  skipped {name}: {why}")
    for path in histories:
        click.echo(f"  judge it again: hooktape soak --judge {path}")


def _judge(path: Path) -> None:
    from hooktape.local.soak.checker import judge
    from hooktape.local.soak.history import History

    verdict: Verdict = judge(History.read(path))
    for name, figure in verdict.counts.items():
        click.echo(f"  {name.replace('_', ' '):<26} {figure:>8,}")
    for violation in verdict.violations:
        click.echo(f"  {violation}")
    if not verdict.clean:
        raise Unclean(f"{len(verdict.violations)} violations in {path}.")
