"""What all tests share: one Kafka and one PostgreSQL per run, started only when the first test asks for them.

A test that uses `kafka` or `postgres_url` (or marks itself so) gets the marker of that name and runs after all that don't:
a mistake in a pure decision shows in seconds.
"""

import logging
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from hooktape.settings import Settings

# Brokers and Kafka's tools live for minutes here: compiling for a long life costs the tests' processors more than it gives back.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("hooktape", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("hooktape")


def pytest_configure(config: pytest.Config) -> None:
    # Files are handed out in the order made below; by itself xdist puts those with most tests first, and these aren't the slowest.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        for fixture, marker in (("kafka", "kafka"), ("postgres_url", "postgres")):
            if fixture in fixtures:
                item.add_marker(marker)
    items.sort(key=lambda item: sum(item.get_closest_marker(name) is not None for name in ("kafka", "postgres")))
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        # Where files run side by side, what takes minutes begins at once, or all would wait for it at the end.
        items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def logging_of_its_own() -> Iterator[None]:
    """A command that a test runs in this process logs to that test's standard error, which is closed by the time the next one logs."""
    before, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = before
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of the run's Kafka: HOOKTAPE_KAFKA's where that's set, else a broker of its own."""
    if named := os.environ.get("HOOKTAPE_KAFKA"):
        yield named
        return
    from hooktape.local import kafka as local

    broker = local.start(tmp_path_factory.mktemp("kafka"), lifetime="parent", progress=print)
    yield broker.bootstrap
    broker.stop()


@pytest.fixture(scope="session")
def passable_folder() -> Iterator[Path]:
    """A temporary folder that other users can be let into. PostgreSQL needs one where tests run as root, since it runs as a
    user of its own then; above `tmp_path`, every other pytest that starts on the machine shuts its users out again."""
    with tempfile.TemporaryDirectory(prefix="hooktape-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_url(passable_folder: Path) -> Iterator[str]:
    """The address of the run's PostgreSQL, as psycopg takes it. Tests share its database: make a schema of your own."""
    from hooktape.local import postgres

    server = postgres.start(passable_folder / "run", lifetime="parent")
    yield server.url
    server.stop()


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def settings(kafka: str, prefix: str, tmp_path: Path) -> Settings:
    """Settings of a service on the run's Kafka, with topics and a home of its own."""
    return Settings(kafka=kafka, topic_prefix=prefix, partitions=2, home=tmp_path)
