"""`python -m tests.sim --seed S --events N`: one simulated run with its trace; `--seeds N` looks for a seed that fails."""

import argparse
import logging
import sys
import time

from hooktape import log

from .loop import seeded
from .world import KINDS, Outcome, World


def run(seed: int, events: int, kinds: tuple[str, ...] | None = None, trace: bool = False) -> Outcome:
    """One run."""
    return World(seeded(seed), events, kinds, trace).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, help="the faults that may strike (default: half of them, by the seed)")
    parser.add_argument("--log", action="store_true", help="the workers' own log as well")
    words = parser.parse_args()
    alone = words.seeds == 1
    if words.log:
        log.configure("info")
    else:
        logging.disable(logging.CRITICAL)
    began, steps, failed = time.process_time(), 0, 0
    longest = 0.0
    for seed in range(words.seed, words.seed + words.seeds):
        outcome = run(seed, words.events, None if words.kinds is None else tuple(words.kinds), alone)
        steps += outcome.steps
        longest = max(longest, outcome.counts.get("seconds to drain", 0))
        if alone:
            print("\n".join(outcome.trace))
            print(dict(sorted(outcome.counts.items())))
            print("digest", outcome.digest)
        if outcome.violation:
            failed += 1
            print(f"seed {seed}: {outcome.violation}", flush=True)
    spent = time.process_time() - began
    print(f"{words.seeds} seeds, {failed} failed; {words.seeds / spent:.1f} seeds and {steps / spent:,.0f} steps per CPU second; "
          f"drained within {longest:.0f} s", file=sys.stderr)  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
