"""`hooktape tokens`: who may use the HTTP API from elsewhere, and for what."""

import time

import click

from hooktape.cli import common
from hooktape.cli.operating import moment, opened, who
from hooktape.ledger.tokens import Role


@click.group()
def command() -> None:
    """Tokens of the HTTP API: create, list, revoke. Each has a name, which the audit trail shows, and a role.

    `read` sees everything but bodies; `operate` sees bodies too, and replays, resets and discards.
    """


@command.command("create")
@click.option("--name", required=True, help="Whose it is: a person or a program.")
@click.option("--role", type=click.Choice([str(role) for role in Role]), default=str(Role.READ), show_default=True)
@common.json_option
def create_command(name: str, role: str, as_json: bool) -> None:
    """Make a token and print it, this once: the ledger keeps its hash alone.

    Example: hooktape tokens create --name ana --role operate
    """
    with opened() as (_, ledger):
        secret = ledger.tokens.create(name, Role(role), who=who(), now=time.time())
    if as_json:
        common.print_json({"name": name, "role": role, "token": secret})
        return
    click.echo(secret)
    click.echo("It isn't shown again. Send it as `Authorization: Bearer TOKEN`.", err=True)


@command.command("list")
@common.json_option
def list_command(as_json: bool) -> None:
    """All tokens, revoked ones too, without their secrets.

    Example: hooktape tokens list
    """
    with opened() as (_, ledger):
        rows = [{"name": t.name, "role": str(t.role), "created": moment(t.created_at), "by": t.created_by, "last_used": moment(t.used_at),
                 "revoked": moment(t.revoked_at)} for t in ledger.tokens.list()]  # fmt: skip
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, ["name", "role", "created", "by", "last_used", "revoked"],
                           "no tokens yet: `hooktape tokens create` makes one")  # fmt: skip


@command.command("revoke")
@click.argument("name")
def revoke_command(name: str) -> None:
    """Nobody gets in with this token from now on.

    Example: hooktape tokens revoke ana
    """
    with opened() as (_, ledger):
        ledger.tokens.revoke(name, who=who(), now=time.time())
    click.echo(f"the token {name} is revoked", err=True)
