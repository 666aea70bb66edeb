"""Random sequences of claims and finishes against a model written from the promises, not from the code."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hooktape.ledger.checks import Claim, Finish, State, Verdict
from hooktape.ledger.ledger import Ledger

from .conftest import DAY, key

GROUP, OWNERS, LEASE = "g", ("a", "b"), 10.0
NAMES = st.sampled_from(["x", "y"])
GENERATIONS = st.sampled_from(["", "j1", "j2"])


@dataclass
class Known:
    """What the model knows of one event."""

    state: State
    owner: str
    attempts: int
    generation: str


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name)}/ledger.db"
        self.ledgers = {owner: Ledger.open(url) for owner in OWNERS}
        self.now = 0.0
        self.alive: dict[str, float] = {}
        self.events: dict[str, Known] = {}

    def teardown(self) -> None:
        for ledger in self.ledgers.values():
            ledger.close()
        self.folder.cleanup()

    @initialize()
    def both_start(self) -> None:
        for owner in OWNERS:
            self.beat(owner)

    @rule(owner=st.sampled_from(OWNERS))
    def beat(self, owner: str) -> None:
        self.ledgers[owner].outcomes.heartbeat(GROUP, owner, self.now, LEASE)
        self.alive[owner] = self.now + LEASE

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(owner=st.sampled_from(OWNERS))
    def an_owner_leaves_cleanly(self, owner: str) -> None:
        self.ledgers[owner].outcomes.release(GROUP, owner)
        self.alive.pop(owner, None)

    @rule(owner=st.sampled_from(OWNERS), names=st.lists(NAMES, min_size=1, max_size=3), attempt=st.integers(0, 3),
          generation=GENERATIONS, forced=st.booleans(), shift=st.integers(-1, 1))  # fmt: skip
    def claim(self, owner: str, names: list[str], attempt: int, generation: str, forced: bool, shift: int) -> None:
        if owner not in self.alive:
            self.beat(owner)
        live = {o for o, until in self.alive.items() if until > self.now} | {owner}
        if self.alive[owner] < self.now + LEASE / 2:
            self.alive[owner] = self.now + LEASE
        claims = [Claim(key(n, DAY + shift) if n not in self.events else key(n), "t", attempt, generation, forced) for n in names]
        answers = self.ledgers[owner].outcomes.claim(GROUP, owner, claims, self.now)
        for name, answer in zip(names, answers, strict=True):
            expected = self.expect(name, owner, live, attempt, generation, forced)
            assert answer.verdict is expected, (name, self.events.get(name))
            if expected is Verdict.RUN:
                self.run(name, owner, attempt, generation)
            assert answer.mine == (expected is Verdict.BUSY and self.events[name].owner == owner)

    def expect(self, name: str, owner: str, live: set[str], attempt: int, generation: str, forced: bool) -> Verdict:
        event = self.events.get(name)
        if event is None:
            return Verdict.RUN
        if event.state is State.RUNNING:
            return Verdict.BUSY if event.owner in live else Verdict.RUN
        if event.state is State.WAITING:
            return Verdict.RUN if 0 < attempt >= event.attempts else Verdict.ELSEWHERE
        again = generation not in ("", event.generation)
        if event.state is State.DEAD:
            return Verdict.RUN if again else Verdict.ELSEWHERE
        return Verdict.RUN if again and forced else Verdict.DONE

    def run(self, name: str, owner: str, attempt: int, generation: str) -> None:
        event = self.events.get(name)
        if event is None or event.state not in (State.RUNNING, State.WAITING):
            self.events[name] = Known(State.RUNNING, owner, attempt, generation)
        else:
            event.attempts = attempt if event.state is State.WAITING else max(event.attempts, attempt)
            event.state, event.owner = State.RUNNING, owner

    @rule(owner=st.sampled_from(OWNERS), names=st.lists(NAMES, min_size=1, max_size=2, unique=True),
          state=st.sampled_from([s for s in State if s is not State.RUNNING]))  # fmt: skip
    def finish(self, owner: str, names: list[str], state: State) -> None:
        ends = [Finish(key(n), state, self.events[n].attempts + 1 if n in self.events else 1) for n in names]
        accepted = self.ledgers[owner].outcomes.finish(GROUP, owner, ends, self.now)
        for name, end, ok in zip(names, ends, accepted, strict=True):
            event = self.events.get(name)
            ours = event is not None and event.state is State.RUNNING and event.owner == owner
            assert ok == ours
            if ours and event is not None:
                event.state, event.attempts = state, end.attempts

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        for ledger in self.ledgers.values():
            found = ledger.outcomes.states(GROUP, [key(n) for n in ("x", "y")])
            assert found == {key(n): e.state for n, e in self.events.items()}


Model.TestCase.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
TestClaimsAndFinishesFollowTheModel = Model.TestCase
