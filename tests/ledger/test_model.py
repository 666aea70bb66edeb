"""Random sequences of take-overs, checks and finishes against a model written from the promises, not from the code."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hooktape.ledger.checks import FINISHED, IN_RETRY, Check, Checked, Finish, State, Verdict, Waiting
from hooktape.ledger.ledger import Ledger
from hooktape.schemas.event import Coordinates

from .conftest import DAY, key

GROUP, NAMES, LEASE = "g", ("a", "b"), 10.0
# Where each event lies.
EVENTS = {"x": 0, "y": 0, "z": 1}
OWNERS, PARTS, GENERATIONS = st.sampled_from(NAMES), st.sampled_from([0, 1]), st.sampled_from(["", "j1", "j2"])
ORIGIN = Coordinates("log", 0, 1)


@dataclass
class Known:
    """What the model knows of one event."""

    state: State
    attempts: int
    generation: str
    day: int


@dataclass
class Part:
    """What the model knows of one partition."""

    owner: str = ""
    epoch: int = 0


@dataclass
class Run:
    """An event that a worker has checked and runs."""

    name: str
    day: int
    answer: Checked
    epoch: int


@dataclass
class Worker:
    ledger: Ledger
    alive_until: float = -1.0
    believes: dict[int, int] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name)}/ledger.db"
        self.workers = {name: Worker(Ledger.open(url)) for name in NAMES}
        self.now = 0.0
        self.parts = {0: Part(), 1: Part()}
        self.events: dict[str, Known] = {}
        self.waits: dict[str, float] = {}
        self.days: dict[str, int] = {}
        self.seq = 0

    def teardown(self) -> None:
        for worker in self.workers.values():
            worker.ledger.close()
        self.folder.cleanup()

    def owned(self, name: str) -> dict[int, int]:
        return {number: part.epoch for number, part in self.parts.items() if part.owner == name}

    # ── who owns what ───────────────────────────────────────────────────────────────────────────────────────────────
    @initialize()
    def both_start(self) -> None:
        for name in NAMES:
            self.beat(name)

    @rule(owner=OWNERS)
    def beat(self, owner: str) -> None:
        worker = self.workers[owner]
        assert worker.ledger.ownership.heartbeat(GROUP, owner, self.now, LEASE) == self.owned(owner)
        worker.alive_until = self.now + LEASE

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(owner=OWNERS, numbers=st.lists(PARTS, unique=True, max_size=2))
    def take(self, owner: str, numbers: list[int]) -> None:
        held = {}
        for number in numbers:
            part = self.parts[number]
            if part.owner not in ("", owner) and self.workers[part.owner].alive_until > self.now:
                held[number] = part.owner
            elif part.owner != owner:
                part.owner, part.epoch = owner, part.epoch + 1
        taken = self.workers[owner].ledger.ownership.take(GROUP, owner, numbers, self.now)
        assert taken.held == held
        assert taken.epochs == {n: self.parts[n].epoch for n in numbers if n not in held}
        self.workers[owner].believes |= taken.epochs

    @rule(owner=OWNERS, number=PARTS)
    def give_up(self, owner: str, number: int) -> None:
        self.workers[owner].ledger.ownership.give_up(GROUP, owner, [number])
        if self.parts[number].owner == owner:
            self.parts[number].owner = ""

    @rule(owner=OWNERS)
    def leave(self, owner: str) -> None:
        self.workers[owner].ledger.ownership.release(GROUP, owner)
        self.workers[owner].alive_until = -1.0
        for part in self.parts.values():
            if part.owner == owner:
                part.owner = ""

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(owner=OWNERS, names=st.lists(st.sampled_from(list(EVENTS)), min_size=1, max_size=3), attempt=st.integers(0, 3),
          generation=GENERATIONS, forced=st.booleans(), retry=st.booleans(), shift=st.integers(-1, 1))  # fmt: skip
    def check(self, owner: str, names: list[str], attempt: int, generation: str, forced: bool, retry: bool, shift: int) -> None:
        """A worker checks what it believes to own, rightly or not."""
        worker = self.workers[owner]
        names = [n for n in names if EVENTS[n] in worker.believes]
        # Copies may be stamped a day apart. As long as there's no row, a worker keeps them apart itself, whatever day they have.
        days = [self.events[n].day + shift if n in self.events else self.days.setdefault(n, DAY + shift) for n in names]
        checks = [Check(key(n, day), attempt, generation, forced, retry) for n, day in zip(names, days, strict=True)]
        for name, day, answer in zip(names, days, worker.ledger.outcomes.check(GROUP, checks), strict=True):
            assert answer.verdict is self.expect(name, attempt, generation, forced, retry), (name, self.events.get(name))
            if answer.verdict is Verdict.RUN:
                worker.runs.append(Run(name, day, answer, worker.believes[EVENTS[name]]))

    def expect(self, name: str, attempt: int, generation: str, forced: bool, retry: bool) -> Verdict:
        event = self.events.get(name)
        if event is None:
            return Verdict.RUN
        if event.state in IN_RETRY:
            ours = retry and generation == event.generation and attempt >= event.attempts
            return Verdict.RUN if ours else Verdict.ELSEWHERE
        again = generation not in ("", event.generation)
        if event.state is State.DEAD:
            return Verdict.RUN if again else Verdict.ELSEWHERE
        return Verdict.RUN if again and forced else Verdict.DONE

    @rule(owner=OWNERS, which=st.integers(0, 5), state=st.sampled_from(list(State)), again=st.booleans())
    def finish(self, owner: str, which: int, state: State, again: bool) -> None:
        """A worker records an end of something that it runs; an answer may get lost, and then it's sent again."""
        worker = self.workers[owner]
        if not worker.runs:
            return
        run = worker.runs.pop(which % len(worker.runs))
        part, event, seen = EVENTS[run.name], self.events.get(run.name), run.answer.seen
        self.seq += 1
        of = seen.key if seen else key(run.name, run.day)
        wait = Waiting(of, b"l" * 16, self.seq, 1.0, self.now + self.seq, ORIGIN) if state in IN_RETRY else None
        end = Finish(key(run.name, run.day), state, run.answer.attempts + 1, part, run.epoch, "t", seen, run.answer.generation,
                     waiting=wait)  # fmt: skip
        mine = self.parts[part] == Part(owner, run.epoch)
        now, then = ((e.state, e.attempts, e.generation) if e else None for e in (event, seen))
        unchanged, same = now == then, now == (state, end.attempts, end.generation)
        for _ in range(1 + again):
            (accepted,) = worker.ledger.outcomes.finish(GROUP, owner, [end], self.now)
            # An end that says what an earlier one of this very epoch said may pass for it; nothing else may.
            assert accepted == (mine and unchanged) or (accepted and mine and same)
        if mine and unchanged:
            self.events[run.name] = Known(state, end.attempts, end.generation, of.day)
            if wait is not None:
                self.waits[run.name] = wait.due
            else:
                self.waits.pop(run.name, None)
        elif accepted and wait is not None:
            self.waits[run.name] = wait.due

    # ── what must hold ──────────────────────────────────────────────────────────────────────────────────────────────
    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        for worker in self.workers.values():
            outcomes = worker.ledger.outcomes
            keys = {n: key(n, self.events[n].day if n in self.events else DAY) for n in EVENTS}
            assert outcomes.states(GROUP, list(keys.values())) == {keys[n]: e.state for n, e in self.events.items()}
            owners = {n: (p.owner, p.epoch) for n, p in self.parts.items() if p.owner}
            assert worker.ledger.ownership.owners(GROUP) == owners
            waiting = {w.key: w.due for number in self.parts for w in outcomes.waiting(GROUP, number)}
            assert waiting == {keys[n]: due for n, due in self.waits.items()}
            # What waits in a retry topic is exactly what the outcomes say does.
            assert self.waits.keys() == {n for n, e in self.events.items() if e.state not in FINISHED | {State.DEAD}}


Model.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, suppress_health_check=list(HealthCheck))
TestOwnersChecksAndFinishesFollowTheModel = Model.TestCase
