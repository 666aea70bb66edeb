"""Searches for a schedule that brings a planted bug out, shrinks it, and prints what is left: `python -m tests.sim.shrinking`.

In a process of its own: hypothesis takes numbers to try from the modules that happen to be loaded, and so would search otherwise in
each test run.
"""


from hypothesis import Phase, Verbosity, given
from hypothesis import settings as how
from hypothesis import strategies as st

from tests.sim.loop import Choose
from tests.sim.plants import followers_overtake_a_waiting_head
from tests.sim.world import Outcome, World


def drawn(choices: list[int], met: list[int]) -> Choose:
    """Choices that Hypothesis has made, and can shrink; the plain one when they are used up. `met` gets what came of them.

    One list, drawn at once: a draw at each choice cost many times the run itself.
    """
    left = iter(choices)

    def choose(n: int) -> int:
        met.append(next(left, 0) % n)
        return met[-1]

    return choose


def main() -> None:
    """Prints how many choices of the smallest failing schedule aren't the plainest, and what failed."""
    last: tuple[list[int], Outcome] | None = None

    @how(max_examples=2000, deadline=None, database=None, derandomize=True, verbosity=Verbosity.quiet, report_multiple_bugs=False,
         phases=(Phase.generate, Phase.shrink))  # fmt: skip
    @given(st.lists(st.integers(0, 999), min_size=60, max_size=120))
    def search(choices: list[int]) -> None:
        nonlocal last
        taken: list[int] = []
        with followers_overtake_a_waiting_head():
            outcome = World(drawn(choices, taken), 4, (), trouble=1.0).run()
        if outcome.violation is not None:
            last = taken, outcome
            raise AssertionError(outcome.violation)

    try:
        search()
    except AssertionError as error:
        assert last is not None
        print(sum(1 for choice in last[0] if choice), error)


if __name__ == "__main__":
    main()
