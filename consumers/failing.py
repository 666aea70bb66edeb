"""What becomes of a failed event: judged, and where it goes written out as a letter and a line in the ledger. No I/O but the log."""

from collections.abc import Callable
from dataclasses import dataclass
from random import random

from hooktape import log, metrics
from hooktape.consumers.app import App, Handler
from hooktape.consumers.classify import Cause, Disposition, classify
from hooktape.consumers.deliveries import Fetched
from hooktape.consumers.holds import Held
from hooktape.consumers.letters import Letter, Raw, failure_of, letter
from hooktape.consumers.schedule import Again, Chance, Later, Schedule
from hooktape.consumers.task import Task
from hooktape.errors import NotOurs
from hooktape.ledger.checks import Applied, Finish, State
from hooktape.schemas.event import Coordinates, Replay
from hooktape.settings import Settings
from hooktape.tape import headers
from hooktape.tape.headers import Failure
from hooktape.tape.names import Names
from hooktape.tape.reader import Record

_log = log.get("hooktape.consumers")


# A head that is due runs within moments, unless its retry topic is behind.
_LATE = 5.0


@dataclass(frozen=True, slots=True)
class Leaves:
    """The event leaves this worker: `letter` first, and when that's acknowledged, `end`. `later` where it comes back."""

    letter: Letter
    end: Finish
    later: Later | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """The flood breaker has put the event aside: its topic is held."""


Keeps = Callable[[Task, Cause, Failure], bool]


class Failing:
    """Judges the failures of one app. `keeps` is asked before an event leaves (`Flood.keeps`); `chance` is where jitter comes from."""

    def __init__(self, app: App, settings: Settings, quick_tries: int, keeps: Keeps, chance: Chance = random) -> None:
        self._app, self._most, self._keeps, self._chance = app, settings.max_attempts, keeps, chance
        self._names = Names(settings.topic_prefix)
        self._schedule = Schedule(settings.retry_delays, quick_tries)

    def judge(self, task: Task, error: BaseException, now: float) -> tuple[Cause, Again | Kept | Leaves]:
        """What `error` means, and what to do. `now` in epoch seconds; `task.attempts` counts the try that failed.

        A try that says nothing about the event (`Cause.untried`) is taken off `task.attempts` and the quick tries again.
        """
        handler, cause = task.handler, self._cause(error, now)
        assert isinstance(handler, Handler)
        if cause.untried:
            # Off before the worker counts it as a quick one.
            task.attempts, task.quick = task.attempts - 1, task.quick - 1
        else:
            task.first_failed = task.first_failed or now
        # An event that only waited behind another begins as any other does, with the quick tries and the shortest delay.
        tried = task.attempts - task.quick > 1
        step = self._schedule.next(cause, attempts=task.attempts, most=handler.max_attempts or self._most, quick=task.quick,
                                   previous=task.home.delay if tried else None, now=now, chance=self._chance)  # fmt: skip
        if isinstance(step, Again):
            return cause, step
        failure = failure_of(error, step.disposition, task.attempts, task.first_failed, now)
        if self._keeps(task, cause, failure):
            return cause, Kept()
        if isinstance(step, Later):
            topic, due, state = self._names.retry(self._app.group, step.delay), step.due, State.WAITING
            metrics.RETRIES.labels(self._app.group, topic.rpartition(".")[2], step.disposition.value).inc()
        else:
            topic, due, state = self._names.dlq(self._app.group), None, State.DEAD
            _log.error("event dead-lettered", event=str(task.event), at=str(task.origin), why=step.disposition.value,
                       attempts=task.attempts, error=failure.error_type, group=failure.group)  # fmt: skip
        end = finish(task, state, error_type=failure.error_type, error_group=failure.group, error_message=failure.message,
                     shop=task.event.shop)  # fmt: skip
        assert task.origin is not None
        written = letter(topic, _raw(task.message), task.event, task.origin, failure, task.replay, due)
        return cause, Leaves(written, end, step if isinstance(step, Later) else None)

    def follow(self, task: Task, head: Held, now: float) -> Leaves:
        """An event that may not run before `head` of its lane has: to the retry topic where that waits, untried."""
        # A head that should have been here long ago may have lost its record. Following it at once would go round in circles.
        due = head.due if head.due > now - _LATE else now + head.delay
        raw = _raw(task.message)
        # What has failed before and comes back too early keeps its story.
        failure = headers.failure(headers.read(raw.headers)) if task.attempts else None
        assert task.origin is not None
        topic = self._names.retry(self._app.group, head.delay)
        written = letter(topic, raw, task.event, task.origin, failure, task.replay, due)
        later = Later(head.delay, due, Disposition.BEHIND)
        return Leaves(written, finish(task, State.WAITING if failure else State.BEHIND, error_type=failure.error_type if failure else "",
                                      error_group=failure.group if failure else "", error_message=failure.message if failure else "",
                                      shop=task.event.shop), later)  # fmt: skip

    def unreadable(self, record: Fetched, error: NotOurs, origin: Coordinates, replay: Replay | None, now: float) -> Letter:
        """The dead letter of a record that can't be decoded. It has no key, so it has no place in the ledger."""
        _log.error("record dead-lettered", at=str(origin), why="poison", error=str(error))
        failure = failure_of(error, Disposition.POISON, 0, None, now)
        return letter(self._names.dlq(self._app.group), _raw(record.message), None, origin, failure, replay)

    def _cause(self, error: BaseException, now: float) -> Cause:
        try:
            return classify(error, now, self._app.mapper)
        except Exception as fault:  # noqa: BLE001 - a broken @app.classify mustn't lose the event
            _log.error("@app.classify failed; the event counts as met by a bug", exc=fault)
            return Cause(Disposition.BUG)


def finish(task: Task, state: State, *, version: Applied | None = None, error_type: str = "", error_group: str = "",
           error_message: str = "", shop: str = "") -> Finish:  # fmt: skip
    """The end of a task as the ledger takes it, with the fencing token of its partition."""
    tenure = task.home.tenure
    assert tenure is not None
    return Finish(task.key, state, task.attempts, tenure.partition, tenure.epoch, task.event.topic, task.seen, task.generation, error_type,
                  error_group, error_message, shop, version, received_us=task.event.received_us, seq=task.seq)  # fmt: skip


def _raw(message: object) -> Raw:
    record = Record.of(message)  # type: ignore[arg-type]
    return Raw(record.key, record.value, record.headers)
