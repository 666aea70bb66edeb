"""What breaks in the simulated world, and when: drawn by its `choose`."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from hooktape import crash
from hooktape.ledger.checks import State

from .judge import Told
from .loop import Process

if TYPE_CHECKING:
    from .world import World

KINDS = ("kill", "freeze", "stop", "join", "outage", "silence", "power", "crash", "copies", "replay", "redrive", "retention", "slow")
SESSION = 6.0
_POINTS = tuple(p for p in crash.POINTS if p not in ("body-read", "acked-not-answered", *crash.REPLAY) and not p.startswith("transaction"))


class Faults:
    """Strikes a world until its trouble is over."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def strike(self) -> None:
        sim = self._world.sim
        acts: dict[str, Callable[[], None]] = {
            "kill": lambda: self._some(self._world.kill), "stop": lambda: self._some(self._world.stop), "join": self._join,
            "freeze": self._frozen,
            "outage": self._ledger_out, "silence": self._kafka_silent, "power": self._power_cut, "crash": self._crash_soon,
            "copies": lambda: self._event(self._world.copy), "replay": lambda: self._event(lambda t: self._world.replayed(t, True)),
            "redrive": self._redrive, "retention": self._cut, "slow": self._slow_ledger}  # fmt: skip
        while sim.now < self._world.trouble_until:
            await asyncio.sleep(sim.delay(0.05, 4.0))
            if self._world.kinds and sim.chance(0.8):
                kind = self._world.kinds[sim.choose(len(self._world.kinds))]
                self._world.note("fault", kind)
                self._world.judge.counts[f"fault {kind}"] += 1
                acts[kind]()

    def _some(self, act: Callable[[Process], None]) -> None:
        if living := self._world.living:
            act(living[self._world.sim.choose(len(living))])

    def _event(self, act: Callable[[Told], None]) -> None:
        if self._world.judge.told:
            known = list(self._world.judge.told.values())
            act(known[self._world.sim.choose(len(known))])

    def _join(self) -> None:
        if len(self._world.living) < 4:
            self._world.begin()

    def _frozen(self) -> None:
        awake = [process for process in self._world.living if not process.frozen]
        if awake:
            process = awake[self._world.sim.choose(len(awake))]
            self._world.sim.outside.create_task(self._world.freeze(process, self._world.sim.delay(0.2, 2.5 * SESSION)))

    def _ledger_out(self) -> None:
        if not self._world.outage:
            self._world.outage = True
            began, seconds = self._world.sim.now, self._world.sim.delay(0.1, 6.0)
            self._world.judge.outages.append((began, began + seconds))
            self._world.sim.outside.call_later(seconds, self._ledger_back)

    def _ledger_back(self) -> None:
        self._world.outage = False

    def _kafka_silent(self) -> None:
        if not self._world.silence:
            self._world.silence = True
            self._world.sim.outside.call_later(self._world.sim.delay(0.1, 5.0), self._kafka_back)

    def _kafka_back(self) -> None:
        self._world.silence = False

    def _slow_ledger(self) -> None:
        self._world.slow = not self._world.slow
        if self._world.slow:
            # Like an outage, it can keep a stopping worker from recording its last results.
            self._world.judge.outages.append((self._world.sim.now, self._world.trouble_until + 10.0))

    def _power_cut(self) -> None:
        for process in self._world.living:
            self._world.kill(process)
        self._world.database.cut_power()

    def _crash_soon(self) -> None:
        def die() -> None:
            assert self._world.sim.current is not None
            self._world.kill(self._world.sim.current)

        crash.arm(f"{_POINTS[self._world.sim.choose(len(_POINTS))]}:{1 + self._world.sim.choose(4)}", die)

    def _redrive(self) -> None:
        dead = [told for told in self._world.judge.told.values() if told.last is not None and told.last.state is State.DEAD]
        if dead:
            self._world.replayed(dead[self._world.sim.choose(len(dead))], False)

    def _cut(self) -> None:
        keys = [key for key in self._world.broker.logs if key[0] in self._world.tape]
        key = keys[self._world.sim.choose(len(keys))]
        self._world.broker.cut(key, self._world.broker.logs[key].first + self._world.sim.choose(6))
