"""Flood breakers: what the workers' breakers say, and what operators say to them.

Each worker reports what is open in it, a row for each cause; all of a group's workers obey the operator's word on a topic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hooktape.ledger.audit import append
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.texts import clean

# Workers repeat their reports every 5 s. What hasn't been repeated for so long comes from a dead one, or one without a ledger.
STALE_SECONDS = 30.0
# As much as tells a cause; the dead letters hold the whole message.
_MESSAGE_BYTES = 300


@dataclass(frozen=True, slots=True)
class Report:
    """One cause that one worker has a topic open for. Times in epoch seconds; `probe_at` None: a probe runs.

    `failures` and `shops`: how many events failed with it, of how many shops; the error's type and message are an example's.
    """

    topic: str
    error_group: str
    state: str
    since: float
    probe_at: float | None
    failures: int
    shops: int
    error_type: str
    error_message: str


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's word on a topic: `open` holds it, `closed` lets it through; until then (epoch seconds; None: for good)."""

    topic: str
    state: str
    until: float | None
    who: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause that a topic is open for, over all workers. Numbers are sums, but for `shops`: the most that one worker saw."""

    error_group: str
    error_type: str
    error_message: str
    failures: int
    shops: int


@dataclass(frozen=True, slots=True)
class Status:
    """A topic of a group that is open in some worker, or that an operator has spoken on. `since` the first of them opened,
    `probe_at` the next probe is due, in epoch seconds; both None where no worker has it open."""

    group: str
    topic: str
    workers: int
    since: float | None = None
    probe_at: float | None = None
    causes: tuple[Cause, ...] = ()
    override: Override | None = None

    @property
    def open(self) -> bool:
        """Whether a breaker has opened by itself, and no operator lets the topic through."""
        return self.workers > 0 and (self.override is None or self.override.state != "closed")


class Breakers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def say(self, group: str, owner: str, reports: Sequence[Report], now: float) -> None:
        """Replaces what worker `owner` has said before; an empty list: all is closed. Not durable: it's repeated."""

        def work(t: Transaction) -> None:
            t.run("DELETE FROM breakers WHERE grp = :grp AND (owner = :owner OR updated_at < :stale)",
                  {"grp": group, "owner": owner, "stale": now - STALE_SECONDS})  # fmt: skip
            t.many(
                """INSERT INTO breakers (grp, topic, error_group, owner, state, since, probe_at, failures, shops, error_type,
                                         error_message, updated_at)
                   VALUES (:grp, :topic, :error_group, :owner, :state, :since, :probe_at, :failures, :shops, :type, :message, :now)""",
                [{"grp": group, "topic": clean(r.topic), "error_group": r.error_group, "owner": owner, "state": r.state,
                  "since": r.since, "probe_at": r.probe_at, "failures": r.failures, "shops": r.shops, "type": clean(r.error_type),
                  "message": clean(r.error_message, _MESSAGE_BYTES), "now": now} for r in reports],
            )  # fmt: skip

        self._database.write(work, durable=False)

    def overrides(self, group: str, now: float) -> dict[str, Override]:
        """Topic → the operator's word that is in force."""
        return self._database.read(lambda t: {o.topic: o for _, o in _overrides(t, group, now)})

    def set_override(self, group: str, topic: str, state: str | None, until: float | None, *, who: str, reason: str,
                     now: float) -> bool:  # fmt: skip
        """Sets the operator's word (`open`, `closed`, or None for none), with its line in the audit trail.

        Whether anything was there to take away, when `state` is None; otherwise True. Nothing is audited where nothing changed.
        """

        def work(t: Transaction) -> bool:
            gone = t.run("DELETE FROM breaker_overrides WHERE grp = :grp AND topic = :topic", {"grp": group, "topic": topic})
            if state is None and not gone:
                return False
            if state is not None:
                t.run("""INSERT INTO breaker_overrides (grp, topic, state, until_at, who, reason, at)
                         VALUES (:grp, :topic, :state, :until, :who, :reason, :now)""",
                      {"grp": group, "topic": topic, "state": state, "until": until, "who": clean(who), "reason": clean(reason),
                       "now": now})  # fmt: skip
            append(t, now, who, f"breaker {state or 'auto'}", f"{group} {topic}", reason, {"until": until})
            return True

        return self._database.write(work)

    def list(self, now: float, group: str | None = None) -> list[Status]:
        """Every topic that is open somewhere, or under an operator's word; of `group`, or of all."""

        def work(t: Transaction) -> tuple[dict[tuple[str, str], Override], list[tuple[Any, ...]]]:
            overrides = {(of, o.topic): o for of, o in _overrides(t, group, now)}
            return overrides, t.rows(
                f"""SELECT grp, topic, error_group, owner, since, probe_at, failures, shops, error_type, error_message FROM breakers
                    WHERE updated_at >= :live{"" if group is None else " AND grp = :grp"} ORDER BY grp, topic, error_group, owner""",
                {"live": now - STALE_SECONDS, "grp": group})  # fmt: skip

        overrides, rows = self._database.read(work)
        found: dict[tuple[str, str], list[_Row]] = {}
        for of, topic, *rest in rows:
            found.setdefault((of, topic), []).append(_Row(*rest))
        return [_status(*place, found.get(place, []), overrides.get(place)) for place in sorted(found.keys() | overrides.keys())]


@dataclass(frozen=True, slots=True)
class _Row:
    error_group: str
    owner: str
    since: float
    probe_at: float | None
    failures: int
    shops: int
    error_type: str
    error_message: str


def _status(group: str, topic: str, rows: Sequence[_Row], override: Override | None) -> Status:
    causes: dict[str, Cause] = {}
    for row in rows:
        known = causes.get(row.error_group)
        causes[row.error_group] = Cause(row.error_group, row.error_type, row.error_message,
                                        row.failures + (known.failures if known else 0),
                                        max(row.shops, known.shops if known else 0))  # fmt: skip
    return Status(group, topic, len({row.owner for row in rows}), min((row.since for row in rows), default=None),
                  min((row.probe_at for row in rows if row.probe_at is not None), default=None),
                  tuple(sorted(causes.values(), key=lambda cause: -cause.failures)), override)  # fmt: skip


def _overrides(t: Transaction, group: str | None, now: float) -> list[tuple[str, Override]]:
    return [(of, Override(*rest)) for of, *rest in t.rows(
        f"""SELECT grp, topic, state, until_at, who, reason, at FROM breaker_overrides
            WHERE (until_at IS NULL OR until_at > :now){"" if group is None else " AND grp = :grp"} ORDER BY grp, topic""",
        {"now": now, "grp": group})]  # fmt: skip
