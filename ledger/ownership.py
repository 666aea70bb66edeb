"""Who runs a group's partitions: one worker for each partition number, under an epoch that grows with every hand-over.

    free ──take──▶ owned by A, epoch n ──give_up, release, or A's lease runs out──▶ free ──take──▶ owned by B, epoch n+1

A partition number stands for all of the group's partitions with it: those of the log topics, of the retry topics and of
the replay lane, which are co-partitioned. Kafka's group assigns them to one worker; the ledger's word makes that strict. A worker
starts nothing before it owns the number here, and what it has done is recorded only while it still does (`Finish.epoch`): so
an owner whose handler outlives a rebalance, or that was frozen and wakes up, can neither run beside the next one nor
overwrite what the next one recorded. This is the fencing token of Kleppmann's "How to do distributed locking" (2016).

It costs some statements per hand-over and one per batch; marking each event as running cost a write per event.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from hooktape.ledger.database import Database, Transaction

# A worker that died without a word is of no interest after a day: its lease was seconds.
_FORGOTTEN_SECONDS = 86_400.0
# No lease has its length and an hour to run, but one that a clock wrote which has been set back since: were it believed, a worker that died
# with its clock a day ahead would hold its partitions for a day. Not less: nothing is taken from one that lives, for clocks that are apart.
_ALIVE = "alive_until > :now AND alive_until <= :now + lease + 3600"


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to `take`: partition → epoch for those that are the asker's now, and → the live owner for the others."""

    epochs: dict[int, int] = field(default_factory=dict)
    held: dict[int, str] = field(default_factory=dict)


class Ownership:
    """Atomic over all processes. Owners are names that no other worker ever had."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heartbeat(self, group: str, owner: str, now: float, lease: float) -> dict[int, int]:
        """Says that `owner` lives until `now + lease` seconds; the partitions that are still its own, with their epochs.

        To be called before it takes its first partition and about every third of the lease; clocks of the machines must
        agree to within another third.
        """

        def work(t: Transaction) -> dict[int, int]:
            t.run("""INSERT INTO owners (grp, owner, lease, alive_until) VALUES (:grp, :owner, :lease, :until)
                     ON CONFLICT (grp, owner) DO UPDATE SET lease = excluded.lease, alive_until = excluded.alive_until""",
                  {"grp": group, "owner": owner, "lease": lease, "until": now + lease})  # fmt: skip
            t.run("DELETE FROM owners WHERE grp = :grp AND alive_until < :old", {"grp": group, "old": now - _FORGOTTEN_SECONDS})
            # Locked: of a renewal and a take-over at once, whichever comes second sees the first. Both would believe that they own it.
            return owned(t, group, owner, locked=True)

        return self._database.write(work, durable=False)

    def take(self, group: str, owner: str, partitions: Collection[int], now: float) -> Taken:
        """Takes what is free: never owned, given up, or its owner's lease has run out. What is `owner`'s already stays so."""

        def work(t: Transaction) -> Taken:
            taken = Taken()
            for partition in sorted(partitions):
                values = {"grp": group, "part": partition, "owner": owner}
                t.run("""INSERT INTO ownership (grp, part, owner, epoch) VALUES (:grp, :part, '', 0)
                         ON CONFLICT (grp, part) DO NOTHING""", values)  # fmt: skip
                # The update locks the row before it is looked at: of two that ask at once, the second sees the first.
                t.run("UPDATE ownership SET epoch = epoch WHERE grp = :grp AND part = :part", values)
                found = t.row("SELECT owner, epoch FROM ownership WHERE grp = :grp AND part = :part", values)
                assert found is not None
                holder, epoch = found
                if holder == owner:
                    taken.epochs[partition] = epoch
                elif holder and t.row(f"SELECT 1 FROM owners WHERE grp = :grp AND owner = :holder AND {_ALIVE}",
                                      {"grp": group, "holder": holder, "now": now}):  # fmt: skip
                    taken.held[partition] = holder
                else:
                    t.run("UPDATE ownership SET owner = :owner, epoch = epoch + 1 WHERE grp = :grp AND part = :part", values)
                    taken.epochs[partition] = epoch + 1
            return taken

        return self._database.write(work)

    def give_up(self, group: str, owner: str, partitions: Collection[int]) -> None:
        """Frees partitions of `owner`; those of others stay as they are."""
        self._database.write(lambda t: t.run(
            "UPDATE ownership SET owner = '' WHERE grp = :grp AND owner = :owner AND part IN :parts",
            {"grp": group, "owner": owner, "parts": list(partitions)}))  # fmt: skip

    def release(self, group: str, owner: str) -> None:
        """Says that `owner` is gone: what it owned is free at once."""

        def work(t: Transaction) -> None:
            t.run("UPDATE ownership SET owner = '' WHERE grp = :grp AND owner = :owner", {"grp": group, "owner": owner})
            t.run("DELETE FROM owners WHERE grp = :grp AND owner = :owner", {"grp": group, "owner": owner})

        self._database.write(work)

    def owners(self, group: str) -> dict[int, tuple[str, int]]:
        """Partition → (owner, epoch), for those that have an owner, alive or not."""
        return self._database.read(lambda t: {part: (owner, epoch) for part, owner, epoch in t.rows(
            "SELECT part, owner, epoch FROM ownership WHERE grp = :grp AND owner <> ''", {"grp": group})})  # fmt: skip

    def living(self, group: str, now: float) -> dict[str, float]:
        """Owner → the seconds that its lease still runs, for those whose lease does."""
        return self._database.read(lambda t: {owner: until - now for owner, until in t.rows(
            f"SELECT owner, alive_until FROM owners WHERE grp = :grp AND {_ALIVE}", {"grp": group, "now": now})})  # fmt: skip


def owned(t: Transaction, group: str, owner: str, locked: bool = False) -> dict[int, int]:
    """Partition → epoch of what `owner` owns. `locked`: nobody can take it before this transaction has ended."""
    suffix = t.share_lock if locked else ""
    return dict(t.rows(f"SELECT part, epoch FROM ownership WHERE grp = :grp AND owner = :owner{suffix}",
                       {"grp": group, "owner": owner}))  # fmt: skip
