"""What the deployment's tests share: the repository's files as Compose reads them, and a check of command lines."""

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from hooktape.cli.main import COMMANDS, root

ROOT = Path(__file__).parents[2]

# The least that somebody has to write into .env.
NEEDED = {"HOOKTAPE_SHOPIFY_SECRETS": "shpss_1", "POSTGRES_PASSWORD": "long", "FORWARD_URL": "http://host.docker.internal:9000/hooks"}

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def _fill_in(node: Any, values: dict[str, str]) -> Any:
    """`node` with its `${NAME}`, `${NAME:-default}` and `${NAME:?message}` replaced, as Compose does it.

    Raises LookupError that names a `?` variable without a value.
    """
    if isinstance(node, dict):
        return {key: _fill_in(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill_in(value, values) for value in node]
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if values.get(name):
            return values[name]
        if kind == "?":
            raise LookupError(f"{name}: {text}")
        return text or ""

    return _VARIABLE.sub(value_of, node)


@pytest.fixture(scope="session")
def needed() -> dict[str, str]:
    return dict(NEEDED)


@pytest.fixture(scope="session")
def fill_in() -> Callable[[Any, dict[str, str]], Any]:
    return _fill_in


@pytest.fixture(scope="session")
def compose_text() -> str:
    return (ROOT / "docker-compose.yml").read_text()


@pytest.fixture(scope="session")
def compose(compose_text: str) -> dict[str, Any]:
    return _fill_in(yaml.safe_load(compose_text), NEEDED)


@pytest.fixture(scope="session")
def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services that run Hooktape itself."""
    return {name: service for name, service in compose["services"].items() if "build" in service}


@pytest.fixture(scope="session")
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="session")
def dashboard() -> dict[str, Any]:
    return json.loads((ROOT / "deploy/grafana/dashboards/hooktape.json").read_text())


@pytest.fixture(scope="session")
def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something: all but the rows' headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def _check(words: list[str]) -> bool:
    """Parses `words` (what follows `hooktape`) without running them; False where that sub-command's file isn't installed.

    Raises click.UsageError as the command itself would.
    """
    name = words[0]
    if name not in COMMANDS:
        raise click.UsageError(f"hooktape has no command {name}")
    if find_spec(f"hooktape.cli.{COMMANDS[name][0]}") is None:
        return False
    context = click.Context(root, info_name="hooktape")
    command, rest = root.get_command(context, name), words[1:]
    assert command is not None
    while isinstance(command, click.Group) and not (command.invoke_without_command and (not rest or rest[0].startswith("-"))):
        group = click.Context(command, info_name=name, parent=context)
        if not rest:
            raise click.UsageError(f"hooktape {' '.join(words)} lacks a sub-command")
        found = command.get_command(group, rest[0])
        if found is None:
            raise click.UsageError(f"hooktape {name} has no command {rest[0]}")
        context, command, name, rest = group, found, rest[0], rest[1:]
    with command.make_context(name, list(rest), parent=context):
        return True


@pytest.fixture(scope="session")
def check() -> Callable[[list[str]], bool]:
    return _check
