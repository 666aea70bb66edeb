"""Every family, looked at by the pure machine through the local shop's Admin API: what is on the tape isn't called missing, and what was
dropped is found, whichever family it's of."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import msgspec
import pytest

from hooktape.ledger.reconcile import Cursor, Pending
from hooktape.local.shop.model import WHOLE, Change
from hooktape.reconciler import api, core, synthetic
from hooktape.reconciler.coverage import Coverage
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import SECOND, Family
from hooktape.reconciler.moves import Action, Count, Fetch, Forget, Input, List, Options, ReadTape, Record, Recorded, Remember, Taped
from hooktape.reconciler.standing import Standing, State
from hooktape.schemas.event import Event

from .conftest import event_of
from .showing import SCOPES, Direct, Showing

FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
WANTED = {topic for family in FAMILIES.values() for topic in family.topics}
OPTIONS = Options(overlap=600, lag=0, grace=0, retention=30 * 86400)
BEGAN = (1_770_000_000 - 1) * SECOND
"""When recording began."""
LOOK_BACK = replace(OPTIONS, reach=30 * 86400)


# Goods that go take their levels and items with them, of which no webhook tells.
MIX = replace(WHOLE, product_delete=0, product_remove_variant=0)


@cache
def shop() -> Showing:
    return Showing(mix=MIX)


class Looking:
    """A pass over one family, its questions answered by the shop and a tape in memory."""

    def __init__(self, showing: Showing, family: Family, tape: Sequence[Event], topics: frozenset[str] | None = None) -> None:
        self.showing, self.family, self.tape, self.topics = showing, family, list(tape), topics
        self.pending: dict[str, Pending] = {}
        self.recorded: list[Event] = []
        self.client = Direct(showing)
        self.options = LOOK_BACK if family.by_difference else OPTIONS
        self.position: int | None = None
        self.read_since: list[int] = []

    async def looked(self) -> State:
        now = self.showing.now + 1
        state, actions = core.begin(Standing(
            "one.myshopify.com", self.family, Cursor(BEGAN, self.position), BEGAN, self.options, now, round(now * SECOND),
            list(self.pending.values()), self.topics))  # fmt: skip
        while actions:
            found = [await self.answer(action, state) for action in actions][-1]
            if found is None:
                return state
            state, actions = core.step(state, found)
        return state

    async def answer(self, action: Action, state: State) -> Input | None:
        match action:
            case Count(query, _):
                return await api.count(self.client, self.family, query)  # type: ignore[arg-type]
            case List(query, after, _):
                return await api.page(self.client, self.family, query, after)  # type: ignore[arg-type]
            case ReadTape(since, wanted):
                self.read_since.append(since)
                coverage = Coverage(self.family, wanted=wanted)
                for one in self.tape:
                    if one.topic in self.family.topics:
                        coverage.fold(one)
                return Taped(coverage)
            case Fetch(gids, _):
                return await api.fetch(self.client, self.family, gids, SCOPES)  # type: ignore[arg-type]
            case Record(items):
                made = [synthetic.build("one.myshopify.com", self.family, item, "2026-04", round(self.showing.now * SECOND),
                                        self.showing.home) for item in items]  # fmt: skip
                self.recorded += made
                self.tape += made
                return Recorded(frozenset(item.row.resource for item in items))
            case Remember(rows, _):
                self.pending |= {row.resource: row for row in rows}
            case Forget(rows):
                for row in rows:
                    self.pending.pop(row.resource)
        return None


def missed(family: Family, dropped: Sequence[Change] = (), topics: frozenset[str] | None = None) -> Looking:
    """A look at the shop whose tape lacks these; a second one finds nothing more."""
    looking = Looking(shop(), family, [event_of(change) for change in shop().changes if change not in dropped], topics)
    state = asyncio.run(looking.looked())
    assert state.complete, state
    found = list(looking.recorded)
    asyncio.run(looking.looked())
    assert looking.recorded == found
    assert looking.pending == {}
    return looking


@FAMILY
def test_nothing_is_missing_when_every_webhook_came(family: Family) -> None:
    assert [(event.topic, event.resource) for event in missed(family).recorded] == []


@FAMILY
def test_the_last_webhook_of_a_resource_is_found_missing(family: Family) -> None:
    live = {one.name: one for one in shop().live(family)}
    said = [change for change in shop().said.values() if change.resource in live and change.topic not in family.unchecked
            and change.state == live[change.resource].updated * SECOND and change.topic in family.topics]  # fmt: skip
    states = {(change.resource, change.state) for change in said[:: max(1, len(said) // 5)]}
    # Several webhooks may tell of one state: any of them would cover it.
    dropped = [change for change in shop().changes if (change.resource, change.state) in states]
    assert dropped
    found = missed(family, dropped).recorded
    assert {event.resource for event in found} == {change.resource for change in dropped}
    assert len({event.webhook_id for event in found}) == len(found)
    for event in found:
        assert event.topic in family.topics


def test_of_two_changes_in_one_second_the_dropped_one_is_found_by_its_digest() -> None:
    family = FAMILIES["products"]
    last = next(change for change in reversed(shop().changes) if change.topic == "products/update"
                and shop().said[change.resource] is change)  # fmt: skip
    looking = Looking(shop(), family, [event_of(change) for change in shop().changes])
    other = msgspec.json.encode({**msgspec.json.decode(last.body), "title": "another"})
    looking.tape = [msgspec.structs.replace(one, payload=other) if one.webhook_id == last.webhook_id else one for one in looking.tape]
    asyncio.run(looking.looked())
    assert [(event.topic, event.resource) for event in looking.recorded] == [("products/update", last.resource)]
    asyncio.run(looking.looked())
    assert len(looking.recorded) == 1


def test_a_step_is_found_missing_although_a_newer_state_is_on_the_tape() -> None:
    family = FAMILIES["orders"]
    steps = [change for change in shop().changes if change.topic in ("orders/create", "orders/cancelled")
             and shop().said[change.resource].topic not in (change.topic, "orders/delete")]  # fmt: skip
    assert {change.topic for change in steps} == set(family.stamps)
    found = missed(family, steps).recorded
    assert sorted((event.topic, event.resource or "") for event in found) == sorted((change.topic, change.resource) for change in steps)
    triggered = {(change.topic, change.resource): event_of(change).version_us for change in steps}
    assert all(event.triggered_us == triggered[event.topic, event.resource or ""] for event in found)


def test_only_topics_that_are_wanted_are_recorded() -> None:
    family, creates = FAMILIES["orders"], frozenset({"orders/create"})
    found = missed(family, shop().changes, creates).recorded
    assert {event.topic for event in found} == creates
    assert {event.resource for event in found} == {one.name for one in shop().live(family)}
    assert missed(family, shop().changes, frozenset({"orders/delete"})).recorded == []


def test_a_state_that_no_webhook_tells_of_is_never_pending() -> None:
    family = FAMILIES["fulfillment_orders"]
    looking = Looking(shop(), family, [])
    state = asyncio.run(looking.looked())
    closed = {node["id"] for node in shop().nodes(family) if family.topics_of(node) == frozenset()}
    assert closed
    assert core.tally(state).untold == len(closed)


CONTRACTS = "subscription_contracts"


def test_a_contract_that_was_cancelled_is_told_as_an_update_where_only_these_are_wanted() -> None:
    family, update = FAMILIES[CONTRACTS], f"{CONTRACTS}/update"
    ended = {node["id"] for node in shop().nodes(family) if node["status"] == "CANCELLED"}
    dropped = [change for change in shop().changes if change.gid in ended and change.topic != f"{CONTRACTS}/create"]
    assert {change.topic for change in dropped} >= {f"{CONTRACTS}/cancel", update}
    for wanted, told in ((frozenset({update}), update), (frozenset(family.topics) - {f"{CONTRACTS}/create"}, f"{CONTRACTS}/cancel")):
        assert {(event.topic, event.resource) for event in missed(family, dropped, wanted).recorded} == {
            (told, change.resource) for change in dropped}  # fmt: skip


def test_edits_of_a_paused_contract_are_no_missed_pauses_where_edits_are_not_wanted() -> None:
    family, pauses = FAMILIES[CONTRACTS], frozenset({f"{CONTRACTS}/pause"})
    unwanted = [change for change in shop().changes if change.topic.startswith(CONTRACTS) and change.topic not in pauses]
    looking = missed(family, unwanted, pauses)
    assert looking.recorded == []


@pytest.mark.parametrize("stamped", [True, False], ids=["with times of their own", "as documented"])
def test_contracts_are_compared_alike_whether_their_bodies_say_when_they_changed_or_not(stamped: bool) -> None:
    family = FAMILIES[CONTRACTS]
    changes = [change for change in shop().changes if change.topic.startswith(CONTRACTS)]
    lost = next(change for change in reversed(changes) if change.topic == f"{CONTRACTS}/update" and shop().said[change.resource] is change)
    tape = []
    for change in changes:
        if stamped:
            # Deliveries of 2022 and 2023 had these, with milliseconds that the API doesn't show.
            at = change.triggered_at[:23] + "Z"
            change = replace(change, body=msgspec.json.encode({**msgspec.json.decode(change.body), "created_at": at, "updated_at": at}))
        if (change.resource, change.state) != (lost.resource, lost.state):
            tape.append(event_of(change))
    assert {event.version_us is not None for event in tape} == {stamped}
    looking = Looking(shop(), family, tape)
    asyncio.run(looking.looked())
    assert {event.resource for event in looking.recorded} == {lost.resource}
    asyncio.run(looking.looked())
    assert {event.resource for event in looking.recorded} == {lost.resource}


def test_only_a_look_back_compares_with_the_whole_tape_and_what_it_finds_is_recorded_by_the_next_pass() -> None:
    family, hour = FAMILIES[CONTRACTS], 3600
    changes = [change for change in shop().changes if change.topic.startswith(CONTRACTS)]
    updates = [change for change in changes if change.topic == f"{CONTRACTS}/update"]
    lost = next(change for change in reversed(updates) if shop().said[change.resource] is change)
    kept = [change for change in changes if (change.resource, change.state) != (lost.resource, lost.state)]
    looking = Looking(shop(), family, [event_of(change) for change in kept])
    # The shop's last few changes; a grace period that's over by the second of two passes.
    near = round(shop().now - 60) * SECOND

    def passes(reach: float | None, grace: float) -> list[int]:
        looking.options, looking.position, looking.read_since = replace(OPTIONS, reach=reach, overlap=0, grace=grace), near, []
        asyncio.run(looking.looked())
        return looking.read_since

    assert all(since > near - 20 * 60 * SECOND for since in passes(None, hour))
    assert looking.pending == {}
    assert min(passes(30 * 86_400, hour)) < BEGAN
    assert looking.pending.keys() == {lost.resource}
    passes(None, hour)
    assert (looking.pending.keys(), looking.recorded) == ({lost.resource}, [])
    assert min(passes(None, 0)) < BEGAN
    assert [event.resource for event in looking.recorded] == [lost.resource]
    assert looking.pending == {}


def test_a_contract_that_was_paid_for_has_missed_nothing_and_of_one_that_the_tape_does_not_know_nothing_is_said() -> None:
    showing, family = Showing(mix=MIX), FAMILIES[CONTRACTS]
    known, unknown = showing.live(family)[:2]
    showing.now += 3600
    for contract in (known, unknown):
        # A payment moves updatedAt, makes no revision, and is told by topics of its own.
        showing.shop.touch(contract, int(showing.now))
    looking = Looking(showing, family, [event_of(change) for change in showing.changes if change.resource != unknown.name],
                      frozenset(family.topics) - {f"{CONTRACTS}/create"})  # fmt: skip
    asyncio.run(looking.looked())
    assert looking.recorded == []
