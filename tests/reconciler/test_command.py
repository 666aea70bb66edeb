"""`hooktape reconcile` as a user types it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from hooktape.cli.doctor import command as doctor
from hooktape.cli.reconcile import command
from hooktape.errors import HooktapeError
from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.server import LocalShop
from hooktape.settings import Secret, Settings
from tests.ingest.conftest import in_background

from .conftest import Clock, deliver, on_tape
from .test_reconciler import begun, changes_of, opened


def environment(settings: Settings, shop: LocalShop, tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "HOOKTAPE_KAFKA": settings.kafka,
        "HOOKTAPE_TOPIC_PREFIX": settings.topic_prefix, "HOOKTAPE_TOPICS": ",".join(settings.topics),
        "HOOKTAPE_SHOP_TOKENS": f"{shop.domain}={shop.token}", "HOOKTAPE_ADMIN_URL": shop.admin_url,
        "HOOKTAPE_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}", "HOOKTAPE_RECONCILE_LAG": "0s",
        "HOOKTAPE_RECONCILE_INTERVAL": "200ms", **more,
    }  # fmt: skip


async def ran(env: dict[str, str], *arguments: str, command: str = "reconcile") -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "hooktape", command, *arguments, env=env,
                                                   stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another process brings about."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - it's in a database or on Kafka, and sets no event here
            await asyncio.sleep(0.05)


@pytest.mark.kafka
@pytest.mark.anyio
async def test_once_prints_the_report_and_now_records_without_grace(tape: Settings, ledger: Ledger, tmp_path: Path) -> None:
    clock: Clock = begun()
    async with opened(clock, seed=21) as shop:
        env = environment(tape, shop, tmp_path)
        assert (await ran(env, "--once"))[0] == 0
        await deliver(tape, changes_of(shop, clock, 20)[:-1])

        code, out, err = await ran(env, "--once")
        assert (code, on_tape(tape)) == (0, []), err
        assert "1 may still come, 0 were recorded" in out

        code, out, err = await ran(env, "--now", "--json")
        assert code == 0, err
        assert sum(report["tally"]["recorded"] for report in json.loads(out)["reports"]) == 1
        assert len(on_tape(tape)) == 1

        code, _, err = await ran({**env, "HOOKTAPE_SHOP_TOKENS": f"{shop.domain}=revoked"}, "--once")
        assert code == 1
        assert "the token isn't accepted" in err
        assert "revoked" not in err


@pytest.mark.kafka
@pytest.mark.anyio
async def test_the_service_makes_pass_after_pass_over_the_end_of_its_tokens_until_it_is_told_to_stop(tape: Settings, ledger: Ledger,
                                                                                                      tmp_path: Path) -> None:  # fmt: skip
    clock: Clock = begun()
    async with opened(clock, seed=22, secrets=("hush",), client_id="the-app") as shop:
        env = environment(tape, shop, tmp_path, HOOKTAPE_RECONCILE_GRACE="0ms", HOOKTAPE_SHOPIFY_CLIENT_ID="the-app",
                          HOOKTAPE_SHOPIFY_SECRETS="hush", HOOKTAPE_SHOPS=shop.domain)  # fmt: skip
        del env["HOOKTAPE_SHOP_TOKENS"]
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "hooktape", "reconcile", env=env)
        await until(lambda: len(ledger.reports.latest()) >= 3 and shop.domain in ledger.doctor.looked())
        shop.tokens.revoke()
        before, changes = clock.now, changes_of(shop, clock, 20)
        # Their time comes once all but one are on the tape: without a grace period nothing may be late.
        after, clock.now = clock.now, before
        await deliver(tape, changes[:-1])
        clock.now = after
        # Recorded comes first, and then that it isn't pending any more.
        await until(lambda: bool(on_tape(tape)) and not ledger.reconcile.pending())
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert len(on_tape(tape)) == 1
        assert ledger.reconcile.pending() == []
        assert ledger.timetable.parked() == {}
        # One for each time that they ended, however many passes, shops' looks and questions there were.
        assert shop.tokens.granted == 2


@pytest.mark.kafka
@pytest.mark.anyio
async def test_the_doctor_says_what_is_wrong_makes_what_is_missing_and_then_nothing_is(tape: Settings, tmp_path: Path) -> None:
    clock: Clock = begun()
    with in_background(replace(tape, shopify_secrets=(Secret("shpss_test"),))) as ingest:
        address = f"{ingest.url}/webhooks"
        async with opened(clock, seed=23, subscribed=["orders/create"], target=address) as shop:
            env = environment(tape, shop, tmp_path, HOOKTAPE_TOPICS="orders/create,orders/updated", HOOKTAPE_SUBSCRIBED_BY="api",
                              HOOKTAPE_WEBHOOK_URL=address)  # fmt: skip
            code, out, err = await ran(env, "--json", command="doctor")
            assert code == 5, err
            (look,) = json.loads(out)["shops"]
            (only,) = look["findings"]
            assert (only["problem"], only["subject"], only["severity"]) == ("missing", "orders/updated", "error")
            assert len(shop.subscriptions.shown()) == 1

            code, out, err = await ran(env, "--repair", command="doctor")
            assert code == 0, err
            assert {one.topic for one in shop.subscriptions.shown()} == {"orders/create", "orders/updated"}
            assert "1 subscription made" in out

            code, out, err = await ran(env, command="doctor")
            assert (code, "nothing is wrong" in out) == (0, True), err

            code, out, err = await ran({**env, "HOOKTAPE_WEBHOOK_URL": f"{shop.url}/webhooks"}, command="doctor")
            assert "an ingestor answers with 401" in out


@pytest.mark.parametrize(("arguments", "says"), [
    (["--shop", "other.myshopify.com"], "has no token for other.myshopify.com"),
    (["--repair"], "HOOKTAPE_WEBHOOK_URL isn't set"),
])  # fmt: skip
def test_the_doctor_refuses_what_makes_no_sense(arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKTAPE_SHOP_TOKENS", "one.myshopify.com=t")
    monkeypatch.setenv("HOOKTAPE_KAFKA", "127.0.0.1:1")
    result = CliRunner().invoke(doctor, arguments, standalone_mode=False)
    assert says in str(result.exception)
    if "--repair" in arguments:
        monkeypatch.setenv("HOOKTAPE_WEBHOOK_URL", "https://hooks.example/webhooks")
        assert "shopify app deploy" in str(CliRunner().invoke(doctor, arguments, standalone_mode=False).exception)


@pytest.mark.parametrize(("arguments", "says"), [
    (["--topic", "carts/update"], "can't be reconciled"),
    (["--since", "1h", "--until", "2h"], "--since must be before --until"),
    (["--shop", "other.myshopify.com"], "has no token for other.myshopify.com"),
])  # fmt: skip
def test_wrong_arguments_are_refused_with_exit_code_2(arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKTAPE_SHOP_TOKENS", "one.myshopify.com=t")
    monkeypatch.setenv("HOOKTAPE_KAFKA", "127.0.0.1:1")
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert isinstance(result.exception, HooktapeError)
    assert says in str(result.exception)
    assert result.exception.exit_code == 2
