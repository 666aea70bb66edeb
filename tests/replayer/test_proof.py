"""Replayed against recovered: the comparison, and the command against a local shop's real HTTP."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hooktape.ledger.catalogue import Entry
from hooktape.ledger.checks import State
from hooktape.ledger.handled import Last
from hooktape.ledger.items import RUN, Row, Total
from hooktape.ledger.jobs import Job, Kind
from hooktape.ledger.keys import EventKey, new_id
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.local.shop.cost import Plan
from hooktape.local.shop.model import Change
from hooktape.local.shop.server import LocalShop
from hooktape.replayer.proof import Answer, Verdict, compare, prove
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape.names import Names
from tests.reconciler.conftest import event_of
from tests.replayer.kit import GROUP, cli, record, settle

RETURN = "return/7"


@pytest.mark.parametrize(
    ("last", "answer", "verdict"),
    [
        (Last(5, False), 5, Verdict.AGREES),
        (Last(5, True), None, Verdict.AGREES),
        (Last(5, False), 6, Verdict.DIFFERS),
        (Last(5, False), 4, Verdict.DIFFERS),
        (Last(5, True), 5, Verdict.DIFFERS),
        (None, 5, Verdict.DIFFERS),
        (Last(5, False), None, Verdict.GONE),
        (None, None, Verdict.GONE),
        (Last(None, False), 5, Verdict.NOT_CHECKABLE),
        (Last(5, False), "no token", Verdict.NOT_CHECKABLE),
        (None, "no token", Verdict.NOT_CHECKABLE),
    ],
)
def test_a_resource_stands_as_what_was_handled_last_and_what_there_is_say(last: Last | None, answer: Answer, verdict: Verdict) -> None:
    assert compare("shop", "order/1", last, answer).verdict is verdict


@given(st.none() | st.builds(Last, st.none() | st.integers(0, 3), st.booleans()), st.none() | st.integers(0, 3) | st.just("why"))
def test_nothing_agrees_unless_it_is_the_same_and_whatever_doesnt_says_why(last: Last | None, answer: Answer) -> None:
    found = compare("shop", "order/1", last, answer)
    same = last is not None and ((answer is None and last.deleted) or (not last.deleted and answer == last.version is not None))
    assert (found.verdict is Verdict.AGREES) == same
    assert bool(found.why) != same


def job_of(ledger: Ledger, events: list[Event]) -> Job:
    """A job whose items are these events."""
    now = time.time()
    job = Job(new_id(now), GROUP, Kind.REPLAY, Selection(topics=("orders/*",)), "r", "me", now)
    made = ledger.jobs.create(job)
    rows: list[Row] = [(made.number, seq, *e.key, "t", 0, seq, len(e.payload), 0, 0, RUN) for seq, e in enumerate(events, 1)]
    ledger.jobs.add_items(made, rows, [Total(RUN, "orders/create", events[0].shop, len(events))])
    return made


def catalogued(ledger: Ledger, events: list[Event]) -> None:
    """As if the events had been read from the tape."""
    ledger.catalogue.record([Entry(EventKey(*e.key), e.shop, e.topic, e.webhook_id, e.resource, e.resource, None, None, e.received_us,
                                   "webhook", "t", 0, n, 2) for n, e in enumerate(events)], {}, {})  # fmt: skip


def test_every_resource_of_a_job_is_asked_about_once_however_many_there_are(ledger: Ledger) -> None:
    events = [Event(webhook_id=f"{n}-{i}", shop=f"s{n % 3}.myshopify.com", topic="orders/create", payload=b"{}", received_us=1,
                    resource=f"order/{n}" if n else None) for n in range(800) for i in range(2)]  # fmt: skip
    catalogued(ledger, events)
    asked: list[tuple[str, str]] = []

    async def present(shop: str, resources: Any) -> dict[str, Answer]:
        assert 0 < len(resources) <= 250
        asked.extend((shop, resource) for resource in resources)
        return dict.fromkeys(resources, 5)

    proof = asyncio.run(prove(ledger, job_of(ledger, events), present, keep=10))
    assert len(asked) == len(set(asked)) == 799
    assert (proof.counts, len(proof.findings)) == ({Verdict.DIFFERS: 799, Verdict.NOT_CHECKABLE: 1}, 10)
    assert not proof.recovered


def changes(shop: LocalShop, topic: str, count: int, now: float) -> list[Change]:
    """The first changes of a topic whose resources have stood as they were left since."""
    found: dict[str, Change] = {}
    while len(found) < count:
        now += 0.5
        change = shop.shop.change(now)
        if change.topic == topic:
            found[change.resource] = change
        for resource, known in [*found.items()]:
            live = shop.shop.get(resource)
            if live is None or live.updated * 1_000_000 != event_of(known).version_us:
                del found[resource]
    return list(found.values())


def test_verify_tells_what_agrees_differs_is_gone_and_cannot_be_asked(
    tape: Settings, ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with LocalShop(plan=Plan("wide", bucket=1_000_000.0, restore=1_000_000.0)) as shop:
            monkeypatch.setenv("HOOKTAPE_SHOP_TOKENS", f"{shop.domain}={shop.token}")
            monkeypatch.setenv("HOOKTAPE_ADMIN_URL", shop.admin_url)
            made = changes(shop, "orders/create", 6, time.time() - 10_000)
            events = [event_of(change) for change in made]
            returned = replace(made[0], webhook_id="r")
            of_return = structs.replace(event_of(returned), webhook_id="return", topic="returns/update", resource=RETURN)
            elsewhere = structs.replace(events[0], webhook_id="other", shop="other.myshopify.com")
            every = [*events, of_return, elsewhere]
            record(tape, every, Names(tape.topic_prefix).log("orders.create"))
            job = job_of(ledger, every)

            # One of the orders has changed since, one is gone, one was never handled; the others stand as they were handled.
            settle(ledger, [*events[:-1], of_return, elsewhere], State.SUCCEEDED)
            changed, gone = shop.shop.get(made[0].resource), shop.shop.get(made[1].resource)
            assert changed is not None
            assert gone is not None
            shop.shop.change(changed.updated + 5_000.0, changed)
            shop.shop.remove(gone, int(changed.updated) + 5_000)

            result = await asyncio.to_thread(cli, tape, url, "replay", "verify", job.id, "--json")
            assert result.exit_code == 5
            said = json.loads(result.stdout)
            counts = {name: said[name] for name in ("agrees", "differs", "gone", "not_checkable", "recovered")}
            assert counts == {"agrees": 3, "differs": 2, "gone": 1, "not_checkable": 2, "recovered": False}
            by_resource = {(row["shop"], row["resource"]): row for row in said["resources"]}
            assert by_resource[shop.domain, made[0].resource]["why"] == "Shopify has a newer version"
            assert by_resource[shop.domain, made[1].resource]["verdict"] == "gone"
            assert by_resource[shop.domain, made[5].resource]["why"] == "the group has handled no event of it with success"
            assert "isn't asked for a return" in by_resource[shop.domain, RETURN]["why"]
            assert "has no token for other" in by_resource["other.myshopify.com", made[0].resource]["why"]
            shown = await asyncio.to_thread(cli, tape, url, "replay", "verify", job.id)
            assert shown.stdout.startswith("3 agree with Shopify · 2 differ · 1 gone · 2 not checkable\n")

            whole = job_of(ledger, events[2:5])
            result = await asyncio.to_thread(cli, tape, url, "replay", "verify", whole.id)
            assert (result.exit_code, result.stdout) == (0, "3 agree with Shopify · 0 differ · 0 gone · 0 not checkable\n")

            # A shop that refuses proves nothing, and its token isn't shown.
            monkeypatch.setenv("HOOKTAPE_SHOP_TOKENS", f"{shop.domain}=revoked")
            result = await asyncio.to_thread(cli, tape, url, "replay", "verify", whole.id, "--json")
            assert (result.exit_code, json.loads(result.stdout)["not_checkable"]) == (5, 3)
            assert "the token isn't accepted" in result.stdout
            assert "revoked" not in result.stdout

    asyncio.run(scene())
