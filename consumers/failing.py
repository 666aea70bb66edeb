"""What becomes of a failed event: judged, and where it goes written out as a letter and a line in the ledger. No I/O but the log."""

import random
from dataclasses import dataclass

from hooktape import log, metrics
from hooktape.consumers.app import App, Handler
from hooktape.consumers.classify import Cause, Disposition, classify
from hooktape.consumers.deliveries import Fetched
from hooktape.consumers.letters import Letter, Raw, failure_of, letter
from hooktape.consumers.schedule import Again, Later, Schedule
from hooktape.consumers.task import Task
from hooktape.errors import NotOurs
from hooktape.ledger.claims import Finish, State
from hooktape.schemas.event import Coordinates, Replay
from hooktape.settings import Settings
from hooktape.tape.names import Names
from hooktape.tape.reader import Record

_log = log.get("hooktape.consumers")


@dataclass(frozen=True, slots=True)
class Leaves:
    """The event leaves this worker: `letter` first, and when that's acknowledged, `end`."""

    letter: Letter
    end: Finish


class Failing:
    """Judges the failures of one app."""

    def __init__(self, app: App, settings: Settings, quick_tries: int) -> None:
        self._app, self._most = app, settings.max_attempts
        self._names = Names(settings.topic_prefix)
        self._schedule = Schedule(settings.retry_delays, quick_tries)

    def judge(self, task: Task, error: BaseException, now: float) -> tuple[Cause, Again | Leaves]:
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
        step = self._schedule.next(cause, attempts=task.attempts, most=handler.max_attempts or self._most, quick=task.quick,
                                   previous=task.home.delay, now=now, chance=random.random)  # fmt: skip
        if isinstance(step, Again):
            return cause, step
        failure = failure_of(error, step.disposition, task.attempts, task.first_failed, now)
        if isinstance(step, Later):
            topic, due, state = self._names.retry(self._app.group, step.delay), step.due, State.WAITING
            metrics.RETRIES.labels(self._app.group, topic.rpartition(".")[2], step.disposition.value).inc()
        else:
            topic, due, state = self._names.dlq(self._app.group), None, State.DEAD
            _log.error("event dead-lettered", event=str(task.event), at=str(task.origin), why=step.disposition.value,
                       attempts=task.attempts, error=failure.error_type, group=failure.group)  # fmt: skip
        end = Finish(task.key, state, task.attempts, failure.error_type, failure.group, failure.message, task.generation,
                     shop=task.event.shop)  # fmt: skip
        assert task.origin is not None
        return cause, Leaves(letter(topic, _raw(task.message), task.event, task.origin, failure, task.replay, due), end)

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


def _raw(message: object) -> Raw:
    record = Record.of(message)  # type: ignore[arg-type]
    return Raw(record.key, record.value, record.headers)
