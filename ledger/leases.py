"""Leases: one process at a time does a named thing, and a later holder can be told from an earlier one."""

from collections.abc import Sequence
from typing import Any

from hooktape.ledger.database import Database, Transaction

_TAKE = """
    INSERT INTO leases (name, owner, epoch, expires_at) VALUES (:name, :owner, 1, :until)
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at,
        epoch = leases.epoch + CASE WHEN leases.owner = excluded.owner AND leases.expires_at > :now THEN 0 ELSE 1 END
    WHERE leases.owner = excluded.owner OR leases.expires_at <= :now"""


class _HeldError(Exception):
    """Rolls back: one of several leases is another's."""

    def __init__(self, by: tuple[str, str]) -> None:
        super().__init__(by)
        self.by = by


class Leases:
    """A lease names its holder until a time. Each new holder gets a higher epoch: what a holder writes elsewhere can carry
    it, so that the late word of a former holder is known as such.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, owner: str, now: float, ttl: float) -> int | None:
        """The epoch when `owner` holds `name` until `now + ttl` seconds (again, if it did already); None: another does."""

        def work(t: Transaction) -> int | None:
            row = t.row(
                _TAKE + " RETURNING epoch",
                {"name": name, "owner": owner, "until": now + ttl, "now": now},
            )
            return None if row is None else int(row[0])

        return self._database.write(work)

    def renew(self, name: str, owner: str, now: float, ttl: float) -> bool:
        """Whether `owner` still held `name`; then it does until `now + ttl`."""
        return self._changed(
            "UPDATE leases SET expires_at = :until WHERE name = :name AND owner = :owner AND expires_at > :now",
            {"name": name, "owner": owner, "now": now, "until": now + ttl},
        )

    def acquire_all(self, names: Sequence[str], owner: str, now: float, ttl: float) -> tuple[str, str] | None:
        """All of `names` until `now + ttl`, or none: then (name, owner) of the first that another holds. In sorted order, so that two
        who want the same can't hold each other up. Asked again by their holder, it renews them."""

        def work(t: Transaction) -> tuple[str, str] | None:
            for name in sorted(names):
                row = t.row("SELECT owner FROM leases WHERE name = :name AND owner <> :owner AND expires_at > :now",
                            {"name": name, "owner": owner, "now": now})  # fmt: skip
                if row is None and not t.run(_TAKE, {"name": name, "owner": owner, "now": now, "until": now + ttl}):
                    row = t.row("SELECT owner FROM leases WHERE name = :name", {"name": name})
                if row is not None:
                    raise _HeldError((name, str(row[0])))
            return None

        try:
            return self._database.write(work)
        except _HeldError as held:
            return held.by

    def release(self, name: str, owner: str) -> bool:
        """Gives `name` up, so that another can have it at once; whether `owner` was the last to hold it."""
        return self._changed(
            "UPDATE leases SET expires_at = 0 WHERE name = :name AND owner = :owner", {"name": name, "owner": owner}
        )

    def release_all(self, names: Sequence[str], owner: str) -> int:
        """Gives up those of `names` that `owner` was the last to hold; how many."""
        return self._database.write(lambda t: t.run("UPDATE leases SET expires_at = 0 WHERE name IN :names AND owner = :owner",
                                                    {"names": list(names), "owner": owner}))  # fmt: skip

    def _changed(self, sql: str, params: dict[str, Any]) -> bool:
        return self._database.write(lambda t: t.run(sql, params)) == 1
