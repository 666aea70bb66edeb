"""What must hold at every moment of a simulated run, and at its end. It sees everything from outside: effects, records, rows, commits."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from hooktape.consumers.tracker import decode_finished
from hooktape.ledger.checks import FINISHED, IN_RETRY, Finish, State
from hooktape.schemas.event import Event, EventKey
from hooktape.tape import headers

from .kafka import Broker, Key, Message
from .loop import Process, Simulation


@dataclass(eq=False)
class Effect:
    """One run of a handler, as the outside world saw it. `end` None: it never got there."""

    process: Process
    start: float
    partition: int
    generation: str
    end: float | None = None
    ok: bool = False
    recorded: bool = False


@dataclass(eq=False)
class Told:
    """An event of the workload, and all that became of it."""

    event: Event
    key: EventKey
    ordered: bool
    skip_stale: bool
    at: tuple[str, int, int]
    """Its first record on the log."""
    elsewhere: bool = False
    """A copy lies in another log: whichever is read first gives it its place among its resource's events."""
    effects: list[Effect] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    """Generation → what was recorded last."""
    last: Finish | None = None
    retries: list[tuple[Key, int, str, int]] = field(default_factory=list)
    """Its records in retry topics: partition, offset, generation, attempts."""
    letters: int = 0
    skipped: set[str] = field(default_factory=set)
    forced: set[str] = field(default_factory=set)

    @property
    def done(self) -> bool:
        return self.last is not None and self.last.state not in IN_RETRY


class Judge:
    """Raises nothing: the first violation is kept in `found`, and the world stops there."""

    def __init__(self, sim: Simulation, broker: Broker, logs: set[str], retries: set[str], dlq: str) -> None:
        self.sim, self.broker = sim, broker
        self.found: str | None = None
        self.told: dict[EventKey, Told] = {}
        self.by_lane: dict[tuple[str, int, str], list[Told]] = defaultdict(list)
        self.buried: set[tuple[str, int, int]] = set()
        """Origins of dead letters."""
        self.garbage: list[tuple[str, int, int]] = []
        self.strangers: set[tuple[str, int, int]] = set()
        """Events in the log of others for which the group has no handler."""
        self.owners: dict[int, tuple[str, int]] = {}
        self.taken_over: dict[str, dict[int, float]] = defaultdict(dict)
        """Owner → partition → when another took it from it, its lease having run out."""
        self.outages: list[tuple[float, float]] = []
        self.ended: dict[str, tuple[str, float]] = {}
        """Process → how it ended (kill, stop) and when that began."""
        self.counts: dict[str, int] = defaultdict(int)
        self._logs, self._retries, self._dlq = logs, retries, dlq
        self._running: dict[str, list[tuple[Told, Effect]]] = defaultdict(list)
        self._safe_from: dict[Key, int] = {}

    def fail(self, what: str) -> None:
        if self.found is None:
            self.found = f"at {self.sim.now:.3f} s: {what}"

    # ── Kafka ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def appended(self, message: Message) -> None:
        topic, partition, offset = message.at
        ours = headers.read(message.packed)
        if topic in self._logs or headers.WEBHOOK_ID not in ours:
            if topic == self._dlq:
                self.buried.add(tuple(headers.origin(ours, message.at)))  # type: ignore[arg-type]
            return
        told = self._by_id(ours)
        if topic == self._dlq:
            told.letters += 1
        elif topic in self._retries:
            failure, replay = headers.failure(ours), headers.replay(ours)
            told.retries.append(((topic, partition), offset, replay.id if replay else "", failure.attempts if failure else 0))
            self.counts["retry records"] += 1

    def _by_id(self, ours: headers.Headers) -> Told:
        return self.wids[ours[headers.WEBHOOK_ID]]

    @property
    def wids(self) -> dict[str, Told]:
        if len(self._wids) != len(self.told):
            self._wids = {told.event.webhook_id: told for told in self.told.values()}
        return self._wids

    _wids: dict[str, Told] = {}  # noqa: RUF012 - replaced, never changed

    def committed_to(self, key: Key, offset: int, metadata: str) -> None:
        """Nothing may be committed that isn't safe: ended, dead-lettered, or waiting by a record that will still be read."""
        log, (before, _) = self.broker.logs[key], self.broker.committed.get(key, (0, ""))
        if offset > log.end:
            self.fail(f"{key} is committed at {offset}, and ends at {log.end}")
            return
        if offset < before:
            # A slow commit of the former owner, say: what is read again, the ledger knows.
            self.counts["commits backwards"] += 1
        above = decode_finished(offset, metadata)
        for n in [*range(before, offset), *above]:
            if n < log.end and not self._is_safe(log.records[n], key, offset, above) and n >= log.first:
                self.fail(f"{key} is committed at {offset} (and {sorted(above)}), and the event of offset {n} has neither ended nor waits")

    def _is_safe(self, message: Message, key: Key, offset: int, above: set[int]) -> bool:
        ours = headers.read(message.packed)
        told = self.wids.get(ours.get(headers.WEBHOOK_ID, ""))
        if told is None:
            return message.at in self.buried or message.at in self.strangers
        if told.last is None:
            return False
        return told.last.state not in IN_RETRY or self._waits(told, key, offset, above)

    def _waits(self, told: Told, key: Key | None = None, offset: int = 0, above: "set[int] | None" = None) -> bool:
        """Whether a record in a retry topic will bring the event back."""
        assert told.last is not None
        for where, at, generation, attempts in told.retries:
            base, metadata = self.broker.committed.get(where, (0, ""))
            gone = decode_finished(base, metadata)
            if where == key:
                base, gone = offset, above or set()
            if at >= base and at not in gone and generation == told.last.generation and attempts >= told.last.attempts:
                return True
        return False

    # ── the ledger ──────────────────────────────────────────────────────────────────────────────────────────────────
    def owners_are(self, owners: dict[int, tuple[str, int]], alive: set[str]) -> None:
        """After a write: who owns what, and whose lease is running beyond doubt."""
        for partition, (owner, epoch) in owners.items():
            before, former = self.owners.get(partition, ("", 0))
            if owner != before and before and owner:
                self.taken_over[before][partition] = self.sim.now
                self.counts["takeovers"] += 1
                if before in alive:
                    self.fail(f"{owner} took partition {partition} from {before}, whose lease was running")
            if epoch < former:
                self.fail(f"the epoch of partition {partition} fell from {former} to {epoch}")
        self.owners = owners

    def recorded(self, owner: str, finishes: list[Finish], kept: list[bool]) -> None:
        for finish, accepted in zip(finishes, kept, strict=True):
            told = self.told[finish.key]
            if not accepted:
                self.counts["refused ends"] += 1
                continue
            if self.owners.get(finish.partition) != (owner, finish.epoch):
                self.fail(f"{told.event} was recorded by {owner}, epoch {finish.epoch}; the owners are {self.owners}")
            told.last = finish
            told.states[finish.generation] = finish.state
            self.counts[finish.state.name.lower()] += 1
            if finish.state is State.SUCCEEDED:
                mine = [e for e in told.effects if e.ok and e.process.name == owner and e.generation == finish.generation]
                if not mine:
                    self.fail(f"{told.event} is recorded as succeeded by {owner}, and no handler of it has")
                for effect in mine:
                    effect.recorded = True
            elif finish.state is State.DEAD and not told.letters:
                self.fail(f"{told.event} is recorded as dead, and has no dead letter")
            elif finish.state in IN_RETRY and not self._waits(told):
                self.fail(f"{told.event} is recorded as {finish.state.name}, and no retry record will bring it back: {told.retries}")
            elif finish.state is State.STALE and not self._may_be_stale(told):
                self.fail(f"{told.event} is recorded as stale, and nothing newer was applied")

    def _may_be_stale(self, told: Told) -> bool:
        version = told.event.version_us or 0
        return any(other.event.resource == told.event.resource and other.event.shop == told.event.shop and other.skip_stale
                   and (other.event.version_us or 0) > version and any(e.ok for e in other.effects)
                   for other in self.told.values())  # fmt: skip

    # ── handlers ────────────────────────────────────────────────────────────────────────────────────────────────────
    def begins(self, process: Process, event: Event, partition: int) -> Effect:
        now, told = self.sim.now, self.told[event.key]
        effect = Effect(process, now, partition, event.replay.id if event.replay else "")
        taken = partition in self.taken_over[process.name]
        # It was on its way to the handler when the process stood still: nothing can be looked up in between.
        excused = taken and process.thawed == now
        owner = self.owners.get(partition, ("", 0))[0]
        if owner != process.name and not excused:
            self.fail(f"{process.name} starts {event} of partition {partition}, which is {owner or 'nobody'}'s")
        self._alone(told, effect, taken)
        self._once(told, effect, taken)
        if told.ordered and not effect.generation and not taken:
            self._in_order(told)
        told.effects.append(effect)
        self._running[event.lane].append((told, effect))
        return effect

    def ends(self, told: Told, effect: Effect, ok: bool) -> None:
        effect.end, effect.ok = self.sim.now, ok
        self._running[told.event.lane].remove((told, effect))
        if ok and told.skip_stale:
            self.counts["applied"] += 1

    def _alone(self, told: Told, effect: Effect, excused: bool) -> None:
        for other, running in self._running[told.event.lane]:
            if running.process.dead or (other is not told and not (told.ordered and other.ordered)):
                continue
            if excused or effect.partition in self.taken_over[running.process.name]:
                self.counts["excused overlaps"] += 1
                continue
            self.fail(f"{told.event} starts in {effect.process.name} while {other.event} of its resource runs in {running.process.name}")

    def _once(self, told: Told, effect: Effect, excused: bool) -> None:
        for earlier in told.effects:
            if not earlier.ok or earlier.generation != effect.generation:
                continue
            if earlier.recorded and not excused:
                self.fail(f"{told.event} runs again in {effect.process.name}, and its success in {earlier.process.name} was recorded")
            elif not (excused or self._excuse(earlier)):
                self.fail(f"{told.event} runs again in {effect.process.name}: {earlier.process.name} did it at {earlier.end}, and lived")
            self.counts["excused repeats"] += 1

    def _excuse(self, earlier: Effect) -> bool:
        """Killed between its effect and the record of it, or out of its tenure by then."""
        name = earlier.process.name
        if earlier.partition in self.taken_over[name]:
            return True
        how, since = self.ended.get(name, ("", 0.0))
        assert earlier.end is not None
        return how == "kill" or (how == "stop" and any(end >= since for _, end in self.outages))

    def _in_order(self, told: Told) -> None:
        topic, partition, offset = told.at
        if told.elsewhere:
            return
        for earlier in self.by_lane[topic, partition, told.event.lane]:
            ended = earlier.done or earlier.letters or any(e.ok for e in earlier.effects) or self.is_lost(earlier)
            if earlier.at[2] < offset and not (ended or (earlier.skip_stale and self._may_be_stale(earlier))):
                self.fail(f"{told.event} (offset {offset}) starts before {earlier.event} (offset {earlier.at[2]}) has ended")

    def is_lost(self, told: Told) -> bool:
        """Retention took it before it was read to its end, and a worker has heard so."""
        topic, partition, offset = told.at
        return any(key == (topic, partition) and first <= offset < to for key, first, to in self.broker.lost)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def left(self) -> list[str]:
        """What isn't done yet, for people."""
        left = [f"{t.event} is {t.last.state.name.lower() if t.last else 'untouched'}" for t in self.told.values()
                if not t.done and not self.is_lost(t)]  # fmt: skip
        left += [f"garbage at {at} isn't dead-lettered" for at in self.garbage
                 if at not in self.buried and at[2] >= self.broker.logs[at[:2]].first]  # fmt: skip
        for key, log in self.broker.logs.items():
            if key[0] != self._dlq and log.end and self.broker.committed.get(key, (0, ""))[0] < log.end:
                left.append(f"{key} is committed at {self.broker.committed.get(key)} of {log.end}")
        return left

    def conclude(self, states: dict[EventKey, State], waiting: list[Any]) -> None:
        """Everything has drained: what the ledger says must be what was seen."""
        if waiting:
            self.fail(f"the ledger's waiting table still holds {waiting}")
        for key, told in self.told.items():
            state = states.get(key)
            if state is None and self.is_lost(told):
                continue
            if state is None or told.last is None or state is not told.last.state:
                self.fail(f"{told.event} is {state} in the ledger and was last recorded as {told.last}")
            elif state not in FINISHED and state is not State.DEAD:
                self.fail(f"{told.event} ended as {state.name}")
            for generation in sorted(told.forced - told.states.keys() - told.skipped):
                self.fail(f"{told.event} was replayed as {generation}, and nothing is known of it")
