"""The operator: plans replays over what is on the tape, runs them, and resumes those whose runner has died. Real commands, real processes.

Its runner is a process like any other here: it's killed, frozen and armed by the rounds. What the operator typed, its exit code and
the totals that were printed are part of the history.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hooktape.errors import LedgerUnavailable
from hooktape.ledger.jobs import ENDED, JobState
from hooktape.ledger.ledger import Ledger
from hooktape.local.processes import Service
from hooktape.local.soak import workload
from hooktape.local.soak.history import Asked, Command
from hooktape.local.soak.services import LOOK_SECONDS, Errands

PATIENCE = "30s"
"""Without any outcome for so long, a run calls what is missing missing. The longest chain of retries is a quarter of it."""
_MEDDLED = 0.4
"""The share of replays that somebody pauses or cancels at another terminal; a quarter of those are cancelled."""
_TRIALS = 0.2
"""The share of replays that begin with a trial of a few events."""
# Between two commands, as fast as a hurried operator.
_BREATH = 0.2


class Operator:
    """Replays again and again until told to stop. `ledger` is asked for nothing but a job's state."""

    def __init__(self, errands: Errands, env: Mapping[str, str], home: Path, ledger: Ledger, seed: str,
                 patience: str = PATIENCE) -> None:  # fmt: skip
        self.commands: list[Command] = []
        self._errands, self._env, self._home, self._ledger = errands, env, home, ledger
        self._dice = random.Random(seed)
        self._ending = ["--json", "--patience", patience]
        self._stopping = False
        self.idle = True
        """Whether every replay that was begun has ended."""
        self._typed = 0

    def stop_soon(self) -> None:
        """The replay under way is the last."""
        self._stopping = True

    async def work(self) -> None:
        """Until told to stop, and until the last replay has ended."""
        while not self._stopping:
            if job := await self.plan(*self._choose()):
                await self.run(job, meddled=self._dice.random() < _MEDDLED)
            await asyncio.sleep(_BREATH)

    async def plan(self, words: Sequence[str], asked: Asked) -> str:
        """The id of a plan; "" where there's nothing to replay, or the planner was killed."""
        told = await self._errand("plan", "", words, asked)
        return told.job if told.code == 0 else ""

    async def run(self, job: str, *, meddled: bool = False) -> None:
        """Runs a plan to its end, however often its runner is killed."""
        self.idle = False
        meddling = asyncio.create_task(self._meddle(job)) if meddled else None
        rescuing = asyncio.create_task(self._rescue(job))
        try:
            while (state := await self.state(job)) not in ENDED:
                if state is JobState.PLANNED:
                    trial = ["--first", "10"] if meddled and self._dice.random() < _TRIALS / _MEDDLED else []
                    await self._errand("run", job, ["replay", "run", job, "--reason", "soak", "--yes", *trial, *self._ending])
                else:
                    await self._errand("resume", job, ["replay", "resume", job, *self._ending])
                await asyncio.sleep(_BREATH)
            self.idle = True
        finally:
            rescuing.cancel()
            for task in filter(None, (meddling, rescuing)):
                await asyncio.gather(task, return_exceptions=True)

    async def state(self, job: str) -> JobState:
        """Where a job stands; waits for a ledger that is away."""
        while True:
            try:
                found = await asyncio.to_thread(self._ledger.jobs.get, job)
            except LedgerUnavailable:
                await asyncio.sleep(_BREATH)
                continue
            assert found is not None
            return found.state

    # ── what is asked for ───────────────────────────────────────────────────────────────────────────────────────────
    def _choose(self) -> tuple[list[str], Asked]:
        """Another selection each time. Of forced ones no more than some seconds' worth: the round goes on meanwhile."""
        now, chance, dice = time.time(), self._dice.random(), self._dice
        rate = ["--rate", str(dice.choice((60, 120, 240)))] if dice.random() < 0.7 else []
        if chance < 0.15:
            return self._redrive(), Asked(dead=True, redrive=True)
        if chance < 0.3:
            return [*_PLAN, "--status", "dead", *rate], Asked(dead=True)
        forced = chance < 0.75
        topics = tuple(dice.sample(workload.TOPICS, dice.randrange(1, 3))) if dice.random() < 0.4 else ()
        # Some end a while ago, some now: what isn't handled yet is replayed, too.
        until = int((now - dice.choice((0, 0, 2, 5))) * 1e6)
        since = until - int(dice.uniform(2, 6 if forced and not topics else 12) * 1e6)
        words = [*_PLAN, "--since", _iso(since), "--until", _iso(until), *rate]
        for topic in topics:
            words += ["--topic", topic]
        return [*words, *(["--force"] if forced else [])], Asked(topics, since, until, forced=forced)

    @staticmethod
    def _redrive() -> list[str]:
        return ["dlq", "redrive", "--group", workload.GROUP, "--status", "dead", "--plan-only", "--json"]

    # ── at other terminals ──────────────────────────────────────────────────────────────────────────────────────────
    async def _meddle(self, job: str) -> None:
        """Somebody else pauses the job, so that its runner lets go of it, or cancels it."""
        await self._until(lambda: self._errands.at_work, 10)
        await asyncio.sleep(self._dice.uniform(0, 1.5))
        if self._dice.random() < 0.25:
            await self._aside("cancel", job, ["replay", "cancel", job, "--yes"])
        else:
            await self._aside("pause", job, ["replay", "pause", job])

    async def _rescue(self, job: str) -> None:
        """Takes a job over whose runner stands still, while it does: two believe to be its runner then."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._errands.frozen_long:
                await self._aside("resume", job, ["replay", "resume", job, *self._ending])

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)

    # ── typing ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _log(self) -> Path:
        self._typed += 1
        return self._home / f"operator-{self._typed}.log"

    async def _errand(self, verb: str, job: str, words: Sequence[str], asked: Asked | None = None) -> Command:
        """By the process that the rounds may kill."""
        log, began = self._log(), time.monotonic()
        service = self._errands.begin(verb, words, log)
        while service.code is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        return await self._note(verb, job, service, began, asked)

    async def _aside(self, verb: str, job: str, words: Sequence[str]) -> None:
        """By a process of its own that nobody touches."""
        began = time.monotonic()
        service = Service(f"operator-{verb}", words, self._env, self._log())
        try:
            while service.code is None:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if service.code is None:
                await asyncio.to_thread(service.stop)
        await self._note(verb, job, service, began, None)

    async def _note(self, verb: str, job: str, service: Service, began: float, asked: Asked | None) -> Command:
        ended = time.monotonic()
        await asyncio.to_thread(service.wait, 1.0)  # what it printed is all there
        printed = printed_by(service.log)
        code = service.code
        command = Command(verb, job or str(printed.get("id", "")), service.pid, began, ended,
                          None if code is not None and code < 0 else code, totals(printed), printed.get("selected"), asked,
                          str(printed.get("state", "")))  # fmt: skip
        self.commands.append(command)
        return command


UNBOUNDED = ("--rate", "off", "--max-lag", "off", "--max-failures", "off")
"""At full rate, and never paused by itself."""
OUTSTANDING = 2000
"""The standard. A tenth of a smaller replay: handing over has to go on for as long as handling, or nobody could be killed in it."""
_PLAN = ("replay", "plan", "--group", workload.GROUP, "--json")


def everything(events: int) -> tuple[list[str], Asked]:
    """A forced replay of all that is on the tape, about so many events."""
    now = int(time.time() * 1e6)
    since = now - 24 * 3600 * 1_000_000
    words = [*_PLAN, "--since", _iso(since), "--until", _iso(now), *UNBOUNDED, "--force",
             "--max-outstanding", str(min(OUTSTANDING, max(1, events // 10)))]  # fmt: skip
    return words, Asked((), since, now, forced=True)


def _iso(micros: int) -> str:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000).isoformat()


def printed_by(log: Path) -> dict[str, Any]:
    """The JSON object among a command's lines (its progress stands between them); {} where it printed none."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    starts = [number for number, line in enumerate(lines) if line == "{"]
    ends = [number for number, line in enumerate(lines) if line == "}"]
    if not starts or not ends:
        return {}
    try:
        found = json.loads("\n".join(lines[starts[0] : ends[-1] + 1]))
    except ValueError:
        return {}  # killed while it printed
    return found if isinstance(found, dict) else {}


def totals(printed: Mapping[str, Any]) -> dict[str, int]:
    """The totals of a plan, by decision, or of a run's account, as a history keeps them."""
    return dict(_totals(printed))


def _totals(printed: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    if account := printed.get("account"):
        for name in ("succeeded", "failed_again", "in_flight", "not_sent"):
            yield name, account[name]
        for part in ("not_run", "skipped"):
            for word, number in account[part].items():
                yield f"{part}:{word}", number
    else:
        yield from printed.get("decisions", {}).items()
