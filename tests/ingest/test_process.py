"""`hooktape ingest` as a process: killed, stopped, and several of it on one port. Nothing that was acknowledged is lost."""

import os
import signal
import threading
import uuid
from pathlib import Path

import httpx

from hooktape.settings import Settings

from .conftest import Ingest, as_process, eventually, headers

BODY = b'{"id":1}'


class Posting:
    """Posts from several threads until stopped; remembers which webhook ids got a 200, and every other status."""

    def __init__(self, ingest: Ingest, threads: int = 8) -> None:
        self.accepted: list[str] = []
        self.other: set[int] = set()
        self._url = ingest.url
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._post) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _post(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client:
            while not self._ended.is_set():
                webhook_id = str(uuid.uuid4())
                try:
                    status = client.post("/webhooks", content=BODY, headers=headers(BODY, webhook_id=webhook_id)).status_code
                except httpx.HTTPError:
                    self._ended.wait(0.01)  # the process has ended, or the worker that held this connection
                    continue
                if status == 200:
                    self.accepted.append(webhook_id)
                else:
                    self.other.add(status)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def test_what_was_acknowledged_before_kill_9_is_on_the_tape(provisioned: Settings) -> None:
    with as_process(provisioned) as (process, ingest):
        posting = Posting(ingest)
        eventually(lambda: len(posting.accepted) > 200, "200 webhooks are accepted")
        process.kill()
        process.wait()
        posting.end()
    assert set(posting.accepted) <= set(ingest.tape.events())


def test_sigterm_answers_what_is_in_flight_and_exits_0(provisioned: Settings) -> None:
    with as_process(provisioned) as (process, ingest):
        posting = Posting(ingest)
        eventually(lambda: len(posting.accepted) > 50, "webhooks are accepted")
        process.terminate()
        assert process.wait(timeout=15) == 0
        posting.end()
    assert posting.other <= {503}
    assert set(posting.accepted) <= set(ingest.tape.events())


def test_a_missing_topic_is_named_and_ends_the_process_with_2(provisioned: Settings) -> None:
    with as_process(provisioned, HOOKTAPE_TOPICS="refunds/create") as (process, _):
        assert process.wait(timeout=15) == 2


def test_several_workers_share_the_port_and_the_metrics_and_outlive_each_other(provisioned: Settings) -> None:
    with as_process(provisioned, "--workers", "2") as (process, ingest):
        eventually(lambda: len(children(process.pid)) == 2, "two workers run")
        posting = Posting(ingest)
        eventually(lambda: len(posting.accepted) > 100, "webhooks are accepted")
        victim = children(process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        known = len(posting.accepted)
        eventually(lambda: len(posting.accepted) > known + 100, "the other worker goes on")
        eventually(lambda: len(children(process.pid)) == 2 and victim not in children(process.pid), "the worker is replaced")
        posting.end()
        # A worker's own count would be lower; the dead one may have counted an answer that it couldn't send any more.
        counted = ingest.metric('hooktape_requests_total{outcome="accepted"}')
        assert len(posting.accepted) <= counted <= len(posting.accepted) + 8
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert posting.other <= {503}
    assert set(posting.accepted) <= set(ingest.tape.events())


def children(pid: int) -> list[int]:
    """The worker processes of a supervisor; multiprocessing's own resource tracker isn't one."""
    found = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]
    return [child for child in found if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]
