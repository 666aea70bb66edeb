"""What the commands of an operator share: selecting events, who is asking, confirming, progress, a job's account."""

import getpass
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from hooktape.cli import common
from hooktape.errors import NotAllowed
from hooktape.ledger.items import Account
from hooktape.ledger.jobs import Job
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import FIELDS, Selection, read_ids
from hooktape.settings import Settings
from hooktape.times import from_micros

F = TypeVar("F", bound=Callable[..., Any])
# A line of progress where there's no terminal: often enough to see life, seldom enough for a log.
_LINE_SECONDS = 5.0

yes_option = click.option("--yes", is_flag=True, help="Don't ask for a confirmation. Needed where there's no terminal.")
group_option = click.option("--group", required=True, help="The consumer group.")
force_option = click.option("--force", is_flag=True, help="Also what has succeeded already, or is superseded, runs again.")
rate_option = click.option("--rate", type=float, help="At most so many events a second.")


def selecting(function: F) -> F:
    """Adds the options of a selection, from its table of fields; `taken` turns them into one."""
    for field in reversed(FIELDS):
        # Statuses aren't a click.Choice: they may stand with commas between, as in the API, and `Selection.parse` names the words.
        kind = click.Choice(list(field.choices)) if field.choices and not field.repeatable else None
        option = click.option(f"--{field.name.replace('_', '-')}", field.name, type=kind, multiple=field.repeatable, help=field.help)
        function = option(function)
        if field.attribute == "ids":
            function = id_file_option(function)
    return function


id_file_option = click.option("--id-file", type=click.File("rb"), help="A file of webhook ids, one a line; - is standard input.")


def taken(options: dict[str, Any]) -> Selection:
    """The selection in a command's options, which are taken out of `options`. Raises UsageError."""
    file = options.pop("id_file", None)
    given = {field.name: options.pop(field.name) for field in FIELDS if field.name in options}
    if file is not None:
        given["id"] = [*given["id"], *read_ids(file, "standard input" if file.name in ("-", "<stdin>") else str(file.name))]
    return Selection.parse(given)


@contextmanager
def opened() -> Iterator[tuple[Settings, Ledger]]:
    """The settings and the ledger, closed afterwards."""
    settings = common.load()
    with Ledger.open(settings.ledger_url) as ledger:
        yield settings, ledger


def who() -> str:
    """Who is asking, for the audit trail: the login and the machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user id without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def confirm(question: str, yes: bool) -> None:
    """Asks on a terminal; raises NotAllowed when the answer is no, or when nobody can be asked and `--yes` isn't given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotAllowed(f"{question} Nobody can be asked here: say --yes.")
    if not click.confirm(question, err=True):
        raise NotAllowed("Nothing was done.")


class Progress:
    """A bar on a terminal, a line every few seconds elsewhere; always on standard error."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            # rich takes longer to import than most commands to run: only where it shows.
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                            console=Console(stderr=True), transient=True)  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, what: str, done: int, of: int | None = None) -> None:
        """How far `what` has come."""
        if self._bar is not None:
            self._bar.update(self._task, description=what, completed=done, total=of)
        elif time.monotonic() - self._said > _LINE_SECONDS:
            self._said = time.monotonic()
            click.echo(f"{what}: {done}{f' of {of}' if of else ''}", err=True)


def job_row(job: Job) -> dict[str, Any]:
    """A job for a table or JSON."""
    return {"id": job.id, "kind": str(job.kind), "group": job.group, "state": str(job.state), "selected": job.selected,
            "forced": job.forced, "rate": job.rate, "who": job.who, "reason": job.reason, "created": moment(job.created_at),
            "started": moment(job.started_at), "ended": moment(job.ended_at), "selection": job.selection.describe(),
            "note": job.note}  # fmt: skip


def moment(seconds: float | None) -> str | None:
    """Epoch seconds, for people."""
    return None if seconds is None else from_micros(int(seconds * 1_000_000)).isoformat(timespec="seconds").replace("+00:00", "Z")


def account_row(account: Account) -> dict[str, Any]:
    """An account for JSON."""
    return {"selected": account.selected, "not_run": dict(account.not_run), "succeeded": account.succeeded,
            "failed_again": account.failed_again, "skipped": dict(account.skipped), "in_flight": account.in_flight,
            "not_sent": account.not_sent, "adds_up": account.adds_up}  # fmt: skip


def print_account(account: Account) -> None:
    """The account as lines that add up to what was selected."""
    lines = [("succeeded", account.succeeded), ("failed again", account.failed_again), ("in flight", account.in_flight),
             ("not handed over", account.not_sent)]  # fmt: skip
    lines += [(f"skipped: {_words(why)}", number) for why, number in sorted(account.skipped.items())]
    lines += [(f"not run: {_words(why)}", number) for why, number in sorted(account.not_run.items())]
    for label, number in lines:
        if number:
            click.echo(f"{number:>10,}  {label}")
    click.echo(f"{account.selected:>10,}  selected{'' if account.adds_up else '  (THE PARTS DO NOT ADD UP TO IT)'}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def counts(numbers: Mapping[str, int]) -> str:
    """`run 3, done 2`."""
    return ", ".join(f"{_words(name)} {number:,}" for name, number in sorted(numbers.items()))


