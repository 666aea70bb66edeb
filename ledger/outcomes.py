"""A group's memory: who runs an event, and what became of it. The deduplication is here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hooktape.errors import LedgerError
from hooktape.ledger import failures, windows
from hooktape.ledger.claims import FAILED, Applied, Claim, Claimed, Finish, Row, State, Verdict, decide
from hooktape.ledger.database import Database, Raced, Transaction
from hooktape.ledger.failures import ErrorGroup, Failure
from hooktape.ledger.items import settle, settled
from hooktape.ledger.keys import EventKey
from hooktape.ledger.texts import clean
from hooktape.ledger.windows import Window

# A day away counts as the same event: see DESIGN §6.
_NEAR = (-1, 0, 1)
# As much of an error as a list shows; the whole of it is in the dead-letter record.
_MESSAGE_BYTES = 1024

_LOOK = "SELECT day, id, state, attempts, owner, generation, first_failed_at FROM outcomes WHERE day IN :days AND grp = :grp AND id IN :ids"
_INSERT = """
    INSERT INTO outcomes (day, grp, id, state, attempts, owner, generation, topic, updated_at)
    VALUES (:day, :grp, :id, :state, :attempts, :owner, :generation, :topic, :now)
    ON CONFLICT (day, grp, id) DO NOTHING"""
# What it had read must still stand, or the row was finished or taken by another in between.
_TAKE = """
    UPDATE outcomes SET state = :state, attempts = :attempts, owner = :owner, generation = :generation,
        first_failed_at = :first_failed_at, failed_at = NULL, updated_at = :now
    WHERE day = :day AND grp = :grp AND id = :id
        AND state = :seen_state AND owner = :seen_owner AND attempts = :seen_attempts AND generation = :seen_generation"""
_FINISH = """
    UPDATE outcomes SET state = :state, attempts = :attempts, updated_at = :now
    WHERE day = :day AND grp = :grp AND id = :id AND state = 0 AND owner = :owner"""
_FAIL = """
    UPDATE outcomes SET state = :state, attempts = :attempts, updated_at = :now, failed_at = :now,
        first_failed_at = COALESCE(first_failed_at, :now), shop = :shop,
        error_type = :error_type, error_group = :error_group, error_message = :error_message
    WHERE day = :day AND grp = :grp AND id = :id AND state = 0 AND owner = :owner"""
_APPLY = """
    INSERT INTO applied (grp, handler, shop, resource, version) VALUES (:grp, :handler, :shop, :resource, :version)
    ON CONFLICT (grp, handler, shop, resource) DO UPDATE SET version = excluded.version
    WHERE excluded.version > applied.version"""


class Outcomes:
    """Claims and finishes are atomic over all processes; batches of up to some hundreds cost a few statements each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heartbeat(self, group: str, owner: str, now: float, lease: float) -> None:
        """Says that `owner` (a name no other worker ever had) lives until `now + lease` seconds.

        To be called before its first claim and about every third of the lease; clocks of the machines must agree to
        within another third. A claim by a live owner renews the lease too.
        """
        def work(t: Transaction) -> None:
            t.run("""INSERT INTO owners (grp, owner, lease, alive_until) VALUES (:grp, :owner, :lease, :until)
                     ON CONFLICT (grp, owner) DO UPDATE SET lease = excluded.lease, alive_until = excluded.alive_until""",
                  {"grp": group, "owner": owner, "lease": lease, "until": now + lease})  # fmt: skip

        self._database.write(work, durable=False)

    def release(self, group: str, owner: str) -> None:
        """Says that `owner` is gone: what it was running may be claimed at once."""
        self._database.write(lambda t: t.run("DELETE FROM owners WHERE grp = :grp AND owner = :owner",
                                             {"grp": group, "owner": owner}))  # fmt: skip

    def claim(self, group: str, owner: str, claims: Sequence[Claim], now: float) -> list[Claimed]:
        """Asks for events to run; one answer for each claim, in order (see `Verdict` and `claims.decide`).

        Of two copies claimed at the same instant, in one batch or by two processes, exactly one gets RUN. Atomic, but
        not on disk when it returns: after a power cut the event is simply claimable again. Raises LedgerError when
        `owner` never sent a heartbeat.
        """
        ...

    def finish(self, group: str, owner: str, finishes: Sequence[Finish], now: float) -> list[bool]:
        """Records how runs ended; on disk when it returns. False: `owner` had lost the event to another, nothing is recorded.

        Sending the same finish again (after LedgerUnavailable) is answered True. Where a finish's generation is a job's,
        the job's item gets its outcome in the same transaction.
        """
        ...

    def note_skips(self, group: str, skips: Sequence[tuple[str, EventKey, str, str]]) -> None:
        """For replayed records that weren't run: (generation, key, outcome, reason). An item's first outcome stays."""

    def states(self, group: str, keys: Sequence[EventKey]) -> dict[EventKey, State]:
        """The state of those events that the group has met."""
        ...

    def applied(self, group: str, handler: str, resources: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """(shop, resource) → highest version that the handler applied (microseconds), for those that it has."""
        ...

    def failures(self, group: str) -> dict[str, dict[State, int]]:
        """Shopify topic → how many events are WAITING and DEAD."""
        ...

    def dead(self, group: str, *, topic: str | None = None, shop: str | None = None, error_group: str | None = None,
             since: float | None = None, limit: int = 100) -> list[Failure]:  # fmt: skip
        """Dead events, the latest first. `since`: died at or after (epoch seconds)."""
        ...

    def error_groups(self, group: str) -> list[ErrorGroup]:
        """Dead events by cause, the most frequent first."""
        ...

    def discard(self, group: str, keys: Sequence[EventKey], who: str, reason: str, now: float) -> list[EventKey]:
        """Gives up dead events for good and writes so in the audit trail; the keys that were dead."""
        ...

    def add_reprocess(self, group: str, generation: str, ranges: Sequence[tuple[str, int, int, int]]) -> None:
        """Marks offset ranges (Kafka topic, partition, from, to; `to` excluded) to be run again, done or not.

        The worker claims what lies in them with `forced=True, generation=generation`.
        """

    def reprocess(self, group: str) -> list[Window]:
        """The marked ranges, the newest mark last."""
        ...
