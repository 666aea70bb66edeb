"""A whole run: blocks one after the other, each judged, and the report."""

import asyncio
import importlib.metadata
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from hooktape.local.soak import disk, faults
from hooktape.local.soak.checker import Verdict, judge
from hooktape.local.soak.reconciling import Reconciling
from hooktape.local.soak.recovery import Great, Recovery
from hooktape.local.soak.services import Servers
from hooktape.local.soak.view import hand_overs
from hooktape.local.soak.witness import Block, Plan

BLOCK_ROUNDS = 50
_SHOWN = 200
"""Violations that the report quotes; a broken build may have thousands."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for. `ledgers` take turns, a block each. `kept`: where the histories of blocks with violations go."""

    rounds: int
    seed: int
    ledgers: Sequence[str]
    cells: Sequence[faults.Cell]
    app: str
    kept: Path
    version: str
    """Hooktape's."""
    keep_all: bool = False
    replay: int = 0
    """Events of a great replay; 0: rounds."""
    faults: int = 0
    """That have to hit during it."""
    reconcile: bool = False
    """Rounds with reconcilers, and a shop whose webhooks they look for."""


@dataclass(slots=True)
class Report:
    """The figures of a run, summed over its blocks. Times in seconds."""

    order: Order
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    quiet: int = 0
    violations: list[str] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)
    hand_overs: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    drains: list[float | None] = field(default_factory=list)
    histories: list[Path] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Faults that this machine doesn't allow, and why."""

    @property
    def missing(self) -> list[str]:
        """Faults that were to hit and never did: the run proves nothing about them."""
        if self.order.replay:
            wanted, hit = self.order.faults * len(self.order.ledgers), self.hits.total()
            return [f"{wanted - hit} of {wanted}"] if hit < wanted else []
        return [cell.name for cell in self.order.cells if not self.hits[cell.name] and cell.name not in self.skipped]

    @property
    def clean(self) -> bool:
        """Whether no rule was broken and every fault has hit."""
        return not self.rules and not self.missing

    def as_json(self) -> dict[str, Any]:
        """As the JSON file has it."""
        reconciler = {"reconciler": self._reconciler()} if self.order.reconcile else {}
        return {
            "clean": self.clean,
            "seed": self.order.seed,
            "rounds": self.rounds,
            "quiet_rounds": self.quiet,
            "ledgers": list(self.order.ledgers),
            "seconds": round(self.seconds, 1),
            "faults": dict(sorted(self.hits.items())),
            "never_hit": self.missing,
            "skipped": self.skipped,
            "counts": dict(self.counts),
            "rules_broken": dict(self.rules),
            "violations": self.violations[:_SHOWN],
            "hand_over_seconds": _spread(self.hand_overs),
            **reconciler,
            "drain_seconds": [None if drain is None else round(drain, 1) for drain in self.drains],
            "histories": [str(path) for path in self.histories],
            "versions": _versions(self.order.version),
        }

    def _reconciler(self) -> dict[str, Any]:
        """Of the shop's changes: what was lost on the way, and what the reconcilers made of it."""
        of_kind = {act: {cell.point: self.hits[cell.name] for cell in self.order.cells if cell.target == "reconciler" and cell.act == act}
                   for act in ("crash", "hold")}  # fmt: skip
        names = ("changes", "dropped", "synthetic", "missed", "false", "recorded_twice", "late_after", "crossed")
        return {**{name: self.counts[name] for name in names}, "killed_at": of_kind["crash"], "frozen_at": of_kind["hold"],
                "change_to_record_seconds": _spread(self.delays)}  # fmt: skip


def _spread(times: list[float]) -> dict[str, float | int | None]:
    times = sorted(times)
    return {
        "measured": len(times), "median": round(median(times), 3) if times else None,
        "p95": round(times[min(len(times) - 1, math.ceil(len(times) * 0.95) - 1)], 3) if times else None,
        "max": round(times[-1], 3) if times else None,
    }  # fmt: skip


def _versions(hooktape: str) -> dict[str, str]:
    """What ran."""
    found = {"hooktape": hooktape, "python": platform.python_version(), "system": platform.platform()}
    return found | {name: importlib.metadata.version(name) for name in ("confluent-kafka", "psycopg", "uvicorn", "httptools")}


def blocks(rounds: int, ledgers: int) -> list[int]:
    """How many rounds each block has: at most 50, as equal as can be, and a block for each ledger where there are rounds for it."""
    number = min(rounds, max(math.ceil(rounds / BLOCK_ROUNDS), ledgers))
    return [rounds // number + (index < rounds % number) for index in range(number)]


OVERTIME = 4
"""Blocks after the planned ones, at most, for faults that haven't hit: two for each ledger."""


def run(order: Order, home: Path, progress: Callable[[str], None]) -> Report:
    """Runs all blocks; `home` is a folder of this run alone. Raises LocalStackError when a server can't be started."""
    began = time.monotonic()
    report = Report(order)
    if any(cell.act == "cut" for cell in order.cells) and (reason := disk.why_not(home)):
        progress(f"SKIPPED: {reason}")
        report.skipped = {cell.name: reason for cell in order.cells if cell.act == "cut"}
    if not hasattr(os, "waitid"):
        report.skipped |= {cell.name: "this Python can't tell that a process stands still" for cell in order.cells if cell.act == "hold"}
    cells = [cell for cell in order.cells if cell.name not in report.skipped]
    block = Reconciling if order.reconcile else Block
    servers = Servers(home, "postgresql" in order.ledgers, any(cell.act == "cut" for cell in cells), progress)
    try:
        for number, ledger in enumerate(order.ledgers if order.replay else ()):
            moments = faults.moments(order.seed, order.faults, cells, ledger)
            great = Great(order.replay, tuple(moments), order.faults)
            progress(f"block {number}: a replay of {order.replay:,} events and {order.faults} faults, ledger on {ledger}")
            plan = Plan(order.seed, number, ledger, (), order.app, _versions(order.version))
            _judge(report, Recovery(plan, great, servers, home / f"block-{number}", progress), number, progress)
        planned = [] if order.replay else blocks(order.rounds, len(order.ledgers))
        for number in range(len(planned) + OVERTIME if planned else 0):
            ledger, of_block = order.ledgers[number % len(order.ledgers)], cells
            if number < len(planned):
                rounds = planned[number]
            else:
                # What was meant to hit and hasn't (a crash point that its process never passed, say) gets another chance, and nothing else.
                of_block = [cell for cell in cells if cell.name in report.missing and cell.ledger in ("", ledger)]
                rounds = 2 * len(of_block)
                if not rounds:
                    continue
            draws = faults.draws(order.seed, number, rounds, of_block, ledger, report.missing)
            progress(f"block {number}: {rounds} rounds, ledger on {ledger}")
            plan = Plan(order.seed, number, ledger, draws, order.app, _versions(order.version))
            report.rounds += len(draws)
            report.quiet += sum(draw.cell is None for draw in draws)
            _judge(report, block(plan, servers, home / f"block-{number}", progress), number, progress)
    finally:
        servers.close()
    report.seconds = time.monotonic() - began
    return report


def _judge(report: Report, block: Block, number: int, progress: Callable[[str], None]) -> None:
    """Runs a block and takes its verdict in."""
    observed, order = asyncio.run(block.run()), report.order
    verdict = judge(observed)
    report.counts.update(verdict.counts)
    report.hits.update(block.hits)
    report.rules.update(violation.rule for violation in verdict.violations)
    report.violations += [f"block {observed.facts.block}: {violation}" for violation in verdict.violations]
    report.hand_overs += hand_overs(observed)
    report.delays += verdict.delays
    report.drains.append(observed.facts.drain)
    if order.keep_all or not verdict.clean:
        order.kept.mkdir(parents=True, exist_ok=True)
        report.histories.append(order.kept / f"{order.seed}-{number}.jsonl")
        observed.write(report.histories[-1])
    drained = "never drained" if observed.facts.drain is None else f"drained in {observed.facts.drain:.1f} s"
    progress(f"block {number}: {summary(verdict)}; {drained}")


def summary(verdict: Verdict) -> str:
    """The verdict in one line."""
    counts = verdict.counts
    return (f"{counts['acknowledged']:,} acknowledged, {counts['lost']} lost, {counts['transactional_twice']} transactional twice, "
            f"{counts['unexcused_repeats']} unexcused and {counts['excused_repeats']} excused repeats, {counts['out_of_order']} out of "
            f"order, {counts['overlap']} overlaps; {_replayed(counts)}; {counts['violations']} violations")  # fmt: skip


def _replayed(counts: Mapping[str, int]) -> str:
    if counts["changes"]:
        return (f"of {counts['changes']:,} changes {counts['dropped']} dropped, {counts['synthetic']} recorded by the reconcilers, "
                f"{counts['missed']} missed, {counts['false']} false, {counts['recorded_twice']} twice, {counts['late_after']} whose "
                f"webhook came after all")  # fmt: skip
    return f"{counts['replays']} replays of {counts['replayed']:,} events, {counts['account_broken']} of them misreported"
