"""A job's progress as server-sent events.

Each is the whole state, and its id is the state's own hash: whoever comes back with `Last-Event-ID`, to this process or another,
after a restart or not, gets the state unless it's still the one they have. Nothing needs to be remembered for that.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from hooktape.errors import HooktapeError
from hooktape.ledger.jobs import ENDED
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask, Desk
from hooktape.replayer.api.problems import Refused, kind_of
from hooktape.replayer.api.replays import JobId, find, job_model

# As often as a person's eye follows a bar.
_LOOK = 0.5
# An account counts all items of the job: of a large one it's taken less often, so that it costs a tenth of the time at most.
_SHARE = 10
# Below the shortest time for which proxies keep a silent connection (30 s), and long enough to cost nothing.
HEARTBEAT = 15.0
# Each holds a connection; browsers open six to a server.
STREAMS = 100


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
        """Whether nothing will change by itself: the job has ended, or is a plan that waits for its run."""
        return self.job.state in ENDED or self.job.state == "planned"


def look(ask: Ask, job_id: str) -> Snapshot:
    """The job now. Raises Refused, LedgerUnavailable, and what its planning raised."""
    with ask.ledger() as ledger:
        job = find(ask, ledger, job_id)
        row = ledger.jobs.get(job.id)
        account = ledger.jobs.account(job.id) if row else models.NOTHING
    planning = ask.desk.work.planning(job_id)
    return Snapshot(job=job_model(job), account=models.Account.of(account), step=planning.what if planning else "",
                    done=planning.done if planning else account.planned - account.in_flight - account.not_sent,
                    of=planning.of if planning else account.planned)  # fmt: skip


def framed(snapshot: Snapshot) -> bytes:
    """An event on the wire. JSON holds no line break, so it's one `data:` line."""
    return f"id: {snapshot.id}\nevent: {snapshot.event}\ndata: {snapshot.model_dump_json()}\n\n".encode()


async def watch_replay(
    ask: Ask, job_id: JobId,
    last_event_id: Annotated[str | None, Header(max_length=100, description="The id of the last event that you have got.")] = None,
) -> Response:  # fmt: skip
    desk = ask.desk
    first = await desk.do(lambda: look(ask, job_id))
    if first.ended and first.id == last_event_id:
        return Response(status_code=204)  # what an EventSource takes as: don't come back
    if desk.streams >= STREAMS:
        raise Refused("busy", f"{STREAMS} progress streams are open already.")
    return StreamingResponse(_events(ask, desk, job_id, first, last_event_id), media_type="text/event-stream",
                             headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})  # fmt: skip


async def _events(ask: Ask, desk: Desk, job_id: str, snapshot: Snapshot, have: str | None) -> AsyncIterator[bytes]:
    desk.streams += 1
    try:
        yield b"retry: 2000\n\n"
        said = time.monotonic()
        while True:
            if snapshot.id != have:
                yield framed(snapshot)
                have, said = snapshot.id, time.monotonic()
            if snapshot.ended or desk.stopping:
                return
            began = time.monotonic()
            try:
                snapshot = await desk.do(lambda: look(ask, job_id))
            except (HooktapeError, Refused) as error:
                kind = error.kind if isinstance(error, Refused) else kind_of(error)
                if kind.status < 500:  # the plan came to nothing
                    yield f"event: end\ndata: {models.Ended(type=kind.uri, detail=str(error)).model_dump_json()}\n\n".encode()
                    return
                # The ledger is away: the client waits here as well as anywhere.
            pause = max(_LOOK, _SHARE * (time.monotonic() - began))
            if time.monotonic() - said > HEARTBEAT - pause:
                yield b": still here\n\n"
                said = time.monotonic()
            await asyncio.sleep(min(pause, HEARTBEAT))
    finally:
        desk.streams -= 1
