"""What sub-commands share: settings from flags, output as a table or as JSON, local defaults."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from hooktape import log, settings
from hooktape.times import iso

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


def load(**flags: Any) -> settings.Settings:
    """The process's settings, logging set up accordingly. Without HOOKTAPE_KAFKA, a local Kafka that runs is used."""
    found = settings.load(flags)
    log.configure(found.log_level, found.log_format)
    return found if found.kafka else replace(found, kafka=_running_local_kafka(found))


def _running_local_kafka(found: settings.Settings) -> str:
    try:
        from hooktape.local import kafka
    except ImportError:  # installed without [local]: `Settings.require` will say what to set
        return ""
    running = kafka.status(found.home / "kafka")
    return running.bootstrap if running else ""


def print_json(value: Any) -> None:
    """Data on standard output, nothing else."""
    json.dump(value, sys.stdout, default=str, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str], empty: str) -> None:
    """Rows in aligned columns; `empty` on standard error when there are none. Control characters are shown, never sent."""
    names = list(columns)
    if not rows:
        click.echo(empty, err=True)
        return
    cells = [[clean(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    click.echo("  ".join(name.upper().ljust(width) for name, width in zip(names, widths, strict=True)).rstrip())
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def clean(value: Any) -> str:
    """A value for a terminal: what came from outside can't move the cursor or change colours."""
    if value is None:
        return "-"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))


def when(micros: int | None) -> str:
    """Microseconds since the epoch, for people."""
    return "-" if micros is None else iso(micros)
