"""Days of a shop with every fault, in seconds: the reconciler's decisions, queries and schedule against the local shop's Admin API.

The world is the benchmark's (benchmarks/reconcile_world.py); a failing test names its seed, and HOOKTAPE_SIM_SEED=that repeats it first.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import Action, Input, ReadTape, Record
from hooktape.reconciler.schedule import Pass
from hooktape.reconciler.standing import State

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from reconcile_systems import GIVEN_UP, Hooktape, lived
from reconcile_world import BEGAN, CALM, HOUR, MINUTE, Telling, Verdicts, Weather, World

FIRST = int(os.environ.get("HOOKTAPE_SIM_SEED", "1"))
SEEDS = pytest.mark.parametrize("seed", range(FIRST, FIRST + 2))
# Sparser than the defaults, so that a day takes a second; what is found when doesn't depend on it.
EVERY = {Pass.FAST: 20 * MINUTE, Pass.LOOKBACK: 6 * HOUR, Pass.SWEEP: 6 * HOUR}
HARD = Weather(drop=0.1, double=0.05, late=0.3)
HOURS, RATE, QUIET = 2.0, 60.0, 18.0


def passed(seed: int, weather: Weather = HARD, **options: Any) -> tuple[World, Hooktape, Verdicts]:
    """Some hours of changes, and as many of quiet as all passes need."""
    world = World(seed, weather, HOURS, RATE)
    world.admin.incidents.start("whole_days")
    system = Hooktape(world, every=EVERY, **options)
    asyncio.run(lived(system, BEGAN + (HOURS + QUIET) * HOUR))
    return world, system, world.judge(system.tellings)


@SEEDS
def test_whatever_is_late_dropped_or_hidden_nothing_is_missed_and_nothing_false_once_shopify_has_given_up(seed: int) -> None:
    _, system, found = passed(seed, grace=GIVEN_UP)
    assert found.to_find, f"seed {seed}: nothing was dropped"
    assert (found.missed, found.false, found.doubled) == (set(), [], []), f"seed {seed}"
    assert system.pending == {}, f"seed {seed}"


@SEEDS
def test_after_half_an_hour_only_what_comes_later_still_has_a_twin_and_one(seed: int) -> None:
    world, system, found = passed(seed)
    assert (found.missed, found.doubled, system.pending) == (set(), [], {}), f"seed {seed}"
    assert found.false, f"seed {seed}: nothing came that late"
    for telling in found.false:
        twins = [w for w in world.truth if w.change.resource == telling.resource
                 and (w.change.topic == telling.topic if telling.topic else w.change.version == telling.version)]  # fmt: skip
        assert min(moment for one in twins for moment in one.came) > telling.at, f"seed {seed}: {telling} had come"
        assert telling.at - min(one.at for one in twins) > 30 * MINUTE, f"seed {seed}: {telling} was told too early"


def test_a_thousand_kills_between_any_two_steps_lose_nothing_and_tell_nothing_twice() -> None:
    kills = 0
    for seed in range(FIRST, FIRST + 40):
        _, system, found = passed(seed, grace=GIVEN_UP, kills=0.2, mortal=(HOURS + 3) * HOUR)
        assert (found.missed, found.false, found.doubled, system.pending) == (set(), [], [], {}), f"seed {seed}"
        kills += system.killed
        if kills >= 1000:
            return
    pytest.fail(f"only {kills} kills")


class Watched(Hooktape):
    """Has a webhook come just before the `at`-th thing that it does."""

    def __init__(self, world: World, at: int) -> None:
        super().__init__(world, grace=0.0, every={Pass.FAST: MINUTE})
        self.at, self.done = at, list[Action]()

    async def _perform(self, action: Action, state: State, family: Family) -> Input | None:
        if len(self.done) == self.at:
            self.world.arrive(self.world.truth[0])
        self.done.append(action)
        return await super()._perform(action, state, family)


def one_lost(at: int) -> Watched:
    """A pass over a shop with one change, of which nothing comes but at that moment."""
    world = World(FIRST, replace(CALM, drop=1.0), 0.0, RATE)
    world.advance(world.now + MINUTE)
    world.send(world.shop.change(world.now))
    world.advance(world.now + 5 * MINUTE)
    system = Watched(world, at)
    system.began -= round(10 * MINUTE) * 1_000_000
    asyncio.run(system.run())
    return system


def moments() -> Iterator[int]:
    """Before each thing that a pass does, and after the last."""
    return iter(range(len(one_lost(-1).done) + 1))


def test_a_webhook_that_comes_in_the_middle_of_a_pass_is_seen_until_the_tape_is_read_for_the_last_time() -> None:
    # Neither before the list nor between list and tape, tape and confirmation, confirmation and tape may it be told of as missed.
    alone = one_lost(-1)
    record = next(place for place, action in enumerate(alone.done) if isinstance(action, Record))
    read = max(place for place, action in enumerate(alone.done[:record]) if isinstance(action, ReadTape))
    assert len([action for action in alone.done[:record] if isinstance(action, ReadTape)]) == 2
    for at in moments():
        told: list[Telling] = one_lost(at).tellings
        assert len(told) == (at > read), f"it came before step {at}"
