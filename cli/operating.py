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
from hooktape.errors import NotAllowed, UsageError
from hooktape.ledger.items import Account
from hooktape.ledger.jobs import STANDARD, Job, Limits
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import FIELDS, Selection, read_ids
from hooktape.replayer.control import Ask, confirmation, state_of
from hooktape.settings import Settings
from hooktape.times import format_duration, from_micros, parse_duration

F = TypeVar("F", bound=Callable[..., Any])
# A line of progress where there's no terminal: often enough to see life, seldom enough for a log.
_LINE_SECONDS = 5.0

yes_option = click.option("--yes", is_flag=True, help="Don't ask for a confirmation. Needed where there's no terminal.")
group_option = click.option("--group", required=True, help="The consumer group.")
force_option = click.option("--force", is_flag=True, help="Also what has succeeded already, or is superseded, runs again.")
_OFF = "off"


def limiting(function: F) -> F:
    """Adds the options of a run's limits; `limits` turns them into a `Limits`."""
    standard = STANDARD
    for option in reversed((
        click.option("--rate", default=f"{standard.rate:g}", show_default=True, help="At most so many events a second, or off."),
        click.option("--max-lag", default=format_duration(standard.max_lag or 0), show_default=True,
                     help="Wait while live events wait for longer than this, or off."),
        click.option("--max-failures", default=f"{standard.max_failures or 0:.0%}", show_default=True,
                     help="Pause when more than this share of the last 100 fail again, or off."),
        click.option("--max-outstanding", default=str(standard.outstanding), show_default=True,
                     help="At most so many handed over without an outcome, or off."),
    )):  # fmt: skip
        function = option(function)
    return function


def limits(options: dict[str, Any]) -> Limits:
    """The limits in a command's options, which are taken out of `options`. Raises UsageError."""
    rate, lag, failures, outstanding = (options.pop(name) for name in ("rate", "max_lag", "max_failures", "max_outstanding"))
    try:
        return Limits(
            None if rate == _OFF else float(rate), None if outstanding == _OFF else int(outstanding),
            None if lag == _OFF else parse_duration(lag),
            None if failures == _OFF else float(failures.rstrip("%")) / (100 if failures.endswith("%") else 1),
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(f"A limit is a number or `off`, as in --rate 50 --max-failures 20%: {error}.") from None


def selecting(function: F) -> F:
    """Adds the options of a selection, from its table of fields; `taken` turns them into one."""
    for field in reversed(FIELDS):
        # Statuses aren't a click.Choice: they may stand with commas between, as in the API, and `Selection.parse` names the words.
        kind = click.Choice([str(choice) for choice in field.choices]) if field.choices and not field.repeatable else None
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


def confirm_run(job: Job, to_run: int, yes: bool) -> None:
    """Asks before a job's events are handed over, the more firmly the wider it reaches. Raises NotAllowed."""
    if yes:
        return
    ask = confirmation(job.selection, to_run, forced=job.forced)
    forced = "; what succeeded before RUNS AGAIN" if job.forced else ""
    question = f"Hand {to_run:,} events to group {job.group} again ({common.clean(job.selection.describe())}{forced})?"
    if ask is not Ask.TYPE:
        confirm(question, yes)
    elif not sys.stdin.isatty():
        raise NotAllowed(f"{question} Nobody can be asked here: say --yes.")
    elif click.prompt(f"{question} Type the number to go on", default="", show_default=False, err=True).replace(",", "") != str(to_run):
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
    bounds = job.limits
    return {"id": job.id, "kind": str(job.kind), "group": job.group, "state": state_of(job, time.time()), "selected": job.selected,
            "sent": job.sent, "forced": job.forced, "rate": bounds.rate, "max_lag": bounds.max_lag, "max_failures": bounds.max_failures,
            "max_outstanding": bounds.outstanding, "who": job.who, "reason": job.reason, "created": moment(job.created_at),
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
    sign = "✓" if account.adds_up else "✗ the parts don't add up to it"
    click.echo(f"{account.selected:>10,}  selected  {sign}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def counts(numbers: Mapping[str, int]) -> str:
    """`run 3, done 2`."""
    return ", ".join(f"{_words(name)} {number:,}" for name, number in sorted(numbers.items()))


