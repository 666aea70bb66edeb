"""Whether a job recovered what it handed over. The Admin API is asked, which takes its time: progress comes as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Self

from fastapi import Response
from pydantic import BaseModel, Field

from hooktape import log
from hooktape.errors import HooktapeError
from hooktape.ledger.jobs import Job
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import proof
from hooktape.replayer.api import streams
from hooktape.replayer.api.desk import Ask, Asked, Desk, Shops
from hooktape.replayer.api.problems import KINDS, Refused, kind_of
from hooktape.replayer.api.replays import JobId, find
from hooktape.replayer.catalogue import Cataloguer
from hooktape.times import from_micros

_log = log.get("hooktape.api")
# As often as a person's eye follows a number, and below the time for which proxies keep a silent connection.
_LOOK = 1.0


class Finding(BaseModel):
    """A resource that doesn't agree with Shopify. `handled` and `present` are its versions."""

    shop: str
    resource: str | None
    verdict: str
    handled: datetime | None
    present: datetime | None
    why: str


class Proof(BaseModel):
    """Whether a job recovered what it handed over: its resources as the group has handled them last, against Shopify's."""

    recovered: bool = Field(description="Whether everything that could be asked about agrees, and something could.")
    counts: dict[str, int] = Field(description="agrees, differs, gone, not_checkable.")
    reasons: dict[str, int] = Field(description="Why some couldn't be checked.")
    findings: list[Finding] = Field(description="The first thousand that don't agree.")

    @classmethod
    def of(cls, p: proof.Proof) -> Self:
        return cls(recovered=p.recovered, counts={str(v): p.counts[v] for v in proof.Verdict}, reasons=dict(p.reasons), findings=[
            Finding(shop=f.shop, resource=f.resource or None, verdict=str(f.verdict), handled=_time(f.handled), present=_time(f.present),
                    why=f.why) for f in p.findings])  # fmt: skip


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


async def verify_replay(ask: Ask, job_id: JobId) -> Response:
    desk = ask.desk
    if desk.shops is None:
        raise Refused("not-allowed", "The Admin API is asked for the present state, and there's no token of a shop: set "
                      "HOOKTAPE_SHOP_TOKENS, or where else tokens come from.")  # fmt: skip
    job = await desk.do(lambda: _current(ask, job_id))
    desk.begin_stream()
    return streams.events(_events(desk, desk.shops, job))


def _current(ask: Asked, job_id: str) -> Job:
    with ask.ledger() as ledger:
        job = find(ledger, job_id)
        # What came since the job may be what Shopify shows now.
        with Cataloguer(ask.settings, ledger) as cataloguer:
            cataloguer.catch_up()
    return job


async def _events(desk: Desk, shops: Shops, job: Job) -> AsyncIterator[bytes]:
    compared = 0

    def progress(done: int) -> None:
        nonlocal compared
        compared = done

    async def work() -> proof.Proof:
        ledger = await asyncio.to_thread(Ledger.open, desk.settings.ledger_url)
        try:
            async with shops() as present:
                return await proof.prove(ledger, job, present, progress=progress)
        finally:
            ledger.close()

    task = asyncio.create_task(work())
    try:
        while not task.done() and not desk.stopping:
            yield streams.frame("progress", json.dumps({"compared": compared}))
            await asyncio.wait({task}, timeout=_LOOK)
        if task.done():
            yield _end(task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        desk.streams -= 1


def _end(task: "asyncio.Task[proof.Proof]") -> bytes:
    try:
        return streams.frame("end", Proof.of(task.result()).model_dump_json())
    except HooktapeError as error:
        kind, detail = kind_of(error), str(error)
    except Exception as error:  # noqa: BLE001 - the answer has begun: it's told within it
        _log.error("a proof broke off", exc=error)
        kind, detail = KINDS["internal"], "Something in Hooktape is broken: its log says what."
    return streams.frame("problem", json.dumps({"type": kind.uri, "title": kind.title, "status": kind.status, "detail": detail}))
