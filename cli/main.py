"""The command's root: finds sub-commands lazily, turns errors into a sentence and an exit code.

Each sub-command is a file of this folder with a click command named `command`; only the one that runs is imported, so that
`hooktape --help` costs no Kafka client.
"""

import sys
from importlib import import_module

import click

from hooktape import __version__
from hooktape.errors import HooktapeError

# Name → (module, one line for --help). In the order of a newcomer's day.
COMMANDS = {
    "demo": ("demo", "The main job, end to end, on this machine."),
    "up": ("up", "Everything at once, for development."),
    "kafka": ("kafka", "The local Kafka: start, stop, status."),
    "topics": ("topics", "Provision and list the Kafka topics."),
    "ingest": ("ingest", "The HTTP ingestor: verify, record, answer."),
    "consume": ("consume", "A worker that plays the tape to handlers."),
    "catalog": ("catalog", "Keep the ledger's catalogue of the tape, and the figures of lag and depth."),
    "reconcile": ("reconcile", "Compare the Admin API with the tape; record what never came."),
    "doctor": ("doctor", "Look at shops' webhook subscriptions: what is wrong, and how to mend it."),
    "counts": ("counts", "Count on both sides, per topic and day: Shopify, the tape, a group."),
    "send": ("send", "Sign a sample webhook and post it."),
    "events": ("events", "Search the tape; show one event with its history."),
    "replay": ("replay", "Plan a replay, run it, account for it."),
    "reset": ("reset", "Reset a group's offsets; a dry run unless told otherwise."),
    "dlq": ("dlq", "Dead letters: group, list, show, redrive, discard, restore, export."),
    "breaker": ("breaker", "Flood breakers: what is held and why; hold a topic, let it through."),
    "console": ("console", "The HTTP API: everything that operators see and do."),
    "tokens": ("tokens", "Tokens of the HTTP API: create, list, revoke."),
    "status": ("status", "One screen: lag, failures, dead letters, reconciliation."),
    "soak": ("soak", "Kill and freeze everything at random; prove that nothing is lost."),
    "verify-log": ("verify_log", "Verify every signature and every record on the tape again."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"hooktape.cli.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hooktape")
def root() -> None:
    """A tape recorder for Shopify webhooks: recorded on Kafka before Shopify gets its 200, and any part of it replayed.

    Settings come from flags, then HOOKTAPE_* variables, then hooktape.toml.
    """


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 nothing matched, 4 not allowed, 5 incomplete or failed again."""
    try:
        # Not standalone: click would turn every exception of ours into a traceback and every interrupt into exit 1.
        code = root.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except HooktapeError as error:
        print(f"hooktape: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
