"""Replays: plans, runs and their accounts. A redrive, a backfill and a replay are the same from here on."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from hooktape.errors import UsageError
from hooktape.ledger.items import START
from hooktape.ledger.jobs import Job, JobState, Kind
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import backfill, control, planning
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask
from hooktape.replayer.api.events import GroupQuery
from hooktape.replayer.api.paging import Cursor, Limit, Whole, cursor, paged, place
from hooktape.replayer.api.problems import Refused
from hooktape.replayer.api.selecting import SelectionBody, selection_of
from hooktape.replayer.api.streams import json_lines
from hooktape.replayer.api.work import Make
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.control import Ask as How
from hooktape.replayer.planning import Begun, Plan, Progress
from hooktape.tape.reader import Reader

# A plan of an hour takes less; what takes longer is answered with its job, and watched.
_SOON = 5.0

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{20}$", description="The job's whole id.", examples=["019a8b2c4d5e0f1a2b3c"])]
First = Annotated[int | None, Field(ge=1, le=1_000_000_000, description="A trial: hand over so many, wait for their outcomes, and pause.")]
Outcome = Annotated[models.Text | None, Query(description="As in `failed_again`; `none`: those without one.")]


class ToPlan(models.Bounded):
    """What to plan."""

    selection: SelectionBody  # type: ignore[valid-type]
    forced: Annotated[bool, Field(description="Also what has succeeded already, or is superseded, runs again.")] = False
    again: Annotated[bool, Field(description="Also what died after three redrives.")] = False


class NewReplay(ToPlan):
    """What to plan, and for whom."""

    group: models.Group
    kind: Annotated[Literal["replay", "backfill"], Field(description="backfill: a new group's past, from `since` on; the group's topics "
                                                         "are made where they aren't there.")] = "replay"  # fmt: skip


class Run(models.Strict):
    """A plan's run: why, and the number of events that a person has seen it will hand over."""

    reason: models.Reason
    first: First = None
    confirm: models.Confirm = None


class Resume(models.Why):
    """How a paused run goes on."""

    first: First = None


def plan_new(ask: Ask, response: Response, body: NewReplay) -> models.Plan | JSONResponse:
    selection, settings, who, now = selection_of(body.selection), ask.settings, ask.by.name, ask.now
    kind = Kind(body.kind)
    if kind is Kind.BACKFILL and selection.since is None:
        raise UsageError("A backfill says where it begins: `since`, as in 30d; 1970-01-01 is the whole tape.")

    def make(ledger: Ledger, begun: Begun, progress: Progress) -> Plan:
        if kind is Kind.BACKFILL:
            backfill.provide(settings, body.group)
        with Cataloguer(settings, ledger) as cataloguer:
            return planning.plan(cataloguer, ledger, body.group, selection, kind=kind, who=who, now=now, forced=body.forced,
                                 again=body.again, limits=body.limits, progress=progress, begun=begun)  # fmt: skip

    return planned(ask, response, make)


def planned(ask: Ask, response: Response, make: Make) -> models.Plan | JSONResponse:
    """The plan (201), or its job where it takes longer (202). Raises what planning raised."""
    begun = ask.desk.work.plan(make, _SOON)
    if begun.error is not None:
        raise begun.error
    job = begun.plan.job if begun.plan else begun.job
    assert job is not None
    response.headers["Location"] = f"/api/v1/replays/{job.id}"
    if begun.plan is None:
        return JSONResponse(models.Job.of(job, ask.now).model_dump(mode="json"), 202, {"Location": response.headers["Location"]})
    with ask.ledger() as ledger:
        return _plan(ask, ledger, begun.plan)


def show_plan(ask: Ask, job_id: JobId) -> models.Plan:
    with ask.ledger() as ledger:
        return _plan(ask, ledger, planning.planned(ledger, find(ledger, job_id)))


def _plan(ask: Ask, ledger: Ledger, plan: Plan) -> models.Plan:
    job = plan.job
    begins = backfill.reach(ledger, job.selection) if job.kind is Kind.BACKFILL else None
    return models.Plan.of(plan, ledger, to_confirm(ledger, job), begins, ask.now)


def list_replays(ask: Ask, request: Request, response: Response, group: GroupQuery = None,
                 state: Annotated[list[JobState], Query(description="Only in these states.")] = [],  # noqa: B006 - FastAPI copies it
                 limit: Limit = 50, cursor_: Cursor = None) -> models.Jobs:  # fmt: skip
    before = place(cursor_, tuple[float, str])
    with ask.ledger() as ledger:
        found = ledger.jobs.list(limit + 1, group=group, states=state, before=before)
    rows, following = paged(request, response, found, limit, lambda j: cursor(j.created_at, j.id))
    return models.Jobs(items=[models.Job.of(j, ask.now) for j in rows], next=following)


def find(ledger: Ledger, job_id: str) -> Job:
    """The job. Raises Refused."""
    if job := ledger.jobs.get(job_id):
        return job
    raise Refused("not-found", f"There is no job {job_id}.")


def show_replay(ask: Ask, job_id: JobId) -> models.JobWithAccount:
    with ask.ledger() as ledger:
        job = find(ledger, job_id)
        return models.JobWithAccount(
            job=models.Job.of(job, ask.now), account=models.Account.of(ledger.jobs.account(job.id)), confirmation=to_confirm(ledger, job),
            deeds=[models.Deed.of(d) for d in control.deeds(ledger, job)])  # fmt: skip


def list_items(ask: Ask, request: Request, response: Response, job_id: JobId,
               decision: Annotated[models.Text | None, Query(description="Only with this decision, as in `run` or `done`.")] = None,
               outcome: Outcome = None, limit: Limit = 100, cursor_: Cursor = None) -> models.Items:  # fmt: skip
    after = place(cursor_, tuple[Whole])
    with ask.ledger() as ledger:
        found = ledger.jobs.items(find(ledger, job_id).id, outcome=_outcome(outcome), decision=decision,
                                  after_seq=after[0] if after else START, limit=limit + 1)  # fmt: skip
    rows, following = paged(request, response, found, limit, lambda i: cursor(i.seq))
    return models.Items(items=[models.Item.of(i) for i in rows], next=following)


def _outcome(word: str | None) -> str | None:
    return "" if word == "none" else word


def export_items(ask: Ask, job_id: JobId, outcome: Outcome = None) -> StreamingResponse:
    with ask.ledger() as ledger:
        job = find(ledger, job_id)

    def rows() -> Iterator[dict[str, Any]]:
        # Its own connection: whoever reads slowly mustn't keep one of those that requests share.
        with Ledger.open(ask.settings.ledger_url) as ledger:
            yield from planning.exported(ledger, job, outcome=_outcome(outcome))

    return json_lines(rows())


def show_drift(ask: Ask, job_id: JobId) -> models.Drift:
    with ask.ledger() as ledger, Reader(ask.settings) as reader:
        found = planning.drift(ledger, reader, find(ledger, job_id), now=ask.now)
    return models.Drift(stale=found.age > planning.STALE, age=found.age, looked_at=found.looked_at,
                        changes={now: number for (_, now), number in found.changes.items()})  # fmt: skip


def to_confirm(ledger: Ledger, job: Job, first: int | None = None) -> models.Confirmation | None:
    """What `run` needs for this job, None where it has nothing to run."""
    if job.state not in (JobState.PLANNED, JobState.PAUSED) or job.note == planning.PLANNING:
        return None
    left = ledger.jobs.account(job.id).not_sent
    number = min(left, first) if first else left
    return models.Confirmation(how=control.confirmation(job.selection, number, forced=job.forced).value, number=number)


def run_plan(ask: Ask, job_id: JobId, body: Run) -> models.Job:
    with ask.ledger() as ledger:
        job = find(ledger, job_id)
        if needed := to_confirm(ledger, job, body.first):
            confirmed(body.confirm, needed.number, f"This hands {needed.number:,} events to group {job.group} again", How(needed.how))
        job = control.start(ledger, job.id, who=ask.by.name, reason=body.reason, now=ask.now, first=body.first)
    ask.desk.work.take(job)
    return models.Job.of(job, ask.now)


def confirmed(given: int | None, needed: int, what: str, how: How = How.COUNT) -> None:
    """Raises Refused that says which number is needed, unless it's the one given, or none is needed."""
    if given != needed and not (given is None and how is How.YES):
        raise Refused("confirmation", f"{what}: send confirm={needed} if that's what you want.", needed=needed)


def pause_run(ask: Ask, job_id: JobId, body: models.Why | None = None) -> models.Job:
    with ask.ledger() as ledger:
        job = control.pause(ledger, find(ledger, job_id).id, who=ask.by.name, now=ask.now, reason=body.reason if body else "")
    return models.Job.of(job, ask.now)


def resume_run(ask: Ask, job_id: JobId, body: Resume | None = None) -> models.Job:
    said = body or Resume()
    with ask.ledger() as ledger:
        job = control.resume(ledger, find(ledger, job_id).id, who=ask.by.name, now=ask.now, reason=said.reason, first=said.first)
    ask.desk.work.take(job)
    return models.Job.of(job, ask.now)


def cancel_run(ask: Ask, job_id: JobId, body: models.Why | None = None) -> models.Job:
    with ask.ledger() as ledger:
        job = control.cancel(ledger, find(ledger, job_id).id, who=ask.by.name, now=ask.now, reason=body.reason if body else "")
    return models.Job.of(job, ask.now)
