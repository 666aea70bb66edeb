"""Two connections at the same instant, on both databases."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from hooktape.ledger.checks import Claim, Claimed, Finish, State, Verdict
from hooktape.ledger.ledger import Ledger

from .conftest import DAY, key

ROUNDS = 150


@pytest.mark.parametrize("apart", [0, 1], ids=["same day", "a day apart"])
def test_a_key_that_two_workers_claim_at_the_same_instant_runs_once(opened: Callable[[], Ledger], apart: int) -> None:
    barrier = Barrier(2)

    def work(number: int) -> list[list[Claimed]]:
        ledger, owner = opened(), f"w{number}"
        ledger.outcomes.heartbeat("g", owner, 0, 60)
        answers = []
        for turn in range(ROUNDS):
            names = [f"{turn}-{i}" for i in range(5)]
            claims = [Claim(key(n, DAY + number * apart), "t") for n in (names if number else reversed(names))]
            barrier.wait(30)
            answers.append(ledger.outcomes.claim("g", owner, claims, 1))
        return answers

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    for one, other in zip(first, second, strict=True):
        verdicts = {a.key.id: a.verdict for a in one}
        for answer in other:
            assert {verdicts[answer.key.id], answer.verdict} == {Verdict.RUN, Verdict.BUSY}


def test_an_abandoned_event_that_two_workers_take_over_while_its_owner_finishes_ends_once(opened: Callable[[], Ledger]) -> None:
    """Each round: the old owner finishes while another, to whom it looks dead, claims. Exactly one of them has it."""
    barrier = Barrier(2)

    def late(ledger: Ledger) -> list[bool]:
        accepted = []
        for turn in range(ROUNDS):
            ledger.outcomes.heartbeat("g", f"old{turn}", 0, 10)
            ledger.outcomes.claim("g", f"old{turn}", [Claim(key(str(turn)), "t")], 1)
            barrier.wait(30)
            accepted += ledger.outcomes.finish("g", f"old{turn}", [Finish(key(str(turn)), State.SUCCEEDED, 1)], 99)
            barrier.wait(30)
        return accepted

    def thief(ledger: Ledger) -> list[Verdict]:
        verdicts = []
        for turn in range(ROUNDS):
            ledger.outcomes.heartbeat("g", "new", 99, 10)
            barrier.wait(30)
            verdicts.append(ledger.outcomes.claim("g", "new", [Claim(key(str(turn)), "t")], 99)[0].verdict)
            barrier.wait(30)
        return verdicts

    with ThreadPoolExecutor(2) as pool:
        finished, stolen = pool.submit(late, opened()), pool.submit(thief, opened())
        for accepted, verdict in zip(finished.result(), stolen.result(), strict=True):
            assert verdict is (Verdict.DONE if accepted else Verdict.RUN)


def test_two_processes_may_open_a_new_ledger_at_once(url: str) -> None:
    barrier = Barrier(4)

    def work(number: int) -> int | None:
        barrier.wait(30)
        with Ledger.open(url) as ledger:
            return ledger.leases.acquire("x", str(number), 1, 60)

    with ThreadPoolExecutor(4) as pool:
        epochs = list(pool.map(work, range(4)))
    assert sorted(epoch is None for epoch in epochs) == [False, True, True, True]


def test_workers_that_write_a_new_day_at_once_all_succeed(opened: Callable[[], Ledger]) -> None:
    barrier = Barrier(3)

    def work(number: int) -> set[Verdict]:
        ledger = opened()
        ledger.outcomes.heartbeat("g", f"w{number}", 0, 60)
        found = set()
        for day in range(DAY, DAY + 10):
            barrier.wait(30)
            claims = [Claim(key(f"{number}-{i}-{day}", day), "t") for i in range(20)]
            found |= {a.verdict for a in ledger.outcomes.claim("g", f"w{number}", claims, 1)}
        return found

    with ThreadPoolExecutor(3) as pool:
        assert set().union(*pool.map(work, range(3))) == {Verdict.RUN}
