"""Bulk operations that the reconciler has begun: written down before they begin, so that a crash leaves none that nobody knows."""

from dataclasses import dataclass

from hooktape.ledger.database import Database


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """`gid` None: it was about to begin. `window` in microseconds: what it lists; `begun` epoch seconds."""

    shop: str
    family: str
    search: str
    gid: str | None
    window: tuple[int, int] | None
    begun: float


class Bulk:
    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, shop: str, family: str, search: str, window: tuple[int, int] | None, now: float) -> None:
        """Notes that an operation is about to begin; does nothing where it's noted already."""
        start, end = window or (None, None)
        self._database.write(lambda t: t.run(
            """INSERT INTO reconcile_bulk (shop, family, search, gid, window_start, window_end, begun)
               VALUES (:shop, :family, :search, NULL, :start, :end, :now) ON CONFLICT (shop, family, search) DO NOTHING""",
            {"shop": shop, "family": family, "search": search, "start": start, "end": end, "now": now}))  # fmt: skip

    def began(self, shop: str, family: str, search: str, gid: str) -> None:
        """It has begun, under this id."""
        self._database.write(lambda t: t.run(
            "UPDATE reconcile_bulk SET gid = :gid WHERE shop = :shop AND family = :family AND search = :search",
            {"shop": shop, "family": family, "search": search, "gid": gid}))  # fmt: skip

    def end(self, shop: str, family: str, search: str) -> None:
        """Forgets it: it's read to its end, or came to nothing."""
        self._database.write(lambda t: t.run(
            "DELETE FROM reconcile_bulk WHERE shop = :shop AND family = :family AND search = :search",
            {"shop": shop, "family": family, "search": search}))  # fmt: skip

    def open(self, shop: str, family: str | None = None) -> list[BulkOperation]:
        """Those that were begun, of the shop or of one family, and aren't read to their end; the oldest first."""
        rows = self._database.read(lambda t: t.rows(
            """SELECT shop, family, search, gid, window_start, window_end, begun FROM reconcile_bulk
               WHERE shop = :shop AND family = COALESCE(:family, family) ORDER BY begun, family, search""",
            {"shop": shop, "family": family}))  # fmt: skip
        return [BulkOperation(of, named, search, gid, None if start is None else (start, end), begun)
                for of, named, search, gid, start, end, begun in rows]

    def running(self) -> int:
        """How many have begun and aren't read to their end, over all shops."""
        return self._database.read(lambda t: int(t.rows("SELECT COUNT(*) FROM reconcile_bulk WHERE gid IS NOT NULL")[0][0]))
