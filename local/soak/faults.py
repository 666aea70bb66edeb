"""Which faults there are and when each is drawn: a pure function of the seed. What a draw does to a process is the witness's."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hooktape import crash
from hooktape.errors import UsageError
from hooktape.schemas.event import Event

SESSION = 1.5
"""Seconds after which a silent worker's partitions are another's. The broker's least is 1; half of it more keeps a busy machine from
expelling a worker that's only slow."""
QUIET = 0.25
"""The share of rounds without a fault: systems lose data in calm weather, too."""

TAKEN_OVER = 8.0
"""Seconds. A runner that stands still for longer than its lease (`replayer.control.LEASE`, 6 s) finds its job taken over."""

RECONCILE_LEASE = 2.0
"""Seconds after which a silent reconciler's shop is another's."""

_POINTS = {
    "ingest": ("body-read", "acked-not-answered"),
    "replay": crash.REPLAY,
    "reconciler": crash.RECONCILE,
}
"""Target → its crash points; all others are the workers'."""
PLANNING_POINTS = frozenset({"replay-planning"})
"""Of the replayer's: those of who plans, not of who runs."""
# Where a reconciler may hold what it read for true, and another has long gone on: it stands still exactly there for longer than its lease.
_HELD_POINTS = ("reconcile-confirmed", "reconcile-fenced", "reconcile-intended", "reconcile-in-transaction")
_BESIDE_RECONCILERS = frozenset({"worker-kill", "ingest-kill", "broker-kill", "broker-stop-long", "postgres-kill", "postgres-stop-long"})
# Passed only where a handler has a transaction: with the ledger on PostgreSQL.
_TRANSACTION_POINTS = ("transaction-begun", "in-transaction", "transaction-recorded", "transaction-committed", "transaction-returned")
# Rare passages: the first is taken, or it might never come within a block. Of all others one among the first few dozen.
_RARE = frozenset({"in-revoke", "owned-not-started", "hold-letter-acked-not-recorded", "dead-letter-acked-not-recorded",
                   "letter-acked-not-recorded", "before-letter", "recorded-not-committed"})  # fmt: skip
_OFTEN = 25
# A replay of some hundred events has few batches, and a pass few steps; of those one of the first.
_SELDOM = 3
_FEW = ("replay", "reconciler")


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of fault: `act` (kill, term, stop, crash, hold: a freeze at a crash point, cut: a power cut) on `target`. `seconds`: how
    long a freeze lasts."""

    target: str
    act: str
    weight: float
    seconds: float = 0.0
    point: str = ""
    ledger: str = ""
    """Only with this ledger."""

    @property
    def name(self) -> str:
        """As `--fault` and the report spell it."""
        length = "" if self.act != "stop" else "-long" if self.seconds > SESSION else "-short"
        return f"{self.target}-{self.act}{length}{f':{self.point}' if self.point else ''}"


def _cells() -> dict[str, Cell]:
    points = [point for point in crash.POINTS if not any(point in of for of in _POINTS.values())]
    cells = [
        Cell("worker", "kill", 12), Cell("worker", "term", 6),
        Cell("worker", "stop", 4, SESSION / 2), Cell("worker", "stop", 4, SESSION * 3),
        *(Cell("worker", "crash", 2, point=p, ledger="postgresql" if p in _TRANSACTION_POINTS else "") for p in points),
        Cell("ingest", "kill", 8), Cell("ingest", "term", 3), Cell("ingest", "stop", 3, SESSION / 2),
        *(Cell("ingest", "crash", 4, point=p) for p in _POINTS["ingest"]),
        Cell("replay", "kill", 8), Cell("replay", "term", 3),
        Cell("replay", "stop", 2, SESSION / 2), Cell("replay", "stop", 3, TAKEN_OVER),
        *(Cell("replay", "crash", 4, point=p) for p in _POINTS["replay"]),
        Cell("reconciler", "kill", 16), Cell("reconciler", "term", 4),
        Cell("reconciler", "stop", 4, RECONCILE_LEASE / 2), Cell("reconciler", "stop", 6, RECONCILE_LEASE * 2.5),
        *(Cell("reconciler", "crash", 4, point=p) for p in _POINTS["reconciler"]),
        *(Cell("reconciler", "hold", 4, RECONCILE_LEASE * 2.5, p) for p in _HELD_POINTS),
        Cell("broker", "kill", 4), Cell("broker", "cut", 1), Cell("broker", "stop", 2, SESSION / 2), Cell("broker", "stop", 3, SESSION * 2),
        Cell("postgres", "kill", 5, ledger="postgresql"), Cell("postgres", "stop", 3, SESSION * 2, ledger="postgresql"),
    ]  # fmt: skip
    return {cell.name: cell for cell in cells}


CELLS = _cells()
"""Every kind of fault by its name."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A round: what happens (None: nothing), after `pause` seconds, to which of the target's processes, at which passage."""

    cell: Cell | None
    pause: float
    victim: int
    passage: int

    def __str__(self) -> str:
        return "quiet" if self.cell is None else f"{self.cell.name}{f':{self.passage}' if self.cell.point else ''}"


def chosen(names: Iterable[str], ledgers: Sequence[str], reconcile: bool = False) -> list[Cell]:
    """The cells that `--fault` names (all where it names none; a prefix names a family), as far as these ledgers allow them.

    `reconcile`: those of a soak of reconcilers, and of what they lean on; without it, those of all others.

    Raises UsageError for a name that is none.
    """
    wanted = list(names)
    for name in wanted:
        if not any(known.startswith(name) for known in CELLS):
            raise UsageError(f"--fault {name}: there's no such fault. The list: {', '.join(CELLS)}.")
    of_kind = {name: cell for name, cell in CELLS.items()
               if (cell.target == "reconciler" or name in _BESIDE_RECONCILERS if reconcile else cell.target != "reconciler")}  # fmt: skip
    named = [cell for name, cell in of_kind.items() if not wanted or any(name.startswith(prefix) for prefix in wanted)]
    # Where events offer no transaction, there's nothing to die in.
    possible = [cell for cell in named if cell.point not in _TRANSACTION_POINTS or hasattr(Event, "transaction")]
    return [cell for cell in possible if not cell.ledger or cell.ledger in ledgers]


def draws(seed: int, block: int, rounds: int, cells: Sequence[Cell], ledger: str, missing: Iterable[str]) -> list[Draw]:
    """The rounds of a block. `missing` names cells that haven't hit yet: they come first, then half of the others, by weight.

    Leaving half of them out makes blocks differ: what only shows when, say, nothing but the broker fails gets its chance.
    """
    dice = random.Random(f"{seed}/{block}")
    possible = [cell for cell in cells if not cell.ledger or cell.ledger == ledger]
    if not possible:
        return [Draw(None, dice.uniform(0.3, 0.9), 0, 1) for _ in range(rounds)]
    kept = [cell for cell in possible if dice.random() < 0.5] or possible
    wanted = set(missing)
    first = [cell for cell in possible if cell.name in wanted]
    dice.shuffle(first)
    busy = max(rounds - int(rounds * QUIET), min(len(first), rounds))
    drawn: list[Cell | None] = list(first[:busy])
    drawn += dice.choices(kept, [cell.weight for cell in kept], k=busy - len(drawn))
    # Quiet rounds fall in between, not at the end.
    for _ in range(rounds - busy):
        drawn.insert(dice.randrange(len(drawn) + 1), None)
    return [Draw(cell, dice.uniform(0.2, 0.8), dice.randrange(1 << 16), _passage(dice, cell)) for cell in drawn]


def _passage(dice: random.Random, cell: Cell | None) -> int:
    return 1 if cell is None or cell.point in _RARE else dice.randint(1, _SELDOM if cell.target in _FEW else _OFTEN)


_IN_TURN = ("worker", "replay", "postgres", "broker")
_LAST = 0.95
"""After this share of a replay no fault is planned: it'd fall behind its end."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A draw that happens once that `share` of a replay has been handled."""

    share: float
    draw: Draw


def moments(seed: int, number: int, cells: Sequence[Cell], ledger: str) -> list[Moment]:
    """Random moments of a replay, with the targets in turn, and half as many again towards its end, should some come to nothing (a crash
    point that isn't passed any more). Raises UsageError where `cells` hold nothing that could hurt a replay."""
    dice = random.Random(f"{seed}/replay")
    of_target = {target: [c for c in cells if c.target == target and c.ledger in ("", ledger) and c.point not in PLANNING_POINTS]
                 for target in _IN_TURN}  # fmt: skip
    targets = [target for target in _IN_TURN if of_target[target]]
    if not targets:
        raise UsageError(f"--fault: a replay is hurt by faults of {', '.join(_IN_TURN)} only.")
    shares = sorted(dice.uniform(0.0, _LAST) for _ in range(number)) + [_LAST] * (number // 2)
    found = []
    for turn, share in enumerate(shares):
        target = targets[turn % len(targets)]
        kinds = of_target[target]
        cell = dice.choices(kinds, [kind.weight for kind in kinds])[0]
        # A runner that takes a job over passes its points again from the first on.
        passage = 1 if target == "replay" else _passage(dice, cell)
        found.append(Moment(share, Draw(cell, 0.0, dice.randrange(1 << 16), passage)))
    return found
