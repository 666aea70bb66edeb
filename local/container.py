"""The local Kafka as a container (`HOOKTAPE_LOCAL_KAFKA=container`), for those who have a Docker engine and prefer it.

Apache's own image, of the version and with the settings that the broker from pip has. testcontainers' `KafkaContainer` is
made for another vendor's image, of an older Kafka without the consumer protocol of KIP-848 that Hooktape's workers speak.
Nothing is left when this process is killed: testcontainers' reaper removes the container.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hooktape.errors import LocalStackError
from hooktape.local import jars
from hooktape.local.kafka import READY_SECONDS, Ports, free_ports, properties, wait_for
from hooktape.local.supervise import TAIL_LINES

IMAGE = f"apache/kafka:{jars.kafka_version()}"
CONTROLLER_PORT = 9093  # inside the container: clashes with nothing


@contextmanager
def broker(progress: Callable[[str], None]) -> Iterator[str]:
    """Bootstrap servers of a Kafka in a container, which ends with the block. Raises LocalStackError: no Docker engine, or no
    broker that gets ready, with the last lines of its log."""
    try:
        from docker.errors import DockerException
        from testcontainers.core.container import DockerContainer
    except ImportError as error:
        raise LocalStackError(
            f"HOOKTAPE_LOCAL_KAFKA=container needs the package {error.name}: `pip install 'hooktape[local]'` brings it."
        ) from None
    # The host's port is chosen before the start, since the broker must advertise it.
    port = free_ports().broker
    bootstrap = f"127.0.0.1:{port}"
    try:
        progress(f"Starting {IMAGE}")
        container = DockerContainer(IMAGE).with_bind_ports(port, port)
        for name, value in environment(port).items():
            container = container.with_env(name, value)
        container.start()
    except DockerException as error:
        raise LocalStackError(
            f"No Docker engine answers, and HOOKTAPE_LOCAL_KAFKA=container needs one: {error}. Start Docker, or set DOCKER_HOST, "
            "or unset HOOKTAPE_LOCAL_KAFKA to take the Kafka that comes with pip, or name a broker in HOOKTAPE_KAFKA."
        ) from None
    try:
        if not wait_for(bootstrap, READY_SECONDS):
            lines = b"".join(container.get_logs()).decode(errors="replace").splitlines()[-TAIL_LINES:]
            late = f"Kafka in the container {IMAGE} didn't answer within {READY_SECONDS:.0f} s"
            raise LocalStackError(f"{late}. Its log ends with:\n" + "\n".join(lines))
        yield bootstrap
    finally:
        container.stop()


def environment(port: int) -> dict[str, str]:
    """The broker's settings as its image takes them: upper case, dots as underscores."""
    values = properties(Ports(port, CONTROLLER_PORT), Path("/var/lib/kafka/data"))
    # The image formats with a fixed list of voters, not for a quorum that can grow.
    del values["controller.quorum.bootstrap.servers"]
    values |= {
        "controller.quorum.voters": f"1@127.0.0.1:{CONTROLLER_PORT}",
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:{CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
    }
    return {"KAFKA_" + key.upper().replace(".", "_"): value for key, value in values.items()}
