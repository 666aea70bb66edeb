"""What the subscription doctor finds, since when, and what it has heard on the tape."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.texts import clean


@dataclass(frozen=True, slots=True)
class Found:
    """A finding: the same one from look to look by its shop, problem and subject. Times in epoch seconds."""

    shop: str
    problem: str
    subject: str
    severity: str
    what: str
    remedy: str
    first_seen: float = 0.0
    last_seen: float = 0.0


@dataclass(frozen=True, slots=True)
class Heard:
    """The newest webhook of a shop's topic, and the synthetic events since. Times in microseconds; `triggered_at` 0: none was heard."""

    shop: str
    topic: str
    triggered_at: int
    version: str
    lacks: tuple[str, ...]
    recorded: int
    recorded_at: int


@dataclass(frozen=True, slots=True)
class Tape:
    """How far the tape was read: `marks`: "Kafka topic/partition" → next offset. `outages`: (since, until) in microseconds."""

    seq: int = 0
    marks: Mapping[str, int] = field(default_factory=dict)
    outages: tuple[tuple[int, int], ...] = ()


_FOUND = "shop, problem, subject, severity, what, remedy, first_seen, last_seen"
_HEARD = "shop, topic, triggered_at, version, lacks, recorded, recorded_at"


class Doctor:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, shop: str, findings: Sequence[Found], now: float, keep: Collection[str] = ()) -> tuple[list[Found], list[Found]]:
        """Notes a look at a shop: what it found keeps the time when it was first seen, and what it didn't find is forgotten, but for
        problems in `keep`, which it couldn't judge. What stands now; what is over."""

        def work(t: Transaction) -> tuple[list[Found], list[Found]]:
            before = _of(t, shop)
            there = {(one.problem, one.subject) for one in findings}
            over = [one for one in before if (one.problem, one.subject) not in there and one.problem not in keep]
            t.many("DELETE FROM doctor_findings WHERE shop = :shop AND problem = :problem AND subject = :subject",
                   [{"shop": shop, "problem": one.problem, "subject": one.subject} for one in over])  # fmt: skip
            t.many(f"""INSERT INTO doctor_findings ({_FOUND})
                       VALUES (:shop, :problem, :subject, :severity, :what, :remedy, :now, :now)
                       ON CONFLICT (shop, problem, subject) DO UPDATE SET severity = excluded.severity, what = excluded.what,
                           remedy = excluded.remedy, last_seen = excluded.last_seen""",
                   [{"shop": shop, "problem": one.problem, "subject": clean(one.subject), "severity": one.severity,
                     "what": clean(one.what), "remedy": clean(one.remedy), "now": now} for one in findings])  # fmt: skip
            t.run("""INSERT INTO doctor_looks (shop, looked_at) VALUES (:shop, :now)
                     ON CONFLICT (shop) DO UPDATE SET looked_at = excluded.looked_at""", {"shop": shop, "now": now})  # fmt: skip
            return _of(t, shop), over

        return self._database.write(work)

    def findings(self, shop: str | None = None) -> list[Found]:
        """What stands, by shop, the longest first."""
        return self._database.read(lambda t: _of(t, shop))

    def looked(self) -> dict[str, float]:
        """Shop → when the doctor last looked at it (epoch seconds)."""
        return dict(self._database.read(lambda t: t.rows("SELECT shop, looked_at FROM doctor_looks")))

    def tape(self) -> Tape:
        """How far the tape was read; from nowhere before the first reading."""
        row = self._database.read(lambda t: t.row("SELECT seq, marks, outages FROM doctor_tape"))
        return Tape() if row is None else Tape(row[0], json.loads(row[1]), tuple((since, until) for since, until in json.loads(row[2])))

    def heard(self, shop: str | None = None) -> list[Heard]:
        """What was heard of a shop's topics; of all shops."""
        rows = self._database.read(lambda t: t.rows(
            f"SELECT {_HEARD} FROM doctor_heard {'' if shop is None else 'WHERE shop = :shop'} ORDER BY shop, topic", {"shop": shop}))
        return [Heard(of, topic, at, version, tuple(json.loads(lacks)), recorded, since)
                for of, topic, at, version, lacks, recorded, since in rows]  # fmt: skip

    def forgive(self, shop: str, topics: Collection[str]) -> None:
        """Forgets what was recorded of these topics since their last webhook: their subscriptions are new."""
        self._database.write(lambda t: t.many(
            "UPDATE doctor_heard SET recorded = 0, recorded_at = 0 WHERE shop = :shop AND topic = :topic",
            [{"shop": shop, "topic": topic} for topic in sorted(topics)]))  # fmt: skip

    def hear(self, tape: Tape, heard: Sequence[Heard]) -> bool:
        """Notes a reading that began at `tape.seq`; False when another was noted meanwhile, and this one is to be thrown away."""

        def work(t: Transaction) -> bool:
            t.run("INSERT INTO doctor_tape (one, seq, marks, outages) VALUES (1, 0, '{}', '[]') ON CONFLICT (one) DO NOTHING")
            if not t.run("UPDATE doctor_tape SET seq = seq + 1, marks = :marks, outages = :outages WHERE seq = :seq",
                         {"seq": tape.seq, "marks": json.dumps(dict(tape.marks)), "outages": json.dumps(tape.outages)}):  # fmt: skip
                return False
            t.many(f"""INSERT INTO doctor_heard ({_HEARD}) VALUES (:{_HEARD.replace(", ", ", :")})
                       ON CONFLICT (shop, topic) DO UPDATE SET triggered_at = excluded.triggered_at, version = excluded.version,
                           lacks = excluded.lacks, recorded = excluded.recorded, recorded_at = excluded.recorded_at""",
                   [{"shop": one.shop, "topic": one.topic, "triggered_at": one.triggered_at, "version": clean(one.version),
                     "lacks": json.dumps(one.lacks), "recorded": one.recorded, "recorded_at": one.recorded_at}
                    for one in heard])  # fmt: skip
            return True

        return self._database.write(work)


def _of(t: Transaction, shop: str | None) -> list[Found]:
    return [Found(*row) for row in t.rows(
        f"""SELECT {_FOUND} FROM doctor_findings {'' if shop is None else 'WHERE shop = :shop'}
            ORDER BY shop, first_seen, problem, subject""", {"shop": shop})]  # fmt: skip
