"""The audit trail: who did what to which, and why. Rows are only ever added."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.texts import clean


@dataclass(frozen=True, slots=True)
class Entry:
    """One deed. `at` is epoch seconds; `detail` is whatever the deed is about, as JSON values."""

    seq: int
    at: float
    who: str
    action: str
    target: str
    reason: str
    detail: dict[str, Any]


class Audit:
    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, now: float, who: str, action: str, target: str, reason: str,
               detail: Mapping[str, Any] | None = None) -> None:  # fmt: skip
        """Adds a deed, on disk when it returns."""
        self._database.write(lambda t: append(t, now, who, action, target, reason, detail or {}))

    def of(self, target: str, limit: int = 100) -> list[Entry]:
        """What was done to one target, the latest first."""
        rows = self._database.read(lambda t: t.rows(
            "SELECT seq, at, who, action, target, reason, detail FROM audit WHERE target = :target ORDER BY seq DESC LIMIT :limit",
            {"target": target, "limit": limit}))  # fmt: skip
        return [Entry(seq, at, who, action, target, reason, json.loads(detail)) for seq, at, who, action, target, reason, detail in rows]

    def list(self, limit: int = 100, *, before: int | None = None) -> list[Entry]:
        """The latest first; `before` a page's last `seq` gives the next page."""
        rows = self._database.read(lambda t: t.rows(
            f"""SELECT seq, at, who, action, target, reason, detail FROM audit
                {"" if before is None else "WHERE seq < :before"} ORDER BY seq DESC LIMIT :limit""",
            {"limit": limit, "before": before}))  # fmt: skip
        return [Entry(seq, at, who, action, target, reason, json.loads(detail))
                for seq, at, who, action, target, reason, detail in rows]


def append(t: Transaction, now: float, who: str, action: str, target: str, reason: str, detail: Mapping[str, Any]) -> None:
    """The same within a transaction of another part."""
    t.run(
        "INSERT INTO audit (at, who, action, target, reason, detail) VALUES (:at, :who, :action, :target, :reason, :detail)",
        {"at": now, "who": clean(who), "action": action, "target": clean(target), "reason": clean(reason),
         "detail": json.dumps(detail, sort_keys=True)},
    )  # fmt: skip
