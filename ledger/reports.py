"""What the reconciler's latest passes found: kept for the report and the figures, and bounded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.reckoning import Kept, Tally

KEPT = 48
"""Passes of each kind over each family of each shop. Of fast ones every five minutes that is four hours, for as long as Shopify tries
to deliver a webhook; of daily look-backs more than the 30 days that the tape is kept; of weekly sweeps most of a year."""


class Reports:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, kept: Kept) -> None:
        """Keeps what a pass found, and forgets the oldest beyond `KEPT`."""
        values = {"now": kept.ended_at, "shop": kept.shop, "family": kept.family, "pass": kept.kind, "came": kept.tally.came,
                  "lacked": kept.tally.lacked, "report": json.dumps(_said(kept)), "kept": KEPT}  # fmt: skip

        def work(t: Transaction) -> None:
            t.run("""INSERT INTO reconcile_reports (ended_at, shop, family, pass, came, lacked, report)
                     VALUES (:now, :shop, :family, :pass, :came, :lacked, :report)""", values)  # fmt: skip
            t.run("""DELETE FROM reconcile_reports WHERE shop = :shop AND family = :family AND pass = :pass AND seq <= (
                         SELECT seq FROM reconcile_reports WHERE shop = :shop AND family = :family AND pass = :pass
                         ORDER BY seq DESC LIMIT 1 OFFSET :kept)""", values)  # fmt: skip

        self._database.write(work)

    def of(self, shop: str, family: str, kind: str | None = None, since: float | None = None, last: int | None = None) -> list[Kept]:
        """What is kept of a family of a shop, the oldest first: of a kind, ended at or after `since` (epoch seconds), the `last` so
        many."""
        rows = self._database.read(lambda t: t.rows(
            f"""SELECT seq, ended_at, shop, family, pass, report FROM reconcile_reports
                WHERE shop = :shop AND family = :family
                {"AND pass = :pass" if kind is not None else ""} {"AND ended_at >= :since" if since is not None else ""}
                ORDER BY seq DESC {"LIMIT :last" if last is not None else ""}""",
            {"shop": shop, "family": family, "pass": kind, "since": since, "last": last}))  # fmt: skip
        return [_read(row) for row in reversed(rows)]

    def latest(self, limit: int = 20) -> list[Kept]:
        """Over all shops, the latest first."""
        rows = self._database.read(lambda t: t.rows(
            "SELECT seq, ended_at, shop, family, pass, report FROM reconcile_reports ORDER BY seq DESC LIMIT :limit", {"limit": limit}))
        return [_read(row) for row in rows]

    def pairs(self, shops: Sequence[str] = (), families: Sequence[str] = (), after: tuple[str, str] | None = None,
              limit: int | None = None) -> list[tuple[str, str]]:  # fmt: skip
        """(shop, family) of which anything is kept, in order, after that one; of these `shops` and `families` (none named: of all)."""
        terms = ["1 = 1", *(["shop IN :shops"] if shops else []), *(["family IN :families"] if families else []),
                 *(["(shop > :shop OR (shop = :shop AND family > :family))"] if after else [])]  # fmt: skip
        shop, family = after or ("", "")
        values = {"shops": tuple(shops), "families": tuple(families), "shop": shop, "family": family, "limit": limit}
        rows = self._database.read(lambda t: t.rows(
            f"""SELECT DISTINCT shop, family FROM reconcile_reports WHERE {" AND ".join(terms)}
                ORDER BY shop, family {"LIMIT :limit" if limit is not None else ""}""", values))  # fmt: skip
        return [(of, named) for of, named in rows]

    def coverage(self, since: float) -> dict[str, tuple[int, int]]:
        """Family → changes whose webhook came, and those whose never did, over all shops' passes that ended since (epoch seconds)."""
        rows = self._database.read(lambda t: t.rows(
            """SELECT family, SUM(came), SUM(lacked) FROM reconcile_reports WHERE ended_at >= :since
               GROUP BY family HAVING SUM(came) + SUM(lacked) > 0""", {"since": since}))  # fmt: skip
        return {family: (int(came), int(lacked)) for family, came, lacked in rows}


def _said(kept: Kept) -> dict[str, Any]:
    """What the columns don't say, without what says nothing: most passes find little."""
    said = {**asdict(kept), "tally": {name: value for name, value in asdict(kept.tally).items() if value}}
    return {name: value for name, value in said.items() if (value or name == "counted") and value is not None and name not in _COLUMNS}


_COLUMNS = frozenset({"seq", "ended_at", "shop", "family", "kind"})


def _read(row: tuple[Any, ...]) -> Kept:
    seq, ended_at, shop, family, kind, report = row
    said: Mapping[str, Any] = json.loads(report)
    window = said.get("window")
    return Kept(ended_at, shop, family, kind, seq=seq, **{**said, "window": None if window is None else (window[0], window[1]),
                                                          "tally": Tally(**said.get("tally", {}))})  # fmt: skip
