"""How an event leaves a worker: every way out of the lanes, with the order of its steps.

    succeeded, stale      lane free ─▶ recorded ─▶ offset finished
    retry, behind         lane held ─▶ record acknowledged ─▶ lane free, recorded ─▶ offset finished
    dead                  the same, by the dead-letter topic
    skipped               offset finished; of a replay, when its job knows
    another worker's      nothing is said of it here

A record is acknowledged before the ledger says so, and the ledger is on disk before the offset counts as finished: a crash between any two
repeats a step and loses nothing.
"""

import msgspec

from hooktape import crash, log, metrics
from hooktape.consumers.app import App
from hooktape.consumers.applied import AppliedVersions
from hooktape.consumers.clock import Clock
from hooktape.consumers.copies import Copies
from hooktape.consumers.custody import Custody
from hooktape.consumers.deliveries import Fetched
from hooktape.consumers.failing import Failing, Leaves
from hooktape.consumers.flood import Flood
from hooktape.consumers.handover import Handover
from hooktape.consumers.holds import Holds, lane16
from hooktape.consumers.intake import Intake
from hooktape.consumers.lanes import Lanes
from hooktape.consumers.task import Task
from hooktape.errors import NotOurs
from hooktape.ledger.checks import IN_RETRY, Checked, Finish, State, Waiting

_log = log.get("hooktape.consumers")
_SKIPPED = {State.SUCCEEDED: "already_done", State.STALE: "superseded", State.DISCARDED: "discarded", State.WAITING: "held",
            State.BEHIND: "held", State.DEAD: "dead"}  # fmt: skip
_RECORDED_LATER = {State.WAITING: "letter-acked-not-recorded", State.BEHIND: "hold-letter-acked-not-recorded"}


class Ends:
    """The part of `Flow` that lets go of events."""

    lanes: Lanes
    holds: Holds
    handover: Handover
    custody: Custody
    flood: Flood
    finished: int
    """Events that have ended in the ledger by this worker since it started."""
    _app: App
    _intake: Intake
    _clock: Clock
    _failing: Failing
    _applied: AppliedVersions
    _copies: Copies

    def pump(self) -> None:
        """Moves everything that can move."""
        raise NotImplementedError

    def _pump_soon(self) -> None:
        raise NotImplementedError

    def _take(self, task: Task) -> None:
        task.taken = True
        task.home.taken += 1

    def _untake(self, task: Task) -> None:
        task.taken = False
        task.home.taken -= 1

    def _drop(self, task: Task) -> None:
        """It ends without an end of its own: skipped, or another worker's."""
        if task.taken:
            self._untake(task)
        if task.queued:
            self.lanes.end(task)
            self._forget(task)

    def _forget(self, task: Task) -> None:
        self._copies.leave(task)
        if task.versioned is not None:
            self._applied.leave(task.versioned)

    def _end(self, task: Task, end: Finish) -> None:
        """It needs no more here: its lane goes on while the ledger writes."""
        self.lanes.end(task)
        self._release_hold(task)
        self.custody.finish(task, end)
        self._pump_soon()

    def _release_hold(self, task: Task) -> None:
        if self.holds and task.lane is not None:
            self.holds.leave(lane16(task.event.lane), task.key)

    def _leave(self, task: Task, leaves: Leaves) -> None:
        """It goes to a retry or dead-letter topic; its lane goes on when Kafka has it."""
        if not task.taken:
            self._take(task)
        end = leaves.end
        if (later := leaves.later) is not None:
            assert task.origin is not None
            assert task.home.tenure is not None
            lane, seq = None, 0
            if task.lane is not None:
                lane = lane16(task.event.lane)
                seq = self.holds.enter(lane, task.home.tenure.partition, task.key, later.delay, later.due, self._clock.time()).seq
            key = task.seen.key if task.seen else task.key
            end = msgspec.structs.replace(end, waiting=Waiting(key, lane, seq, later.delay, later.due, task.origin))
        self.lanes.hold(task)
        crash.point("before-letter")
        self.handover.send(leaves.letter, lambda: self._arrived(task, end))

    def _arrived(self, task: Task, end: Finish) -> None:
        crash.point(_RECORDED_LATER.get(end.state, "dead-letter-acked-not-recorded"))
        if end.state not in IN_RETRY:
            self._release_hold(task)
        self.custody.finish(task, end)
        self.lanes.release(task)
        self._pump_soon()

    def _skip(self, task: Task, answer: Checked) -> None:
        """It has ended, or is in custody, elsewhere."""
        metrics.DUPLICATES.labels(self._app.group).inc()
        assert answer.seen is not None
        if answer.seen.state not in IN_RETRY:
            self._release_hold(task)
        if task.generation and task.generation != answer.seen.generation:
            # Of the same generation it's a second copy, and the first one's end is the item's, now or once its retry has ended.
            # Not finished before it's noted: nothing else brings the record back, and its job would never add up.
            self.custody.skip(task, _SKIPPED[answer.seen.state])
        else:
            self._intake.finish(task.home, task.offset)
        self._drop(task)

    def _refuse(self, task: Task) -> None:
        """An operator sent it again, and its handler takes nothing that comes so."""
        metrics.PROCESSED.labels(self._app.group, task.event.topic, "refused").inc()
        self.custody.skip(task, "refused")
        self._drop(task)

    def _on_skipped(self, task: Task) -> None:
        # The job of a replayed record knows that it wasn't run.
        self._intake.finish(task.home, task.offset)

    def _note_success(self, task: Task) -> None:
        self.flood.succeeded(task)
        if task.versioned is not None and task.event.version_us is not None:
            self._applied.apply(task.versioned, task.event.version_us + task.event.synthetic)

    def _recorded(self, task: Task) -> None:
        """Its success is on disk already."""
        self._note_success(task)
        self.lanes.end(task)
        self._release_hold(task)
        self._finished(task, State.SUCCEEDED)
        crash.point("recorded-not-committed")

    def bury(self, record: Fetched, error: NotOurs) -> None:
        """Dead-letters a record that can't be read."""
        home = record.home
        if self.flood.keeps_unreadable(record, error, *self._intake.labels(record)):
            return
        home.taken += 1

        def arrived() -> None:
            home.taken -= 1
            self._intake.finish(home, record.offset)
            metrics.PROCESSED.labels(self._app.group, "unreadable", "dead").inc()
            self.pump()

        letter = self._failing.unreadable(record, error, *self._intake.provenance(record), self._clock.time())
        self.handover.send(letter, arrived)

    def _on_finished(self, task: Task, end: Finish, kept: bool) -> None:
        self._finished(task, end.state)
        if not kept:
            _log.warning("an end wasn't recorded: the event's partition is another worker's, or another copy of it ended first",
                         event=str(task.event), state=end.state.name.lower())  # fmt: skip

    def _finished(self, task: Task, state: State) -> None:
        self._untake(task)
        self._forget(task)
        self._intake.finish(task.home, task.offset)
        self.finished += 1
        self._intake.meter(task.event.topic).outcomes[state].inc()
