"""Offset reset: the second way to replay. Where to is decided in `offsets.py`; here it's looked up, told, done and verified.

    plan ──▶ refuse a live group ──▶ save the old offsets, mark the window ──▶ move ──▶ read back and compare

Only partitions of the tape move: what lies in retry and replay topics has had its turn there, and goes on by itself.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hooktape.errors import NotAllowed, NothingMatched, TapeError, UsageError
from hooktape.ledger.keys import new_id
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.resets import Mix, ResetState, Saved
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.offsets import Move, Places, Target, To, choose, decide, is_log
from hooktape.settings import Settings
from hooktape.tape import groups
from hooktape.tape.groups import Member
from hooktape.tape.names import Names, check_group
from hooktape.tape.reader import Partition, Reader

# Longer than all of a reset's requests to the broker and the ledger together, should each of them take its time-out.
_LEASE_SECONDS = 300.0
# A window whose reset is older than this isn't under way any more: ten times the lease, for clocks that differ.
_SETTLED_SECONDS = 3600.0
_DAY = 86_400.0
# As many members as fit on a screen.
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Reset:
    """A reset as planned. `mixes`: what lies between the old and the new offset of a partition; empty where nobody asked for it.

    `waiting` events are in the group's retry topics, which stay as they are. `left_alone` are partitions that were asked for (by a
    file) and aren't the tape's. `undoes` is the reset that this one takes back.
    """

    group: str
    moves: tuple[Move, ...]
    reprocess: bool = False
    mixes: Mapping[Partition, Mix] = field(default_factory=dict)
    waiting: int = 0
    left_alone: tuple[Partition, ...] = ()
    undoes: str = ""

    @property
    def changes(self) -> list[Move]:
        """The moves that move something."""
        return [move for move in self.moves if move.new != move.current]

    @property
    def foresight(self) -> "Foresight":
        """What will happen."""
        return foresee(self.moves, self.mixes, reprocess=self.reprocess)


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a reset brings, in records. `again` are seen again, and each is one of `run`, `finished` and `dead` (both skipped by the
    ledger), `in_retry` (runs from its retry topic, once it's due) and `other` (copies, records that aren't events, and events of topics for
    which the group has no handler).

    `skipped` are passed over, and `never` of them are events that the group has never handled and never will.
    """

    again: int
    run: int
    finished: int
    dead: int
    in_retry: int
    other: int
    skipped: int
    never: int


def foresee(moves: Iterable[Move], mixes: Mapping[Partition, Mix], *, reprocess: bool) -> Foresight:
    """Pure. Without mixes only `again` and `skipped` are known."""
    moves = list(moves)
    back = sum((mixes[m.place] for m in moves if m.again and m.place in mixes), Mix())
    ahead = sum((mixes[m.place] for m in moves if m.skipped and m.place in mixes), Mix())
    again = sum(m.again for m in moves)
    run = back.unhandled + (back.finished + back.dead if reprocess else back.marked)
    skip = 0 if reprocess else back.finished + back.dead - back.marked
    dead = min(back.dead, skip)
    return Foresight(again, run, skip - dead, dead, back.in_retry, max(0, again - back.events) if mixes else 0,
                     sum(m.skipped for m in moves), ahead.unhandled)  # fmt: skip


def plan(settings: Settings, ledger: Ledger, group: str, target: Target, topics: Sequence[str] | None = None, *,
         reprocess: bool = False, count: bool = True, undoes: str = "",
         progress: Callable[[int, int], None] | None = None) -> Reset:  # fmt: skip
    """Reads and decides; changes nothing. `topics` as in `offsets.choose`; None: the tape as far as the group has committed it, or where
    the target names its places, those.

    The catalogue is brought up to what is to be counted; `progress` gets (records read, records to read) of that.
    Raises NothingMatched when there's nothing to move, UsageError, SettingsError, TapeUnavailable.
    """
    check_group(group)
    names = Names(settings.topic_prefix)
    with Reader(settings) as reader:
        known = reader.partitions(reader.topics())
        left_alone: list[Partition] = []
        if target.to is To.PLACES:
            left_alone = sorted(p for p in target.places if not is_log(names, p[0]))
            wanted = set(target.places) - set(left_alone)
            if missing := sorted(wanted - set(known)):
                raise NothingMatched(f"Kafka has no {missing[0][0]}/{missing[0][1]}.")
            if topics is not None:
                wanted &= choose(names, topics, known)
            committed = groups.committed(settings, group, wanted)
        else:
            logs = [p for p in known if is_log(names, p[0])]
            committed = groups.committed(settings, group, logs)
            wanted = set(committed) if topics is None else choose(names, topics, known)
        if not wanted:
            raise NothingMatched(f"Group {group} has never committed an offset of the tape: name the topics with --topic."
                                 if target.to is not To.PLACES else "None of these offsets is of the tape.")  # fmt: skip
        chosen = {topic for topic, _ in wanted}
        lows, ends = reader.lows(chosen), reader.ends(chosen)
        at_time = reader.starts(chosen, target.value) if target.to is To.TIME else {}
        moves = decide(target, Places(committed, lows, {p: ends[p] for p in wanted}, at_time))
    mixes = count_mixes(settings, ledger, group, moves, progress) if count else {}
    return Reset(group, tuple(moves), reprocess, mixes, ledger.resets.waiting(group), tuple(left_alone), undoes)


def count_mixes(settings: Settings, ledger: Ledger, group: str, moves: Iterable[Move],
                progress: Callable[[int, int], None] | None = None) -> dict[Partition, Mix]:  # fmt: skip
    """What lies between the old and the new offsets, by the catalogue and the ledger's outcomes; the tape is read only where the
    catalogue hasn't been."""
    between = {move: move.between for move in moves if move.again or move.skipped}
    if not between:
        return {}
    with Cataloguer(settings, ledger) as cataloguer:
        cataloguer.catch_up({move.place: high for move, (_, high) in between.items()}, progress)
    return {move.place: ledger.resets.mix(group, move.place, low, high, move.current or 0) for move, (low, high) in between.items()}


# ── a live group ────────────────────────────────────────────────────────────────────────────────────────────────────
def refuse_live(settings: Settings, ledger: Ledger, group: str, now: float) -> None:
    """Raises NotAllowed that names the members of the group and how to stop them; TapeUnavailable, LedgerUnavailable.

    A worker that Kafka has given up may still run what it had: as long as its lease in the ledger lasts, the group is live too.
    """
    members = groups.describe(settings, group).members
    if living := ledger.ownership.living(group, now) if not members else {}:
        lines = [f"  {_process(owner)}: for {seconds:.0f} s more" for owner, seconds in sorted(living.items())]
        raise NotAllowed(f"Group {group} may still be at work: Kafka has no member of it, and in the ledger {_number(living, 'worker')} "
                         "died or lost Kafka a moment ago. Wait until the lease has run out:\n" + "\n".join(lines))  # fmt: skip
    if members:
        raise NotAllowed("\n".join([
            f"Group {group} is live: {_number(members, 'member')}. Nothing has changed. Stop them, then reset:",
            *(f"  {_member(member)}" for member in members[:_SHOWN]),
            *([f"  … and {len(members) - _SHOWN} more"] if len(members) > _SHOWN else []),
            *(f"  its process: {_process(owner)}" for owner in sorted(ledger.ownership.living(group, now))[:_SHOWN]),
            *how_to_stop(group),
        ]))  # fmt: skip


def how_to_stop(group: str) -> list[str]:
    """Lines for a person: what stops the workers of a group."""
    return [
        "  systemd     sudo systemctl stop UNIT      the unit whose command is",
        f"                                            hooktape consume … --group {group}",
        "  Compose     docker compose stop consume",
        "  Kubernetes  kubectl scale deployment/NAME --replicas=0",
        "  elsewhere   kill PID                      a worker ends what it runs, commits, and leaves the group",
    ]


def _member(member: Member) -> str:
    parts: dict[str, list[int]] = {}
    for topic, number in sorted(member.partitions):
        parts.setdefault(topic, []).append(number)
    held = "; ".join(f"{topic}:{','.join(map(str, numbers))}" for topic, numbers in parts.items()) or "no partitions"
    return f"{member.client} at {member.host} ({member.id}): {held}"


def _process(owner: str) -> str:
    host, _, rest = owner.partition(":")
    return f"PID {rest.partition(':')[0]} on {host}" if rest else owner


def _number(things: Sequence[object] | Mapping[str, object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


# ── doing it ────────────────────────────────────────────────────────────────────────────────────────────────────────
def execute(settings: Settings, ledger: Ledger, reset: Reset, *, who: str, reason: str, now: float) -> Saved | None:
    """Does it and verifies what the broker stored; None where there was nothing to move.

    Raises UsageError without a reason; NotAllowed for a live group, or one that has moved since the plan (nothing is changed then);
    TapeError when the broker stored something else: what was saved stands, and `undo` takes it back.
    """
    if not reason.strip():
        raise UsageError("A reset needs a --reason: it's kept in the audit trail.")
    refuse_live(settings, ledger, reset.group, now)
    moves = reset.changes
    if not moves and not reset.undoes:
        return None
    with _alone(ledger, reset.group, now):
        committed = groups.committed(settings, reset.group, [move.place for move in reset.moves])
        if moved := [m for m in moves if committed.get(m.place) != m.current]:
            raise NotAllowed(f"Group {reset.group} has moved since this was planned: {moved[0].topic}/{moved[0].partition} is at "
                             f"{committed.get(moved[0].place)}, not at {moved[0].current}. Nothing has changed. Plan it again.")
        saved = Saved(new_id(now), reset.group, now, who, reason, reset.reprocess, {m.place: m.current for m in moves},
                      {m.place: m.new for m in moves}, reset.undoes)  # fmt: skip
        ranges = [(*m.place, m.new, m.seen_to) for m in moves if m.again] if reset.reprocess else []
        ledger.resets.save(saved, ranges, committed)
        if moves:
            groups.alter(settings, reset.group, saved.new)
            verify(settings, saved)
        ledger.resets.done(saved.id)
    return saved


def verify(settings: Settings, saved: Saved) -> None:
    """Reads back what the broker stores for each partition that was moved. Raises TapeError that names the first that differs.

    The commit's metadata too: what it tells of finished offsets belongs to the offset that was there before.
    """
    stored = groups.stored(settings, saved.group, saved.new)
    for place, offset in saved.new.items():
        found = stored.get(place)
        if found is None or found.offset != offset or found.metadata:
            shown = "nothing" if found is None else f"offset {found.offset}" + (" with metadata" if found.metadata else "")
            raise TapeError(f"The broker stores {shown} for {place[0]}/{place[1]}, not offset {offset}: did a worker start meanwhile? Stop "
                            f"it. `hooktape reset undo --group {saved.group} --id {saved.id}` takes back what has moved.")  # fmt: skip


@contextmanager
def _alone(ledger: Ledger, group: str, now: float) -> Iterator[None]:
    """One reset of a group at a time."""
    name, owner = f"reset:{group}", f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
    if ledger.leases.acquire(name, owner, now, _LEASE_SECONDS) is None:
        raise NotAllowed(f"Somebody else is resetting group {group} at this moment. Nothing has changed. `hooktape reset list --group "
                         f"{group}` shows what they did.")  # fmt: skip
    try:
        yield
    finally:
        ledger.leases.release(name, owner)


def find_saved(ledger: Ledger, group: str, reset_id: str | None = None) -> Saved:
    """What there is to take back: the reset with this id (or its beginning), or the latest that wasn't taken back and takes none back.

    Raises NothingMatched, UsageError where several ids begin so, or it's taken back already.
    """
    saved = ledger.resets.list(group, limit=1000)
    if reset_id is None:
        found = [s for s in saved if s.state is not ResetState.UNDONE and not s.undoes][:1]
    else:
        found = [s for s in saved if s.id.startswith(reset_id)]
    if not found:
        raise NothingMatched(f"Group {group} has no reset {reset_id} to take back." if reset_id else
                             f"Group {group} has no reset to take back. `hooktape reset list --group {group}` shows all.")  # fmt: skip
    if len(found) > 1:
        raise UsageError(f"{len(found)} resets have an id that begins with {reset_id}: give more of it.")
    if found[0].state is ResetState.UNDONE:
        raise UsageError(f"Reset {found[0].id} was taken back already.")
    return found[0]


def plan_undo(settings: Settings, ledger: Ledger, saved: Saved, *, count: bool = True,
              progress: Callable[[int, int], None] | None = None) -> Reset:  # fmt: skip
    """The reset that takes `saved` back: to the offsets that it replaced. What its window marked and hasn't run, won't.

    A partition that had no offset keeps the one it got: a group's single offset can't be taken away. Raises as `plan` does.
    """
    places = {place: old for place, old in saved.old.items() if old is not None}
    if not places:
        raise NothingMatched(f"Reset {saved.id} replaced no offsets: the group had none there.")
    return plan(settings, ledger, saved.group, Target(To.PLACES, places=places), count=count, undoes=saved.id, progress=progress)


# ── afterwards ──────────────────────────────────────────────────────────────────────────────────────────────────────
def forget_passed(settings: Settings, ledger: Ledger, now: float) -> int:
    """Forgets the windows that their groups have passed, and those whose records retention has taken; how many.

    `hooktape catalog` calls it, so that no group carries its resets for ever. Raises TapeUnavailable, LedgerUnavailable.
    """
    forgotten, kept_since = 0, now - (settings.retention_days + 1) * _DAY
    old = ledger.resets.windows(kept_since)
    # The windows before the offsets: what is settled here was moved before the offsets are read.
    for group, windows in ledger.resets.windows(now - _SETTLED_SECONDS).items():
        committed = groups.committed(settings, group, {(w.kafka_topic, w.partition) for w in windows})
        passed = [w for w in windows if w.to_offset <= committed.get((w.kafka_topic, w.partition), -1) or w in old.get(group, ())]
        forgotten += ledger.resets.forget(group, passed)
    return forgotten
