"""Replays: plans, runs and their accounts. A redrive of dead letters and a replay are the same from here on."""

from typing import Annotated

from fastapi import Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from hooktape.ledger.jobs import Job, JobState
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import control
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask
from hooktape.replayer.api.events import GroupQuery
from hooktape.replayer.api.paging import Cursor, Limit, cursor, paged, place
from hooktape.replayer.api.problems import Refused
from hooktape.replayer.api.selecting import SelectionBody, selection_of
from hooktape.replayer.api.work import Begun, Make
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.plan import PLANNING, Plan, Progress, plan_replay

# A plan of an hour takes less; what takes longer is answered with its job, and watched.
_SOON = 5.0

JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{20}$", description="The job's whole id.", examples=["019a8b2c4d5e0f1a2b3c"])]
Forced = Annotated[bool, Field(description="Also what has succeeded already, or is superseded, runs again.")]
Rate = Annotated[float | None, Field(gt=0, le=1_000_000, allow_inf_nan=False, description="At most so many events a second.")]


class NewReplay(models.Strict):
    """What to plan."""

    group: models.Group
    selection: SelectionBody  # type: ignore[valid-type]
    forced: Forced = False
    rate: Rate = None


class Run(models.Strict):
    """A plan's run: why, and the number of events that a person has seen it will hand over."""

    reason: models.Reason
    confirm: models.Confirm = None


def state_of(job: Job) -> str:
    """A job's state in the words of the API: a plan that isn't whole is `planning`."""
    return PLANNING if job.state is JobState.PLANNED and job.note == PLANNING else str(job.state)


def job_model(job: Job) -> models.Job:
    return models.Job.of(job, state_of(job))


def plan_new(ask: Ask, response: Response, body: NewReplay) -> models.Plan | JSONResponse:
    selection, settings = selection_of(body.selection), ask.settings

    def make(ledger: Ledger, begun: Begun, progress: Progress) -> Plan:
        with Cataloguer(settings, ledger) as cataloguer:
            return plan_replay(cataloguer, ledger, body.group, selection, who=ask.by.name, now=ask.now, forced=body.forced, rate=body.rate,
                               progress=progress, begun=begun)  # fmt: skip

    return planned(ask, response, make)


def planned(ask: Ask, response: Response, make: Make) -> models.Plan | JSONResponse:
    """The plan (201), or its job where it takes longer (202). Raises what planning raised."""
    planning = ask.desk.work.plan(make, _SOON)
    if planning.error is not None:
        raise planning.error
    job = planning.plan.job if planning.plan else planning.job
    assert job is not None
    response.headers["Location"] = f"/api/v1/replays/{job.id}"
    if planning.plan is None:
        return JSONResponse(job_model(job).model_dump(mode="json"), 202, {"Location": response.headers["Location"]})
    return models.Plan.of(planning.plan, state_of(job))


def list_replays(ask: Ask, request: Request, response: Response, group: GroupQuery = None,
                 state: Annotated[list[JobState], Query(description="Only in these states.")] = [],  # noqa: B006 - FastAPI copies it
                 limit: Limit = 50, cursor_: Cursor = None) -> models.Jobs:  # fmt: skip
    before = place(cursor_, tuple[float, str])
    with ask.ledger() as ledger:
        found = ledger.jobs.list(limit + 1, group=group, states=state, before=before)
    rows, following = paged(request, response, found, limit, lambda j: cursor(j.created_at, j.id))
    return models.Jobs(items=[job_model(j) for j in rows], next=following)


def find(ask: Ask, ledger: Ledger, job_id: str) -> Job:
    """The job, also while its plan is made and has no row yet. Raises Refused, and what its planning raised."""
    if job := ledger.jobs.get(job_id):
        return job
    if (planning := ask.desk.work.planning(job_id)) and planning.job:
        if planning.error is not None:
            raise planning.error
        return planning.job
    raise Refused("not-found", f"There is no job {job_id}.")


def show_replay(ask: Ask, job_id: JobId) -> models.JobWithAccount:
    with ask.ledger() as ledger:
        job = find(ask, ledger, job_id)
        account = ledger.jobs.account(job.id) if ledger.jobs.get(job.id) else models.NOTHING
    return models.JobWithAccount(job=job_model(job), account=models.Account.of(account))


def list_items(ask: Ask, request: Request, response: Response, job_id: JobId,
               decision: Annotated[models.Text | None, Query(description="Only with this decision, as in `run` or `done`.")] = None,
               outcome: Annotated[models.Text | None, Query(description="As in `failed_again`; `none`: those without one.")] = None,
               limit: Limit = 100, cursor_: Cursor = None) -> models.Items:  # fmt: skip
    after = place(cursor_, tuple[int])
    with ask.ledger() as ledger:
        job = find(ask, ledger, job_id)
        found = ledger.jobs.items(job.id, outcome="" if outcome == "none" else outcome, decision=decision,
                                  after_seq=after[0] if after else 0, limit=limit + 1)  # fmt: skip
    rows, following = paged(request, response, found, limit, lambda i: cursor(i.seq))
    return models.Items(items=[models.Item.of(i) for i in rows], next=following)


def run_plan(ask: Ask, job_id: JobId, body: Run) -> models.Job:
    with ask.ledger() as ledger:
        job = find(ask, ledger, job_id)
        if job.state is JobState.PLANNED and job.note != PLANNING:
            number = ledger.jobs.account(job.id).not_sent
            confirmed(body.confirm, number, f"This hands {number:,} events to group {job.group} again")
        started = control.start(ledger, job, who=ask.by.name, reason=body.reason, now=ask.now)
    ask.desk.work.take(started.id)
    return job_model(started)


def confirmed(given: int | None, needed: int, what: str) -> None:
    """Raises Refused that says which number is needed, unless it's the one given."""
    if given != needed:
        raise Refused("confirmation", f"{what}: send confirm={needed} if that's what you want.", needed=needed)


def pause_run(ask: Ask, job_id: JobId) -> models.Job:
    with ask.ledger() as ledger:
        job = find(ask, ledger, job_id)
        control.pause(ledger, job, who=ask.by.name, now=ask.now)
        return job_model(control.find_job(ledger, job.id))


def resume_run(ask: Ask, job_id: JobId) -> models.Job:
    with ask.ledger() as ledger:
        job = control.resume(ledger, find(ask, ledger, job_id), who=ask.by.name, now=ask.now)
    ask.desk.work.take(job.id)
    return job_model(job)


def cancel_run(ask: Ask, job_id: JobId) -> models.Job:
    with ask.ledger() as ledger:
        job = find(ask, ledger, job_id)
        control.cancel(ledger, job, who=ask.by.name, now=ask.now)
        return job_model(control.find_job(ledger, job.id))
