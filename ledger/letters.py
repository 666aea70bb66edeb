"""An index of the groups' dead-letter topics: where each letter lies and what it tells, so that nobody scans a topic for it.

Kept by `hooktape catalog` from the topics alone, one row a record. What is dead is said by the outcomes, not by the letters: a
letter stays in its topic when its event was redriven and succeeded. So a list of dead events begins with the outcomes and takes
from here what they don't know: the place of the body, the webhook id, the redrives. An event whose letter retention has removed
is listed without a place, as far as the catalogue or its outcome still knows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hooktape.ledger.audit import append
from hooktape.ledger.catalogue import Entry, Proof
from hooktape.ledger.checks import State
from hooktape.ledger.database import Database, Transaction
from hooktape.ledger.keys import EventKey
from hooktape.ledger.positions import Overtaken, Place, move
from hooktape.ledger.search import STATUSES
from hooktape.ledger.selection import Clock, Selection
from hooktape.ledger.texts import clean
from hooktape.schemas.event import Coordinates

BEGINNING = 8
"""As many characters of a webhook id are enough to name it: of random ids, two in a million share them."""
_MESSAGE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, or a dead event whose letter is gone (`at` None). Times are epoch seconds.

    `entry` is the event as the catalogue would have it, at its place on the tape (whether retention has left it there or not);
    `entry.webhook_id` is "" where neither a letter nor the catalogue knows it any more. `at` is the letter's place in the
    dead-letter topic. `redrives` is the most that any retained letter of the event counts, `job_id` the replay or redrive
    that it died in ("": it died live).
    """

    group: str
    entry: Entry
    at: Coordinates | None
    died_at: float
    first_failed_at: float
    disposition: str
    redrives: int
    job_id: str = ""

    @property
    def key(self) -> EventKey:
        return EventKey(*self.entry.key)

    @property
    def origin(self) -> Coordinates:
        """Where the event lies on the tape, as far as that reaches back."""
        return Coordinates(self.entry.kafka_topic, self.entry.partition, self.entry.offset)


@dataclass(frozen=True, slots=True)
class Poison:
    """A record of a dead-letter topic that holds no event: it can be looked at, exported and discarded, and never redriven.

    `origin` is where it was met on the tape, or `at` itself where somebody wrote to the dead-letter topic. `why` says what's
    wrong with it. Times are epoch seconds; `discarded_at` is set once a person has given it up.
    """

    group: str
    at: Coordinates
    died_at: float
    origin: Coordinates
    why: str
    size: int
    discarded_at: float | None = None


class After(NamedTuple):
    """Where a page ended; `After.of(page[-1])` asks for the next."""

    moment: float
    id: bytes

    @classmethod
    def of(cls, letter: Letter) -> "After":
        return cls(letter.died_at, letter.key.id)


NEWEST = """NOT EXISTS (SELECT 1 FROM letters n WHERE n.grp = l.grp AND n.id = l.id
    AND (n.died_at, n.kafka_partition, n.kafka_offset) > (l.died_at, l.kafka_partition, l.kafka_offset))"""
_MOST = "(SELECT MAX(m.redrives) FROM letters m WHERE m.grp = l.grp AND m.id = l.id)"
_PLACE = "l.kafka_topic, l.kafka_partition, l.kafka_offset"
# A letter by itself, and an outcome with its letter or, where that is gone, with what the catalogue knows.
_ALONE = f"""l.day, l.id, {_PLACE}, l.died_at, l.first_failed_at, l.disposition, l.job_id, l.shop, l.topic, l.webhook_id,
    l.resource, l.root, l.version, l.triggered_at, l.received_at, l.source, l.origin_topic, l.origin_partition, l.origin_offset,
    l.size, NULL, l.attempts, l.error_type, l.error_group, l.error_message"""
_BOTH = f"""o.day, o.id, {_PLACE}, {{moment}}, o.first_failed_at, l.disposition, l.job_id, COALESCE(l.shop, e.shop, o.shop), o.topic,
    COALESCE(l.webhook_id, e.webhook_id), COALESCE(l.resource, e.resource), COALESCE(l.root, e.root), COALESCE(l.version, e.version),
    COALESCE(l.triggered_at, e.triggered_at), COALESCE(l.received_at, e.received_at), COALESCE(l.source, e.source),
    COALESCE(l.origin_topic, e.kafka_topic), COALESCE(l.origin_partition, e.kafka_partition),
    COALESCE(l.origin_offset, e.kafka_offset), COALESCE(l.size, e.size), o.state, o.attempts, o.error_type, o.error_group,
    o.error_message, {_MOST}"""
# The catalogue is asked only where no letter is left.
_OR_EVENT = "LEFT JOIN events e ON l.id IS NULL AND e.day = o.day AND e.id = o.id"
# What is dead is found by the outcomes' partial index, with its letter or without.
_OF_DEAD = f"outcomes o LEFT JOIN letters l ON l.grp = o.grp AND l.id = o.id AND {NEWEST} {_OR_EVENT}"
# What was dead is found by its letter. A copy's day may be the one beside (see `outcomes`).
_OF_LETTERS = f"letters l JOIN outcomes o ON o.grp = l.grp AND o.id = l.id AND o.day IN (l.day - 1, l.day, l.day + 1) {_OR_EVENT}"
_POISON = f"grp, {_PLACE}, died_at, origin_topic, origin_partition, origin_offset, error_message, size, discarded_at"


class Letters:
    """Every method takes a consumer group; places are in its dead-letter topic."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, letters: Sequence[Letter | Poison], positions: Mapping[Place, int], expected: Mapping[Place, int | None]) -> bool:
        """Adds what was read from dead-letter topics and moves the positions, both or neither. False: another was faster.

        As `Catalogue.record`, whose positions these are too. A place that's known already stays as it is, so that reading a topic
        again forgets nobody's discard.
        """
        rows = sorted((_values(letter) for letter in letters), key=_by_place)

        def work(t: Transaction) -> bool:
            move(t, positions, expected)
            t.many(_ADD, rows)
            return True

        try:
            return self._database.write(work)
        except Overtaken:
            return False

    def of(self, group: str, keys: Sequence[EventKey]) -> dict[EventKey, Letter]:
        """The last retained letter of each of these events, dead still or not; those that have none are left out.

        `redrives` is what a redrive's limit is about. `entry.status` is None: a letter doesn't know it.
        """
        if not keys:
            return {}
        rows = self._database.read(lambda t: t.rows(
            f"SELECT {_ALONE}, {_MOST} FROM letters l WHERE l.grp = :grp AND l.id IN :ids AND {NEWEST}",
            {"grp": group, "ids": sorted({key.id for key in keys})}))  # fmt: skip
        found = {letter.key.id: letter for letter in (_letter(group, row) for row in rows)}
        return {key: found[key.id] for key in keys if key.id in found}

    def all_of(self, group: str, id_: bytes) -> list[Letter]:
        """Every retained letter of the event with this key's `id`, the oldest first, each with the redrives that it counts."""
        return self._read(group, f"SELECT {_ALONE}, l.redrives FROM letters l WHERE l.grp = :grp AND l.id = :id "
                                 "ORDER BY l.died_at, l.kafka_partition, l.kafka_offset", {"id": id_})  # fmt: skip

    def named(self, group: str, webhook_id: str, shop: str | None = None) -> list[Letter]:
        """The last letters of the events with this webhook id, or that begin so where it has `BEGINNING` characters; a few of them."""
        wanted, terms = clean(webhook_id), "l.webhook_id = :wanted"
        if len(wanted) >= BEGINNING:
            terms = f"substr(l.webhook_id, 1, {len(wanted)}) = :wanted"
        if shop is not None:
            terms += " AND l.shop = :shop"
        return self._read(group, f"""SELECT {_ALONE}, {_MOST} FROM letters l WHERE l.grp = :grp
            AND substr(l.webhook_id, 1, {BEGINNING}) = :beginning AND {terms} AND {NEWEST} ORDER BY l.webhook_id, l.shop LIMIT 10""",
            {"wanted": wanted, "beginning": wanted[:BEGINNING], "shop": shop and clean(shop)})  # fmt: skip

    def find(self, group: str, selection: Selection, state: State = State.DEAD, *, after: After | None = None, limit: int = 100,
             newest_first: bool = False) -> list[Letter]:  # fmt: skip
        """A page of the selected events that are in `state` now, by when they died.

        All dead ones, whether a letter is left or not; in any other state (DISCARDED) those whose letter is retained.
        `selection.statuses` isn't looked at: `state` says it.
        """
        dead = state is State.DEAD
        moment = "o.failed_at" if dead else "l.died_at"
        terms = [f"{'o' if dead else 'l'}.grp = :grp", f"o.state = {state:d}", "o.failed_at IS NOT NULL" if dead else NEWEST]
        params: dict[str, Any] = {"limit": limit}
        if after is not None:
            terms.append(f"({moment}, o.id) {'<' if newest_first else '>'} (:after_moment, :after_id)")
            params |= {"after_moment": after.moment, "after_id": after.id}
        _narrow(selection, terms, params)
        order = "DESC" if newest_first else "ASC"
        return self._read(group, f"""SELECT {_BOTH.format(moment=moment)} FROM {_OF_DEAD if dead else _OF_LETTERS}
            WHERE {' AND '.join(terms)} ORDER BY {moment} {order}, o.id {order} LIMIT :limit""", params)  # fmt: skip

    def poison(self, group: str, *, discarded: bool = False, limit: int = 1000) -> list[Poison]:
        """Records that hold no event, the latest first: those that wait for a person, or that one has discarded."""
        rows = self._database.read(lambda t: t.rows(
            f"""SELECT {_POISON} FROM letters l WHERE grp = :grp AND id IS NULL AND discarded_at IS {'NOT ' if discarded else ''}NULL
                ORDER BY died_at DESC, kafka_partition, kafka_offset LIMIT :limit""", {"grp": group, "limit": limit}))  # fmt: skip
        return [_poison(*row) for row in rows]

    def discard_poison(self, group: str, places: Sequence[Coordinates], who: str, reason: str, now: float) -> list[Coordinates]:
        """Gives up records that hold no event, written to the audit trail; those that were there and weren't given up yet."""
        return self._database.write(lambda t: _mark(t, group, places, now, "dlq discard", who, reason, now))

    def restore_poison(self, group: str, places: Sequence[Coordinates], who: str, reason: str, now: float) -> list[Coordinates]:
        """Takes that back, written to the audit trail; those that had been given up."""
        return self._database.write(lambda t: _mark(t, group, places, None, "dlq restore", who, reason, now))

    def poison_count(self, group: str) -> int:
        """How many records that hold no event wait for a person."""
        row = self._database.read(lambda t: t.row(
            "SELECT COUNT(*) FROM letters WHERE grp = :grp AND id IS NULL AND discarded_at IS NULL", {"grp": group}))  # fmt: skip
        return int(row[0]) if row else 0

    def oldest(self, group: str) -> float | None:
        """When the first of those died that somebody still has to look at: dead events, and poison. None: there are none."""
        died, met = self._database.read(lambda t: (
            t.row(f"""SELECT failed_at FROM outcomes WHERE grp = :grp AND failed_at IS NOT NULL AND state = {State.DEAD:d}
                      ORDER BY failed_at LIMIT 1""", {"grp": group}),
            t.row("SELECT MIN(died_at) FROM letters WHERE grp = :grp AND id IS NULL AND discarded_at IS NULL",
                  {"grp": group})))  # fmt: skip
        return min((row[0] for row in (died, met) if row and row[0] is not None), default=None)

    def prune(self, kafka_topic: str, partition: int, low_offset: int) -> int:
        """Forgets what retention has deleted: letters below `low_offset`, the partition's low watermark; how many."""
        return self._database.write(lambda t: t.run(
            "DELETE FROM letters WHERE kafka_topic = :topic AND kafka_partition = :partition AND kafka_offset < :low",
            {"topic": kafka_topic, "partition": partition, "low": low_offset}))  # fmt: skip

    def _read(self, group: str, sql: str, params: Mapping[str, Any]) -> list[Letter]:
        return [_letter(group, row) for row in self._database.read(lambda t: t.rows(sql, {"grp": group, **params}))]


_NAMES = ("kafka_topic, kafka_partition, kafka_offset, grp, died_at, size, origin_topic, origin_partition, origin_offset, attempts, "
          "redrives, disposition, error_type, error_group, error_message, first_failed_at, job_id, day, id, shop, topic, webhook_id, "
          "resource, root, version, triggered_at, received_at, source")  # fmt: skip
_FIELDS = [name.strip() for name in _NAMES.split(",")]
_ADD = f"""
    INSERT INTO letters ({_NAMES}) VALUES ({', '.join(f':{name}' for name in _FIELDS)})
    ON CONFLICT (kafka_topic, kafka_partition, kafka_offset) DO NOTHING"""


def _values(letter: Letter | Poison) -> dict[str, Any]:
    assert letter.at is not None
    values: dict[str, Any] = dict.fromkeys(_FIELDS)
    values |= {"kafka_topic": letter.at.topic, "kafka_partition": letter.at.partition, "kafka_offset": letter.at.offset,
               "grp": letter.group, "died_at": letter.died_at, "origin_topic": clean(letter.origin.topic),
               "origin_partition": letter.origin.partition, "origin_offset": letter.origin.offset}  # fmt: skip
    if isinstance(letter, Poison):
        return values | {"size": letter.size, "attempts": 0, "redrives": 0, "disposition": "poison", "error_type": "",
                         "error_group": "", "error_message": clean(letter.why, _MESSAGE_BYTES), "first_failed_at": letter.died_at,
                         "job_id": ""}  # fmt: skip
    e = letter.entry
    return values | {
        "size": e.size, "attempts": e.attempts, "redrives": letter.redrives, "disposition": clean(letter.disposition),
        "error_type": clean(e.error_type), "error_group": clean(e.error_group), "error_message": clean(e.error_message, _MESSAGE_BYTES),
        "first_failed_at": letter.first_failed_at, "job_id": clean(letter.job_id), "day": e.key.day, "id": e.key.id,
        "shop": clean(e.shop), "topic": clean(e.topic), "webhook_id": clean(e.webhook_id),
        "resource": None if e.resource is None else clean(e.resource), "root": None if e.root is None else clean(e.root),
        "version": e.version, "triggered_at": e.triggered_at, "received_at": e.received_at, "source": e.source,
    }  # fmt: skip


def _by_place(values: Mapping[str, Any]) -> tuple[str, int, int]:
    return values["kafka_topic"], values["kafka_partition"], values["kafka_offset"]


def _letter(group: str, row: tuple[Any, ...]) -> Letter:
    (day, id_, topic, partition, offset, died_at, first_failed_at, disposition, job_id, shop, shopify_topic, webhook_id, resource, root,
     version, triggered_at, received_at, source, origin_topic, origin_partition, origin_offset, size, state, attempts, error_type,
     error_group, message, redrives) = row  # fmt: skip
    entry = Entry(
        key=EventKey(day, id_), shop=shop or "", topic=shopify_topic, webhook_id=webhook_id or "", resource=resource, root=root,
        version=version, triggered_at=triggered_at, received_at=int(died_at * 1_000_000) if received_at is None else received_at,
        source=source or "",
        # The index holds no signatures: whoever runs it verifies it.
        proof=Proof.SIGNED,
        kafka_topic=origin_topic or "", partition=origin_partition or 0, offset=origin_offset or 0, size=size or 0,
        status=None if state is None else STATUSES[State(state)], attempts=attempts, error_type=error_type or "",
        error_group=error_group or "", error_message=message or "",
    )  # fmt: skip
    at = None if topic is None else Coordinates(topic, partition, offset)
    return Letter(group, entry, at, died_at, first_failed_at or died_at, disposition or "", redrives or 0, job_id or "")


def _poison(group: str, topic: str, partition: int, offset: int, died_at: float, origin_topic: str, origin_partition: int,
            origin_offset: int, why: str, size: int, discarded_at: float | None) -> Poison:  # fmt: skip
    return Poison(group, Coordinates(topic, partition, offset), died_at, Coordinates(origin_topic, origin_partition, origin_offset), why,
                  size, discarded_at)  # fmt: skip


def _mark(t: Transaction, group: str, places: Sequence[Coordinates], discarded_at: float | None, action: str, who: str, reason: str,
          now: float) -> list[Coordinates]:  # fmt: skip
    changed = [at for at in sorted(set(places)) if t.run(
        f"""UPDATE letters SET discarded_at = :discarded_at WHERE kafka_topic = :topic AND kafka_partition = :partition
            AND kafka_offset = :offset AND grp = :grp AND id IS NULL AND discarded_at IS {'NOT ' if discarded_at is None else ''}NULL""",
        {"discarded_at": discarded_at, "topic": at.topic, "partition": at.partition, "offset": at.offset, "grp": group})]  # fmt: skip
    if changed:
        append(t, now, who, action, group, reason, {"count": len(changed), "records": [str(at) for at in changed[:100]]})
    return changed


def _narrow(selection: Selection, terms: list[str], params: dict[str, Any]) -> None:
    """The selection's fields as SQL over an outcome, its letter, and the event where that's gone."""
    for name, column, values in (
        ("ids", "COALESCE(l.webhook_id, e.webhook_id)", selection.ids), ("shops", "COALESCE(l.shop, e.shop, o.shop)", selection.shops),
        ("sources", "COALESCE(l.source, e.source)", selection.sources),
        ("groups", "o.error_group", selection.error_groups),
    ):  # fmt: skip
        if values:
            terms.append(f"{column} IN :{name}")
            params[name] = list(values)
    if selection.attempts is not None:
        terms.append("o.attempts >= :attempts")
        params["attempts"] = selection.attempts
    if selection.resources:
        terms.append("(COALESCE(l.resource, e.resource) IN :resources OR COALESCE(l.root, e.root) IN :resources)")
        params["resources"] = list(selection.resources)
    if selection.topics:
        terms.append("(" + " OR ".join(f"o.topic LIKE :topic_{i} ESCAPE '!'" for i in range(len(selection.topics))) + ")")
        params |= {f"topic_{i}": _pattern(topic) for i, topic in enumerate(selection.topics)}
    moment = "COALESCE(l.received_at, e.received_at)"
    if selection.clock is Clock.TRIGGERED:
        moment = "COALESCE(l.triggered_at, e.triggered_at, l.received_at, e.received_at)"
    for name, value, sign in (("since", selection.since, ">="), ("until", selection.until, "<")):
        if value is not None:
            terms.append(f"{moment} {sign} :{name}")
            params[name] = value


def _pattern(topic: str) -> str:
    """For LIKE, where only the `*` of a selection is a wildcard."""
    for special in "!%_":
        topic = topic.replace(special, f"!{special}")
    return topic.replace("*", "%")
