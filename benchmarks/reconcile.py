"""What Shopify's webhooks left out, found: Hooktape's reconciler beside three ways in use, on the same faults; in a large shop; in many.

    python benchmarks/reconcile.py [--only faults|large|shops] [--seeds 5] [--hours 30] [--rate 60] [--orders 1000000] [--missed 100]

faults: each system has a shop of its own from the same seed, on a clock that only jumps: orders, products and customers that are made,
changed and deleted for `hours`, then quiet for 30, in which each has its daily pass. 1 % of the webhooks never come and 1 % twice, 10 %
come up to four hours late; the search index is up to half an hour behind, anew each hour; rows are edited while they're paged through in
a quarter of the hours; lists sorted by UPDATED_AT lack 2 % of their rows; `>` acts as `>=` in half of the hours. Judged by what the shop
changed and what was delivered.

large: a shop of so many orders of which a few were missed, with the whole stack: see `reconcile_large.py`.

shops: how many shops one process keeps up with: see `reconcile_shops.py`.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from typing import NamedTuple

from common import broker, folder, machine, parser, wanted
from reconcile_large import SPAN, YOUNGEST, Orders, find
from reconcile_shops import keep
from reconcile_systems import SYSTEMS, lived
from reconcile_world import BEGAN, HOUR, MINUTE, Weather, World
from results import Result, record

from hooktape.settings import Settings

OURS = "hooktape"
QUIET = 30
"""Hours after the last change: a look-back comes daily, and what it finds waits out its grace period."""
LIMIT_MIB = 300
INTERVAL = 300
"""Seconds between two fast passes over a shop, by default."""


class Score(NamedTuple):
    """What one system made of one seed's hours; `delays` in seconds."""

    changes: int
    to_find: int
    missed: int
    false: int
    doubled: int
    delays: tuple[float, ...]
    requests: int


def score(name: str, seed: int, hours: float, rate: float) -> Score:
    """One system, one seed."""
    world = World(seed, Weather(), hours, rate)
    system = SYSTEMS[name](world)
    asyncio.run(lived(system, BEGAN + (hours + QUIET) * HOUR))
    found = world.judge(system.tellings)
    return Score(len(world.truth), len(found.to_find), len(found.missed), len(found.false), len(found.doubled), tuple(found.delays),
                 world.asked)  # fmt: skip


def together(scores: Sequence[Score]) -> Score:
    """The sums over all seeds."""
    changes, to_find, missed, false, doubled, delays, requests = zip(*scores, strict=True)
    return Score(sum(changes), sum(to_find), sum(missed), sum(false), sum(doubled), tuple(chain(*delays)), sum(requests))


def shown(name: str, found: Score) -> str:
    """A row of the table."""
    delays = sorted(found.delays) or [0.0]
    mean, p95 = sum(delays) / len(delays), delays[min(len(delays) - 1, int(len(delays) * 0.95))]
    return (f"{name:24} {found.changes:8,} {found.to_find:8,} {found.missed:8,} {found.false:8,} {found.doubled:8,} "
            f"{len(found.delays):8,} {mean / MINUTE:10.0f} {p95 / MINUTE:10.0f} {found.requests:10,}")  # fmt: skip


def faults(seeds: int, hours: float, rate: float) -> list[Result]:
    """The table of all systems; the results."""
    print(f"{seeds} seeds (1 to {seeds}), {hours:g} hours of {rate:g} changes an hour, then {QUIET} of quiet; {machine()}")
    columns = ("webhooks", "to find", "missed", "false", "doubled", "found")
    print(" " * 24, *(f"{name:>8}" for name in columns), *(f"{name:>10}" for name in ("mean, min", "p95, min", "requests")))
    results: list[Result] = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        jobs = {name: [pool.submit(score, name, seed, hours, rate) for seed in range(1, seeds + 1)] for name in SYSTEMS}
        for name, scores in jobs.items():
            found = together([one.result() for one in scores])
            print(shown(name, found), flush=True)
            delays = sorted(found.delays) or [0.0]
            mean = sum(delays) / len(delays) / MINUTE
            values = {"to find": found.to_find, "missed": found.missed, "false": found.false, "doubled": found.doubled,
                      "found": len(found.delays), "requests": found.requests}  # fmt: skip
            case = f"faults, {seeds} seeds of {hours:g} hours"
            results += [Result(bench="reconcile", case=f"{case}, {what}", system=name, value=value, unit="")
                        for what, value in values.items()]  # fmt: skip
            results.append(Result(bench="reconcile", case=f"{case}, mean delay", system=name, value=round(mean, 1), unit="min"))
            if name == OURS:
                for what in ("missed", "false", "doubled"):
                    print(wanted(f"{name}, {what}", values[what], 0, least=False), file=sys.stderr)
    return results


def large(count: int, missed: int) -> list[Result]:
    """One pass over a large shop; the results."""
    now = int(time.time())
    orders = Orders(count, missed, now - SPAN, now - YOUNGEST)
    print(f"{count:,} orders, {missed} of them missed; {machine()}", flush=True)
    with folder() as home, broker(home) as bootstrap:
        found = find(bootstrap, home, orders, lambda text: print(text, flush=True))
    print(f"{found.recorded} recorded, {found.wrong} wrong, {found.doubled} doubled, {found.covered:,} were on the tape; "
          f"{found.seconds:.0f} s, {found.peak:.0f} MiB at the most, {found.points:,} points")  # fmt: skip
    for what, value, bound in (("wrong", found.wrong, 0), ("doubled", found.doubled, 0), ("MiB at the most", found.peak, LIMIT_MIB)):
        print(wanted(what, value, bound, least=False), flush=True)
    if not found.complete or found.wrong or found.doubled:
        raise SystemExit("the pass didn't find exactly what was missed: this run is no measurement.")
    case = f"{count} orders, {missed} missed"
    figures = (("found", found.recorded, ""), ("time", round(found.seconds), "s"), ("memory", round(found.peak), "MiB"),
               ("cost", found.points, "points"))  # fmt: skip
    return [Result(bench="reconcile-large", case=f"{case}, {what}", system=OURS, value=value, unit=unit) for what, value, unit in figures]


def many(shops: int, latency: float) -> list[Result]:
    """Rounds over many quiet shops; the results."""
    print(f"{shops} shops in which nothing has happened, {latency * 1000:g} ms an answer; {machine()}", flush=True)
    results = []
    for at_once in (8, Settings().reconcile_at_once, 32):
        with folder() as home, broker(home) as bootstrap:
            found = keep(bootstrap, home, shops, at_once, latency)
        print(f"{at_once:2} at once: {found.rate:.1f} shops/s, {found.rate * INTERVAL:,.0f} every five minutes; "
              f"{found.questions:.0f} questions about {found.families} families and {found.cpu:.0f} ms of CPU a shop", flush=True)
        results.append(Result(bench="reconcile-shops", case=f"{latency * 1000:g} ms an answer, {at_once} at once, shops", system=OURS,
                              value=round(found.rate, 1), unit="shops/s"))  # fmt: skip
    return results


def main() -> None:
    """Runs what was chosen."""
    options = parser(__doc__)
    options.add_argument("--only", choices=("faults", "large", "shops"))
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--hours", type=float, default=30.0)
    options.add_argument("--rate", type=float, default=60.0, help="changes an hour")
    options.add_argument("--orders", type=int, default=1_000_000)
    options.add_argument("--missed", type=int, default=100)
    options.add_argument("--shops", type=int, default=200)
    options.add_argument("--latency", type=float, default=0.1, help="seconds that an answer takes")
    chosen = options.parse_args()
    if chosen.only in (None, "faults"):
        results = faults(chosen.seeds, chosen.hours, chosen.rate)
        if not chosen.no_record:
            record("reconcile", results)
    if chosen.only in (None, "large"):
        results = large(chosen.orders, chosen.missed)
        if not chosen.no_record:
            record("reconcile-large", results)
    if chosen.only in (None, "shops"):
        results = many(chosen.shops, chosen.latency)
        if not chosen.no_record:
            record("reconcile-shops", results)


if __name__ == "__main__":
    main()
