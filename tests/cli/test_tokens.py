"""`hooktape tokens` and `hooktape console`, as far as they need no server."""

import json
from pathlib import Path

from click.testing import CliRunner

from hooktape.cli.main import root
from hooktape.ledger.ledger import Ledger


def _run(tmp_path: Path, *words: str) -> str:
    result = CliRunner().invoke(root, list(words), env={"HOOKTAPE_DATABASE_URL": f"sqlite:///{tmp_path / 'l.db'}"}, standalone_mode=False,
                                catch_exceptions=False)  # fmt: skip
    return result.stdout


def test_a_token_is_shown_once_listed_without_its_secret_and_revoked(tmp_path: Path):
    secret = _run(tmp_path, "tokens", "create", "--name", "ana", "--role", "operate").strip()
    with Ledger.open(f"sqlite:///{tmp_path / 'l.db'}") as ledger:
        found = ledger.tokens.find(secret, 1)
    assert found
    assert (found.name, str(found.role)) == ("ana", "operate")
    listed = _run(tmp_path, "tokens", "list", "--json")
    assert secret not in listed
    assert [row["revoked"] for row in json.loads(listed)] == [None]
    _run(tmp_path, "tokens", "revoke", "ana")
    assert json.loads(_run(tmp_path, "tokens", "list", "--json"))[0]["revoked"]


def test_the_description_is_printed_without_a_broker_and_always_the_same(tmp_path: Path):
    first, second = (_run(tmp_path, "console", "--openapi") for _ in range(2))
    assert first == second
    found = json.loads(first)
    assert found["openapi"].startswith("3.1")
    for path, operations in found["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["x-required-role"] in ("read", "operate")
            assert {"401", "403", "422", "503"} <= set(operation["responses"])
            assert all(p.get("description") for p in operation.get("parameters", ())), path
