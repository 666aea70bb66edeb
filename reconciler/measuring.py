"""The reconciler's own figures for Prometheus: counted as a pass ends, and read from the ledger between passes."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial

from prometheus_client import Gauge

from hooktape import metrics
from hooktape.ledger import reckoning
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler import protected
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.report import Report
from hooktape.settings import Settings

# The coverage that is shown is of the passes that ended so lately, in seconds: one lost webhook is history after that. Less by two
# intervals than the hour that the alert waits: the figure is renewed when a pass ends, and must not last that long for one webhook.
_LATELY = 3000.0
# Between two looks at it, in seconds, about as often as Prometheus asks: it's summed over every shop's kept passes.
_LOOK = 60.0
Labels = tuple[str, ...]


class Figures:
    """What one reconciler exports. `clock` gives epoch seconds. May be used by several threads."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], float], families: Collection[Family]) -> None:
        self._ledger, self._clock, self._suspect = ledger, clock, settings.reconcile_suspect
        self._families = [family.name for family in families]
        self._lock = threading.Lock()
        self._streaks: dict[tuple[str, str], int] = {}
        self._unverifiable: dict[tuple[str, str], Counter[str]] = {}
        self._shown: dict[Gauge, set[Labels]] = {}
        self._looked = float("-inf")
        for family in families:
            # `increase` can't see a counter's first step where there was no series before it.
            for topic in set(family.topics) - family.unchecked.keys():
                metrics.RECONCILE_MISSING.labels(topic)

    def ended(self, report: Report) -> None:
        """Counts what a pass found."""
        family, tally, key = FAMILIES[report.family], report.tally, (report.shop, report.family)
        metrics.RECONCILE_COMPARED.labels(family.update).inc(tally.shown)
        metrics.RECONCILE_COVERED.labels(family.update).inc(tally.covered_anew)
        metrics.RECONCILE_LATE.labels(family.update).inc(tally.late)
        with self._lock:
            self._unverifiable[key] = Counter(_reason(report, family, topic) for topic in report.unverifiable)
            self._streaks[key] = reckoning.streak(self._streaks.get(key, 0), tally)

    def measure(self, shops: Collection[str] | None = None) -> None:
        """Sets the gauges, of these `shops`; None: of all that the ledger knows. Raises LedgerError."""

        def ours(shop: str) -> bool:
            # Of one that has gone nothing is looked at any more: what stands of it would alarm for ever.
            return shops is None or shop in shops

        now, memory = self._clock(), self._ledger.reconcile
        counts = [found for (shop, family), found in memory.pending_counts(now - self._suspect).items()
                  if ours(shop) and family in self._families]  # fmt: skip
        for place, gauge in enumerate((metrics.RECONCILE_PENDING, metrics.RECONCILE_SUSPECTED, metrics.RECONCILE_HELD)):
            gauge.set(sum(found[place] for found in counts))
        metrics.RECONCILE_BULK.set(self._ledger.bulk.running())
        succeeded: dict[Labels, float] = {(shop,): at for shop, at in memory.last_success(self._families).items() if ours(shop)}
        reached = {shop: position for shop, position in memory.oldest_positions(self._families).items() if ours(shop)}
        parked: dict[Labels, float] = {(entry.shop, entry.reason): entry.since
                                       for entry in self._ledger.timetable.parked().values() if ours(entry.shop)}  # fmt: skip
        covered = self._coverage(now)
        with self._lock:
            self._unverifiable = {key: found for key, found in self._unverifiable.items() if ours(key[0])}
            self._streaks = {key: number for key, number in self._streaks.items() if ours(key[0])}
            self._show(metrics.RECONCILE_LAST_SUCCESS, succeeded)
            self._show(metrics.RECONCILE_OPEN, {(shop,): 0.0 for shop in reached})
            for shop, position in reached.items():
                # Asked at each scrape: while no pass ends it must grow by itself.
                metrics.RECONCILE_OPEN.labels(shop).set_function(partial(self._age, position / 1e6))
            self._show(metrics.RECONCILE_PARKED, parked)
            self._show(metrics.RECONCILE_UNVERIFIABLE, {(reason,): number for reason, number in
                                                        sum(self._unverifiable.values(), Counter[str]()).items()})  # fmt: skip
            worst: dict[Labels, float] = {}
            for (_, family), number in self._streaks.items():
                label = (FAMILIES[family].update,)
                worst[label] = max(worst.get(label, 0), number)
            self._show(metrics.RECONCILE_MISSING_PASSES, worst)
            if covered is not None:
                self._show(metrics.RECONCILE_COVERAGE, covered)

    def _age(self, moment: float) -> float:
        return max(0.0, self._clock() - moment)

    def _coverage(self, now: float) -> dict[Labels, float] | None:
        with self._lock:
            if now - self._looked < _LOOK:
                return None
            self._looked = now
        found = self._ledger.reports.coverage(now - _LATELY)
        shares = {name: reckoning.share(*sums) for name, sums in found.items() if name in FAMILIES}
        return {(FAMILIES[name].update,): part for name, part in shares.items() if part is not None}

    def _show(self, gauge: Gauge, values: Mapping[Labels, float]) -> None:
        # Clearing it first would let a scrape in between see nothing, and begin an alert's waiting time anew.
        for labels in self._shown.get(gauge, set()) - values.keys():
            gauge.remove(*labels)
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        self._shown[gauge] = set(values)


def _reason(report: Report, family: Family, topic: str) -> str:
    if report.reason in ("scope", protected.REASON):
        return report.reason
    return "no_list" if topic in family.unchecked else "horizon"
