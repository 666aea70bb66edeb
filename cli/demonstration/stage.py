"""What the audience sees: a line for each fact, a bar for each wait, on a terminal or in a file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hooktape.cli.demonstration.judge import Verdict


class Stage:
    """Prints to standard output; `quiet` prints nothing (the verdict is then the caller's, as JSON)."""

    def __init__(self, quiet: bool = False) -> None:
        # Wide enough for its lines where there's no terminal to ask.
        self._console = Console(file=sys.stdout, quiet=quiet, highlight=False, width=None if sys.stdout.isatty() else 120)
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """A plain line."""
        self._console.print(text, markup=False)

    def scene(self, title: str) -> None:
        """What comes next, with the time since the start."""
        self._console.print(f"\n[bold]{title}[/bold]  [dim]{time.monotonic() - self._started:.0f} s[/dim]")

    def fact(self, what: str, detail: str, good: bool | None = True) -> None:
        """A result, with a mark that doesn't need colour; None: neither good nor bad, it's what the plot wants."""
        mark = "[yellow]•[/yellow]" if good is None else "[green]✓[/green]" if good else "[red]✗[/red]"
        self._console.print(f"  {mark} [bold]{what:<22}[/bold] ", end="")
        self._console.print(detail, markup=False)

    def command(self, words: list[str]) -> None:
        """What an operator would type here, and what is run now."""
        quoted = [f"'{word}'" if "*" in word or " " in word else word for word in words]
        self._console.print(f"  [dim]$ hooktape {' '.join(quoted)}[/dim]", soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar on a terminal; elsewhere one line when it's over. Yields what sets how much is done."""
        if not self._console.is_terminal:
            done = 0

            def note(now: int) -> None:
                nonlocal done
                done = now

            yield note
            self.say(f"  {title}: {done:,} of {total:,}")
            return
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(title, total=total)
            yield lambda now: progress.update(task, completed=now)

    def table(self, verdict: Verdict) -> None:
        """The last word."""
        table = Table(title="The shop's own state against the warehouse's", title_justify="left", show_header=False, min_width=64)
        rows = [
            ("changed in the shop", verdict.changed, "orders, products and customers"),
            ("recorded", verdict.recorded, f"of {verdict.acknowledged:,} webhooks answered with 200"),
            ("reconciled", verdict.reconciled, "newest states and creations that no webhook had shown"),
            ("handled", verdict.handled, f"and {verdict.superseded:,} older than what had been applied, or replaced"),
            ("lost", len(verdict.lost) + len(verdict.unrecorded) + len(verdict.missed), ""),
            ("handled twice", len(verdict.doubled), ""),
        ]
        for name, figure, note in rows:
            table.add_row(name, f"{figure:,}", note)
        self._console.print()
        self._console.print(table)
        for title, names in (("lost", verdict.lost), ("acknowledged, not on the tape", verdict.unrecorded),
                             ("handled twice", verdict.doubled), ("dropped and not found by the reconciler", verdict.missed),
                             ("recorded by the reconciler although it had arrived", verdict.invented)):  # fmt: skip
            for name in names[:10]:
                self.say(f"  {title}: {name}")
