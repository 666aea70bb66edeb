"""Bugs to plant: each undoes one thing that the worker does right. A simulation that doesn't find them proves nothing."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from hooktape.consumers import custody, flow
from hooktape.consumers.applied import AppliedVersions
from hooktape.consumers.copies import Copies
from hooktape.consumers.custody import Custody
from hooktape.consumers.flow import Flow
from hooktape.consumers.handover import Handover
from hooktape.consumers.holds import Holds
from hooktape.consumers.lanes import Lanes
from hooktape.consumers.task import Tenure
from hooktape.consumers.tracker import Offsets
from hooktape.errors import TapeError
from hooktape.ledger import outcomes
from hooktape.ledger.checks import IN_RETRY, Checked, Verdict
from hooktape.ledger.ownership import Ownership

Plant = contextlib.AbstractContextManager[Any]


def followers_overtake_a_waiting_head() -> Plant:
    return mock.patch.object(Holds, "ahead", return_value=None)


def holds_are_forgotten_over_a_restart() -> Plant:
    return mock.patch.object(Holds, "load", return_value=None)


def holds_are_never_released() -> Plant:
    return mock.patch.object(Holds, "leave", return_value=None)


def the_end_is_recorded_before_its_letter_is_acknowledged() -> Plant:
    send = Handover.send

    def early(self: Handover, letter: Any, arrived: Callable[[], None]) -> None:
        arrived()
        send(self, letter, lambda: None)

    return mock.patch.object(Handover, "send", early)


def a_refused_letter_is_given_up() -> Plant:
    async def once(self: Handover, letter: Any, arrived: Callable[[], None]) -> None:
        with contextlib.suppress(TapeError):
            await self._publisher.publish(letter.topic, letter.value, key=letter.key, extra=letter.headers)
        arrived()

    return mock.patch.object(Handover, "_insist", once)


class _Anything:
    """Equal to every epoch."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class _Everything(dict[int, Any]):
    def get(self, key: int, default: Any = None) -> Any:
        return _Anything()


def ends_are_recorded_without_a_fencing_token() -> Plant:
    return mock.patch.object(outcomes, "owned", return_value=_Everything())


def live_owners_are_robbed() -> Plant:
    take = Ownership.take
    return mock.patch.object(Ownership, "take", lambda self, group, owner, parts, now: take(self, group, owner, parts, now + 1e6))


def a_partition_is_given_up_while_its_handlers_run() -> Plant:
    return mock.patch.object(Tenure, "busy", False)


def handlers_start_after_the_lease_has_run_out() -> Plant:
    return mock.patch.object(Custody, "is_sound", return_value=True)


def offsets_are_committed_past_what_runs() -> Plant:
    return mock.patch.object(Offsets, "position", property(lambda self: self._next))


def an_offset_is_finished_before_its_end_is_on_disk() -> Plant:
    end = Flow._end

    def early(self: Flow, task: Any, finish: Any) -> None:
        self._intake.finish(task.home, task.offset)
        end(self, task, finish)

    return mock.patch.object(Flow, "_end", early)


def copies_run_beside_each_other() -> Plant:
    return mock.patch.object(Copies, "enter", return_value=None)


def a_lane_goes_on_before_the_letter_has_arrived() -> Plant:
    def hold(self: Lanes, task: Any) -> None:
        self._vacate(task.handler)
        self._free_lane(task)

    @contextlib.contextmanager
    def both() -> Iterator[None]:
        with mock.patch.object(Lanes, "hold", hold), mock.patch.object(Lanes, "release", return_value=None):
            yield

    return both()


def the_same_version_counts_as_stale() -> Plant:
    return mock.patch.object(AppliedVersions, "is_stale", lambda self, key, version: version <= self._entries[key][1] or len(self) > 3)


def a_retry_record_is_taken_for_a_copy() -> Plant:
    decide = outcomes.decide

    def wrong(row: Any, check: Any, settled: bool = False) -> Checked:
        if row is not None and row.state in IN_RETRY:
            return Checked(row.key, Verdict.ELSEWHERE, row, row.attempts, row.first_failed_at, row.generation)
        return decide(row, check, settled)

    return mock.patch.object(outcomes, "decide", wrong)


def a_failed_batch_is_dropped() -> Plant:
    async def once(self: Custody, job: Any, answer: Any) -> Any:
        try:
            return await answer
        except Exception:  # noqa: BLE001 - the planted bug
            return custody._Done([True] * len(job.finishes), [], {})

    def settle(self: Custody, job: Any, done: Any) -> None:
        if len(done.checked) < len(job.checks):
            self._checks.extend(job.checks)
            self.checking += len(job.checks)
        self.finishing -= len(job.finishes)
        self.checking -= len(job.checks)
        for (task, end), kept in zip(job.finishes, done.finished, strict=True):
            self._on_finished(task, end, kept)
        for task, answer in zip(job.checks, done.checked, strict=False):
            self._on_checked(task, answer, done.versions)
        self._after()

    @contextlib.contextmanager
    def both() -> Iterator[None]:
        with mock.patch.object(Custody, "_insist", once), mock.patch.object(Custody, "_settle", settle):
            yield

    return both()


def events_of_a_revoked_partition_still_start() -> Plant:
    return mock.patch.object(flow.Task, "abandoned", False)


PLANTS: tuple[Callable[[], Plant], ...] = (
    followers_overtake_a_waiting_head, holds_are_forgotten_over_a_restart, holds_are_never_released,
    the_end_is_recorded_before_its_letter_is_acknowledged, a_refused_letter_is_given_up, ends_are_recorded_without_a_fencing_token,
    live_owners_are_robbed, a_partition_is_given_up_while_its_handlers_run, handlers_start_after_the_lease_has_run_out,
    offsets_are_committed_past_what_runs, an_offset_is_finished_before_its_end_is_on_disk, copies_run_beside_each_other,
    a_lane_goes_on_before_the_letter_has_arrived, the_same_version_counts_as_stale, a_retry_record_is_taken_for_a_copy,
    a_failed_batch_is_dropped, events_of_a_revoked_partition_still_start,
)  # fmt: skip
