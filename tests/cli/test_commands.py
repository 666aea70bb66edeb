"""The small commands, and how errors end: a sentence on standard error and the exit code of its kind."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from hooktape.cli import common, send, topics
from hooktape.cli.main import COMMANDS, main, root
from hooktape.errors import HooktapeError
from hooktape.schemas.signature import Verifier
from hooktape.tape import topics as tape_topics
from tests.cli.test_demo import environment


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    command = root.get_command(None, name)
    shown = CliRunner().invoke(command, ["--help"]).output
    subcommands = getattr(command, "commands", {})
    pages = [shown, *(CliRunner().invoke(sub, ["--help"]).output for sub in subcommands.values())]
    assert any("hooktape " in page for page in pages)
    for sub, page in zip(subcommands, pages[1:], strict=True):
        assert "Example" in page or "hooktape " in page, sub


def test_the_modules_of_the_commands_are_the_list_of_the_commands():
    from pathlib import Path

    helpers = {"__init__", "main", "asking", "common", "operating", "replay_verify", "reconcile_report", "reconcile_backfill"}
    files = {path.stem for path in Path(common.__file__).parent.glob("*.py")} - helpers
    assert files == {module for module, _ in COMMANDS.values()}


@pytest.mark.parametrize(("words", "code", "said"), [
    (["nonsense"], 2, "No such command"),
    (["send", "order/create"], 2, "is no Shopify topic"),
    (["send", "orders/create", "--count", "2", "--webhook-id", "x"], 2, "names one webhook"),
    (["up", "a:b", "--forward", "http://x"], 2, "not both"),
    (["topics", "list"], 2, "HOOKTAPE_KAFKA isn't set"),
])  # fmt: skip
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(tmp_path, words, code, said):
    env = environment(tmp_path, HOOKTAPE_SHOPIFY_SECRETS="hush")
    done = subprocess.run([sys.executable, "-m", "hooktape", *words], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_kafka_ends_with_1_and_names_the_setting(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tape_topics, "_TIMEOUT", 0.5)
    monkeypatch.setenv("HOOKTAPE_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("HOOKTAPE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["hooktape", "topics", "list"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert "127.0.0.1:1" in said
    assert "Traceback" not in said


def test_topics_apply_is_idempotent_and_list_shows_what_it_made(settings, monkeypatch):
    monkeypatch.setattr(common, "load", lambda: settings)
    first = json.loads(CliRunner().invoke(topics.command, ["apply", "--group", "g", "--json"]).stdout)
    assert f"{settings.topic_prefix}.dlq.g" in first["created"]
    second = json.loads(CliRunner().invoke(topics.command, ["apply", "--group", "g", "--json"]).stdout)
    assert (second["created"], second["configured"]) == ([], {})
    assert len(second["right"]) == len(first["created"])
    listed = json.loads(CliRunner().invoke(topics.command, ["list", "--json"]).stdout)
    assert {row["topic"] for row in listed} == set(first["created"])


def test_what_send_posts_is_signed_as_shopify_signs():
    head = send.headers("orders/create", "a.myshopify.com", b"{}", "hush")
    assert Verifier(["hush"]).verify(b"{}", head["X-Shopify-Hmac-Sha256"].encode())
    assert head["X-Shopify-Triggered-At"].endswith("000Z")


def test_a_send_that_nobody_takes_fails(tmp_path):
    env = environment(tmp_path, HOOKTAPE_SHOPIFY_SECRETS="hush")
    words = ["send", "orders/create", "--url", "http://127.0.0.1:1/webhooks"]
    done = subprocess.run([sys.executable, "-m", "hooktape", *words], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5
    assert "no answer (ConnectError)" in done.stdout


def test_control_characters_from_outside_are_shown_and_not_sent():
    assert common.clean("a\x1b[31mb\n\u202ec") == "a\\x1b[31mb\\x0a\\x202ec"


def test_errors_of_ours_have_exit_codes_of_the_design():
    kinds = HooktapeError.__subclasses__()
    assert kinds
    assert all(kind.exit_code in {1, 2, 3, 4, 5} for kind in kinds)
