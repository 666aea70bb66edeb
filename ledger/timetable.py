"""When the reconciler's passes are due, kept so that a restart neither repeats nor skips one; and the shops whose API is closed."""

from collections.abc import Mapping
from dataclasses import dataclass

from hooktape.ledger.database import Database, Transaction


@dataclass(frozen=True, slots=True)
class Parked:
    """A shop whose API is closed, why and since when, and when it is tried again. Epoch seconds."""

    shop: str
    reason: str
    since: float
    probe_at: float


class Timetable:
    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, shop: str = "") -> dict[tuple[str, str], float]:
        """(shop, pass) → when it's due (epoch seconds); of one shop, or of all."""
        rows = self._database.read(lambda t: t.rows(
            f"SELECT shop, pass, due FROM reconcile_due {'WHERE shop = :shop' if shop else ''}", {"shop": shop}))  # fmt: skip
        return {(of, name): due for of, name, due in rows}

    def due_by(self, now: float) -> tuple[dict[tuple[str, str], float], float | None]:
        """What is due by now, and when something else will be (None: nothing)."""

        def work(t: Transaction) -> tuple[dict[tuple[str, str], float], float | None]:
            rows = t.rows("SELECT shop, pass, due FROM reconcile_due WHERE due <= :now", {"now": now})
            following = t.row("SELECT MIN(due) FROM reconcile_due WHERE due > :now", {"now": now})
            return {(shop, name): due for shop, name, due in rows}, following[0] if following else None

        return self._database.read(work)

    def begin(self, dues: Mapping[tuple[str, str], float], latest: Mapping[str, float]) -> None:
        """Sets when passes are first due, of those that have no time yet, or one that's later than the `latest` of its kind."""
        self._put(dues, "UPDATE SET due = excluded.due WHERE reconcile_due.due > :latest", latest)

    def set(self, dues: Mapping[tuple[str, str], float]) -> None:
        """Sets when passes are next due."""
        self._put(dues, "UPDATE SET due = excluded.due")

    def _put(self, dues: Mapping[tuple[str, str], float], otherwise: str, latest: Mapping[str, float] | None = None) -> None:
        if dues:
            self._database.write(lambda t: t.many(
                f"""INSERT INTO reconcile_due (shop, pass, due) VALUES (:shop, :pass, :due)
                    ON CONFLICT (shop, pass) DO {otherwise}""",
                [{"shop": shop, "pass": name, "due": due, "latest": (latest or {}).get(name)}
                 for (shop, name), due in sorted(dues.items())]))  # fmt: skip

    def parked(self) -> dict[str, Parked]:
        """The shops whose API is closed, by name."""
        rows = self._database.read(lambda t: t.rows("SELECT shop, reason, since, probe_at FROM reconcile_parked"))
        return {row[0]: Parked(*row) for row in rows}

    def park(self, shop: str, reason: str, now: float, probe_at: float) -> None:
        """Its API is closed; since when stays as it was first noted."""
        self._database.write(lambda t: t.run(
            """INSERT INTO reconcile_parked (shop, reason, since, probe_at) VALUES (:shop, :reason, :now, :probe_at)
               ON CONFLICT (shop) DO UPDATE SET reason = excluded.reason, probe_at = excluded.probe_at""",
            {"shop": shop, "reason": reason, "now": now, "probe_at": probe_at}))  # fmt: skip

    def unpark(self, shop: str) -> bool:
        """Its API is open; whether it was closed before."""
        return self._database.write(lambda t: t.run("DELETE FROM reconcile_parked WHERE shop = :shop", {"shop": shop})) == 1
