"""Recorded exactly once: whatever a reconciler is killed at, and however many there are."""

import asyncio
import os
import pickle
import signal
import sys
from pathlib import Path

import pytest

from hooktape import crash
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings
from hooktape.tape.transactions import Writer

from .conftest import deliver, on_tape, pointed_at
from .test_reconciler import begun, changes_of, dropped, opened, passed

pytestmark = [pytest.mark.kafka, pytest.mark.anyio]

# One process, one pass, as the service makes it; which point kills it is in its environment.
_PASS = """
import asyncio, pickle, sys
from pathlib import Path
settings, domain, now, ledger_url = pickle.loads(Path(sys.argv[1]).read_bytes())
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.service import Reconciler

async def main():
    with Ledger.open(ledger_url) as ledger:
        async with Reconciler(settings, ledger, clock=lambda: now, lease_ttl=2.0, families=[FAMILIES["orders"]]) as reconciler:
            for report in await reconciler.pass_(domain):
                assert not report.failed, report.error

asyncio.run(main())
"""


async def killed_at(point: str, what: Path) -> None:
    """A process that makes a pass and dies at `point`."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "HOOKTAPE_TEST_MODE": "1", "HOOKTAPE_CRASH": point}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _PASS, str(what), env=env, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == -signal.SIGKILL, f"{point}: {said.decode()}"


async def test_killed_at_any_step_each_missing_state_is_recorded_once(tape: Settings, ledger: Ledger, tmp_path: Path) -> None:
    clock, what, missing = begun(), tmp_path / "what", set()
    async with opened(clock, seed=13) as shop:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        for point in crash.RECONCILE:
            orders = [change for change in changes_of(shop, clock, 8) if change.resource.startswith("order/")]
            lost = orders[-1].resource
            await deliver(settings, [change for change in orders if change.resource != lost])
            missing.add((lost, max(change.version or 0 for change in orders if change.resource == lost)))
            clock.now += 3  # the lease of the one before ends
            what.write_bytes(pickle.dumps((settings, shop.domain, clock.now, f"sqlite:///{tmp_path / 'ledger.db'}")))
            await killed_at(point, what)
        clock.now += 3

        reports = await passed(settings, ledger, clock, shop.domain)

        assert [report.error for report in reports if report.failed] == []
        told = [event for event in on_tape(settings) if (event.resource or "").startswith("order/")]
        events = sorted((event.resource, event.topic, event.version_us) for event in told)
        assert events == sorted(set(events)), "recorded twice"
        made = {(event.resource, event.version_us) for event in told}
        # A step of a state that was missing is told by the newest state, which may be another by then.
        assert {event.resource for event in told} <= {name for name, _ in missing}
        assert {(event.resource, event.version_us) for event in told if event.topic not in FAMILIES["orders"].stamps} <= missing
        # What a later webhook covered before a pass came so far isn't missing any more.
        held = {event.resource: event.version_us or 0 for event in sorted(
            [*on_tape(settings), *on_tape(settings, "webhook")], key=lambda event: event.version_us or 0)}  # fmt: skip
        assert all(held[name] >= version for name, version in missing)
        assert len(made) > len(crash.RECONCILE) / 2
        assert ledger.reconcile.intents(shop.domain, "orders") == []
        assert ledger.reconcile.pending(shop.domain, "orders") == []


async def test_a_reconciler_that_lost_its_lease_without_knowing_records_nothing_more(tape: Settings, ledger: Ledger) -> None:
    clock = begun()
    async with opened(clock, seed=15) as shop:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        arrived, missing = dropped(changes_of(shop, clock, 80), 0.2, seed=15)
        await deliver(settings, arrived)
        writing, lease = Writer.write, f"reconcile/{shop.domain}/states"

        def held_up(writer: Writer, records: object) -> None:
            """Between its last look at the lease and its write, another takes over and does the whole pass."""
            Writer.write = writing  # type: ignore[method-assign]
            ledger.leases._database.write(lambda t: t.run("UPDATE leases SET expires_at = 0 WHERE name = :name", {"name": lease}))
            asyncio.run_coroutine_threadsafe(passed(settings, ledger, clock, shop.domain), loop).result()
            writing(writer, records)  # type: ignore[arg-type]

        loop = asyncio.get_running_loop()
        async with Reconciler(settings, ledger, clock=clock) as slow:
            Writer.write = held_up  # type: ignore[method-assign, assignment]
            try:
                reports = await slow.pass_(shop.domain)
            finally:
                Writer.write = writing  # type: ignore[method-assign]

        assert {report.reason for report in reports} == {"lease_lost"}
        recorded = [(event.resource, event.topic) for event in on_tape(settings)]
        assert {resource for resource, _ in recorded} == missing
        assert len(set(recorded)) == len(recorded)


async def test_a_pass_that_finds_its_lease_lost_does_nothing_for_any_family(
    tape: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = begun()
    async with opened(clock, seed=16) as shop:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        arrived, missing = dropped(changes_of(shop, clock, 80), 0.2, seed=16)
        assert {name.partition("/")[0] for name in missing} == {"order", "product", "customer"}
        await deliver(settings, arrived)
        asked: list[str] = []

        def lost(name: str, *_: object) -> bool:
            asked.append(name)
            return False

        monkeypatch.setattr(ledger.leases, "renew", lost)
        async with Reconciler(settings, ledger, clock=clock) as slow:
            reports = await slow.pass_(shop.domain)

        assert [report.reason for report in reports] == ["lease_lost"] * 3
        assert len(asked) == 1
        assert on_tape(settings) == []


async def test_a_pass_whose_lease_is_lost_on_its_way_doesnt_fence_who_has_it_now(
    tape: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = begun()
    async with opened(clock, seed=17) as shop:
        settings = pointed_at(tape, shop)
        await passed(settings, ledger, clock, shop.domain)
        arrived, missing = dropped(changes_of(shop, clock, 40), 0.2, seed=17)
        assert missing
        await deliver(settings, arrived)
        fenced: list[str] = []
        monkeypatch.setattr(ledger.leases, "renew", lambda *_: False)
        monkeypatch.setattr(Writer, "open", lambda _, name: fenced.append(name))
        # Renewed at once, and lost.
        async with Reconciler(settings, ledger, clock=clock, lease_ttl=0.0) as slow:
            reports = await slow.pass_(shop.domain)

        assert [report.reason for report in reports] == ["lease_lost"] * 3
        assert fenced == []
