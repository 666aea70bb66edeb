"""The reconcilers' benchmark: its judge, and that the ways which it compares are given their due."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """Scripts import their neighbours by bare names. At the path's end: some have the names of folders of the project."""
    sys.path.append(BENCHMARKS)
    yield
    sys.path.remove(BENCHMARKS)


@pytest.fixture
def world() -> ModuleType:
    return import_module("reconcile_world")


@pytest.fixture
def systems() -> ModuleType:
    return import_module("reconcile_systems")


def test_the_judge_names_what_was_missed_told_falsely_and_told_twice(world: ModuleType) -> None:
    here = world.World(1, world.CALM, 1.0, 60.0)
    here.admin.incidents.start("webhook_drop", share=0.3)
    here.advance(here.quiet_from)
    here.advance(here.quiet_from + 60)
    last = {webhook.change.resource: webhook for webhook in here.truth}
    lost = [one for one in last.values() if not one.came and not one.change.deleted]
    came = next(one for one in last.values() if one.came and not one.change.deleted)
    told = [world.Telling(here.now, one.change.resource, one.change.version) for one in [*lost[1:], lost[1], came]]
    invented = world.Telling(here.now, "order/1", 5)
    found = here.judge([*told, invented])
    assert {one.change.resource for one in lost} <= found.to_find
    assert lost[0].change.resource in found.missed
    assert not found.missed & {one.change.resource for one in lost[1:]}
    assert found.false == [told[-1], invented]
    assert found.doubled == [told[-2]]
    assert len(found.delays) == len(lost[1:]) + 1


@pytest.mark.parametrize("name", ["poll updated_at > last", "scan, every 15 min", "window, daily"])
def test_when_nothing_but_webhooks_goes_wrong_each_way_finds_all_but_deletions(world: ModuleType, systems: ModuleType, name: str) -> None:
    here = world.World(2, replace(world.CALM, drop=0.1, prompt=0.2), 3.0, 60.0)
    system = systems.SYSTEMS[name](here)
    asyncio.run(systems.lived(system, world.BEGAN + 25 * world.HOUR))
    found = here.judge(system.tellings)
    deleted = {webhook.change.resource for webhook in here.truth if webhook.change.deleted}
    assert len(found.to_find - deleted) > 5
    assert found.missed <= deleted
    assert (found.false, found.doubled) == ([], [])
