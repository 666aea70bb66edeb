"""An app whose handlers write to a table in `event.transaction()`: run by tests, in this process and in workers that get killed.

One row for each run that was kept, with no constraint against a second one: a double shows.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from dataclasses import replace

from hooktape import App, Event
from hooktape.consumers.options import Options
from hooktape.consumers.serve import Job, run
from hooktape.settings import load

TABLE = """
    CREATE TABLE effects (id BIGINT GENERATED ALWAYS AS IDENTITY, webhook_id TEXT NOT NULL, attempt INTEGER NOT NULL,
                          pid INTEGER NOT NULL)"""
INSERT = "INSERT INTO effects (webhook_id, attempt, pid) VALUES (%s, %s, %s)"


def row(event: Event) -> tuple[str, int, int]:
    return event.webhook_id, event.attempt, os.getpid()


def make_app(pause: float = 0.0, timeout: float = 30.0, runs: Counter[str] | None = None) -> App:
    """Asynchronous for orders, plain for products; `pause` in seconds inside the block. `runs` counts the handlers' starts."""
    runs = Counter() if runs is None else runs
    app = App("g")

    @app.on("orders/*", concurrency=16, timeout=timeout)
    async def write(event: Event) -> None:
        runs[event.webhook_id] += 1
        async with event.transaction() as connection:
            await connection.execute(INSERT, row(event))
            await asyncio.sleep(pause)

    @app.on("products/update", concurrency=4, timeout=timeout)
    def write_plainly(event: Event) -> None:
        runs[event.webhook_id] += 1
        with event.transaction() as connection:
            connection.execute(INSERT, row(event))
            time.sleep(pause)

    return app


app = make_app(float(os.environ.get("PAUSE", "0")))

if __name__ == "__main__":
    job = Job(load(), replace(Options(), lease=1.0), "tests.consumers.effects:app")
    print("started", file=sys.stderr)
    run(job, *job.app())
