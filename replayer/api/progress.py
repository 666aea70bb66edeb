"""A job's progress as server-sent events.

Each is the whole state, and its id is the state's own hash: whoever comes back with `Last-Event-ID`, to this process or another,
after a restart or not, gets the state unless it's still the one they have. Nothing needs to be remembered for that.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Response
from pydantic import BaseModel, Field

from hooktape.errors import HooktapeError
from hooktape.ledger.jobs import ENDED, JobState
from hooktape.replayer.api import models, streams
from hooktape.replayer.api.desk import Ask, Asked, Desk
from hooktape.replayer.api.problems import Refused
from hooktape.replayer.api.replays import JobId, find
from hooktape.replayer.control import ABANDONED

# As often as a person's eye follows a bar.
_LOOK = 0.5
# An account counts all items of the job: of a large one it's taken less often, so that it costs a tenth of the time at most.
_SHARE = 10
# Below the shortest time for which proxies keep a silent connection (30 s), and long enough to cost nothing.
HEARTBEAT = 15.0

class Snapshot(BaseModel):
    """A job's state, as a progress event carries it."""

    job: models.Job
    account: models.Account
    step: str = Field(description="While it's planned: what is being done.")
    done: int
    of: int | None

    @property
    def id(self) -> str:
        """Equal for equal states, on every machine."""
        return hashlib.blake2b(self.model_dump_json().encode(), digest_size=8).hexdigest()

    @property
    def event(self) -> str:
        return "end" if self.ended else "progress"

    @property
    def ended(self) -> bool:
        """Whether nothing will change by itself: the job has ended, or is a plan that waits for its run, or whose planner has died."""
        return self.job.state in (*ENDED, JobState.PLANNED, ABANDONED)


def look(ask: Asked, job_id: str) -> Snapshot:
    """The job now. Raises Refused, LedgerUnavailable."""
    planning = ask.desk.work.planning(job_id)
    with ask.ledger() as ledger:
        job = find(ledger, job_id)
        account = ledger.jobs.account(job.id)
    return Snapshot(job=models.Job.of(job, ask.now), account=models.Account.of(account), step=planning.what if planning else "",
                    done=planning.done if planning else account.ended, of=planning.of if planning else account.planned)  # fmt: skip


async def watch_replay(
    ask: Ask, job_id: JobId,
    last_event_id: Annotated[str | None, Header(max_length=100, description="The id of the last event that you have got.")] = None,
) -> Response:  # fmt: skip
    desk = ask.desk
    first = await desk.do(lambda: look(ask, job_id))
    if first.ended and first.id == last_event_id:
        return Response(status_code=204)  # what an EventSource takes as: don't come back
    desk.begin_stream()
    return streams.events(_events(ask, desk, job_id, first, last_event_id))


async def _events(ask: Asked, desk: Desk, job_id: str, snapshot: Snapshot, have: str | None) -> AsyncIterator[bytes]:
    try:
        yield b"retry: 2000\n\n"
        said = time.monotonic()
        while True:
            if snapshot.id != have:
                yield streams.frame(snapshot.event, snapshot.model_dump_json(), snapshot.id)
                have, said = snapshot.id, time.monotonic()
            if snapshot.ended or desk.stopping:
                return
            began = time.monotonic()
            with contextlib.suppress(HooktapeError, Refused):  # the ledger is away: the client waits here as well as anywhere
                snapshot = await desk.do(lambda: look(ask, job_id))
            pause = max(_LOOK, _SHARE * (time.monotonic() - began))
            if time.monotonic() - said > HEARTBEAT - pause:
                yield b": still here\n\n"
                said = time.monotonic()
            await asyncio.sleep(min(pause, HEARTBEAT))
    finally:
        desk.streams -= 1
