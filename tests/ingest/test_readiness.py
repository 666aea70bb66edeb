"""Whether an ingestor is ready, by what Kafka answers."""

import asyncio
import time
from pathlib import Path

import pytest

from hooktape.ingest import watch
from hooktape.ingest.routes import Routes
from hooktape.settings import Settings
from hooktape.tape.names import Names
from hooktape.tape.publisher import Publisher
from tests.tape.kit import lose_first
from tests.tape.mock_cluster import mock_cluster


def test_an_ingestor_whose_client_got_no_answer_asks_with_another_and_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FRESH_SECONDS", 0.5)
    monkeypatch.setattr(watch, "_ASK_SECONDS", 0.2)
    made = lose_first(monkeypatch, "admin")

    async def main(settings: Settings) -> None:
        publisher = Publisher(settings)
        looker = watch.Watch(settings, Routes(settings.topic_prefix), publisher)

        async def ready() -> bool:
            return (await looker.readiness(failing=False, stopping=False)).ready

        try:
            assert not await ready()
            deadline = time.monotonic() + 15
            while not await ready():
                assert time.monotonic() < deadline, "its client has lost the broker for good"
                await asyncio.sleep(0.05)
        finally:
            looker.close()
            await publisher.close()

    with mock_cluster() as cluster:
        settings = Settings(kafka=cluster.bootstrap, home=tmp_path)
        cluster.create(Names(settings.topic_prefix).other)
        asyncio.run(main(settings))
    assert len(made) >= 2
