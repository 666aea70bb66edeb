"""When which pass over which shop is due, and the doctor's look at it. Pure: `now` in epoch seconds."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import floor
from zlib import crc32

from hooktape.settings import Settings

Due = Mapping[tuple[str, str], float]
HOUR, DAY = 3600.0, 86400.0


class Pass(StrEnum):
    """How far a pass looks."""

    FAST = "fast"
    """From the last one's end to now, a little overlap before: what webhooks lost is found while it's fresh."""
    LOOKBACK = "lookback"
    """Over more than a day again: what search indexes showed late."""
    SWEEP = "sweep"
    """All ids: what was deleted and nothing told of. It only proposes; fast passes look into it."""
    BACKFILL = "backfill"
    """What the tape never had, as it is now. By hand only."""

    @property
    def lane(self) -> str:
        """Passes of one lane take turns. A sweep takes hours in a large shop, and so does a backfill, and neither may hold up the
        others: it looks at a time that no other pass judges."""
        return str(self) if self in (Pass.SWEEP, Pass.BACKFILL) else "states"


SCHEDULED = (Pass.FAST, Pass.LOOKBACK, Pass.SWEEP)
DOCTOR = "doctor"
"""The name, and the lane, of the doctor's look at a shop's subscriptions."""
_NAMES = frozenset({*map(str, SCHEDULED), DOCTOR})
PARKING = frozenset({"unauthorized", "not_permitted", "permanent_token", "payment_required", "forbidden", "locked", "shop_inactive"})
"""Reasons why a shop's API is closed until a person does something: asking every five minutes helps nobody."""


@dataclass(frozen=True, slots=True)
class Task:
    """A pass to make over a shop, or a look of the doctor: `name` is that of a Pass, or DOCTOR."""

    shop: str
    name: str

    @property
    def lane(self) -> str:
        """Tasks of one lane take turns."""
        return DOCTOR if self.name == DOCTOR else Pass(self.name).lane


def intervals(settings: Settings) -> dict[str, float]:
    """Seconds between two of a kind."""
    return {Pass.FAST: settings.reconcile_interval, Pass.LOOKBACK: settings.reconcile_lookback_interval,
            Pass.SWEEP: settings.reconcile_sweep_interval, DOCTOR: settings.doctor_interval}  # fmt: skip


def first(shops: Iterable[str], every: Mapping[str, float], now: float) -> dict[tuple[str, str], float]:
    """When new shops' turn first comes: the fast pass and the doctor at once, the others at a moment of the shop's own, so that
    thousands of shops don't look back in one hour."""
    soon = (Pass.FAST, DOCTOR)
    return {(shop, kind): now if kind in soon else now + every[kind] * (1 + crc32(f"{shop}/{kind}".encode()) / 2**32) / 2
            for shop in shops for kind in every}  # fmt: skip


def following(due: float, every: float, now: float) -> float:
    """When the pass that was due at `due`, and has been made by `now`, is due again. What was slept through is made up for once."""
    return due + every * (floor(max(0.0, now - due) / every) + 1)


def again(every: float, now: float) -> float:
    """When a pass that came to no end is due again: within the hour, though it be a weekly one."""
    return now + min(every, HOUR)


def probe(since: float, now: float) -> float:
    """When a shop whose API has been closed since `since` is tried again: hourly for a day, then daily."""
    return now + (HOUR if now - since < DAY else DAY)


def ready(dues: Due, probes: Mapping[str, float], shops: Collection[str], busy: Collection[tuple[str, str]], now: float,
          places: int) -> list[Task]:  # fmt: skip
    """What to begin now, the longest overdue first, so that every shop has its turn; one task per shop and lane, and sweeps in
    half of the `places` only: each may take hours, for which all other shops would wait.

    `probes`: when a shop that is closed is tried again (the doctor says that it's closed without trying); `busy`: (shop, lane) that
    are taken.
    """
    taken, tasks = set(busy), list[Task]()
    sweeps = max(1, places // 2) - sum(lane == Pass.SWEEP.lane for _, lane in taken)
    for (shop, name), _ in sorted(((key, due) for key, due in dues.items() if due <= now), key=lambda item: (item[1], item[0])):
        if shop not in shops or name not in _NAMES or (name != DOCTOR and probes.get(shop, 0.0) > now):
            continue
        task = Task(shop, name)
        sweeping = task.lane == Pass.SWEEP.lane
        if (shop, task.lane) not in taken and not (sweeping and sweeps <= 0):
            sweeps -= sweeping
            taken.add((shop, task.lane))
            tasks.append(task)
    return tasks
