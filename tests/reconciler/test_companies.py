"""Companies, their locations and themes: the documented bodies, what is withheld, what a theme's files don't say, and deletions."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import pytest

from hooktape.ledger.reconcile import Cursor, Pending
from hooktape.local.shop.model import Change, Mix
from hooktape.local.shop.store import Resource
from hooktape.reconciler import core, synthetic
from hooktape.reconciler.bodies.absent import ABSENT
from hooktape.reconciler.doctor.facts import needed
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import SECOND, Family
from hooktape.reconciler.moves import Count, Look, Missing, Row
from hooktape.reconciler.protected import hide
from hooktape.reconciler.standing import Standing

from .conftest import event_of
from .showing import Showing
from .test_found import OPTIONS, Looking

COMPANIES, LOCATIONS, THEMES = (FAMILIES[name] for name in ("companies", "company_locations", "themes"))
FAMILY = pytest.mark.parametrize("family", [COMPANIES, LOCATIONS, THEMES], ids=lambda family: family.name)
COMPANY = "name note external_id main_contact_admin_graphql_api_id created_at updated_at customer_since admin_graphql_api_id"
DOCUMENTED = {
    "companies": COMPANY,
    "company_locations": (
        "name external_id phone locale created_at updated_at note buyer_experience_configuration admin_graphql_api_id tax_exemptions "
        "tax_settings company billing_address shipping_address tax_registration"
    ),
    "themes": "id name created_at updated_at role theme_store_id previewable processing admin_graphql_api_id",
}
"""The members of the payloads at shopify.dev/docs/api/webhooks."""
INSIDE = {
    "tax_settings": "tax_registration_id tax_exempt tax_exemptions",
    "company": COMPANY,
    "billing_address": (
        "address1 city province country zip recipient first_name last_name address2 phone zone_code country_code created_at updated_at "
        "admin_graphql_api_id company_admin_graphql_api_id"
    ),
    "tax_registration": "tax_id",
}
"""Those of the objects in a location; both addresses have the same."""
NOTHING_ELSE = dict.fromkeys(Mix.__slots__, 0.0)


def with_acts(changes: int, **acts: float) -> Showing:
    """A shop in which these acts happen, and no others."""
    return Showing(changes, mix=Mix(**NOTHING_ELSE | acts))


@cache
def shop() -> Showing:
    acts = {name: 0.5 if name.endswith("_delete") else 3.0 for name in Mix.__slots__ if name.startswith(("company_", "theme_"))}
    return with_acts(500, **acts)


def bodies(showing: Showing, family: Family) -> list[dict[str, Any]]:
    return [json.loads(msgspec.json.encode(family.body(node, showing.home))) for node in showing.nodes(family)]


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@FAMILY
def test_a_body_has_the_documented_members_but_those_that_are_listed(family: Family) -> None:
    documented = set(DOCUMENTED[family.name].split())
    webhooks = [json.loads(c.body) for c in shop().changes if c.topic in family.topics and c.topic != "themes/delete"]
    assert {frozenset(body) for body in webhooks} == {frozenset(documented)}
    found = bodies(shop(), family)
    assert {frozenset(body) for body in found} == {frozenset(name for name in documented if f"{family.name}.{name}" not in ABSENT)}


def test_what_is_in_a_location_has_the_documented_members_too() -> None:
    found = bodies(shop(), LOCATIONS)
    for name, members in INSIDE.items():
        assert {frozenset(body[name]) for body in found if body[name]} == {frozenset(members.split())}
    assert {body["billing_address"] is None for body in found} == {body["tax_registration"] is None for body in found} == {True, False}


def test_the_company_in_a_location_is_the_company_as_it_is_now() -> None:
    companies = {body["admin_graphql_api_id"]: body for body in bodies(shop(), COMPANIES)}
    found = bodies(shop(), LOCATIONS)
    assert len(found) > 5
    for body in found:
        assert body["company"] == companies[body["company"]["admin_graphql_api_id"]]
        assert body["shipping_address"]["company_admin_graphql_api_id"] == body["company"]["admin_graphql_api_id"]


def test_all_times_of_a_company_are_in_the_shops_zone() -> None:
    for body in bodies(shop(), COMPANIES):
        assert {body[name][-6:] for name in ("created_at", "updated_at", "customer_since")} == {"-05:00"}


@pytest.mark.parametrize(("kinds", "gone"), [
    (("name",), {"recipient", "first_name", "last_name"}), (("phone",), {"phone"}),
    # An address can't be without its first line, so that all of it goes with that.
    (("address",), {"billing_address", "shipping_address"}),
    (("name", "address", "email", "phone"), {"billing_address", "shipping_address", "phone"}),
])  # fmt: skip
def test_what_is_withheld_of_a_location_is_left_out_and_the_rest_is_told(kinds: tuple[str, ...], gone: set[str]) -> None:
    showing = shop()
    whole = bodies(showing, LOCATIONS)
    showing.admin.incidents.start("personal_data_hidden", fields=kinds)
    try:
        assert {row.resource for row in showing.listed(LOCATIONS)} == {one.name for one in showing.live(LOCATIONS)}
        answer = showing.ask(LOCATIONS.bodies.query, ids=[one.gid for one in showing.live(LOCATIONS)])
    finally:
        showing.admin.incidents.stop("personal_data_hidden")
    assert hide(answer["data"], answer["errors"]) is not None
    shown = [json.loads(msgspec.json.encode(LOCATIONS.body(node, showing.home))) for node in answer["data"]["nodes"]]
    assert shown == [without(body, gone) for body in whole]
    assert shown != whole


def without(body: Any, names: set[str]) -> Any:
    """A body without these members. Of an address that isn't there nothing is withheld."""
    if not isinstance(body, dict):
        return body
    return {key: without(value, names) for key, value in body.items() if key not in names or (key == "billing_address" and value is None)}


def test_bodies_that_carry_no_id_are_known_by_their_global_one() -> None:
    assert needed("companies/update") == needed("discounts/update") == ("admin_graphql_api_id", "updated_at")
    assert needed("companies/delete") == ("admin_graphql_api_id",)
    assert needed("inventory_levels/update") == ("inventory_item_id", "location_id", "updated_at")
    assert needed("themes/publish") == needed("themes/delete") == ("id",)
    assert needed("themes/update") == ()


# ── themes ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def looked(showing: Showing, tape: Sequence[Change], family: Family = THEMES) -> tuple[list[tuple[str, str | None]], Looking]:
    """What is recorded of the shop whose tape has these webhooks, in two looks: the second finds nothing more."""
    looking = Looking(showing, family, [event_of(change) for change in tape])
    asyncio.run(looking.looked())
    found = [(event.topic, event.resource) for event in looking.recorded]
    asyncio.run(looking.looked())
    assert len(looking.recorded) == len(found)
    return found, looking


def edited() -> tuple[Showing, Resource, Change]:
    """A shop whose main theme's files were edited long after its webhooks, that theme, and the webhook of its publishing."""
    showing = with_acts(40, theme_create=1, theme_publish=1)
    publishing = next(change for change in reversed(showing.changes) if change.topic == "themes/publish")
    theme = showing.shop.get(publishing.resource)
    assert theme is not None
    assert theme.body["role"] == "main"
    showing.now += 5 * 86_400
    showing.shop.touch(theme, int(showing.now))
    return showing, theme, publishing


def test_a_themes_edited_files_are_no_news() -> None:
    showing, theme, publishing = edited()
    assert theme.updated * SECOND > publishing.state
    assert looked(showing, showing.changes)[0] == []


def test_a_publishing_is_missing_where_the_tape_knows_the_theme_by_another_role() -> None:
    showing, theme, publishing = edited()
    found, looking = looked(showing, [change for change in showing.changes if change is not publishing])
    assert found == [("themes/publish", theme.name)]
    (event,) = looking.recorded
    assert json.loads(event.payload)["role"] == "main"


def test_of_a_theme_that_the_tape_does_not_know_nothing_is_said() -> None:
    showing, theme, _ = edited()
    unknown = [change for change in showing.changes if change.resource != theme.name]
    # Made before recording began: no creation is looked for.
    family = replace(THEMES, stamps={})
    looking = Looking(showing, family, [event_of(change) for change in unknown])
    state = asyncio.run(looking.looked())
    assert (looking.recorded, looking.pending) == ([], {})
    assert (core.tally(state).untold, core.tally(state).covered) == (1, len(showing.live(THEMES)) - 1)
    # What was made since is told once, as it is now.
    assert looked(showing, unknown)[0] == [("themes/create", theme.name)]


# ── counts and deletions ────────────────────────────────────────────────────────────────────────────────────────────
def test_a_count_that_takes_no_filter_counts_all_there_is_and_no_window() -> None:
    assert [family.counts("") for family in (COMPANIES, LOCATIONS, THEMES)] == [True, False, False]
    assert [family.counts("updated_at:>'2026-01-01T00:00:00Z'") for family in (COMPANIES, FAMILIES["orders"])] == [False, True]


async def swept(looking: Looking, asked: list[Count]) -> list[Pending]:
    """What a sweep proposes as deleted."""
    showing, began = looking.showing, 1_770_000_000 * SECOND
    now = showing.now + 1000
    standing = Standing("one.myshopify.com", looking.family, Cursor(began), began, OPTIONS, now, round(now * SECOND), [])
    state, actions = core.begin(standing, Look.SWEEP)
    while actions:
        asked += [action for action in actions if isinstance(action, Count)]
        found = [await looking.answer(action, state) for action in actions][-1]
        if found is None:
            break
        state, actions = core.step(state, found)
    assert state.complete
    return list(looking.pending.values())


@FAMILY
def test_a_sweep_finds_what_went_without_its_webhook(family: Family) -> None:
    assert family.swept
    gone = {change.resource for change in shop().changes if change.topic == family.delete}
    assert len(gone) > 2
    asked: list[Count] = []
    proposed = asyncio.run(swept(Looking(shop(), family, [event_of(c) for c in shop().changes if c.topic != family.delete]), asked))
    assert {entry.resource for entry in proposed} == gone
    assert asked == ([Count("")] * 2 if family is COMPANIES else [])
    assert asyncio.run(swept(Looking(shop(), family, [event_of(c) for c in shop().changes]), [])) == []


@FAMILY
def test_a_deletion_is_told_under_the_name_that_its_webhook_has(family: Family) -> None:
    change = next(change for change in shop().changes if change.topic == family.delete)
    row = Row(change.resource, change.gid, 1, 0)
    item = Missing(row, None, family.delete, Pending("s", family.name, change.resource, 1, "delete", family.delete, 0, {}), 1)
    event = synthetic.build("one.myshopify.com", family, item, "2026-04", 1)
    body, theirs = json.loads(event.payload), json.loads(change.body)
    assert event.resource == event_of(change).resource == change.resource
    assert body.items() <= theirs.items()
    assert family.gid(change.resource) == change.gid
