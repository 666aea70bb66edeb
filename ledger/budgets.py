"""Budgets that all processes share: one token bucket per scope (a shop's Admin API), and what cools after a `Retry-After`.

Nothing here sleeps: whoever takes tokens is told how long to wait. Writes aren't durable: a bucket that a power cut set back by a
moment is corrected by the next `report`.

Whose clock? On PostgreSQL the database's, read when the bucket is locked: the machines' clocks may differ by any amount, and of two
workers a minute apart each would see a minute's tokens come back that the other had spent. What goes out are durations, which
each worker counts by its own monotonic clock. On SQLite all processes are on one machine and share its clock. Where a
clock is set back, nothing comes back until it has caught up, an hour at most: fewer tokens, never more.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hooktape.ledger.bucket import Bucket, Grant
from hooktape.ledger.database import Database, Transaction

# Cooling that ended this long ago is forgotten, in seconds.
_FORGET = 60.0
# No pause is as long, in seconds. What lies further ahead was written by a clock that has been set back since.
_LONGEST = 3600.0


def admin_scope(shop: str) -> str:
    """The bucket of a shop's GraphQL Admin API: the same for handlers of every group and for the reconciler."""
    return f"admin/{shop}"


@dataclass(frozen=True, slots=True)
class Want:
    """`tokens` to take from a scope's bucket, after `back` tokens that were taken before and not needed have been put back.

    Fewer than `least` would be of no use (`Bucket.take`).
    """

    scope: str
    tokens: float
    back: float = 0.0
    least: float = 0.0


@dataclass(frozen=True, slots=True)
class Status:
    """What the other side said of its bucket (Shopify's `throttleStatus`)."""

    scope: str
    available: float
    rate: float
    size: float


@dataclass(frozen=True, slots=True)
class Cooling:
    """Nothing of a group's handler starts for `seconds`: of one shop, or where `shop` is empty, of none."""

    handler: str
    shop: str
    seconds: float


class Budgets:
    """`now` (epoch seconds) stands in for the clock in tests; None is the clock that all processes share."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, wants: Sequence[Want], within: float, now: float | None = None) -> list[Grant]:
        """Promises tokens, in the order of `wants`: what can be had `within` seconds. A scope that's new gets a full bucket of
        Shopify's smallest plan."""

        def work(t: Transaction) -> list[Grant]:
            buckets, moment = self._locked(t, [want.scope for want in wants], now)
            grants = []
            for want in wants:
                bucket = buckets[want.scope]
                if want.back:
                    bucket = bucket.settle(want.back, moment)
                buckets[want.scope], grant = bucket.take(want.tokens, moment, within, want.least)
                grants.append(grant)
            _write(t, buckets)
            return grants

        return self._database.write(work, durable=False) if wants else []

    def report(self, statuses: Sequence[Status], now: float | None = None) -> None:
        """Takes over what the other side said of its buckets. Several of one scope: in the order in which they were said."""

        def work(t: Transaction) -> None:
            buckets, moment = self._locked(t, [status.scope for status in statuses], now)
            for said in statuses:
                buckets[said.scope] = buckets[said.scope].report(said.available, said.rate, said.size, moment)
            _write(t, buckets)

        if statuses:
            self._database.write(work, durable=False)

    def drain(self, scope: str, seconds: float, now: float | None = None) -> None:
        """The other side refused for want of tokens: the bucket is empty and stays so for `seconds`."""

        def work(t: Transaction) -> None:
            buckets, moment = self._locked(t, [scope], now)
            _write(t, {scope: buckets[scope].drain(seconds, moment)})

        self._database.write(work, durable=False)

    def cool(self, group: str, coolings: Sequence[Cooling], now: float | None = None) -> None:
        """Tells all workers of a group what cools. The longer of two coolings stands."""

        def work(t: Transaction) -> None:
            moment = self._now(t, now)
            t.run("DELETE FROM cooling WHERE grp = :grp AND (until < :then OR until > :never)",
                  {"grp": group, "then": moment - _FORGET, "never": moment + _LONGEST})  # fmt: skip
            # In one order everywhere, so that two transactions can't wait for each other.
            t.many(
                """INSERT INTO cooling (grp, handler, shop, until) VALUES (:grp, :handler, :shop, :until)
                   ON CONFLICT (grp, handler, shop) DO UPDATE SET until = excluded.until
                   WHERE cooling.until < excluded.until""",
                [{"grp": group, "handler": c.handler, "shop": c.shop, "until": moment + c.seconds}
                 for c in sorted(coolings, key=lambda c: (c.handler, c.shop))],
            )  # fmt: skip

        if coolings:
            self._database.write(work, durable=False)

    def cooling(self, group: str, now: float | None = None) -> list[Cooling]:
        """What cools now, with the seconds that are left."""

        def work(t: Transaction) -> list[Cooling]:
            moment = self._now(t, now)
            return [Cooling(handler, shop, until - moment) for handler, shop, until in t.rows(
                "SELECT handler, shop, until FROM cooling WHERE grp = :grp AND until > :now AND until <= :never",
                {"grp": group, "now": moment, "never": moment + _LONGEST})]  # fmt: skip

        return self._database.read(work)

    def buckets(self, scopes: Sequence[str]) -> dict[str, Bucket]:
        """The buckets of scopes that have one."""
        return self._database.read(lambda t: _read(t, scopes))

    def _locked(self, t: Transaction, scopes: Sequence[str], now: float | None) -> tuple[dict[str, Bucket], float]:
        """The buckets, made where there are none, and nobody else's until the transaction ends; and the time."""
        new = Bucket.full()
        t.many(
            """INSERT INTO budgets (scope, level, at, size, rate) VALUES (:scope, :level, :at, :size, :rate)
               ON CONFLICT (scope) DO UPDATE SET rate = budgets.rate""",
            # In one order everywhere, so that two transactions can't wait for each other.
            [{"scope": scope, "level": new.level, "at": new.at, "size": new.size, "rate": new.rate} for scope in sorted(set(scopes))],
        )
        moment = self._now(t, now)
        return {scope: replace(bucket, at=moment) if bucket.at > moment + _LONGEST else bucket
                for scope, bucket in _read(t, scopes).items()}, moment  # fmt: skip

    def _now(self, t: Transaction, now: float | None) -> float:
        if now is not None:
            return now
        if self._database.dialect == "sqlite":
            return time.time()
        # Not now(): that's when the transaction began, before it waited for the lock.
        row = t.row("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)")
        assert row is not None
        return float(row[0])


def _read(t: Transaction, scopes: Sequence[str]) -> dict[str, Bucket]:
    if not scopes:
        return {}
    rows = t.rows("SELECT scope, level, at, size, rate FROM budgets WHERE scope IN :scopes", {"scopes": tuple(dict.fromkeys(scopes))})
    return {scope: Bucket(*values) for scope, *values in rows}


def _write(t: Transaction, buckets: dict[str, Bucket]) -> None:
    t.many(
        "UPDATE budgets SET level = :level, at = :at, size = :size, rate = :rate WHERE scope = :scope",
        [{"scope": scope, "level": b.level, "at": b.at, "size": b.size, "rate": b.rate} for scope, b in buckets.items()],
    )
